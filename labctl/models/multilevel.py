"""The phenomenological multi-level cell for learning work: 256 levels, linearity, asymmetry, write noise.

State x in 0 … 1, G = g_min + x·(g_max − g_min). One reference pulse (`width`, at the threshold) is one level; the
curves of potentiation and depression are the exponentials of Chen, Peng and Yu (NeuroSim, IEEE TCAD 37:3067, 2018),
written for the state, so that any history works and n pulses are one formula:

    potentiation, n pulses of N:   x → X − (X − x)·e^(−β n/N),   X = 1/(1 − e^(−β)),   N = levels − 1
    depression the same in 1 − x;  β = 0 is linear; different β for the two directions make the cell asymmetric
    n = width/width_ref · exp((|V| − v_th)/v_0) for |V| ≥ v_th, else 0        (V = V_BL − V_SL)
    with `v_disturb` > 0, below v_th: n = width/width_ref · exp((|V| − v_th)/v_disturb), read and half-select disturb

Nothing here is physics: the numbers are the user's statement about a device. The gate limits the current to the
transistor's saturation current, and V to what that leaves at the start of the pulse. Spread: each device draws
ln g_max, ln g_min and its thresholds, each half-cycle draws the thresholds again, a movement Δx adds noise of variance
`noise`²·|Δx|. Forming: the first |V| above a Weibull draw.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated as A

import numpy as np
from numpy.typing import NDArray

from labctl.errors import ParameterError
from labctl.models import terminal_kernel as kernel
from labctl.models.effects import check
from labctl.models.terminals import TerminalArray
from labctl.quantity import Q

_SIEMENS = Q("S", 1e-15, 1.0, "conductance of the cell")
_VOLT = Q("V", 1e-3, 10.0, "voltage over the cell")
_SIGMA = Q("", 0.0, 3.0, "standard deviation")
_BEND = Q("", 0.0, 50.0, "β of the curve, 0 is linear")


@dataclass(frozen=True)
class MultilevelParams:
    """Numbers of one technology; SI units."""

    g_min: A[float, _SIEMENS] = 2e-6
    g_max: A[float, _SIEMENS] = 100e-6
    levels: A[int, Q("", 2, 65536, "levels from g_min to g_max, one a reference pulse")] = 256
    beta_set: A[float, _BEND] = 1.5
    beta_reset: A[float, _BEND] = 3.0
    v_set: A[float, _VOLT] = 1.0
    v_reset: A[float, _VOLT] = 1.0
    v_scale: A[float, Q("V", 1e-3, 10.0, "voltage that makes a pulse worth e pulses")] = 0.15
    v_disturb: A[float, Q("V", 0.0, 1.0, "disturb below the threshold falls e-fold in this; 0: none")] = 0.0
    width: A[float, Q("s", 1e-12, 1e3, "reference pulse")] = 1e-6
    n: A[float, Q("", 1.0, 3.0, "slope factor of the transistor")] = 1.2
    v_t0: A[float, Q("V", -1.0, 3.0, "threshold of the transistor")] = 0.6
    i_spec: A[float, Q("A", 1e-12, 1.0, "specific current of the transistor at 300 K")] = 2e-6
    d2d_max: A[float, _SIGMA] = 0.05
    d2d_min: A[float, _SIGMA] = 0.1
    d2d_v: A[float, _SIGMA] = 0.03
    c2c_v: A[float, _SIGMA] = 0.01
    noise: A[float, _SIGMA] = 0.05
    v_form: A[float, _VOLT] = 2.5
    form_shape: A[float, Q("", 0.1, 100.0, "Weibull slope of the forming voltage")] = 15.0
    g_pristine: A[float, _SIEMENS] = 1e-9
    r_short: A[float, Q("ohm", 1e-3, 1e6, "resistance of a shorted cell")] = 500.0

    def __post_init__(self) -> None:
        check(self)
        if self.g_min >= self.g_max:
            raise ParameterError(f"g_min = {self.g_min} S must be below g_max = {self.g_max} S")

    def ideal(self) -> "MultilevelParams":
        """The same technology without spread."""
        spreads = [item.name for item in fields(self) if "2" in item.name or item.name == "noise"]
        return replace(self, **dict.fromkeys(spreads, 0.0))  # type: ignore[arg-type]

    def vector(self) -> NDArray[np.float64]:
        """The numbers in the order that the kernels read."""
        return np.array([
            kernel.MULTILEVEL, self.g_min, self.g_max, self.v_set, self.v_reset, self.n, self.v_t0, self.i_spec,
            self.d2d_min, self.d2d_max, self.d2d_v, self.c2c_v, self.noise, self.v_form, self.form_shape,
            self.g_pristine, self.r_short, self.levels, self.beta_set, self.beta_reset, self.width, self.v_scale, 0.0,
            0.0, self.v_disturb,
        ])  # fmt: skip


class MultilevelArray(TerminalArray[MultilevelParams]):
    """An array of multi-level cells on the interface `DeviceModel`; arguments as `TerminalArray`."""

    format = "labctl.multilevel.1"
    defaults = MultilevelParams
