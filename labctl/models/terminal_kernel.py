"""Kernels of the two-terminal cells (slider, multi-level): one frame for both laws, the gate as current compliance.

The state is one number in 0 … 1. The memristor is ohmic; the transistor only limits: |I| ≤ I_sat(V_WL), and when it
does, the memristor sees I_sat/G. Equations: `labctl.models.slider` and `labctl.models.multilevel`.
"""

from math import exp, inf, log, log1p, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.counter_rng import normal, normal_pair
from labctl.models.effects import (
    HEALTHY,
    NEVER_FORMING,
    OPEN,
    SHORTED,
    drift,
    forming_voltage,
    rtn,
    white_noise,
    window,
)
from labctl.models.transistor import saturation_current

SLIDER, MULTILEVEL = 0, 1
JOGLEKAR, BIOLEK, PRODROMAKIS, RECTANGULAR = range(4)

# what both laws have, then what is their own
(
    P_LAW, P_G_OFF, P_G_ON, P_V_SET, P_V_RESET, P_N, P_V_T0, P_I_SPEC, P_D2D_OFF, P_D2D_ON, P_D2D_V, P_C2C_V, P_NOISE,
    P_V_FORM, P_FORM_SHAPE, P_G_PRISTINE, P_R_SHORT,
) = range(17)  # fmt: skip
P_K_SET, P_K_RESET, P_A_SET, P_A_RESET, P_WINDOW, P_POWER, P_FACTOR = range(17, 24)
P_LEVELS, P_NL_SET, P_NL_RESET, P_WIDTH, P_V_SCALE = range(17, 22)
P_DISTURB = 24
NUMBERS = 25

CREEP = 1e-3
"""A slider moves so much slower at its threshold than at twice that, where it is disturbed below the threshold."""

X_STATE, X_TIME, X_RETENTION, X_OWN, X_MOVED, X_WEAR = range(6)
N_EVENTS, N_TURNS, N_DIRECTION, N_READS, N_FORMED = range(5)
D_OFF, D_ON, D_V = range(3)

EVENT = 0.002
"""Movement of the state that counts as programming: relaxation starts anew, a turn draws a new cycle."""

_S_CYCLE, _S_NOISE = 0, 10


@njit(cache=True)
def conductance(state: float, g_off: float, g_on: float, p: NDArray[np.float64]) -> float:
    """G in S. The slider's boundary divides a resistance, the multi-level cell's state is a conductance."""
    if p[P_LAW] == SLIDER:
        return 1.0 / (state / g_on + (1.0 - state) / g_off)
    return g_off + state * (g_on - g_off)


@njit(cache=True)
def state_of(g: float, g_off: float, g_on: float, p: NDArray[np.float64]) -> float:
    """The inverse of `conductance`, within 0 … 1."""
    ratio = g_on / g if p[P_LAW] == SLIDER else 1.0  # a slider's state is linear in 1/G
    return min(max(ratio * (g - g_off) / (g_on - g_off), 0.0), 1.0)


@njit(cache=True)
def window_function(w: float, rising: bool, p: NDArray[np.float64]) -> float:
    """f(w) of Joglekar and Wolf (2009), Biolek et al. (2009), Prodromakis et al. (2011), or 1."""
    kind, power = p[P_WINDOW], p[P_POWER]
    if kind == JOGLEKAR:
        return 1.0 - float(abs(2.0 * w - 1.0) ** (2.0 * power))
    if kind == BIOLEK:
        return 1.0 - float(abs(w if rising else w - 1.0) ** (2.0 * power))
    if kind == PRODROMAKIS:
        return float(p[P_FACTOR] * (1.0 - ((w - 0.5) ** 2 + 0.75) ** power))
    return 1.0


@njit(cache=True)
def _slide_rate(
    w: float, v: float, limit: float, g_off: float, g_on: float, scale: float, p: NDArray[np.float64]
) -> float:
    """dw/dt in 1/s with `v` (V) over the cell, of which compliance leaves limit/G."""
    seen = min(abs(v), limit / conductance(w, g_off, g_on, p))
    threshold = scale * (p[P_V_SET] if v > 0.0 else p[P_V_RESET])
    if seen <= threshold:
        if p[P_DISTURB] == 0.0:
            return 0.0
        factor = CREEP * exp((seen - threshold) / p[P_DISTURB])
    else:
        strength = seen / threshold - 1.0
        factor = float(strength ** (p[P_A_SET] if v > 0.0 else p[P_A_RESET]))
        if p[P_DISTURB] > 0.0:
            factor += CREEP
    if v > 0.0:
        return float(p[P_K_SET] * factor) * window_function(w, True, p)
    return -float(p[P_K_RESET] * factor) * window_function(w, False, p)


@njit(cache=True)
def slide(
    w: float, v: float, limit: float, width: float, g_off: float, g_on: float, scale: float, p: NDArray[np.float64]
) -> float:
    """Boundary after `width` s: steps in w, ln(rate) linear inside a step, as in `filament_kernel`."""
    f = _slide_rate(w, v, limit, g_off, g_on, scale, p)
    if f == 0.0 or width == 0.0:
        return w
    sign = 1.0 if f > 0.0 else -1.0
    h, t = 0.01, 0.0
    while True:
        left = width - t
        target = w + sign * h
        if abs(f) * left < 1e-9:
            return min(max(w + f * left, 0.0), 1.0)
        if target <= 0.0 or target >= 1.0:
            target = 0.0 if sign < 0.0 else 1.0
            if abs(target - w) < 1e-12:
                return target
        d = abs(target - w)
        f1 = _slide_rate(target, v, limit, g_off, g_on, scale, p)
        if f1 * sign <= 0.0 or abs(log(f1 / f)) > 0.5:  # the window or the threshold ends the movement near here
            h = 0.5 * d
            if h < 1e-7:
                return w
            continue
        r = log(f1 / f)
        taken = d / abs(f) if abs(r) < 1e-9 else d * (1.0 / abs(f) - 1.0 / abs(f1)) / r
        if taken >= left:
            z = r / d * abs(f) * left
            return w + sign * (abs(f) * left if abs(z) < 1e-9 else -log1p(-z) * d / r)
        t, w, f = t + taken, target, f1
        h = min(0.01, 2.0 * h)


@njit(cache=True)
def step(
    x: float, v: float, limit: float, width: float, g_off: float, g_on: float, scale: float, p: NDArray[np.float64]
) -> float:
    """State of the multi-level cell after a pulse of `width` s worth a number of reference pulses, in closed form."""
    seen = min(abs(v), limit / conductance(x, g_off, g_on, p))
    threshold = scale * (p[P_V_SET] if v > 0.0 else p[P_V_RESET])
    scale_v = p[P_V_SCALE]
    if seen < threshold:
        scale_v = p[P_DISTURB]
        if scale_v == 0.0:
            return x
    pulses = width / p[P_WIDTH] * exp((seen - threshold) / scale_v) / (p[P_LEVELS] - 1.0)
    bend = p[P_NL_SET] if v > 0.0 else p[P_NL_RESET]
    y = x if v > 0.0 else 1.0 - x
    if bend < 1e-6:
        y = min(y + pulses, 1.0)
    else:
        top = 1.0 / (1.0 - exp(-bend))  # where the exponential would end
        y = min(top - (top - y) * exp(-bend * pulses), 1.0)
    return y if v > 0.0 else 1.0 - y


@njit(cache=True)
def _levels(
    cell: int, wear: float, d: NDArray[np.float32], p: NDArray[np.float64], e: NDArray[np.float64], seed: np.uint64
) -> tuple[float, float]:
    """The cell's own conductances (S) in the states 0 and 1, with its wear."""
    low = log(p[P_G_OFF]) + p[P_D2D_OFF] * d[D_OFF, cell]
    high = log(p[P_G_ON]) + p[P_D2D_ON] * d[D_ON, cell]
    left = window(seed, cell, wear, e)
    middle, half = 0.5 * (high + low), max(0.5 * (high - low), 0.01) * left
    return exp(middle - half), exp(middle + half)


@njit(cache=True)
def _limited(v: float, g: float, limit: float) -> float:
    i = v * g
    return min(max(i, -limit), limit)


@njit(cache=True, nogil=True)
def hold(
    cells: NDArray[np.intp],
    volts: NDArray[np.float64],
    widths: NDArray[np.float64],
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    d: NDArray[np.float32],
    m: NDArray[np.float64],
    clock: NDArray[np.float64],
    codes: NDArray[np.int64],
    seed: np.uint64,
    out: NDArray[np.float64],
) -> None:
    """Hold volts (3, samples, 1 or cells) for widths (samples,) s, one sample after the other; currents into `out`."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    kelvin, aging = clock[2], clock[3]
    for j in range(cells.size):
        cell = cells[j]
        code = codes[cell]
        k = j if volts.shape[2] > 1 else 0
        for s in range(widths.size):
            v, width = volts[0, s, k] - volts[1, s, k], widths[s]
            limit = saturation_current(volts[2, s, k], p[P_V_T0], p[P_N], p[P_I_SPEC], kelvin)
            now = clock[0] + x[X_OWN, cell]
            now_retention = clock[1] + aging * x[X_OWN, cell]
            x[X_OWN, cell] += width
            if code == OPEN:
                out[s, j] = 0.0
                continue
            if code == SHORTED:
                out[s, j] = _limited(v, 1.0 / p[P_R_SHORT], limit)
                continue
            if n[N_FORMED, cell] == 0:
                needed = forming_voltage(seed, cell, p[P_V_FORM], p[P_FORM_SHAPE])
                if code == NEVER_FORMING or width == 0.0 or abs(v) < needed or limit < 1e-9:
                    out[s, j] = _limited(v, p[P_G_PRISTINE], limit)
                    continue
                n[N_FORMED, cell] = 1
                x[X_TIME, cell], x[X_RETENTION, cell] = now, now_retention
            g_off, g_on = _levels(cell, x[X_WEAR, cell], d, p, e, seed)
            g = conductance(x[X_STATE, cell], g_off, g_on, p)
            shift = drift(
                seed, cell, n[N_EVENTS, cell], now - x[X_TIME, cell], now_retention - x[X_RETENTION, cell], g, e
            )
            start = x[X_STATE, cell] if shift == 0.0 else state_of(g * exp(shift), g_off, g_on, p)
            new = start
            direction = 1 if v > 0.0 else -1
            turn = n[N_TURNS, cell] + (1 if direction != n[N_DIRECTION, cell] else 0)
            if code == HEALTHY and v != 0.0:
                z, _ = normal_pair(seed, cell, turn, _S_CYCLE)
                scale = max(1.0 + p[P_D2D_V] * d[D_V, cell] + p[P_C2C_V] * z, 0.1)
                if p[P_LAW] == SLIDER:
                    new = slide(start, v, limit, width, g_off, g_on, scale, p)
                else:
                    new = step(start, v, limit, width, g_off, g_on, scale, p)
            moved = new - start
            x[X_MOVED, cell] += moved
            x[X_WEAR, cell] += 0.5 * abs(moved)
            if abs(x[X_MOVED, cell]) > EVENT:
                if p[P_NOISE] > 0.0:
                    spread = p[P_NOISE] * sqrt(abs(x[X_MOVED, cell]))
                    new = min(max(new + spread * normal(seed, cell, n[N_EVENTS, cell], _S_NOISE), 0.0), 1.0)
                x[X_STATE, cell] = new
                x[X_MOVED, cell] = 0.0
                x[X_TIME, cell] = clock[0] + x[X_OWN, cell]
                x[X_RETENTION, cell] = clock[1] + aging * x[X_OWN, cell]
                n[N_EVENTS, cell] += 1
                n[N_TURNS, cell] = turn
                n[N_DIRECTION, cell] = direction
            else:
                x[X_STATE, cell] += moved
            g = conductance(new, g_off, g_on, p)
            out[s, j] = _limited(v, g * rtn(seed, cell, now + width, g, inf, 0, e), limit)


@njit(cache=True, nogil=True)
def read(
    cells: NDArray[np.intp],
    volts: NDArray[np.float64],
    bandwidth: float,
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    d: NDArray[np.float32],
    m: NDArray[np.float64],
    clock: NDArray[np.float64],
    codes: NDArray[np.int64],
    seed: np.uint64,
    out: NDArray[np.float64],
) -> None:
    """Currents (A) with the noise of `bandwidth` (Hz); only the count of reads moves."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    for j in range(cells.size):
        cell = cells[j]
        k = j if volts.shape[2] > 1 else 0
        v = volts[0, 0, k] - volts[1, 0, k]
        count = n[N_READS, cell]
        n[N_READS, cell] = count + 1
        now = clock[0] + x[X_OWN, cell]
        if codes[cell] == OPEN:
            g = 0.0
        elif codes[cell] == SHORTED:
            g = 1.0 / p[P_R_SHORT]
        elif n[N_FORMED, cell] == 0:
            g = p[P_G_PRISTINE]
        else:
            g_off, g_on = _levels(cell, x[X_WEAR, cell], d, p, e, seed)
            g = conductance(x[X_STATE, cell], g_off, g_on, p)
            aged = clock[1] + clock[3] * x[X_OWN, cell] - x[X_RETENTION, cell]
            g *= exp(drift(seed, cell, n[N_EVENTS, cell], now - x[X_TIME, cell], aged, g, e))
            g *= rtn(seed, cell, now, g, bandwidth, count, e)
        i = _limited(v, g, saturation_current(volts[2, 0, k], p[P_V_T0], p[P_N], p[P_I_SPEC], clock[2]))
        out[0, j] = i + white_noise(seed, cell, count, i, v, bandwidth, clock[2], e)
