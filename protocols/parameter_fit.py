"""Parameter fit: trains of pulses at several amplitudes, and the multi-level model's numbers that repeat them."""

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import (
    COLUMN,
    COLUMNS,
    R_SHORT,
    ROW,
    ROWS,
    STATUS,
    V_READ,
    V_WL_READ,
    V_WL_RESET,
    V_WL_SET,
    WIDTH,
    G,
)
from drivers.readings import ended
from drivers.verify import STILL
from labctl.errors import MeasurementError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from drivers.fpga.board import Reading
    from labctl.analysis.fit_multilevel import MultilevelFit

UNITS = {"g_min": "S", "g_max": "S", "v_set": "V", "v_reset": "V", "v_scale": "V"}


class Fitted(NamedTuple):
    """How well the model repeats one cell."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[
        str,
        Q("", meaning="done, never (the model does not fit), stuck (no pulse moves it), shorted, open or negative"),
    ]
    r2: A[float, Q("", meaning="part of the variance of G that the model explains: 1 is perfect; NaN unless done")]
    rms: A[float, Q("S", meaning="root mean square of what the model leaves; NaN unless done")]
    pulses: A[int, Q("", meaning="pulses applied")]


class Parameter(NamedTuple):
    """One number of `labctl.models.multilevel`, with the interval of its residuals (95 %)."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    name: A[str, Q("", meaning="as in the model")]
    value: A[float, Q("", meaning="in the unit of this row")]
    low: A[float, Q("", meaning="lower end of the interval")]
    high: A[float, Q("", meaning="upper end")]
    unit: A[str, Q("", meaning="unit of value, low and high")]


class Point(NamedTuple):
    """One reading, and the model at it."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    number: A[int, Q("", meaning="of the reading, from 0")]
    v: A[float, Q("V", meaning="voltage of the pulse before it; NaN for the reading before a train")]
    g: A[float, G]
    model: A[float, Q("S", meaning="conductance of the fitted model; NaN where there is none")]
    status: A[str, STATUS]


def plot(run: Run, figure: "Figure") -> None:
    """Readings over the fitted model, one panel a cell (four at most), with the numbers."""
    table, fitted, found = run.table("point"), run.table(), run.table("parameter")
    shown = min(len(fitted["row"]), 4)
    for k, axes in enumerate(figure.subplots(max(shown, 1), 1, squeeze=False)[:shown, 0]):
        cell = fitted["row"][k], fitted["column"][k]
        at, of = ((t["row"] == cell[0]) & (t["column"] == cell[1]) for t in (table, found))
        number, g, model = (table[name][at] for name in ("number", "g", "model"))
        axes.plot(number, g * 1e6, ".", markersize=3, color="gray", label="measured")
        axes.plot(number, model * 1e6, linewidth=1, color="tab:red", label="model")
        pulses = axes.twinx()
        pulses.step(number, table["v"][at], where="mid", linewidth=1, alpha=0.5)
        pulses.set_ylabel("pulse (V)", color="tab:blue")
        title = f"cell ({cell[0]}, {cell[1]}): {fitted['status'][k]}"
        if fitted["status"][k] == "done":
            title += f", R² = {fitted['r2'][k]:.3f}, rms {fitted['rms'][k] * 1e6:.2g} µS"
            scaled = zip(found["name"][of], found["value"][of], found["unit"][of], strict=True)
            numbers = [f"{n} {v * 1e6:.4g} µS" if u == "S" else f"{n} {v:.3g} {u}".strip() for n, v, u in scaled]
            title += "\n" + fill(", ".join(numbers), 80)
        axes.set_title(title, fontsize="medium")
        axes.set(xlabel="reading", ylabel="conductance (µS)")
        axes.grid(True, alpha=0.3)
        axes.legend(loc="upper left")


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def parameter_fit(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    amplitudes: A[Sequence[float], Q("V", 0.01, 4.5, "of the pulses, two at least")] = (1.0, 1.25, 1.5, 1.75, 2.0),
    n: A[int, Q("", 2, 1000, "pulses of a train; each amplitude has one SET and one RESET train")] = 50,
    width: A[float, WIDTH] = 1e-6,
    v_wl_set: A[float, V_WL_SET] = 2.4,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    levels: A[int, Q("", 2, 65536, "levels of the model: one reference pulse at the threshold is one level")] = 256,
    width_ref: A[float, Q("s", 1e-12, 1e3, "reference pulse of the model")] = 1e-6,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Fitted | Parameter | Point]:
    """At each amplitude n SET and n RESET pulses with a reading after each; then fit the multi-level model to all.

    The fitted numbers are those of `labctl.models.multilevel`, for simulations of learning; how far to trust them is
    said by r2 and rms. A train is one board program.
    """
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            first = list(cell.program().read(v_read, v_wl_read).run())
            status = ended(first, r_short)
            volts: list[float] = []
            found: list[Reading] = []
            programs = []  # all of them before the first pulse: a voltage beyond its limit is found here
            for v in amplitudes:
                for pulse, v_wl in ((v, v_wl_set), (-v, v_wl_reset)):
                    program = cell.program().read(v_read, v_wl_read)
                    for _ in range(n):
                        program.pulse(pulse, v_wl, width).read(v_read, v_wl_read)
                    programs.append((pulse, program))
            for pulse, program in programs if status == "done" else ():
                found += program.run()
                volts += [float("nan"), *[pulse] * n]
            g = np.array([reading.g for reading in found])
            if status == "done":
                status = ended(found, r_short)
            if status == "done" and not np.nanmax(g) > STILL * np.nanmin(g):
                status = "stuck"
            fit: MultilevelFit | None = None
            if status == "done":
                fit, status = _fit(volts, width, g, levels, width_ref)
            r2, rms = (fit.r2, fit.rms) if fit else (float("nan"), float("nan"))
            yield Fitted(cell.row, cell.column, status, r2, rms, int(np.isfinite(volts).sum()))
            for name, value in fit.parameters.items() if fit else ():
                yield Parameter(cell.row, cell.column, name, *value, UNITS.get(name, ""))
            model = fit.g if fit else np.full(len(g), np.nan)
            for number, (v, reading) in enumerate(zip(volts, found, strict=True)):
                yield Point(cell.row, cell.column, number, v, reading.g, float(model[number]), reading.status)


def _fit(
    volts: list[float], width: float, g: "np.ndarray", levels: int, width_ref: float
) -> "tuple[MultilevelFit | None, str]":
    """The fit and the status that it gives the cell."""
    from labctl.analysis.fit_multilevel import fit_multilevel

    try:
        return fit_multilevel(volts, np.full(len(g), width), g, levels=levels, width_ref=width_ref), "done"
    except MeasurementError:
        return None, "never"
