"""The filament cell: physics and statistics against what recorded 1T1R arrays show."""

import numpy as np

from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray, FilamentParams


def ohms(array: FilamentArray) -> np.ndarray:
    return 0.2 / array.read(0.2, 0.0, 3.5, 0.0)


def test_set_and_reset_switch_between_two_states() -> None:
    array = FilamentArray((8, 8), params=FilamentParams().ideal(), effects=Effects.none())
    array.pulse(0.0, 2.5, 4.0, 1e-6)
    high = ohms(array)
    array.pulse(2.0, 0.0, 3.3, 1e-6)
    low = ohms(array)
    assert (high > 50e3).all()
    assert (low < 6e3).all()


def test_a_list_of_pulses_is_the_same_as_that_many_calls() -> None:
    one, many = FilamentArray((2, 2), seed=3), FilamentArray((2, 2), seed=3)
    v_bl, v_sl, v_wl = [0.0, 0.2, 2.0, 0.2] * 5, [2.5, 0.0, 0.0, 0.0] * 5, [4.0, 3.5, 3.3, 3.5] * 5
    width = [1e-6, 0.0, 1e-7, 0.0] * 5
    batch = many.pulses(v_bl, v_sl, v_wl, width, 3)
    single = [one.pulse(*pulse, np.array([3]))[0] for pulse in zip(v_bl, v_sl, v_wl, width, strict=True)]
    assert (batch == np.array(single)).all()
    assert batch[1::4].max() < batch[3::4].min()
