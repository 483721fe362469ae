"""Input currents of a call: constant, or in steps, the same for all neurons or each its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import LimitError, UsageError
from labctl.models.neuron_params import I_MAX, FloatArray
from labctl.quantity import si

Lists = FloatArray | Sequence[FloatArray] | Sequence[float]


class Steps(NamedTuple):
    """Neuron k has currents[first+shift : last+shift] (A) from times[first : last] (s) on, k being the index."""

    times: FloatArray
    currents: FloatArray
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    shift: NDArray[np.int64]
    steady: bool


def check_duration(duration: float) -> None:
    """Raise `UsageError` unless a call can last `duration` s."""
    if not (np.isfinite(duration) and duration >= 0.0):
        raise UsageError(f"duration = {duration} s must be finite and not negative")


def constant(n: int, i_syn: ArrayLike) -> Steps:
    """One step at the start of the call; i_syn is a number or (n,). Raises `UsageError`, `LimitError`."""
    currents = np.array(i_syn, np.float64)
    if currents.shape != (n,):
        if currents.shape != ():
            raise UsageError(f"i_syn has shape {currents.shape}; give a number or ({n},), one value a neuron")
        currents = np.full(n, currents)
    _check(currents)
    first = np.zeros(n, np.int64)
    return Steps(np.zeros(1), currents, first, first + 1, np.arange(n), True)


def steps(n: int, duration: float, times: Lists, currents: Lists) -> Steps:
    """Steps as `Neurons.advance_steps` takes them. Raises `UsageError`, `LimitError`."""
    if len(times) and np.ndim(times[0]):
        if len(times) != n or len(currents) != n:
            raise UsageError(f"steps for {len(times)} neurons with currents for {len(currents)}; there are {n} neurons")
        ts = [np.asarray(t, np.float64) for t in times]
        values = [np.asarray(i, np.float64) for i in currents]
        for k, (t, i) in enumerate(zip(ts, values, strict=True)):
            if t.ndim != 1 or t.shape != i.shape:
                raise UsageError(f"neuron {k} has times of shape {t.shape} and currents of shape {i.shape}")
            if not (t[1:] >= t[:-1]).all():
                raise UsageError(f"the times of neuron {k} do not ascend")
        bounds = np.concatenate(([0], np.cumsum([len(t) for t in ts])))
        found = Steps(np.concatenate(ts), np.concatenate(values), bounds[:-1], bounds[1:], np.zeros(n, np.int64), False)
    else:
        t, i = np.asarray(times, np.float64), np.asarray(currents, np.float64)
        if t.ndim != 1 or i.shape not in (t.shape, (len(t), n)):
            raise UsageError(f"times of shape {t.shape}, currents of shape {i.shape}; give (k,) and (k,) or (k, {n})")
        if not (t[1:] >= t[:-1]).all():
            raise UsageError("the times of the steps do not ascend")
        first, last = np.zeros(n, np.int64), np.full(n, len(t))
        shift = np.zeros(n, np.int64) if i.ndim == 1 else np.arange(n) * len(t)
        found = Steps(t, np.ascontiguousarray(i.T).ravel(), first, last, shift, False)
    if found.times.size and not (found.times.min() >= 0.0 and found.times.max() <= duration):
        raise UsageError(f"steps at {found.times.min()} … {found.times.max()} s are outside the call, 0 … {duration} s")
    _check(found.currents)
    return found


def _check(currents: FloatArray) -> None:
    if currents.size and not (currents.min() >= 0.0 and currents.max() <= I_MAX):  # also for nan
        if not np.isfinite(currents).all():
            raise UsageError("a current is not finite; give A, 0 … 200 µA")
        raise LimitError(
            f"i_syn = {si(currents.min(), 'A')} … {si(currents.max(), 'A')} is outside 0 A … {si(I_MAX, 'A')},"
            " what the LDO can give; `ldo_current` tells what flows for a voltage"
        )


def pulses(start: float, period: float, width: float, i_syn: float, count: int) -> tuple[FloatArray, FloatArray]:
    """(times, currents) of `count` rectangular pulses for `Neurons.advance_steps`; s and A.

    Raises `UsageError` unless 0 < width < period.
    """
    if not (0.0 < width < period and start >= 0.0 and count >= 1):
        raise UsageError(f"{count} pulses of {width} s every {period} s from {start} s; give 0 < width < period")
    rise = start + period * np.arange(count)
    return np.column_stack((rise, rise + width)).ravel(), np.tile([i_syn, 0.0], count)
