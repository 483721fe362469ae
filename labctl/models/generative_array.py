"""The generative model as cells of a bench: any voltage, pristine cells to be formed, reads counted cell by cell.

`labctl.models.generative.Generative` is the model as published, within the voltages of its training data. Here, stated
assumptions make it a `labctl.models.device.DeviceModel` that any protocol may drive:

- Beyond `u_limit` (1.5 V in published files) a cell switches as at `u_limit`, which completes every SET and RESET, and
  its current goes on in proportion to the voltage, up to what the gate carries.
- A pristine cell conducts `G_PRISTINE`. The first |V| above a Weibull draw of the device (63 % at `V_FORM`), with the
  gate open, forms it, and the pulse then acts on it. The published data begin after forming and say nothing about it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models import generative_lanes as lanes
from labctl.models.cells import V_MAX
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import HEALTHY, Defects, Effects, forming_voltage
from labctl.models.generative import Generative
from labctl.models.generative_params import GenerativeParams

V_FORM, FORM_SHAPE = 2.5, 15.0
"""V, and the Weibull slope: those of the slider and the multi-level cell."""
G_PRISTINE = 1e-9
"""S."""


class GenerativeArray:
    """An array of generative cells on the interface `labctl.models.device.DeviceModel`; arguments as `Generative`.

    `formed=False` gives a pristine array. effects: None gives the recorded ones, `Effects()`.
    """

    additive = False
    """Successive pulses do not add up to a longer one."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        seed: int = 0,
        formed: bool = True,
        temperature: float = 300.0,
        params: GenerativeParams | str | Path | None = None,
        effects: Effects | None = None,
        defects: Defects | None = None,
        threads: int | None = None,
    ) -> None:
        self.device = Generative(
            shape, params, seed=seed, temperature=temperature, effects=effects or Effects(), defects=defects,
            threads=threads,
        )  # fmt: skip
        self.params = self.device.params
        self.size = int(np.prod(shape))
        self._pristine = np.full(self.size, not formed)
        self._reads = np.zeros(self.size, np.int64)
        self._all = np.arange(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.device.shape

    @property
    def features(self) -> FloatArray:
        """As `Generative.features`."""
        return self.device.features

    def pulse(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: float, cells: Cells = None) -> FloatArray:
        """Hold the voltages (V) for `width` s; the selected cells' currents at the end, (cells,) in A."""
        index = self._index(cells)
        bl, sl, wl = self._volts(index.size, v_bl, v_sl, v_wl)
        width = lanes.at_least("width", width, 0, "s")
        if width > 0:
            self._form(index, bl - sl, wl - np.minimum(bl, sl))
        out = self._untouched(index, bl, sl, wl)
        at = np.flatnonzero(~self._pristine[index])
        if at.size:
            low_bl, low_sl, scale = self._within(bl[at], sl[at])
            i = self.device.pulse(low_bl, low_sl, wl[at], width, self._chosen(index, at))
            out[at] = self._limited(i * scale, bl[at], sl[at], wl[at])
        return out

    def waveform(
        self, t: ArrayLike, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, cells: Cells = None
    ) -> FloatArray:
        """Apply voltages held from t[i] to t[i+1] (s); currents (len(t), cells) in A, each at the end of its hold."""
        times = lanes.numbers("t", t)
        if times.ndim != 1 or not times.size or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise UsageError(f"t of a waveform, shape {times.shape}; give a list of finite times in s, none backwards")
        index = self._index(cells)
        shape = times.size, index.size
        bl, sl, wl = (self._sampled(n, v, shape) for n, v in (("v_bl", v_bl), ("v_sl", v_sl), ("v_wl", v_wl)))
        start = np.zeros(index.size, int)  # the sample from which on a cell is formed
        if self._pristine[index].any():
            held = np.diff(times, append=times[-1]) > 0
            reached = held[:, None] & self._forms(index, bl - sl, wl - np.minimum(bl, sl))
            start = np.where(self._pristine[index], np.where(reached.any(0), reached.argmax(0), times.size), 0)
            self._pristine[index[start < times.size]] = False
        out = self._limited(G_PRISTINE * (bl - sl), bl, sl, wl)
        for first in np.unique(start[start < times.size]):
            at = np.flatnonzero(start == first)
            part = np.s_[first:, at]
            low_bl, low_sl, scale = self._within(bl[part], sl[part])
            i = self.device.waveform(times[first:], low_bl, low_sl, wl[part], self._chosen(index, at))
            out[part] = self._limited(i * scale, bl[part], sl[part], wl[part])
        return out

    def read(
        self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, bandwidth: float, cells: Cells = None
    ) -> FloatArray:
        """Currents (A) with the noise of `bandwidth` (Hz); nothing moves, no time passes. Each read draws anew."""
        index = self._index(cells)
        bl, sl, wl = self._volts(index.size, v_bl, v_sl, v_wl)
        bandwidth = lanes.at_least("bandwidth", bandwidth, 0, "Hz")
        out = self._untouched(index, bl, sl, wl)
        formed = np.flatnonzero(~self._pristine[index])
        counts = self._reads[index[formed]]
        for count in np.unique(counts) if bandwidth > 0 else [-1]:
            at = formed[counts == count] if bandwidth > 0 else formed
            if at.size:
                low_bl, low_sl, scale = self._within(bl[at], sl[at])
                self.device._reads = int(max(count, 0))
                i = self.device.read(low_bl, low_sl, wl[at], bandwidth, self._chosen(index, at))
                out[at] = self._limited(i * scale, bl[at], sl[at], wl[at])
        if bandwidth > 0:
            self._reads[index] += 1
        return out

    def wait(self, seconds: float, temperature: float | None = None) -> None:
        """Let `seconds` pass without bias, at `temperature` (K; None: the model's own)."""
        self.device.wait(seconds, temperature)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Copies of everything that `restore` needs."""
        state = self.device.state()
        state["reads"] = np.array(0)
        return state | {"pristine": self._pristine.copy(), "cell_reads": self._reads.copy()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave; raises `UsageError` for another model, shape, order or version."""
        rest = dict(state)
        own = {}
        for name, mine in (("pristine", self._pristine), ("cell_reads", self._reads)):
            own[name] = np.asarray(rest.pop(name, np.empty(0)))
            if own[name].shape != mine.shape or own[name].dtype != mine.dtype:
                raise UsageError(f"{name!r} of the saved state is missing or damaged; give what state() returned")
        self.device.restore(rest)
        self._pristine[...], self._reads[...] = own["pristine"], own["cell_reads"]

    def _form(self, index: NDArray[np.intp], v: FloatArray, gate: FloatArray) -> None:
        if self._pristine[index].any():
            self._pristine[index[self._forms(index, v, gate)]] = False

    def _forms(self, index: NDArray[np.intp], v: FloatArray, gate: FloatArray) -> NDArray[np.bool_]:
        """Which pristine cells this voltage over the cell, and over the gate, forms; in the shape of `v`."""
        able = self._pristine[index] & (self.device._codes[index] == HEALTHY)
        needed = np.full(index.size, np.inf)
        seed = np.uint64(self.device.seed)
        needed[able] = [forming_voltage(seed, int(cell), V_FORM, FORM_SHAPE) for cell in index[able]]
        return np.asarray((np.abs(v) >= needed) & (gate > self.params.gate.v_t))

    def _untouched(self, index: NDArray[np.intp], bl: FloatArray, sl: FloatArray, wl: FloatArray) -> FloatArray:
        """Currents of the cells if all were pristine."""
        if not self._pristine.any():
            return np.empty(index.size)
        return self._limited(G_PRISTINE * (bl - sl), bl, sl, wl)

    def _within(self, bl: FloatArray, sl: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The voltages brought within the model's range, the lower one kept, and the factor on the current."""
        v, low = bl - sl, np.minimum(bl, sl)
        scale = np.maximum(np.abs(v) / self.params.u_limit, 1.0)
        v = v / scale
        return low + np.maximum(v, 0.0), low + np.maximum(-v, 0.0), scale

    def _limited(self, i: FloatArray, bl: FloatArray, sl: FloatArray, wl: FloatArray) -> FloatArray:
        """Currents cut at what the gate carries."""
        gate = self.params.gate
        over = wl - np.minimum(bl, sl) - gate.v_t
        sat = np.where(over >= gate.v_full, np.inf, 0.5 * gate.k * np.maximum(over, 0.0) ** 2)
        return np.asarray(np.clip(i, -sat, sat))

    def _chosen(self, index: NDArray[np.intp], at: NDArray[np.intp]) -> Cells:
        """`index[at]` for the device, None where that is the whole array."""
        return None if index is self._all and at.size == self.size else index[at]

    def _index(self, cells: Cells) -> NDArray[np.intp]:
        if cells is None:
            return self._all
        index = np.asarray(cells)
        if index.size and index.dtype.kind in "iu" and not (index.min() >= 0 and index.max() < self.size):
            outside = index.max() if index.max() >= self.size else index.min()
            raise UsageError(f"cell {outside} is outside the array of {self.size} cells")
        lanes.select(cells, self.size)
        return index.astype(np.intp)

    def _volts(self, size: int, *volts: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        bl, sl, wl = (self._sampled(n, v, (size,)) for n, v in zip(("v_bl", "v_sl", "v_wl"), volts, strict=True))
        return bl, sl, wl

    @staticmethod
    def _sampled(name: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
        v = lanes.numbers(name, value)
        if not (np.abs(v) <= V_MAX).all():
            raise UsageError(f"{name} has a value that is not finite or beyond ±{V_MAX:g} V")
        if len(shape) == 2 and v.ndim == 1:
            v = v[:, None]
        try:
            return np.broadcast_to(v, shape)
        except ValueError:
            raise UsageError(f"{name} has shape {np.shape(value)}, which does not fit {shape}") from None
