"""One neuron from event to event: input steps, dead time, threshold, latency, reset, release. No time step anywhere.

A neuron integrates (RUN) until its membrane is at the threshold, goes on integrating for the latency (LATE), then is
held at 0 V with its output high for the pulse width (HOLD), and is released at the thermal noise of the reset.
"""

from math import inf, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.counter_rng import bits, normal
from labctl.models.neuron_flow import (
    C_DEAD,
    C_JITTER,
    C_LAT,
    C_NOISE,
    C_PW,
    C_REST,
    C_THR,
    flow,
    slew,
    slope,
    workspace,
)
from labctl.models.neuron_params import T_JITTER, FloatArray

(S_V, S_PHASE, S_LEFT, S_I, S_A, S_DEAD, S_SETTLE, S_ERROR, S_SPIKES, S_ONSETS, S_READING, S_SLEWED) = range(12)
STATES = 12
"""Length of a row of state: all that the future of a neuron depends on."""
RUN, LATE, HOLD = 0.0, 1.0, 2.0

_JITTER, _RESET = 0x4C00, 0x4C01  # streams of random numbers, apart from those of the memristors of the same seed
_BYTES = np.uint64(0x00FF00FF00FF00FF)
_LANES = np.uint64(0x0001000100010001)
_EIGHT, _TOP = np.uint64(8), np.uint64(48)
_BYTE_SD = sqrt(8.0 * (256.0**2 - 1.0) / 12.0)


@njit(cache=True)
def reset_noise(seed: np.uint64, cell: int, count: int) -> float:
    """Standardised noise of one reset: the sum of eight uniform bytes (kurtosis −0.15, never beyond 4.9).

    Cheaper than a true normal; the voltage it scales is 11 µV.
    """
    x = bits(seed, cell, count, _RESET)
    x = (x & _BYTES) + ((x >> _EIGHT) & _BYTES)
    return (float((x * _LANES) >> _TOP) - 1020.0) / _BYTE_SD


@njit(cache=True)
def release(s: FloatArray, c: FloatArray, seed: np.uint64, cell: int) -> None:
    """End of the output pulse: the membrane starts at the noise of the reset."""
    s[S_PHASE] = RUN
    s[S_LEFT] = 0.0
    s[S_V] = c[C_NOISE] * reset_noise(seed, cell, int(s[S_SPIKES])) if c[C_NOISE] > 0.0 else 0.0


@njit(cache=True)
def fire(s: FloatArray, c: FloatArray) -> None:
    """The output rises: reset and hold."""
    s[S_PHASE] = HOLD
    s[S_LEFT] = c[C_PW]
    s[S_V] = 0.0
    s[S_SPIKES] += 1.0


@njit(cache=True)
def set_current(s: FloatArray, c: FloatArray, seed: np.uint64, cell: int, i: float) -> None:
    """A new input current (A). An onset from 0 costs the dead time and draws the charge error of this read pulse."""
    if i == s[S_I]:
        return
    if i > 0.0 and s[S_I] == 0.0:
        s[S_DEAD] = c[C_DEAD]
        s[S_SETTLE] = T_JITTER
        s[S_ONSETS] += 1.0
        s[S_ERROR] = c[C_JITTER] * normal(seed, cell, int(s[S_ONSETS]), _JITTER) if c[C_JITTER] > 0.0 else 0.0
    elif i == 0.0:
        s[S_DEAD] = 0.0
        s[S_SETTLE] = 0.0
    s[S_I] = i
    if i > 0.0 and i != s[S_SLEWED]:
        s[S_SLEWED] = i
        s[S_A] = slew(i, c)


@njit(cache=True)
def drive(s: FloatArray) -> tuple[float, float]:
    """(slew in V/s that acts now, how long it stays that if the input current does)."""
    if s[S_I] == 0.0:
        return 0.0, inf
    if s[S_DEAD] > 0.0:
        return 0.0, s[S_DEAD]
    if s[S_SETTLE] > 0.0:
        return s[S_A] * (1.0 + s[S_ERROR]), s[S_SETTLE]
    return s[S_A], inf


@njit(cache=True)
def tick(s: FloatArray, dt: float) -> None:
    """Let the timers of the input run; `dt` reaches past none of them."""
    if s[S_I] > 0.0:
        s[S_READING] += dt
        if s[S_DEAD] > 0.0:
            s[S_DEAD] = s[S_DEAD] - dt if dt < s[S_DEAD] else 0.0
        if s[S_SETTLE] > 0.0:
            s[S_SETTLE] = s[S_SETTLE] - dt if dt < s[S_SETTLE] else 0.0


@njit(cache=True)
def period(a: float, c: FloatArray, known: FloatArray, ws: FloatArray) -> float:
    """Time from 0 V to the threshold under a steady slew; inf if it takes more than 100 s, or is never reached (near
    V_gain the way there is a long series). `known` keeps the last answer."""
    if known[0] != a:
        _, used, hit = flow(0.0, a, 100.0, c[C_THR], c, ws)
        known[0], known[1] = a, used if hit else inf
    return float(known[1])


@njit(cache=True)
def _mark(record: FloatArray, n: int, t: float, v: float, a: float, hold: float) -> int:
    record[n, 0], record[n, 1], record[n, 2], record[n, 3] = t, v, a, hold
    return n + 1


@njit(cache=True)
def _steady(
    s: FloatArray,
    c: FloatArray,
    seed: np.uint64,
    cell: int,
    t: float,
    limit: float,
    spikes: FloatArray,
    n: int,
    record: FloatArray,
    n_rec: int,
    known: FloatArray,
    ws: FloatArray,
) -> tuple[float, int, int]:
    """Whole cycles of a neuron just released, under a steady current, until the last release before `limit`.

    The time to threshold from the noise δ of the reset is T(0) − δ/f(0); the next term of this series is δ²f′/2f², and
    where it could reach 1e-13 s nothing is done here.
    """
    a = drive(s)[0]
    charge = period(a, c, known, ws)
    v = s[S_V]
    f = slope(0.0, a, c)
    big = 5.0 * c[C_NOISE]
    if not (charge < inf and f > 0.0 and c[C_THR] > 10.0 * big and (big == 0.0 or abs(c[C_REST]) > big)):
        return t, n, n_rec
    bend = abs(slope(big, a, c) - slope(-big, a, c))
    if bend * big > 4.0 * f * f * 1e-13:
        return t, n, n_rec
    start, count = t, int(s[S_SPIKES])
    width, noise = c[C_PW], c[C_NOISE]
    cycle, per_volt = charge + c[C_LAT] + width, 1.0 / f
    room = spikes.size - n
    if record.size:
        room = min(room, (record.shape[0] - n_rec - 4) // 2)
    while room > 0:
        end = t + (cycle - v * per_volt)
        if end > limit:
            break
        spike = end - width
        spikes[n] = spike
        n += 1
        count += 1
        room -= 1
        v = noise * reset_noise(seed, cell, count) if noise > 0.0 else 0.0
        t = end
        if record.size:
            n_rec = _mark(record, n_rec, spike, 0.0, 0.0, 1.0)
            n_rec = _mark(record, n_rec, end, v, a, 0.0)
    s[S_V] = v
    s[S_SPIKES] = count
    s[S_READING] += t - start if s[S_I] > 0.0 else 0.0
    return t, n, n_rec


@njit(cache=True)
def run(
    s: FloatArray,
    c: FloatArray,
    seed: np.uint64,
    cell: int,
    t: float,
    end: float,
    times: FloatArray,
    currents: FloatArray,
    spikes: FloatArray,
    record: FloatArray,
    fresh: bool,
    known: FloatArray,
    ws: FloatArray,
) -> tuple[float, int, int, bool]:
    """Advance one neuron from `t` to `end`; (time reached, spikes written, segments written, whether one is due).

    times, currents: its input steps; those at or before `t` are taken as already applied unless `t` is 0. Stops early
    where `spikes` or `record` (empty: not watched) is full; a call from there goes on exactly. `fresh`: start the
    record with a segment of its own.
    """
    at = 0
    if t > 0.0:
        at = int(np.searchsorted(times, t, side="right"))
    n = n_rec = 0
    watched = record.size > 0
    while True:
        if at < times.size and times[at] <= t:
            while at + 1 < times.size and times[at + 1] <= t:  # of steps at one time, the last counts
                at += 1
            fresh |= currents[at] != s[S_I]
            set_current(s, c, seed, cell, currents[at])
            at += 1
        if t >= end or n == spikes.size or (watched and n_rec + 4 > record.shape[0]):
            return t, n, n_rec, fresh
        a, span = drive(s)
        if watched and fresh and s[S_PHASE] != HOLD:
            n_rec = _mark(record, n_rec, t, s[S_V], a, 0.0)
        elif watched and fresh:
            n_rec = _mark(record, n_rec, t, 0.0, 0.0, 1.0)
        fresh = False
        limit = min(end, times[at]) if at < times.size else end
        just_released = s[S_PHASE] == RUN and abs(s[S_V]) <= 5.0 * c[C_NOISE]
        if just_released and span == inf and limit - t > 3.0 * (c[C_LAT] + c[C_PW]):
            t, n, n_rec = _steady(s, c, seed, cell, t, limit, spikes, n, record, n_rec, known, ws)
            if t >= end or n == spikes.size or (watched and n_rec + 4 > record.shape[0]):
                return t, n, n_rec, fresh
        whole = limit - t <= span
        span = min(span, limit - t)
        if not whole:
            fresh = True
        done = False
        if s[S_PHASE] == RUN:
            s[S_V], used, done = flow(s[S_V], a, span, c[C_THR], c, ws)
            if done:
                span = used
                s[S_PHASE] = LATE
                s[S_LEFT] = c[C_LAT]
        else:
            done = s[S_LEFT] <= span
            if done:
                span = s[S_LEFT]
                if s[S_PHASE] == LATE:
                    fire(s, c)
                    spikes[n] = t + span
                    n += 1
                else:
                    release(s, c, seed, cell)
                fresh = True
            else:
                s[S_LEFT] -= span
                if s[S_PHASE] == LATE:
                    s[S_V] = flow(s[S_V], a, span, inf, c, ws)[0]
        tick(s, span)
        t = limit if whole and not done else t + span


@njit(cache=True, nogil=True)
def run_all(
    s: FloatArray,
    c: FloatArray,
    seed: np.uint64,
    which: NDArray[np.int64],
    reached: FloatArray,
    end: float,
    times: FloatArray,
    currents: FloatArray,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    shift: NDArray[np.int64],
    spikes: FloatArray,
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    known: FloatArray,
    begin: int,
    stop: int,
) -> None:
    """Advance the unwatched neurons which[begin:stop]; neuron k has currents[first+shift : last+shift] from
    times[first : last] on.

    The spikes of which[j] go to spikes[offsets[j]:offsets[j+1]]; `counts` and `reached` say how far each came.
    """
    ws = workspace()
    none = np.empty((0, 4))
    for j in range(begin, stop):
        k = which[j]
        reached[k], counts[j], _, _ = run(
            s[k], c[k], seed, k, reached[k], end, times[first[k] : last[k]],
            currents[first[k] + shift[k] : last[k] + shift[k]], spikes[offsets[j] : offsets[j + 1]], none, False,
            known[k], ws,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def expected(c: FloatArray, duration: float, currents: FloatArray, known: FloatArray) -> NDArray[np.int64]:
    """Room for the spikes of each neuron under a steady current."""
    ws = workspace()
    room = np.empty(c.shape[0], np.int64)
    for k in range(c.shape[0]):
        cycle = period(slew(currents[k], c[k]), c[k], known[k], ws) + c[k, C_LAT] + c[k, C_PW]
        room[k] = int(duration / cycle * (1.0 + 1e-4)) + 4 if cycle < inf else 4
    return room
