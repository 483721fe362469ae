"""Ohmic crossbars with line resistance: products, sneak paths, and the effective conductances of a programmed state.

Rows are driven, columns are sensed by virtual grounds (or driven too). A cell of conductance G[i, j] joins row i with
column j. Three ways, one result: a sparse LU as the reference, conjugate gradients for a state that has just been
programmed, and one matrix that holds every drop for a state that stays: with ohmic cells the currents are linear in the
voltages, so I = V·G_eff exactly.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from labctl.errors import MeasurementError, UsageError
from labctl.models import crossbar_kernel as kernel
from labctl.models.crossbar_direct import DirectSolver, Side
from labctl.models.device import FloatArray

G_LEAK = 1e-15  # S, of every node of a floating line: it fixes a line that nothing else holds
_ITERATIONS = 5000

Method = Literal["auto", "gradients", "direct"]
Scheme = Literal["ground", "float", "V/2", "V/3"]


@dataclass(frozen=True)
class Wires:
    """Resistances of the lines (Ω), and the ends at which they are held. 0 Ω a segment is an ideal line.

    r_row, r_column: one segment, from cell to cell; the first also lies between an end that is held and its cell.
    r_driver, r_sense: in series at each held end of a row, of a column.
    drive, sense: ends at which rows are driven and columns sensed; row 0 is at the top, column 0 on the left.
    """

    r_row: float = 1.0
    r_column: float = 1.0
    r_driver: float = 0.0
    r_sense: float = 0.0
    drive: Literal["left", "right", "both"] = "left"
    sense: Literal["top", "bottom", "both"] = "bottom"

    def __post_init__(self) -> None:
        for name in ("r_row", "r_column", "r_driver", "r_sense"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise UsageError(f"{name} = {value} Ω must be finite and not negative")
        if self.drive not in ("left", "right", "both") or self.sense not in ("top", "bottom", "both"):
            raise UsageError(
                f"drive = {self.drive!r}, sense = {self.sense!r}: give left, right or both, and top, bottom or both"
            )


@dataclass(frozen=True)
class Solution:
    """The currents (A) into the array from each row's and column's driver, and the potentials (V) along the lines.

    i_rows (m,), i_columns (n,): a floating line has none. v_row, v_column (m, n): at each cell.
    """

    i_rows: FloatArray
    i_columns: FloatArray
    v_row: FloatArray
    v_column: FloatArray

    @property
    def v_cells(self) -> FloatArray:
        """Voltage across each cell, (m, n), positive when its row is above its column: what half-selects see."""
        return self.v_row - self.v_column


@dataclass(frozen=True)
class Compiled:
    """The effective conductances (S), (m, n), of one programmed state: `compiled(v)` costs an ideal product.

    error: bound on the error of a current, relative to Σ|V_i·G_eff[i, j]|: rounding of m products and sums in the
    matrix's precision (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and the tolerance of
    the solution behind it.
    """

    matrix: NDArray[np.floating]
    error: float

    def __call__(self, v_rows: ArrayLike) -> NDArray[np.floating]:
        """Currents (A) out of the columns, (n,) or (batch, n), for row voltages (V), (m,) or (batch, m)."""
        v = np.asarray(v_rows, self.matrix.dtype)
        if v.ndim not in (1, 2) or v.shape[-1] != len(self.matrix):
            raise UsageError(f"v_rows has shape {v.shape}; this crossbar takes ({len(self.matrix)},) or (batch, ...)")
        if not np.isfinite(v).all():
            raise UsageError("v_rows has a value that is not a finite number; a compiled crossbar has no floating rows")
        current: NDArray[np.floating] = v @ self.matrix
        return current


class Crossbar:
    """Cells of conductance (m, n), in S (finite, not negative; 0 is an open cell), on lines as `wires` says.

    Every method refuses bad input with `UsageError` and then leaves the state as it was.
    """

    def __init__(self, conductance: ArrayLike, wires: Wires | None = None) -> None:
        self.wires = wires or Wires()
        self._g = _conductances(conductance, None)
        self._direct: tuple[bytes, DirectSolver] | None = None
        self._factors: tuple[bytes, FloatArray, FloatArray] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        m, n = self._g.shape
        return m, n

    @property
    def conductance(self) -> FloatArray:
        """The cells' conductances (S), (m, n); a copy."""
        return self._g.copy()

    def program(self, conductance: ArrayLike) -> None:
        """Put in new conductances (S), (m, n); what was factorised for the old ones is dropped."""
        self._g = _conductances(conductance, self.shape)
        self._direct = self._factors = None

    def solve(
        self,
        v_rows: ArrayLike,
        v_columns: ArrayLike | None = None,
        *,
        method: Method = "auto",
        tolerance: float = 1e-11,
    ) -> Solution:
        """Currents and potentials for drivers at v_rows (m,) and v_columns (n,), V; nan floats a line, None is 0 V.

        method: "gradients" (needs resistive lines) or "direct"; "auto" takes the first where it can.
        tolerance: of the gradients, the error in the energy norm relative to the solution's. 1e-3 makes a fast
        approximation, with currents within 1e-3 of the largest (measured: see the tests).

        Raises `MeasurementError` when the gradients do not get there.
        """
        m, n = self.shape
        rows = _volts("v_rows", v_rows, m)
        columns = np.zeros(n) if v_columns is None else _volts("v_columns", v_columns, n)
        if not 0 < tolerance < 1:
            raise UsageError(f"tolerance = {tolerance} must be between 0 and 1")
        sides = self._sides(np.isnan(rows), np.isnan(columns))
        driven = np.concatenate([rows[~np.isnan(rows)], columns[~np.isnan(columns)]])
        # currents depend on differences only: the commonest level as 0 leaves nothing large to cancel
        level = float(np.median(driven)) if driven.size else 0.0
        rows, columns = np.nan_to_num(rows - level), np.nan_to_num(columns - level)
        if self._method(method) == "direct":
            u, w = self._solve_direct(rows, columns, sides)
        else:
            u, w = self._solve_gradients(rows, columns, sides, tolerance)
        current = self._g * (u - w)
        i_rows = np.where(sides[0].floating, 0.0, current.sum(1))
        i_columns = np.where(sides[1].floating, 0.0, -current.sum(0))
        return Solution(i_rows, i_columns, u + level, w + level)

    def product(self, v_rows: ArrayLike, *, method: Method = "auto", tolerance: float = 1e-11) -> FloatArray:
        """Currents (A) out of the columns at 0 V, (n,) or (batch, n), for row voltages (V), (m,) or (batch, m).

        For one product after programming; several vectors are spread over the processor's cores. A state that stays
        is worth `compile`.
        """
        v = np.asarray(v_rows, np.float64)
        if v.ndim == 1:
            return -self.solve(v, method=method, tolerance=tolerance).i_columns
        if v.ndim != 2 or v.shape[1] != self.shape[0]:
            raise UsageError(f"v_rows has shape {v.shape}; this crossbar takes ({self.shape[0]},) or (batch, ...)")
        if not np.isfinite(v).all():
            raise UsageError("v_rows has a value that is not a finite number; for floating rows take one vector a time")
        out = np.empty((len(v), self.shape[1]))
        for k, solution in enumerate(self._many(v, None, method, tolerance)):
            out[k] = -solution.i_columns
        return out

    def compile(self, dtype: DTypeLike = np.float64, *, method: Method = "auto", tolerance: float = 1e-11) -> Compiled:
        """The effective conductances of the present state, in float64 or float32, as `Compiled` says."""
        kind = np.dtype(dtype)
        if kind not in (np.dtype(np.float64), np.dtype(np.float32)):
            raise UsageError(f"dtype = {kind} is not offered; take float64 or float32")
        m, n = self.shape
        if m <= n:
            units = np.eye(m)
            matrix = np.array([-s.i_columns for s in self._many(units, None, method, tolerance)])
        else:  # the network is reciprocal: a volt on a column draws from the rows what it would give them
            units = np.eye(n)
            matrix = np.array([-s.i_rows for s in self._many(np.zeros((n, m)), units, method, tolerance)]).T
        rounding = (m + 2) * float(np.finfo(kind).eps) / 2
        return Compiled(np.ascontiguousarray(matrix, kind), rounding + 10 * tolerance)

    def _many(
        self, v_rows: FloatArray, v_columns: FloatArray | None, method: Method, tolerance: float
    ) -> "list[Solution]":
        def one(k: int) -> Solution:
            columns = None if v_columns is None else v_columns[k]
            found = self.solve(v_rows[k], columns, method=method, tolerance=tolerance)
            return replace(found, v_row=_NOTHING, v_column=_NOTHING)  # a batch of potentials would fill the memory

        first = [one(0)] if len(v_rows) else []  # factorises
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return first + list(pool.map(one, range(1, len(v_rows))))

    def _method(self, method: Method) -> Method:
        resistive = self.wires.r_row > 0 and self.wires.r_column > 0
        if method not in ("auto", "gradients", "direct"):
            raise UsageError(f"method = {method!r} is unknown; take auto, gradients or direct")
        if method == "gradients" and not resistive:
            raise UsageError("the gradients need lines of more than 0 Ω; take method='direct' or 'auto'")
        return ("gradients" if resistive else "direct") if method == "auto" else method

    def _sides(self, floating_rows: NDArray[np.bool_], floating_columns: NDArray[np.bool_]) -> tuple[Side, Side]:
        w = self.wires
        rows = _side(w.r_row, w.r_driver, w.drive != "right", w.drive != "left", floating_rows)
        columns = _side(w.r_column, w.r_sense, w.sense != "bottom", w.sense != "top", floating_columns)
        return rows, columns

    def _solve_direct(
        self, v_rows: FloatArray, v_columns: FloatArray, sides: tuple[Side, Side]
    ) -> tuple[FloatArray, FloatArray]:
        key = sides[0].floating.tobytes() + sides[1].floating.tobytes()
        if self._direct is None or self._direct[0] != key:
            self._direct = key, DirectSolver(self._g, *sides)
        return self._direct[1].solve(v_rows, v_columns)

    def _solve_gradients(
        self, v_rows: FloatArray, v_columns: FloatArray, sides: tuple[Side, Side], tolerance: float
    ) -> tuple[FloatArray, FloatArray]:
        g, (rows, columns) = self._g, sides
        g_row, g_column = 1 / rows.segment, 1 / columns.segment
        key = rows.floating.tobytes() + columns.floating.tobytes()
        if self._factors is None or self._factors[0] != key:
            row_pivots = kernel.factor(g, g_row, rows.first, rows.last, rows.leak, True)
            self._factors = (
                key,
                row_pivots,
                kernel.factor(g, g_column, columns.first, columns.last, columns.leak, False),
            )
        _, row_pivots, column_pivots = self._factors
        u, w = np.zeros_like(g), np.empty_like(g)
        b_rows = np.zeros_like(g)
        b_rows[:, 0] = rows.first * v_rows
        b_rows[:, -1] += rows.last * v_rows
        kernel.solve_rows(b_rows, row_pivots, g_row, u)
        b = g * u
        b[0] += columns.first * v_columns
        b[-1] += columns.last * v_columns
        ends = columns.first, columns.last, columns.leak
        steps, error = kernel.conjugate_gradients(
            b, g, row_pivots, column_pivots, g_row, g_column, *ends, tolerance, _ITERATIONS, w
        )
        if not error <= tolerance:
            raise MeasurementError(
                f"the conjugate gradients stand at an error of {error:.3g} after {steps} steps, the limit is"
                f" {tolerance:.3g}; take method='direct'"
            )
        kernel.solve_rows(b_rows + g * w, row_pivots, g_row, u)
        return u, w


def select(shape: tuple[int, int], row: int, column: int, v: float, scheme: Scheme) -> tuple[FloatArray, FloatArray]:
    """Line voltages (V), (rows,) and (columns,), that put `v` on one cell of a passive crossbar.

    The other lines: "ground" all at 0 V; "float" (nan); "V/2" all at v/2; "V/3" rows at v/3 and columns at 2v/3, which
    leaves v/3 on every other cell, against v/2 on a line's cells and none elsewhere (Chen, IEEE TED 60:1318, 2013).
    """
    levels = {"ground": (0.0, 0.0), "float": (np.nan, np.nan), "V/2": (v / 2, v / 2), "V/3": (v / 3, 2 * v / 3)}
    if scheme not in levels:
        raise UsageError(f"scheme = {scheme!r} is unknown; take one of {', '.join(levels)}")
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise UsageError(f"cell ({row}, {column}) is outside an array of {shape[0]} × {shape[1]}")
    if not np.isfinite(v):
        raise UsageError(f"v = {v} V must be finite")
    v_rows, v_columns = np.full(shape[0], levels[scheme][0]), np.full(shape[1], levels[scheme][1])
    v_rows[row], v_columns[column] = v, 0.0
    return v_rows, v_columns


_NOTHING = np.empty((0, 0))


def _side(segment: float, series: float, first: bool, last: bool, floating: NDArray[np.bool_]) -> Side:
    end = np.inf if segment + series == 0 else 1 / (segment + series)
    held = np.where(floating, 0.0, end)
    none = np.zeros_like(held)
    ideal = end == np.inf  # held at one end is held everywhere
    leak = np.where(floating, G_LEAK, 0.0)
    return Side(segment, held if first or ideal else none, held if last or ideal else none, leak, floating)


def _conductances(conductance: ArrayLike, shape: tuple[int, int] | None) -> FloatArray:
    g = np.array(conductance, np.float64, order="C")
    if g.ndim != 2 or not g.size or (shape is not None and g.shape != shape):
        raise UsageError(f"the conductances have shape {g.shape}; give {shape or '(rows, columns)'}")
    if not (np.isfinite(g).all() and g.min() >= 0):
        bad = g[~(np.isfinite(g) & (g >= 0))][0]
        raise UsageError(f"a conductance of {bad} S is not possible; give finite values of at least 0 S")
    return g


def _volts(name: str, volts: ArrayLike, n: int) -> FloatArray:
    v = np.asarray(volts, np.float64)
    if v.shape != (n,):
        raise UsageError(f"{name} has shape {v.shape}; this crossbar takes ({n},)")
    if np.isinf(v).any():
        raise UsageError(f"{name} has an infinite voltage; give volts, or nan for a floating line")
    return v
