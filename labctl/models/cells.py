"""What all device models share: checking what is asked, clocks, seeds, threads, saving the state.

A model is a subclass with three numba kernels over the same arrays:
`x` (quantities, cells) float64 state, `n` (counters, cells) int64 state, `d` (quantities, cells) float32 draws of each
device, `m` the model's numbers followed by those of `Effects` and the clocks.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import isfinite, prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import Defects, Effects, arrhenius

THREADED_FROM = 4096
"""Cells from which a call is shared among threads; below, starting them costs more than it saves."""

V_MAX = 10.0
"""Largest voltage that the models take, V; the bench's own limits are much lower."""

_pool: ThreadPoolExecutor | None = None


def _workers() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="cells")
    return _pool


class CellArray:
    """The part of `labctl.models.device.DeviceModel` that does not depend on the switching law."""

    format: ClassVar[str]
    """Name and version of the saved state, such as ``labctl.filament.1``."""
    hold_kernel: ClassVar[Callable[..., None]]
    """(cells, volts (3, samples, 1 or cells), widths (samples,), x, n, d, m, clock, codes, seed, out) -> None"""
    read_kernel: ClassVar[Callable[..., None]]
    """The same with the bandwidth in place of the widths, and one sample."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        seed: int,
        temperature: float,
        numbers: NDArray[np.float64],
        state_rows: int,
        counters: int,
        device_rows: int,
        effects: Effects,
        defects: Defects,
        threads: int | None,
    ) -> None:
        if not shape or any(not isinstance(side, (int, np.integer)) or side < 1 for side in shape):
            raise UsageError(f"shape = {shape} is not that of an array; give positive integers, such as (64, 64)")
        if not 0 <= seed < 2**63:
            raise UsageError(f"seed = {seed} is outside 0 … 2^63 − 1")
        if threads is not None and threads < 1:
            raise UsageError(f"threads = {threads} cannot work; give 1 or more, or None for all cores")
        self._shape = tuple(int(side) for side in shape)
        self.size = prod(self._shape)
        self.seed = int(seed)
        self._seed = np.uint64(seed)
        self.temperature = self._kelvin(temperature)
        self.effects, self.defects = effects, defects
        self.threads = threads or os.cpu_count() or 1
        self._e = effects.vector()
        self._clock = np.array([0.0, 0.0, self.temperature, arrhenius(self.temperature, self._e)])
        self._m = np.concatenate([numbers, self._e])
        self._x = np.zeros((state_rows, self.size))
        self._n = np.zeros((counters, self.size), dtype=np.int64)
        self._d = np.zeros((device_rows, self.size), dtype=np.float32)
        self._codes = defects.codes(self.seed, self.size)
        self._all = np.arange(self.size)
        self._mark = np.zeros(self.size, dtype=bool)
        self._one = np.empty((3, 1, 1))
        self._draw()

    def _draw(self) -> None:
        """Fill `_d` from the seed; called again when a state with another seed is restored."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._shape

    def pulse(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: float, cells: Cells = None) -> FloatArray:
        """Hold the three voltages (V) for `width` s; the currents (A, BL to SL) of the cells at the end, (cells,).

        A width of 0 gives the present currents. Raises `UsageError` and leaves the state unless all is well.
        """
        index = self._index(cells)
        volts = self._volts(index.size, v_bl, v_sl, v_wl)
        out = np.empty((1, index.size))
        self._shared(type(self).hold_kernel, index, volts, np.array([self._seconds("width", width)]), out)
        return np.asarray(out[0])

    def waveform(
        self, t: ArrayLike, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, cells: Cells = None
    ) -> FloatArray:
        """Hold sampled voltages (V) from t[i] to t[i+1] (s); currents (A) at the end of each, (len(t), cells).

        The last sample has no duration: its current is the one at once. Raises `UsageError` as `pulse` does.
        """
        times = np.asarray(t, dtype=np.float64)
        if times.ndim != 1 or times.size == 0:
            raise UsageError(f"t has shape {times.shape}; give the sample times as one list")
        widths = np.diff(times, append=times[-1])
        if not (np.isfinite(times).all() and (widths >= 0).all()):
            raise UsageError("the times of a waveform must be finite and must not run backwards")
        index = self._index(cells)
        volts = np.stack([self._sampled(name, v, times.size, index.size) for name, v in _named(v_bl, v_sl, v_wl)])
        out = np.empty((times.size, index.size))
        self._shared(type(self).hold_kernel, index, volts, widths, out)
        return out

    def pulses(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: ArrayLike, cell: int) -> FloatArray:
        """A list of pulses on ONE cell in one call, the same as that many calls of `pulse`; currents (A), (pulses,).

        Each of the voltages and the widths is a scalar or has one value a pulse; a width of 0 only reads.
        """
        parts = [np.asarray(v, dtype=np.float64) for v in (v_bl, v_sl, v_wl, width)]
        try:
            shape = np.broadcast_shapes(*(part.shape for part in parts), (1,))
        except ValueError:
            shape = ()
        if len(shape) != 1:
            raise UsageError(f"the shapes {[part.shape for part in parts]} are not those of one list of pulses")
        index = self._index(np.array([cell]))
        widths = np.ascontiguousarray(np.broadcast_to(parts[3], shape))
        if not (np.isfinite(widths).all() and (widths >= 0).all()):
            raise UsageError("a pulse width is negative or not finite; give seconds ≥ 0")
        volts = np.stack([self._sampled(n, v, shape[0], 1) for n, v in _named(*parts[:3])])
        out = np.empty((shape[0], 1))
        self._shared(type(self).hold_kernel, index, volts, widths, out)
        return out[:, 0]

    def read(
        self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, bandwidth: float, cells: Cells = None
    ) -> FloatArray:
        """Currents (A) at the three voltages (V) with the noise of `bandwidth` (Hz); nothing moves, no time passes.

        Bandwidth 0 is the noise-free mean. Each read of a cell draws anew.
        """
        index = self._index(cells)
        volts = self._volts(index.size, v_bl, v_sl, v_wl)
        out = np.empty((1, index.size))
        self._shared(type(self).read_kernel, index, volts, self._seconds("bandwidth", bandwidth, "Hz"), out)
        return np.asarray(out[0])

    def wait(self, seconds: float, temperature: float | None = None) -> None:
        """Let `seconds` pass without bias, at `temperature` (K; None: the model's own)."""
        seconds = self._seconds("seconds", seconds)
        aging = self._clock[3] if temperature is None else arrhenius(self._kelvin(temperature), self._e)
        self._clock[0] += seconds
        self._clock[1] += seconds * aging

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Copies of all that changes, the seed, and the format; small enough for one HDF5 group."""
        return {
            "format": np.array(self.format.encode()),
            "shape": np.array(self._shape),
            "seed": np.array(self.seed),
            "clock": self._clock[:2].copy(),
            "x": self._x.copy(),
            "n": self._n.copy(),
            "codes": self._codes.copy(),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave; raises `UsageError` for another model, version or shape."""
        try:
            name = bytes(np.asarray(state["format"]).item()).decode()
            shape = tuple(int(side) for side in np.asarray(state["shape"]).ravel())
            seed = int(np.asarray(state["seed"]).item())
            arrays = {key: np.asarray(state[key]) for key in ("clock", "x", "n", "codes")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"this is no saved state of a device model: {error!r}") from error
        if name != self.format:
            raise UsageError(f"the saved state is of {name}, this model is {self.format}; build that model")
        if shape != self._shape:
            raise UsageError(f"the saved state has shape {shape}, this array {self._shape}; build that shape")
        own = {"clock": self._clock[:2], "x": self._x, "n": self._n, "codes": self._codes}
        for key, array in arrays.items():
            if array.shape != own[key].shape or array.dtype.kind != own[key].dtype.kind or not np.isfinite(array).all():
                raise UsageError(f"{key!r} of the saved state is damaged: {array.dtype} {array.shape}")
        for key, array in arrays.items():
            own[key][...] = array
        if seed != self.seed:
            self.seed, self._seed = seed, np.uint64(seed)
            self._draw()

    def _shared(
        self, kernel: Callable[..., None], index: NDArray[np.intp], volts: FloatArray, given: Any, out: FloatArray
    ) -> None:
        """Run a kernel over the cells, in threads when they are many; each cell's result depends on that cell only."""
        own = (self._x, self._n, self._d, self._m, self._clock, self._codes, self._seed)
        if index.size < THREADED_FROM or self.threads == 1:
            kernel(index, volts, given, *own, out)
            return

        def job(part: slice) -> None:
            piece = np.empty((out.shape[0], part.stop - part.start))
            one = volts.shape[2] == 1
            kernel(index[part], volts if one else np.ascontiguousarray(volts[:, :, part]), given, *own, piece)
            out[:, part] = piece

        edges = np.linspace(0, index.size, self.threads + 1).astype(int)
        parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        for future in [_workers().submit(job, part) for part in parts]:
            future.result()

    def _index(self, cells: Cells) -> NDArray[np.intp]:
        if cells is None:
            return self._all
        index = np.asarray(cells)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise UsageError(f"cells is {index.dtype} of shape {index.shape}; give a list of flat indices")
        if index.dtype != np.intp:
            index = index.astype(np.intp)
        if index.size == 1:
            if not 0 <= index[0] < self.size:
                raise UsageError(f"cell {index[0]} is outside the array of {self.size} cells")
            return index
        if index.size:
            if index.min() < 0 or index.max() >= self.size:
                raise UsageError(f"cells {index.min()} … {index.max()} are not all in the array of {self.size} cells")
            self._mark[index] = True
            distinct = np.count_nonzero(self._mark)
            self._mark[index] = False
            if distinct != index.size:
                raise UsageError("a cell is named twice; name each once")
        return np.ascontiguousarray(index)

    def _volts(self, size: int, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike) -> FloatArray:
        """(3, 1, 1 or cells), checked."""
        if isinstance(v_bl, (int, float)) and isinstance(v_sl, (int, float)) and isinstance(v_wl, (int, float)):
            if abs(v_bl) <= V_MAX and abs(v_sl) <= V_MAX and abs(v_wl) <= V_MAX:  # false for NaN
                one = self._one
                one[0, 0, 0], one[1, 0, 0], one[2, 0, 0] = v_bl, v_sl, v_wl
                return one
            raise UsageError(f"v_bl, v_sl, v_wl = {v_bl}, {v_sl}, {v_wl} V are not all within ±{V_MAX:g} V")
        return np.stack([self._sampled(name, v, None, size) for name, v in _named(v_bl, v_sl, v_wl)])

    def _sampled(self, name: str, value: ArrayLike, samples: int | None, size: int) -> FloatArray:
        """`value` as (samples, cells); without samples, a one-dimensional value runs along the cells."""
        try:
            v = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name} is not made of numbers: {error}") from error
        if not (np.abs(v) <= V_MAX).all():
            raise UsageError(f"{name} has a value that is not finite or beyond ±{V_MAX:g} V")
        if samples is not None and v.ndim == 1:
            v = v[:, None]
        shape = (1 if samples is None else samples, size)
        try:
            return np.broadcast_to(v, shape)
        except ValueError:
            raise UsageError(f"{name} has shape {np.shape(value)}, which does not fit {shape}") from None

    @staticmethod
    def _seconds(name: str, value: float, unit: str = "s") -> float:
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name} = {value!r} is not a number of {unit}") from error
        if not (isfinite(number) and number >= 0):
            raise UsageError(f"{name} = {number} {unit} is negative or not finite; give {unit} ≥ 0")
        return number

    @staticmethod
    def _kelvin(value: float) -> float:
        if not 50.0 <= value <= 1000.0:  # false for NaN
            raise UsageError(f"temperature = {value} K is outside 50 … 1000 K")
        return float(value)


def _named(v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike) -> tuple[tuple[str, ArrayLike], ...]:
    return (("v_bl", v_bl), ("v_sl", v_sl), ("v_wl", v_wl))
