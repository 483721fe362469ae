"""The slider: threshold, windows, and the movement against a time-stepped reference."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import pytest

from labctl.errors import ParameterError
from labctl.models.effects import Effects
from labctl.models.slider import SliderArray, SliderParams

IDEAL = SliderParams().ideal()
Window = Literal["joglekar", "biolek", "prodromakis", "rectangular"]


def build(params: SliderParams = IDEAL, n: int = 1) -> SliderArray:
    return SliderArray((n,), params=params, effects=Effects.none())


def f(kind: str, w: float, rising: bool, power: float) -> float:
    if kind == "joglekar":
        return 1 - float((2 * w - 1) ** (2 * power))
    if kind == "biolek":
        return 1 - float((w - (0 if rising else 1)) ** (2 * power))
    return 1 - float(((w - 0.5) ** 2 + 0.75) ** power) if kind == "prodromakis" else 1.0


@pytest.mark.parametrize("kind", get_args(Window))
@pytest.mark.parametrize("v", [1.3, -1.2])
def test_movement_agrees_with_a_time_stepped_reference(kind: Window, v: float) -> None:
    p = replace(IDEAL, window=kind)
    array = build(p)
    w = 0.3 if v > 0 else 0.7
    array.set_level(w)
    width, steps = 1.5e-6, 20000
    array.pulse(max(v, 0.0), max(-v, 0.0), 3.3, width)
    k, threshold = (p.k_set, p.v_set) if v > 0 else (p.k_reset, p.v_reset)
    for _ in range(steps):
        rate = k * (abs(v) / threshold - 1) ** p.a_set * f(kind, w, v > 0, p.window_power)
        w = min(max(w + np.sign(v) * rate * width / steps, 0.0), 1.0)
    assert abs(w - (0.3 if v > 0 else 0.7)) > 0.05
    assert array.level[0] == pytest.approx(w, abs=2e-4)


def test_strong_signals_write_and_weak_ones_read() -> None:
    array = build()
    array.set_level(0.5)
    i = array.pulse(0.79, 0.0, 3.3, 100.0)
    assert array.level[0] == 0.5
    assert i[0] == pytest.approx(0.79 / (0.5 * IDEAL.r_on + 0.5 * IDEAL.r_off))
    array.pulse(1.5, 0.0, 3.3, 1e-6)
    assert array.level[0] > 0.6


@pytest.mark.parametrize("kind", get_args(Window))
def test_what_the_windows_do_at_the_ends(kind: Window) -> None:
    array = build(replace(IDEAL, window=kind))
    array.set_level(1.0)
    array.pulse(0.0, 1.5, 3.3, 1e-6)
    stays = kind in ("joglekar", "prodromakis")  # their window is zero at both ends
    assert (array.level[0] == 1.0) == stays
    array.set_level(0.5)
    array.pulse(3.0, 0.0, 3.3, 1.0)
    assert array.level[0] == pytest.approx(1.0, abs=1e-3)


def test_the_gate_limits_current_and_therefore_the_state() -> None:
    reached = []
    for v_wl in (0.75, 0.9, 1.5):
        array = build()
        i = array.pulse(1.8, 0.0, v_wl, 1e-3)[0]
        assert i <= 1.8 / IDEAL.r_on
        reached.append(float(array.level[0]))
    assert reached[0] < reached[1] < reached[2]
    assert reached[2] == pytest.approx(1.0, abs=1e-3)
    stopped = build()
    i = stopped.pulse(1.8, 0.0, 0.75, 1e-3)[0]
    r = stopped.level[0] * IDEAL.r_on + (1 - stopped.level[0]) * IDEAL.r_off
    assert i * r == pytest.approx(IDEAL.v_set, rel=0.01)  # it stops where compliance leaves the threshold


def test_two_half_pulses_are_one_pulse() -> None:
    one, two = build(), build()
    one.pulse(1.3, 0.0, 3.3, 2e-6)
    two.pulse(1.3, 0.0, 3.3, 1e-6)
    two.pulse(1.3, 0.0, 3.3, 1e-6)
    assert one.level[0] == pytest.approx(two.level[0], abs=1e-4)


def test_bad_parameters_are_refused() -> None:
    for bad in ({"window": "square"}, {"r_on": 1e9}, {"k_set": float("nan")}, {"v_set": -1.0}):
        with pytest.raises(ParameterError):
            SliderParams(**bad)


def test_disturb_below_the_threshold_grows_with_voltage_and_adds_up() -> None:
    params = replace(IDEAL, v_disturb=0.05)
    moved = []
    for v in (0.2, 0.4, 0.7):  # a read, half and nearly full selection
        once, split = build(params), build(params)
        for array in (once, split):
            array.set_level(0.3)
        once.pulse(v, 0.0, 3.3, 1e-3)
        for _ in range(50):
            split.pulse(v, 0.0, 3.3, 2e-5)
        moved.append(once.level[0] - 0.3)
        assert split.level[0] - 0.3 == pytest.approx(moved[-1], rel=0.01, abs=1e-12)
    assert moved[0] < 1e-4 < moved[2] < 0.7
    assert moved[1] / moved[0] == pytest.approx(np.exp(0.2 / 0.05), rel=0.05)
    fast, disturbed = build(), build(params)
    for array in (fast, disturbed):
        array.set_level(0.3)
        array.pulse(1.5, 0.0, 3.3, 5e-7)
    assert disturbed.level[0] == pytest.approx(fast.level[0], abs=2e-3), "a write is hardly another"
