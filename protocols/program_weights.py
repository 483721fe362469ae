"""A weight matrix from a file onto the array: levels, write-verify in rounds, the error that is achieved."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
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
from labctl.analysis.levels import effective_bits
from labctl.errors import UsageError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run
from labctl.weights import LevelTable, WeightMap, load_matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Weight(NamedTuple):
    """One weight of the matrix at the last re-check of its cells."""

    i: A[int, Q("", meaning="row of the matrix")]
    j: A[int, Q("", meaning="column of the matrix")]
    w: A[float, Q("", meaning="weight that was asked for")]
    w_level: A[float, Q("", meaning="what the levels make of it")]
    w_read: A[float, Q("", meaning="what its cells show; NaN where one shows no conductance")]
    clipped: A[bool, Q("", meaning="it lay outside the map and was put at its end")]


class Error(NamedTuple):
    """The matrix at one time after the last pulses; errors against the weights that were asked for."""

    requested: A[float, Q("s", meaning="time after the last pulse on each cell")]
    rms: A[float, Q("", meaning="root mean square of w_read − w")]
    worst: A[float, Q("", meaning="largest deviation of a weight")]
    bits: A[float, Q("", meaning="effective number of bits: log2 of (w_high − w_low) over rms·√12")]
    rms_levels: A[float, Q("", meaning="the part of rms that the levels and clipping make")]
    clipped: A[int, Q("", meaning="weights that were clipped")]
    missing: A[int, Q("", meaning="weights of which a cell shows no conductance; they are not in rms")]


def plot(run: Run, figure: "Figure") -> None:
    """Weights read against weights asked, and the map of the deviation."""
    table, errors = run.table(), run.table("error")
    left, right = figure.subplots(1, 2)
    left.plot(table["w"], table["w_read"], ".", markersize=4)
    ends = [table["w"].min(), table["w"].max()]
    left.plot(ends, ends, color="gray", linewidth=0.8)
    bits = " → ".join(f"{value:.2f}" for value in errors["bits"])
    left.set(xlabel="weight asked", ylabel="weight read", title=f"{bits} effective bits")
    left.grid(True, alpha=0.3)
    error = np.full((table["i"].max() + 1, table["j"].max() + 1), np.nan)
    error[table["i"], table["j"]] = table["w_read"] - table["w"]
    most = float(np.nanmax(np.abs(error))) if np.isfinite(error).any() else 1.0
    image = right.imshow(error, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=right, label="deviation")
    right.set(xlabel="column", ylabel="row", title=f"after {errors['requested'][0]:g} s: rms {errors['rms'][0]:.3g}")


def weights_in(rows: Sequence[int], columns: Sequence[int], scheme: str) -> tuple[int, int]:
    """Shape of the matrix that fits the selection; raises `UsageError`."""
    each = 2 if scheme == "differential" else 1
    if len(columns) % each:
        raise UsageError(f"{len(columns)} columns make no pairs; a differential map takes two neighbours a weight")
    return len(rows), len(columns) // each


@protocol(total=lambda rows, columns, scheme, **_: int(np.prod(weights_in(rows, columns, scheme))), plot=plot)
def program_weights(
    bench: Bench,
    weights: A[str, Q("", meaning="matrix, .npy or CSV; empty: drawn between −1 and 1 from the run's seed")] = "",
    rows: A[Sequence[int], ROWS] = ALL_ROWS,
    columns: A[Sequence[int], COLUMNS] = ALL_COLUMNS,
    scheme: A[
        Literal["differential", "unipolar"], Q("", meaning="two neighbouring columns G+ and G− a weight, or one")
    ] = "differential",
    w_low: A[float, Q("", meaning="weight at the map's lower end; w_low = w_high: the extremes of the matrix")] = 0.0,
    w_high: A[float, Q("", meaning="weight at the map's upper end")] = 0.0,
    clip: A[bool, Q("", meaning="put weights outside the map at its ends, instead of refusing them")] = False,
    levels: A[int, Q("", 2, 256, "levels of a cell, evenly spaced in conductance")] = 256,
    g_min: A[float, Q("S", 0, 2e-3, "lowest level")] = 4e-6,
    g_max: A[float, Q("S", 1e-6, 2e-3, "highest level")] = 128e-6,
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
) -> Iterator[Weight | Cell | Pulse | Sample | Accuracy | Error]:
    """Write a matrix, weight (i, j) on row i and column j of the selection, as `multilevel` does it; report the error.

    Differential: weight (i, j) is the difference of columns 2j and 2j + 1. What lies outside the map is refused, or
    clipped and counted. `mvm --targets` takes the recorded run. A re-execution needs the same matrix in its place.
    """
    table, shape = LevelTable.uniform(g_min, g_max, levels), weights_in(rows, columns, scheme)
    w = load_matrix(weights, shape) if weights else np.random.default_rng(bench.seed).uniform(-1.0, 1.0, shape)
    scale = WeightMap(table, w_low, w_high, scheme) if w_low != w_high else WeightMap.spanning(w, table, scheme)
    encoded = scale.encode(w, clip)
    rise, fall = ramps(v_set, v_wl_set_start, v_wl_set, v_wl_step, v_reset_start, v_reset, v_step, v_wl_reset, width)
    reading = Band(0.0, 0.0, rise, fall, attempts, v_read, v_wl_read, average, confirm, r_short)
    band = max(tolerance * (table.g[1] - table.g[0]), band_min)
    recipe = Recipe(table, band, rise, fall, reading, relax, rounds, calibration)
    wanted = encoded.level.reshape(len(rows), len(columns))
    aims = [Aim(row, column, int(wanted[i, j])) for i, row in enumerate(rows) for j, column in enumerate(columns)]
    programmer, read = Programmer(bench, recipe, aims), {}
    with bench.powered():
        for item in programmer.run(times):
            yield item
            if isinstance(item, Accuracy) and item.requested > 0:  # all cells were read
                read[item.requested] = np.array([state.g_now for state in programmer.states])
    values = {time: scale.decode(g.reshape(encoded.g.shape)) for time, g in read.items()}
    clipped = np.zeros(shape, bool)
    clipped[tuple(encoded.clipped.where.T)] = True
    first = next(iter(values.values()))
    for i, j in np.ndindex(*shape):
        made = float(w[i, j] + encoded.error[i, j])
        yield Weight(i, j, float(w[i, j]), made, float(first[i, j]), bool(clipped[i, j]))
    for time, seen in values.items():
        yield error_of(time, seen - w, scale.w_high - scale.w_low, encoded.rms, int(clipped.sum()))


def error_of(time: float, error: NDArray[np.float64], span: float, rms_levels: float, clipped: int) -> Error:
    """What the deviations (…) of the weights amount to."""
    sound = error[np.isfinite(error)]
    if not sound.size:
        return Error(time, np.nan, np.nan, np.nan, rms_levels, clipped, error.size)
    rms, worst = float(np.sqrt(np.mean(sound**2))), float(np.abs(sound).max())
    return Error(time, rms, worst, effective_bits(sound, span), rms_levels, clipped, error.size - sound.size)
