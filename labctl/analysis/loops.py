"""What is read off recorded I–V loops of a memristor: switching voltages, resistances, the curves between them.

v = v_bl - v_sl in V and i in A, positive from BL to SL; a SET takes positive v, a RESET negative v. A loop goes out and
back once on each side, in any order of the sides, from anywhere near 0 V.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
SWITCHED = 1.2
"""A side whose resistance changes by less than this factor did not switch."""
NOISE = 4.0
"""Nor did one whose current at the read voltage changes by less than so many σ of the samples there."""


class Features(NamedTuple):
    """One row a cycle; nan where a side is missing, does not reach the read voltage, or did not switch."""

    cycle: Ints  # (cycles,) numbers given, in order of appearance
    r_hrs: Floats  # (cycles,) Ω, at +v_read before the SET
    v_set: Floats  # (cycles,) V, > 0: half-way between the samples across which the current jumps most
    r_lrs: Floats  # (cycles,) Ω, at +v_read after the SET
    v_reset: Floats  # (cycles,) V, < 0: half a sample beyond the largest |current| before the conductance falls most
    abrupt: Floats  # (cycles,) part of the SET's change of ln R that its largest jump makes: 1 abrupt, near 0 gradual

    def table(self) -> Floats:
        """(cycles, 4): r_hrs, v_set, r_lrs, v_reset, as `labctl.models.fit_generative` takes them for one device."""
        return np.stack([self.r_hrs, self.v_set, self.r_lrs, self.v_reset], axis=1)


class Curves(NamedTuple):
    """Samples on curves along which the state does not move, with the conductance of that state at v_read."""

    v: Floats  # (n,) V
    i: Floats  # (n,) A
    g: Floats  # (n,) S


class Transitions(NamedTuple):
    """Samples of gradual RESETs, on the way from each one's start to the peak."""

    v: Floats  # (n,) V, < 0
    i: Floats  # (n,) A
    start: Floats  # (n,) V: v_reset of the loop the sample belongs to


class _Side(NamedTuple):
    """One side of a loop, polarity taken out: |v| rising to the peak, then falling."""

    v: Floats
    i: Floats
    peak: int


def set_reset_features(v: ArrayLike, i: ArrayLike, cycle: ArrayLike, v_read: float = 0.2) -> Features:
    """Switching voltages and resistances of each cycle; v, i and cycle (a number a sample) are (n,).

    Resistances are those at v_read (V, > 0), of a parabola through the samples around. Raises `UsageError` for input
    that is not finite, not of one shape, or for cycles that come back after another has begun.
    """
    volts, amps, numbers, parts = _checked(v, i, cycle, v_read)
    rows = np.full((len(parts), 5), np.nan)
    for row, part in zip(rows, parts, strict=True):
        up, down = _side(volts[part], amps[part], 1.0), _side(volts[part], amps[part], -1.0)
        if up is not None:
            before, after = _branches_at(up, v_read)
            row[0], row[2] = before, after
            if before > SWITCHED * after and v_read / after - v_read / before > NOISE * _noise(up, v_read):
                step = np.diff(up.i[: up.peak + 1])
                k = int(np.argmax(step))
                row[1] = (up.v[k] + up.v[k + 1]) / 2
                with np.errstate(divide="ignore", invalid="ignore"):
                    jump = np.log(up.i[k + 1] / up.v[k + 1]) - np.log(up.i[k] / up.v[k])
                row[4] = min(1.0, float(jump / np.log(before / after)))
        if down is not None:
            before, after = _branches_at(down, v_read)
            k = int(np.argmax(down.i[: _falls(down, v_read) + 1]))
            change = v_read / before - v_read / after
            if after > SWITCHED * before and k < down.peak and change > NOISE * _noise(down, v_read):
                row[3] = -(down.v[k] + down.v[k + 1]) / 2
    return Features(numbers, *rows.T)


def state_curves(v: ArrayLike, i: ArrayLike, cycle: ArrayLike, v_read: float = 0.2) -> Curves:
    """The parts of loops on which a state rests, for fitting its I–V curve; g is the state's conductance at +v_read.

    HRS: before a SET, and on the way back from a RESET; LRS: on the way back from a SET, and before the RESET. The
    RESET side takes its g from the SET side beside it, next for the HRS, last for the LRS. The sample beside a
    switching is left out. Raises as `set_reset_features` does.
    """
    volts, amps, _, parts = _checked(v, i, cycle, v_read)
    found = set_reset_features(v, i, cycle, v_read)
    sides: list[tuple[float, _Side, float]] = []  # in the order of time
    for part, v_set, v_reset in zip(parts, found.v_set, found.v_reset, strict=True):
        both = [(s, _side(volts[part], amps[part], s), e) for s, e in ((1.0, v_set), (-1.0, -v_reset))]
        sides += sorted(
            ((s, o, e) for s, o, e in both if o is not None), key=lambda x: float(np.argmax(x[0] * volts[part]))
        )
    missing = (float("nan"), float("nan"))
    reads = [missing] + [_branches_at(o, v_read) if s > 0 else missing for s, o, _ in sides] + [missing]
    out: list[Floats] = []
    for k, (sign, side, edge) in enumerate(sides, 1):
        before, after = reads[k] if sign > 0 else (reads[k - 1][1], reads[k + 1][0])
        step = np.abs(np.diff(side.v)).max()
        rising, falling = slice(0, side.peak), slice(side.peak, None)
        for branch, keep, r in (
            (rising, side.v[rising] < edge - step, before),
            (falling, side.v[falling] > 0, after),
        ):
            if np.isfinite(r) and np.isfinite(edge):
                x, y = side.v[branch][keep], side.i[branch][keep]
                out.append(np.stack([sign * x, sign * y, np.full(len(x), 1.0 / r)]))
    if not out:
        raise UsageError("no loop switches and reaches the read voltage on both branches; give whole I–V loops")
    return Curves(*np.concatenate(out, axis=1))


def reset_transitions(v: ArrayLike, i: ArrayLike, cycle: ArrayLike, v_read: float = 0.2) -> Transitions:
    """The way of each RESET, for fitting its shape. Raises as `set_reset_features` does."""
    volts, amps, _, parts = _checked(v, i, cycle, v_read)
    out = [np.empty((3, 0))]
    for part, v_reset in zip(parts, set_reset_features(v, i, cycle, v_read).v_reset, strict=True):
        side = _side(volts[part], amps[part], -1.0)
        if side is not None and not np.isnan(v_reset):
            x, y = -side.v[: side.peak + 1], -side.i[: side.peak + 1]
            keep = x < v_reset
            out.append(np.stack([x[keep], y[keep], np.full(keep.sum(), v_reset)]))
    return Transitions(*np.concatenate(out, axis=1))


def _checked(v: ArrayLike, i: ArrayLike, cycle: ArrayLike, v_read: float) -> tuple[Floats, Floats, Ints, list[slice]]:
    volts, amps, numbers = np.asarray(v, np.float64), np.asarray(i, np.float64), np.asarray(cycle)
    if volts.ndim != 1 or not volts.shape == amps.shape == numbers.shape or not volts.size:
        raise UsageError(f"v, i and cycle have shapes {volts.shape}, {amps.shape}, {numbers.shape}; give three lists")
    if not np.issubdtype(numbers.dtype, np.integer):
        raise UsageError(f"cycle is {numbers.dtype}; give whole numbers")
    if not (np.isfinite(volts).all() and np.isfinite(amps).all()):
        raise UsageError("v or i contains NaN or infinity; leave out samples that were not measured")
    if not (np.isfinite(v_read) and v_read > 0):
        raise UsageError(f"v_read = {v_read} V; give a voltage > 0")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1, [len(numbers)]])
    names = numbers[edges[:-1]].astype(np.intp)
    if len(np.unique(names)) != len(names):
        raise UsageError("a cycle number comes back after another cycle; give the samples in the order of measuring")
    return volts, amps, names, [slice(int(a), int(b)) for a, b in pairwise(edges)]


def _side(v: Floats, i: Floats, sign: float) -> _Side | None:
    """The stretch around the peak of one polarity."""
    x = sign * v
    peak = int(np.argmax(x))
    if x[peak] <= 0:
        return None
    lower = np.flatnonzero(x <= 0)
    start = int(lower[lower < peak][-1]) if (lower < peak).any() else 0
    stop = int(lower[lower > peak][0]) + 1 if (lower > peak).any() else len(x)
    return _Side(x[start:stop], sign * i[start:stop], peak - start)


def _falls(side: _Side, v_read: float) -> int:
    """The last sample before the conductance falls most, on the way out beyond v_read: an HRS that conducts well may
    carry more current at the peak than the LRS did when it began to switch.
    """
    v, i = side.v[: side.peak + 1], side.i[: side.peak + 1]
    first = int(np.searchsorted(v, v_read))
    g = np.maximum(i[first:], 1e-15) / v[first:]
    return first + int(np.argmin(np.diff(np.log(g)))) if len(g) > 1 else side.peak


def _noise(side: _Side, v_read: float) -> float:
    """σ of the current of samples up to 5/4 v_read, from second differences along each branch; 0 of fewer than 5."""
    found = []
    for branch in (slice(0, side.peak + 1), slice(side.peak, None)):
        near = (side.v[branch] > 0) & (side.v[branch] <= 1.25 * v_read)
        found.append(np.diff(side.i[branch][near], 2))
    second = np.concatenate(found)
    return 1.4826 * float(np.median(np.abs(second))) / 6**0.5 if len(second) >= 3 else 0.0


def _branches_at(side: _Side, v_read: float) -> tuple[float, float]:
    """Resistance on the way out and on the way back."""
    out, back = slice(0, side.peak + 1), slice(side.peak, None)
    return _resistance(side.v[out], side.i[out], v_read), _resistance(side.v[back], side.i[back], v_read)


def _resistance(v: Floats, i: Floats, v_read: float) -> float:
    """v_read over the current there; nan where v does not pass it or the current is not positive.

    The current is that of a parabola through the samples from v_read / 2 to 5/4 v_read, or, of fewer than five, of a
    line between the two nearest.
    """
    if len(v) < 2 or not v.min() <= v_read <= v.max():
        return float("nan")
    near = (v >= 0.5 * v_read) & (v <= 1.25 * v_read)
    if near.sum() >= 5 and np.ptp(v[near]) > 0.5 * v_read:
        current = float(np.polynomial.Polynomial.fit(v[near], i[near], 2)(v_read))
    else:
        order = np.argsort(v, kind="stable")
        current = float(np.interp(v_read, v[order], i[order]))
    return v_read / current if current > 0 else float("nan")
