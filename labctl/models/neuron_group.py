"""Neurons that act on each other: a spike output drives another neuron's input, a membrane is another's threshold.

All members are moved from event to event together, so that no reaction comes late. The crossing of a moving threshold
is bracketed rigorously: between two events each membrane is monotonic and its slope falls with its voltage, which
bounds both voltages and both slopes on any interval from their values at its ends.
"""

from math import inf

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.neuron_flow import C_LAT, C_THR, flow, slope, workspace
from labctl.models.neuron_kernel import (
    HOLD,
    LATE,
    RUN,
    S_I,
    S_LEFT,
    S_PHASE,
    S_V,
    drive,
    fire,
    release,
    set_current,
    tick,
)
from labctl.models.neuron_params import FloatArray


@njit(cache=True)
def crossing(
    v: float,
    a: float,
    c: FloatArray,
    level: float,
    level_a: float,
    level_c: FloatArray,
    held: bool,
    offset: float,
    span: float,
    ws: FloatArray,
) -> float:
    """First time within `span` at which membrane `v` is at the membrane `level` + offset; inf if there is none.

    `held`: the level is held at its value. Intervals in which the two cannot meet are passed over; those in which the
    distance closes monotonically are searched by regula falsi (Illinois) in a bracket; others are halved.
    """
    if v >= level + offset:
        return 0.0
    at, step = 0.0, span
    v0, l0 = v, level
    while at < span:
        to = min(at + step, span)
        v1 = flow(v, a, to, inf, c, ws)[0]
        l1 = level if held else flow(level, level_a, to, inf, level_c, ws)[0]
        if max(v0, v1) < min(l0, l1) + offset:
            at, v0, l0, step = to, v1, l1, 2.0 * step
            continue
        rising = slope(max(v0, v1), a, c)
        closing = rising - (0.0 if held else slope(min(l0, l1), level_a, level_c))
        if closing <= 0.0 and step > 1e-12 * span:
            step *= 0.5
            continue
        low, high = at, to
        f0, f1 = v0 - l0 - offset, v1 - l1 - offset
        if f1 < 0.0:
            at, v0, l0, step = to, v1, l1, 2.0 * step
            continue
        side = 0
        for _ in range(200):
            if f1 < 4e-16 or high - low <= 1e-15 * span:
                break
            middle = (low * f1 - high * f0) / (f1 - f0)
            if not low < middle < high:
                middle = 0.5 * (low + high)
            f = flow(v, a, middle, inf, c, ws)[0] - offset
            f -= level if held else flow(level, level_a, middle, inf, level_c, ws)[0]
            if f >= 0.0:
                high, f1 = middle, f
                f0 = 0.5 * f0 if side == 1 else f0
                side = 1
            else:
                low, f0 = middle, f
                f1 = 0.5 * f1 if side == -1 else f1
                side = -1
        return high
    return inf


@njit(cache=True)
def inputs(
    s: FloatArray,
    c: FloatArray,
    seed: np.uint64,
    members: NDArray[np.int64],
    external: FloatArray,
    out_to: NDArray[np.int64],
    i_high: FloatArray,
    fresh: NDArray[np.bool_],
    wanted: FloatArray,
) -> None:
    """Bring every member's current up to date: its own, or what the outputs joined to its pad drive if that is more."""
    for k in members:
        wanted[k] = external[k]
    for j in members:
        k = out_to[j]
        if k >= 0 and s[j, S_PHASE] == HOLD:
            wanted[k] = max(wanted[k], i_high[k])
    for k in members:
        if wanted[k] != s[k, S_I]:
            fresh[k] = True
            set_current(s[k], c[k], seed, k, wanted[k])


@njit(cache=True, nogil=True)
def run_group(
    s: FloatArray,
    c: FloatArray,
    seed: np.uint64,
    members: NDArray[np.int64],
    t: float,
    end: float,
    times: FloatArray,
    currents: FloatArray,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    shift: NDArray[np.int64],
    external: FloatArray,
    out_to: NDArray[np.int64],
    thr_from: NDArray[np.int64],
    offset: FloatArray,
    i_high: FloatArray,
    stop_at: NDArray[np.bool_],
    watched: NDArray[np.bool_],
    fresh: NDArray[np.bool_],
    spike_t: FloatArray,
    spike_k: NDArray[np.int64],
    record: FloatArray,
) -> tuple[float, int, int, bool]:
    """Advance coupled neurons from `t` to `end`: (time reached, spikes, segments, whether stopped at an edge).

    out_to[k]: whose input the output of k drives besides (−1: none); thr_from[k]: whose membrane plus offset[k] is the
    threshold of k (−1: its own bias). Steps as in `neuron_kernel.run_all`. Stops early where a buffer is full, and
    right after an edge of the output of a neuron in `stop_at`. record: rows (t, V, A, hold, neuron).
    """
    ws = workspace()
    n = n_rec = 0
    hit, wanted = np.zeros(s.shape[0]), np.zeros(s.shape[0])
    at = first.copy()
    if t > 0.0:
        for k in members:
            at[k] += np.searchsorted(times[first[k] : last[k]], t, side="right")
    edge = False
    while True:
        span = inf
        for k in members:
            while at[k] < last[k] and times[at[k]] <= t:
                external[k] = currents[at[k] + shift[k]]
                at[k] += 1
            if at[k] < last[k]:
                span = min(span, times[at[k]])
        inputs(s, c, seed, members, external, out_to, i_high, fresh, wanted)
        full = n + members.size > spike_t.size or n_rec + members.size > record.shape[0]
        if t >= end or edge or full:
            return t, n, n_rec, edge
        limit = min(span, end)
        span = limit - t
        for k in members:
            a, until = drive(s[k])
            span = min(span, until)
            held = s[k, S_PHASE] == HOLD
            if s[k, S_PHASE] != RUN:
                span = min(span, s[k, S_LEFT])
            if watched[k] and fresh[k]:
                row = record[n_rec]
                row[0], row[1], row[2], row[3], row[4] = t, s[k, S_V], 0.0 if held else a, 1.0 if held else 0.0, k
                n_rec += 1
            fresh[k] = False
        for k in members:
            hit[k] = inf
            if s[k, S_PHASE] != RUN or c[k, C_THR] == inf:
                continue
            a, j = drive(s[k])[0], thr_from[k]
            if j < 0:
                _, used, there = flow(s[k, S_V], a, span, c[k, C_THR], c[k], ws)
                hit[k] = used if there else inf
            else:
                held = s[j, S_PHASE] == HOLD
                hit[k] = crossing(s[k, S_V], a, c[k], s[j, S_V], drive(s[j])[0], c[j], held, offset[k], span, ws)
            span = min(span, hit[k])
        for k in members:
            a, until = drive(s[k])
            fresh[k] = until <= span
            over = s[k, S_PHASE] != RUN and s[k, S_LEFT] <= span
            if s[k, S_PHASE] != RUN:
                s[k, S_LEFT] -= span
            if s[k, S_PHASE] != HOLD:
                s[k, S_V] = flow(s[k, S_V], a, span, inf, c[k], ws)[0]
            if hit[k] <= span:
                s[k, S_PHASE] = LATE
                s[k, S_LEFT] = c[k, C_LAT]
            elif over:
                if s[k, S_PHASE] == LATE:
                    fire(s[k], c[k])
                    spike_t[n], spike_k[n] = t + span, k
                    n += 1
                else:
                    release(s[k], c[k], seed, k)
                fresh[k] = True
                edge |= stop_at[k]
            tick(s[k], span)
        t = limit if span >= limit - t else t + span
