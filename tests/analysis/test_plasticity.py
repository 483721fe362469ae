"""Potentiation, depression and STDP against curves of known numbers and the project's own multi-level cell."""

import numpy as np
import pytest

from labctl.analysis.plasticity import branch, stdp, trains, update
from labctl.errors import MeasurementError, UsageError
from labctl.models.effects import Effects
from labctl.models.multilevel import MultilevelArray, MultilevelParams


def curve(n: int, beta: float) -> np.ndarray:
    k = np.arange(n + 1) / n
    return k if beta == 0 else np.expm1(-beta * k) / np.expm1(-beta)


@pytest.mark.parametrize("beta", [-2.0, 0.0, 0.5, 1.5, 6.0])
@pytest.mark.parametrize("span", [40e-6, -40e-6])
def test_the_curve_comes_back(beta: float, span: float) -> None:
    found = branch(50e-6 + span * curve(100, beta))
    assert found.beta.value == pytest.approx(beta, abs=1e-3)
    assert (found.start, found.span) == pytest.approx((50e-6, span), rel=1e-4)
    assert found.residual < 1e-9
    assert np.isnan(found.beta.low)


def test_the_interval_of_cycles_covers_under_noise_that_adds_up() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        g = 1 + curve(60, 2.0) + np.cumsum(rng.normal(0, 0.005, (8, 61)), axis=1)
        found = branch(g)
        inside += found.beta.low < 2.0 < found.beta.high
    assert inside / 100 == pytest.approx(0.95, abs=0.07)
    assert found.noise == pytest.approx(0.005, rel=0.15)


def test_the_multilevel_cell_shows_the_numbers_it_was_given() -> None:
    params = MultilevelParams(levels=101, beta_set=1.5, beta_reset=3.0, noise=0.0).ideal()
    array = MultilevelArray((1, 1), params=params, effects=Effects.none())
    array.set_level(0.0)

    def read() -> float:
        return float(array.read(0.1, 0.0, 3.3, 0.0)[0]) / 0.1

    cycle, v, g = [0] * 201, [np.nan], [read()]
    for volts in [1.0] * 100 + [-1.0] * 100:
        array.pulse(max(volts, 0.0), max(-volts, 0.0), 4.5, params.width)
        v.append(volts)
        g.append(read())
    parts = trains(cycle, v, g)
    assert parts.up.shape == parts.down.shape == (1, 101)
    found = update(parts.up, parts.down)
    # what the gate leaves of the voltage makes a pulse a little less than a reference pulse
    assert found.up.beta.value == pytest.approx(1.5, abs=0.3)
    assert found.down.beta.value == pytest.approx(3.0, abs=0.5)
    assert 0.1 < found.asymmetry < 0.6
    assert found.on_off > 10


def test_asymmetry_is_nil_for_a_way_back_that_retraces_and_one_for_opposite_steps() -> None:
    up = curve(50, 3.0)
    assert update(1 + up, 1 + up[::-1]).asymmetry == pytest.approx(0.0, abs=1e-3)
    # both saturate: by symmetry the curves are farthest apart at half the train, by 2·x(½) − 1
    assert update(1 + up, 2 - up).asymmetry == pytest.approx(2 * float(up[25]) - 1, abs=1e-3)


def test_states_are_counted_within_the_noise_of_a_step() -> None:
    rng = np.random.default_rng(2)
    up = 1 + curve(200, 0.0) + rng.normal(0, 0.01, (20, 201)) / 2**0.5  # steps scatter by 0.01
    down = 3 - up
    assert update(up, down, k=3).states == pytest.approx(1 / 0.06 + 1, abs=2)
    clean = 1 + curve(20, 1.0)
    assert update(clean, 3 - clean).states == 21


def test_lost_readings_are_left_out_and_flat_trains_refused() -> None:
    g = 1 + curve(40, 2.0)
    g[[3, 17]] = np.nan
    assert branch(g).beta.value == pytest.approx(2.0, abs=1e-3)
    with pytest.raises(MeasurementError, match="no curve"):
        branch(np.ones(20))
    with pytest.raises(MeasurementError, match="must rise"):
        update(2 - curve(20, 1.0), 2 - curve(20, 1.0))
    with pytest.raises(UsageError, match="4 pulses"):
        branch([1.0, 2.0, 3.0])


def test_trains_of_a_table() -> None:
    v = [np.nan, 1, 1, -1, -1] * 2
    g = np.arange(10.0)
    found = trains([0] * 5 + [1] * 5, v, g)
    assert found.up.tolist() == [[0, 1, 2], [5, 6, 7]]
    assert found.down.tolist() == [[2, 3, 4], [7, 8, 9]]
    with pytest.raises(UsageError, match="does not begin"):
        trains([0, 0], [1.0, 1.0], [1.0, 2.0])


def test_an_stdp_window_comes_back_with_intervals_that_cover() -> None:
    rng = np.random.default_rng(3)
    dt = np.concatenate([np.linspace(1e-3, 80e-3, 20), -np.linspace(1e-3, 80e-3, 20)])
    truth = (0.8, 17e-3, 0.4, 34e-3)
    dg = np.where(dt > 0, 0.8 * np.exp(-dt / 17e-3), -0.4 * np.exp(dt / 34e-3))
    exact = stdp(dt, dg)
    assert [x.value for x in exact[:4]] == pytest.approx(truth, rel=1e-4)
    inside = np.zeros(4)
    for _ in range(200):
        found = stdp(dt, dg + rng.normal(0, 0.03, len(dt)))
        inside += [x.low < true < x.high for x, true in zip(found[:4], truth, strict=True)]
    assert inside / 200 == pytest.approx(np.full(4, 0.95), abs=0.05)
    assert found.residual == pytest.approx(0.03, rel=0.4)


def test_an_anti_hebbian_window_is_negative_and_one_side_is_not_enough() -> None:
    dt = np.array([-3.0, -2, -1, 0, 1, 2, 3])
    found = stdp(dt, -np.sign(dt) * np.exp(-np.abs(dt)))
    assert found.a_plus.value == pytest.approx(-1.0)
    assert found.a_minus.value == pytest.approx(-1.0)
    with pytest.raises(MeasurementError, match="0 points at Δt < 0"):
        stdp([1.0, 2.0, 3.0], [1.0, 0.5, 0.2])
