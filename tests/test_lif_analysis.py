"""What is read off waveforms and periods, on signals whose answers are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.neurons import BIASES, NeuronLaw, charge_time, fit_law
from labctl.analysis.waveforms import (
    U_T_300,
    crossings,
    fit_leak,
    leak,
    needs_interval,
    pulse_widths,
    settling_time,
    smooth,
)
from labctl.errors import MeasurementError, ParameterError

TYPICAL = {"v_thr": 1.2, "v_pw": 1.0, "v_rest": 0.6, "v_taun": 1.2, "v_taup": 1.2, "v_gain": 2.1, "v_dd": 3.3}
LAW = NeuronLaw((2e-6, 10e-6, 20e-6, 50e-6, 200e-6), (125.0, 880.0, 3900.0, 26e3, 4.5e5))


def seen_by_a_scope(v: np.ndarray, lsb: float = 8e-3, noise: float = 3e-3) -> np.ndarray:
    return np.asarray(np.round((v + np.random.default_rng(1).normal(0, noise, len(v))) / lsb) * lsb)


def test_crossings_are_interpolated_and_ignore_noise_within_the_hysteresis() -> None:
    t = np.linspace(0, 1, 2001)
    v = np.sin(2 * np.pi * 5 * t - 0.3)
    expected = (np.arange(5) + 0.3 / (2 * np.pi)) / 5
    assert crossings(t, v, 0.0) == pytest.approx(expected, abs=1e-6)
    assert crossings(t, v, 0.0, "falling") == pytest.approx(expected + 0.1, abs=1e-6)
    noisy = seen_by_a_scope(v, noise=0.03)
    assert len(crossings(t, noisy, 0.0)) > 5
    assert crossings(t, noisy, 0.0, hysteresis=0.5) == pytest.approx(expected, abs=2e-3)


def test_pulse_widths_need_both_edges() -> None:
    t = np.arange(0, 1, 1e-4)
    v = np.asarray(3.3 * (((t + 0.01) % 0.1) < 0.03), np.float64)  # cut by both ends of the record
    assert pulse_widths(t, v, 1.65) == pytest.approx([0.03] * 9, abs=1.1e-4)
    assert len(pulse_widths(t, np.zeros_like(t), 1.65)) == 0


@pytest.mark.parametrize(("u0", "slope", "sign"), [(0.886, 3.77, 1), (0.6, 76.6, -1), (0.3, 900.0, 1)])
def test_a_leak_is_found_behind_noise_and_eight_bits(u0: float, slope: float, sign: int) -> None:
    t = np.linspace(0, 2 * u0 / slope, 5001)
    fit = fit_leak(t, seen_by_a_scope(0.6 + sign * leak(t, u0, slope)))
    assert fit.slope == pytest.approx(slope, rel=0.005)
    assert fit.v_rest == pytest.approx(0.6, abs=1e-3)
    assert fit.residual < 5e-3


@given(u=st.floats(1e-3, 2.0), slope=st.floats(0.01, 1e4), parts=st.integers(2, 5))
@settings(max_examples=60)
def test_a_leak_is_the_solution_of_its_equation(u: float, slope: float, parts: int) -> None:
    """Halfway and on is the same as the whole way; the slope at the start is L(1 − e^(−u/U_T))."""
    t = u / slope / parts
    assert leak(np.array(t * 2), u, slope) == pytest.approx(
        float(leak(np.array(t), float(leak(np.array(t), u, slope)), slope)), abs=1e-9
    )
    dt = 1e-6 * U_T_300 / slope
    assert (u - leak(np.array(dt), u, slope)) / dt == pytest.approx(
        slope * (1 - np.exp(-u / U_T_300)), rel=1e-3, abs=slope * 1e-6
    )


def test_settling_times() -> None:
    t = np.linspace(0, 0.5, 50001)
    v = 0.6 + leak(t, 0.886, 3.77)
    exact = (0.58 + U_T_300 * (np.log1p(-np.exp(-0.6 / U_T_300)) - np.log1p(-np.exp(-0.02 / U_T_300)))) / 3.77
    assert settling_time(t, v, 1.2, 0.62) == pytest.approx(exact, rel=1e-3)
    assert settling_time(t, smooth(seen_by_a_scope(v), 201), 1.2, 0.62) == pytest.approx(exact, rel=0.01)
    assert np.isnan(settling_time(t[:20000], v[:20000], 1.2, 0.62))
    with pytest.raises(MeasurementError, match=r"never crosses 2 V"):
        settling_time(t, v, 2.0, 0.62)


def test_a_scope_that_cannot_see_says_so() -> None:
    with pytest.raises(MeasurementError, match=r"cannot see an output pulse of 10 µs in a record of 2 s.*200 µs apart"):
        needs_interval(10e-6, 2.0, 10_000, "an output pulse")
    needs_interval(10e-6, 2e-3, 10_000, "an output pulse")


def test_charging_against_leaks_agrees_with_small_steps() -> None:
    slew, l_n, l_p, v_rest, top = 100.0, 30.0, 76.6, 0.6, 1.486
    v, t, dt = 0.0, 0.0, 1e-7
    while v < top:
        u = v - v_rest
        v += dt * (slew - l_n * (1 - np.exp(-u / U_T_300)) if u > 0 else slew + l_p * (1 - np.exp(u / U_T_300)))
        t += dt
    assert charge_time(0.0, top, slew, v_rest, l_n, l_p, U_T_300) == pytest.approx(t, rel=1e-4)
    assert np.isinf(charge_time(0.0, top, 20.0, v_rest, l_n, l_p, U_T_300))
    assert np.isinf(charge_time(0.0, 0.7, 0.0, v_rest, l_n, l_p, U_T_300))
    assert np.isfinite(charge_time(0.0, 0.55, 0.0, v_rest, l_n, l_p, U_T_300))


def test_the_inverse_gives_what_was_asked() -> None:
    v_thr = LAW.v_thr_for_rate(5e3, 20e-6, TYPICAL)
    assert LAW.rate(20e-6, {**TYPICAL, "v_thr": v_thr}) == pytest.approx(5e3, rel=1e-6)
    assert LAW.rate(LAW.i_syn_for_rate(5e3, TYPICAL), TYPICAL) == pytest.approx(5e3, rel=1e-6)
    assert LAW.pulse_width(LAW.v_pw_for_width(123e-6)) == pytest.approx(123e-6, rel=1e-9)
    v_taun = LAW.v_taun_for_leak(8e-3, 1.2, 0.6)
    assert leak(np.array(8e-3), 0.6, float(LAW.l_n(v_taun))) == pytest.approx(20e-3, rel=1e-6)
    with pytest.raises(ParameterError, match=r"no V_thr in .* makes 90 kHz at 20 µA"):
        LAW.v_thr_for_rate(90e3, 20e-6, TYPICAL)
    with pytest.raises(ParameterError, match=r"i_syn = 1 µA is outside 2 µA … 200 µA"):
        LAW.rate(1e-6, TYPICAL)
    with pytest.raises(ParameterError, match=r"no V_pw in 0 V … 2\.4 V"):
        LAW.v_pw_for_width(1e-8)


def test_a_law_is_found_from_periods_alone() -> None:
    rng = np.random.default_rng(4)
    points = [(i, v, 1.0, 0.6, 1.2, 1.2) for i in LAW.i_syn for v in (0.5, 0.9, 1.4)]
    points += [(200e-6, 0.9, v_pw, 0.6, 1.2, 1.2) for v_pw in (0.45, 0.55, 0.7, 0.85, 1.15, 1.4)]
    points += [(2e-6, 0.9, 1.0, 0.0, v_taun, 1.2) for v_taun in (0.9, 1.2, 1.3)]
    points += [(0.0, v, 1.0, 0.6, 1.2, v_taup) for v_taup in (1.1, 1.2, 1.3) for v in (0.05, 0.12)]
    table = np.array(points)
    at = dict(zip(BIASES, table[:, 1:].T, strict=True))
    true = NeuronLaw(LAW.i_syn, LAW.slew, 0.25, 2.5e-6, 4e-6, 4.2, 0.055, 60.0, -0.045, 210e-6, 0.65, 1.5)
    slews = np.where(table[:, 0] > 0, LAW.slew_at(np.maximum(table[:, 0], 2e-6)), 0.0)
    fit = fit_law(table[:, 0], true.period(slews, at) * (1 + rng.normal(0, 1e-4, len(table))), at)
    assert fit.rms < 2e-4
    for name, tolerance in (("v_os", 2e-3), ("t_lat", 0.01), ("l_n0", 0.01), ("s_n", 0.01), ("l_p0", 5e-3),
                            ("s_p", 5e-3), ("q", 5e-3), ("v_tp", 2e-3), ("n", 2e-3)):  # fmt: skip
        assert getattr(fit.law, name) == pytest.approx(getattr(true, name), rel=tolerance), name
    assert fit.law.slew == pytest.approx(true.slew, rel=5e-3)
    with pytest.raises(MeasurementError, match="do not determine"):
        fit_law(table[:5, 0], np.ones(5), {name: values[:5] for name, values in at.items()})
