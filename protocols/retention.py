"""Retention: the same cells read again and again over a long time; requested and actual times are both kept."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import AVERAGE, COLUMN, COLUMNS, ROW, ROWS, STATUS, V_READ, V_WL_READ, G
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Sample(NamedTuple):
    """One cell at one of the times."""

    scan: A[int, Q("", meaning="number of the scan, from 0")]
    requested: A[float, Q("s", meaning="when the scan was due, after the first")]
    t: A[float, Q("s", meaning="when the cell was sampled, after the first sample of the first scan")]
    row: A[int, ROW]
    column: A[int, COLUMN]
    g: A[float, G]
    status: A[str, STATUS]


def plot(run: Run, figure: "Figure") -> None:
    """Conductance against time, a line a cell."""
    table, axes = run.table(), figure.subplots()
    for cell in sorted(set(zip(table["row"].tolist(), table["column"].tolist(), strict=True))):
        at = (table["row"] == cell[0]) & (table["column"] == cell[1])
        axes.semilogx(np.maximum(table["t"][at], 1e-3), table["g"][at] * 1e6, ".-", linewidth=0.8)
    kelvin = run.params["temperature"]
    axes.set(xlabel="time (s)", ylabel="conductance (µS)", title=f"retention at {kelvin:g} K")
    axes.grid(True, which="both", alpha=0.3)


@protocol(total=lambda rows, columns, times, **_: len(rows) * len(columns) * (len(times) + 1), plot=plot)
def retention(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0, 1, 2, 3),
    times: A[Sequence[float], Q("s", 0, 1e8, "when to scan again, after the first scan")] = (
        0.01,
        0.1,
        1.0,
        10.0,
        60.0,
    ),
    temperature: A[float, Q("K", 1, 1000, "of the chip, as metadata: the bench does not set it")] = 300.0,
    v_read: A[float, V_READ] = 0.2,
    v_wl: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 64,
) -> Iterator[Sample]:
    """Read the selected cells at the requested times; a scan that is late is taken at once and its time says so."""
    cells = bench.cells(rows, columns, revisit=True)
    tick, start = bench.board.identity.tick, 0.0
    with bench.powered():
        for scan, requested in enumerate((0.0, *sorted(times))):
            if scan:
                bench.wait(max(0.0, start + requested - bench.now()))
            for cell in cells:
                [reading] = cell.program().read(v_read, v_wl, average).run()
                start = start or reading.tick * tick
                t = reading.tick * tick - start
                yield Sample(scan, requested, t, cell.row, cell.column, reading.g, reading.status)
