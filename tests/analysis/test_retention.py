"""Retention against laws of known numbers, and against what the models of this project are told to do."""

from dataclasses import replace

import numpy as np
import pytest

from labctl.analysis.distributions import fit_lognormal
from labctl.analysis.estimate import pivot
from labctl.analysis.retention import arrhenius, drift, failures, relaxation, stretched
from labctl.errors import MeasurementError, UsageError
from labctl.models.effects import Effects
from labctl.models.multilevel import MultilevelArray, MultilevelParams

T = np.logspace(0, 5, 21)


def test_the_drift_law_and_the_coverage_of_its_extrapolation() -> None:
    rng = np.random.default_rng(1)
    truth = 1e5 ** (-0.02) * 50e-6
    # where the law reaches 35 µS, far beyond the record
    when = (50 / 35) ** (1 / 0.02)
    inside = np.zeros(3)
    for _ in range(300):
        found = drift(T, 50e-6 * T**-0.02 * np.exp(rng.normal(0, 0.02, len(T))))
        at, reach = found.at(1e5), found.reaches(35e-6)
        inside += [
            found.nu.low < 0.02 < found.nu.high, at.low < truth < at.high, reach.low < when < reach.high,
        ]  # fmt: skip
    assert inside / 300 == pytest.approx(np.full(3, 0.95), abs=0.04)
    exact = drift(T, 50e-6 * T**-0.02)
    assert (exact.g0.value, exact.nu.value) == pytest.approx((50e-6, 0.02))
    assert exact.reaches(35e-6).value == pytest.approx(when)


def test_a_record_that_does_not_drift_has_no_end() -> None:
    found = drift(T, 50e-6 * np.exp(np.random.default_rng(2).normal(0, 0.02, len(T))))
    assert found.nu.low < 0 < found.nu.high
    assert found.reaches(25e-6).high == np.inf
    assert found.reaches(25e-6).low == 0.0


def test_the_stretched_exponential_comes_back_with_its_interval() -> None:
    rng = np.random.default_rng(3)
    t = np.logspace(0, 6, 40)
    y = 2 + 3 * np.exp(-((t / 3e3) ** 0.5))
    exact = stretched(t, y)
    values = (exact.start.value, exact.end.value, exact.tau.value, exact.beta.value)
    assert values == pytest.approx((5, 2, 3e3, 0.5), rel=1e-4)
    assert exact.reaches(3.5) == pytest.approx(3e3 * np.log(2) ** 2, rel=1e-3)
    assert exact.reaches(1.0) == np.inf
    inside = np.zeros(2)
    for _ in range(100):
        found = stretched(t, y + rng.normal(0, 0.05, len(t)), end=2.0)
        inside += [found.tau.low < 3e3 < found.tau.high, found.beta.low < 0.5 < found.beta.high]
    assert inside / 100 == pytest.approx(np.full(2, 0.95), abs=0.06)
    with pytest.raises(MeasurementError, match="do not determine"):
        stretched(t, np.full(len(t), 2.0))


def test_failures_are_interpolated_and_survivors_are_limits() -> None:
    t = [1.0, 10.0, 100.0, 1000.0]
    g = [[5, 4, 2, 1], [5, 5, 5, 5], [1, 1, 1, 1], [5, np.nan, 2, 9], [5, 6, 8, 5], [np.nan] * 4]
    found = failures(t, np.array(g, float), 3.0, 7.0)
    assert found.failed.tolist() == [True, False, True, True, True, False]
    assert found.t[:2] == pytest.approx([10 * 10**0.5, 1000.0])
    assert np.isnan(found.t[[2, 5]]).all()
    assert found.t[3] == pytest.approx(100 ** (2 / 3))
    assert found.t[4] == pytest.approx(10 * 10**0.5)


def test_times_to_failure_of_censored_cells_give_the_population() -> None:
    rng = np.random.default_rng(4)
    t = np.logspace(0, 4, 60)
    life = 3e3 * np.exp(rng.normal(0, 1.0, 400))
    g = np.where(t < life[:, None], 50e-6, 10e-6)
    found = failures(t, g, 30e-6, 70e-6)
    fit = fit_lognormal(found.t, ~found.failed)
    assert fit.censored == (~found.failed).sum() > 30
    assert fit.scale.low * 0.95 < 3e3 < fit.scale.high * 1.05
    assert fit.shape.value == pytest.approx(1.0, abs=0.12)


def test_the_activation_energy_of_the_model_is_found() -> None:
    """Cells that lose their state at 400 … 460 K, with the energy that `Effects` states: 1.2 eV."""
    effects = replace(Effects.none(), retention=1.0, retention_spread=0.3)
    tau, kelvin = [], []
    for temperature in (400.0, 430.0, 460.0):
        array = MultilevelArray((8, 8), params=MultilevelParams().ideal(), effects=effects, seed=3)
        array.set_level(0.8)
        t = np.logspace(2, 9, 50)
        g = np.empty((64, len(t)))
        before = 0.0
        for k, now in enumerate(t):
            array.wait(now - before, temperature)
            before = now
            g[:, k] = array.read(0.1, 0.0, 3.3, 0.0) / 0.1
        found = [stretched(t, np.log(row)) for row in g]
        tau += [fit.tau.value for fit in found]
        kelvin += [temperature] * 64
        assert np.median([fit.beta.value for fit in found]) == pytest.approx(effects.retention_shape, abs=0.05)
    fit = arrhenius(kelvin, tau)
    assert fit.energy.low < 1.2 < fit.energy.high
    assert fit.energy.high - fit.energy.low < 0.2
    assert fit.at(358.0).low < effects.retention_tau < fit.at(358.0).high


def test_arrhenius_needs_two_temperatures_and_has_no_interval_from_two_rows() -> None:
    two = arrhenius([300.0, 400.0], [1e6, 1e2])
    assert two.energy.value == pytest.approx(8.617333e-5 * np.log(1e4) / (1 / 300 - 1 / 400))
    assert np.isnan(two.energy.low)
    with pytest.raises(UsageError, match="two temperatures"):
        arrhenius([300.0, 300.0], [1.0, 2.0])


def test_the_relaxation_of_the_model_is_what_arrays_show() -> None:
    effects = replace(Effects.none(), relaxation=1.0)
    array = MultilevelArray((64, 64), params=MultilevelParams().ideal(), effects=effects, seed=5)
    array.set_level(0.5)
    start = array.read(0.1, 0.0, 3.3, 0.0) / 0.1
    t, g, before = np.array([0.01, 1.0, 1e4]), [], 0.0
    for now in t:
        array.wait(now - before)
        before = now
        g.append(array.read(0.1, 0.0, 3.3, 0.0) / 0.1)
    found = relaxation(t, np.transpose(g), start)
    # the model's spread at half of its range relative to the mean over the range, times the recorded 2.3 / 4.5 / 7.8 µS
    from labctl.models.effects import relaxation_shape

    shape = relaxation_shape(float(start.mean()), effects.relaxation_g_max)
    assert found.sigma == pytest.approx(shape * np.array([2.3, 4.5, 7.8]) * 1e-6, rel=0.08)
    assert (found.sigma_low < found.sigma).all()
    assert (np.diff(found.mean) < 0).all()


def test_relaxation_intervals_cover_and_lost_readings_are_left_out() -> None:
    rng = np.random.default_rng(6)
    inside = np.zeros(2)
    for _ in range(300):
        g = np.column_stack([np.zeros(20), rng.normal(-1, 2, 20)])
        found = relaxation([0.0, 1.0], g)
        inside += [
            found.mean_low[1] < -1 < found.mean_high[1], found.sigma_low[1] < 2 < found.sigma_high[1],
        ]  # fmt: skip
    assert inside / 300 == pytest.approx(np.full(2, 0.95), abs=0.04)
    lost = relaxation([0.0, 1.0], [[1.0, np.nan], [2.0, 3.0], [1.0, 1.0]])
    assert lost.n.tolist() == [3, 2]
    assert lost.mean[1] == pytest.approx(0.5)


def test_pivot_puts_a_table_into_cells_and_times() -> None:
    cells = np.array([[0, 1], [0, 0], [0, 1], [1, 0]])
    found = pivot(cells, [0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0])
    assert found[:, 0].tolist()[:2] == [2.0, 1.0]
    assert np.isnan(found[0, 1])
    assert found[1, 1] == 3.0
    assert found[2, 1] == 4.0
    with pytest.raises(UsageError, match="twice"):
        pivot([0, 0], [1, 1], [1.0, 2.0])


def test_normal_tail_of_the_drift_extrapolation_is_not_silently_finite() -> None:
    found = drift([1.0, 2.0, 4.0], [1.0, 1.01, 0.99])
    assert found.reaches(0.5).high == np.inf
