"""The physical 1T1R cell: a conducting filament with a gap, in series with an EKV transistor.

State: the gap (nm) between filament and electrode. V is the voltage over the memristor (BL side positive), T the
temperature of its filament, T_0 that of the array; 0.05 = 0.25 nm hopping length / 5 nm of oxide.

    I = I_0 · exp(−gap/g_0) · sinh(V/V_0)                                          in series with `transistor`
    T = T_0 + R_th · V · I                                  (settles in 0.23 ns: taken as instantaneous)
    d(gap)/dt = ν · s · [exp(−(E_reset + a)/kT) − exp(−(E_set − a)/kT)],   a = 0.05 · γ · V
    γ = γ_set · (1 − (gap/g_s)³) for V > 0,   γ_reset · (1 − (gap/g_r)³) for V < 0,   never negative
    gap ≥ g_min by drift

The form is that of the SkyWater SKY130 ReRAM Verilog-A model (public PDK), with the field enhancement γ fitted for each
polarity; the values are fitted to recorded 1T1R arrays (see docs/device-models.md and `tests/models`).
Stated assumptions, which no public compact model contains:

- Forming: a pristine cell conducts I_p·sinh(V/V_p) and takes damage at the rate exp(|V|/V_f)/τ_f; it breaks down when
  the damage exceeds a Weibull draw. That leaves a filament with the gap g_form, and the equations above go on under the
  transistor's current for the rest of the pulse.
- Spread: each device draws a normal shift of g_r (HRS), of g_min (LRS) and of ln s (speed); each half-cycle (a turn of
  the direction of movement) draws another; ions hop one by one, which adds a variance `hop`·|Δgap| to each movement.
- Endurance shrinks g_min … g_r about its middle by `effects.window`.

Range of validity: pulses from 5 ns to seconds, |V| ≤ 4.5 V, 250 … 400 K. Not in it: a filament's width as a second
state (a RESET from different LRS shares one path), the transistor's charge and its leakage to the bulk.
"""

from dataclasses import astuple, dataclass, fields, replace
from typing import Annotated as A

import numpy as np
from numpy.typing import NDArray

from labctl.models import filament_cells as kernel
from labctl.models.cells import CellArray
from labctl.models.counter_rng import device_normals
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import Defects, Effects, check
from labctl.quantity import Q

_NM = Q("", 0.0, 5.0, "gap in nm")
_SIGMA = Q("", 0.0, 5.0, "standard deviation")


@dataclass(frozen=True)
class FilamentParams:
    """Numbers of one technology. Lengths in nm, energies in eV, all else in SI units."""

    i_0: A[float, Q("A", 1e-12, 1.0, "current prefactor of a closed gap")] = 4.598e-4
    g_0: A[float, Q("", 0.01, 5.0, "decay length of the current, nm")] = 0.3961
    v_0: A[float, Q("V", 0.01, 5.0, "voltage scale of the sinh")] = 0.3484
    e_set: A[float, Q("eV", 0.1, 5.0, "barrier of closing the gap")] = 1.736
    e_reset: A[float, Q("eV", 0.1, 5.0, "barrier of opening the gap")] = 1.322
    rate: A[float, Q("nm/s", 1.0, 1e18, "attempt velocity ν")] = 1.472e11
    gamma_set: A[float, Q("", 0.0, 1000.0, "field enhancement of SET")] = 11.67
    gap_set: A[float, _NM] = 4.343
    gamma_reset: A[float, Q("", 0.0, 1000.0, "field enhancement of RESET")] = 24.24
    gap_reset: A[float, _NM] = 1.996
    gap_min: A[float, _NM] = 0.7133
    r_th: A[float, Q("K/W", 0.0, 1e8, "thermal resistance of the filament")] = 1.230e6
    n: A[float, Q("", 1.0, 3.0, "slope factor of the transistor")] = 1.114
    v_t0: A[float, Q("V", -1.0, 3.0, "threshold of the transistor")] = 0.8474
    i_spec: A[float, Q("A", 1e-12, 1.0, "specific current of the transistor at 300 K")] = 9.923e-7
    d2d_hrs: A[float, _SIGMA] = 0.46
    c2c_hrs: A[float, _SIGMA] = 0.38
    d2d_lrs: A[float, _SIGMA] = 0.045
    c2c_lrs: A[float, _SIGMA] = 0.04
    d2d_rate: A[float, _SIGMA] = 0.35
    c2c_rate: A[float, _SIGMA] = 0.35
    hop: A[float, Q("", 0.0, 1.0, "variance of the gap a movement, nm")] = 0.001
    form_tau: A[float, Q("s", 0.0, 1e60, "time to breakdown at 0 V")] = 2e13
    form_v: A[float, Q("V", 0.001, 5.0, "voltage that speeds breakdown up e times")] = 0.08
    form_shape: A[float, Q("", 0.05, 20.0, "Weibull slope of the damage at breakdown")] = 0.46
    form_gap: A[float, _NM] = 2.0
    v_pristine: A[float, Q("V", 0.01, 100.0, "voltage scale of a pristine cell")] = 1.0
    i_pristine: A[float, Q("A", 1e-18, 1e-3, "current scale of a pristine cell")] = 1e-9
    r_short: A[float, Q("ohm", 1e-3, 1e6, "resistance of a shorted cell")] = 500.0

    def __post_init__(self) -> None:
        check(self)

    def vector(self) -> NDArray[np.float64]:
        """The numbers in the order that the kernels read."""
        return np.array(astuple(self), dtype=np.float64)

    def ideal(self) -> "FilamentParams":
        """The same technology without spread: all devices and cycles alike."""
        spreads = (item.name for item in fields(self) if "2" in item.name or item.name == "hop")
        return replace(self, **dict.fromkeys(spreads, 0.0))


class FilamentArray(CellArray):
    """An array of filament cells on the interface `labctl.models.device.DeviceModel`.

    `formed=False` gives a pristine array; `threads` bounds the threads of large calls (None: all cores).
    """

    format = "labctl.filament.1"
    defaults = FilamentParams
    hold_kernel = staticmethod(kernel.hold)
    read_kernel = staticmethod(kernel.read)

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        seed: int = 0,
        formed: bool = True,
        temperature: float = 300.0,
        params: FilamentParams | None = None,
        effects: Effects | None = None,
        defects: Defects | None = None,
        threads: int | None = None,
    ) -> None:
        self.params = params = params or FilamentParams()
        super().__init__(
            shape, seed=seed, temperature=temperature, numbers=params.vector(), state_rows=7, counters=5, device_rows=3,
            effects=effects or Effects(), defects=defects or Defects(), threads=threads,
        )  # fmt: skip
        if formed:
            pulse = np.array([3.15, 0.0, 2.0])  # V on BL, SL, WL: the median of what forms a recorded array
            kernel.form_all(self._x, self._n, self._d, self._m, self._clock, self._codes, self._seed, pulse, 40e-6)

    def repeat(self, cell: int, volts: FloatArray, widths: FloatArray, waits: FloatArray, times: int) -> None:
        """Pulses on one cell, all of them `times` times: volts (pulses, 3) on BL, SL, WL, widths (pulses,) in s, each
        after its wait and one wait more at the end, waits (pulses + 1,) in s. The same as so many `pulse`s and `wait`s.

        For `array.Array1T1R.repeat`, which has checked all that.
        """
        state = (self._x, self._n, self._d, self._m, self._clock, self._codes, self._seed)
        kernel.repeat(cell, volts, widths, waits, times, *state)

    def _draw(self) -> None:
        device_normals(self._seed, self._d, 100)

    @property
    def gap(self) -> FloatArray:
        """Gap of each cell as last programmed (nm), in the array's shape; nan where it is pristine. A copy."""
        return np.where(self._n[kernel.N_FORMED] > 0, self._x[kernel.X_GAP], np.nan).reshape(self.shape)

    def set_gap(self, gap: FloatArray | float, cells: Cells = None) -> None:
        """Put formed cells at a gap (nm) as if just programmed; for tests and for starting from recorded states."""
        index = self._index(cells)
        values = np.broadcast_to(np.asarray(gap, dtype=np.float64), index.shape)
        for value in values[:1] if values.size and values.min() == values.max() else values:
            Q("", 0.0, 3.0, "gap in nm").check("gap", float(value))
        own = self._x[kernel.X_OWN, index]
        self._x[kernel.X_GAP, index] = values
        self._x[kernel.X_MOVED, index] = 0.0
        self._x[kernel.X_TIME, index] = self._clock[0] + own
        self._x[kernel.X_RETENTION, index] = self._clock[1] + self._clock[3] * own
        self._n[kernel.N_EVENTS, index] += 1
        self._n[kernel.N_FORMED, index] = 1
