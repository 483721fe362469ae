"""Loops of known switching: abrupt, gradual, cut off at a current, and none at all."""

import numpy as np
import pytest

from labctl.analysis.loops import set_reset_features

UP = np.concatenate([np.linspace(0, 1, 101), np.linspace(0.99, 0, 100)])
BOTH = np.concatenate([UP, -UP[1:]])


def loop(kind: str, peak: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """SET of a 100 kΩ cell to 10 kΩ: at 0.6 V at once, or evenly in ln R from 0.4 V to 0.9 V; RESET likewise."""
    out = np.linspace(0, 1, 101)[: peak + 1]
    v_up = np.concatenate([out, out[-2::-1]])
    if kind == "abrupt":
        r_out = np.where(out > 0.605, 1e4, 1e5)
        r_down = np.where(out > 0.605, 1e5, 1e4)
    else:
        part = np.clip((out - 0.4) / 0.5, 0, 1)
        r_out, r_down = 1e5 * 0.1**part, 1e4 * 10**part
    r_up = np.concatenate([r_out, np.full(len(out) - 1, r_out[-1])])
    r_reset = np.concatenate([r_down, np.full(len(out) - 1, r_down[-1])])
    v = np.concatenate([v_up, -v_up[1:]])
    return v, v / np.concatenate([r_up, r_reset[1:]])


def test_an_abrupt_switch_is_at_its_voltage_and_says_so() -> None:
    v, i = loop("abrupt")
    found = set_reset_features(v, i, np.zeros(len(v), int))
    assert found.v_set == pytest.approx([0.605])
    assert found.v_reset == pytest.approx([-0.605])
    assert found.r_hrs == pytest.approx([1e5])
    assert found.r_lrs == pytest.approx([1e4])
    assert found.abrupt == pytest.approx([1.0])


def test_a_gradual_switch_says_that_its_voltage_is_no_jump() -> None:
    v, i = loop("gradual")
    found = set_reset_features(v, i, np.zeros(len(v), int))
    assert found.abrupt[0] == pytest.approx(1 / 50, abs=0.01)
    assert 0.4 < found.v_set[0] < 0.91
    # where the current begins to fall: d ln i = dv/v − ln(10)/0.5·dv turns at once
    assert found.v_reset[0] == pytest.approx(-0.405, abs=0.011)
    assert found.r_lrs == pytest.approx([1e4])


def test_a_loop_that_turns_back_at_a_current_is_read_as_one() -> None:
    v, i = loop("abrupt", peak=61)  # the first sample above the cut-off ends the way out
    found = set_reset_features(v, i, np.zeros(len(v), int))
    assert found.v_set == pytest.approx([0.605])
    assert found.r_lrs == pytest.approx([1e4])


def test_a_loop_that_turns_back_before_switching_gives_no_voltage() -> None:
    v, i = loop("abrupt", peak=50)
    found = set_reset_features(v, i, np.zeros(len(v), int))
    assert np.isnan([found.v_set[0], found.v_reset[0], found.abrupt[0]]).all()
    assert found.r_hrs == pytest.approx([1e5])


@pytest.mark.parametrize("r", [1e5, 1e6, 1e7, np.inf])
def test_noise_on_a_cell_that_does_not_switch_is_no_switching(r: float) -> None:
    """At 10 MΩ the noise is 15 times the current at the read voltage."""
    rng = np.random.default_rng(1)
    i = np.concatenate([BOTH / r + rng.normal(0, 0.3e-6, len(BOTH)) for _ in range(200)])
    found = set_reset_features(np.tile(BOTH, 200), i, np.repeat(np.arange(200), len(BOTH)))
    assert np.mean(~np.isnan(found.v_set)) < 0.02
    assert np.mean(~np.isnan(found.v_reset)) < 0.02


def test_a_reset_is_found_where_the_hrs_carries_more_at_the_peak_than_the_lrs_before() -> None:
    """An HRS that grows with V³: 98 µA at the end of the loop, the LRS switched at 60 µA."""
    v = np.concatenate([np.linspace(0, 1.2, 121), np.linspace(1.19, 0, 120)])
    hrs = v / 1e5 + 0.05e-3 * v**3
    i = np.where((np.arange(len(v)) <= 60), v / 1e4, np.minimum(hrs, v / 2e3))
    i[np.arange(len(v)) > 120] = v[121:] / 1e5
    found = set_reset_features(-v, -i, np.zeros(len(v), int))
    assert np.isnan(found.v_set[0])
    assert i.max() > 1.5 * i[60]
    assert found.v_reset == pytest.approx([-0.605], abs=0.0051)


def test_a_small_window_above_the_noise_is_found() -> None:
    v, i = loop("abrupt")
    rng = np.random.default_rng(2)
    found = [set_reset_features(v, i + rng.normal(0, 0.3e-6, len(v)), np.zeros(len(v), int)) for _ in range(50)]
    assert [f.v_set[0] for f in found] == pytest.approx([0.605] * 50)
