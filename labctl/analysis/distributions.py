"""Weibull and log-normal distributions fitted to positive values, with how well they hold.

Forming and switching voltages follow a Weibull distribution (the weakest spot decides), resistances and lifetimes
often a log-normal one. Values that were not reached (a cell that had not formed when the ramp ended, a cell that had
not failed when the test ended) are censored: they count as "above this", never left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.estimate import Estimate, Floats, level, positive, same_length
from labctl.errors import MeasurementError, UsageError


class Fit(NamedTuple):
    """A distribution on two parameters, with likelihood intervals, and how well it holds.

    Weibull: F = 1 − e^(−(x/scale)^shape), scale the 63 % quantile. Log-normal: scale the median, shape = σ(ln x).
    """

    name: str  # weibull or lognormal
    scale: Estimate  # in the unit of the values
    shape: Estimate
    log_likelihood: float
    distance: float  # Anderson and Darling's A²; nan with censored values
    p: float  # probability of a larger distance if the distribution is right; nan with censored values
    n: int
    censored: int

    def quantile(self, p: ArrayLike) -> Floats:
        """The fitted quantile at each probability."""
        from scipy.stats import norm

        at = np.asarray(p, np.float64)
        if self.name == "weibull":
            return np.asarray(self.scale.value * (-np.log1p(-at)) ** (1 / self.shape.value))
        return np.asarray(self.scale.value * np.exp(self.shape.value * norm.ppf(at)))


def fit_weibull(
    x: ArrayLike, censored: ArrayLike | None = None, *, confidence: float = 0.95, draws: int = 1000, seed: int = 0
) -> Fit:
    """Maximum likelihood on (n,) values > 0; `censored` (n,) bool marks those that are only lower limits.

    Intervals from the likelihood ratio (Meeker and Escobar, Statistical Methods for Reliability Data, 1998, section
    8.3). p from `draws` samples of the fitted distribution, each fitted again (Stephens, J. Am. Stat. Assoc. 69:730,
    1974: A² does not depend on the parameters). Raises `UsageError` for input that is not positive,
    `MeasurementError` when fewer than three values, or none but equal ones, were reached.
    """
    return _fit("weibull", x, censored, confidence, draws, seed)


def fit_lognormal(
    x: ArrayLike, censored: ArrayLike | None = None, *, confidence: float = 0.95, draws: int = 1000, seed: int = 0
) -> Fit:
    """The same for a log-normal distribution."""
    return _fit("lognormal", x, censored, confidence, draws, seed)


def weibull_plot(x: ArrayLike) -> tuple[Floats, Floats]:
    """(ln x, ln(−ln(1 − F))), each (n,), rising: a Weibull distribution lies on a line of slope `shape`."""
    from labctl.analysis.statistics import cdf

    drawn = cdf(positive("x", x))
    return np.log(drawn.x), np.log(-np.log1p(-drawn.p))


def _fit(name: str, x: ArrayLike, censored: ArrayLike | None, confidence: float, draws: int, seed: int) -> Fit:
    from scipy.stats import chi2

    v = positive("x", x)
    cut = np.zeros(len(v), bool) if censored is None else np.asarray(censored)
    if cut.dtype != bool:
        raise UsageError(f"censored is {cut.dtype}; give True or False for each value")
    same_length(x=v, censored=cut)
    drop = float(chi2.ppf(level(confidence), 1)) / 2
    reached = v[~cut]
    if len(reached) < 3 or np.ptp(reached) == 0:
        raise MeasurementError(
            f"{len(reached)} of {len(v)} values were reached, {len(np.unique(reached))} different ones; a distribution"
            " needs three values at least, and not all equal"
        )
    y = np.log(v)
    m, s = (float(q[0]) for q in _maximum(name, y[None], cut))
    best = _likelihood(name, y, cut, m, s)
    low_m, high_m = (_edge(name, y, cut, m, s, best - drop, sign, "location") for sign in (-1.0, 1.0))
    low_s, high_s = (_edge(name, y, cut, m, s, best - drop, sign, "spread") for sign in (-1.0, 1.0))
    distance = p = float("nan")
    if not cut.any() and draws > 0:
        distance = float(_anderson_darling(name, y[None], m, s)[0])
        z = np.random.default_rng(seed).random((draws, len(y)))
        drawn = np.log(-np.log1p(-z)) if name == "weibull" else _normal_quantile(z)
        mz, sz = _maximum(name, drawn, cut)
        p = float(np.mean(_anderson_darling(name, drawn, mz[:, None], sz[:, None]) >= distance))
    scale = Estimate(*(float(np.exp(q)) for q in (m, low_m, high_m)))
    shape = Estimate(s, low_s, high_s) if name == "lognormal" else Estimate(1 / s, 1 / high_s, 1 / low_s)
    total = best - float(y[~cut].sum())  # the density of x, not of ln x
    return Fit(name, scale, shape, total, distance, p, len(v), int(cut.sum()))


# In y = ln x both are location–scale families: z = (y − m)/s is standard normal, or Gumbel's smallest extreme value.


def _likelihood(name: str, y: Floats, cut: NDArray[np.bool_], m: float, s: float) -> float:
    from scipy.special import log_ndtr

    z = (y - m) / s
    reached, beyond = z[~cut], z[cut]
    if name == "weibull":
        if z.max() > 500:  # hopelessly far out: e^z is beyond a float's range
            return -np.inf
        return float(np.sum(reached - np.log(s)) - np.exp(z).sum())
    density = -0.5 * reached**2 - np.log(s) - 0.5 * np.log(2 * np.pi)
    return float(density.sum() + log_ndtr(-beyond).sum())


def _maximum(name: str, y: Floats, cut: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """m, s of each row of y (rows, n)."""
    if name == "lognormal":
        if not cut.any():
            return y.mean(1), y.std(1)
        return _censored_normal(y[0], cut)
    # Weibull: one equation for k = 1/s: Σ y·e^(k·y)/Σ e^(k·y) − 1/k = mean of the reached y; by Newton in ln k
    top = y.max(1, keepdims=True)
    d = y - top
    mean = d[:, ~cut].mean(1)
    k = 1.2825 / np.maximum(y[:, ~cut].std(1), 1e-12)
    for _ in range(60):
        w = np.exp(k[:, None] * d)
        s0, s1, s2 = w.sum(1), (w * d).sum(1), (w * d * d).sum(1)
        value = s1 / s0 - 1 / k - mean
        slope = (s2 / s0 - (s1 / s0) ** 2) + 1 / k**2
        step = np.clip(value / (slope * k), -1.0, 1.0)
        k = k * np.exp(-step)
        if np.abs(step).max() < 1e-12:
            break
    w = np.exp(k[:, None] * d)
    m = top[:, 0] + np.log(w.sum(1) / int((~cut).sum())) / k
    return m, 1 / k


def _censored_normal(y: Floats, cut: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    from scipy.optimize import minimize

    start = np.array([y[~cut].mean(), np.log(y[~cut].std())])

    def miss(q: Floats) -> float:
        return -_likelihood("lognormal", y, cut, float(q[0]), float(np.exp(q[1])))

    best = minimize(miss, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000})
    return np.array([best.x[0]]), np.array([np.exp(best.x[1])])


def _edge(
    name: str, y: Floats, cut: NDArray[np.bool_], m: float, s: float, target: float, sign: float, which: str
) -> float:
    """Where the profile likelihood of one parameter has fallen to `target`."""
    from scipy.optimize import brentq, minimize_scalar

    def profile(q: float) -> float:
        def other(u: float) -> float:
            at = (q, s * np.exp(u)) if which == "location" else (m + u * s, q)
            value = _likelihood(name, y, cut, float(at[0]), float(at[1]))
            return -value if np.isfinite(value) else 1e300

        found = minimize_scalar(other, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-7})
        return -float(found.fun)

    near, step = (m, s / len(y) ** 0.5) if which == "location" else (s, s * 0.5 / len(y) ** 0.5)
    far = near
    for _ in range(60):
        far = near + sign * step if which == "location" else near * float(np.exp(sign * step / near))
        if profile(far) < target:
            break
        step *= 1.6
    else:
        return float("nan")
    return float(brentq(lambda q: profile(q) - target, min(near, far), max(near, far), xtol=1e-9, rtol=1e-7))


def _anderson_darling(name: str, y: Floats, m: Floats | float, s: Floats | float) -> Floats:
    """A² of each row of y (rows, n)."""
    from scipy.special import log_ndtr

    z = np.sort((y - m) / s, axis=1)
    if name == "weibull":
        log_below, log_above = np.log(-np.expm1(-np.exp(z))), -np.exp(z)
    else:
        log_below, log_above = log_ndtr(z), log_ndtr(-z)
    n = z.shape[1]
    odd = 2 * np.arange(1, n + 1) - 1
    return np.asarray(-n - (odd * (log_below + log_above[:, ::-1])).sum(1) / n)


def _normal_quantile(p: Floats) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(p))
