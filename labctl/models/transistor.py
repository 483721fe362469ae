"""The access transistor: EKV, one equation from weak to strong inversion, from the linear region to saturation.

    I = I_spec · [F((V_P − V_S)/U_T) − F((V_P − V_D)/U_T)],  F(x) = ln²(1 + e^(x/2)),  V_P = (V_G − V_T0)/n

C. C. Enz, F. Krummenacher, E. A. Vittoz, Analog Integr. Circuits Signal Process. 8:83 (1995), with
I_spec = 2nβU_T². All voltages are against the bulk, so the body effect is in n. Not in it: velocity saturation,
channel-length modulation, gate leakage, charge. V_T0 falls by 1 mV/K and I_spec grows as √T (mobility ∝ T^−1.5).
"""

from math import exp, log1p, sqrt

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from labctl.errors import ParameterError

BOLTZMANN = 8.617333262e-5
"""k in eV/K; also U_T/T in V/K."""


@njit(cache=True)
def pinch_off(v_g: float, v_t0: float, n: float, temperature: float) -> float:
    """V_P in V at `temperature` (K)."""
    return (v_g - v_t0 + 1e-3 * (temperature - 300.0)) / n


@njit(cache=True)
def specific_current(i_spec: float, temperature: float) -> float:
    """I_spec in A at `temperature` (K), from its value at 300 K."""
    return i_spec * sqrt(temperature / 300.0)


@njit(cache=True)
def charge(v_p: float, v: float, u_t: float) -> float:
    """√F = ln(1 + e^((V_P − V)/2U_T)) of the terminal at `v`."""
    return log1p(exp((v_p - v) / (2.0 * u_t)))


@njit(cache=True)
def drain_current(
    v_d: float, v_s: float, v_g: float, v_t0: float, n: float, i_spec: float, temperature: float
) -> float:
    """Current from drain to source in A; odd under their exchange."""
    u_t = BOLTZMANN * temperature
    v_p = pinch_off(v_g, v_t0, n, temperature)
    return specific_current(i_spec, temperature) * (charge(v_p, v_s, u_t) ** 2 - charge(v_p, v_d, u_t) ** 2)


@njit(cache=True)
def saturation_current(v_g: float, v_t0: float, n: float, i_spec: float, temperature: float) -> float:
    """Largest current (A) of a transistor whose source is at 0 V: the compliance that its gate sets."""
    v_p = pinch_off(v_g, v_t0, n, temperature)
    return float(specific_current(i_spec, temperature) * charge(v_p, 0.0, BOLTZMANN * temperature) ** 2)


def ekv(
    v_d: ArrayLike, v_s: ArrayLike, v_g: ArrayLike, *, v_t0: float, n: float, i_spec: float, temperature: float = 300.0
) -> NDArray[np.float64]:
    """Current from drain to source (A) for voltages against the bulk (V) that broadcast; `temperature` in K.

    Raises `ParameterError` for a voltage that is not finite or a parameter that is not positive.
    """
    if not (n > 0 and i_spec > 0 and temperature > 0 and np.isfinite([v_t0, n, i_spec, temperature]).all()):
        raise ParameterError(f"n = {n}, i_spec = {i_spec} A, temperature = {temperature} K must be positive and finite")
    volts = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (v_d, v_s, v_g)))
    if not all(np.isfinite(v).all() for v in volts):
        raise ParameterError("a terminal voltage is not finite; give numbers in V")
    u_t = BOLTZMANN * temperature
    v_p = (volts[2] - v_t0 + 1e-3 * (temperature - 300.0)) / n
    source, drain = (np.logaddexp(0.0, (v_p - v) / (2.0 * u_t)) ** 2 for v in (volts[1], volts[0]))
    return np.asarray(i_spec * np.sqrt(temperature / 300.0) * (source - drain))
