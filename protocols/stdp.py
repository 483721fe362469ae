"""STDP: how the conductance changes with the time between a pre and a post spike whose waveforms overlap."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np
from numpy.typing import NDArray

from drivers.bench import Bench
from drivers.cell import CellProgram
from drivers.quantities import (
    COLUMN,
    COLUMNS,
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
)
from drivers.readings import ended
from drivers.verify import STILL
from labctl.errors import MeasurementError, UsageError
from labctl.protocol import protocol
from labctl.quantity import Q, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAILS = 5.0
"""Time constants after which a tail is over: less than 1 % is left."""


class Window(NamedTuple):
    """One cell: the medians over the repeats, at the Δt where they are largest and smallest."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[
        str, Q("", meaning="done, stuck (the preparation does not move it: no spikes), shorted, open or negative")
    ]
    highest: A[float, Q("", meaning="ΔG/G where it is largest; NaN unless done")]
    dt_highest: A[float, Q("s", meaning="Δt there")]
    lowest: A[float, Q("", meaning="ΔG/G where it is smallest; NaN unless done")]
    dt_lowest: A[float, Q("s", meaning="Δt there")]


class Pair(NamedTuple):
    """One pair of spikes on a cell prepared anew."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    repeat: A[int, Q("", meaning="number of the repeat, from 0")]
    dt: A[float, Q("s", meaning="t_post − t_pre, from start to start")]
    g_before: A[float, Q("S", meaning="conductance as prepared; NaN where status is not ok")]
    g_after: A[float, Q("S", meaning="conductance after the spikes; NaN where status is not ok")]
    change: A[float, Q("", meaning="ΔG/G = g_after/g_before − 1")]
    status: A[str, STATUS]


class Shape(NamedTuple):
    """Of the two spikes: volts about the rest and seconds."""

    v_post: float
    tail_post: float
    v_pre: float
    tail_pre: float
    width: float
    tau: float


def spike(t: NDArray[np.floating], v: float, v_tail: float, width: float, tau: float) -> NDArray[np.float64]:
    """Volts of a spike that begins at 0: `v` for `width`, then −v_tail·e^(−t/tau) until TAILS·tau."""
    since = np.asarray(t, np.float64) - width
    tail = -v_tail * np.exp(-np.maximum(since, 0.0) / tau)
    now = np.where(since < -1e-12, v, np.where(since < TAILS * tau - 1e-12, tail, 0.0))
    return np.asarray(np.where(since < -width - 1e-12, 0.0, now))


def waveforms(dt: float, step: float, p: Shape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Volts about the rest in steps of `step`: (post on the bit line, pre on the source line)."""
    n = round((abs(dt) + p.width + TAILS * p.tau) / step) + 1
    t = np.arange(n, dtype=np.float64) * step - max(0.0, -dt)  # since the pre spike
    return spike(t - dt, p.v_post, p.tail_post, p.width, p.tau), spike(t, p.v_pre, p.tail_pre, p.width, p.tau)


def plot(run: Run, figure: "Figure") -> None:
    """ΔG/G against Δt with the exponential window, and the waveforms of one pair with their net voltage."""
    from labctl.analysis.plasticity import stdp as window

    table, p = run.table("pair"), run.params
    left, right = figure.subplots(1, 2)
    ok = np.isfinite(table["change"])
    dt, change = table["dt"][ok], table["change"][ok] * 100
    left.plot(dt * 1e6, change, ".", color="gray", markersize=3, label="pairs")
    each = np.unique(dt)
    left.plot(each * 1e6, [np.median(change[dt == one]) for one in each], "o", label="median")
    try:
        found = window(dt, change)
        for sign, a, tau in ((1, found.a_plus.value, found.tau_plus), (-1, -found.a_minus.value, found.tau_minus)):
            t = np.linspace(np.abs(each).min(), np.abs(each).max(), 200)
            label = (
                f"τ{'+' if sign > 0 else '−'} = {tau.value * 1e6:.3g} ({tau.low * 1e6:.3g} … {tau.high * 1e6:.3g}) µs"
            )
            left.plot(sign * t * 1e6, a * np.exp(-t / tau.value), label=label)
    except (MeasurementError, UsageError) as error:
        left.plot([], [], " ", label=f"no window: {error}"[:60])
    left.set(xlabel="Δt = t_post − t_pre (µs)", ylabel="ΔG/G (%)", title="spike-timing-dependent plasticity")
    left.legend(fontsize="small")
    shape = Shape(*(p[name] for name in Shape._fields))
    shown = min((one for one in p["dt"] if one > 0), default=p["dt"][0])
    post, pre = waveforms(shown, p["step"], shape)
    t = np.arange(len(post)) * p["step"] * 1e6
    for volts, label in ((post, "post (BL)"), (pre, "pre (SL)"), (post - pre, "net, BL − SL")):
        right.step(t, volts, where="post", label=label, linewidth=1.6 if "net" in label else 0.9)
    right.set(xlabel="time (µs)", ylabel="voltage about the rest (V)", title=f"spikes at Δt = {si(shown, 's')}")
    right.legend()
    for axes in (left, right):
        axes.grid(True, alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def stdp(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    dt: A[Sequence[float], Q("s", -1, 1, "t_post − t_pre, from start to start; multiples of step")] = (
        *(-160e-6, -80e-6, -40e-6, -20e-6, -10e-6),
        *(10e-6, 20e-6, 40e-6, 80e-6, 160e-6),
    ),
    repeats: A[int, Q("", 1, 10_000, "pairs at each Δt")] = 10,
    v_post: A[float, Q("V", 0, 4.5, "post spike on the bit line, above the rest")] = 2.0,
    tail_post: A[float, Q("V", 0, 4.5, "its tail at the start, below the rest")] = 0.9,
    v_pre: A[float, Q("V", 0, 4.5, "pre spike on the source line, above the rest")] = 1.0,
    tail_pre: A[float, Q("V", 0, 4.5, "its tail at the start, below the rest")] = 0.6,
    width: A[float, Q("s", 1e-6, 1, "of both spikes without their tails; a multiple of step")] = 10e-6,
    tau: A[float, Q("s", 1e-6, 10, "time constant of the tails")] = 50e-6,
    step: A[float, Q("s", 1e-6, 1, "of the stairs that make the waveforms")] = 5e-6,
    v_rest: A[float, Q("V", 0, 4.5, "both lines at rest, so that the tails can go below")] = 1.0,
    v_wl: A[float, Q("V", 0, 4.5, "gate voltage during the spikes")] = 2.8,
    v_set: A[float, V_SET] = 2.8,
    v_reset: A[float, V_RESET] = 2.0,
    set_width: A[float, WIDTH] = 1e-6,
    v_wl_set: A[float, V_WL_SET] = 2.0,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Window | Pair]:
    """Prepare a cell by RESET and SET, let a pre and a post spike overlap on it, read; for each Δt, again and again.

    The post spike drives the bit line, the pre spike the source line; both begin and end at `v_rest`, so the cell sees
    their difference. A spike alone is to be too weak: where it meets the other's tail the net voltage is larger, and
    the sign of Δt decides which spike that is. All on one board program a pair.
    """
    shape = Shape(v_post, tail_post, v_pre, tail_pre, width, tau)
    for name, seconds in (("width", width), *(("dt", one) for one in dt)):
        if abs(seconds / step - round(seconds / step)) > 1e-6:
            raise UsageError(f"{name} = {si(seconds, 's')} is no multiple of step = {si(step, 's')}")
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:

            def prepared(program: CellProgram) -> CellProgram:
                return (
                    program.pulse(-v_reset, v_wl_reset, set_width)
                    .read(v_read, v_wl_read)
                    .pulse(v_set, v_wl_set, set_width)
                )

            pairs = {}
            for one in dt:  # all of them before the first pulse: a voltage beyond its limit is found here
                program = prepared(cell.program()).read(v_read, v_wl_read)
                program.levels(v_rest, v_rest, 0.0, step).levels(v_rest, v_rest, v_wl, step)
                for post, pre in zip(*waveforms(one, step, shape), strict=True):
                    program.levels(v_rest + float(post), v_rest + float(pre), v_wl, step)
                pairs[one] = program.levels(v_rest, v_rest, 0.0, step).read(v_read, v_wl_read)
            looks = list(cell.program().read(v_read, v_wl_read).run())
            status = ended(looks, r_short)
            if status == "done":
                low, high = prepared(cell.program()).read(v_read, v_wl_read).run()
                status = "done" if not high.g < STILL * low.g else "stuck"
            changes: dict[float, list[float]] = {one: [] for one in dt}
            for repeat in range(repeats if status == "done" else 0):
                for one in dt:
                    _, before, after = pairs[one].run()
                    bad = [reading.status for reading in (before, after) if reading.status != "ok"]
                    change = after.g / before.g - 1
                    changes[one].append(change)
                    state = bad[0] if bad else "ok"
                    yield Pair(cell.row, cell.column, repeat, one, before.g, after.g, change, state)
            nan = float("nan")
            median = {
                one: float(np.median(found)) for one, found in changes.items() if np.isfinite(found).all() and found
            }
            top, bottom = (f(median, key=median.__getitem__, default=nan) for f in (max, min))
            yield Window(cell.row, cell.column, status, median.get(top, nan), top, median.get(bottom, nan), bottom)
