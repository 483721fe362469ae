"""Weights and conductances: level tables, unipolar and differential maps, bit slices, weight files.

A weight is written on one cell (unipolar: w_low on g_min, w_high on g_max, linear between) or on two (differential:
w ∝ G⁺ − G⁻, the cell that does not carry |w| stays at g_min, so that zero draws the same from both columns). Nothing is
clipped unless the caller says so, and then each clipped weight is listed.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import ParameterError, StorageError, UsageError
from labctl.quantity import si

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scheme = Literal["unipolar", "differential"]
MOST_LEVELS = 256


@dataclass(frozen=True)
class LevelTable:
    """The conductances (S) that cells are programmed to: 2 … 256 of them, rising, ≥ 0."""

    g: tuple[float, ...]

    def __post_init__(self) -> None:
        levels = np.asarray(self.g, np.float64)
        if levels.ndim != 1 or not 2 <= len(levels) <= MOST_LEVELS:
            raise ParameterError(f"a level table of shape {levels.shape}; give 2 … {MOST_LEVELS} conductances")
        if not (np.isfinite(levels).all() and levels[0] >= 0 and (np.diff(levels) > 0).all()):
            raise ParameterError("the levels must be finite conductances of at least 0 S, each above the one before")

    @classmethod
    def uniform(cls, g_min: float, g_max: float, levels: int = MOST_LEVELS) -> "LevelTable":
        """`levels` of them, evenly in G from g_min to g_max (S), both included."""
        if not (np.isfinite(g_min) and np.isfinite(g_max) and 0 <= g_min < g_max):
            raise ParameterError(f"g_min = {g_min} S, g_max = {g_max} S: give 0 ≤ g_min < g_max")
        if not 2 <= levels <= MOST_LEVELS:
            raise ParameterError(f"levels = {levels}; give 2 … {MOST_LEVELS}")
        return cls(tuple(np.linspace(g_min, g_max, levels).tolist()))

    @classmethod
    def uniform_in_r(cls, g_min: float, g_max: float, levels: int = MOST_LEVELS) -> "LevelTable":
        """`levels` of them, evenly in R = 1/G from 1/g_max to 1/g_min (Ω), both included; g_min > 0."""
        cls.uniform(g_min, g_max, levels)
        if g_min <= 0:
            raise ParameterError(f"g_min = {g_min} S has no resistance; give g_min > 0")
        return cls(tuple((1 / np.linspace(1 / g_min, 1 / g_max, levels)).tolist()))

    def __len__(self) -> int:
        return len(self.g)

    @cached_property
    def values(self) -> Floats:
        """(levels,) S."""
        return np.array(self.g)

    @cached_property
    def edges(self) -> Floats:
        """(levels − 1,) S: half-way between neighbours; the band of a level lies between its edges."""
        return np.asarray((self.values[1:] + self.values[:-1]) / 2)

    def nearest(self, g: ArrayLike) -> Ints:
        """The number of the level nearest to each conductance (S), of its shape. Raises `UsageError` on nan."""
        x = np.asarray(g, np.float64)
        if np.isnan(x).any():
            raise UsageError("a conductance is nan; a reading that failed has no nearest level")
        return np.searchsorted(self.edges, x).astype(np.int64)


class Clipped(NamedTuple):
    """The weights that lay outside the map's range: where, what was asked, what was written; each (k, …) or (k,)."""

    where: Ints  # (k, dimensions of the weights)
    asked: Floats  # (k,)
    written: Floats  # (k,)

    def __str__(self) -> str:
        if not len(self.asked):
            return "no weight clipped"
        excess = np.abs(self.asked - self.written)
        k = int(np.argmax(excess))
        at = ", ".join(map(str, self.where[k].tolist()))
        return (
            f"{len(self.asked)} weights clipped, the most by {excess[k]:.4g}: weight ({at}) = {self.asked[k]:.6g}"
            f" written as {self.written[k]:.6g}"
        )


@dataclass(frozen=True)
class Encoded:
    """A weight matrix as it is to be programmed. Shapes: weights (…), cells (…, k) with k = 1 or 2, first G⁺, then G⁻.

    error: what the levels make of a weight minus the weight asked, clipping included.
    """

    level: Ints  # (…, k)
    g: Floats  # (…, k) S
    error: Floats  # (…)
    clipped: Clipped

    @property
    def rms(self) -> float:
        """Root mean square of the error, in units of the weights."""
        return float(np.sqrt(np.mean(self.error**2)))


@dataclass(frozen=True)
class WeightMap:
    """w ↔ G on a level table. Differential maps are symmetric: w_low = −w_high."""

    table: LevelTable
    w_low: float = -1.0
    w_high: float = 1.0
    scheme: Scheme = "differential"

    def __post_init__(self) -> None:
        if self.scheme not in ("unipolar", "differential"):
            raise ParameterError(f"scheme = {self.scheme!r} is unknown; take unipolar or differential")
        if not (np.isfinite(self.w_low) and np.isfinite(self.w_high - self.w_low) and self.w_low < self.w_high):
            raise ParameterError(f"weights from {self.w_low} to {self.w_high}: give finite limits, the lower one first")
        if self.scheme == "differential" and self.w_low != -self.w_high:
            raise ParameterError(f"a differential map is symmetric; give w_low = {-self.w_high} with w_high")

    @classmethod
    def spanning(cls, weights: ArrayLike, table: LevelTable, scheme: Scheme = "differential") -> "WeightMap":
        """The map whose ends are the extremes of `weights`: uses every level, clips none."""
        w = _weights(weights)
        if scheme == "differential":
            top = float(np.abs(w).max()) or 1.0
            return cls(table, -top, top, scheme)
        low, high = float(w.min()), float(w.max())
        return cls(table, low, high if high > low else low + 1.0, scheme)

    @property
    def cells(self) -> int:
        """Cells a weight."""
        return 2 if self.scheme == "differential" else 1

    @cached_property
    def slope(self) -> float:
        """S a unit of weight: (g_max − g_min) over w_high − w_low, or over w_high for pairs."""
        return self._span / self._reach

    def targets(self, weights: ArrayLike) -> Floats:
        """(…, k) S before the levels round them. Raises `ParameterError` for a weight outside the range."""
        w = _weights(weights)
        _, beyond = self._clip(w)
        if len(beyond.asked):
            k = int(np.argmax(np.abs(beyond.asked)))
            at = ", ".join(map(str, beyond.where[k].tolist()))
            raise ParameterError(
                f"{len(beyond.asked)} of {w.size} weights are outside {self.w_low:g} … {self.w_high:g}, such as weight"
                f" ({at}) = {beyond.asked[k]:.6g}; widen the map (WeightMap.spanning), or allow clipping"
            )
        if self.scheme == "unipolar":
            return np.asarray(self.table.g[0] + (w - self.w_low) / self._reach * self._span)[..., None]
        parts = np.stack([np.maximum(w, 0), np.maximum(-w, 0)], axis=-1)
        return np.asarray(self.table.g[0] + parts / self._reach * self._span)

    def encode(self, weights: ArrayLike, clip: bool = False) -> Encoded:
        """Levels and conductances of `weights` (any shape). Outside the range: clipped and listed if `clip`, else an
        error.

        Raises `ParameterError` for weights outside without `clip`, `UsageError` for nan.
        """
        w = _weights(weights)
        inside, clipped = self._clip(w)
        level = self.table.nearest(self.targets(inside if clip else w))
        g = self.table.values[level]
        return Encoded(level, g, self.decode(g) - w, clipped)

    def decode(self, g: ArrayLike) -> Floats:
        """The weights (…) that conductances (…, k) in S stand for; those that were achieved as well as those asked.

        nan stays nan. Raises `UsageError` when the last axis is not k long.
        """
        x = np.asarray(g, np.float64)
        if x.ndim < 1 or x.shape[-1] != self.cells:
            raise UsageError(f"conductances of shape {x.shape}; a {self.scheme} map takes (…, {self.cells})")
        if self.scheme == "unipolar":
            return np.asarray(self.w_low + (x[..., 0] - self.table.g[0]) / self._span * self._reach)
        return np.asarray((x[..., 0] - x[..., 1]) / self._span * self._reach)

    def describe(self) -> str:
        """One line for a log or a plot."""
        low, high = self.table.g[0], self.table.g[-1]
        return (
            f"{self.scheme}, {self.w_low:g} … {self.w_high:g} on {len(self.table)} levels of {si(low, 'S', 4)} …"
            f" {si(high, 'S', 4)}"
        )

    @property
    def _span(self) -> float:
        return self.table.g[-1] - self.table.g[0]

    @property
    def _reach(self) -> float:
        return self.w_high if self.scheme == "differential" else self.w_high - self.w_low

    def _clip(self, w: Floats) -> tuple[Floats, Clipped]:
        inside = np.clip(w, self.w_low, self.w_high)
        changed = inside != w
        return inside, Clipped(np.argwhere(changed).astype(np.int64), w[changed], inside[changed])


# bit slices -----------------------------------------------------------------------------------------------------------


def place_values(cells: int, bits: int = 1) -> Ints:
    """(cells,) what a unit of each cell is worth, least significant first: 1, 2^bits, 4^bits, …"""
    if not 1 <= bits <= 8 or cells < 1 or cells * bits > 62:
        raise ParameterError(f"{cells} cells of {bits} bits; give 1 … 8 bits a cell and at most 62 in all")
    return np.asarray(2 ** (bits * np.arange(cells, dtype=np.int64)))


def bit_slice(values: ArrayLike, cells: int, bits: int = 1) -> Ints:
    """(…, cells) digits 0 … 2^bits − 1 of whole numbers (…), least significant first.

    4 cells of 1 bit take 0 … 15, 8 take 0 … 255; so do 2 and 4 cells of 2 bits. The same cuts an input vector into the
    bits that a bit-serial product drives one after another. Raises `ParameterError` for a value outside,
    `UsageError` for one that is not whole.
    """
    worth, raw = place_values(cells, bits), np.asarray(values)
    if raw.dtype.kind not in "iuf" or not (np.isfinite(raw).all() and np.all(raw == np.floor(raw))):
        raise UsageError("bit slices need whole numbers; quantise the weights first (WeightMap.encode gives levels)")
    top = 2 ** (cells * bits) - 1
    if raw.size and not (raw.min() >= 0 and raw.max() <= top):
        bad = raw[(raw < 0) | (raw > top)].flat[0]
        raise ParameterError(f"{bad} does not fit into {cells} cells of {bits} bits; they take 0 … {top}")
    return np.asarray(raw.astype(np.int64)[..., None] // worth % 2**bits)


def bit_join(digits: ArrayLike, bits: int = 1) -> Floats:
    """The values (…) of digits (…, cells), least significant first; digits may be measured ones, not whole."""
    x = np.asarray(digits, np.float64)
    if x.ndim < 1:
        raise UsageError("give digits (…, cells), least significant first")
    return np.asarray(x @ place_values(x.shape[-1], bits))


# files ----------------------------------------------------------------------------------------------------------------


def load_matrix(path: str | Path, shape: tuple[int, int] | None = None) -> Floats:
    """A weight matrix (rows, columns) from a `.npy` or a text file.

    Text: one row a line; commas, semicolons, tabs or spaces between; blank lines and those that begin with # do not
    count. `shape` is what is expected. Raises `StorageError` for a file that cannot be read, `UsageError` with the
    place for what is not a finite number, for rows of different lengths, and for another shape.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        w, where = _load_npy(path), None
    else:
        w, where = _load_text(path)
    bad = np.argwhere(~np.isfinite(w))
    if len(bad):
        row, column = bad[0].tolist()
        at = f"row {row}, column {column}" if where is None else f"line {where[row]}, entry {column + 1}"
        raise UsageError(
            f"{path}, {at}: {w[row, column]} is no weight; {len(bad)} of {w.size} entries are not finite numbers"
        )
    if shape is not None and w.shape != shape:
        raise UsageError(f"{path} has {w.shape[0]} rows × {w.shape[1]} columns; {shape[0]} × {shape[1]} are needed")
    return w


def _load_npy(path: Path) -> Floats:
    try:
        raw = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist; give a .npy or a CSV file of weights") from error
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"{path} cannot be read as .npy ({error}); write it with numpy.save") from error
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "iufb":
        raise UsageError(f"{path} holds {getattr(raw, 'dtype', type(raw).__name__)}; give one matrix of real numbers")
    if raw.ndim != 2 or not raw.size:
        raise UsageError(f"{path} has shape {raw.shape}; give a matrix (rows, columns)")
    return raw.astype(np.float64)


def _load_text(path: Path) -> tuple[Floats, list[int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist; give a .npy or a CSV file of weights") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read as text ({error})") from error
    rows: list[list[float]] = []
    where: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        separator = next((mark for mark in ";,\t" if mark in line), None)
        row = []
        for k, entry in enumerate(line.split(separator), 1):
            try:
                row.append(float(entry))
            except ValueError:
                hint = "a decimal point, not a comma" if separator == ";" and "," in entry else "numbers only"
                raise UsageError(
                    f"{path}, line {number}, entry {k}: {entry.strip()!r} is not a number; write {hint}"
                ) from None
        if rows and len(row) != len(rows[0]):
            raise UsageError(f"{path}, line {number} has {len(row)} entries, line {where[0]} has {len(rows[0])}")
        rows.append(row)
        where.append(number)
    if not rows:
        raise UsageError(f"{path} holds no numbers; give one row of weights a line")
    return np.array(rows), where


def _weights(weights: ArrayLike) -> Floats:
    w = np.asarray(weights, np.float64)
    if not w.size or not np.isfinite(w).all():
        bad = np.argwhere(~np.isfinite(w))
        where = f"weight ({', '.join(map(str, bad[0].tolist()))}) is not a finite number" if w.size else "no weights"
        raise UsageError(f"{where}; give finite weights")
    return w
