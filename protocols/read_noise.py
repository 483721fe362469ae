"""Read noise and RTN: one state of a cell, sampled thousands of times at an even rate by the board."""

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
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
    G,
    I,
    T,
)
from drivers.readings import ended
from labctl.errors import UsageError
from labctl.protocol import Rows, protocol
from labctl.quantity import Q, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_LOOKS = 8
"""Readings with auto-range that choose the amplifier's range."""
ROOM = 0.7
"""Part of a range that these may fill: noise needs the rest."""
MOST_STATES = 8
"""States that the picture looks for: three traps have as many."""


class Noise(NamedTuple):
    """One cell in its state."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, ENDED]
    g: A[float, Q("S", meaning="mean conductance; NaN where no sample is a value")]
    sigma: A[float, Q("", meaning="standard deviation of the conductance over its mean")]
    samples: A[int, Q("", meaning="samples taken")]
    invalid: A[int, Q("", meaning="samples of them that are no value")]


class Sample(NamedTuple):
    """One sample."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    t: A[float, T]
    i: A[float, I]
    g: A[float, G]
    status: A[str, STATUS]


def plot(run: Run, figure: "Figure") -> None:
    """The first cell with samples: record with its RTN levels, histogram, power spectral density."""
    from labctl.analysis.noise import histogram, record_interval, slope, spectrum
    from labctl.analysis.rtn import rtn

    table = run.table("sample")
    axes = figure.subplot_mosaic([["record", "histogram"], ["psd", "psd"]], width_ratios=[2, 1])
    of = (table["status"] == "ok") & (table["row"] == table["row"][:1]) & (table["column"] == table["column"][:1])
    if of.sum() < 100:
        axes["record"].set(title="no cell has 100 samples that are values")
        return
    g, t = table["g"][of] * 1e6, table["t"][of]
    dt = record_interval(t)
    found, levels, counts = spectrum(g, dt), rtn(g, dt, most=MOST_STATES), histogram(g)
    axes["record"].plot(t - t[0], g, linewidth=0.4, color="gray")
    states = f"{len(levels.level)} RTN states" if levels.found else f"no RTN states ({levels.reason})"
    if levels.found:
        axes["record"].plot(t - t[0], levels.level[levels.state], linewidth=0.8, color="tab:red")
    cell = f"cell ({table['row'][0]}, {table['column'][0]})"
    axes["record"].set(xlabel="time (s)", ylabel="conductance (µS)", title=fill(f"{cell}: {states}", 60))
    axes["histogram"].stairs(counts.counts, counts.edges, orientation="horizontal", fill=True, alpha=0.5)
    for level in levels.level if levels.found else ():
        axes["histogram"].axhline(level, linewidth=0.8, color="tab:red")
    axes["histogram"].set(xlabel="samples", title=f"σ/mean {100 * counts.sigma / counts.mean:.2g} %")
    exponent = slope(found)
    axes["psd"].loglog(found.f, found.psd)
    axes["psd"].set(xlabel="frequency (Hz)", ylabel="PSD (µS²/Hz)", title=f"1/f^a with a = {exponent}")
    for one in axes.values():
        one.grid(True, which="both", alpha=0.3)


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def read_noise(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0,),
    samples: A[int, Q("", 1, 10_000_000, "samples of each cell")] = 10_000,
    interval: A[float, Q("s", 1e-6, 1e3, "from one sample to the next")] = 1e-3,
    rest: A[float, Q("s", 0, 1e5, "at rest before the first sample of a cell, for its relaxation to slow down")] = 60.0,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Noise | Sample | Rows]:
    """Hold the read voltage on each cell and sample its current at an even rate, in one range of the amplifier.

    The range is chosen by a few readings before, so that all samples take equally long. A cell that is shorted or
    open is not sampled further.
    """
    identity = bench.board.identity
    conversion = average * identity.sample_ticks * identity.tick
    if interval < conversion:
        raise UsageError(
            f"interval = {si(interval, 's')} is shorter than a sample of {average} conversions,"
            f" {si(conversion, 's')}; take a longer interval or a smaller average"
        )
    cells = bench.cells(rows, columns)
    with bench.powered():
        for cell in cells:
            look = cell.program().hold(0.0, 0.0).wait(rest).hold(v_read, v_wl_read)
            for _ in range(FIRST_LOOKS):
                look.sample(average)
            first = list(look.run())
            status = ended(first, r_short)
            g = [np.zeros(0)]
            program = cell.program().hold(v_read, v_wl_read)
            if status == "done":
                body = program.body(held=True).sample(average, _range(bench, first)).wait(interval - conversion)
                for block in program.repeat(body, samples).records():
                    found = list(program.readings(block))
                    g.append(np.array([reading.g for reading in found]))
                    t = np.array([reading.tick for reading in found]) * identity.tick
                    i = np.array([reading.current for reading in found])
                    states = np.array([reading.status for reading in found])
                    yield Rows(Sample, row=cell.row, column=cell.column, t=t, i=i, g=g[-1], status=states)
            values = np.concatenate(g)
            good = values[np.isfinite(values)]
            mean = float(good.mean()) if len(good) else float("nan")
            sigma = float(good.std(ddof=1) / mean) if len(good) > 1 else float("nan")
            yield Noise(cell.row, cell.column, status, mean, sigma, len(values), len(values) - len(good))


def _range(bench: Bench, first: Sequence[Reading]) -> int:
    """The amplifier's range that holds these readings and leaves room."""
    ranges = bench.board.ranges.ranges
    most = max(abs(reading.current) for reading in first if reading.status == "ok")
    return next((k for k, item in enumerate(ranges) if most <= ROOM * item.full_scale), len(ranges) - 1)
