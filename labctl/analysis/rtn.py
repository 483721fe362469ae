"""Random telegraph noise: the levels of a read current, how long it stays on each, and whether there is any at all.

A hidden Markov model with normal noise about each level, fitted by expectation–maximisation (Baum et al., Ann. Math.
Stat. 41:164, 1970; Rabiner, Proc. IEEE 77:257, 1989). Needs scipy and numba (the extra `sim`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import UNKNOWN, Estimate, Estimates, Floats, Ints, level, numbers, sampling
from labctl.errors import UsageError

_CONTINUOUS = 12**0.5
"""A record that fills a range evenly has σ = width/√12 within each of the parts that levels cut it into."""


class Rtn(NamedTuple):
    """Levels in rising order. With none found: one level, no dwell times, and `reason` says why."""

    level: Floats  # (states,) in the unit of the record
    part: Floats  # (states,) of the time
    dwell: Estimates  # (states,) mean time on each level in s
    sigma: float  # noise about a level
    state: Ints  # (n,) the likeliest level of each sample
    transitions: int  # that were seen
    whiteness: float  # lag-1 autocorrelation of what the levels leave: near 0 if they explain the record
    reason: str  # "" where RTN was found

    @property
    def found(self) -> bool:
        """Whether the record holds RTN."""
        return len(self.level) > 1

    @property
    def amplitude(self) -> float:
        """ΔI/I: highest level less the lowest, over the mean; nan where there is no RTN."""
        if not self.found:
            return float("nan")
        return float((self.level[-1] - self.level[0]) / abs(self.part @ self.level))

    @property
    def tau_low(self) -> Estimate:
        """Mean dwell (s) on the lower of two levels; nan otherwise."""
        return Estimate(*(float(x[0]) for x in self.dwell)) if len(self.level) == 2 else UNKNOWN

    @property
    def tau_high(self) -> Estimate:
        """Mean dwell (s) on the upper of two levels; nan otherwise."""
        return Estimate(*(float(x[1]) for x in self.dwell)) if len(self.level) == 2 else UNKNOWN


class _Model(NamedTuple):
    mean: Floats
    sigma: float
    move: Floats  # (k, k) probability of going from row to column between samples
    likelihood: float
    posterior: Floats  # (n, k)
    leaving: Floats  # (k,) expected number of departures


def rtn(
    x: ArrayLike,
    interval: float,
    *,
    most: int = 4,
    separation: float = 2.0,
    visits: int = 3,
    confidence: float = 0.95,
) -> Rtn:
    """Find 1 … `most` levels in a record x (n,), samples `interval` s apart, n ≥ 50.

    A level more is believed when Bayes's information criterion (Schwarz, Ann. Stat. 6:461, 1978) gains more than 10 by
    it, neighbouring levels lie `separation`·σ apart, each is visited `visits` times at least, and what the levels leave
    is not correlated by more than 0.2, unless they lie farther apart than any cut through a continuous record can
    (√12·σ: a drift or 1/f noise makes levels too). Dwell times come from the continuous-time rates (log of the
    transition matrix), so visits shorter than an interval are allowed for; dwells below about one interval cannot be
    told from noise. Interval of a dwell: χ² on the number of departures (exact for exponential dwells). Raises
    `UsageError`.
    """
    v, dt = numbers("x", x, 50), sampling(interval)
    level(confidence)
    if most < 1 or visits < 1 or not separation > 0:
        raise UsageError(f"most = {most}, visits = {visits}, separation = {separation}; give values > 0")
    scale = float(v.std())
    if scale == 0:
        return _none(v, "the record is constant")
    z = (v - v.mean()) / scale
    best = _Model(np.zeros(1), 1.0, np.ones((1, 1)), _gauss(z), np.ones((len(z), 1)), np.zeros(1))
    believed, reason = (
        best,
        "one level explains the record as well as more (BIC)" if most > 1 else "one level was asked",
    )
    for k in range(2, most + 1):
        model = _fit(z, k)
        gain = _bic(best, len(z)) - _bic(model, len(z))
        why = _objection(model, z, separation, visits)
        if gain > 10 and not why:
            believed = model
        elif gain > 10 and len(believed.mean) == 1:
            reason = f"{k} levels fit better, but {why}"
        best = model if gain > 0 else best
    if len(believed.mean) == 1:
        return _none(v, reason)
    return _result(believed, v, scale, dt, confidence)


def _result(model: _Model, v: Floats, scale: float, dt: float, confidence: float) -> Rtn:
    from scipy.stats import chi2

    state = model.posterior.argmax(1)
    levels = v.mean() + scale * model.mean
    part = model.posterior.mean(0)
    tau = _dwell(model.move, dt)
    n, tail = model.leaving, (1 - confidence) / 2
    low = tau * 2 * n / np.asarray(chi2.ppf(1 - tail, 2 * n + 2))
    high = tau * 2 * n / np.asarray(chi2.ppf(tail, 2 * n))
    return Rtn(
        levels, part, Estimates(tau, low, high), model.sigma * scale, state.astype(np.int64),
        int(np.count_nonzero(np.diff(state))), _whiteness(v - levels[state]), "",
    )  # fmt: skip


def _none(v: Floats, reason: str) -> Rtn:
    nan = np.full(1, np.nan)
    return Rtn(
        np.array([v.mean()]), np.ones(1), Estimates(nan, nan, nan), float(v.std(ddof=1)), np.zeros(len(v), np.int64), 0,
        _whiteness(v - v.mean()), reason,
    )  # fmt: skip


def _objection(model: _Model, z: Floats, separation: float, visits: int) -> str:
    gap = float(np.diff(model.mean).min()) / model.sigma
    if gap < separation:
        return f"two lie {gap:.2g} σ apart (separation = {separation:g})"
    state = model.posterior.argmax(1)
    entered = np.bincount(state[np.flatnonzero(np.diff(state, prepend=-1))], minlength=len(model.mean))
    if entered.min() < visits:
        return f"one is visited {int(entered.min())} times (visits = {visits}): a drift or a single jump"
    left = _whiteness(z - model.mean[state])
    if left > 0.2 and gap < 1.1 * _CONTINUOUS:
        return f"what they leave is correlated ({left:.2g} at lag 1): drift or 1/f noise"
    return ""


def _dwell(move: Floats, dt: float) -> Floats:
    """Mean dwell from the rates Q of P = e^(Q·dt); where P has no real logarithm, from the discrete chain."""
    from scipy.linalg import logm

    values = np.linalg.eigvals(move)
    if np.all(np.abs(values.imag) < 1e-12) and values.real.min() > 1e-9:
        rates = -np.real(np.diag(np.asarray(logm(move)))) / dt
        if (rates > 0).all():
            return np.asarray(1 / rates)
    with np.errstate(divide="ignore"):
        return np.asarray(-dt / np.log(np.diag(move)))


def _fit(z: Floats, k: int, steps: int = 60) -> _Model:
    """Best of the starts: equal counts a level, and equal distances."""
    low, high = np.quantile(z, [0.02, 0.98])
    starts = [np.quantile(z, (np.arange(k) + 0.5) / k), np.linspace(low, high, k)]
    found = [_improve(z, start, steps) for start in starts]
    return max(found, key=lambda model: model.likelihood)


def _improve(z: Floats, mean: Floats, steps: int) -> _Model:
    k = len(mean)
    gap = float(np.diff(mean).min()) or 0.1
    sigma, move, start = max(gap / 4, 0.05), np.full((k, k), 0.1 / max(k - 1, 1)), np.full(k, 1 / k)
    np.fill_diagonal(move, 0.9)
    before = -np.inf
    for step in range(steps):
        posterior, pairs, likelihood = _expect(z, mean, sigma, move, start)
        weight = posterior.sum(0) + 1e-12
        if likelihood - before < 1e-4 * max(1.0, abs(likelihood) * 1e-4) and step > 3:
            break
        before = likelihood
        mean = posterior.T @ z / weight
        sigma = max(float(np.sqrt(np.sum(posterior * (z[:, None] - mean) ** 2) / len(z))), 1e-3)
        move = (pairs + 1e-12) / (pairs + 1e-12).sum(1, keepdims=True)
        start = posterior[0]
    order = np.argsort(mean)
    leaving = pairs.sum(1) - np.diag(pairs)
    return _Model(
        mean[order], sigma, move[np.ix_(order, order)], likelihood, posterior[:, order], leaving[order]
    )  # fmt: skip


def _expect(z: Floats, mean: Floats, sigma: float, move: Floats, start: Floats) -> tuple[Floats, Floats, float]:
    """Posterior (n, k), expected transitions (k, k), log likelihood."""
    from labctl.analysis.rtn_kernel import expect

    log_density = -0.5 * ((z[:, None] - mean) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)
    top = log_density.max(1, keepdims=True)
    posterior, pairs, likelihood = expect(np.exp(log_density - top), move, start)
    return posterior, pairs, likelihood + float(top.sum())


def _gauss(z: Floats) -> float:
    return float(-0.5 * len(z) * (np.log(2 * np.pi * z.var()) + 1))


def _bic(model: _Model, n: int) -> float:
    k = len(model.mean)
    return -2 * model.likelihood + (k + 1 + k * (k - 1) + (k - 1)) * float(np.log(n))


def _whiteness(x: Floats) -> float:
    d = x - x.mean()
    square = float(d @ d)
    return float(d[1:] @ d[:-1]) / square if square > 0 else 0.0
