"""How well conductance levels can be told apart: spread, errors between levels, bits a cell holds, states that fit.

Input is a list of readings: the number of the level each cell was programmed to, and the conductance it showed, one
row a reading (cells, repeats and times in any order; an error matrix over time is one call a time). A reading that
could not be resolved is nan: it is counted as lost, never left out.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import Estimate, Estimates, Floats, Ints, numbers, proportion, same_length
from labctl.errors import UsageError


class LevelSpread(NamedTuple):
    """What became of each level; nan where none of its readings is left (σ: fewer than two)."""

    target: Floats  # (levels,) S
    n: Ints  # (levels,) readings that count
    lost: Ints  # (levels,) readings that could not be resolved
    mean: Floats  # (levels,) S
    sigma: Floats  # (levels,) S, standard deviation of the readings
    error: Floats  # (levels,) S, mean − target


class Overlap(NamedTuple):
    """Neighbours in the table, the lower one first; each (levels − 1,)."""

    sigmas: Floats  # distance of the means over the sum of their σ: k means that mean ± kσ just touch
    crossed: Floats  # probability that a reading of the lower level lies above one of the upper level: 0 … 1


class Confusion(NamedTuple):
    """counts[i, j]: readings of level i taken for level j; the last column: for none (outside every band, or lost)."""

    counts: Ints  # (levels, levels + 1)

    @property
    def misread(self) -> Estimates:
        """Probability that a reading of each level is not taken for it, with exact 95 % intervals; (levels,)."""
        total = self.counts.sum(1)
        return proportion(total - np.diag(self.counts), total)

    @property
    def misread_all(self) -> Estimate:
        """The same over all readings (levels weighted by their readings)."""
        total = int(self.counts.sum())
        value, low, high = proportion([total - int(np.trace(self.counts))], [total])
        return Estimate(float(value[0]), float(low[0]), float(high[0]))

    def bit_error_rate(self, gray: bool = True) -> float:
        """Wrong bits over bits, all levels equally likely; their number must be a power of two.

        Gray coding (neighbours differ in one bit; Gray, US patent 2632058, 1953) or plain binary. A reading taken for
        no level has half its bits wrong: its bits must be guessed. nan where a level has no reading.
        """
        n = len(self.counts)
        bits = n.bit_length() - 1
        if n != 1 << bits or not bits:
            raise UsageError(f"{n} levels do not carry whole bits; a bit error rate needs 2, 4, 8, … levels")
        code = np.arange(n)
        if gray:
            code ^= code >> 1
        wrong = np.bitwise_count(code[:, None] ^ code[None, :]).astype(np.float64)
        wrong = np.column_stack([wrong, np.full(n, bits / 2)])
        return float(np.mean((self._given * wrong).sum(1) / bits))

    @property
    def bits(self) -> float:
        """Bits that a reading tells of its level, the levels equally likely: mutual information I(X; Y).

        I = Σ p(x)·p(y|x)·log2(p(y|x)/p(y)) (Shannon, Bell Syst. Tech. J. 27:379, 1948; for resistive memories Zarcone
        et al., Sci. Rep. 10:6831, 2020), less the excess that counting finitely many readings makes,
        (pairs seen − rows seen − columns seen + 1)/(2N·ln 2) (Miller 1955; Roulston, Physica D 125:285, 1999). At most
        log2(levels). nan where a level has no reading.
        """
        given = self._given
        if np.isnan(given).any():
            return float("nan")
        information = _information(given, np.full(len(given), 1 / len(given)))
        seen = self.counts > 0
        excess = int(seen.sum()) - int(seen.any(1).sum()) - int(seen.any(0).sum()) + 1
        corrected = information - excess / (2 * int(self.counts.sum()) * float(np.log(2)))
        return min(max(0.0, corrected), float(np.log2(len(given))))

    def capacity(self, tolerance: float = 1e-6) -> float:
        """Bits a reading could tell with the best choice of how often each level is used: the channel's capacity.

        Blahut's iteration (IEEE Trans. Inf. Theory 18:460, 1972) to `tolerance` bits; not corrected for the number of
        readings, so it is high where they are few. nan where a level has no reading.
        """
        given = self._given
        if np.isnan(given).any():
            return float("nan")
        p = np.full(len(given), 1 / len(given))
        for _ in range(100_000):
            y = p @ given
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = np.where(given > 0, given * np.log2(given / y), 0.0).sum(1)
            low, high = float(np.log2(p @ 2.0**gain)), float(gain.max())
            if high - low < tolerance:
                break
            p = p * 2.0**gain
            p /= p.sum()
        return low

    @property
    def _given(self) -> Floats:
        """p(read as | programmed to), (levels, levels + 1)."""
        total = self.counts.sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.counts / np.where(total > 0, total, np.nan))


def level_spread(number: ArrayLike, g: ArrayLike, targets: ArrayLike) -> LevelSpread:
    """Mean, spread and error of each level.

    number: (n,) level that each reading's cell was programmed to, 0 … levels − 1. g: (n,) S, nan where unresolved.
    targets: (levels,) S, rising. Raises `UsageError` for input that does not fit together.
    """
    which, x, t = _checked(number, g, targets)
    ok = ~np.isnan(x)
    count = np.bincount(which[ok], minlength=len(t))
    lost = np.bincount(which[~ok], minlength=len(t))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(which[ok], x[ok], len(t)) / count
        square = np.bincount(which[ok], (x[ok] - mean[which[ok]]) ** 2, len(t))
        sigma = np.sqrt(square / np.where(count > 1, count - 1, np.nan))
    return LevelSpread(t, count, lost, mean, sigma, mean - t)


def overlap(number: ArrayLike, g: ArrayLike, targets: ArrayLike) -> Overlap:
    """How far neighbouring levels lie apart; arguments and errors as `level_spread`. nan where a level is empty.

    crossed is Mann and Whitney's U over the number of pairs (no distribution assumed; ties count half).
    """
    which, x, t = _checked(number, g, targets)
    table = level_spread(which, x, t)
    with np.errstate(invalid="ignore", divide="ignore"):
        sigmas = np.diff(table.mean) / (table.sigma[1:] + table.sigma[:-1])
    crossed = np.full(len(t) - 1, np.nan)
    parts = [np.sort(x[(which == k) & ~np.isnan(x)]) for k in range(len(t))]
    for k, (low, high) in enumerate(pairwise(parts)):
        if len(low) and len(high):
            below = np.searchsorted(high, low, "left") + np.searchsorted(high, low, "right")
            crossed[k] = below.mean() / 2 / len(high)
    return Overlap(sigmas, crossed)


def confusion(number: ArrayLike, g: ArrayLike, targets: ArrayLike, band: ArrayLike | None = None) -> Confusion:
    """What each reading is taken for: the nearest target, or, with `band`, the one within whose band it lies.

    band: half-width in S, one for all or (levels,); bands may touch, not overlap. Arguments and errors as
    `level_spread`.
    """
    which, x, t = _checked(number, g, targets)
    nearest = np.searchsorted((t[1:] + t[:-1]) / 2, x)
    taken = np.where(np.isnan(x), len(t), np.minimum(nearest, len(t) - 1))
    if band is not None:
        half = np.broadcast_to(np.asarray(band, np.float64), t.shape)
        if not (np.isfinite(half).all() and half.min() > 0):
            raise UsageError(f"band = {band} S; give half-widths > 0")
        if np.any((t + half)[:-1] > (t - half)[1:] * (1 + 1e-9)):
            k = int(np.argmax((t + half)[:-1] - (t - half)[1:]))
            raise UsageError(f"the bands of levels {k} and {k + 1} overlap; make them narrower than their distance")
        at = np.maximum(np.searchsorted(t - half * (1 + 1e-9), x, "right") - 1, 0)
        taken = np.where(np.abs(x - t[at]) <= half[at] * (1 + 1e-9), at, len(t))
    counts = np.bincount(which * (len(t) + 1) + taken, minlength=len(t) * (len(t) + 1))
    return Confusion(counts.reshape(len(t), -1).astype(np.int64))


def effective_bits(error: ArrayLike, full_scale: float) -> float:
    """log2(full_scale/(rms(error)·√12)): the bits of an ideal quantiser with the same rms error.

    IEEE Std 1241-2010, 4.5.5 (effective number of bits), for any error in the unit of `full_scale`: conductances
    against their targets (full_scale = g_max − g_min), weights, or products. inf for no error; negative when the error
    exceeds what guessing would make. Raises `UsageError` on nan.
    """
    e = numbers("error", np.ravel(np.asarray(error, np.float64)))
    if not (np.isfinite(full_scale) and full_scale > 0):
        raise UsageError(f"full_scale = {full_scale} must be finite and > 0")
    rms = float(np.sqrt(np.mean(e**2)))
    return float(np.log2(full_scale / (rms * np.sqrt(12)))) if rms else float("inf")


def states(g: ArrayLike, sigma: ArrayLike, k: float = 3.0) -> Floats:
    """The conductances (S) of the largest number of states whose intervals G ± k·σ(G) do not overlap; rising.

    g, sigma: (n,) S, where the spread is known (g rises; between them σ is a line): the means and σ of `level_spread`,
    or any σ(G). The next state is always the one whose interval ends first, which makes their number the largest
    (interval scheduling: Kleinberg and Tardos, Algorithm Design, 2005, section 4.1). Raises `UsageError`.
    """
    x, s = numbers("g", g, 2), numbers("sigma", sigma, 2)
    same_length(g=x, sigma=s)
    if not (np.diff(x) > 0).all() or s.min() <= 0:
        raise UsageError("g must rise, and every sigma must be > 0")
    if not (np.isfinite(k) and k > 0):
        raise UsageError(f"k = {k}; give k > 0")
    begin, end = x - k * s, x + k * s
    chosen: list[float] = []
    last, slack = -np.inf, 1e-12 * float(np.abs(x).max())
    while True:
        # both ends are lines between the points: the best place is a point, or where an interval begins at `last`
        d = begin - last
        free = d >= -slack
        across = np.flatnonzero((d[:-1] < 0) != (d[1:] < 0))
        part = d[across] / (d[across] - d[across + 1]) if np.isfinite(last) else across[:0]
        across = across[: len(part)]
        at = np.concatenate([x[free], x[across] + part * np.diff(x)[across]])
        ends = np.concatenate([end[free], end[across] + part * np.diff(end)[across]])
        if not len(at):
            return np.array(chosen)
        best = int(np.argmin(ends))
        chosen.append(float(at[best]))
        last = float(ends[best])


def _information(given: Floats, p: Floats) -> float:
    y = p @ given
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(given > 0, given * np.log2(given / y), 0.0)
    return float(p @ terms.sum(1))


def _checked(number: ArrayLike, g: ArrayLike, targets: ArrayLike) -> tuple[Ints, Floats, Floats]:
    t, x = numbers("targets", targets, 2), numbers("g", g, missing=True)
    if not (np.diff(t) > 0).all():
        raise UsageError("targets must rise: each level above the one before")
    which = np.asarray(number)
    if which.shape != x.shape or which.dtype.kind not in "iu":
        raise UsageError(f"number is {which.dtype} of shape {which.shape}; give the level of each of {len(x)} readings")
    if which.min() < 0 or which.max() >= len(t):
        raise UsageError(f"levels {which.min()} … {which.max()} are named; there are 0 … {len(t) - 1}")
    return which.astype(np.int64), x, t
