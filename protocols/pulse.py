"""The same pulse once or n times on each selected cell, with a reading before the first and after each."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

from drivers.bench import Bench
from drivers.quantities import AVERAGE, COLUMN, COLUMNS, ROW, ROWS, STATUS, V_READ, V_WL_READ, WIDTH, G, I, T
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PART = 500
"""Pulses with their readings that fit into the board's memory at once."""


class State(NamedTuple):
    """One reading."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    pulse: A[int, Q("", meaning="pulses that the cell was given before this reading")]
    g: A[float, G]
    i: A[float, I]
    status: A[str, STATUS]
    t: A[float, T]


def plot(run: Run, figure: "Figure") -> None:
    """Conductance against the number of pulses, a line a cell."""
    table, axes, p = run.table(), figure.subplots(), run.params
    cells = sorted({*zip(table["row"].tolist(), table["column"].tolist(), strict=True)})
    for row, column in cells:
        at = (table["row"] == row) & (table["column"] == column)
        axes.plot(table["pulse"][at], table["g"][at] * 1e6, ".-", linewidth=0.8, label=f"({row}, {column})")
    kind = "SET" if p["v"] > 0 else "RESET"
    axes.set(
        xlabel="pulses given", ylabel="conductance (µS)", title=f"{kind} {p['v']:g} V, gate {p['v_wl']:g} V, "
        f"{p['width'] * 1e6:g} µs",
    )  # fmt: skip
    axes.locator_params("x", integer=True)
    axes.grid(True, alpha=0.3)
    if len(cells) <= 8:
        axes.legend(title="cell")


@protocol(total=lambda rows, columns, n, **_: len(rows) * len(columns) * (n + 1), plot=plot)
def pulse(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    v: A[float, Q("V", -4.5, 4.5, "of the pulse, V_BL − V_SL: SET above 0, RESET below")] = -2.0,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the pulse")] = 3.5,
    width: A[float, WIDTH] = 10e-6,
    n: A[int, Q("", 1, 100_000, "pulses a cell")] = 1,
    gap: A[float, Q("s", 0, 1000, "from the end of a pulse to the reading after it")] = 0.0,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
) -> Iterator[State]:
    """Give each selected cell `n` pulses, timed by the board, and read it before the first and after each.

    Public testers use V_BL 0.7 V … 3 V, V_WL 1.8 V, 10 µs for SET and V_SL 3 V, V_WL 2.8 V, 40 µs for RESET.
    """
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            for start in range(0, n, PART):
                program = cell.program()
                if start == 0:
                    program.read(v_read, v_wl_read, average)
                for _ in range(min(PART, n - start)):
                    program.pulse(v, v_wl, width).wait(gap).read(v_read, v_wl_read, average)
                for number, reading in enumerate(program.run(), start + (start > 0)):
                    t = reading.tick * bench.board.identity.tick
                    yield State(cell.row, cell.column, number, reading.g, reading.current, reading.status, t)
