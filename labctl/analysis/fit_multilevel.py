"""The multi-level model's numbers from recorded pulses: `labctl.models.multilevel` fitted to trains on one cell."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.estimate import Estimate, Floats, numbers, positive, same_length
from labctl.errors import MeasurementError, UsageError


class MultilevelFit(NamedTuple):
    """Numbers of `labctl.models.multilevel.MultilevelParams`, and how well they repeat the record.

    An interval is nan where the readings do not tell, as for a bend at its limit. Readings of one train add up the
    noise of its pulses and are not independent: the intervals are those of the residuals and are too narrow where the
    cell's own noise leads.
    """

    g_min: Estimate  # S
    g_max: Estimate  # S
    beta_set: Estimate
    beta_reset: Estimate
    v_set: Estimate  # V
    v_reset: Estimate  # V
    v_scale: Estimate  # V
    r2: float  # part of the variance of G that the model explains; 1 is perfect, below 0 worse than the mean
    rms: float  # S, of what it leaves
    g: Floats  # (n,) S, the model's conductance after each pulse

    @property
    def parameters(self) -> dict[str, Estimate]:
        """Name → value with its interval."""
        return {name: getattr(self, name) for name in PARAMETERS}


# of the fit: ends in parts of the range that was seen, bends and thresholds within the model's limits, ln of the scale
LOW = np.array([-0.2, 0.5, 0.0, 0.0, 1e-3, 1e-3, np.log(1e-3)])
HIGH = np.array([0.5, 1.5, 50.0, 50.0, 10.0, 10.0, np.log(10.0)])
PARAMETERS = ("g_min", "g_max", "beta_set", "beta_reset", "v_set", "v_reset", "v_scale")


def fit_multilevel(
    v: ArrayLike, width: ArrayLike, g: ArrayLike, *, levels: int = 256, width_ref: float = 1e-6
) -> MultilevelFit:
    """Fit one cell. v (n,): pulse voltage in V, > 0 SET, < 0 RESET, nan: the reading before a train; width (n,) in s;
    g (n,): S after the pulse, nan where the reading is no value. In order of measuring.

    Each train starts at its reading before it, so that what the cell did between the trains does not count.
    `levels` and `width_ref` only scale: the reference pulse is one level at the threshold. Raises `UsageError`, and
    `MeasurementError` where the pulses do not move the cell, or not differently enough at different voltages.
    """
    volts, t, x = numbers("v", v, missing=True), positive("width", width), numbers("g", g, missing=True)
    same_length(v=volts, width=t, g=x)
    begins = np.isnan(volts)
    if not begins[0]:
        raise UsageError("the record does not begin with the reading before a train (v = nan)")
    train = np.cumsum(begins) - 1
    sign = np.sign(np.nan_to_num(volts))
    up = np.array([(sign[train == k] > 0).any() for k in range(train[-1] + 1)])
    if any((sign[train == k] > 0).any() and (sign[train == k] < 0).any() for k in range(train[-1] + 1)):
        raise UsageError("a train has pulses of both signs; put a reading with v = nan where the sign turns")
    start = x[begins][train]
    use = ~begins & np.isfinite(x) & np.isfinite(start)
    if use.sum() < 2 * len(PARAMETERS) or len(np.unique(np.abs(volts[use]))) < 2:
        raise MeasurementError(f"{int(use.sum())} readings after pulses do not fit 7 numbers; give more pulses")
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    if not 0 < low < high:
        raise MeasurementError(f"the conductance stays at {low:.3g} … {high:.3g} S; nothing moves")
    rising = up[train]
    relative, size = t / width_ref / (levels - 1), np.nan_to_num(np.abs(volts))

    def curve(q: Floats, active: NDArray[np.bool_]) -> Floats:
        """G after each pulse; q: ends (of the range seen), bends, thresholds and scale in V."""
        g_low, g_high = low + (high - low) * q[0], low + (high - low) * q[1]
        bend, scale = np.where(rising, q[2], q[3]), np.exp(q[6])
        worth = np.exp(np.clip((size - np.where(rising, q[4], q[5])) / scale, -50, 50)) * relative
        total = np.cumsum(np.where(begins | ~active, 0.0, worth))
        n = np.minimum(total - total[begins][train], 1e6)
        y = np.clip((start - g_low) / (g_high - g_low), 0.0, 1.0)
        y = np.where(rising, y, 1.0 - y)
        bend = np.maximum(bend, 1e-6)
        left = np.exp(-bend * n)
        y = np.minimum(y * left + (left - 1.0) / np.expm1(-bend), 1.0)
        return np.asarray(g_low + (g_high - g_low) * np.where(rising, y, 1.0 - y))

    def fitted(first: Floats, active: NDArray[np.bool_]) -> _Best:
        return _bounded(lambda q: (curve(q, active) - x)[use] / (high - low), first)

    every, best = np.ones(len(x), bool), None
    for bend in (1.0, 4.0):
        for part in (0.0, 0.5):
            for scale in (0.1, 0.3):
                threshold = float(size[use].min() + part * np.ptp(size[use]))
                first = np.array([0.0, 1.0, bend, bend, threshold, threshold, np.log(scale)])
                one = _settle(fitted, first, every, rising, size)
                best = one if best is None or one.cost < best.cost else best
    if best is None or not np.isfinite(best.cost):
        raise MeasurementError("the multi-level model does not fit")
    found, values = best.estimates(int(use.sum())), best.q
    active = size >= np.where(rising, values[4], values[5])
    model = curve(values, active)
    rest, middle = (model - x)[use], x[use] - x[use].mean()
    ends = [Estimate(*(low + (high - low) * q for q in one)) for one in found[:2]]
    scale_v = Estimate(*(float(np.exp(q)) for q in found[6]))
    r2 = 1.0 - float(rest @ rest) / float(middle @ middle)
    rms = float(np.sqrt(np.mean(rest**2)))
    return MultilevelFit(
        ends[0],
        ends[1],
        found[2],
        found[3],
        found[4],
        found[5],
        scale_v,
        r2,
        rms,
        np.where(np.isnan(start), np.nan, model),
    )


class _Best(NamedTuple):
    q: Floats
    cost: float  # sum of squares
    jacobian: Floats

    def estimates(self, n: int) -> list[Estimate]:
        """With intervals from the curvature; nan at a bound, and where the readings do not determine a number."""
        from scipy.stats import t

        free = (self.q > LOW + 1e-6) & (self.q < HIGH - 1e-6) & (np.abs(self.jacobian).max(0) > 0)
        half = np.full(len(self.q), np.nan)
        normal = self.jacobian[:, free].T @ self.jacobian[:, free]
        size = np.sqrt(np.diag(normal))
        if free.any() and np.linalg.cond(normal / np.outer(size, size)) < 1e12:
            variance = self.cost / (n - len(self.q))
            half[free] = float(t.ppf(0.975, n - len(self.q))) * np.sqrt(np.diag(np.linalg.inv(normal)) * variance)
        return [Estimate(float(v), float(v - h), float(v + h)) for v, h in zip(self.q, half, strict=True)]


def _bounded(miss: Callable[[Floats], Floats], first: Floats) -> _Best:
    from scipy.optimize import least_squares

    found = least_squares(
        miss, np.clip(first, LOW + 1e-3, HIGH - 1e-3), bounds=(LOW, HIGH), x_scale="jac", max_nfev=300
    )
    return _Best(np.asarray(found.x), 2.0 * float(found.cost), np.asarray(found.jac, np.float64))


def _settle(
    fitted: Callable[[Floats, NDArray[np.bool_]], _Best],
    first: Floats,
    every: NDArray[np.bool_],
    rising: NDArray[np.bool_],
    size: Floats,
) -> _Best:
    """Fit without a threshold, then leave out what the thresholds found shut out, until that is the same pulses."""
    active = every
    for _ in range(6):
        found = fitted(first, active)
        after = size >= np.where(rising, found.q[4], found.q[5])
        if np.array_equal(after, active):
            break
        first, active = found.q, after
    return found
