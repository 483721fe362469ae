"""Potentiation and depression (LTP/LTD): how the conductance follows trains of equal pulses."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import COLUMN, ROW, STATUS, V_READ, V_RESET, V_SET, V_WL_READ, V_WL_RESET, V_WL_SET, WIDTH, G, T
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """The cell after one pulse."""

    cycle: A[int, Q("", meaning="which train, from 0")]
    pulse: A[int, Q("", meaning="number of the pulse within the cycle; 0 is the reading before the first")]
    v: A[float, Q("V", meaning="voltage of the pulse, V_BL − V_SL; NaN for the reading before the first")]
    g: A[float, G]
    status: A[str, STATUS]
    t: A[float, T]


def plot(run: Run, figure: "Figure") -> None:
    """Conductance against pulse number, cycles overlaid."""
    table, axes = run.table(), figure.subplots()
    for cycle in np.unique(table["cycle"]):
        at = table["cycle"] == cycle
        axes.plot(table["pulse"][at], table["g"][at] * 1e6, ".-", linewidth=0.8, label=f"cycle {cycle}")
    axes.axvline(run.params["n_set"] + 0.5, color="gray", linewidth=0.8)
    p = run.params
    title = f"cell ({p['row']}, {p['column']}): {p['n_set']} SET, {p['n_reset']} RESET pulses"
    axes.set(xlabel="pulse", ylabel="conductance (µS)", title=title)
    axes.grid(True, alpha=0.3)
    if len(np.unique(table["cycle"])) <= 6:
        axes.legend()


@protocol(total=lambda n_set, n_reset, cycles, **_: cycles * (n_set + n_reset + 1), plot=plot)
def potentiation_depression(
    bench: Bench,
    row: A[int, ROW] = 0,
    column: A[int, COLUMN] = 0,
    n_set: A[int, Q("", 0, 10_000, "SET pulses of a cycle")] = 100,
    n_reset: A[int, Q("", 0, 10_000, "RESET pulses of a cycle")] = 100,
    cycles: A[int, Q("", 1, 10_000, "trains")] = 1,
    v_set: A[float, V_SET] = 2.0,
    v_reset: A[float, V_RESET] = 0.9,
    width: A[float, WIDTH] = 1e-6,
    v_wl_set: A[float, V_WL_SET] = 2.0,
    v_wl_reset: A[float, V_WL_RESET] = 2.8,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
) -> Iterator[Point]:
    """n SET-like pulses, then n RESET-like pulses, with a reading after each: linearity and asymmetry of the update."""
    pulses = [(v_set, v_wl_set)] * n_set + [(-v_reset, v_wl_reset)] * n_reset
    with bench.powered(), bench.cell(row, column) as cell:
        for cycle in range(cycles):
            for start in range(0, len(pulses) + 1, 500):  # what fits into the board's memory
                part = pulses[start : start + 500]
                program = cell.program()
                if start == 0:
                    program.read(v_read, v_wl_read)
                for v, v_wl in part:
                    program.pulse(v, v_wl, width).read(v_read, v_wl_read)
                first = start + (start > 0)
                for number, reading in enumerate(program.run(), first):
                    v = pulses[number - 1][0] if number else float("nan")
                    yield Point(cycle, number, v, reading.g, reading.status, reading.tick * bench.board.identity.tick)
