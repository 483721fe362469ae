"""One cell taught to multiply: pulses until x·w is the wanted product, then products of other inputs with it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
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
    STATUS,
    V_READ,
    V_RESET,
    V_SET,
    V_WL_READ,
    V_WL_RESET,
    V_WL_SET,
    WIDTH,
    T,
)
from drivers.verify import OUTCOME, Band, Ramp, write_verify
from labctl.errors import ParameterError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X = Q("", -50, 50, "input; its voltage is x·v_unit")
PRODUCT = Q("", meaning="current over v_unit·g_unit; NaN where it is no value")


class Inference(NamedTuple):
    """One product after training."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    x: A[float, X]
    z: A[float, Q("", meaning="wanted product x·w")]
    measured: A[float, PRODUCT]
    error: A[float, Q("", meaning="measured − z")]
    status: A[str, STATUS]
    t: A[float, T]


class Step(NamedTuple):
    """One step of the training: the product after its pulse."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    step: A[int, Q("", meaning="number of the pulse, from 0")]
    v: A[float, Q("V", meaning="voltage of the pulse, V_BL − V_SL: above 0 potentiates, below depresses")]
    v_wl: A[float, Q("V", meaning="gate voltage of the pulse")]
    before: A[float, PRODUCT]
    after: A[float, PRODUCT]
    error: A[float, Q("", meaning="after − z")]
    t: A[float, T]


class Trained(NamedTuple):
    """How the training of one cell ended."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, OUTCOME]
    steps: A[int, NUMBER]
    w: A[float, Q("", meaning="what the cell multiplies with at the end: conductance over g_unit")]
    error: A[float, Q("", meaning="x·w − z at the end")]


def plot(run: Run, figure: "Figure") -> None:
    """The training, and what the trained cells make of other inputs."""
    p, steps, table = run.params, run.table("step"), run.table()
    z = p["x_train"] * p["w"]
    left, right = figure.subplots(1, 2)
    left.axhspan(z - p["tolerance"], z + p["tolerance"], color="tab:green", alpha=0.3, label="wanted")
    right.plot(table["x"], table["z"], color="gray", linewidth=0.8, label="x·w")
    for row, column in sorted(set(zip(table["row"].tolist(), table["column"].tolist(), strict=True))):
        of = (steps["row"] == row) & (steps["column"] == column)
        left.plot(np.append(steps["before"][of][:1], steps["after"][of]), ".-", linewidth=0.8)
        at = (table["row"] == row) & (table["column"] == column)
        right.plot(table["x"][at], table["measured"][at], ".", label=f"cell ({row}, {column})")
    left.set(xlabel="pulses", ylabel=f"x·w at x = {p['x_train']:g}", title="training")
    worst = np.nanmax(np.abs(table["error"]), initial=0.0)
    right.set(xlabel="x", ylabel="product", title=f"inference, largest error {worst:.3g}")
    left.legend()
    if len(set(zip(table["row"], table["column"], strict=True))) <= 6:
        right.legend()
    for axes in (left, right):
        axes.grid(True, alpha=0.3)


@protocol(total=lambda rows, columns, x, **_: len(rows) * len(columns) * len(x), plot=plot)
def train_multiplier(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    w: A[float, Q("", 1e-3, 50, "what the cell is to multiply with")] = 0.6,
    x_train: A[float, Q("", 0.02, 50, "input of the training; z = x_train·w is the wanted product")] = 1.0,
    tolerance: A[float, Q("", 1e-6, 50, "the training ends with |x·w − z| within this")] = 0.02,
    x: A[Sequence[float], X] = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0),
    v_unit: A[float, Q("V", 0.01, 0.5, "voltage of an input of 1")] = 0.2,
    g_unit: A[float, Q("S", 1e-9, 1e-3, "conductance of a w of 1")] = 100e-6,
    attempts: A[int, ATTEMPTS] = 100,
    v_set: A[float, V_SET] = 3.0,
    v_reset: A[float, V_RESET] = 2.5,
    v_wl_set_start: A[float, Q("V", 0, 4.5, "where the gate voltages of potentiation begin")] = 1.5,
    v_wl_set: A[float, V_WL_SET] = 2.4,
    v_wl_reset_start: A[float, Q("V", 0, 4.5, "where the gate voltages of depression begin")] = 2.2,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    v_wl_step: A[float, Q("V", 1e-3, 1, "step of the gate voltages")] = 0.05,
    width: A[float, WIDTH] = 1e-6,
    confirm: A[float, CONFIRM] = 1e-3,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 64,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Inference | Step | Trained]:
    """Train x·w = z on each selected cell in a closed loop, then multiply other inputs with it.

    x is applied as a voltage, the current is the product. Too small, and the cell is potentiated; too large, and it is
    depressed, with a gate voltage that rises from pulse to pulse; the loop runs on the board. A product at another
    input is off by what the cell relaxed since, by read noise, and by the curvature of its I–V curve.
    """
    volts = [value * v_unit for value in x]
    for value in (x_train * v_unit, *map(abs, volts)):
        V_READ.check("x·v_unit", value)
    z = x_train * w
    if tolerance >= z:
        raise ParameterError(f"tolerance = {tolerance:g} is not below the product z = {z:g}; give less")
    low, high = ((z + sign * tolerance) / x_train * g_unit for sign in (-1, 1))
    rise = Ramp("v_wl", v_wl_set_start, v_wl_set, v_wl_step, v_set, v_wl_set, width)
    fall = Ramp("v_wl", v_wl_reset_start, v_wl_reset, v_wl_step, v_reset, v_wl_reset, width)
    band = Band(low, high, rise, fall, attempts, x_train * v_unit, v_wl_read, average, confirm, r_short)
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            at = cell.row, cell.column
            end = write_verify(cell, band)
            for pulse in end.pulses:
                before, after = (x_train * g / g_unit for g in (pulse.g_before, pulse.g_after))
                yield Step(*at, pulse.number, pulse.v, pulse.v_wl, before, after, after - z, pulse.t)
            found = end.last.g / g_unit
            yield Trained(*at, end.status, len(end.pulses), found, x_train * found - z)
            program = cell.program()
            for v in volts:
                program.read(v, v_wl_read, average)
            for value, v, reading in zip(x, volts, program.run(), strict=True):
                measured = reading.g * v / (v_unit * g_unit)
                t = reading.tick * bench.board.identity.tick
                yield Inference(*at, value, value * w, measured, measured - value * w, reading.status, t)
