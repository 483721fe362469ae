"""Whether stress on a line moves its unselected cells: shift against stress count, with tests and against a control.

Cells also relax by themselves. A shift that counts as disturb is one that stressed cells show and a control, read at
the same times without stress, does not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import UNKNOWN, Estimate, Floats, Ints, level, numbers
from labctl.errors import UsageError


class Shift(NamedTuple):
    """Shift of the cells since the first reading; each (steps,)."""

    stress: Floats  # stress pulses before the reading
    n: Ints  # cells read
    mean: Floats  # S
    low: Floats
    high: Floats
    sigma: Floats  # S, over cells
    p: Floats  # of no shift: Wilcoxon's signed-rank test over cells, corrected for the number of readings (Holm)


class Disturb(NamedTuple):
    """Shift for each decade of stress: slope of G against log10(1 + count), a slope a cell."""

    slope: Estimate  # S a decade, mean over cells (less the control's, if there is one)
    p: float  # of no slope (Wilcoxon), or of the same slope as the control (Mann and Whitney)
    moved: int  # cells whose own slope is significant at `1 − confidence`, corrected for the number of cells (Holm)
    cells: int


def shift(count: ArrayLike, g: ArrayLike, confidence: float = 0.95) -> Shift:
    """Shift at each reading: count (steps,) rising, g (cells, steps) in S, nan where unread. Raises `UsageError`.

    The first step is the reading before stress: its shift is 0 and its p is nan.
    """
    from scipy.stats import t, wilcoxon

    stress, x = _checked(count, g)
    d = x - x[:, :1]
    n = (~np.isnan(d)).sum(0)
    free = np.maximum(n - 1, 1)
    enough = np.where(n > 1, 1.0, np.nan)
    mean = np.nansum(d, 0) / np.maximum(n, 1) * enough
    sigma = np.sqrt(np.nansum((d - mean) ** 2, 0) / free) * enough
    half = np.asarray(t.ppf(0.5 + level(confidence) / 2, free)) * sigma / np.sqrt(np.maximum(n, 1))
    p = np.full(len(stress), np.nan)
    for k in range(1, len(stress)):
        moved = d[~np.isnan(d[:, k]), k]
        if len(moved) > 1:
            p[k] = wilcoxon(moved).pvalue if np.any(moved) else 1.0
    return Shift(stress, n.astype(np.int64), mean, mean - half, mean + half, sigma, holm(p))


def disturb(count: ArrayLike, g: ArrayLike, control: ArrayLike | None = None, confidence: float = 0.95) -> Disturb:
    """Drift of the cells with stress: count (steps,), g and control (cells, steps) in S, read at the same steps.

    With a control, slope is the difference of the means with Welch's interval, and p compares the two groups; without,
    relaxation counts as disturb. Each cell needs three readings; others are left out. Raises `UsageError`.
    """
    from scipy.stats import mannwhitneyu, t, wilcoxon

    stress, x = _checked(count, g)
    slopes, own = _slopes(stress, x)
    moved = int(np.sum(holm(own) < 1 - level(confidence)))
    if len(slopes) < 2:
        return Disturb(UNKNOWN, float("nan"), moved, len(slopes))
    mean, variance = float(slopes.mean()), float(slopes.var(ddof=1)) / len(slopes)
    free = len(slopes) - 1.0
    if control is None:
        p = float(wilcoxon(slopes).pvalue) if np.any(slopes) else 1.0
    else:
        rest, _ = _slopes(*_checked(count, control))
        if len(rest) < 2:
            raise UsageError(f"the control has {len(rest)} cells with three readings; it needs two at least")
        p = float(mannwhitneyu(slopes, rest).pvalue)
        own_variance, variance_rest = variance, float(rest.var(ddof=1)) / len(rest)
        mean, variance = mean - float(rest.mean()), variance + variance_rest
        welch = own_variance**2 / free + variance_rest**2 / (len(rest) - 1)
        free = variance**2 / welch if welch > 0 else free
    half = float(t.ppf(0.5 + confidence / 2, free)) * variance**0.5
    return Disturb(Estimate(mean, mean - half, mean + half), p, moved, len(slopes))


def holm(p: ArrayLike) -> Floats:
    """p values (n,) corrected for their number (Holm, Scand. J. Stat. 6:65, 1979); nan stay nan and do not count."""
    x = np.asarray(p, np.float64)
    out = np.full(x.shape, np.nan)
    known = np.flatnonzero(~np.isnan(x))
    order = known[np.argsort(x[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(x[order] * np.arange(len(order), 0, -1)), 1.0)
    return out


def _slopes(count: Floats, g: Floats) -> tuple[Floats, Floats]:
    """Slope a cell and its p, of the cells that were read three times."""
    from scipy.stats import t

    x = np.log10(1 + count)
    slopes, p = [], []
    for row in g:
        ok = ~np.isnan(row)
        if ok.sum() < 3 or np.ptp(x[ok]) == 0:
            continue
        d, y = x[ok] - x[ok].mean(), row[ok]
        slope = float(d @ y / (d @ d))
        rest = y - y.mean() - slope * d
        error = (float(rest @ rest) / (len(y) - 2) / float(d @ d)) ** 0.5
        slopes.append(slope)
        p.append(2 * float(t.sf(abs(slope) / error, len(y) - 2)) if error > 0 else float(slope == 0))
    return np.array(slopes), np.array(p)


def _checked(count: ArrayLike, g: ArrayLike) -> tuple[Floats, Floats]:
    stress, x = numbers("count", count, 2), np.asarray(g, np.float64)
    if stress[0] < 0 or not (np.diff(stress) > 0).all():
        raise UsageError("count must rise from the reading before stress: 0 or more pulses, each more than before")
    if x.ndim != 2 or x.shape[1] != len(stress) or np.isinf(x).any():
        raise UsageError(f"g has shape {x.shape} for {len(stress)} counts; give (cells, steps), nan where unread")
    return stress, x
