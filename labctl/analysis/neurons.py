"""The laws of one LIF neuron as a calibration knows them: forward, fitted to measured periods, and inverted.

The form is that of the chip's model (Garg et al.; leak of a saturated subthreshold transistor, so that every charging
time is exact), but the slew against the current is what was measured, interpolated: no attenuator law is assumed.
It holds while the membrane stays about 0.2 V below V_gain, where the input is not steered away yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.waveforms import U_T_300
from labctl.errors import MeasurementError, ParameterError
from labctl.quantity import si

Floats = NDArray[np.float64]
V_TAU = 1.2
"""The bias (V) at which the leak slopes L_n0 and L_p0 are quoted: Table I."""


def charge_time(
    v0: ArrayLike, v1: ArrayLike, slew: ArrayLike, v_rest: ArrayLike, l_n: ArrayLike, l_p: ArrayLike, u_t: float
) -> Floats:
    """Seconds from v0 up to v1 (V) at a constant slew (V/s) against the leaks l_n (above rest) and l_p (towards rest).

    In y = e^(|u|/U_T), u = V − V_rest, both halves are linear, so the time is exact. inf where v1 is never reached.
    """
    v0, v1, slew, v_rest, l_n, l_p = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (v0, v1, slew, v_rest, l_n, l_p))
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        a, b = np.minimum(v0, v_rest) - v_rest, np.minimum(v1, v_rest) - v_rest  # below rest, ≤ 0
        net = slew + l_p
        below = (b - a) / net + u_t / net * (
            np.log1p(-l_p / net * np.exp(a / u_t)) - np.log1p(-l_p / net * np.exp(b / u_t))
        )
        below = np.where(b > a, np.where(net > 0, below, np.inf), 0.0)
        a, b = np.maximum(v0, v_rest) - v_rest, np.maximum(v1, v_rest) - v_rest  # above rest, ≥ 0
        net = slew - l_n
        net = np.where(net == 0, 1e-12, net)
        ratio = l_n / net
        above = (b - a) / net + u_t / net * (np.log1p(ratio * np.exp(-b / u_t)) - np.log1p(ratio * np.exp(-a / u_t)))
        above = np.where(b > a, np.where(np.isfinite(above) & (slew > 0), above, np.inf), 0.0)
    return np.asarray(below + above)


def pulse_width(v_pw: ArrayLike, q: float, v_tp: float, n: float, u_t: float = U_T_300) -> Floats:
    """T_pw = Q / ln²(1 + exp((V_pw − V_tp)/(2·n·U_T))) in s: an EKV transistor discharges the pulse's capacitor."""
    return np.asarray(q / np.logaddexp(0.0, (np.asarray(v_pw) - v_tp) / (2 * n * u_t)) ** 2)


@dataclass(frozen=True)
class NeuronLaw:
    """What is known of one neuron. V, s and V/s throughout; i_syn (A) against slew is a measured curve."""

    i_syn: tuple[float, ...]
    slew: tuple[float, ...]
    v_os: float = 0.286
    t_lat: float = 3.02e-6
    t_d: float = 3.92e-6
    l_n0: float = 3.77
    s_n: float = 50.3e-3
    l_p0: float = 76.6
    s_p: float = -50.3e-3
    q: float = 194.7e-6
    v_tp: float = 0.638
    n: float = 1.608
    u_t: float = U_T_300

    @cached_property
    def _curve(self) -> Any:
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(np.log(self.i_syn), np.log(self.slew))

    def slew_at(self, i_syn: ArrayLike) -> Floats:
        """V/s at a synaptic current (A); raises `ParameterError` outside the currents that were measured."""
        i = np.asarray(i_syn, np.float64)
        low, high = min(self.i_syn), max(self.i_syn)
        if np.any((i < low * (1 - 1e-9)) | (i > high * (1 + 1e-9))):
            raise ParameterError(
                f"i_syn = {si(float(np.ravel(i)[0]), 'A')} is outside {si(low, 'A')} … {si(high, 'A')}, where the slew"
                " was measured; calibrate with more currents"
            )
        return np.asarray(np.exp(self._curve(np.log(i))))

    def l_n(self, v_taun: ArrayLike) -> Floats:
        """Leak slope towards rest from above, in V/s."""
        return np.asarray(self.l_n0 * np.exp((np.asarray(v_taun) - V_TAU) / self.s_n))

    def l_p(self, v_taup: ArrayLike) -> Floats:
        """Leak slope towards rest from below, in V/s."""
        return np.asarray(self.l_p0 * np.exp((np.asarray(v_taup) - V_TAU) / self.s_p))

    def pulse_width(self, v_pw: ArrayLike) -> Floats:
        """Output pulse width and refractory time, in s."""
        return pulse_width(v_pw, self.q, self.v_tp, self.n, self.u_t)

    def period(self, slew: ArrayLike, biases: Mapping[str, ArrayLike]) -> Floats:
        """Inter-spike interval (s) at a slew (V/s) and the biases v_thr, v_pw, v_rest, v_taun, v_taup (V)."""
        top = np.asarray(biases["v_thr"]) + self.v_os
        charge = charge_time(
            0.0, top, slew, biases["v_rest"], self.l_n(biases["v_taun"]), self.l_p(biases["v_taup"]), self.u_t
        )
        return charge + self.t_lat + self.pulse_width(biases["v_pw"])

    def rate(self, i_syn: float, biases: Mapping[str, float]) -> float:
        """Spikes per second (Hz) at a constant current (A)."""
        return float(1.0 / self.period(self.slew_at(i_syn), biases))

    def first_spike(self, i_syn: ArrayLike, biases: Mapping[str, ArrayLike]) -> Floats:
        """Seconds from the onset of a current (A) at rest to the spike, without the dead time."""
        top = np.asarray(biases["v_thr"]) + self.v_os
        rest, leak = biases["v_rest"], self.l_n(biases["v_taun"])
        return charge_time(rest, top, self.slew_at(i_syn), rest, leak, 0.0, self.u_t) + self.t_lat

    # the inverse -------------------------------------------------------------------------------------------------

    def v_thr_for_rate(self, rate: float, i_syn: float, biases: Mapping[str, float]) -> float:
        """The threshold bias (V) that makes `rate` Hz at `i_syn` A. Raises `ParameterError` where none does."""
        slew = self.slew_at(i_syn)
        high = min(biases["v_gain"] - 0.2 - self.v_os, biases["v_dd"])
        return _solve(
            lambda v: float(1.0 / self.period(slew, {**biases, "v_thr": v})),
            rate, 0.02, high, "V_thr", "V", f"{si(rate, 'Hz')} at {si(i_syn, 'A')}",
        )  # fmt: skip

    def i_syn_for_rate(self, rate: float, biases: Mapping[str, float]) -> float:
        """The current (A) that makes `rate` Hz at the given biases. Raises `ParameterError` where none does."""
        low, high = min(self.i_syn), max(self.i_syn)
        what = f"{si(rate, 'Hz')} at V_thr {si(biases['v_thr'], 'V')}"
        found = _solve(
            lambda x: self.rate(float(np.exp(x)), biases), rate, np.log(low), np.log(high), "ln(I/A)", "", what
        )
        return float(np.clip(np.exp(found), low, high))

    def v_pw_for_width(self, width: float) -> float:
        """The bias V_pw (V) that makes output pulses of `width` s. Raises `ParameterError` where none does."""
        if not (np.isfinite(width) and width > 0):
            raise ParameterError(f"width = {width} s is no pulse width")
        x = float(np.sqrt(self.q / width))
        v_pw = self.v_tp + 2 * self.n * self.u_t * (x + float(np.log(-np.expm1(-x))))
        if not 0.0 <= v_pw <= 2.4:
            raise ParameterError(
                f"no V_pw in 0 V … 2.4 V makes pulses of {si(width, 's')}; it would be {si(v_pw, 'V')}"
            )
        return v_pw

    def v_taun_for_leak(self, seconds: float, v_from: float, v_rest: float, band: float = 20e-3) -> float:
        """The bias V_taun (V) that lets the membrane fall from v_from to v_rest + band (V) within `seconds`."""
        u0, u1 = v_from - v_rest, band
        if not (np.isfinite(seconds) and seconds > 0 and u0 > u1 > 0):
            raise ParameterError(f"{seconds} s from {v_from} V to {band} V above {v_rest} V is no fall")
        slope = (
            u0 - u1 + self.u_t * float(np.log1p(-np.exp(-u0 / self.u_t)) - np.log1p(-np.exp(-u1 / self.u_t)))
        ) / seconds
        return V_TAU + self.s_n * float(np.log(slope / self.l_n0))


def typical() -> NeuronLaw:
    """The neuron that the paper's figures describe: what to expect before anything was measured."""
    from labctl.models.neuron_params import LifParams, slew

    p, i_syn = LifParams(), np.geomspace(20e-9, 200e-6, 41)
    return NeuronLaw(
        tuple(i_syn.tolist()), tuple(slew(i_syn, p).tolist()), float(p.v_os), float(p.t_lat), float(p.t_d),
        float(p.l_n0), float(p.s_n), float(p.l_p0), -float(p.s_n), float(p.q_pw), float(p.v_tp), float(p.n),
    )  # fmt: skip


def _solve(f: Any, target: float, low: float, high: float, name: str, unit: str, what: str) -> float:
    from scipy.optimize import brentq

    ends = f(low), f(high)
    if not min(ends) <= target <= max(ends):
        raise ParameterError(
            f"no {name} in {si(low, unit, 4)} … {si(high, unit, 4)} makes {what}: this neuron gives"
            f" {si(min(ends), 'Hz', 4)} … {si(max(ends), 'Hz', 4)}; change the current or V_pw"
        )
    return float(brentq(lambda x: f(x) - target, low, high, xtol=1e-9))


BIASES = ("v_thr", "v_pw", "v_rest", "v_taun", "v_taup")
"""The biases that a measured period depends on, besides the current."""
_START = (
    0.286,
    np.log(3e-6),
    np.log(3.77),
    np.log(0.05),
    np.log(76.6),
    np.log(0.05),
    np.log(1.9e-4),
    0.638,
    np.log(1.6),
)

_ROOM = (0.5, 3.0, 3.0, 1.5, 3.0, 1.5, 3.0, 0.4, 1.0)
"""How far from the typical chip a neuron is looked for: a factor e^3 for times and slopes, 0.5 V for the offset."""


@dataclass(frozen=True)
class LawFit:
    """A fitted law and how well it holds: relative residuals (n,) of the periods it was fitted to."""

    law: NeuronLaw
    residuals: Floats

    @property
    def rms(self) -> float:
        """Root mean square of the relative residuals."""
        return float(np.sqrt(np.mean(self.residuals**2)))


def fit_law(i_syn: Sequence[float] | Floats, period: Sequence[float] | Floats, biases: Mapping[str, Any]) -> LawFit:
    """Fit a neuron's law to its measured periods: i_syn (n,) in A, period (n,) in s, each of `BIASES` (n,) in V.

    Every non-zero current gets a slew of its own; offset, latency, leaks and the pulse-width law are common. Rows with
    i_syn = 0 are spontaneous firing towards a V_rest above threshold: they give the upward leak. The sign of s_p (PMOS:
    a higher V_taup leaks less) is found from the data. Raises `MeasurementError` when the rows do not determine a law.
    """
    from scipy.optimize import least_squares

    i, measured = np.asarray(i_syn, np.float64), np.asarray(period, np.float64)
    at = {name: np.asarray(biases[name], np.float64) for name in BIASES}
    currents, which = np.unique(i, return_inverse=True)
    silent = currents[0] == 0.0
    driven = currents[1:] if silent else currents
    if len(measured) < len(driven) + len(_START) or not np.all(np.isfinite(measured) & (measured > 0)):
        raise MeasurementError(
            f"{len(measured)} periods do not determine a neuron's law of {len(driven) + len(_START)} unknowns;"
            " measure more operating points (all of them with spikes)"
        )
    reference = int(np.argmax(at["v_taup"])), int(np.argmin(at["v_taup"]))
    quiet = np.flatnonzero(i == 0.0)
    if len(quiet):  # does a higher V_taup slow the rise?
        reference = quiet[np.argmax(at["v_taup"][quiet])], quiet[np.argmin(at["v_taup"][quiet])]
    sign = -1.0 if measured[reference[0]] >= measured[reference[1]] else 1.0
    # first guess of the slews: the whole period is charging
    guess = [np.log(np.max((at["v_thr"] + 0.3)[i == c] / measured[i == c])) for c in driven]

    def law(x: Floats) -> NeuronLaw:
        k = len(driven)
        v_os, t_lat, l_n, s_n, l_p, s_p, q, v_tp, n = x[k:]
        return NeuronLaw(
            tuple(driven.tolist()), tuple(np.exp(x[:k]).tolist()), float(v_os), float(np.exp(t_lat)),
            l_n0=float(np.exp(l_n)), s_n=float(np.exp(s_n)), l_p0=float(np.exp(l_p)), s_p=sign * float(np.exp(s_p)),
            q=float(np.exp(q)), v_tp=float(v_tp), n=float(np.exp(n)),
        )  # fmt: skip

    def miss(x: Floats) -> Floats:
        slews = np.concatenate([[0.0], np.exp(x[: len(driven)])] if silent else [np.exp(x[: len(driven)])])
        predicted = law(x).period(slews[which], at)
        return np.asarray(np.log(np.minimum(predicted, 1e6) / measured))

    start = np.array([*guess, *_START])
    room = np.array([*np.full(len(guess), 3.0), *_ROOM])
    best = least_squares(
        miss, start, bounds=(start - room, start + room), x_scale="jac", loss="soft_l1", f_scale=0.01, max_nfev=100
    )
    return LawFit(law(best.x), miss(best.x))
