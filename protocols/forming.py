"""Forming: a pristine cell is made switchable by a ramp of pulses that stops as soon as it conducts."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import ALL_COLUMNS, ALL_ROWS, COLUMN, COLUMNS, R_SHORT, ROW, ROWS, STATUS, V_READ, V_WL_READ
from labctl.protocol import protocol
from labctl.quantity import Q, inclusive
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ENDS = Q(
    "",
    meaning="formed, already (it conducted before: no pulse), never (the ramp ended), shorted, or open (not even a"
    " pristine cell's leakage flows)",
)


class Formed(NamedTuple):
    """How the forming of one cell ended."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, ENDS]
    v_form: A[float, Q("V", meaning="bit line voltage of the last pulse; NaN where there was none")]
    width: A[float, Q("s", meaning="width of the last pulse; NaN where there was none")]
    pulses: A[int, Q("", meaning="pulses applied")]
    r: A[float, Q("Ω", meaning="resistance after the last pulse; NaN where it could not be resolved")]


class Step(NamedTuple):
    """One pulse and the reading after it; pulse −1 is the reading before the first."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    pulse: A[int, Q("", meaning="number of the pulse, from 0")]
    v_bl: A[float, Q("V", meaning="bit line voltage of the pulse")]
    width: A[float, Q("s", meaning="width of the pulse")]
    i: A[float, Q("A", meaning="current at the read voltage after the pulse")]
    status: A[str, STATUS]


def plot(run: Run, figure: "Figure") -> None:
    """Distribution of the forming voltage, and resistance after forming."""
    table = run.table()
    done = table["status"] == "formed"
    left, right = figure.subplots(1, 2)
    v = np.sort(table["v_form"][done])
    left.plot(v, (np.arange(len(v)) + 0.5) / max(len(v), 1), ".-")
    left.set(
        xlabel="forming voltage (V)", ylabel="share of the formed cells", title=f"{done.sum()} of {len(done)} formed"
    )
    r = np.sort(table["r"][done & np.isfinite(table["r"])]) / 1e3
    right.semilogx(r, (np.arange(len(r)) + 0.5) / max(len(r), 1), ".-")
    right.set(xlabel="resistance after forming (kΩ)", ylabel="share of the formed cells")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def forming(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = ALL_ROWS,
    columns: A[Sequence[int], COLUMNS] = ALL_COLUMNS,
    v_start: A[float, Q("V", 0.01, 4.5, "first bit line voltage")] = 2.0,
    v_stop: A[float, Q("V", 0.01, 4.5, "last bit line voltage")] = 4.0,
    v_step: A[float, Q("V", 1e-3, 1, "step of the bit line voltage")] = 0.05,
    widths: A[Sequence[float], Q("s", 40e-9, 1, "pulse widths, every width at every voltage")] = (10e-6,),
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage of the pulses: limits the current once the cell conducts")] = 2.0,
    r_formed: A[float, Q("Ω", 100, 10e6, "a cell below this is formed")] = 50e3,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Formed | Step]:
    """Ramp pulses on each selected cell until its resistance falls below `r_formed`; formed cells get no pulse.

    The ramp runs on the board: it reads after each pulse and stops by itself.
    """
    ramp = [(v, width) for v in inclusive(v_start, v_stop, v_step) for width in widths]
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            program = cell.program().hold(v_read, v_wl_read).sample().stop_at(v_read / r_formed, "end")
            for v, width in ramp:
                program.pulse(v, v_wl, width).hold(v_read, v_wl_read).sample().stop_at(v_read / r_formed, "end")
            program.hold(v_start, v_wl).sample()  # a cell that did not form at least leaks
            program.label("end").hold(0.0, 0.0)
            readings = list(program.run())
            leak = readings.pop() if readings[-1].v != v_read else None
            last, pulses = readings[-1], len(readings) - 1
            v_form, width = ramp[pulses - 1] if pulses else (float("nan"), float("nan"))
            if leak is not None:
                status = "open" if leak.status in ("below", "open") else "never"
            else:
                status = "shorted" if last.status == "over" or last.r < r_short else "formed" if pulses else "already"
            yield Formed(cell.row, cell.column, status, v_form, width, pulses, last.r)
            for number, reading in enumerate(readings):
                v, width = ramp[number - 1] if number else (float("nan"), float("nan"))
                yield Step(cell.row, cell.column, number - 1, v, width, reading.current, reading.status)
