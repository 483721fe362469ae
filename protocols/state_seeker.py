"""State seeker: how many states a cell can hold that stay apart, on the way up from RESET by a rising gate voltage."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np
from numpy.typing import NDArray

from drivers.bench import Bench
from drivers.cell import CellPort
from drivers.quantities import (
    AVERAGE,
    COLUMN,
    COLUMNS,
    NUMBER,
    R_SHORT,
    ROW,
    ROWS,
    V_READ,
    V_RESET,
    V_SET,
    V_WL_READ,
    V_WL_RESET,
    WIDTH,
    T,
)
from drivers.verify import OUTCOME, STILL, why_not
from labctl.protocol import protocol
from labctl.quantity import Q, inclusive
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Cell(NamedTuple):
    """How one cell ended."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, OUTCOME]
    states: A[int, Q("", meaning="states that stay apart right after programming")]
    states_held: A[int, Q("", meaning="states that stay apart after the retention check too")]
    g_low: A[float, Q("S", meaning="lowest state; NaN where there is none")]
    g_high: A[float, Q("S", meaning="highest state; NaN where there is none")]
    pulses: A[int, NUMBER]


class State(NamedTuple):
    """What the cell held after one pulse."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    v_wl: A[float, Q("V", meaning="gate voltage of the SET pulse; 0: the RESET before them")]
    g: A[float, Q("S", meaning="mean conductance of the reads right after the pulse; NaN where one was no value")]
    sigma: A[float, Q("S", meaning="their standard deviation")]
    g_held: A[float, Q("S", meaning="mean conductance of as many reads after the retention time")]
    sigma_held: A[float, Q("S", meaning="their standard deviation")]
    t: A[float, T]


def apart(low: NDArray[np.float64], high: NDArray[np.float64]) -> int:
    """How many intervals, low … high each (states,), can be chosen so that none overlap: the earliest end first."""
    count, last = 0, -math.inf
    for k in np.argsort(high):
        if low[k] > last:
            count, last = count + 1, high[k]
    return count


def plot(run: Run, figure: "Figure") -> None:
    """States against gate voltage, with k·σ; those of the first cells."""
    table, cells, axes, k = run.table("state"), run.table(), figure.subplots(), run.params["k"]
    for number, (row, column) in enumerate(zip(cells["row"][:4], cells["column"][:4], strict=True)):
        at = (table["row"] == row) & (table["column"] == column)
        for name, mark in (("g", "o"), ("g_held", "x")):
            sigma = table["sigma" + name[1:]][at]
            label = f"({row}, {column}) {'held' if name == 'g_held' else 'at once'}"
            axes.errorbar(
                table["v_wl"][at], table[name][at] * 1e6, k * sigma * 1e6, fmt=mark, markersize=4, linewidth=0.8,
                color=f"C{number}", label=label,
            )  # fmt: skip
    held = ", ".join(map(str, cells["states_held"][:8]))
    axes.set(
        xlabel="gate voltage of the SET pulse (V)", ylabel=f"conductance ± {k:g} σ (µS)", title=f"states held: {held}"
    )
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize="small")


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def state_seeker(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    v_set: A[float, V_SET] = 2.8,
    v_wl_start: A[float, Q("V", 0, 4.5, "gate voltage of the first SET pulse")] = 1.5,
    v_wl_step: A[float, Q("V", 1e-3, 1, "step of the gate voltage")] = 0.05,
    v_wl_stop: A[float, Q("V", 0, 4.5, "gate voltage of the last SET pulse")] = 2.6,
    v_reset: A[float, V_RESET] = 1.6,
    v_wl_reset: A[float, V_WL_RESET] = 3.5,
    width: A[float, WIDTH] = 1e-6,
    reads: A[int, Q("", 3, 1000, "readings of a state")] = 20,
    k: A[float, Q("", 0.1, 10, "σ on either side that neighbours must leave free")] = 3.0,
    hold: A[float, Q("s", 0, 1e6, "retention time before a state is read again")] = 1.0,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Cell | State]:
    """RESET each selected cell, then SET it with a rising gate voltage; read each state at once and after `hold`.

    Two states are apart when their intervals ± k·σ do not meet; those held must also keep apart as they are after
    `hold`, where each state's interval spans both readings. Public testers ask for 3 σ between states.
    """
    cells, gates = bench.cells(rows, columns), inclusive(v_wl_start, v_wl_stop, v_wl_step)

    def look(cell: CellPort, v: float, v_wl: float) -> State:
        program = cell.program().pulse(v, v_wl, width)
        for after in (0.0, hold):
            program.wait(after)
            for _ in range(reads):
                program.read(v_read, v_wl_read, average)
        readings = list(program.run())
        seen.extend(readings)
        g = np.array([reading.g for reading in readings]).reshape(2, reads)
        (now, later), (s, s_later) = g.mean(axis=1).tolist(), g.std(axis=1, ddof=1).tolist()
        t = readings[0].tick * bench.board.identity.tick
        return State(cell.row, cell.column, v_wl if v > 0 else 0.0, now, s, later, s_later, t)

    with bench.powered():
        for cell in cells:
            seen = list(cell.program().read(v_read, v_wl_read, average).run())
            found = [look(cell, -v_reset, v_wl_reset), *(look(cell, v_set, v_wl) for v_wl in gates)]
            good = [item for item in found if math.isfinite(item.g + item.g_held)]
            g, s, late, s_late = (np.array([item[n] for item in good]) for n in (3, 4, 5, 6))
            now = apart(g - k * s, g + k * s)
            held = apart(np.minimum(g - k * s, late - k * s_late), np.maximum(g + k * s, late + k * s_late))
            moved = now > 1 and g.max() > STILL * g.min()  # RTN of a stuck cell makes states too
            status = "done" if moved else why_not(seen, math.inf, math.inf, r_short)
            ends = (float(g.min()), float(g.max())) if len(good) else (math.nan, math.nan)
            yield Cell(cell.row, cell.column, status, now, held, *ends, len(found))
            yield from found
