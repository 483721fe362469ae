"""Write-verify: bring cells to a resistance by a ramp of pulses with a reading after each, timed by the board."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import (
    ATTEMPTS,
    AVERAGE,
    COLUMN,
    COLUMNS,
    CONFIRM,
    NUMBER,
    R_SHORT,
    ROW,
    ROWS,
    V_READ,
    V_RESET,
    V_SET,
    V_WL_READ,
    V_WL_RESET,
    V_WL_SET,
    WIDTH,
    G,
    T,
)
from drivers.verify import OUTCOME, Band, Pulse, Ramp, flips, write_verify
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Cell(NamedTuple):
    """How the write-verify of one cell ended."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, OUTCOME]
    g: A[float, G]
    pulses: A[int, NUMBER]
    flips: A[int, Q("", meaning="turns between SET and RESET")]
    t: A[float, T]


def plot(run: Run, figure: "Figure") -> None:
    """Conductance against the number of the pulse, with the band; how many pulses the cells needed."""
    table, pulses, p = run.table(), run.table("pulse"), run.params
    target = p["g_target"] or 1 / p["r_target"]
    left, right = figure.subplots(1, 2)
    left.axhspan(*(target * (1 + sign * p["tolerance"]) * 1e6 for sign in (-1, 1)), color="tab:green", alpha=0.3)
    for row, column in zip(table["row"], table["column"], strict=True):
        at = (pulses["row"] == row) & (pulses["column"] == column)
        if at.any():
            left.plot(np.append(pulses["g_before"][at][:1], pulses["g_after"][at]) * 1e6, ".-", linewidth=0.8)
    left.set(xlabel="pulses", ylabel="conductance (µS)", title=f"{p['method']} to {target * 1e6:.4g} µS")
    counts = [table["pulses"][table["status"] == status] for status in sorted(set(table["status"]))]
    right.hist(
        counts, bins=np.arange(-0.5, table["pulses"].max() + 1.5), stacked=True, label=sorted(set(table["status"]))
    )
    right.set(xlabel="pulses", ylabel="cells", title=f"mean {table['pulses'].mean():.1f} pulses a cell")
    right.legend()
    for axes in (left, right):
        axes.grid(True, alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def program_verify(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0, 1, 2, 3),
    columns: A[Sequence[int], COLUMNS] = (0, 1, 2, 3),
    method: A[Literal["igvva", "ispp", "ping_pong"], Q("", meaning="what rises from pulse to pulse")] = "igvva",
    r_target: A[float, Q("Ω", 500, 10e6, "resistance to reach")] = 15e3,
    g_target: A[float, Q("S", 0, 2e-3, "conductance to reach; 0: what r_target says")] = 0.0,
    tolerance: A[float, Q("", 1e-4, 10, "half-width of the band, relative to the target conductance")] = 0.05,
    attempts: A[int, ATTEMPTS] = 50,
    v_set: A[float, V_SET] = 3.0,
    v_set_start: A[float, Q("V", 0, 4.5, "ispp, ping_pong: where the ramp to v_set begins")] = 1.0,
    v_reset: A[float, V_RESET] = 2.5,
    v_reset_start: A[float, Q("V", 0, 4.5, "ispp, ping_pong: where the ramp to v_reset begins")] = 0.6,
    v_step: A[float, Q("V", 1e-3, 1, "ispp, ping_pong: step of the bit and source line voltages")] = 0.05,
    v_wl_set: A[float, V_WL_SET] = 2.4,
    v_wl_set_start: A[float, Q("V", 0, 4.5, "igvva: where the ramp to v_wl_set begins")] = 1.5,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    v_wl_reset_start: A[float, Q("V", 0, 4.5, "igvva: where the ramp to v_wl_reset begins")] = 2.2,
    v_wl_step: A[float, Q("V", 1e-3, 1, "igvva: step of the gate voltages")] = 0.05,
    width: A[float, WIDTH] = 1e-6,
    confirm: A[float, CONFIRM] = 1e-3,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Cell | Pulse]:
    """Pulse each selected cell until its conductance is in the band; the loop runs on the board (`drivers.verify`).

    SET while it is too low, RESET while it is too high. igvva ramps the gate voltages at v_set and v_reset, ispp the
    bit and source line voltages at v_wl_set and v_wl_reset; both begin again at the start when the polarity turns.
    ping_pong ramps as ispp does, but goes two steps back where the polarity turns: small steps to and fro. The public
    array testers use V_WL 0.8 V … 4 V (SET) and … 3 V (RESET) in steps of 0.1 V, V_BL 3.3 V, V_SL 3.5 V, 100 µs, 25
    attempts; the defaults here suit the simulated array.
    """
    back = 2 * v_step if method == "ping_pong" else None
    if method == "igvva":
        rise = Ramp("v_wl", v_wl_set_start, v_wl_set, v_wl_step, v_set, v_wl_set, width)
        fall = Ramp("v_wl", v_wl_reset_start, v_wl_reset, v_wl_step, v_reset, v_wl_reset, width)
    else:
        rise = Ramp("v", v_set_start, v_set, v_step, v_set, v_wl_set, width, back, v_set_start)
        fall = Ramp("v", v_reset_start, v_reset, v_step, v_reset, v_wl_reset, width, back, v_reset_start)
    g = g_target or 1 / r_target
    low, high = max(g * (1 - tolerance), 0.0), g * (1 + tolerance)
    band = Band(low, high, rise, fall, attempts, v_read, v_wl_read, average, confirm, r_short)
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            end = write_verify(cell, band)
            pulses = len(end.pulses)
            yield Cell(cell.row, cell.column, end.status, end.last.g, pulses, flips(end.pulses), end.t)
            yield from end.pulses
