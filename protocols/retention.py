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
    """Conductance against time with each cell's drift law, and the distribution of the drift exponents."""
    from labctl.analysis.retention import drift

    table, p = run.table(), run.params
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    exponents = []
    for cell in sorted(set(zip(table["row"].tolist(), table["column"].tolist(), strict=True))):
        at = (table["row"] == cell[0]) & (table["column"] == cell[1]) & (table["status"] == "ok")
        later = at & (table["scan"] > 0)  # the first scan is where the time begins: a law in ln t leaves it out
        [points] = left.semilogx(np.maximum(table["t"][at], 1e-3), table["g"][at] * 1e6, ".", markersize=5)
        if len(np.unique(table["t"][later])) < 3:
            continue
        law, t = drift(table["t"][later], table["g"][later]), np.sort(table["t"][later])
        left.semilogx(t, [law.at(time).value * 1e6 for time in t], linewidth=0.8, color=points.get_color())
        exponents.append(law.nu)
    title = f"retention at {p['temperature']:g} K; lines: G ∝ t$^{{−ν}}$"
    left.set(xlabel="time after the first scan (s)", ylabel="conductance (µS)", title=title)
    exponents.sort()
    values, share = [nu.value for nu in exponents], (np.arange(len(exponents)) + 0.5) / max(len(exponents), 1)
    spread = [[nu.value - nu.low for nu in exponents], [nu.high - nu.value for nu in exponents]]
    right.errorbar(values, share, xerr=spread, fmt=".", elinewidth=0.6)
    right.axvline(0, color="gray", linewidth=0.8)
    what = f"ν of {len(exponents)} cells, 95 %" if exponents else "no cell was read at three times: no law"
    right.set(xlabel="drift exponent ν (> 0: G falls)", ylabel="share of the cells below", ylim=(0, 1), title=what)
    for axes in (left, right):
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
