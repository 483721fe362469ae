"""Read disturb: a cell stressed with many pulses at the read voltage, looked at after log-spaced numbers of them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.cell import CellPort
from drivers.fpga.board import Reading
from drivers.quantities import (
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
    T,
)
from drivers.readings import ended, log_spaced
from labctl.errors import MeasurementError, UsageError
from labctl.protocol import protocol
from labctl.quantity import Q, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLE = Q("", meaning="stressed, or control: read at the same times without stress")
Role = Literal["stressed", "control"]


class Disturbed(NamedTuple):
    """One cell from first to last."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    role: A[str, ROLE]
    status: A[str, ENDED]
    g_first: A[float, Q("S", meaning="conductance before any stress; NaN where it could not be resolved")]
    g_last: A[float, Q("S", meaning="conductance after all of it; NaN likewise")]


class Look(NamedTuple):
    """One cell after so many stress pulses."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    role: A[str, ROLE]
    stress: A[int, Q("", meaning="stress pulses that the stressed cells have had")]
    g: A[float, G]
    status: A[str, STATUS]
    t: A[float, T]


def looks(pulses: int, per_decade: int) -> list[int]:
    """Numbers of pulses after which the cells are read: 0, then log-spaced, the last one included."""
    return sorted({0, *(round(n) for n in log_spaced(1, pulses, per_decade))})


def plot(run: Run, figure: "Figure") -> None:
    """Shift of each cell against the number of pulses, and what disturb there is beyond the control."""
    from labctl.analysis.disturb import disturb
    from labctl.analysis.estimate import pivot

    table, p, axes = run.table("look"), run.params, figure.subplots()
    title = f"read disturb: {si(p['v_stress'], 'V')}, {si(p['width'], 's')}"
    g: dict[str, np.ndarray] = {}
    for role, colour in (("control", "gray"), ("stressed", "tab:red")):
        at = table["role"] == role
        if not at.any():
            continue
        cells = np.stack([table["row"][at], table["column"][at]], axis=1)
        g[role] = pivot(cells, table["stress"][at], table["g"][at])
        stress = np.unique(table["stress"][at])
        shift = (g[role] / g[role][:, :1] - 1) * 100
        axes.plot(np.maximum(stress, 0.3), shift.T, ".-", color=colour, linewidth=0.8, label=role)
    try:
        found = disturb(stress, g["stressed"], g.get("control"))
        slope = [f"{q * 1e6:.2g}" for q in found.slope]
        title += f"\n{slope[0]} ({slope[1]} … {slope[2]}) µS a decade, p = {found.p:.2g}"
    except (KeyError, UsageError, MeasurementError):  # too few cells for a test
        pass
    axes.set(xscale="log", xlabel="stress pulses (0 at the left end)", ylabel="shift (%)", title=title)
    axes.grid(True, which="both", alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    one = dict(zip(labels, handles, strict=True))
    axes.legend(one.values(), one.keys())


@protocol(
    total=lambda rows, columns, control, **_: len(rows) * len({*columns, *control}),
    plot=plot,
)
def read_disturb(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0, 1, 2, 3),
    columns: A[Sequence[int], COLUMNS] = (0, 1),
    control: A[Sequence[int], Q("", 0, 1023, "bit lines whose cells, where not stressed, are read as often")] = (2, 3),
    pulses: A[int, Q("", 1, 10**9, "stress pulses on each cell")] = 1_000_000,
    per_decade: A[int, Q("", 1, 1000, "readings a decade of pulses")] = 3,
    v_stress: A[float, Q("V", -4.5, 4.5, "the stress, V_BL − V_SL")] = 0.2,
    width: A[float, WIDTH] = 1e-6,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the stress pulses, fully on")] = 2.5,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 64,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Disturbed | Look]:
    """Stress each cell with equal pulses timed by the board, and read all of them after log-spaced numbers of pulses.

    A cell that is shorted or open gets no stress. Cells relax by themselves: those in the columns `control` are
    read at the same times without stress.
    """
    roles: dict[Role, Sequence[int]] = {"stressed": columns, "control": [c for c in control if c not in columns]}
    cells: list[tuple[Role, CellPort]] = []
    for role, of in roles.items():
        cells += [(role, bench.cell(row, column)) for row in rows for column in of]
    readings: list[list[Reading]] = [[] for _ in cells]
    with bench.powered():
        done = 0
        for number in looks(pulses, per_decade):
            for (role, cell), so_far in zip(cells, readings, strict=True):
                with cell:
                    program = cell.program()
                    if role == "stressed" and number and ended(so_far, r_short) == "done":
                        program.repeat(program.body().pulse(v_stress, v_wl, width), number - done)
                    [reading] = program.read(v_read, v_wl_read, average).run()
                so_far.append(reading)
                t = reading.tick * bench.board.identity.tick
                yield Look(cell.row, cell.column, role, number, reading.g, reading.status, t)
            done = number
        for (role, cell), so_far in zip(cells, readings, strict=True):
            yield Disturbed(cell.row, cell.column, role, ended(so_far, r_short), so_far[0].g, so_far[-1].g)
