"""Converge to a state: pulses of rising width, then voltage, turned round whenever the resistance runs away."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.cell import CellPort
from drivers.quantities import AVERAGE, COLUMN, COLUMNS, NUMBER, R_SHORT, ROW, ROWS, V_READ, V_WL_READ, G, T
from drivers.verify import OUTCOME, SHORT_PULSES, Pulse, known, pulse_and_read, why_not
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
    g: A[float, G]
    pulses: A[int, NUMBER]
    reversals: A[int, Q("", meaning="times that the polarity was turned")]
    t: A[float, T]


def plot(run: Run, figure: "Figure") -> None:
    """Resistance and voltage against the number of the pulse, a line a cell."""
    table, pulses, target = run.table(), run.table("pulse"), run.params["r_target"]
    above, below = figure.subplots(2, 1, sharex=True)
    for row, column in zip(table["row"], table["column"], strict=True):
        at = (pulses["row"] == row) & (pulses["column"] == column)
        with np.errstate(divide="ignore"):
            above.semilogy(pulses["number"][at], 1e-3 / pulses["g_after"][at], ".-", linewidth=0.8)
        below.plot(pulses["number"][at], pulses["v"][at], ".", markersize=3)
    band = [target * (1 + sign * run.params["tolerance"]) / 1e3 for sign in (-1, 1)]
    above.axhspan(*band, color="tab:green", alpha=0.3)
    above.set(ylabel="resistance (kΩ)", title=f"converge to {target / 1e3:g} kΩ: {', '.join(table['status'][:8])}")
    below.set(xlabel="pulse", ylabel="pulse voltage (V)")
    for axes in (above, below):
        axes.grid(True, which="both", alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def converge_to_state(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    r_target: A[float, Q("Ω", 500, 10e6, "resistance to reach")] = 10e3,
    tolerance: A[float, Q("", 1e-3, 1, "half-width of the band, relative to r_target")] = 0.05,
    reference: A[float, Q("", 1e-3, 10, "relative change of R after which the ramp begins again")] = 0.1,
    v_start: A[float, Q("V", 0.01, 4.5, "first voltage of the ramp, in both polarities")] = 0.5,
    v_step: A[float, Q("V", 1e-3, 1, "step of the voltage")] = 0.1,
    v_stop: A[float, Q("V", 0.01, 4.5, "last voltage of the ramp")] = 2.0,
    widths: A[Sequence[float], Q("s", 40e-9, 1, "widths, all of them at each voltage")] = (100e-6, 200e-6, 400e-6),
    reversals: A[int, Q("", 0, 1000, "turns of the polarity after which it stops")] = 5,
    attempts: A[int, Q("", 1, 100_000, "pulses at most")] = 1000,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the pulses")] = 3.5,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Cell | Pulse]:
    """Approach a resistance from either side with the gentlest pulses that move the cell; the loop runs on the host.

    Each polarity ramps the width, then the voltage. Where R has come nearer by more than `reference`, the ramp begins
    again from there; where it has passed the target or moved away by as much, the polarity turns. The values are those
    of ArC ONE's module of this name, whose 5 kΩ is the lowest that the simulated cell reaches, so 10 kΩ here.
    """
    ramp = list(product(inclusive(v_start, v_stop, v_step), sorted(widths)))
    cells = bench.cells(rows, columns)
    near, far = math.log1p(tolerance), math.log1p(reference)
    low, high = (1 / (r_target * (1 + sign * tolerance)) for sign in (1, -1))

    def away(g: float) -> float:  # above 0: the resistance is too high
        return math.inf if g == 0 else -math.log(g * r_target) if g > 0 else -math.inf

    def converge(cell: CellPort) -> Iterator[Cell | Pulse]:
        [reading] = cell.program().read(v_read, v_wl_read, average).run()
        g, seen, turns, at, n = known(reading), [reading], 0, 0, 0
        mark, sign = away(g), 1 if away(g) > 0 else -1
        status = "already" if abs(mark) <= near else ""
        while not status:
            shorts = sum(item.status == "over" or known(item) >= 1 / r_short for item in seen)
            ended = n == attempts or at == len(ramp) or turns > reversals or shorts > SHORT_PULSES
            if ended or (reading.status != "over" and math.isnan(known(reading))):
                status = why_not(seen, low, high, r_short)
                break
            pulse, reading = pulse_and_read(cell, sign * ramp[at][0], v_wl, ramp[at][1], v_read, v_wl_read, average)
            yield pulse._replace(number=n, g_before=g)
            n, at = n + 1, at + 1
            if abs(away(known(reading))) <= near:
                [reading] = cell.program().read(v_read, v_wl_read, average).run()  # one reading may be noise
                status = "done" if abs(away(known(reading))) <= near else ""
            g = known(reading)
            seen.append(reading)
            passed = away(g) * mark < 0
            if passed or abs(away(g)) > abs(mark) + far:
                sign, turns = -sign, turns + 1
            if passed or abs(abs(away(g)) - abs(mark)) > far:
                mark, at = away(g), 0
        yield Cell(cell.row, cell.column, status, reading.g, n, turns, reading.tick * bench.board.identity.tick)

    with bench.powered():
        for cell in cells:
            yield from converge(cell)
