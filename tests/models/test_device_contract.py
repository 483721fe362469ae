"""What every device model promises (`labctl.models.device.DeviceModel`), as one set of tests over all of them.

A new model adds one line to `CASES`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import LabctlError, UsageError
from labctl.models.device import DeviceModel
from labctl.models.effects import Defects, Effects
from labctl.models.filament import FilamentArray
from labctl.models.generative_array import GenerativeArray
from labctl.models.multilevel import MultilevelArray
from labctl.models.slider import SliderArray

Bias = tuple[float, float, float, float]


class Case(NamedTuple):
    """How to build a model (shape, seed=, threads=, …) and the pulses (BL, SL, WL in V, width in s) that switch it."""

    build: Callable[..., Any]
    set_pulse: Bias
    reset_pulse: Bias
    read: tuple[float, float, float] = (0.2, 0.0, 3.5)


CASES = {
    "filament": Case(FilamentArray, (3.0, 0.0, 3.3, 1e-6), (0.0, 2.4, 3.5, 2e-6)),
    "slider": Case(SliderArray, (1.8, 0.0, 3.3, 3e-6), (0.0, 1.8, 3.3, 3e-6)),
    "multilevel": Case(MultilevelArray, (1.6, 0.0, 3.3, 1e-5), (0.0, 1.6, 3.3, 1e-5)),
    "generative": Case(GenerativeArray, (1.6, 0.0, 3.3, 1e-5), (0.0, 1.8, 3.3, 1e-5)),
}


AS_PROMISED: list[DeviceModel] = [FilamentArray((1,)), SliderArray((1,)), MultilevelArray((1,)), GenerativeArray((1,))]
"""The type checker holds each model against the interface here."""


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def snapshot(array: DeviceModel) -> dict[str, NDArray[np.generic]]:
    return {key: value.copy() for key, value in array.state().items()}


def same(a: dict[str, NDArray[np.generic]], b: dict[str, NDArray[np.generic]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def exercise(array: DeviceModel, case: Case) -> NDArray[np.float64]:
    """Some of everything; the currents in the order they come."""
    n = int(np.prod(array.shape))
    half = np.arange(0, n, 2)
    v = np.linspace(0.5, 1.0, n)
    bl, sl, wl, width = case.set_pulse
    parts = [
        array.pulse(*case.reset_pulse),
        array.pulse(*case.set_pulse, half),
        array.read(*case.read, 1e6),
        array.pulse(bl * v, sl, wl, width),
        array.waveform([0.0, 1e-7, 3e-7], [0.3, 0.9 * bl, 0.0], sl, wl, half).ravel(),
    ]
    array.wait(5.0, 330.0)
    parts += [array.read(*case.read, 100.0, half), array.read(*case.read, 0.0)]
    return np.concatenate(parts)


def test_currents_flow_from_bit_line_to_source_line(case: Case) -> None:
    array = case.build((4, 4), seed=1)
    v, _, gate = case.read
    forward = array.read(v, 0.0, gate, 0.0)
    assert forward.shape == (16,)
    assert forward.dtype == np.float64
    assert (forward > 0.0).all()
    assert (array.read(0.0, v, gate, 0.0) < 0.0).all()
    assert np.abs(array.read(0.0, 0.0, gate, 0.0)).max() < 1e-12
    assert array.pulse(v, 0.0, gate, 0.0).shape == (16,)
    assert array.shape == (4, 4)


def test_set_raises_and_reset_lowers_the_conductance(case: Case) -> None:
    array = case.build((16, 16), seed=2)
    array.pulse(*case.reset_pulse)
    low = array.read(*case.read, 0.0)
    array.pulse(*case.set_pulse)
    high = array.read(*case.read, 0.0)
    array.pulse(*case.reset_pulse)
    again = array.read(*case.read, 0.0)
    assert np.median(high / low) > 3.0
    assert np.median(high / again) > 3.0


def test_a_shut_gate_protects(case: Case) -> None:
    array = case.build((4, 4), seed=2)
    before = array.read(*case.read, 0.0)
    bl, sl, _, width = case.reset_pulse
    array.pulse(bl, sl, 0.0, width)
    assert array.read(*case.read, 0.0) == pytest.approx(before, rel=0.03)  # time has passed


def test_one_value_for_all_is_the_same_as_one_for_each(case: Case) -> None:
    one, each = case.build((5,), seed=3), case.build((5,), seed=3)
    bl, sl, wl, width = case.set_pulse
    assert (one.pulse(bl, sl, wl, width) == each.pulse([bl] * 5, sl, np.full(5, wl), width)).all()
    assert same(one.state(), each.state())


def test_cells_may_come_in_any_order_and_in_any_split(case: Case) -> None:
    whole, split = case.build((6,), seed=4), case.build((6,), seed=4)
    v = np.linspace(0.6, 1.0, 6) * case.set_pulse[0]
    _, sl, wl, width = case.set_pulse
    expected = [whole.pulse(*case.reset_pulse), whole.pulse(v, sl, wl, width), whole.read(*case.read, 1e6)]
    order = np.array([5, 0, 3, 1, 4, 2])
    found = np.empty((3, 6))
    for part in (order[:2], order[2:3], order[3:]):
        found[0, part] = split.pulse(*case.reset_pulse, part)
        found[1, part] = split.pulse(v[part], sl, wl, width, part)
        found[2, part] = split.read(*case.read, 1e6, part)
    assert (found == np.array(expected)).all()
    assert same(whole.state(), split.state())


def test_a_waveform_is_its_pulses(case: Case) -> None:
    one, two = case.build((4,), seed=5), case.build((4,), seed=5)
    v_bl = np.array([0.3, 1.0, 1.4, 0.2])
    currents = one.waveform([0.0, 1e-7, 2e-7, 5e-7], v_bl, 0.0, 3.3)
    assert currents.shape == (4, 4)
    for v, width, row in zip(v_bl, (1e-7, 1e-7, 3e-7, 0.0), currents, strict=True):
        assert two.pulse(v, 0.0, 3.3, width) == pytest.approx(row, rel=1e-6)
    per_cell = np.tile(v_bl[:, None], (1, 4))
    three = case.build((4,), seed=5)
    assert (three.waveform([0.0, 1e-7, 2e-7, 5e-7], per_cell, 0.0, 3.3) == currents).all()


def test_a_read_moves_nothing(case: Case) -> None:
    quiet, noisy = case.build((3, 3), seed=6), case.build((3, 3), seed=6)
    for array in (quiet, noisy):
        array.pulse(*case.set_pulse)
    for _ in range(20):
        noisy.read(*case.read, 1e5)
    assert (noisy.read(*case.read, 0.0) == quiet.read(*case.read, 0.0)).all()
    assert (noisy.pulse(*case.reset_pulse) == quiet.pulse(*case.reset_pulse)).all()
    assert (noisy.read(*case.read, 0.0) == quiet.read(*case.read, 0.0)).all()


def test_read_noise_grows_with_bandwidth_and_is_new_each_time(case: Case) -> None:
    array = case.build((32, 32), seed=7)
    clean = array.read(*case.read, 0.0)
    first, second = array.read(*case.read, 1e9), array.read(*case.read, 1e9)
    assert (first != second).all()
    difference = np.std(first - second) / np.sqrt(2)
    assert difference > 2.0 * np.std(array.read(*case.read, 1e7) - array.read(*case.read, 1e7)) / np.sqrt(2)
    g = clean / case.read[0]
    expected = np.sqrt(np.mean(4 * 1.380649e-23 * 300 * g * 1e9 + 2 * 1.602177e-19 * clean * 1e9))
    assert difference == pytest.approx(expected, rel=0.15)


def test_the_same_seed_gives_the_same_result_and_another_one_another(case: Case) -> None:
    first = exercise(case.build((6, 6), seed=8), case)
    assert np.isfinite(first).all()
    assert (first == exercise(case.build((6, 6), seed=8), case)).all()
    assert (first != exercise(case.build((6, 6), seed=9), case)).any()


def test_any_number_of_threads_gives_the_same_result(case: Case) -> None:
    shape = (96, 96)  # beyond the size from which threads are used
    results = [exercise(case.build(shape, seed=10, threads=threads), case) for threads in (1, 3)]
    assert (results[0] == results[1]).all()


def test_two_waits_are_one(case: Case) -> None:
    one, two = case.build((64,), seed=11), case.build((64,), seed=11)
    for array in (one, two):
        array.pulse(*case.set_pulse)
        array.pulse(*case.reset_pulse, np.arange(32))
    before = one.read(*case.read, 0.0)
    one.wait(64.0)
    two.wait(16.0)
    two.wait(48.0)
    after = one.read(*case.read, 0.0)
    assert (after != before).any()  # relaxation
    assert after == pytest.approx(two.read(*case.read, 0.0), rel=1e-12)
    assert np.median(np.abs(np.log(after / before))) < 0.3


def test_a_saved_state_goes_on_as_if_nothing_had_been(case: Case) -> None:
    array = case.build((4, 4), seed=12)
    exercise(array, case)
    saved = snapshot(array)
    expected = exercise(array, case)
    assert not same(saved, array.state())
    fresh = case.build((4, 4), seed=99)
    fresh.restore(saved)
    assert same(saved, fresh.state())
    assert (exercise(fresh, case) == expected).all()
    array.restore(saved)
    assert (exercise(array, case) == expected).all()


def test_another_state_is_refused_and_leaves_the_array(case: Case) -> None:
    array, other = case.build((4, 4), seed=13), case.build((4, 5), seed=13)
    before = snapshot(array)
    damaged = snapshot(array)
    key = next(key for key, value in damaged.items() if value.dtype.kind == "f" and value.size > 4)
    nan = damaged[key].copy()
    nan.flat[0] = np.nan
    foreign = next(c for c in CASES.values() if c.build is not case.build).build((4, 4), seed=13)
    for bad in (other.state(), {}, damaged | {key: nan}, foreign.state(), {k: damaged[k] for k in damaged if k != key}):
        with pytest.raises(UsageError):
            array.restore(bad)
        assert same(before, array.state())


def only(**effects: float) -> Effects:
    """Nothing but these effects."""
    return replace(Effects.none(), **effects)  # type: ignore[arg-type]


def cycle(array: DeviceModel, case: Case, effective: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln G after the RESET and after the SET of the last of some cycles."""
    for _ in range(effective):
        array.pulse(*case.reset_pulse)
        low = array.read(*case.read, 0.0)
        array.pulse(*case.set_pulse)
    return np.log(low / case.read[0]), np.log(array.read(*case.read, 0.0) / case.read[0])


def test_devices_differ_and_so_do_cycles(case: Case) -> None:
    array = case.build((40,), seed=21, effects=Effects.none())
    runs = [cycle(array, case) for _ in range(12)]
    for state in (0, 1):
        g = np.array([run[state] for run in runs])
        within, between = g.std(axis=0, ddof=1).mean(), g.mean(axis=0).std(ddof=1)
        assert 1e-4 < within < 1.5
        assert 0.01 < between < 1.5


def test_retention_follows_arrhenius(case: Case) -> None:
    """A month at 85 °C takes more of ln G than one at 27 °C, by E_a = 1.2 eV; 25 months take 5 times more (β = ½)."""
    month, lost = 30 * 86400.0, []
    for seconds, kelvin in ((month, 358.0), (month, 300.0), (25 * month, 300.0)):
        array = case.build((200,), seed=22, effects=only(retention=1.0))
        _, before = cycle(array, case)
        array.wait(seconds, kelvin)
        after = np.log(array.read(*case.read, 0.0) / case.read[0])
        lost.append(np.median(before - after))
    assert 0.05 < lost[0] < 1.0
    factor = np.exp(1.2 / 8.617e-5 * (1 / 300 - 1 / 358)) ** 0.5
    assert lost[0] / lost[1] == pytest.approx(factor, rel=0.25)
    assert lost[2] / lost[1] == pytest.approx(5.0, rel=0.1)


def test_random_telegraph_noise_is_larger_at_lower_current(case: Case) -> None:
    spreads = []
    for last in (0, 1):
        array = case.build((100,), seed=23, effects=only(rtn=1.0, rtn_traps=3))
        cycle(array, case)
        if last == 0:
            array.pulse(*case.reset_pulse)
        levels = []
        for _ in range(60):
            array.wait(7.0)
            levels.append(array.read(*case.read, 1e5))
        g = np.array(levels)
        spreads.append(np.median(g.std(axis=0) / g.mean(axis=0)))
    assert 0.002 < spreads[1] < 0.05
    assert spreads[0] > 1.5 * spreads[1]


def test_wear_closes_the_window(case: Case) -> None:
    worn = only(endurance_life=30.0, endurance_shape=2.0, endurance_spread=0.0)
    array = case.build((60,), seed=24, effects=worn)
    windows = []
    for cycles in (1, 29, 60):
        low, high = cycle(array, case, cycles)
        windows.append(np.median(high - low))
    assert windows[0] > 1.5 * windows[1] > 1.5 * 1.3 * windows[2]


NAN = float("nan")
BAD: list[Callable[[Any], object]] = [
    lambda a: a.pulse(NAN, 0.0, 3.0, 1e-6),
    lambda a: a.pulse(1.0, float("inf"), 3.0, 1e-6),
    lambda a: a.pulse(1.0, 0.0, 3.0, -1e-6),
    lambda a: a.pulse(1.0, 0.0, 3.0, NAN),
    lambda a: a.pulse([1.0, 2.0], 0.0, 3.0, 1e-6),
    lambda a: a.pulse([1.0] * 8 + [NAN], 0.0, 3.0, 1e-6),
    lambda a: a.pulse(1.0, 0.0, 3.0, 1e-6, np.array([9])),
    lambda a: a.pulse(1.0, 0.0, 3.0, 1e-6, np.array([-1])),
    lambda a: a.pulse(1.0, 0.0, 3.0, 1e-6, np.array([1, 1])),
    lambda a: a.pulse(1.0, 0.0, 3.0, 1e-6, np.array([0.5])),
    lambda a: a.pulse("high", 0.0, 3.0, 1e-6),
    lambda a: a.waveform([0.0, 1e-6, 0.5e-6], 1.0, 0.0, 3.0),
    lambda a: a.waveform([0.0, NAN], 1.0, 0.0, 3.0),
    lambda a: a.waveform([0.0, 1e-6], [1.0, 1.0, 1.0], 0.0, 3.0),
    lambda a: a.waveform([0.0, 1e-6], [1.0, NAN], 0.0, 3.0),
    lambda a: a.read(0.2, 0.0, 3.0, -1.0),
    lambda a: a.read(0.2, 0.0, NAN, 1e6),
    lambda a: a.read(0.2, 0.0, 3.0, 1e6, np.array([100])),
    lambda a: a.wait(-1.0),
    lambda a: a.wait(NAN),
    lambda a: a.wait(1.0, -5.0),
    lambda a: a.wait(1.0, NAN),
]


def test_bad_input_is_refused_and_leaves_the_array(case: Case) -> None:
    array = case.build((3, 3), seed=14)
    exercise(array, case)
    before = snapshot(array)
    for bad in BAD:
        with pytest.raises(UsageError):
            bad(array)
        assert same(before, array.state())


def test_impossible_arrays_are_refused(case: Case) -> None:
    for bad in ({"shape": (0, 4)}, {"shape": ()}, {"seed": -1}, {"temperature": NAN}, {"threads": -1}):
        with pytest.raises(UsageError):
            case.build(**{"shape": (2, 2), **bad})


def defects(kind: str) -> Defects:
    chosen: dict[str, Any] = {kind: 0.5, f"{kind}_cells": [7]}
    return Defects(**chosen)


@pytest.mark.parametrize("kind", ["stuck", "shorted", "never_forming", "open"])
def test_defective_cells_do_not_work(case: Case, kind: str) -> None:
    array = case.build((40,), seed=15, defects=defects(kind))
    array.pulse(*case.reset_pulse)
    low = np.maximum(array.read(*case.read, 0.0), 1e-15)
    array.pulse(*case.set_pulse)
    high = np.maximum(array.read(*case.read, 0.0), 1e-15)
    ratio = high / low
    assert ratio[7] == pytest.approx(1.0, abs=0.3)
    assert 8 <= np.count_nonzero(ratio < 1.3) <= 32
    assert np.count_nonzero(ratio > 2.0) >= 8
    r = case.read[0] / high[7]
    assert {"shorted": r < 2e3, "never_forming": r > 1e8, "open": r > 1e12}.get(kind, r < 1e7)


def test_a_pristine_array_must_be_formed(case: Case) -> None:
    array = case.build((100,), seed=16, formed=False)
    array.pulse(*case.reset_pulse)
    assert array.read(*case.read, 0.0).max() < 1e-8
    _, sl, wl, _ = case.set_pulse
    voltages = np.full(100, np.nan)
    for v in np.arange(1.5, 4.5, 0.1):
        array.pulse(float(v), sl, wl, 4e-5)
        now = array.read(*case.read, 0.0) > 0.2e-6
        voltages[now & np.isnan(voltages)] = v
    assert np.isfinite(voltages).all()
    assert 0.05 < np.std(voltages) < 0.5


@given(
    v=st.lists(st.floats(-4.5, 4.5), min_size=3, max_size=3),
    width=st.floats(0.0, 10.0),
    kelvin=st.floats(250.0, 400.0),
    name=st.sampled_from(list(CASES)),
)
@settings(max_examples=150, deadline=None)
def test_any_bias_gives_finite_currents_and_a_usable_array(
    v: list[float], width: float, kelvin: float, name: str
) -> None:
    case = CASES[name]
    array = case.build((3,), seed=17, temperature=kelvin)
    i = array.pulse(*v, width)
    assert np.isfinite(i).all()
    assert (i * (v[0] - v[1]) >= -1e-15).all()  # a passive cell takes energy
    again = array.read(*case.read, 1e6)
    assert np.isfinite(again).all()
    assert (array.read(*case.read, 0.0) >= 0.0).all()


def test_errors_are_ours(case: Case) -> None:
    with pytest.raises(LabctlError, match="cell 99"):
        case.build((3, 3), seed=1).pulse(1.0, 0.0, 3.0, 1e-6, np.array([99]))
