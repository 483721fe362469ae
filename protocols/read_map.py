"""Conductance of every cell: the first look at an array, and the last one after programming it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import (
    ALL_COLUMNS,
    ALL_ROWS,
    AVERAGE,
    COLUMN,
    COLUMNS,
    ROW,
    ROWS,
    STATUS,
    V_READ,
    V_WL_READ,
    G,
    I,
    T,
)
from labctl.protocol import protocol
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Cell(NamedTuple):
    """One cell at one reading."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    g: A[float, G]
    i: A[float, I]
    status: A[str, STATUS]
    t: A[float, T]


def plot(run: Run, figure: "Figure") -> None:
    """The map, and the distribution of the cells that can be resolved."""
    table = run.table()
    rows, columns = np.unique(table["row"]), np.unique(table["column"])
    grid = np.full((len(rows), len(columns)), np.nan)
    grid[np.searchsorted(rows, table["row"]), np.searchsorted(columns, table["column"])] = table["g"] * 1e6
    left, right = figure.subplots(1, 2)
    image = left.imshow(grid, aspect="auto", interpolation="nearest")
    left.set(xlabel="column", ylabel="row", title="conductance (µS)")
    left.set_xticks(range(len(columns)), columns) if len(columns) <= 16 else None
    left.set_yticks(range(len(rows)), rows) if len(rows) <= 16 else None
    figure.colorbar(image, ax=left)
    known = np.sort(table["g"][np.isfinite(table["g"])]) * 1e6
    right.plot(known, (np.arange(len(known)) + 0.5) / max(len(known), 1), ".-")
    right.set(
        xlabel="conductance (µS)", ylabel="share of the cells below", title=f"{len(known)} of {len(grid.ravel())} cells"
    )
    right.grid(True, alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def read_map(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = ALL_ROWS,
    columns: A[Sequence[int], COLUMNS] = ALL_COLUMNS,
    v_read: A[float, V_READ] = 0.2,
    v_wl: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 64,
) -> Iterator[Cell]:
    """Conductance of each selected cell at a low voltage, with auto-range.

    Defaults: 0.2 V on the bit line, 2.5 V on the gate, as the public 1T1R testers use.
    """
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            [reading] = cell.program().read(v_read, v_wl, average).run()
            t = reading.tick * bench.board.identity.tick
            yield Cell(cell.row, cell.column, reading.g, reading.current, reading.status, t)
