"""Switch seeker: the voltages at which a cell switches, one polarity after the other, each by a ramp of pulses."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.cell import END, CellPort
from drivers.fpga.board import Reading
from drivers.fpga.program import SAMPLE_UNIT, Condition, reg
from drivers.quantities import AVERAGE, COLUMN, COLUMNS, NUMBER, R_SHORT, ROW, ROWS, V_READ, V_WL_READ, WIDTH, G, T
from drivers.verify import OUTCOME, known, why_not
from labctl.protocol import protocol
from labctl.quantity import Q, inclusive
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LEAST = 200
"""Least current that is told from none, in units of a register (2 nA)."""


class Cell(NamedTuple):
    """How one cell ended, and at which voltages it switched in the median."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, OUTCOME]
    v_set: A[float, Q("V", meaning="median bit line voltage of the SETs; NaN where there was none")]
    v_reset: A[float, Q("V", meaning="median source line voltage of the RESETs; NaN where there was none")]
    switches: A[int, Q("", meaning="SETs and RESETs found")]
    pulses: A[int, NUMBER]


class Switch(NamedTuple):
    """One switching event."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    number: A[int, Q("", meaning="number of the event on this cell, from 0")]
    v: A[float, Q("V", meaning="voltage of the pulse that switched it, V_BL − V_SL: SET above 0, RESET below")]
    g_before: A[float, G]
    g_after: A[float, G]
    pulses: A[int, Q("", meaning="pulses of the ramp")]
    t: A[float, T]


def median(values: list[float]) -> float:
    """NaN for none."""
    return float(np.median(values)) if values else math.nan


def plot(run: Run, figure: "Figure") -> None:
    """Where the cells switched, and between which conductances."""
    table = run.table("switch")
    left, right = figure.subplots(1, 2)
    for sign, label, color in ((1, "SET", "tab:red"), (-1, "RESET", "tab:blue")):
        at = np.sign(table["v"]) == sign
        v = np.sort(np.abs(table["v"][at]))
        left.plot(v, (np.arange(len(v)) + 0.5) / max(len(v), 1), ".-", color=color, label=f"{label}, {len(v)}")
        right.loglog(table["g_before"][at] * 1e6, table["g_after"][at] * 1e6, ".", color=color, label=label)
    left.set(xlabel="|V| that switched (V)", ylabel="share of the events below", title="switching voltages")
    right.set(xlabel="conductance before (µS)", ylabel="conductance after (µS)", title="states")
    ends = [np.nanmin(table["g_before"], initial=1e-6) * 1e6, np.nanmax(table["g_before"], initial=1e-4) * 1e6]
    right.plot(ends, ends, color="gray", linewidth=0.8)
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def switch_seeker(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    v_start: A[float, Q("V", 0.01, 4.5, "first voltage of each ramp")] = 0.5,
    v_step: A[float, Q("V", 1e-3, 2, "step of the voltage")] = 0.2,
    v_stop: A[float, Q("V", 0.01, 4.5, "last voltage of each ramp")] = 3.0,
    v_wl_set: A[float, Q("V", 0, 4.5, "gate voltage of SET: the compliance")] = 2.4,
    v_wl_reset: A[float, Q("V", 0, 4.5, "gate voltage of RESET")] = 4.2,
    width: A[float, WIDTH] = 10e-6,
    change: A[float, Q("", 0.01, 100, "relative change of the conductance that counts as switching")] = 0.5,
    switches: A[int, Q("", 1, 10_000, "events to find on a cell")] = 10,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Cell | Switch]:
    """Ramp pulses on each selected cell until its conductance has changed by `change`, turn the polarity, and again.

    Each ramp runs on the board and stops by itself at the pulse that switched. A cell that answers to neither polarity
    up to v_stop is named by what it is. The voltages are those of ArC ONE's module of this name.
    """
    cells, ramp = bench.cells(rows, columns), inclusive(v_start, v_stop, v_step)

    def climb(cell: CellPort, sign: int, g: float) -> list[Reading]:
        """One ramp on the board, which ends at the pulse that switched."""
        condition, factor = (Condition.GE, 1 + change) if sign > 0 else (Condition.LE, 1 / (1 + change))
        limit = max(round(g * v_read * factor / SAMPLE_UNIT), LEAST)
        program = cell.program()
        for v in ramp:
            program.pulse(sign * v, v_wl_set if sign > 0 else v_wl_reset, width).read(v_read, v_wl_read, average)
            program.branch(condition, reg(0), limit, END)
        return list(program.run())

    def seek(cell: CellPort) -> Iterator[Cell | Switch]:
        readings = list(cell.program().read(v_read, v_wl_read, average).run())
        found: list[Switch] = []
        sign, silent, pulses = 1, 0, 0
        while len(found) < switches and silent < 2 and not math.isnan(g := known(readings[-1])):
            answers = climb(cell, sign, g)
            pulses += len(answers)
            readings += answers
            after, t = known(answers[-1]), answers[-1].tick * bench.board.identity.tick
            least = LEAST * SAMPLE_UNIT / v_read
            if after >= max(g * (1 + change), least) if sign > 0 else after <= g / (1 + change) and g > least:
                v = sign * ramp[len(answers) - 1]
                found.append(Switch(cell.row, cell.column, len(found), v, g, after, len(answers), t))
                silent = 0
            else:
                silent += 1
            sign = -sign
        status = "done" if len(found) == switches else why_not(readings, math.inf, math.inf, r_short)
        v_set, v_reset = (median([abs(item.v) for item in found if item.v * kind > 0]) for kind in (1, -1))
        yield Cell(cell.row, cell.column, status, v_set, v_reset, len(found), pulses)
        yield from found

    with bench.powered():
        for cell in cells:
            yield from seek(cell)
