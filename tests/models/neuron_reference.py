"""The equations of the neuron, stepped through time: slow, plain, and written without a look at the solver.

Fourth-order Runge-Kutta in steps of at most 0.5 mV and 20 µs; each event is found by
halving the step in which it happens. No noise.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.neuron import Biases, LifParams
from labctl.models.neuron_params import broadcast

Array = NDArray[np.float64]
K_OVER_Q = 8.617333262e-5


class Reference(NamedTuple):
    spikes: list[tuple[float, int]]
    v: Array
    samples: Array


def stepped(
    params: LifParams,
    biases: Biases,
    steps: list[tuple[Array, Array]],
    duration: float,
    *,
    temperature: float = 300.0,
    out_to: tuple[int, ...] | None = None,
    thr_from: tuple[int, ...] | None = None,
    i_high: tuple[float, ...] | None = None,
    sample_at: Array | None = None,
    finest: float = 5e-4,
) -> Reference:
    """Neurons from rest; steps: for each its times (s) and currents (A). samples: all membranes at `sample_at`."""
    n = len(steps)
    p, b = broadcast(params, n), broadcast(biases, n)
    u_t = K_OVER_Q * temperature
    s_n = p["s_n"] * temperature / 300
    x = (b["v_pw"] - p["v_tp"]) / (2 * p["n"] * u_t)
    t_pw = p["q_pw"] / np.log1p(np.exp(x)) ** 2
    l_n = p["l_n0"] * np.exp((b["v_taun"] - 1.2) / s_n)
    l_p = p["l_p0"] * np.exp(-(b["v_taup"] - 1.2) / s_n)
    numbers = np.column_stack([
        b["v_rest"], l_n, l_p, b["v_thr"] + p["v_os"], p["t_lat"], t_pw, p["t_d"], b["v_gain"],
        p["w_gain"] * temperature / 300, np.full(n, u_t), p["v_os"],
    ])  # fmt: skip
    edges = sorted({0.0, duration, *(float(t) for times, _ in steps for t in times if t <= duration)})
    slews = np.zeros((len(edges), n))
    currents = np.zeros((len(edges), n))
    for k, (times, values) in enumerate(steps):
        for e, at in enumerate(edges):
            before = np.flatnonzero(times <= at)
            currents[e, k] = values[before[-1]] if len(before) else 0.0
    high = np.array(i_high if i_high is not None else np.zeros(n))
    joined = np.array(out_to if out_to is not None else [-1] * n)
    followed = np.array(thr_from if thr_from is not None else [-1] * n)

    def attenuated(i: Array) -> Array:
        return np.asarray(i / p["kc"] * (1 + (i / p["i_x"]) ** p["m"]) ** (p["p"] / p["m"]))

    for e in range(len(edges)):
        slews[e] = attenuated(currents[e])
    wanted = np.zeros(0) if sample_at is None else sample_at
    times, who, v, samples = _run(
        numbers, np.array(edges), currents, slews, high, attenuated(high), joined, followed, wanted, finest
    )
    return Reference([(float(t), int(k)) for t, k in zip(times, who, strict=True)], v, samples)


@njit(cache=True)
def _slope(v: float, a: float, c: Array) -> float:
    u = v - c[0]
    gain = 1.0 / (1.0 + np.exp((v - c[7]) / c[8]))
    leak = -c[1] * (1.0 - np.exp(-u / c[9])) if u >= 0 else c[2] * (1.0 - np.exp(u / c[9]))
    return float(a * gain + leak)


@njit(cache=True)
def _step(v: float, a: float, c: Array, h: float) -> float:
    k1 = _slope(v, a, c)
    k2 = _slope(v + 0.5 * h * k1, a, c)
    k3 = _slope(v + 0.5 * h * k2, a, c)
    k4 = _slope(v + h * k3, a, c)
    return v + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


@njit(cache=True)
def _move(v, a, phase, numbers, thr_from, h, new):  # type: ignore[no-untyped-def]
    """Membranes after `h`; a neuron that is at its threshold then, or −1."""
    for k in range(v.size):
        new[k] = _step(v[k], a[k], numbers[k], h) if phase[k] < 2 else 0.0
    for k in range(v.size):
        if phase[k] == 0:
            level = numbers[k, 3] if thr_from[k] < 0 else new[thr_from[k]] + numbers[k, 10]
            if new[k] >= level:
                return k
    return -1


@njit(cache=True)
def _run(numbers, edges, currents, slews, i_high, a_high, out_to, thr_from, sample_at, finest):  # type: ignore[no-untyped-def]
    n = numbers.shape[0]
    v = numbers[:, 0].copy()
    phase = np.zeros(n, np.int64)  # 0 integrates, 1 latency, 2 held
    until = np.zeros(n)
    wake = np.zeros(n)
    present = np.zeros(n)
    a = np.zeros(n)
    times, who = [0.0][:0], [0][:0]
    samples = np.zeros((sample_at.size, n))
    sampled = 0
    t, e = 0.0, 0
    end = edges[-1]
    new = np.zeros(n)
    while True:
        while e + 1 < edges.size and edges[e + 1] <= t:
            e += 1
        for k in range(n):
            i, slew = currents[e, k], slews[e, k]
            for j in range(n):
                if out_to[j] == k and phase[j] == 2 and i_high[k] > i:
                    i, slew = i_high[k], a_high[k]
            if i > 0 and present[k] == 0:
                wake[k] = t + numbers[k, 6]
            present[k] = i
            a[k] = slew if i > 0 and t >= wake[k] else 0.0
        while sampled < sample_at.size and sample_at[sampled] <= t:
            samples[sampled] = v
            sampled += 1
        if t >= end:
            return times, who, v, samples
        h = 20e-6
        if e + 1 < edges.size:
            h = min(h, edges[e + 1] - t)
        if sampled < sample_at.size:
            h = min(h, sample_at[sampled] - t)
        stop = t + h
        for k in range(n):
            if phase[k] > 0:
                stop = min(stop, until[k])
            if present[k] > 0 and wake[k] > t:
                stop = min(stop, wake[k])
            if phase[k] < 2:
                # the step must resolve `finest`, and the time constants of leak and steering
                f = _slope(v[k], a[k], numbers[k])
                if v[k] < numbers[k, 0] and f > 0:  # the slope has a kink at rest: step up to it
                    stop = min(stop, t + max((numbers[k, 0] - v[k]) / f, 1e-9))
                rate = max(abs(f) / finest, max(numbers[k, 1], numbers[k, 2]) / numbers[k, 9] * 8.0)
                stop = min(stop, t + 1.0 / rate)
        h = stop - t
        crossed = _move(v, a, phase, numbers, thr_from, h, new)
        if crossed >= 0:
            low = 0.0
            for _ in range(60):
                middle = 0.5 * (low + h)
                if _move(v, a, phase, numbers, thr_from, middle, new) >= 0:
                    h = middle
                else:
                    low = middle
            crossed = _move(v, a, phase, numbers, thr_from, h, new)
        t = stop if crossed < 0 else t + h
        v[:] = new
        for k in range(n):
            if k == crossed:
                phase[k] = 1
                until[k] = t + numbers[k, 4]
            elif phase[k] > 0 and until[k] <= t:
                v[k] = 0.0
                if phase[k] == 1:
                    phase[k] = 2
                    until[k] = t + numbers[k, 5]
                    times.append(t)
                    who.append(k)
                else:
                    phase[k] = 0
