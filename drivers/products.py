"""Matrix–vector products on the board, and the conductances of the same cells read one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.columns import ColumnProgram
from drivers.fpga.board import Reading
from labctl.analysis.products import Plane, bit_planes, differential
from labctl.errors import UsageError
from labctl.weights import load_matrix

if TYPE_CHECKING:
    from drivers.bench import Bench

Drive = Literal["bit-serial", "dac"]


@dataclass(frozen=True)
class Readout:
    """Which rows and columns make the matrix, and how its currents are taken: V, V, conversions, s after a change.

    pairs: columns are taken two by two as G+ and G−, an output each; else each column is one.
    Raises `UsageError` for an odd number of them.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    pairs: bool
    v_read: float
    v_wl: float
    average: int
    settle: float

    def __post_init__(self) -> None:
        self.outputs(np.zeros(len(self.columns)))

    def outputs(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the columns along the last axis make together."""
        return differential(columns) if self.pairs else columns


class Cells(NamedTuple):
    """Conductances of a matrix's cells, (rows, columns): S, nan where nothing is known, and how each was found.

    A cell below what the board resolves counts as 0 S: the readout of a product resolves no less.
    """

    g: NDArray[np.float64]
    status: NDArray[np.str_]


class Sums(NamedTuple):
    """Repeated products of one vector, (repeats, outputs): A (nan where one of the samples is no value), the variance
    (A²) of their quantisation, and ok or why there is none: below where no sample of an output could be resolved."""

    y: NDArray[np.float64]
    adc: NDArray[np.float64]
    status: NDArray[np.str_]


def read_cells(bench: "Bench", readout: Readout) -> Cells:
    """Read each cell alone, driven and sensed as in a product: one board program a row."""
    g, status = [], []
    for row in readout.rows:
        program = ColumnProgram(bench, [row], readout.columns).drive(readout.v_read, readout.v_wl).gates([row])
        for column in readout.columns:
            program.sense([column]).wait(readout.settle).sample(readout.average)
        readings = list(program.run())
        g.append([_current(reading) / reading.v for reading in readings])
        status.append([reading.status for reading in readings])
    return Cells(np.array(g), np.array(status))


def read_products(
    bench: "Bench", readout: Readout, x: Sequence[int] | NDArray[np.int64], x_max: int, drive: Drive, repeats: int
) -> Sums:
    """Products v_read·Σ_i x_i/x_max·G_ij of one vector, `repeats` times in one board program.

    bit-serial: digit by digit, the word lines of the rows whose digit is 1 open. dac: each row's source line at
    v_read·x_i/x_max, rows with a negative input in a pass of their own. The passes are added up here.
    """
    x = np.asarray(x, np.int64)
    volts = {row: readout.v_read * abs(int(k)) / x_max for row, k in zip(readout.rows, x, strict=True)}
    program = ColumnProgram(bench, readout.rows, readout.columns)
    if drive == "dac":
        program.drive_each(volts, readout.v_read, readout.v_wl)
        planes = [Plane(sign, np.flatnonzero(np.sign(x) == sign)) for sign in (1, -1) if (np.sign(x) == sign).any()]
        scale = 1
    else:
        program.drive(readout.v_read, readout.v_wl)
        planes, scale = bit_planes(x), x_max
    shape = (repeats, len(planes), len(readout.columns))
    if not planes:  # nothing is driven, so nothing flows
        zero = readout.outputs(np.zeros(shape[::2]))
        return Sums(zero, zero, np.full(zero.shape, "ok"))
    program.sense(readout.columns)
    for plane in planes:
        program.gates(readout.rows[k] for k in plane.rows).wait(readout.settle).sample(readout.average)
    readings = list(program.repeat(repeats).run())
    current = np.array([_current(reading) for reading in readings]).reshape(shape)
    step = np.array([abs(bench.board.ranges.ranges[reading.range].gain) for reading in readings]).reshape(shape)
    status = np.array([reading.status for reading in readings]).reshape(shape)
    if readout.pairs:  # an output has the samples of both its columns
        step, status = (np.concatenate([a[..., ::2], a[..., 1::2]], 1) for a in (step, status))
        planes = planes * 2
    weight = np.array([plane.weight for plane in planes]) / scale
    invalid, nothing = ~np.isin(status, ("ok", "below")), (status == "below").all(1)
    worst = np.take_along_axis(status, invalid.argmax(1)[:, None], 1)[:, 0]
    y = readout.outputs(np.einsum("p,rpc->rc", weight[: shape[1]], current))
    return Sums(
        np.where(nothing, np.nan, y),
        np.einsum("p,rpc->rc", weight**2, step**2 / 12),
        np.where(invalid.any(1), worst, np.where(nothing, "below", "ok")),
    )


def known_cells(path: str, readout: Readout, names: Sequence[str] = ("g",)) -> Cells:
    """Conductances (S) from a file, for the matrix's rows and columns in their order.

    A recorded run (.h5) with a table of row, column and one of `names` (the last reading of a cell counts), or a .npy
    or CSV file of rows × columns. Raises `UsageError` for one that lacks a cell.
    """
    shape = len(readout.rows), len(readout.columns)
    if not path.endswith(".h5"):
        return Cells(load_matrix(path, shape), np.full(shape, "ok"))
    from labctl.reader import load

    run = load(path)
    tables = [
        (table, name) for table in run.tables for name in names if {"row", "column", name} <= set(run.units(table))
    ]
    if not tables:
        wanted = " or ".join(names)
        raise UsageError(f"{path} has no table with row, column and {wanted}; it is a run of {run.protocol}")
    table, name = run.table(tables[0][0]), tables[0][1]
    found = {cell: k for k, cell in enumerate(zip(table["row"].tolist(), table["column"].tolist(), strict=True))}
    cells = [(row, column) for row in readout.rows for column in readout.columns]
    if missing := next((cell for cell in cells if cell not in found), None):
        raise UsageError(f"{path} has nothing of cell {missing}; choose rows and columns that it has")
    at = [found[cell] for cell in cells]
    status = np.array(table["status"][at], np.str_) if "status" in table else np.full(len(at), "ok")
    g = np.where(status == "below", 0.0, table[name][at])
    return Cells(g.reshape(shape), status.reshape(shape))


def input_vectors(path: str, rows: int | None = None, x_max: int | None = None) -> NDArray[np.int64]:
    """Whole-numbered input vectors from a .npy or CSV file, (vectors, rows); raises `UsageError` for others."""
    x = load_matrix(path)
    if rows is not None and x.shape[1] != rows:
        raise UsageError(f"{path} holds vectors of {x.shape[1]} inputs; this matrix has {rows} rows")
    if (x != np.rint(x)).any():
        raise UsageError(f"{path} holds {x[x != np.rint(x)][0]:g}; inputs are whole numbers")
    if x_max is not None and np.abs(x).max() > x_max:
        raise UsageError(f"{path} holds {x.flat[np.abs(x).argmax()]:g}; {x_max.bit_length()} bits go up to {x_max}")
    return x.astype(np.int64)


def _current(reading: Reading) -> float:
    """A; too little to resolve adds nothing to a sum, what is no value makes it none."""
    return {"ok": reading.current, "below": 0.0}.get(reading.status, float("nan"))
