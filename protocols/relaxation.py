"""Relaxation (volatility): how a cell goes on moving after one pulse, read densely at first and then log-spaced."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.fpga.program import Kind
from drivers.quantities import (
    AFTER,
    AVERAGE,
    COLUMN,
    COLUMNS,
    ENDED,
    R_SHORT,
    ROW,
    ROWS,
    STATUS,
    V_READ,
    V_WL_READ,
    WIDTH,
    G,
)
from drivers.readings import ended, log_spaced
from labctl.protocol import protocol
from labctl.quantity import Q, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Relaxed(NamedTuple):
    """One cell: where the pulse put it, and where it went."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, ENDED]
    g_before: A[float, Q("S", meaning="conductance before the pulse; NaN where it could not be resolved")]
    g_first: A[float, Q("S", meaning="conductance at the first reading after the pulse; NaN likewise")]
    g_last: A[float, Q("S", meaning="conductance at the last reading; NaN likewise")]


class Sample(NamedTuple):
    """One reading after the pulse."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    number: A[int, Q("", meaning="of the reading, from 0")]
    t: A[float, AFTER]
    g: A[float, G]
    status: A[str, STATUS]


def plot(run: Run, figure: "Figure") -> None:
    """The cells after the pulse, and the spread of their shifts since the first reading."""
    from labctl.analysis.estimate import pivot
    from labctl.analysis.retention import relaxation as spread

    table, p = run.table("sample"), run.params
    left, right = figure.subplots(1, 2)
    cells = np.stack([table["row"], table["column"]], axis=1)
    g, t = (pivot(cells, table["number"], table[name]) for name in ("g", "t"))
    for times, values in zip(t, g, strict=True):
        left.semilogx(times, values * 1e6, ".-", markersize=2, linewidth=0.7)
    title = f"after {si(p['v'], 'V')}, {si(p['width'], 's')}"
    left.set(xlabel="time after the pulse (s)", ylabel="conductance (µS)", title=title)
    known = g[~np.isnan(g[:, 0])]
    right.set(xlabel="time after the pulse (s)", ylabel="shift since the first reading (µS)")
    if len(known) > 1:
        found = spread(t.mean(0), known)
        right.semilogx(found.t, found.sigma * 1e6, label="σ over cells")
        right.fill_between(found.t, found.sigma_low * 1e6, found.sigma_high * 1e6, alpha=0.2)
        right.semilogx(found.t, found.mean * 1e6, label="mean")
        right.fill_between(found.t, found.mean_low * 1e6, found.mean_high * 1e6, alpha=0.2)
        right.legend(title=f"{len(known)} cells, 95 %")
    else:
        right.semilogx(t.T, (g - g[:, :1]).T * 1e6, ".-", markersize=2, linewidth=0.7)
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def relaxation(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0, 1, 2, 3),
    columns: A[Sequence[int], COLUMNS] = (0, 1, 2, 3),
    v: A[float, Q("V", -4.5, 4.5, "the pulse, V_BL − V_SL: SET above 0, RESET below")] = 2.0,
    width: A[float, WIDTH] = 100e-6,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the pulse")] = 2.4,
    dense: A[int, Q("", 1, 1000, "readings right after the pulse, as fast as they go")] = 100,
    duration: A[float, Q("s", 1e-6, 1e5, "time of the last reading; longer: retention")] = 10.0,
    per_decade: A[int, Q("", 1, 1000, "readings a decade of time, after the dense ones")] = 10,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Relaxed | Sample]:
    """One pulse on each cell, then readings: `dense` of them at once, then log-spaced until `duration`.

    Pulse and readings of a cell are one board program; times are those of the board.
    """
    cells = bench.cells(rows, columns)
    with bench.powered():
        tick = bench.board.identity.tick
        at_once = dense * average * bench.board.identity.sample_ticks * tick  # what the dense readings take at least
        for cell in cells:
            program = cell.program().read(v_read, v_wl_read, average).pulse(v, v_wl, width, log=True)
            for _ in range(dense):
                program.read(v_read, v_wl_read, average)
            before = at_once
            for t in log_spaced(at_once * 10 ** (1 / per_decade), duration, per_decade) if duration > at_once else ():
                program.wait(t - before).read(v_read, v_wl_read, average)
                before = t
            blocks = list(program.records())
            [end] = [record["tick"] for block in blocks for record in block[block["kind"] == Kind.PULSE]]
            first, *after = [reading for block in blocks for reading in program.readings(block)]
            status = ended(after, r_short)
            yield Relaxed(cell.row, cell.column, status, first.g, after[0].g, after[-1].g)
            for number, reading in enumerate(after):
                t = (reading.tick - int(end)) * tick
                yield Sample(cell.row, cell.column, number, t, reading.g, reading.status)
