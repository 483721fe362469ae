"""From what a caller gives to what the kernels of the generative model take: checked, in lanes, or refused."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.device import Cells, FloatArray
from labctl.models.generative_cells import equivalent
from labctl.models.generative_params import Gate, Timing
from labctl.models.simd import LANES

Index = NDArray[np.intp]
Lanes = NDArray[np.float32]
"""(samples or 1, 1) for a value that all cells share, or (samples or 1, blocks * LANES)."""

NOWHERE = np.empty(0, np.intp)


def numbers(name: str, value: ArrayLike) -> FloatArray:
    """`value` as float64."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name} = {value!r} is not a number or an array of numbers") from None


def at_least(name: str, value: float, low: float, unit: str) -> float:
    """`value`, a finite number >= low."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} = {value!r} is not a number of {unit}") from None
    if not (math.isfinite(number) and number >= low):
        raise UsageError(f"{name} = {number} {unit}; give a finite number >= {low:g} {unit}")
    return number


def kelvin(value: float) -> float:
    """`value`, a temperature from 50 to 1000 K."""
    number = at_least("temperature", value, 50.0, "K")
    if number > 1000.0:
        raise UsageError(f"temperature = {number} K; the limit is 1000 K")
    return number


def hold(name: str, value: ArrayLike) -> FloatArray:
    """A voltage of one hold, as (1, cells or 1)."""
    array = numbers(name, value)
    if array.ndim > 1:
        raise UsageError(f"{name} has shape {array.shape}; give a scalar, or one value a selected cell")
    return array.reshape(1, -1)


def samples(name: str, value: ArrayLike, count: int) -> FloatArray:
    """A voltage of `count` samples, as (samples or 1, cells or 1)."""
    array = numbers(name, value)
    if array.ndim == 0:
        return array.reshape(1, 1)
    if array.ndim > 2 or len(array) != count:
        raise UsageError(f"{name} has shape {array.shape}; give a scalar, ({count},) or ({count}, cells)")
    return array.reshape(count, -1)


def select(cells: Cells, size: int) -> tuple[Index, Index, int]:
    """Blocks concerned, lane position of each selected cell among them (empty: all cells), number of cells."""
    if cells is None:
        return np.arange(-(-size // LANES)), NOWHERE, size
    index = np.asarray(cells)
    if index.ndim != 1 or not (np.issubdtype(index.dtype, np.integer) or index.size == 0):
        raise UsageError(f"cells have shape {index.shape}, {index.dtype}; give flat indices, whole numbers")
    index = index.astype(np.intp)
    if index.size and not (index.min() >= 0 and index.max() < size):
        raise UsageError(f"cells reach from {index.min()} to {index.max()}; the array has 0 to {size - 1}")
    if index.size == 1:
        return index // LANES, index % LANES, 1
    blocks, which = np.unique(index // LANES, return_inverse=True)
    place = which * LANES + index % LANES
    if len(np.unique(place)) != len(place):
        raise UsageError("cells name a cell twice; name each at most once, and repeat the call to repeat the pulse")
    return blocks, place, len(index)


def limits(
    gate: Gate, v_bl: FloatArray, v_sl: FloatArray, v_wl: FloatArray, blocks: Index, place: Index, count: int
) -> Lanes:
    """Saturation current of the gate (A); a single infinity where no gate limits."""
    if v_wl.min() - min(v_bl.max(), v_sl.max()) - gate.v_t >= gate.v_full and v_wl.max() < np.inf:
        return np.full((1, 1), np.inf, np.float32)
    over = v_wl - np.minimum(v_bl, v_sl) - gate.v_t
    if not np.isfinite(over).all():
        raise UsageError("a voltage is NaN or infinite; give finite voltages")
    sat = np.where(over >= gate.v_full, np.inf, 0.5 * gate.k * np.maximum(over, 0.0) ** 2)
    if sat.shape[1] == 1:
        return sat.astype(np.float32)
    lanes = np.full((len(sat), len(blocks) * LANES), np.inf, np.float32)
    lanes[:, place if len(place) else slice(count)] = sat
    return lanes


def separate(timing: Timing, u: Lanes, widths: FloatArray) -> Lanes:
    """Equivalent voltage at the reference width of holds that do not add up, one of u's rows for each width (s)."""
    if (widths == timing.width).all() and len(u) == len(widths):
        return u
    drive = np.empty((len(widths), u.shape[1]), np.float32)
    betas = np.float32(timing.beta_set), np.float32(timing.beta_reset)
    for i, width in enumerate(widths):
        equivalent(u[i % len(u)], np.float32(width / timing.width), *betas, drive[i])
    return drive


def joined(timing: Timing, u: Lanes, widths: FloatArray) -> Lanes:
    """The same for the samples of a waveform, whose stress adds up over each stretch of one polarity.

    0 where a sample adds less than 1 % to the stress that was last acted on.
    """
    drive = np.zeros((len(widths), u.shape[1]), np.float32)
    stress, last, before = (np.zeros(u.shape[1]) for _ in range(3))
    for i, width in enumerate(widths):
        v = u[i % len(u)].astype(np.float64)
        beta = np.where(v < 0, timing.beta_set, timing.beta_reset)
        same = v * before > 0
        stress = np.where(same, stress, 0.0) + width / timing.width * np.expm1(np.abs(v) / beta * math.log(10.0))
        moved = beta / math.log(10.0) * np.log1p(stress)
        last = np.where(same, last, 0.0)
        grown = moved > last + beta * math.log10(1.01)
        drive[i] = np.where(grown, np.copysign(moved, v), 0.0)
        last = np.where(grown, moved, last)
        before = v
    return drive
