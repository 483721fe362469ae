"""The moving-boundary slider with a threshold: a strong signal writes, a weak one reads.

State w in 0 … 1, the place of the boundary between a conducting and an insulating part (Strukov et al., Nature 453:80,
2008), moved only above a threshold (VTEAM: Kvatinsky et al., IEEE TCAS-II 62:786, 2015):

    R = R_on·w + R_off·(1 − w),   V = V_BL − V_SL (at most R·I_sat, the gate's compliance)
    dw/dt =  k_set · (V/v_set − 1)^a_set · f(w)            for V > v_set
    dw/dt = −k_reset · (|V|/v_reset − 1)^a_reset · f(w)    for V < −v_reset,   0 between

Windows f: `joglekar` 1 − (2w − 1)^2p (Joglekar and Wolf, Eur. J. Phys. 30:661, 2009; a boundary that reaches an end
stays there), `biolek` 1 − (w − stp(−i))^2p (Biolek et al., Radioengineering 18:210, 2009; depends on the direction,
leaves the ends), `prodromakis` j·(1 − ((w − 0.5)² + 0.75)^p) (Prodromakis et al., IEEE TED 58:3099, 2011; zero at the
ends too), `rectangular` 1.

The numbers are typical of an HfOx cell and fitted to nothing. Below the threshold nothing moves, so reading does not
disturb, unless `v_disturb` > 0: then k/1000 · exp((|V| − v)/v_disturb) goes on below it, and adds above it (assumed).
Spread: each device draws ln R_on, ln R_off and its thresholds, each half-cycle draws the thresholds again, a
movement Δw adds noise of variance `noise`²·|Δw| (assumptions). Forming: the first |V| above a Weibull draw.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated as A
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.errors import ParameterError
from labctl.models import terminal_kernel as kernel
from labctl.models.effects import check
from labctl.models.terminals import TerminalArray
from labctl.quantity import Q

_OHM = Q("ohm", 1.0, 1e15, "resistance of the cell")
_VOLT = Q("V", 1e-3, 10.0, "voltage over the cell")
_SIGMA = Q("", 0.0, 3.0, "standard deviation")
_WINDOWS = {
    "joglekar": kernel.JOGLEKAR,
    "biolek": kernel.BIOLEK,
    "prodromakis": kernel.PRODROMAKIS,
    "rectangular": kernel.RECTANGULAR,
}


@dataclass(frozen=True)
class SliderParams:
    """Numbers of one technology; SI units."""

    r_on: A[float, _OHM] = 10e3
    r_off: A[float, _OHM] = 300e3
    v_set: A[float, _VOLT] = 0.8
    v_reset: A[float, _VOLT] = 0.8
    k_set: A[float, Q("1/s", 1e-9, 1e15, "rate at twice the threshold")] = 2e6
    k_reset: A[float, Q("1/s", 1e-9, 1e15, "rate at twice the threshold")] = 2e6
    a_set: A[float, Q("", 0.1, 20.0, "exponent")] = 3.0
    a_reset: A[float, Q("", 0.1, 20.0, "exponent")] = 3.0
    window: Literal["joglekar", "biolek", "prodromakis", "rectangular"] = "biolek"
    window_power: A[float, Q("", 0.1, 100.0, "p of the window")] = 2.0
    window_factor: A[float, Q("", 1e-3, 100.0, "j of the Prodromakis window")] = 1.0
    v_disturb: A[float, Q("V", 0.0, 1.0, "disturb below the threshold falls e-fold in this; 0: none")] = 0.0
    n: A[float, Q("", 1.0, 3.0, "slope factor of the transistor")] = 1.2
    v_t0: A[float, Q("V", -1.0, 3.0, "threshold of the transistor")] = 0.6
    i_spec: A[float, Q("A", 1e-12, 1.0, "specific current of the transistor at 300 K")] = 2e-6
    d2d_on: A[float, _SIGMA] = 0.1
    d2d_off: A[float, _SIGMA] = 0.3
    d2d_v: A[float, _SIGMA] = 0.05
    c2c_v: A[float, _SIGMA] = 0.03
    noise: A[float, _SIGMA] = 0.02
    v_form: A[float, _VOLT] = 2.5
    form_shape: A[float, Q("", 0.1, 100.0, "Weibull slope of the forming voltage")] = 15.0
    r_pristine: A[float, _OHM] = 1e9
    r_short: A[float, _OHM] = 500.0

    def __post_init__(self) -> None:
        check(self)
        if self.window not in _WINDOWS:
            raise ParameterError(f"window = {self.window!r} is none of {', '.join(_WINDOWS)}")
        if self.r_on >= self.r_off:
            raise ParameterError(f"r_on = {self.r_on} ohm must be below r_off = {self.r_off} ohm")

    def ideal(self) -> "SliderParams":
        """The same technology without spread."""
        spreads = [item.name for item in fields(self) if "2" in item.name or item.name == "noise"]
        return replace(self, **dict.fromkeys(spreads, 0.0))  # type: ignore[arg-type]

    def vector(self) -> NDArray[np.float64]:
        """The numbers in the order that the kernels read."""
        return np.array([
            kernel.SLIDER, 1.0 / self.r_off, 1.0 / self.r_on, self.v_set, self.v_reset, self.n, self.v_t0, self.i_spec,
            self.d2d_off, self.d2d_on, self.d2d_v, self.c2c_v, self.noise, self.v_form, self.form_shape,
            1.0 / self.r_pristine, self.r_short, self.k_set, self.k_reset, self.a_set, self.a_reset,
            _WINDOWS[self.window], self.window_power, self.window_factor, self.v_disturb,
        ])  # fmt: skip


class SliderArray(TerminalArray[SliderParams]):
    """An array of sliders on the interface `labctl.models.device.DeviceModel`; arguments as `TerminalArray`."""

    format = "labctl.slider.1"
    defaults = SliderParams
