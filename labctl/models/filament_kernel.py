"""Kernels of the filament cell: series circuit, growth of the gap, forming. Equations: `labctl.models.filament`.

The gap obeys an autonomous scalar equation while the voltages are held, so it moves one way and its rate is a function
of the gap alone. The kernels step in the GAP and sum up the time that each step takes, with ln(rate) linear inside a
step: no stiffness, exact for exponential kinetics, one circuit solution a step.
"""

from math import exp, inf, log, log1p, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.counter_rng import normal, normal_pair, uniform
from labctl.models.effects import HEALTHY, NEVER_FORMING, OPEN, SHORTED, drift, rtn, white_noise, window
from labctl.models.transistor import BOLTZMANN, charge, pinch_off, specific_current

(
    P_I0, P_G0, P_V0, P_E_SET, P_E_RESET, P_RATE, P_GAMMA_SET, P_GAP_SET, P_GAMMA_RESET, P_GAP_RESET, P_GAP_MIN, P_R_TH,
    P_N, P_V_T0, P_I_SPEC, P_D2D_HRS, P_C2C_HRS, P_D2D_LRS, P_C2C_LRS, P_D2D_RATE, P_C2C_RATE, P_HOP, P_FORM_TAU,
    P_FORM_V, P_FORM_SHAPE, P_FORM_GAP, P_V_PRISTINE, P_I_PRISTINE, P_R_SHORT,
) = range(29)  # fmt: skip
NUMBERS = 29
"""Length of `FilamentParams.vector`."""

X_GAP, X_DOSE, X_TIME, X_RETENTION, X_OWN, X_MOVED, X_WEAR = range(7)
N_EVENTS, N_TURNS, N_DIRECTION, N_READS, N_FORMED = range(5)
D_HRS, D_LRS, D_RATE = range(3)

STEP = 0.1
"""Largest step of the gap, nm."""
BEND = 0.3
"""Largest change of slope of ln(rate) from step to step, times the step."""
FINE, COARSE = 1e-9, 3e-4
"""Tolerances of the circuit, V."""
EVENT = 0.02
"""Movement of the gap (nm) that counts as programming: relaxation starts anew, a turn draws a new cycle."""

_S_CYCLE, _S_FORM, _S_FORM_TIME, _S_HOP = 0, 10, 11, 12
_CAP = 3.0  # nm; no filament opens further


@njit(cache=True)
def circuit(
    v_bl: float, q_sl: float, v_p: float, u_t: float, i_spec: float, v0: float, i_a: float, lo: float, hi: float,
    u: float, tolerance: float,
) -> tuple[float, float]:  # fmt: skip
    """Potential u (V) between memristor and transistor, and the current (A) from BL to SL.

    Solves V_BL − u = v0·asinh(I_EKV(u)/i_a), of which both sides are monotonic in u: Newton from `u`, replaced by a
    bisection of (lo, hi) whenever it would leave the bracket. `q_sl` is √F of the SL terminal. Ends after a step below
    `tolerance`; convergence is quadratic: FINE is exact to rounding, COARSE leaves less than 1 µV.
    """
    i = 0.0
    for _ in range(100):
        x = exp((v_p - u) / (2.0 * u_t))
        q = log1p(x)
        i = i_spec * (q_sl * q_sl - q * q)
        slope = i_spec * q * x / ((1.0 + x) * u_t)
        r = i / i_a
        root = sqrt(r * r + 1.0)
        v = v0 * log(abs(r) + root)
        if r < 0.0:
            v = -v
        error = v_bl - u - v
        if error > 0.0:
            lo = u
        else:
            hi = u
        new = u + error / (1.0 + v0 * slope / (i_a * root))
        if not lo <= new <= hi:
            new = 0.5 * (lo + hi)
        moved = new - u
        u = new
        if abs(moved) < tolerance:
            i += slope * moved
            break
    return u, i


@njit(cache=True)
def gap_rate(
    gap: float, v: float, i: float, speed: float, gap_reset: float, kelvin: float, p: NDArray[np.float64]
) -> float:
    """d(gap)/dt in nm/s with `v` (V) across the memristor and the current `i` (A); `speed` is the cell's factor."""
    kt = BOLTZMANN * (kelvin + p[P_R_TH] * v * i)
    if v > 0.0:
        gamma = p[P_GAMMA_SET] * (1.0 - (gap / p[P_GAP_SET]) ** 3)
    else:
        gamma = p[P_GAMMA_RESET] * (1.0 - (gap / gap_reset) ** 3)
    a = 0.05 * max(gamma, 0.0) * v
    return float(p[P_RATE] * speed * (exp(-(p[P_E_RESET] + a) / kt) - exp(-(p[P_E_SET] - a) / kt)))


@njit(cache=True)
def grow(
    gap: float,
    v_bl: float,
    v_sl: float,
    v_wl: float,
    width: float,
    speed: float,
    gap_min: float,
    gap_reset: float,
    kelvin: float,
    step: float,
    p: NDArray[np.float64],
) -> tuple[float, float, int]:
    """Gap (nm) and current (A) after `width` s at constant voltages, and the number of steps taken."""
    u_t = BOLTZMANN * kelvin
    v_p = pinch_off(v_wl, p[P_V_T0], p[P_N], kelvin)
    i_spec = specific_current(p[P_I_SPEC], kelvin)
    q_sl = charge(v_p, v_sl, u_t)
    lo, hi = min(v_bl, v_sl) - 1e-3, max(v_bl, v_sl) + 1e-3
    i0, g0, v0 = p[P_I0], p[P_G0], p[P_V0]
    u, i = circuit(v_bl, q_sl, v_p, u_t, i_spec, v0, i0 * exp(-gap / g0), lo, hi, 0.5 * (v_bl + v_sl), FINE)
    if width == 0.0:
        return gap, i, 0
    f = gap_rate(gap, v_bl - u, i, speed, gap_reset, kelvin, p)
    if abs(f) * width < 1e-7:
        return gap + f * width, i, 0
    sign = 1.0 if f > 0.0 else -1.0
    limit = max(_CAP, gap) if f > 0.0 else min(gap_min, gap)
    h, t, steps = 0.25 * step, 0.0, 0
    k, du, before = 0.0, 0.0, 0.0  # slopes of ln(rate) and of u along the gap, from a step before of this length
    while True:
        left = width - t
        if abs(f) * left < 1e-6:  # too little for a step
            gap += f * left
            break
        target = gap + sign * h
        if sign * (target - limit) >= 0.0:
            target = limit
            if sign * (target - gap) < 1e-9:
                break
        d = abs(target - gap)
        u1 = min(max(u + du * d, lo), hi)
        u1, i1 = circuit(v_bl, q_sl, v_p, u_t, i_spec, v0, i0 * exp(-target / g0), lo, hi, u1, COARSE)
        f1 = gap_rate(target, v_bl - u1, i1, speed, gap_reset, kelvin, p)
        steps += 1
        if f1 * sign <= 0.0:  # an equilibrium inside the step
            h = 0.5 * d
            if h < 1e-6:
                break
            continue
        r = log(f1 / f)
        k1 = r / d
        bend = abs(k1 - k) * d
        if (bend > BEND or abs(r) > 3.0) and t > 0.0 and h > 1e-4:
            h = 0.5 * d
            continue
        taken = d / abs(f) if abs(r) < 1e-9 else (1.0 / abs(f) - 1.0 / abs(f1)) / k1
        curved = 1.0 + (k1 - k) * d * d / (6.0 * (before + d)) if before > 0.0 else 1.0  # ln(rate) to second order
        taken *= curved
        if taken >= left:
            z = k1 * abs(f) * left / curved
            gap += sign * (abs(f) * left / curved if abs(z) < 1e-9 else -log1p(-z) / k1)
            break
        du, k, before = (u1 - u) / d, k1, d
        t, gap, f, u, i = t + taken, target, f1, u1, i1
        if bend < 0.35 * BEND:
            h = min(step, 2.0 * h)
    u, i = circuit(v_bl, q_sl, v_p, u_t, i_spec, v0, i0 * exp(-gap / g0), lo, hi, u, FINE)
    return gap, i, steps


@njit(cache=True)
def static_current(
    v_bl: float, v_sl: float, v_wl: float, v0: float, i_a: float, kelvin: float, p: NDArray[np.float64]
) -> tuple[float, float]:
    """Current (A) through v0·asinh(I/i_a) in series with the transistor, and the memristor's voltage (V)."""
    u_t = BOLTZMANN * kelvin
    v_p = pinch_off(v_wl, p[P_V_T0], p[P_N], kelvin)
    lo, hi = min(v_bl, v_sl) - 1e-3, max(v_bl, v_sl) + 1e-3
    q_sl = charge(v_p, v_sl, u_t)
    i_spec = specific_current(p[P_I_SPEC], kelvin)
    u, i = circuit(v_bl, q_sl, v_p, u_t, i_spec, v0, i_a, lo, hi, 0.5 * (v_bl + v_sl), FINE)
    return i, v_bl - u


@njit(cache=True)
def conductance(gap: float, p: NDArray[np.float64]) -> float:
    """Small-signal conductance of the memristor alone, S."""
    return float(p[P_I0] * exp(-gap / p[P_G0]) / p[P_V0])


@njit(cache=True)
def _limits(
    cell: int,
    turn: int,
    wear: float,
    d: NDArray[np.float32],
    p: NDArray[np.float64],
    e: NDArray[np.float64],
    seed: np.uint64,
) -> tuple[float, float, float]:
    """Speed factor, smallest gap and the gap where RESET ends (nm) of a cell in its half-cycle number `turn`."""
    z_hrs, z_lrs = normal_pair(seed, cell, turn, _S_CYCLE)
    z_rate = normal(seed, cell, turn, _S_CYCLE + 1) if p[P_C2C_RATE] > 0.0 else 0.0
    speed = exp(p[P_D2D_RATE] * d[D_RATE, cell] + p[P_C2C_RATE] * z_rate)
    low = max(p[P_GAP_MIN] + p[P_D2D_LRS] * d[D_LRS, cell] + p[P_C2C_LRS] * z_lrs, 0.0)
    high = p[P_GAP_RESET] + p[P_D2D_HRS] * d[D_HRS, cell] + p[P_C2C_HRS] * z_hrs
    left = window(seed, cell, wear, e)
    middle = 0.5 * (p[P_GAP_MIN] + p[P_GAP_RESET])
    low, high = middle + (low - middle) * left, middle + (high - middle) * left
    return speed, low, max(high, low + 0.05)


@njit(cache=True)
def _form(
    cell: int,
    v_bl: float,
    v_sl: float,
    v_wl: float,
    width: float,
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    kelvin: float,
    p: NDArray[np.float64],
    code: int,
    seed: np.uint64,
) -> tuple[float, float]:
    """Stress a pristine cell; the part of `width` (s) that is left after breakdown (0: none), and the current (A)."""
    i, v = static_current(v_bl, v_sl, v_wl, p[P_V_PRISTINE], p[P_I_PRISTINE], kelvin, p)
    if code != HEALTHY or width == 0.0:
        return 0.0, i
    u = uniform(seed, cell, 0, _S_FORM)
    needed = (-log(1.0 - u)) ** (1.0 / p[P_FORM_SHAPE])
    speed = exp(abs(v) / p[P_FORM_V]) / p[P_FORM_TAU]
    if x[X_DOSE, cell] + speed * width < needed:
        x[X_DOSE, cell] += speed * width
        return 0.0, i
    left = width - (needed - x[X_DOSE, cell]) / speed
    x[X_DOSE, cell] = needed
    x[X_GAP, cell] = p[P_FORM_GAP]
    n[N_FORMED, cell] = 1
    return max(left, 1e-12), i


@njit(cache=True, nogil=True)
def form_all(
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    d: NDArray[np.float32],
    m: NDArray[np.float64],
    clock: NDArray[np.float64],
    codes: NDArray[np.int64],
    seed: np.uint64,
    volts: NDArray[np.float64],
    width: float,
) -> None:
    """Form every cell that can: breakdown somewhere in a pulse of `width` (s) at volts (BL, SL, WL), then its rest."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    for cell in range(codes.size):
        if codes[cell] == NEVER_FORMING:
            continue
        left = width * uniform(seed, cell, 0, _S_FORM_TIME)
        speed, low, high = _limits(cell, 0, 0.0, d, p, e, seed)
        gap = p[P_FORM_GAP]
        x[X_GAP, cell] = grow(gap, volts[0], volts[1], volts[2], left, speed, low, high, clock[2], STEP, p)[0]
        n[N_FORMED, cell] = 1
        n[N_DIRECTION, cell] = -1


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
            v_bl, v_sl, v_wl, width = volts[0, s, k], volts[1, s, k], volts[2, s, k], widths[s]
            now = clock[0] + x[X_OWN, cell]
            now_retention = clock[1] + aging * x[X_OWN, cell]
            x[X_OWN, cell] += width
            if code == OPEN:
                out[s, j] = 0.0
                continue
            if code == SHORTED:
                out[s, j] = static_current(v_bl, v_sl, v_wl, p[P_R_SHORT], 1.0, kelvin, p)[0]
                continue
            if n[N_FORMED, cell] == 0:
                width, i = _form(cell, v_bl, v_sl, v_wl, width, x, n, kelvin, p, code, seed)
                if width == 0.0:
                    out[s, j] = i
                    continue
                x[X_TIME, cell], x[X_RETENTION, cell] = now, now_retention
            gap = x[X_GAP, cell] - p[P_G0] * drift(
                seed, cell, n[N_EVENTS, cell], now - x[X_TIME, cell], now_retention - x[X_RETENTION, cell],
                conductance(x[X_GAP, cell], p), e,
            )  # fmt: skip
            direction = -1 if v_bl >= v_sl else 1
            turn = n[N_TURNS, cell] + (1 if direction != n[N_DIRECTION, cell] else 0)
            if code == HEALTHY and v_bl != v_sl:
                speed, low, high = _limits(cell, turn, x[X_WEAR, cell], d, p, e, seed)
                new, i, _ = grow(gap, v_bl, v_sl, v_wl, width, speed, low, high, kelvin, STEP, p)
            else:
                new, i = gap, static_current(v_bl, v_sl, v_wl, p[P_V0], p[P_I0] * exp(-gap / p[P_G0]), kelvin, p)[0]
            moved = new - gap
            x[X_MOVED, cell] += moved
            x[X_WEAR, cell] += abs(moved) / (2.0 * (p[P_GAP_RESET] - p[P_GAP_MIN]))
            if abs(x[X_MOVED, cell]) > EVENT:
                if p[P_HOP] > 0.0:  # shot noise of the ions that moved
                    z = normal(seed, cell, n[N_EVENTS, cell], _S_HOP)
                    new = max(new + sqrt(p[P_HOP] * abs(x[X_MOVED, cell])) * z, 0.0)
                    i_a = p[P_I0] * exp(-new / p[P_G0])
                    i, _ = static_current(v_bl, v_sl, v_wl, p[P_V0], i_a, kelvin, p)
                x[X_GAP, cell] = new
                x[X_MOVED, cell] = 0.0
                x[X_TIME, cell] = clock[0] + x[X_OWN, cell]
                x[X_RETENTION, cell] = clock[1] + aging * x[X_OWN, cell]
                n[N_EVENTS, cell] += 1
                n[N_TURNS, cell] = turn
                n[N_DIRECTION, cell] = direction
            else:
                x[X_GAP, cell] += moved
            out[s, j] = i * rtn(seed, cell, now + width, conductance(new, p), inf, 0, e)


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
    kelvin, aging = clock[2], clock[3]
    for j in range(cells.size):
        cell = cells[j]
        k = j if volts.shape[2] > 1 else 0
        v_bl, v_sl, v_wl = volts[0, 0, k], volts[1, 0, k], volts[2, 0, k]
        count = n[N_READS, cell]
        n[N_READS, cell] = count + 1
        if codes[cell] == OPEN:
            i = 0.0
        elif codes[cell] == SHORTED:
            i = static_current(v_bl, v_sl, v_wl, p[P_R_SHORT], 1.0, kelvin, p)[0]
        elif n[N_FORMED, cell] == 0:
            i = static_current(v_bl, v_sl, v_wl, p[P_V_PRISTINE], p[P_I_PRISTINE], kelvin, p)[0]
        else:
            now = clock[0] + x[X_OWN, cell]
            gap = x[X_GAP, cell] - p[P_G0] * drift(
                seed, cell, n[N_EVENTS, cell], now - x[X_TIME, cell],
                clock[1] + aging * x[X_OWN, cell] - x[X_RETENTION, cell], conductance(x[X_GAP, cell], p), e,
            )  # fmt: skip
            g = conductance(gap, p)
            i_a = p[P_I0] * exp(-gap / p[P_G0]) * rtn(seed, cell, now, g, bandwidth, count, e)
            i = static_current(v_bl, v_sl, v_wl, p[P_V0], i_a, kelvin, p)[0]
        out[0, j] = i + white_noise(seed, cell, count, i, v_bl - v_sl, bandwidth, kelvin, e)
