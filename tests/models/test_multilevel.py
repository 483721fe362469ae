"""The multi-level cell: 256 levels, linearity, asymmetry, write noise."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.errors import ParameterError
from labctl.models.effects import Effects
from labctl.models.multilevel import MultilevelArray, MultilevelParams

IDEAL = MultilevelParams().ideal()
UP, DOWN = (1.0, 0.0, 3.3, 1e-6), (0.0, 1.0, 3.3, 1e-6)


def build(params: MultilevelParams = IDEAL, n: int = 1, seed: int = 0) -> MultilevelArray:
    return MultilevelArray((n,), seed=seed, params=params, effects=Effects.none())


def curve(array: MultilevelArray, bias: tuple[float, float, float, float], n: int) -> NDArray[np.float64]:
    """Conductance (S) before and after each of n pulses, (n + 1, cells)."""
    g = [array.read(0.2, 0.0, 3.5, 0.0) / 0.2]
    for _ in range(n):
        array.pulse(*bias)
        g.append(array.read(0.2, 0.0, 3.5, 0.0) / 0.2)
    return np.array(g)


@pytest.mark.parametrize(("beta_set", "beta_reset"), [(0.0, 0.0), (1.5, 3.0), (5.0, 0.5)])
def test_potentiation_and_depression_follow_their_curves(beta_set: float, beta_reset: float) -> None:
    array = build(replace(IDEAL, beta_set=beta_set, beta_reset=beta_reset))
    n = np.arange(256) / 255

    def share(beta: float) -> NDArray[np.float64]:
        return n if beta == 0 else (1 - np.exp(-beta * n)) / (1 - np.exp(-beta))

    up, down = curve(array, UP, 255)[:, 0], curve(array, DOWN, 255)[:, 0]
    span = IDEAL.g_max - IDEAL.g_min
    assert up == pytest.approx(IDEAL.g_min + span * share(beta_set), abs=1e-9)
    assert down == pytest.approx(IDEAL.g_max - span * share(beta_reset), abs=1e-9)


def test_a_linear_cell_has_256_distinct_equidistant_levels() -> None:
    g = curve(build(replace(IDEAL, beta_set=0.0)), UP, 255)[:, 0]
    assert len(np.unique(np.round(g / 1e-12))) == 256
    assert np.diff(g) == pytest.approx(np.full(255, 98e-6 / 255), rel=1e-6)


def test_asymmetry_is_that_of_the_two_curves() -> None:
    array = build()
    array.set_level(0.5)
    up = curve(array, UP, 1)[:, 0]
    array.set_level(0.5)
    down = curve(array, DOWN, 1)[:, 0]

    def slope(beta: float) -> float:  # of the curve, at the middle of the range
        return float(beta * (1 / (1 - np.exp(-beta)) - 0.5))

    assert np.diff(up)[0] / -np.diff(down)[0] == pytest.approx(slope(1.5) / slope(3.0), rel=0.01)


def test_width_and_voltage_make_pulses_worth_more() -> None:
    one, wide, high = build(), build(), build()
    curve(one, UP, 10)
    wide.pulse(1.0, 0.0, 3.3, 10e-6)
    high.pulse(1.0 + IDEAL.v_scale * np.log(10), 0.0, 3.3, 1e-6)
    assert wide.level[0] == pytest.approx(one.level[0], rel=1e-9)
    assert high.level[0] == pytest.approx(one.level[0], rel=1e-9)
    one.pulse(0.99, 0.0, 3.3, 1.0)
    assert wide.level[0] == pytest.approx(one.level[0], rel=1e-9)  # below the threshold nothing moves


def test_write_noise_adds_up_as_stated() -> None:
    array = build(replace(IDEAL, beta_set=0.0, noise=0.05), n=4000, seed=1)
    array.set_level(0.3)
    for _ in range(51):
        array.pulse(*UP)
    moved = array.level - 0.3
    assert moved.mean() == pytest.approx(0.2, abs=0.002)
    assert moved.std() == pytest.approx(0.05 * np.sqrt(0.2), rel=0.05)


def test_devices_differ_as_stated() -> None:
    array = build(replace(MultilevelParams(), noise=0.0), n=4000, seed=2)
    array.set_level(1.0)
    top = np.log(array.read(0.2, 0.0, 3.5, 0.0) / 0.2)
    array.set_level(0.0)
    bottom = np.log(array.read(0.2, 0.0, 3.5, 0.0) / 0.2)
    assert top.std() == pytest.approx(0.05, rel=0.1)
    assert bottom.std() == pytest.approx(0.1, rel=0.1)
    assert top.mean() == pytest.approx(np.log(100e-6), abs=0.01)


def test_bad_parameters_are_refused() -> None:
    for bad in ({"g_min": 1.0}, {"levels": 1}, {"beta_set": -1.0}, {"width": float("inf")}):
        with pytest.raises(ParameterError):
            MultilevelParams(**bad)


def test_disturb_below_the_threshold() -> None:
    params = replace(IDEAL, v_disturb=0.05, beta_set=0.0)
    array = build(params)
    array.set_level(0.3)
    array.pulse(0.9, 0.0, 3.3, 1e-4)  # 100 reference pulses, each worth exp(-0.1/0.05)
    assert array.level[0] - 0.3 == pytest.approx(100 * np.exp(-2.0) / 255, rel=1e-6)
    array.set_level(0.3)
    array.pulse(0.2, 0.0, 3.3, 1.0)  # a million reads
    assert 0 < array.level[0] - 0.3 < 1e-3
