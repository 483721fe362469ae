"""Multi-level programming: every cell of a selection to one of 2 … 256 levels, with relaxation re-checks."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from typing import Annotated as A

import numpy as np
from numpy.typing import NDArray

from drivers.bench import Bench
from drivers.multilevel import Accuracy, Aim, Cell, Programmer, Recipe, Sample, ramps
from drivers.quantities import (
    ALL_COLUMNS,
    ALL_ROWS,
    ATTEMPTS,
    AVERAGE,
    COLUMNS,
    CONFIRM,
    R_SHORT,
    ROWS,
    V_READ,
    V_RESET,
    V_SET,
    V_WL_READ,
    V_WL_RESET,
    V_WL_SET,
    WIDTH,
)
from drivers.verify import Band, Pulse
from labctl.analysis.levels import confusion, effective_bits
from labctl.errors import UsageError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run
from labctl.weights import LevelTable, load_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def plot(run: Run, figure: "Figure") -> None:
    """At the last re-check of each cell (above) and at the last re-read (below): what the levels have become."""
    cells, samples = run.table(), run.table("sample")
    targets = np.linspace(run.params["g_min"], run.params["g_max"], run.params["levels"])
    times = np.unique(samples["requested"])
    panels = figure.subplots(2, 2, width_ratios=(1.6, 1))
    for time, (left, right) in zip((times[0], times[-1]), panels, strict=True):
        if time == times[0]:  # of several re-checks the last counts
            level, g = cells["level"], cells["g_relaxed"]
        else:
            level, g = (samples[name][samples["requested"] == time] for name in ("level", "g"))
        (draw_levels if len(targets) <= 32 else draw_deviation)(left, right, targets, level, g)
        left.set_title(f"{time:g} s after the last pulse")
        left.grid(True, alpha=0.3)


def draw_levels(left: "Axes", right: "Axes", targets: Floats, level: NDArray[np.int64], g: Floats) -> None:
    """The cumulative distribution of each level, its target dashed; which level is read as which."""
    for number in np.unique(level):
        values = np.sort(g[(level == number) & np.isfinite(g)]) * 1e6
        [line] = left.plot(values, (np.arange(len(values)) + 0.5) / max(len(values), 1), linewidth=0.9)
        left.axvline(targets[number] * 1e6, color=line.get_color(), linewidth=0.5, linestyle="--")
    left.set(xlabel="conductance (µS)", ylabel="share below")
    matrix = confusion(level, g, targets)
    share = matrix.counts / np.maximum(matrix.counts.sum(1, keepdims=True), 1)
    image = right.imshow(share[:, :-1], vmin=0, vmax=1, cmap="Blues", origin="lower")
    right.figure.colorbar(image, ax=right, label="share of the level")
    right.set(title=f"{matrix.misread_all.value:.1%} misread", xlabel="read as level", ylabel="level")


def draw_deviation(left: "Axes", right: "Axes", targets: Floats, level: NDArray[np.int64], g: Floats) -> None:
    """For levels closer than they can be told apart: conductance against level, and how far it is off."""
    left.plot(targets * 1e6, targets * 1e6, color="gray", linewidth=0.8)
    left.plot(targets[level] * 1e6, g * 1e6, ".", markersize=2)
    left.set(xlabel="level (µS)", ylabel="conductance (µS)")
    off = (g - targets[level])[np.isfinite(g)]
    right.hist(np.clip(off * 1e6, -20, 20), bins=80)
    bits = effective_bits(off, targets[-1] - targets[0])
    right.set(title=f"{bits:.2f} effective bits", xlabel="deviation (µS), ends gathered", ylabel="cells", yscale="log")


@protocol(total=lambda rows, columns, **_: len(rows) * len(columns), plot=plot)
def multilevel(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = ALL_ROWS,
    columns: A[Sequence[int], COLUMNS] = ALL_COLUMNS,
    levels: A[int, Q("", 2, 256, "levels, evenly spaced in conductance")] = 16,
    g_min: A[float, Q("S", 0, 2e-3, "lowest level")] = 4e-6,
    g_max: A[float, Q("S", 1e-6, 2e-3, "highest level")] = 128e-6,
    matrix: A[str, Q("", meaning="file (.npy, CSV) with the level of each selected cell; empty: drawn")] = "",
    tolerance: A[float, Q("", 0.01, 0.5, "half-width of the band as a share of the distance of two levels")] = 0.5,
    band_min: A[
        float, Q("S", 0, 1e-3, "half-width that the band has at least: what noise and relaxation allow")
    ] = 2e-6,
    relax: A[float, Q("s", 0, 1e5, "from the last pulse on a cell to its re-check")] = 1.0,
    times: A[Sequence[float], Q("s", 0, 1e8, "when to read all again, after the last pulse on each cell")] = (1e4,),
    rounds: A[int, Q("", 1, 1000, "rounds at most: program what is not in its band, re-check")] = 12,
    attempts: A[int, ATTEMPTS] = 25,
    calibration: A[int, Q("", 0, 1000, "cells on which the start values of the ramps are measured")] = 8,
    v_set: A[float, V_SET] = 3.6,
    v_wl_set_start: A[float, Q("V", 0, 4.5, "lowest gate voltage of SET")] = 1.4,
    v_wl_set: A[float, V_WL_SET] = 2.6,
    v_wl_step: A[float, Q("V", 1e-3, 1, "step of the gate voltage of SET")] = 0.02,
    v_reset_start: A[float, Q("V", 0, 4.5, "lowest source line voltage of RESET")] = 0.5,
    v_reset: A[float, V_RESET] = 3.0,
    v_step: A[float, Q("V", 1e-3, 1, "step of the source line voltage of RESET")] = 0.1,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    width: A[float, WIDTH] = 1e-6,
    confirm: A[float, CONFIRM] = 10e-3,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Cell | Pulse | Sample | Accuracy]:
    """Program each cell to its level and keep it there until a re-check `relax` after its last pulse finds it in band.

    The band is tolerance (0.5: up to the middle between two levels), but at least band_min, to each side of the level;
    in_band and status refer to it, misread to the nearest level. See `drivers.multilevel` for the rounds and the ramps,
    `drivers.verify` for what the board does with one cell. A re-execution needs the same matrix in its place.
    """
    table = LevelTable.uniform(g_min, g_max, levels)
    wanted = levels_of(matrix, bench.seed, levels, (len(rows), len(columns)))
    rise, fall = ramps(
        v_set, v_wl_set_start, v_wl_set, v_wl_step, v_reset_start, v_reset, v_step, v_wl_reset, width
    )  # fmt: skip
    reading = Band(0.0, 0.0, rise, fall, attempts, v_read, v_wl_read, average, confirm, r_short)
    band = max(tolerance * (table.g[1] - table.g[0]), band_min)
    recipe = Recipe(table, band, rise, fall, reading, relax, rounds, calibration)
    aims = [Aim(row, column, int(wanted[i, j])) for i, row in enumerate(rows) for j, column in enumerate(columns)]
    with bench.powered():
        yield from Programmer(bench, recipe, aims).run(times)


def levels_of(matrix: str, seed: int, levels: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """The level of each cell (rows, columns): from a file, or drawn from the run's seed; raises `UsageError`."""
    if not matrix:
        return np.random.default_rng(seed).integers(0, levels, shape)
    wanted = load_matrix(matrix, shape)
    bad = np.argwhere((wanted != np.round(wanted)) | (wanted < 0) | (wanted >= levels))
    if len(bad):
        row, column = bad[0].tolist()
        raise UsageError(
            f"{matrix}: {wanted[row, column]:g} in row {row}, column {column} is no level 0 … {levels - 1}"
        )
    return wanted.astype(np.int64)
