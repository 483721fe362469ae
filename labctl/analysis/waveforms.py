"""What is read off a recorded waveform: crossings, widths, settling, the leak of a saturated transistor.

Every function takes t (n,) in s and v (n,) in V as a scope delivered them, and touches nothing else. Noise and the
8-bit steps of a scope are met by hysteresis, never by assuming a clean signal.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import MeasurementError
from labctl.quantity import si

Floats = NDArray[np.float64]
U_T_300 = 25.85e-3
"""Thermal voltage kT/q at 300 K, in V."""


def smooth(v: Floats, points: int) -> Floats:
    """(n,) running mean over `points` samples (made odd); at the ends over those that exist."""
    half = max(0, points // 2)
    total = np.concatenate([[0.0], np.cumsum(v)])
    k = np.arange(len(v))
    low, high = np.maximum(k - half, 0), np.minimum(k + half + 1, len(v))
    return np.asarray((total[high] - total[low]) / (high - low))


def crossings(
    t: Floats, v: Floats, level: float, slope: Literal["rising", "falling"] = "rising", hysteresis: float = 0.0
) -> Floats:
    """(k,) times in s at which v crosses `level` (V), linearly interpolated.

    A crossing counts when v was beyond level ∓ hysteresis/2 before and is beyond level ± hysteresis/2 after it. Where
    noise crosses several times in between, the middle of the first and the last is taken.
    """
    sign = 1.0 if slope == "rising" else -1.0
    x = sign * (np.asarray(v, np.float64) - level)
    edge = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    at = t[edge] + (t[edge + 1] - t[edge]) * x[edge] / (x[edge] - x[edge + 1])
    below = np.flatnonzero(x < -hysteresis / 2 if hysteresis else x < 0)
    above = np.flatnonzero(x >= hysteresis / 2)
    found = []
    k = int(below[0]) if len(below) else len(x)
    while k < len(x):
        later = above[np.searchsorted(above, k) :]
        if not len(later):
            break
        confirmed = int(later[0])
        start = int(below[np.searchsorted(below, confirmed) - 1])  # the last sample that was surely on the other side
        first, last = np.searchsorted(edge, start), np.searchsorted(edge, confirmed) - 1
        found.append((at[first] + at[last]) / 2)
        rest = below[np.searchsorted(below, confirmed) :]
        k = int(rest[0]) if len(rest) else len(x)
    return np.array(found, np.float64)


def pulse_widths(t: Floats, v: Floats, level: float, hysteresis: float = 0.0) -> Floats:
    """(k,) widths in s at `level` of the pulses that begin and end within the record."""
    rise, fall = crossings(t, v, level, "rising", hysteresis), crossings(t, v, level, "falling", hysteresis)
    if not len(rise):
        return np.zeros(0)
    fall = fall[fall > rise[0]]
    return np.asarray(fall - rise[: len(fall)])


def settling_time(t: Floats, v: Floats, start: float, end: float) -> float:
    """Seconds from the last time v leaves `start` (V) to the first time after it that it reaches `end` (V).

    NaN when it does not get there within the record; raises `MeasurementError` when it never was at `start`.
    """
    slope: Literal["rising", "falling"] = "rising" if end > start else "falling"
    left = crossings(t, v, start, slope)
    if not len(left):
        beyond = np.min(v) < start if slope == "rising" else np.max(v) > start
        if beyond:  # it has not even come to `start`
            return float("nan")
        raise MeasurementError(
            f"the record never crosses {si(start, 'V')} ({slope}): it stays within {si(float(np.min(v)), 'V')}"
            f" … {si(float(np.max(v)), 'V')}; look earlier, or drive the membrane further"
        )
    reached = np.flatnonzero((t > left[-1]) & ((v <= end) if end < start else (v >= end)))
    if not len(reached) or reached[0] == 0:
        return float("nan")
    k = int(reached[0])
    part = (end - v[k - 1]) / (v[k] - v[k - 1]) if v[k] != v[k - 1] else 1.0
    return float(t[k - 1] + (t[k] - t[k - 1]) * part - left[-1])


class LeakFit(NamedTuple):
    """A fitted leak: the saturated slope (V/s, positive), the level it ends at (V), and the rms residual (V)."""

    slope: float
    v_rest: float
    residual: float


def leak(t: Floats, u0: float, slope: float, u_t: float = U_T_300) -> Floats:
    """|V − V_rest| (V) that a saturated subthreshold transistor leaves after t s, from u0 V with `slope` V/s.

    du/dt = −L(1 − e^(−u/U_T)) is linear in y = e^(u/U_T): y − 1 = (y0 − 1)·e^(−L·t/U_T). Written here so that nothing
    overflows: u = U_T·ln(1 + e^(a)) with a = ln(y0 − 1) − L·t/U_T.
    """
    return np.asarray(u_t * np.logaddexp(0.0, np.log(np.expm1(u0 / u_t)) - slope * t / u_t))


def fit_leak(t: Floats, v: Floats, v_rest: float | None = None, u_t: float = U_T_300) -> LeakFit:
    """Fit `leak` to a record of a membrane on its way to rest, from either side. Raises `MeasurementError`.

    v_rest: where it ends (V), if known; a record that does not reach it cannot tell.
    """
    from scipy.optimize import least_squares

    few = max(1, len(v) // 50)
    first, last = float(np.mean(v[:few])), float(np.mean(v[-few:]))
    ends = last if v_rest is None else v_rest
    sign = 1.0 if first > ends else -1.0
    t = t - t[0]
    u0 = max(abs(first - ends), u_t)
    rough = max(abs(first - last) / max(float(t[-1]), 1e-12), 1e-6)
    half = np.flatnonzero(sign * (v - ends) < u0 / 2)
    if len(half) and t[half[0]] > 0:
        rough = u0 / 2 / float(t[half[0]])

    def miss(x: Floats) -> Floats:
        level = x[2] if v_rest is None else v_rest
        return np.asarray(level + sign * leak(t, abs(float(x[0])) + 1e-6, float(np.exp(x[1])), u_t) - v)

    best = least_squares(miss, [u0, np.log(rough), *([ends] if v_rest is None else [])])
    if not best.success:
        raise MeasurementError(f"no leak fits the record ({best.message}); is the membrane driven meanwhile?")
    level = float(best.x[2]) if v_rest is None else v_rest
    return LeakFit(float(np.exp(best.x[1])), level, float(np.sqrt(np.mean(best.fun**2))))


def needs_interval(feature: float, span: float, points: int, what: str, samples: float = 8.0) -> None:
    """Raise `MeasurementError` when `points` over `span` s cannot show a feature of `feature` s with 8 samples."""
    interval = span / points
    if feature < samples * interval:
        raise MeasurementError(
            f"the scope cannot see {what} of {si(feature, 's', 3)} in a record of {si(span, 's', 3)}: its"
            f" {points} points are {si(interval, 's', 3)} apart, and {samples:g} are needed within it;"
            f" shorten the record below {si(feature * points / samples, 's', 3)} or measure it in a run of its own"
        )
