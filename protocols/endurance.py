"""Endurance: SET/RESET cycles on one cell, run by the board, with the two states read at log-spaced cycles."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import COLUMN, ROW, STATUS, V_READ, V_RESET, V_SET, V_WL_READ, V_WL_RESET, V_WL_SET, WIDTH
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Window(NamedTuple):
    """The two states around one cycle."""

    cycle: A[int, Q("", meaning="cycles completed before this one")]
    r_lrs: A[float, Q("Ω", meaning="resistance after the SET pulse; NaN where it could not be resolved")]
    r_hrs: A[float, Q("Ω", meaning="resistance after the RESET pulse; NaN where it could not be resolved")]
    lrs_status: A[str, STATUS]
    hrs_status: A[str, STATUS]
    t: A[float, Q("s", meaning="when the RESET state was sampled, on the bench's clock")]


def read_at(cycles: int, per_decade: int) -> list[int]:
    """Cycles whose states are read: 0, then log-spaced, the last one included."""
    decades = np.log10(max(cycles - 1, 1))
    spaced = np.logspace(0, decades, max(2, int(np.ceil(decades * per_decade)) + 1)) if cycles > 1 else np.zeros(0)
    return sorted({0, *(round(cycle) for cycle in spaced)})


def plot(run: Run, figure: "Figure") -> None:
    """Both resistances against the cycle number."""
    table, axes = run.table(), figure.subplots()
    for name, label in (("r_lrs", "LRS"), ("r_hrs", "HRS")):
        axes.loglog(np.maximum(table["cycle"], 0.5), table[name], ".-", linewidth=0.8, label=label)
    axes.set(
        xlabel="cycle", ylabel="resistance (Ω)", title=f"endurance, cell ({run.params['row']}, {run.params['column']})"
    )
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()


@protocol(total=lambda cycles, per_decade, **_: len(read_at(cycles, per_decade)), plot=plot, continues=True)
def endurance(
    bench: Bench,
    row: A[int, ROW] = 0,
    column: A[int, COLUMN] = 0,
    cycles: A[int, Q("", 1, 10**9, "SET/RESET cycles")] = 10_000,
    per_decade: A[int, Q("", 1, 1000, "cycles read a decade")] = 10,
    v_set: A[float, V_SET] = 2.8,
    v_reset: A[float, V_RESET] = 2.0,
    width: A[float, WIDTH] = 1e-6,
    v_wl_set: A[float, V_WL_SET] = 2.4,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
) -> Iterator[Window]:
    """SET/RESET cycles timed by the board; both states are read at log-spaced cycles, first and last included.

    A resumed run goes on at the pulse after the last one that the board applied.
    """
    with bench.powered(), bench.cell(row, column) as cell:
        done, half = divmod(cell.go_on(), 2)
        if half:  # cut off between SET and RESET: that cycle is completed, its reading is lost
            list(cell.program().pulse(-v_reset, v_wl_reset, width).run())
            done += 1
        for cycle in read_at(cycles, per_decade):
            if cycle < done:
                continue
            program = cell.program()
            body = program.body().pulse(v_set, v_wl_set, width).pulse(-v_reset, v_wl_reset, width)
            program.repeat(body, cycle - done)
            program.pulse(v_set, v_wl_set, width).read(v_read, v_wl_read)
            program.pulse(-v_reset, v_wl_reset, width).read(v_read, v_wl_read)
            lrs, hrs = program.run()
            yield Window(cycle, lrs.r, hrs.r, lrs.status, hrs.status, hrs.tick * bench.board.identity.tick)
            done = cycle + 1
