"""The membrane between two events: the exact flow of its equation for a constant input.

    above rest:  dV/dt = A·g(V) − L_n·(1 − e^(−(V − V_rest)/U_T))
    below rest:  dV/dt = A·g(V) + L_p·(1 − e^((V − V_rest)/U_T))
    steering:    g(V) = 1/(1 + e^((V − V_gain)/w))

The leak is that of a saturated subthreshold FET. With w = |V − V_rest| both sides read dw/dt = a + L·e^(−w/U_T) as long
as g = 1, which is linear in e^(w/U_T): V(t) and crossing times are closed forms. g is set to 1 while V is more than
23 widths below V_gain. There g > 1 − 1.03e-10, so V is wrong by less than width·1.03e-10 (4e-12 V) at the end of that
stretch. Above it the solution is a Taylor series of order 16 of the three quantities V, leak and g, which are closed
under differentiation, with steps whose last two terms stay below 1e-13 V. The right-hand side falls with V
everywhere, so two solutions never move apart: the error at any time is at most the sum of those of the steps.
"""

from collections.abc import Mapping
from math import exp, expm1, inf, log, log1p

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from labctl.models.neuron_params import (
    BOLTZMANN,
    K_NOMINAL,
    FloatArray,
    LifParams,
    broadcast,
    leaks,
    pulse_width,
    thermal_voltage,
)

(
    C_REST, C_L_N, C_L_P, C_THR, C_LAT, C_PW, C_DEAD, C_KC, C_IX, C_P, C_M, C_GAIN, C_W, C_UT, C_JITTER, C_NOISE,
) = range(16)  # fmt: skip
CONDITIONS = 16
"""Length of a row of conditions: what biases, parameters and temperature make of one neuron."""

ORDER = 16
_TOLERANCE = 1e-13  # V, of the last two terms of a step
_WIDTHS = 23.0
_INVERSE = tuple(1.0 / (k + 1) for k in range(ORDER))


def conditions(
    params: LifParams, volts: Mapping[str, FloatArray], on: NDArray[np.bool_], temperature: float, noise: bool
) -> FloatArray:
    """One row of conditions a neuron, (n, CONDITIONS), from biases (n,) each; a neuron that is not `on` rests at 0."""
    p, scale = broadcast(params, len(on)), temperature / 300.0
    l_n, l_p = leaks(volts["v_taun"], volts["v_taup"], params, temperature)
    reset = np.sqrt(BOLTZMANN * temperature * K_NOMINAL / p["kc"])
    columns: tuple[ArrayLike, ...] = (
        np.where(on, volts["v_rest"], 0.0), l_n, l_p, np.where(on, volts["v_thr"] + p["v_os"], np.inf), p["t_lat"],
        pulse_width(volts["v_pw"], params, temperature), p["t_d"], p["kc"], p["i_x"], p["p"], p["m"], volts["v_gain"],
        p["w_gain"] * scale, thermal_voltage(temperature), p["jitter"] * noise, reset * noise,
    )  # fmt: skip
    rows = np.empty((len(on), CONDITIONS))
    for column, values in enumerate(columns):
        rows[:, column] = values
    return rows


@njit(cache=True)
def workspace() -> FloatArray:
    """Room for the coefficients of a series; one for each thread."""
    return np.empty((5, ORDER + 1))


@njit(cache=True)
def _relax(w: float, a: float, leak: float, u_t: float, t: float) -> float:
    """Distance from rest after `t`, from dw/dt = a + leak·e^(−w/U_T); below 0 where rest was passed."""
    x = a * t / u_t
    fall = -abs(x)
    # e^fall and (e^fall − 1)/fall from one exponential, without cancellation
    if fall < -0.5:
        y = exp(fall)
        mean = (y - 1.0) / fall
    else:
        mean = expm1(fall) / fall if fall < 0.0 else 1.0
        y = 1.0 + fall * mean
    b = exp(-w / u_t) * leak * t / u_t * mean
    if x > 0.0:
        return w + a * t + u_t * log1p(b)
    return w + u_t * log(y + b) if y + b > 0.0 else -inf


@njit(cache=True)
def _duration(w: float, to: float, a: float, leak: float, u_t: float) -> float:
    """Time from distance `w` to distance `to`; inf where it is never reached."""
    start = exp(-w / u_t)
    slope = a + leak * start
    if slope == 0.0:
        return inf
    step = (to - w) / u_t
    ratio = expm1(step) / slope
    x = a * ratio
    if abs(x) < 1e-5:
        return u_t * ratio * (1.0 - x * (0.5 - x * (1.0 / 3.0 - 0.25 * x)))
    if abs(x) < 0.5:
        return u_t * log1p(x) / a
    y = (exp(step) + leak / a * start) * a / slope  # 1 + x, where that would cancel
    return u_t / a * log(y) if y > 0.0 else inf


@njit(cache=True, fastmath={"contract"})
def _series(v: float, a: float, left: float, stop: float, c: FloatArray, ws: FloatArray) -> tuple[float, float]:
    """One Taylor step with V_gain steering: (V, time used). V is `stop` where it was reached within `left`."""
    u_t, width = c[C_UT], c[C_W]
    side = 1.0 if v >= c[C_REST] else -1.0
    leak = side * (c[C_L_N] if side > 0.0 else c[C_L_P])
    decay = expm1(-side * (v - c[C_REST]) / u_t)
    p0 = 1.0 + decay
    g0 = 1.0 / (1.0 + exp((v - c[C_GAIN]) / width))
    slope = a * g0 + leak * decay
    stiffness = a * g0 * (1.0 - g0) / width + abs(leak) * p0 / u_t
    # where it settles, within the tolerance, or too slow to move: nothing more happens
    if abs(slope) <= _TOLERANCE * stiffness + 4e-16 * a * g0 or abs(slope) * left < 1e-18:
        return v, left
    tau = min(u_t, width) / max(a, abs(leak))
    kick, pull = a * tau, leak * tau
    cv, cd, cp, cg, ch = ws[0], ws[1], ws[2], ws[3], ws[4]
    cv[0], cp[0], cg[0], ch[0] = v, p0, g0, g0 * (1.0 - g0)
    whole = left / tau
    wanted = min(whole, 1.1 * (stop - v) / (slope * tau)) if slope > 0.0 else whole
    order, power, small = ORDER, 1.0, False
    for k in range(ORDER):
        cd[k] = kick * cg[k] + pull * cp[k] if k > 0 else slope * tau
        cv[k + 1] = cd[k] * _INVERSE[k]
        power *= wanted
        was_small, small = small, abs(cv[k + 1]) * power < _TOLERANCE
        if k > 0 and small and was_small:
            order = k + 1
            break
        if k + 1 == ORDER:
            break
        sum_p = 0.0
        sum_g = 0.0
        for j in range(k + 1):
            sum_p += cp[j] * cd[k - j]
            sum_g += ch[j] * cd[k - j]
        cp[k + 1] = sum_p * _INVERSE[k] * (-side / u_t)
        cg[k + 1] = sum_g * _INVERSE[k] * (-1.0 / width)
        square = 0.0
        for j in range(k + 2):
            square += cg[j] * cg[k + 1 - j]
        ch[k + 1] = cg[k + 1] - square
    x = wanted
    if not (small and was_small):
        for k in (order - 1, order):
            if cv[k] != 0.0:
                x = min(x, float((_TOLERANCE / abs(cv[k])) ** (1.0 / k)))
    end = _value(cv, order, x)
    if end < stop or slope < 0.0:
        return end, left if x == whole else x * tau
    low, high, at = 0.0, x, min(x, (stop - v) / cv[1])
    for _ in range(60):
        value = cv[order]
        steep = 0.0
        for k in range(order - 1, -1, -1):
            steep = steep * at + value
            value = value * at + cv[k]
        if value < stop:
            low = at
        else:
            high = at
        new = at - (value - stop) / steep if steep > 0.0 else low
        if not low < new < high:
            new = 0.5 * (low + high)
        moved = abs(new - at)
        at = new
        if moved <= 1e-9 * x:  # quadratic convergence: the next step would be rounding
            break
    return stop, at * tau


@njit(cache=True)
def _value(c: FloatArray, order: int, x: float) -> float:
    value = c[order]
    for k in range(order - 1, -1, -1):
        value = value * x + c[k]
    return float(value)


@njit(cache=True)
def flow(v: float, a: float, dt: float, target: float, c: FloatArray, ws: FloatArray) -> tuple[float, float, bool]:
    """Move the membrane from `v` under the slew `a` (V/s) for `dt` s, or until it is at `target` (V) if that is sooner.

    Returns (V, time used, whether the target was reached). A membrane at or above the target is there at once.
    """
    used = 0.0
    rest = c[C_REST]
    zone = c[C_GAIN] - _WIDTHS * c[C_W] if a > 0.0 else inf
    while True:
        if v >= target:
            return v, used, True
        left = dt - used
        if left <= 0.0:
            return v, used, False
        if a == 0.0 and v == rest:
            return v, dt, False
        below = v < rest
        stop = min(target, rest) if below else target
        if v < zone:
            stop = min(stop, zone)
            if below:
                drive, leak = -(a + c[C_L_P]), c[C_L_P]
                end = rest - _relax(rest - v, drive, leak, c[C_UT], left)
            else:
                drive, leak = a - c[C_L_N], c[C_L_N]
                end = rest + max(0.0, _relax(v - rest, drive, leak, c[C_UT], left))
            if end < stop:
                return end, dt, False
            if a == 0.0 and stop == rest:  # rest is approached, never reached
                return min(end, rest), dt, False
            if below:
                step = _duration(rest - v, rest - stop, drive, leak, c[C_UT])
            else:
                step = _duration(v - rest, stop - rest, drive, leak, c[C_UT])
            if not 0.0 <= step < left:  # reached within rounding of the end
                step = left
            used += step
            v = stop
        else:
            v, step = _series(v, a, left, stop, c, ws)
            used = dt if step >= left else used + step


@njit(cache=True)
def slope(v: float, a: float, c: FloatArray) -> float:
    """dV/dt in V/s."""
    u = v - c[C_REST]
    gain = 1.0 / (1.0 + exp((v - c[C_GAIN]) / c[C_W])) if a > 0.0 else 1.0
    if u >= 0.0:
        return float(a * gain + c[C_L_N] * expm1(-u / c[C_UT]))
    return float(a * gain - c[C_L_P] * expm1(u / c[C_UT]))


@njit(cache=True)
def slew(i: float, c: FloatArray) -> float:
    """What the attenuator makes of a current (A), in V/s."""
    if i <= 0.0:
        return 0.0
    return float(i / c[C_KC] * (1.0 + (i / c[C_IX]) ** c[C_M]) ** (c[C_P] / c[C_M]))


@njit(cache=True)
def trace(
    t: FloatArray,
    segments: FloatArray,
    rows: NDArray[np.int64],
    conditions: FloatArray,
    v_out: FloatArray,
    out: NDArray[np.bool_],
) -> None:
    """Membrane (V) and output (high?) at ascending times from stored segments (t, V, A, hold) and their conditions."""
    ws = workspace()
    k = -1
    at = v = 0.0
    for j in range(t.size):
        while k + 1 < segments.shape[0] and segments[k + 1, 0] <= t[j]:
            k += 1
            at, v = segments[k, 0], segments[k, 1]
        out[j] = segments[k, 3] > 0.0
        if not out[j] and t[j] > at:
            v = flow(v, segments[k, 2], t[j] - at, inf, conditions[rows[k]], ws)[0]
            at = t[j]
        v_out[j] = v
