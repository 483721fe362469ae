"""Spread of switching parameters: quantiles, cycle to cycle against device to device, memory of earlier cycles.

Input is a list of measured values, one row a cell and cycle, with the cell of each row. Resistances vary over decades:
give their logarithm where a mean or a variance is meant. Cycles of one cell are not independent (the lag-1
autocorrelation of an LRS is about 0.5), cells are: `bootstrap` draws whole cells, and its intervals hold for both.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import UNKNOWN, Estimate, Estimates, Floats, Ints, groups, level, numbers, same_length
from labctl.errors import UsageError


class Cdf(NamedTuple):
    """An empirical distribution, for a plot."""

    x: Floats  # (n,) rising
    p: Floats  # (n,) part of the values that is below: median ranks (i − 0.3)/(n + 0.4), Benard 1953


class Spread(NamedTuple):
    """Where the variance of values lies: within cells from cycle to cycle, and between cells. 95 % intervals."""

    mean: Estimate
    c2c: Estimate  # σ within a cell, in the unit of the values
    d2d: Estimate  # σ of the cells' true means
    share: Estimate  # d2d² / (d2d² + c2c²): the D2D share of the variance
    cells: int
    values: int


class Correlations(NamedTuple):
    """Pearson correlations: within cells (each cell's mean taken off), and of the cells' means."""

    within: Estimate
    between: Estimate


class Memory(NamedTuple):
    """Autocorrelation of cycles; each (lags,)."""

    lag: Ints
    r: Floats  # mean over cells; nan where a lag is longer than the records
    low: Floats
    high: Floats


def cdf(x: ArrayLike) -> Cdf:
    """The empirical distribution of (n,) values; nan are left out. Raises `UsageError` when none is left."""
    v = numbers("x", x, missing=True)
    v = np.sort(v[~np.isnan(v)])
    if not len(v):
        raise UsageError("x holds nothing but nan: no value to order")
    return Cdf(v, np.asarray((np.arange(1, len(v) + 1) - 0.3) / (len(v) + 0.4), np.float64))


def quantiles(x: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Estimates:
    """Quantiles of independent values (n,) at probabilities p (k,), with intervals that no distribution is assumed for.

    An interval runs between two order statistics and covers with at least `confidence` (David and Nagaraja, Order
    Statistics, 2003, section 7.1); its end is ∓inf where n values cannot bound it. nan are left out. For cycles of
    several cells take `bootstrap`.
    """
    from scipy.stats import binom

    v = cdf(x).x
    at = numbers("p", p)
    if at.min() <= 0 or at.max() >= 1:
        raise UsageError("p must lie between 0 and 1")
    n, tail = len(v), (1 - level(confidence)) / 2
    # P(X_(r) ≤ quantile) = P(at least r of n values lie below it), a binomial probability
    r = np.asarray(binom.ppf(tail, n, at), np.int64)
    s = np.asarray(binom.ppf(1 - tail, n, at), np.int64) + 1
    padded = np.concatenate([[-np.inf], v, [np.inf]])
    return Estimates(np.quantile(v, at), padded[r], padded[np.minimum(s, n + 1)])


def bootstrap(
    x: ArrayLike,
    cell: ArrayLike,
    statistic: Callable[[Floats], float] = np.median,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Any statistic of all values, with a percentile interval from drawing whole cells again (Efron and Tibshirani
    1993, chapters 8 and 13).

    x: (n,), nan left out. cell: (n,) or (n, k) labels, such as rows and columns. statistic: (n,) → a number. With fewer
    than about 20 cells the interval is too narrow; with one it is nan. Raises `UsageError`.
    """
    v = numbers("x", x, missing=True)
    names, which = groups("cell", cell)
    same_length(x=v, cell=which)
    tail = (1 - level(confidence)) / 2
    if draws < 1:
        raise UsageError(f"draws = {draws}; give at least 1")
    keep = ~np.isnan(v)
    parts = [v[keep & (which == k)] for k in range(len(names))]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise UsageError("x holds nothing but nan")
    value = float(statistic(np.concatenate(parts)))
    if len(parts) < 2:
        return Estimate(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(parts), size=(draws, len(parts)))
    found = [statistic(np.concatenate([parts[k] for k in row])) for row in drawn.tolist()]
    low, high = np.quantile(found, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def spread(x: ArrayLike, cell: ArrayLike, confidence: float = 0.95) -> Spread:
    """Cycle-to-cycle against device-to-device spread: one-way random-effects analysis of variance.

    x: (n,), nan left out. cell: (n,) or (n, k) labels. σ_c2c² = MSW and σ_d2d² = (MSB − MSW)/n0 (0 when negative); the
    intervals are exact for c2c (χ²) and the share (F), and Williams's for d2d, for normal values and equally many
    cycles a cell (Searle, Casella and McCulloch, Variance Components, 1992, sections 3.6 and 3.8). That of the mean is
    Student's on the cells' means. Correlated cycles make c2c's interval too narrow. What the data cannot tell is nan
    (one cell: no d2d; one cycle a cell: no split).
    """
    from scipy.stats import chi2, f, t

    v = numbers("x", x, missing=True)
    _, which = groups("cell", cell)
    same_length(x=v, cell=which)
    tail = (1 - level(confidence)) / 2
    v, which = v[~np.isnan(v)], which[~np.isnan(v)]
    if not len(v):
        raise UsageError("x holds nothing but nan")
    which = np.unique(which, return_inverse=True)[1]
    count = np.bincount(which)
    cells, n = len(count), len(v)
    own = np.bincount(which, v) / count
    grand = float(v.mean())
    within, between = n - cells, cells - 1
    ssw = float(np.sum((v - own[which]) ** 2))
    ssb = float(np.sum(count * (own - grand) ** 2))
    mean = Estimate(grand, float("nan"), float("nan"))
    if between:
        half = float(t.ppf(1 - tail, between)) * float(np.std(own, ddof=1)) / cells**0.5
        mean = Estimate(float(own.mean()), float(own.mean()) - half, float(own.mean()) + half)
    c2c = d2d = share = UNKNOWN
    if within:
        ends = ssw / np.asarray(chi2.ppf([1 - tail, tail], within))
        c2c = Estimate((ssw / within) ** 0.5, *np.sqrt(ends).tolist())
    if within and between and ssw > 0:
        n0 = (n - float(np.sum(count**2)) / n) / between
        ratio = (ssb / between) / (ssw / within)
        f_low, f_high = np.asarray(f.ppf([1 - tail, tail], between, within)).tolist()
        theta = [max(0.0, (ratio / q - 1) / n0) for q in (1.0, f_low, f_high)]
        share = Estimate(*(x / (1 + x) for x in theta))
        scale = [ssb / n0 / q for q in np.asarray(chi2.ppf([1 - tail, tail], between)).tolist()]
        low, high = (s * (1 - q / ratio) for s, q in zip(scale, (f_low, f_high), strict=True))
        d2d = Estimate((theta[0] * ssw / within) ** 0.5, max(0.0, low) ** 0.5, max(0.0, high) ** 0.5)
    return Spread(mean, c2c, d2d, share, cells, n)


def correlation(x: ArrayLike, y: ArrayLike, cell: ArrayLike | None = None, confidence: float = 0.95) -> Correlations:
    """Pearson correlation of two quantities of the same rows, within cells and between them; intervals by Fisher's z.

    x, y: (n,); rows with a nan are left out. cell: labels; None: one cell. nan where fewer than four degrees of freedom
    are left, or where a quantity does not vary. For what varies over decades give logarithms.
    """
    a, b = numbers("x", x, missing=True), numbers("y", y, missing=True)
    which = np.zeros(len(a), np.int64) if cell is None else groups("cell", cell)[1]
    same_length(x=a, y=b, cell=which)
    level(confidence)
    keep = ~(np.isnan(a) | np.isnan(b))
    a, b = a[keep], b[keep]
    which = np.unique(which[keep], return_inverse=True)[1]
    if not len(a):
        return Correlations(UNKNOWN, UNKNOWN)
    count = np.bincount(which)
    own = np.stack([np.bincount(which, a) / count, np.bincount(which, b) / count])
    within = _pearson(a - own[0][which], b - own[1][which], len(a) - len(count) + 1, confidence)
    return Correlations(within, _pearson(own[0], own[1], len(count), confidence))


def autocorrelation(x: ArrayLike, lags: int = 10, confidence: float = 0.95) -> Memory:
    """Correlation of a cycle with the one `lag` cycles before it, at lags 1 … `lags`.

    x: (cycles,) of one cell, or (cells, cycles); nan (a cycle without switching) leaves out its pairs. r is the mean
    over cells of Σ(x_k − m)(x_{k+lag} − m)/pairs over the variance: biased by about −(1 + Σr)/cycles, as any estimate
    that takes the record's own mean is (Marriott and Pope, Biometrika 41:390, 1954). The interval is Student's over
    cells; of one cell it is Bartlett's (J. R. Stat. Soc. Suppl. 8:27, 1946): ±z·√((1 + 2·Σ_{j<lag} r_j²)/cycles).
    """
    from scipy.stats import norm, t

    table = np.atleast_2d(np.asarray(x, np.float64))
    if table.ndim != 2 or table.shape[1] < 3 or np.isinf(table).any():
        raise UsageError(
            f"x has shape {table.shape}; give (cells, cycles) of finite numbers (or nan), 3 cycles at least"
        )
    if lags < 1:
        raise UsageError(f"lags = {lags}; give at least 1")
    tail = (1 - level(confidence)) / 2
    lag = np.arange(1, lags + 1)
    each = np.stack([_lagged(row, lag) for row in table])
    known = (~np.isnan(each)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.nansum(each, 0) / np.where(known > 0, known, np.nan)
        if len(table) > 1:
            scatter = np.sqrt(np.nansum((each - r) ** 2, 0) / np.where(known > 1, known - 1, np.nan))
            half = t.ppf(1 - tail, np.maximum(known - 1, 1)) * scatter / np.sqrt(known)
        else:
            before = np.concatenate([[0.0], np.cumsum(r[:-1] ** 2)])
            half = float(norm.ppf(1 - tail)) * np.sqrt((1 + 2 * before) / int((~np.isnan(table)).sum()))
    return Memory(lag.astype(np.int64), r, r - half, r + half)


def _lagged(row: Floats, lag: Ints) -> Floats:
    d = row - (np.nanmean(row) if (~np.isnan(row)).any() else np.nan)
    variance = np.nanmean(d**2) if (~np.isnan(d)).any() else np.nan
    out = np.full(len(lag), np.nan)
    for k in lag[lag < len(row)].tolist():
        product = d[k:] * d[:-k]
        if variance > 0 and (~np.isnan(product)).any():
            out[k - 1] = np.nanmean(product) / variance
    return out


def _pearson(a: Floats, b: Floats, n: int, confidence: float) -> Estimate:
    """Of deviations or values; `n`: independent rows."""
    from scipy.stats import norm

    a, b = a - a.mean(), b - b.mean()
    norms = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    if n < 4 or norms == 0:
        return UNKNOWN
    r = float(np.clip(np.sum(a * b) / norms, -1, 1))
    if abs(r) == 1:
        return Estimate(r, r, r)
    half = float(norm.ppf(0.5 + confidence / 2)) / (n - 3) ** 0.5
    z = float(np.arctanh(r))
    return Estimate(r, float(np.tanh(z - half)), float(np.tanh(z + half)))
