"""Quasi-static I–V loop of one 1T1R cell: SET at positive, RESET at negative voltage."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.cell import Bias
from drivers.quantities import AVERAGE, COLUMN, ROW, STATUS, I, T
from labctl.analysis.loops import set_reset_features
from labctl.analysis.statistics import cdf
from labctl.protocol import protocol
from labctl.quantity import Q, inclusive
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


class Point(NamedTuple):
    """One point of the loop."""

    v: A[float, Q("V", meaning="voltage over the cell and its transistor, V_BL − V_SL")]
    i: A[float, I]
    cycle: A[int, Q("", meaning="which loop, from 0")]
    v_wl: A[float, Q("V", meaning="gate voltage")]
    status: A[str, STATUS]
    t: A[float, T]


def plot(run: Run, figure: "Figure") -> None:
    """|I| against V on a logarithmic scale, loops overlaid; of 5 cycles and more, CDFs of what switches and of R."""
    table = run.table()
    cycles = np.unique(table["cycle"])
    if len(cycles) >= 5:
        parts: Any = figure.subfigures(1, 2, width_ratios=[3, 2])
        axes = parts[0].subplots()
        plot_spread(table, parts[1])
    else:
        axes = figure.subplots()
    for cycle in cycles:
        at = (table["cycle"] == cycle) & (table["status"] == "ok")
        axes.semilogy(table["v"][at], np.abs(table["i"][at]), ".-", linewidth=0.8, label=f"cycle {cycle}")
    title = f"I–V, cell ({run.params['row']}, {run.params['column']}), V$_{{WL}}$ = {run.params['v_wl']:g} V"
    axes.set(xlabel="V$_{BL}$ − V$_{SL}$ (V)", ylabel="|I| (A)", title=title)
    axes.grid(True, which="both", alpha=0.3)
    if len(cycles) < 5:
        axes.legend()


def plot_spread(table: dict[str, np.ndarray], figure: "SubFigure") -> None:
    """CDFs over the cycles: switching voltages, and resistances at 0.2 V. A loop that did not switch has none."""
    ok = table["status"] == "ok"
    found = set_reset_features(table["v"][ok], table["i"][ok], table["cycle"][ok])
    above, below = figure.subplots(2, 1)
    for axes, scale, names in (
        (above, 1.0, (("V$_{SET}$", found.v_set), ("−V$_{RESET}$", -found.v_reset))),
        (below, 1e-3, (("LRS", found.r_lrs), ("HRS", found.r_hrs))),
    ):
        for label, values in names:
            if np.isfinite(values).any():
                drawn = cdf(values)
                text = f"{label} {np.median(drawn.x) * scale:.3g}, n = {len(drawn.x)}"
                axes.plot(drawn.x * scale, 100 * drawn.p, ".-", linewidth=0.8, label=text)
        axes.set(ylabel="cycles below (%)", ylim=(0, 100))
        axes.grid(True, which="both", alpha=0.3)
        if axes.has_data():
            axes.legend(fontsize=7, title="median", title_fontsize=7)
    above.set_xlabel("switching voltage (V)")
    below.set(xlabel="resistance at 0.2 V (kΩ)", xscale="log")
    below.tick_params(axis="x", which="minor", labelbottom=False)


def loop(v_set: float, v_reset: float, points: int) -> list[float]:
    """0 → v_set → v_reset → 0 in `points` equal steps, with both ends and every 0 in it."""
    step = 2 * (v_set - v_reset) / points
    up, down = inclusive(0.0, v_set, step), inclusive(0.0, v_reset, step)
    return [*up, *up[-2::-1], *down[1:], *down[-2::-1]]


def rows(
    v_set: float, v_reset: float, points: int, cycles: int, i_set: float, i_reset: float, **_: object
) -> int | None:
    """How many rows come, where no cut-off can leave some out."""
    return None if i_set or i_reset else len(loop(v_set, v_reset, points)) * cycles


@protocol(total=rows, plot=plot)
def iv_sweep(
    bench: Bench,
    row: A[int, ROW] = 0,
    column: A[int, COLUMN] = 0,
    v_set: A[float, Q("V", 0.01, 4.5, "positive end of the loop: SET")] = 2.5,
    v_reset: A[float, Q("V", -4.5, -0.01, "negative end of the loop: RESET")] = -1.8,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage for the SET half: the compliance")] = 2.0,
    v_wl_reset: A[float, Q("V", 0, 4.5, "gate voltage for the RESET half, fully on")] = 3.5,
    points: A[int, Q("", 4, 100_000, "points of a loop")] = 200,
    cycles: A[int, Q("", 1, 1_000_000, "loops")] = 1,
    dwell: A[float, Q("s", 1e-6, 10, "time at each voltage before it is sampled")] = 2e-3,
    average: A[int, AVERAGE] = 16,
    mode: A[
        Literal["staircase", "pulsed"], Q("", meaning="hold from step to step, or rest at 0 V in between")
    ] = "staircase",
    gap: A[float, Q("s", 0, 10, "pulsed: time at 0 V after each step")] = 1e-3,
    i_set: A[float, Q("A", 0, 1e-3, "current at which the SET half turns back; 0: none")] = 0.0,
    i_reset: A[float, Q("A", 0, 1e-3, "|current| at which the RESET half turns back; 0: none")] = 0.0,
) -> Iterator[Point]:
    """Loop 0 → v_set → v_reset → 0 on one cell, with the current sampled at each step.

    Positive voltage drives the bit line, negative voltage the source line; the gate limits the current of the SET.
    Where a cut-off is reached, the board goes back to 0 V from there. A loop over cells: `labctl run --sequence`.
    """
    staircase = [Bias(v, v_wl if v >= 0 else v_wl_reset) for v in loop(v_set, v_reset, points)]
    most = (i_set or math.inf, i_reset or math.inf)
    cell = bench.cell(row, column)
    with bench.powered():
        for cycle in range(cycles):
            for reading in cell.sweep(staircase, dwell, average, gap=gap if mode == "pulsed" else None, most=most):
                t = reading.tick * bench.board.identity.tick
                gate = v_wl if reading.v >= 0 else v_wl_reset
                yield Point(reading.v, reading.current, cycle, gate, reading.status, t)
