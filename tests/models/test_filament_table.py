"""The pulse table against the exact path, with the error that it states."""

import numpy as np
import pytest

from labctl.errors import UsageError
from labctl.models.effects import Defects, Effects
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.filament_table import FastPulses

QUIET = Effects(rtn=0.0, read_noise=0.0)
SET, RESET = (3.0, 0.0, 3.3, 1e-6), (0.0, 2.4, 3.5, 2e-6)


def pair(n: int, **given: object) -> tuple[FilamentArray, FilamentArray, FastPulses]:
    exact, fast = (FilamentArray((n,), seed=3, effects=QUIET, **given) for _ in range(2))  # type: ignore[arg-type]
    return exact, fast, FastPulses(fast)


@pytest.mark.parametrize(
    "bias",
    [
        (2.0, 0.0, 2.3, 1e-7),
        (2.0, 0.0, 2.5, 1e-7),
        (2.0, 0.0, 3.0, 1e-6),
        SET,
        (2.0, 0.0, 1.8, 1e-4),
        (0.2, 0.0, 3.5, 1e-3),
        (0.0, 0.95, 3.5, 2e-7),
        (0.0, 1.55, 3.5, 2e-7),
        (0.0, 2.4, 3.5, 1e-6),
        (0.0, 3.0, 4.0, 1e-5),
    ],
)
def test_one_pulse_agrees_with_the_exact_path(bias: tuple[float, float, float, float]) -> None:
    exact, fast, table = pair(4000)
    for array in (exact, fast):
        array.pulse(*RESET)
        if bias[1] > bias[0]:
            array.pulse(*SET)
    a, b = exact.pulse(*bias), table.pulse(*bias)
    error = (fast.gap - exact.gap) / exact.params.g_0  # in ln R
    assert np.sqrt(np.mean(error**2)) < 0.002
    assert np.percentile(np.abs(error), 99) < 0.01
    assert np.abs(error).max() < 0.06
    assert np.sqrt(np.mean(np.log(b / a) ** 2)) < 0.004
    assert np.sign(b[0]) == np.sign(bias[0] - bias[1])


def test_many_pulses_leave_the_same_state_and_draws() -> None:
    exact, fast, table = pair(1000)
    for _ in range(5):
        for bias in (RESET, SET):
            exact.pulse(*bias)
            table.pulse(*bias)
            exact.wait(1.0)
            fast.wait(1.0)
    a, b = exact.state(), fast.state()
    alike = (a["n"] == b["n"]).all(axis=0)  # a movement at the threshold of an event may count on one side only
    assert alike.mean() > 0.9
    r = np.log(exact.read(0.2, 0.0, 3.5, 0.0) / fast.read(0.2, 0.0, 3.5, 0.0))
    assert np.percentile(np.abs(r[alike]), 99) < 0.01


def test_defective_and_pristine_cells_take_the_exact_path() -> None:
    defects = Defects(stuck_cells=[0], shorted_cells=[1], open_cells=[2], never_forming_cells=[3])
    exact, fast, table = pair(6, defects=defects)
    assert table.pulse(*SET)[:4] == pytest.approx(exact.pulse(*SET)[:4], rel=1e-12)
    exact, fast, table = pair(50, formed=False)
    assert table.pulse(3.3, 0.0, 2.0, 4e-5) == pytest.approx(exact.pulse(3.3, 0.0, 2.0, 4e-5), rel=1e-12)
    assert (exact.state()["n"] == fast.state()["n"]).all()


def test_threads_and_subsets_change_nothing() -> None:
    one = FilamentArray((96, 96), seed=4, threads=1)
    many = FilamentArray((96, 96), seed=4, threads=3)
    half = np.arange(0, 96 * 96, 2)
    currents = [FastPulses(array).pulse(*RESET) for array in (one, many)]
    assert (currents[0] == currents[1]).all()
    FastPulses(one).pulse(*SET, half)
    FastPulses(many).pulse(*SET, half[::-1].copy())
    assert (one.gap == many.gap).all()


def test_bad_input_is_refused() -> None:
    _, fast, table = pair(4)
    before = fast.state()
    for bad in (
        (float("nan"), 0.0, 3.0, 1e-6),
        (1.0, 0.0, 3.0, -1e-6),
        ([1.0, 2.0, 1.0, 1.0], 0.0, 3.0, 1e-6),
        (1.0, 0.0, 3.0, 1e-6, np.array([7])),
    ):
        with pytest.raises(UsageError):
            table.pulse(*bad)
    assert all(np.array_equal(before[key], value) for key, value in fast.state().items())


def test_ideal_cells_agree_closely() -> None:
    exact, fast, table = pair(1, params=FilamentParams().ideal())
    for bias in (RESET, (2.0, 0.0, 2.4, 1e-7), (0.0, 1.25, 3.5, 2e-7)):
        exact.pulse(*bias)
        table.pulse(*bias)
        assert fast.gap == pytest.approx(exact.gap, abs=0.002 * exact.params.g_0)
