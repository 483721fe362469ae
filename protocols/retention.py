"""Retention: the same cells read again and again over a long time; requested and actual times are both kept."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
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
    row: A[int, Q("", meaning="word and source line")]
    column: A[int, Q("", meaning="bit line")]
    g: A[float, Q("S", meaning="conductance; NaN where status is not ok")]
    status: A[str, Q("", meaning="ok, over, below or open")]


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
    rows: A[Sequence[int], Q("", 0, 1023, "word and source lines")] = (0,),
    columns: A[Sequence[int], Q("", 0, 1023, "bit lines")] = (0, 1, 2, 3),
    times: A[Sequence[float], Q("s", 0, 1e8, "when to scan again, after the first scan")] = (
        0.01,
        0.1,
        1.0,
        10.0,
        60.0,
    ),
    temperature: A[float, Q("K", 1, 1000, "of the chip, as metadata: the bench does not set it")] = 300.0,
    v_read: A[float, Q("V", 0.01, 0.5, "read voltage")] = 0.2,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the readings, fully on")] = 2.5,
    average: A[int, Q("", 1, 65535, "conversions averaged a sample")] = 64,
) -> Iterator[Sample]:
    """Read the selected cells at the requested times; a scan that is late is taken at once and its time says so."""
    cells = [bench.cell(row, column) for row in rows for column in columns]
    tick, start = bench.board.identity.tick, 0.0
    with bench.powered():
        for scan, requested in enumerate((0.0, *sorted(times))):
            if scan:
                bench.wait(max(0.0, start + requested - bench.now()))
            for cell in cells:
                with cell:
                    [reading] = cell.program().read(v_read, v_wl, average).run()
                start = start or reading.tick * tick
                g = reading.current / v_read if reading.status == "ok" else float("nan")
                yield Sample(scan, requested, reading.tick * tick - start, cell.row, cell.column, g, reading.status)
