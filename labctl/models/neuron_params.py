"""Numbers of the LIF neuron: fitted parameters, biases, the currents and times that follow from them.

Source of the behaviour: N. Garg et al., "Versatile CMOS Analog LIF Neuron for Memristor-Integrated Neuromorphic
Circuits" (130 nm CMOS); the values are fitted to its Figs. 4 and 6. The fit has as many values as the paper has rows of
numbers: it reproduces, it does not predict. numpy only, so that analyses can use the equations without numba.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated as A
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import ParameterError, UsageError
from labctl.quantity import Q

FloatArray = NDArray[np.float64]
Value = float | FloatArray

I_MAX = 200e-6
"""What the LDO can give, A (Garg et al., Sec. III-E)."""
K_NOMINAL = 500.0
"""Designed attenuation; K·C1 / K is the membrane capacitance that sets the thermal noise of the reset."""
T_JITTER = 100e-6
"""The charge error of a read pulse lasts this long after the onset of its current (s); a steady current has none."""
V_DD_MIN = 1.0
"""Below this supply (V) nothing works: membrane and output at 0. A choice; the paper gives no limit."""
V_BCOMP_LOW = 1.2
"""Below this V_bcomp (V) the comparator is in its low-bias mode. A choice: half of the typical 2.4 V."""
BOLTZMANN_EV = 8.617333262e-5
BOLTZMANN = 1.380649e-23

P_LDO_STATIC, P_LDO_READ = 10e-6, 18e-6
P_ATTENUATOR_STATIC, P_ATTENUATOR_READ = 10e-12, 20e-6
P_NEURON, E_SPIKE = 5e-6, 200e-12
P_NEURON_LOW, E_SPIKE_LOW = 17e-9, 7e-9
"""SPICE estimates of Garg et al., Sec. III-E: watts, and joules a spike; the reading power comes on top."""


def _check(values: object) -> int | None:
    """Check the declared limits of a dataclass of numbers; return the length that its arrays agree on."""
    n: int | None = None
    for name, hint in get_type_hints(type(values), include_extras=True).items():
        quantity = get_args(hint)[1]
        value = getattr(values, name)
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise ParameterError(f"{name} = {value!r} is not a number; give {quantity.range()}") from None
        if array.ndim > 1 or (array.ndim and n not in (None, len(array))):
            raise UsageError(f"{name} has shape {array.shape}; give a number, or ({n or 'n'},), one value a neuron")
        for bad in (np.min(array, initial=np.inf), np.max(array, initial=-np.inf)) if array.size else ():
            quantity.check(name, float(bad))
        if array.ndim:
            n = len(array)
            array = array.copy()
            array.flags.writeable = False
            object.__setattr__(values, name, array)
        else:
            object.__setattr__(values, name, float(array))
    return n


@dataclass(frozen=True, eq=False)
class LifParams:
    """What a neuron is made of: 14 fitted values and the width of V_gain steering; each a float or (n,), one a neuron.

    With them 16 of the paper's measured rows (Figs. 4A, 4D, 4E, 6A to 6D) come out within 5 %, counts exact; not the
    25 kHz of Fig. 3, which fits no set that fits Figs. 4 and 6 (10.8 kHz here).

    Raises `ParameterError` outside the limits of each value, `UsageError` for arrays of different lengths.
    """

    kc: A[Value, Q("F", 1e-12, 1e-5, "attenuation times membrane capacitance, K·C1")] = 16.15e-9
    i_x: A[Value, Q("A", 1e-9, 1e-3, "current above which the attenuator is superlinear")] = 7.9e-6
    p: A[Value, Q("", 0, 5, "extra exponent of the attenuator above i_x")] = 1.247
    m: A[Value, Q("", 0.1, 50, "sharpness of the attenuator's bend")] = 6.32
    v_os: A[Value, Q("V", -0.5, 1, "comparator offset: a spike at V_thr + v_os")] = 0.286
    t_lat: A[Value, Q("s", 1e-9, 1e-3, "comparator latency, from crossing to reset")] = 3.02e-6
    t_d: A[Value, Q("s", 0, 1e-3, "dead time after each onset of the input current")] = 3.92e-6
    l_n0: A[Value, Q("V/s", 0, 1e6, "downward leak at V_taun = 1.2 V, 300 K")] = 3.77
    s_n: A[Value, Q("V", 1e-3, 1, "bias that changes a leak e-fold, at 300 K")] = 50.3e-3
    l_p0: A[Value, Q("V/s", 0, 1e6, "upward leak at V_taup = 1.2 V, 300 K")] = 76.6
    q_pw: A[Value, Q("s", 1e-9, 1, "scale of the output pulse width")] = 189.0e-6
    v_tp: A[Value, Q("V", -1, 3, "threshold of the pulse-width transistor")] = 0.6404
    n: A[Value, Q("", 1, 5, "slope factor of the pulse-width transistor")] = 1.6157
    jitter: A[Value, Q("", 0, 0.1, "relative standard deviation of a read pulse's charge")] = 0.03
    w_gain: A[Value, Q("V", 1e-3, 0.5, "width of the V_gain steering, at 300 K")] = 37e-3

    def __post_init__(self) -> None:
        _check(self)

    def sample(self, n: int, seed: int, sigma: float) -> "LifParams":
        """n neurons around these values: a chip's mismatch, frozen by the seed.

        Log-normal with median here and sd(ln) = sigma: kc, i_x, t_lat, t_d, l_n0, l_p0, q_pw. Normal: v_os with
        sd = sigma·|v_os|; v_tp with sd = sigma·n·U_T (a threshold that moves a subthreshold current by the relative
        sigma). Exponents and slopes (p, m, s_n, n, w_gain) and the jitter belong to the technology and do not vary.
        All deviations are independent. Raises `UsageError` for sigma outside 0 … 0.3 or n < 1.
        """
        if not (n >= 1 and 0 <= sigma <= 0.3):
            raise UsageError(f"mismatch of n = {n} neurons with sigma = {sigma}; give n ≥ 1 and sigma in 0 … 0.3")
        rng = np.random.default_rng([seed, 0x4C4946])
        new: dict[str, FloatArray] = {}
        for name in ("kc", "i_x", "t_lat", "t_d", "l_n0", "l_p0", "q_pw"):
            new[name] = np.asarray(getattr(self, name) * np.exp(sigma * rng.standard_normal(n)))
        new["v_os"] = np.asarray(self.v_os + sigma * np.abs(self.v_os) * rng.standard_normal(n))
        new["v_tp"] = np.asarray(self.v_tp + sigma * self.n * thermal_voltage(300.0) * rng.standard_normal(n))
        return replace(self, **new)


@dataclass(frozen=True, eq=False)
class Biases:
    """The ten bias voltages of the chip; each a float or (n,), one a neuron. Defaults: Garg et al., Table I.

    v_opa does not enter the equations: the paper gives no dependence. Raises as `LifParams`.
    """

    v_dd: A[Value, Q("V", 0, 5, "supply, amplitude of the output")] = 3.3
    v_ref: A[Value, Q("V", 0, 5, "LDO reference: the far end of the synaptic resistance")] = 2.4
    v_opa: A[Value, Q("V", 0, 5, "op-amp bias")] = 2.4
    v_gain: A[Value, Q("V", 0, 5, "membrane level at which the input is halved")] = 2.1
    v_taun: A[Value, Q("V", 0, 5, "downward leak, NMOS: higher leaks faster")] = 1.2
    v_taup: A[Value, Q("V", 0, 5, "upward leak, taken as PMOS: higher leaks slower")] = 1.2
    v_rest: A[Value, Q("V", 0, 5, "resting potential")] = 0.6
    v_thr: A[Value, Q("V", 0, 5, "threshold")] = 1.2
    v_bcomp: A[Value, Q("V", 0, 5, "comparator bias: below 1.2 V the low-bias mode")] = 2.4
    v_pw: A[Value, Q("V", 0, 5, "output pulse width")] = 1.0

    def __post_init__(self) -> None:
        _check(self)


def length(values: LifParams | Biases) -> int | None:
    """How many neurons the arrays in `values` describe; None when all are plain numbers."""
    return next((v.size for f in fields(values) if isinstance(v := getattr(values, f.name), np.ndarray)), None)


def thermal_voltage(temperature: float) -> float:
    """U_T = kT/q in V; `temperature` in K."""
    return BOLTZMANN_EV * temperature


def ldo_current(v_in: ArrayLike, v_ref: ArrayLike, r_syn: ArrayLike) -> FloatArray:
    """Current through the synaptic resistance, A: clip((V_in − V_ref)/R_syn, 0, 200 µA); only IN above V_ref conducts.

    Volts and ohms that broadcast. Raises `UsageError` for a value that is not finite or r_syn ≤ 0.
    """
    v, ref, r = np.asarray(v_in, np.float64), np.asarray(v_ref, np.float64), np.asarray(r_syn, np.float64)
    if not (np.isfinite(v).all() and np.isfinite(ref).all() and np.isfinite(r).all() and (r > 0).all()):
        raise UsageError(f"V_in = {v} V, V_ref = {ref} V, R_syn = {r} Ω; give finite numbers and R_syn > 0")
    return np.clip((v - ref) / r, 0.0, I_MAX)


def slew(i_syn: ArrayLike, params: LifParams | None = None) -> FloatArray:
    """dV/dt (V/s) that the attenuator makes of I (A): A = I/(K·C1)·[1 + (I/I_x)^m]^(p/m), superlinear above I_x."""
    p = params or LifParams()
    i = np.asarray(i_syn, np.float64)
    return np.asarray(i / p.kc * (1.0 + (i / p.i_x) ** p.m) ** (p.p / p.m))


def pulse_width(v_pw: ArrayLike, params: LifParams | None = None, temperature: float = 300.0) -> FloatArray:
    """T_pw (s) = Q / ln²(1 + exp((V_pw − V_tp)/(2·n·U_T))): a transistor from weak to strong inversion; also the
    refractory period."""
    p = params or LifParams()
    x = (np.asarray(v_pw, np.float64) - p.v_tp) / (2.0 * p.n * thermal_voltage(temperature))
    return np.asarray(p.q_pw / np.logaddexp(0.0, x) ** 2)


def leaks(
    v_taun: ArrayLike, v_taup: ArrayLike, params: LifParams | None = None, temperature: float = 300.0
) -> tuple[FloatArray, FloatArray]:
    """(L_n, L_p) in V/s: L_n0·exp((V_taun − 1.2)/s_n) and L_p0·exp((1.2 − V_taup)/s_n).

    The slope is a subthreshold one, so s_n ∝ T. The paper gives neither sign nor slope of V_taup: PMOS and the same
    slope are assumed.
    """
    p = params or LifParams()
    s = p.s_n * (temperature / 300.0)
    down = p.l_n0 * np.exp((np.asarray(v_taun, np.float64) - 1.2) / s)
    up = p.l_p0 * np.exp((1.2 - np.asarray(v_taup, np.float64)) / s)
    return np.asarray(down), np.asarray(up)


def energy(times: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Joules a neuron: ldo, attenuator, neuron (static), spikes; from powered, reading, low (s), spikes, spikes_low."""
    fast = times["powered"] - times["low"]
    return {
        "ldo": P_LDO_STATIC * times["powered"] + P_LDO_READ * times["reading"],
        "attenuator": P_ATTENUATOR_STATIC * times["powered"] + P_ATTENUATOR_READ * times["reading"],
        "neuron": P_NEURON * fast + P_NEURON_LOW * times["low"],
        "spikes": E_SPIKE * times["spikes"] + E_SPIKE_LOW * times["spikes_low"],
    }


def broadcast(values: Any, n: int) -> dict[str, FloatArray]:
    """Each field of a dataclass of numbers as (n,); raises `UsageError` when its arrays have another length."""
    found = length(values)
    if found not in (None, n):
        raise UsageError(f"{type(values).__name__} describes {found} neurons; there are {n}")
    return {f.name: np.broadcast_to(np.asarray(getattr(values, f.name), np.float64), (n,)) for f in fields(values)}
