"""Half-select disturb: one cell is pulsed again and again; the cells that share its lines are looked at in between."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import (
    ALL_COLUMNS,
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
from drivers.readings import ended
from labctl.errors import MeasurementError, UsageError
from labctl.protocol import protocol
from labctl.quantity import Q, si
from labctl.reader import Run
from protocols.read_disturb import looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from drivers.cell import CellProgram
    from drivers.fpga.board import Reading

SHARES = Q(
    "", meaning="what the cell shares with the pulsed one: itself, row (gate and source line), column or nothing"
)
Scheme = Literal["float", "v/2", "v/3"]
COLOURS = {"row": "tab:red", "column": "tab:orange", "nothing": "gray"}


class Victim(NamedTuple):
    """One cell from first to last."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    shares: A[str, SHARES]
    status: A[str, ENDED]
    v: A[float, Q("V", meaning="V_BL − V_SL on it during a pulse, its gate up or down; NaN where a line floats")]
    g_first: A[float, Q("S", meaning="conductance before the first pulse; NaN where it could not be resolved")]
    g_last: A[float, Q("S", meaning="conductance after the last; NaN likewise")]


class Look(NamedTuple):
    """One cell in the map after so many pulses."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    shares: A[str, SHARES]
    pulses: A[int, Q("", meaning="pulses that the pulsed cell has had")]
    g: A[float, G]
    status: A[str, STATUS]
    t: A[float, T]


def levels(scheme: Scheme, v: float) -> tuple[float, float]:
    """Voltages (V) of the other bit and source lines while the selected cell gets `v`."""
    v_bl, v_sl = max(v, 0.0), max(-v, 0.0)
    if scheme == "v/2":
        return abs(v) / 2, abs(v) / 2
    low, high = v_sl + v / 3, v_bl - v / 3
    return low, high


def plot(run: Run, figure: "Figure") -> None:
    """Shift against the number of pulses by what is shared, and the map of the shifts at the end."""
    from labctl.analysis.disturb import disturb
    from labctl.analysis.estimate import pivot

    table, p = run.table("look"), run.params
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    cells = np.stack([table["row"], table["column"]], axis=1)
    g, stress = pivot(cells, table["pulses"], table["g"]), np.unique(table["pulses"])
    place = np.unique(cells, axis=0)
    shift = (g / g[:, :1] - 1) * 100
    own = np.array([p["row"], p["column"]])
    kinds = {
        "row": (place[:, 0] == own[0]) & (place[:, 1] != own[1]),
        "column": (place[:, 1] == own[1]) & (place[:, 0] != own[0]),
        "nothing": (place != own).all(1),
    }
    title = f"{si(p['v'], 'V')} on ({own[0]}, {own[1]}), scheme {p['scheme']}"
    for kind, at in kinds.items():
        for k, values in enumerate(shift[at]):
            label = {"nothing": "shares nothing"}.get(kind, f"shares the {kind}") if k == 0 else None
            left.plot(np.maximum(stress, 0.3), values, ".-", linewidth=0.8, color=COLOURS[kind], label=label)
    try:
        found = disturb(stress, g[kinds["row"]], g[kinds["nothing"]])
        slope = [f"{q * 1e6:.2g}" for q in found.slope]
        title += f"\nrow: {slope[0]} ({slope[1]} … {slope[2]}) µS a decade, p = {found.p:.2g}"
    except (UsageError, MeasurementError):  # too few cells for a test
        pass
    left.set(xscale="log", xlabel="pulses (0 at the left end)", ylabel="shift (%)", title=title)
    left.legend()
    left.grid(True, which="both", alpha=0.3)
    rows, columns = np.unique(place[:, 0]), np.unique(place[:, 1])
    image = np.full((len(rows), len(columns)), np.nan)
    image[np.searchsorted(rows, place[:, 0]), np.searchsorted(columns, place[:, 1])] = shift[:, -1]
    image[rows == own[0], columns == own[1]] = np.nan
    most = float(np.nanmax(np.abs(image))) if np.isfinite(image).any() else 1.0
    shown = right.imshow(image, cmap="coolwarm", vmin=-most, vmax=most, aspect="auto")
    right.set(xticks=range(len(columns)), xticklabels=columns, yticks=range(len(rows)), yticklabels=rows)
    right.set(xlabel="column", ylabel="row", title=f"shift after {stress[-1]} pulses")
    figure.colorbar(shown, ax=right, label="%")


@protocol(
    total=lambda row, column, rows, columns, **_: len({(row, column), *((r, c) for r in rows for c in columns)}),
    plot=plot,
)
def half_select_disturb(
    bench: Bench,
    row: A[int, ROW] = 0,
    column: A[int, COLUMN] = 0,
    rows: A[Sequence[int], ROWS] = (0, 1, 2, 3),
    columns: A[Sequence[int], COLUMNS] = ALL_COLUMNS,
    scheme: A[Scheme, Q("", meaning="of the other lines: bit lines floating, or at V/2 or V/3")] = "v/2",
    all_gates: A[
        bool, Q("", meaning="the gates of all rows rise with the pulse, as in an array without gates")
    ] = False,
    v: A[float, Q("V", -4.5, 4.5, "the pulse, V_BL − V_SL: SET above 0, RESET below")] = 2.4,
    width: A[float, WIDTH] = 1e-6,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the pulse")] = 2.4,
    pulses: A[int, Q("", 1, 10**9, "pulses on the cell")] = 10_000,
    per_decade: A[int, Q("", 1, 1000, "maps a decade of pulses")] = 3,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 64,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Victim | Look]:
    """Pulse one cell with the other lines biased by a scheme, and map the chosen cells after log-spaced pulses.

    The pulses are timed by the board. v/2: other bit and source lines at half the voltage. v/3: those of one kind at
    V/3, of the other at 2V/3, so that no cell sees more than a third. Both need BIAS_DRIVE in the station. The bias
    stays on between the pulses; the row's gate is up for 50 ns before and after each. A cell that is shorted or open is
    not pulsed: the first map is then all.
    """
    own = bench.cell(row, column)
    places = [(r, c) for r in rows for c in columns]
    cells = [bench.cell(*place) for place in dict.fromkeys([(row, column), *places])]
    readings: list[list[Reading]] = [[] for _ in cells]
    with bench.powered():
        done = 0
        for number in looks(pulses, per_decade):
            if number and ended(readings[0], r_short) != "done":
                break
            if number:
                with own:
                    list(_stress(own.program(), scheme, all_gates, v, v_wl, width, number - done).run())
            done = number
            for cell, so_far in zip(cells, readings, strict=True):
                with cell:
                    [reading] = cell.program().read(v_read, v_wl_read, average).run()
                so_far.append(reading)
                t = reading.tick * bench.board.identity.tick
                shares = _shares((row, column), (cell.row, cell.column))
                yield Look(cell.row, cell.column, shares, number, reading.g, reading.status, t)
        for cell, so_far in zip(cells, readings, strict=True):
            shares = _shares((row, column), (cell.row, cell.column))
            across = _across(shares, scheme, v)
            status = ended(so_far, r_short)
            yield Victim(cell.row, cell.column, shares, status, across, so_far[0].g, so_far[-1].g)


def _stress(
    program: "CellProgram", scheme: Scheme, all_gates: bool, v: float, v_wl: float, width: float, times: int
) -> "CellProgram":
    """So many pulses with the other lines biased."""
    program.hold(0.0, 0.0)
    program.route(1 if v >= 0 else -1)
    if scheme != "float":
        program.others(v, *levels(scheme, v), all_gates)
    return program.repeat(program.body(held=True).pulse(v, v_wl, width), times)


def _shares(own: tuple[int, int], cell: tuple[int, int]) -> str:
    if own == cell:
        return "itself"
    return "row" if own[0] == cell[0] else "column" if own[1] == cell[1] else "nothing"


def _across(shares: str, scheme: Scheme, v: float) -> float:
    """V_BL − V_SL on a cell during a pulse."""
    if scheme == "float" and shares != "itself":
        return v if shares == "column" else float("nan")
    v_bl, v_sl = levels(scheme, v)
    bl = max(v, 0.0) if shares in ("itself", "column") else v_bl
    sl = max(-v, 0.0) if shares in ("itself", "row") else v_sl
    return bl - sl
