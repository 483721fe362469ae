"""The physics of one filament cell: series circuit and growth of the gap. Equations: `labctl.models.filament`.

The gap obeys an autonomous scalar equation while the voltages are held, so it moves one way and its rate is a function
of the gap alone. The kernels step in the GAP and sum up the time that each step takes, with ln(rate) linear inside a
step: no stiffness, exact for exponential kinetics, one circuit solution a step.
"""

from math import exp, isnan, log, log1p, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.transistor import BOLTZMANN, charge, pinch_off, specific_current

(
    P_I0, P_G0, P_V0, P_E_SET, P_E_RESET, P_RATE, P_GAMMA_SET, P_GAP_SET, P_GAMMA_RESET, P_GAP_RESET, P_GAP_MIN, P_R_TH,
    P_N, P_V_T0, P_I_SPEC, P_D2D_HRS, P_C2C_HRS, P_D2D_LRS, P_C2C_LRS, P_D2D_RATE, P_C2C_RATE, P_HOP, P_FORM_TAU,
    P_FORM_V, P_FORM_SHAPE, P_FORM_GAP, P_V_PRISTINE, P_I_PRISTINE, P_R_SHORT,
) = range(29)  # fmt: skip
NUMBERS = 29
"""Length of `FilamentParams.vector`."""

STEP = 0.1
"""Largest step of the gap, nm."""
BEND = 0.3
"""Largest change of slope of ln(rate) from step to step, times the step."""
FINE, COARSE = 1e-9, 3e-4
"""Tolerances of the circuit, V."""

GAP_CAP = 3.0
"""No filament opens further, nm."""


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
def first_guess(
    v_bl: float, v_sl: float, q_sl: float, v_p: float, u_t: float, i_spec: float, v0: float, i_a: float
) -> float:
    """Node potential (V) if the transistor, with all the voltage over it, set the current; within V_BL … V_SL."""
    r = i_spec * abs(q_sl * q_sl - charge(v_p, v_bl, u_t) ** 2) / i_a
    v = v0 * log(r + sqrt(r * r + 1.0))
    return max(v_bl - v, v_sl) if v_bl > v_sl else min(v_bl + v, v_sl)


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
    """Gap (nm) after `width` s at constant voltages, a node potential (V) close to its own, and the steps taken."""
    u_t = BOLTZMANN * kelvin
    v_p = pinch_off(v_wl, p[P_V_T0], p[P_N], kelvin)
    i_spec = specific_current(p[P_I_SPEC], kelvin)
    q_sl = charge(v_p, v_sl, u_t)
    lo, hi = min(v_bl, v_sl) - 1e-3, max(v_bl, v_sl) + 1e-3
    i0, g0, v0 = p[P_I0], p[P_G0], p[P_V0]
    i_a = i0 * exp(-gap / g0)
    u = first_guess(v_bl, v_sl, q_sl, v_p, u_t, i_spec, v0, i_a)
    u, i = circuit(v_bl, q_sl, v_p, u_t, i_spec, v0, i_a, lo, hi, u, COARSE)
    f = gap_rate(gap, v_bl - u, i, speed, gap_reset, kelvin, p)
    if abs(f) * width < 1e-7:
        return gap + f * width, u, 0
    sign = 1.0 if f > 0.0 else -1.0
    limit = max(GAP_CAP, gap) if f > 0.0 else min(gap_min, gap)
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
        t, gap, f, u = t + taken, target, f1, u1
        if bend < 0.35 * BEND:
            h = min(step, 2.0 * h)
    return gap, u, steps


@njit(cache=True)
def static_current(
    v_bl: float, v_sl: float, v_wl: float, v0: float, i_a: float, kelvin: float, u: float, p: NDArray[np.float64]
) -> tuple[float, float]:
    """Current (A) through v0·asinh(I/i_a) in series with the transistor, and the memristor's voltage (V).

    `u` is a guess of the node's potential (V), nan for none.
    """
    u_t = BOLTZMANN * kelvin
    v_p = pinch_off(v_wl, p[P_V_T0], p[P_N], kelvin)
    lo, hi = min(v_bl, v_sl) - 1e-3, max(v_bl, v_sl) + 1e-3
    q_sl = charge(v_p, v_sl, u_t)
    i_spec = specific_current(p[P_I_SPEC], kelvin)
    if isnan(u):
        u = first_guess(v_bl, v_sl, q_sl, v_p, u_t, i_spec, v0, i_a)
    u, i = circuit(v_bl, q_sl, v_p, u_t, i_spec, v0, i_a, lo, hi, u, FINE)
    return i, v_bl - u


@njit(cache=True)
def conductance(gap: float, p: NDArray[np.float64]) -> float:
    """Small-signal conductance of the memristor alone, S."""
    return float(p[P_I0] * exp(-gap / p[P_G0]) / p[P_V0])
