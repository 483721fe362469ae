"""Potentiation and depression (LTP/LTD): how the conductance follows trains of equal pulses."""

from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import COLUMN, ROW, STATUS, V_READ, V_RESET, V_SET, V_WL_READ, V_WL_RESET, V_WL_SET, WIDTH, G, T
from labctl.errors import MeasurementError, UsageError
from labctl.protocol import protocol
from labctl.quantity import Q, si
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
    """Conductance against pulse number, cycles overlaid; both directions fitted and laid on each other."""
    from labctl.analysis.plasticity import branch, trains, update

    table, p = run.table(), run.params
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    for cycle in np.unique(table["cycle"]):
        at = table["cycle"] == cycle
        left.plot(table["pulse"][at], table["g"][at] * 1e6, ".-", linewidth=0.8, label=f"cycle {cycle}")
    left.axvline(p["n_set"] + 0.5, color="gray", linewidth=0.8)
    title = f"cell ({p['row']}, {p['column']}): {p['n_set']} SET, {p['n_reset']} RESET pulses"
    left.set(xlabel="pulse", ylabel="conductance (µS)", title=title)
    if len(np.unique(table["cycle"])) <= 6:
        left.legend()
    try:
        whole = table["cycle"] < len(table["g"]) // (p["n_set"] + p["n_reset"] + 1)  # a run may end within a train
        if not whole.any():
            raise MeasurementError("the run ended within its first train")
        if table["cycle"][whole].max() > 0:
            whole &= table["cycle"] > 0  # the first begins anywhere
        cut = trains(*(table[name][whole] for name in ("cycle", "v", "g")))
        for name, g, sign in (("SET", cut.up, 1), ("RESET, backwards", cut.down, -1)):
            if g.shape[1] < 5:
                raise MeasurementError(f"a curve needs four pulses of each kind, and {name} has {g.shape[1] - 1}")
            found, s = branch(g), np.linspace(0, 1, g.shape[1])
            if sign * found.span <= 0:
                raise MeasurementError(f"{name.split(',')[0]} moves G by {si(found.span, 'S')}")
            for row in g:
                one = branch(row)
                x = (row - one.start) / one.span
                right.plot(s, x if sign > 0 else 1 - x[::-1], ".", markersize=3, alpha=0.5)
            beta = found.beta.value
            bent = s if abs(beta) < 1e-9 else np.expm1(-beta * s) / np.expm1(-beta)
            right.plot(s, bent if sign > 0 else 1 - bent[::-1], label=f"{name}: β = {beta:.2g}")
        both = update(cut.up, cut.down)
        verdict = f"asymmetry {both.asymmetry:.2f}, on/off {both.on_off:.2g}, {both.states} states"
    except (UsageError, MeasurementError) as error:  # too few pulses, or a cell that did not follow them
        verdict = fill(f"no update to describe: {error}", 40)
    right.set(xlabel="part of the train", ylabel="part of the change", title=verdict)
    right.title.set_fontsize(9)
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(True, alpha=0.3)


@protocol(total=lambda n_set, n_reset, cycles, **_: cycles * (n_set + n_reset + 1), plot=plot)
def potentiation_depression(
    bench: Bench,
    row: A[int, ROW] = 0,
    column: A[int, COLUMN] = 0,
    n_set: A[int, Q("", 0, 10_000, "SET pulses of a cycle")] = 100,
    n_reset: A[int, Q("", 0, 10_000, "RESET pulses of a cycle")] = 100,
    cycles: A[int, Q("", 1, 10_000, "trains; the first begins from the state that the cell is in")] = 2,
    v_set: A[float, V_SET] = 2.0,
    v_reset: A[float, V_RESET] = 1.0,
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
