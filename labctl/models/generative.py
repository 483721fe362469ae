"""The generative memristor model: whole cycles of a 1T1R cell, drawn from a vector autoregression.

Hennen et al., "A high throughput generative vector autoregression model for stochastic synapses", Front. Neurosci.
16:941753 (2022); Synaptogen, IEEE TED (2024). The equations stand at `GenerativeParams` and in the kernels; this
implementation is our own. Against the published implementations it adds a stationary fresh array, a seed, any subset
of cells, the gate as compliance, pulse width, and time through `labctl.models.effects`.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models import generative_aging as aging
from labctl.models import generative_cells as cell_kernels
from labctl.models import generative_kernel as kernel
from labctl.models import generative_lanes as lanes
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import HEALTHY, SAMPLED, Defects, Effects, arrhenius
from labctl.models.generative_lanes import Index, Lanes
from labctl.models.generative_params import DEFAULT, GenerativeParams, load
from labctl.models.generative_state import STUCK, Scratch, empty_state, room, scratch
from labctl.models.simd import LANES

BOLTZMANN = 1.380649e-23
CHARGE = 1.602176634e-19
FORMAT = b"labctl.generative.2"
_THREADED_FROM = 2**14  # cells; fewer are done before threads have started


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="labctl-generative")


class Generative:
    """An array of cells that follow `params` (a `GenerativeParams`, the path of a file, or None: our default file).

    seed: 0 … 2**63 - 1. Every random number belongs to (seed, cell, cycle or read), so threads, and the order and
    grouping of cells in the calls, change nothing. threads: None takes one a core.

    Voltages: v = v_bl - v_sl = -U of the paper. A SET (v >= -U_SET > 0) is abrupt; a RESET (v < -threshold) is gradual.
    The devices were measured with their transistors, so v is the voltage over both. Range: |v| <= `u_limit` (1.5 V in
    published files), outside which a call raises `UsageError`. A fresh cell is in the HRS of a cycle in the middle of
    a stationary life.

    Gate: it carries at most I_sat = k/2 (v_wl - min(v_bl, v_sl) - v_t)**2; from the overdrive `v_full` on it sets no
    limit. A cell switches only if the gate can carry its current before switching (at the threshold for a RESET); a
    SET stops where the cell carries I_sat at the applied voltage; every current is cut at I_sat. Assumed, not fitted.

    Width: thresholds are those of holding for `timing.width`. A hold of w at v is taken as a hold of that width at
    |v_eq| = beta log10(1 + (w / width) (10**(|v| / beta) - 1)), which lowers thresholds by beta a decade (an
    exponential rate, as for ion hopping; Menzel et al., Adv. Funct. Mater. 21:4487, 2011). A waveform adds up over each
    stretch of one polarity, so finer sampling changes nothing; separate calls do not add up. Assumed, not fitted.

    Time: with `effects`, relaxation, retention, RTN and wear act on what is read (the current times a factor of the
    cell's age, state and cycles), not on the thresholds. Without, the model is as published: read noise only.

    Defects: a stuck cell keeps its fresh state; a shorted one is 500 Ω; an open or never forming one does not conduct.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        params: GenerativeParams | str | Path | None = None,
        *,
        seed: int = 0,
        temperature: float = 300.0,
        effects: Effects | None = None,
        defects: Defects | None = None,
        threads: int | None = None,
    ) -> None:
        if not shape or not all(isinstance(k, int | np.integer) and k > 0 for k in shape):
            raise UsageError(f"shape = {shape} of an array of cells; give positive whole numbers, such as (64, 64)")
        if math.prod(shape) > 2**32:
            raise UsageError(f"shape = {shape} has {math.prod(shape)} cells; the limit is 2**32")
        if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**63):
            raise UsageError(f"seed = {seed!r}; give a whole number from 0 to 2**63 - 1")
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise UsageError(f"threads = {threads!r}; give a whole number >= 1, or None for one a core")
        self.params = params if isinstance(params, GenerativeParams) else load(DEFAULT if params is None else params)
        self.temperature = lanes.kelvin(temperature)
        self.effects = effects or Effects.none()
        self.threads = threads or (os.cpu_count() or 1)
        self._shape = tuple(int(k) for k in shape)
        self._n = math.prod(shape)
        self._noise = 1.0 if effects is None else effects.read_noise
        self._ages = effects is not None and aging.acts(effects)
        self._e = self.effects.vector()
        self._clock = np.zeros(2)  # s: of time, of retention
        self._reads = 0
        self._begin(int(seed))
        blocks = -(-self._n // LANES)
        self._state = empty_state(blocks, self.params.order, self._ages)
        given = (self._state, self._tables, lambda: np.empty(4 * LANES * (self.params.order + 2), np.float32))
        self._run(cell_kernels.fresh_blocks, blocks, *given, *cell_kernels.mixture(self.params))
        self._codes = (defects or Defects()).codes(self.seed, self._n).astype(np.uint8)
        self._broken = bool(self._codes.any())
        flags = self._state.flags.reshape(-1)
        flags[: self._n][self._codes != HEALTHY] |= STUCK
        flags[self._n :] = STUCK  # lanes that fill the last block

    def _begin(self, seed: int) -> None:
        self.seed = seed
        self._tables = cell_kernels.tables(self.params, seed)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._shape

    @property
    def cycles(self) -> NDArray[np.uint32]:
        """Cycles (RESETs out of the LRS) each cell has made, (cells,)."""
        return np.array(self._state.count.reshape(-1)[: self._n])

    @property
    def features(self) -> FloatArray:
        """(cells, 4): present cycle's R_HRS (Ω), v_SET (V, > 0), R_LRS (Ω), v_RESET (V, < 0); v = v_bl - v_sl."""
        return _features(self._state.y.swapaxes(1, 2).reshape(-1, 4)[: self._n])

    @property
    def bytes_a_cell(self) -> float:
        """Memory of the state, history included, in bytes a cell (of full blocks)."""
        return float(sum(a.nbytes for a in self._state) / self._state.flags.size + self._codes.nbytes / self._n)

    def pulse(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: float, cells: Cells = None) -> FloatArray:
        """Hold the voltages for `width` seconds; the selected cells' currents at the end, (cells,) in A.

        A width of 0 switches nothing and gives the present currents.
        """
        rows = lanes.hold("v_bl", v_bl), lanes.hold("v_sl", v_sl), lanes.hold("v_wl", v_wl)
        widths = np.array([lanes.at_least("width", width, 0, "s")])
        return np.asarray(self._apply(*rows, widths, lanes.separate, cells)[0])

    def write(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: float, cells: Cells = None) -> None:
        """As `pulse`, without computing the currents."""
        rows = lanes.hold("v_bl", v_bl), lanes.hold("v_sl", v_sl), lanes.hold("v_wl", v_wl)
        widths = np.array([lanes.at_least("width", width, 0, "s")])
        self._apply(*rows, widths, lanes.separate, cells, wanted=False)

    def waveform(
        self, t: ArrayLike, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, cells: Cells = None
    ) -> FloatArray:
        """Apply voltages held from t[i] to t[i+1] (s); currents (len(t), cells) in A, each at the end of its hold.

        The last sample has no duration. A voltage is a scalar, (len(t),) or (len(t), cells).
        """
        times = lanes.numbers("t", t)
        if times.ndim != 1 or not times.size or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise UsageError(f"t of a waveform, shape {times.shape}; give a list of finite times in s, none backwards")
        widths = np.diff(times, append=times[-1])
        n = times.size
        rows = lanes.samples("v_bl", v_bl, n), lanes.samples("v_sl", v_sl, n), lanes.samples("v_wl", v_wl, n)
        return self._apply(*rows, widths, lanes.joined, cells)

    def pulses(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: ArrayLike, cell: int) -> FloatArray:
        """A list of pulses on one cell, the same as that many calls of `pulse`; currents (pulses,) in A.

        Each voltage and the width (s) is a scalar or has one value a pulse; a width of 0 only reads.
        """
        parts = [lanes.numbers("pulses", v) for v in (v_bl, v_sl, v_wl, width)]
        try:
            bl, sl, wl, widths = np.broadcast_arrays(*parts, np.empty(1))[:4]
        except ValueError:
            raise UsageError(f"shapes {[p.shape for p in parts]} are not those of one list of pulses") from None
        if widths.ndim != 1 or not widths.size or not (np.isfinite(widths).all() and (widths >= 0).all()):
            raise UsageError("a pulse width is negative or not finite, or there is no pulse; give seconds >= 0")
        bl, sl, wl = (np.ascontiguousarray(v[:, None]) for v in (bl, sl, wl))
        return np.asarray(self._apply(bl, sl, wl, widths, lanes.separate, np.array([cell]))[:, 0])

    def read(
        self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, bandwidth: float, cells: Cells = None,
        out: NDArray[Any] | None = None,
    ) -> FloatArray:  # fmt: skip
        """Currents (cells,) in A with noise of variance BW (4 k_B T |I/V| + 2 e |I|) in the bandwidth BW (Hz).

        `out`: float32 or float64, of the size of the array rounded up to 16, takes the result of reading all cells.
        """
        bandwidth = lanes.at_least("bandwidth", bandwidth, 0, "Hz")
        blocks, place, count = lanes.select(cells, self._n)
        size = len(blocks) * LANES
        if out is not None and (cells is not None or out.shape != (size,) or out.dtype not in (np.float32, np.float64)):
            raise UsageError(f"out has shape {out.shape}, {out.dtype}; for all cells give ({size},) of float32 or 64")
        rows = lanes.hold("v_bl", v_bl), lanes.hold("v_sl", v_sl), lanes.hold("v_wl", v_wl)
        u, sat = self._volts(*rows, blocks, place, count)
        out = room((size,), np.float64) if out is None else out
        self._currents(u, sat, bandwidth, blocks, out)
        self._reads += 1
        return out[place] if cells is not None else out[: self._n]

    def wait(self, seconds: float, temperature: float | None = None) -> None:
        """Let `seconds` pass without bias, at `temperature` (K; None: the model's own)."""
        seconds = lanes.at_least("seconds", seconds, 0, "s")
        at = self.temperature if temperature is None else lanes.kelvin(temperature)
        self._clock += seconds, seconds * arrhenius(at, self._e)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Copies of everything that `restore` needs, the same bits however the cells came there."""
        head = {
            "format": np.array(FORMAT),
            "shape": np.array(self._shape),
            "seed": np.array(self.seed),
            "reads": np.array(self._reads),
            "clock": self._clock.copy(),
            "codes": self._codes.copy(),
        }
        return head | {name: array.copy() for name, array in self._state._asdict().items()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave; raises `UsageError` for another model, shape, order or version."""
        own = self.state()
        if set(state) != set(own):
            raise UsageError(f"the state holds {sorted(state)}; a generative model needs {sorted(own)}")
        theirs = {name: np.asarray(value) for name, value in state.items()}
        if theirs["format"].item() != FORMAT:
            raise UsageError(f"the state is of {theirs['format'].item()!r}; this model is {FORMAT!r}: build that model")
        for name, mine in own.items():
            value = theirs[name]
            if value.shape != mine.shape or value.dtype.kind != mine.dtype.kind or (
                value.dtype.kind == "f" and not np.isfinite(value).all()
            ):  # fmt: skip
                raise UsageError(
                    f"{name} of the state is {value.dtype} {value.shape}, here {mine.dtype} {mine.shape}, all finite; "
                    f"restore into a model of the same shape, order and effects"
                )
        if not np.array_equal(theirs["shape"], own["shape"]):
            raise UsageError(f"the state is of an array of shape {tuple(theirs['shape'])}, this one is {self._shape}")
        self._begin(int(theirs["seed"]))
        self._reads = int(theirs["reads"])
        self._clock[...], self._codes[...] = theirs["clock"], theirs["codes"]
        self._broken = bool(self._codes.any())
        for name, mine in self._state._asdict().items():
            mine[...] = theirs[name]

    def _scratch(self) -> Scratch:
        return scratch(self.params.order)

    def _run(self, function: Callable[..., Any], count: int, *args: Any, cells: int = LANES) -> list[Any]:
        """Run a kernel over 0 … count, of so many `cells` each, in threads where it pays.

        An argument that is a function makes room to work in, which every thread needs for itself.
        """
        if self.threads == 1 or count * cells < _THREADED_FROM:
            return [function(0, count, *(a() if callable(a) else a for a in args))]
        pieces = 4 * self.threads
        edges = iter(list(pairwise(np.linspace(0, count, pieces + 1).astype(int).tolist())))

        def work() -> list[Any]:  # piece after piece, so that a core that others use as well delays nothing
            own = [a() if callable(a) else a for a in args]
            return [function(lo, hi, *own) for lo, hi in edges]

        jobs = [_pool(self.threads).submit(work) for _ in range(self.threads - 1)]
        return work() + [found for job in jobs for found in job.result()]

    def _volts(
        self, v_bl: FloatArray, v_sl: FloatArray, v_wl: FloatArray, blocks: Index, place: Index, count: int
    ) -> tuple[Lanes, Lanes]:
        """U = v_sl - v_bl (NaN in the lanes that are not selected) and the gate's limit, checked."""
        for name, v in (("v_bl", v_bl), ("v_sl", v_sl), ("v_wl", v_wl)):
            if v.shape[1] not in (1, count) or not count:
                raise UsageError(f"{name} has {v.shape[1]} values; give one, or one for each of the {count} cells")
        limit = self.params.u_limit * (1 + 1e-9)  # a ramp may end at 1.5000000000000002 V
        rows = max(len(v_bl), len(v_sl))
        whole = v_bl.shape[1] == v_sl.shape[1] == 1 and not len(place)
        u = room((rows, 1 if whole else len(blocks) * LANES), np.float32)
        if len(place):
            u.fill(np.nan)
        else:
            u[:, count:] = np.nan
        for t in range(rows):
            ends = v_bl[t % len(v_bl)], v_sl[t % len(v_sl)]
            found = self._run(cell_kernels.place_volts, 1 if whole else count, *ends, place, limit, u[t], cells=1)
            if bad := [k for k in found if k >= 0]:
                v = ends[0][bad[0] % ends[0].size] - ends[1][bad[0] % ends[1].size]
                raise UsageError(
                    f"v_bl - v_sl = {v:.6g} V at cell {bad[0]} of the selection; the model holds for "
                    f"±{self.params.u_limit:g} V: give voltages within, or fit it on data that reach further"
                )
        return u, lanes.limits(self.params.gate, v_bl, v_sl, v_wl, blocks, place, count)

    def _apply(
        self, v_bl: FloatArray, v_sl: FloatArray, v_wl: FloatArray, widths: FloatArray, law: Callable[..., Lanes],
        cells: Cells, wanted: bool = True,
    ) -> FloatArray:  # fmt: skip
        """Switch the cells through the samples; the currents (samples, cells) if wanted."""
        blocks, place, count = lanes.select(cells, self._n)
        u, sat = self._volts(v_bl, v_sl, v_wl, blocks, place, count)
        drive = law(self.params.timing, u, widths)
        out = room((len(drive), len(blocks) * LANES) if wanted else (0, 0), np.float64)
        plain = not self._ages and not self._broken
        for t in range(1 if plain else len(drive)):
            k = slice(None) if plain else slice(t, t + 1)
            one_u, one_sat = (a if plain or len(a) == 1 else a[k] for a in (u, sat))
            now = np.array([*self._clock, arrhenius(self.temperature, self._e)])
            args = (blocks, one_u, drive[k], one_sat, widths[k], now, self._state, self._tables, self._scratch)
            self._run(kernel.pulse_blocks, len(blocks), *args, out if plain else np.empty((0, 0)))
            if wanted and not plain:  # read what the effects make of the new state
                self._currents(one_u, one_sat, SAMPLED, blocks, out[t])
        return out[:, place] if wanted and cells is not None else out[:, : self._n]

    def _currents(self, u: Lanes, sat: Lanes, bandwidth: float, blocks: Index, out: NDArray[Any]) -> None:
        """Currents in lanes; `SAMPLED` bandwidth shows the traps as they are and adds no noise."""
        band = 0.0 if bandwidth == SAMPLED else bandwidth * self._noise**2
        noise = np.float32(4 * BOLTZMANN * self.temperature * band), np.float32(2 * CHARGE * band)
        factor = np.ones((1, 1), np.float32)
        given: tuple[Any, ...]
        if self._ages:
            factor = np.empty((len(blocks), LANES), np.float32)
            given = (np.uint64(self.seed), self._clock, self._e, bandwidth, self._reads)
            self._run(aging.factors, len(blocks), blocks, u, self._state, self._tables, *given, factor)
        given = (
            factor,
            self._state.ratio,
            *noise,
            np.uint32(self._reads & 0xFFFFFFFF),
            self._tables,
            lambda: np.empty(4 * LANES, np.float32),
        )
        self._run(cell_kernels.read_blocks, len(blocks), blocks, u, sat, *given, out)
        if self._broken:
            given = (self._codes, noise, self._reads, np.uint64(self.seed))
            self._run(aging.broken, len(blocks), blocks, u, sat, *given, out)


def generate_cycles(params: GenerativeParams, devices: int, cycles: int, seed: int = 0) -> FloatArray:
    """Features of a stationary run without any voltage, (devices, cycles, 4), as `Generative.features` gives them.

    The cycles are those that a `Generative` of this seed goes through if no SET and no RESET fails.
    """
    if devices < 1 or cycles < 1:
        raise UsageError(f"devices = {devices}, cycles = {cycles}; give at least one of each")
    cells = Generative((devices,), params, seed=seed)
    y = np.empty((cycles, len(cells._state.flags), 4, LANES), np.float32)
    cells._run(cell_kernels.cycle_blocks, y.shape[1], cells._state, cells._tables, cells._scratch, y)
    return _features(y.transpose(1, 3, 0, 2).reshape(-1, cycles, 4)[:devices])


def _features(y: NDArray[np.float32]) -> FloatArray:
    """y of the paper, (…, 4), with R_HRS in ohm and the signs of v."""
    out = y.astype(np.float64)
    out[..., 0] = 10.0 ** out[..., 0]
    out[..., 1::2] *= -1.0
    return out
