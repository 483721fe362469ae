"""Learn the filament model of a chip from its I–V loops.

What is compared is, at each point of the loop, the mean over cells and cycles of ln|I| and its standard deviations
within and between cells: an abrupt SET at scattered voltages makes a smooth mean, so least squares find it. The model's
side is an array of cells with their spread, the same draws in every evaluation (common random numbers).

Loops do not determine every parameter. Each free one is therefore held near its starting value by a normal prior of the
width in `FREE`; what the loops tell overrides it, what they do not tell stays (maximum a posteriori).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from labctl.errors import UsageError
from labctl.models.device import FloatArray
from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray, FilamentParams

FREE = {
    "i_0": 0.5, "v_0": 0.1, "e_set": 0.03, "e_reset": 0.03, "gamma_set": 0.1, "gamma_reset": 0.1, "gap_set": 0.1,
    "gap_reset": 0.2, "gap_min": 0.2, "r_th": 0.2, "v_t0": 0.2, "i_spec": 0.5,
}  # fmt: skip
"""Parameter → relative width of its prior. The rest stays: g_0 and rate trade against i_0, gaps and barriers."""
SPREADS = ("hrs", "lrs", "rate")
_SPREAD_PRIOR = 0.7
_FLOOR = 5e-9
"""A: currents below are as good as none."""
_CELLS = 96  # of the model's array
_NOISE = 0.05  # of ln|I|: what the fit need not explain
_REGIONS = 12  # parts of a loop that tell something of their own; its points do not


_EFFECTS = Effects(read_noise=0.0)
"""As recorded arrays have them: part of what varies from loop to loop is RTN and relaxation, not the parameters'."""


class Loops(NamedTuple):
    """Loops of one staircase over cells and cycles, each begun in the state that the one before left."""

    v: FloatArray  # (points,) V
    v_wl: FloatArray  # (points,) V
    dwell: float  # s a point
    i: FloatArray  # (loops, points) A
    cell: NDArray[np.intp]  # (loops,) which cell


@dataclass(frozen=True)
class FilamentFit:
    """The learned parameters, and the root mean squares of what is left of the curves, in ln|I|."""

    params: FilamentParams
    mean: float
    spread: float
    evaluations: int


def fit_filament(loops: Sequence[Loops], like: FilamentParams | None = None, seed: int = 0) -> FilamentFit:
    """Fit `FREE` and the spreads; the rest is that of `like` (None: the default). Raises `UsageError` for bad data."""
    start = like or FilamentParams()
    recorded = [_moments(_logs(one.i), one.cell) for one in loops]
    for one, (mean, _, _) in zip(loops, recorded, strict=True):
        _check(one, mean)
    # what does not vary in the data (one cell: between, one loop a cell: within) is not compared
    errors = [_error(moments, one) for moments, one in zip(recorded, loops, strict=True)]
    known = [(within is not None, between is not None) for _, within, between in recorded]
    free = [name for name in FREE if getattr(start, name) > 0]

    def params_of(x: FloatArray) -> FilamentParams:
        factor = np.exp(x)
        values = {name: getattr(start, name) * f for name, f in zip(free, factor, strict=False)}
        for name, f in zip(SPREADS, factor[len(free) :], strict=True):
            for kind in ("c2c", "d2d"):
                values[f"{kind}_{name}"] = getattr(start, f"{kind}_{name}") * f
        return replace(start, **values)

    def residuals(x: FloatArray) -> FloatArray:
        prior = x / np.array([*(FREE[name] for name in free), *(_SPREAD_PRIOR,) * len(SPREADS)])
        try:
            made = [_moments(_logs(simulate(params_of(x), one, seed)), _cells_of(one)) for one in loops]
        except UsageError:  # a parameter beyond its limits
            return np.concatenate([*(np.full(size, 10.0) for size in sizes), prior])
        parts = []
        for has, error, (mean, within, between), (m, w, b) in zip(known, errors, recorded, made, strict=True):
            scale = np.sqrt((_NOISE**2 + error**2) * len(mean) / _REGIONS)
            parts.append((m - mean) / scale)
            if has[0] and within is not None and w is not None:
                parts.append(0.5 * (w - within) / scale)
            if has[1] and between is not None and b is not None:
                parts.append(0.5 * (b - between) / scale)
        return np.concatenate([*parts, prior])

    sizes = [len(one.v) * (1 + sum(has)) for one, has in zip(loops, known, strict=True)]
    best = _search(residuals, len(free) + len(SPREADS))
    fitted = params_of(best.x)
    return FilamentFit(fitted, *_left(fitted, loops, recorded, seed), best.nfev)


def _search(residuals: Callable[[FloatArray], FloatArray], size: int) -> "_Best":
    """Coarse steps first: they see over the roughness that single switching events leave in the mean."""
    x, count = np.ones(size), 0  # steps are relative to x, so it runs about 1

    def about_one(y: FloatArray) -> FloatArray:
        return residuals(y - 1.0)

    for step, rounds in ((0.03, 10), (0.01, 10)):
        steps = np.full(size, step)
        result = least_squares(about_one, x, diff_step=steps, x_scale=0.1, max_nfev=rounds)
        x, count = result.x, count + int(result.nfev) * (size + 1)
    return _Best(x - 1.0, count)


class _Best(NamedTuple):
    x: FloatArray
    nfev: int


def simulate(params: FilamentParams, loops: Loops, seed: int = 0, cells: int = _CELLS) -> FloatArray:
    """Currents (A) of the model on this staircase, (2 cells, points): two loops each, after one to settle."""
    array = FilamentArray((cells,), params=params, effects=_EFFECTS, seed=seed)
    v, wl = np.tile(loops.v, 3), np.tile(loops.v_wl, 3)
    t = np.arange(len(v)) * loops.dwell
    i = array.waveform(t, np.maximum(v, 0.0), np.maximum(-v, 0.0), wl)
    # a sample tells the current at the end of its hold; the last one has no duration, and is at 0 V
    return np.concatenate(np.split(i.T, 3, axis=1)[1:])


def _cells_of(loops: Loops) -> NDArray[np.intp]:
    return np.tile(np.arange(_CELLS), 2)


def _logs(i: FloatArray) -> FloatArray:
    return np.log(np.maximum(np.abs(i), _FLOOR))


def _moments(logs: FloatArray, cell: NDArray[np.intp]) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    """Mean over cells of ln|I| (points,), SD within cells and between them; None where there is but one of them."""
    names, which, counts = np.unique(cell, return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), logs.shape[1]))
    np.add.at(sums, which, logs)
    means = sums / counts[:, None]
    degrees = len(logs) - len(names)
    within = ((logs - means[which]) ** 2).sum(axis=0) / degrees if degrees else None
    between = None
    if len(names) > 2:
        between = means.var(axis=0, ddof=1)
        if within is not None:  # the means of few loops scatter by themselves
            between = np.maximum(between - within * (1.0 / counts).mean(), 0.0)
        between = np.sqrt(between)
    return means.mean(axis=0), None if within is None else np.sqrt(within), between


def _error(moments: tuple[FloatArray, FloatArray | None, FloatArray | None], loops: Loops) -> FloatArray:
    """Standard error of the recorded mean, (points,)."""
    mean, within, between = moments
    cells = len(np.unique(loops.cell))
    variance = np.zeros(len(mean))
    if within is not None:
        variance += within**2 / len(loops.i)
    if between is not None:
        variance += between**2 / cells
    return np.sqrt(variance)


def _left(
    params: FilamentParams, loops: Sequence[Loops],
    recorded: Sequence[tuple[FloatArray, FloatArray | None, FloatArray | None]], seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Root mean squares over the points of what is left of the mean and of the spread within cells, other draws."""
    apart, spread = [], [np.zeros(0)]
    for one, (mean, within, _) in zip(loops, recorded, strict=True):
        m, w, _ = _moments(_logs(simulate(params, one, seed + 1)), _cells_of(one))
        apart.append(m - mean)
        if within is not None and w is not None:
            spread.append(w - within)
    rms = [float(np.sqrt(np.mean(np.concatenate(part) ** 2))) if part else np.nan for part in (apart, spread[1:])]
    return rms[0], rms[1]


def _check(loops: Loops, mean: FloatArray) -> None:
    if not (loops.v.max() > 0 > loops.v.min()):
        raise UsageError(f"loops from {loops.v.min():g} to {loops.v.max():g} V; give loops with a SET and a RESET side")
    if not np.isfinite(loops.v_wl).all():
        raise UsageError(
            "the gate voltage of the loops is not known; give runs with a column v_wl, or a parameter v_wl"
        )
    if len(loops.v) < 20:
        raise UsageError(f"loops of {len(loops.v)} points; give 20 or more")
    up, peak = np.flatnonzero(np.diff(loops.v) > 0), int(np.argmax(loops.v))
    at = 0.3 * loops.v.max()
    rising = up[up < peak]
    falling = np.flatnonzero((np.diff(loops.v) < 0) & (np.arange(len(loops.v) - 1) >= peak) & (loops.v[:-1] > 0))
    before = np.interp(at, loops.v[rising], mean[rising])
    after = np.interp(at, loops.v[falling][::-1], mean[falling][::-1])
    if after - before < np.log(1.2):
        raise UsageError(
            f"the way back of the SET carries {np.exp(after - before):.2g} times the current of the way out; these "
            f"loops do not switch: raise v_set, or form the cells"
        )
