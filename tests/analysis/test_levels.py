"""Levels against channels whose errors and bits are known in closed form."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from labctl.analysis.levels import confusion, effective_bits, level_spread, overlap, states
from labctl.errors import UsageError

TARGETS = np.linspace(10e-6, 40e-6, 4)


def readings(sigma: float, each: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Normal readings at the middles of equal probabilities: a sample without scatter."""
    number = np.repeat(np.arange(4), each)
    return number, TARGETS[number] + sigma * np.tile(norm.ppf((np.arange(each) + 0.5) / each), 4)


def test_each_level_has_its_mean_its_spread_and_its_lost_readings() -> None:
    number, g = readings(1e-6)
    g[number == 2] += 0.5e-6
    g[10_000:10_010] = np.nan
    table = level_spread(number, g, TARGETS)
    assert table.lost.tolist() == [10, 0, 0, 0]
    assert table.n.tolist() == [19_990, 20_000, 20_000, 20_000]
    assert table.sigma == pytest.approx(np.full(4, 1e-6), rel=1e-3)
    assert table.error == pytest.approx([0, 0, 0.5e-6, 0], abs=1e-9)


def test_an_empty_level_is_nan_and_one_reading_has_no_spread() -> None:
    table = level_spread([0, 0, 1], [1.0, 2.0, 3.0], [1.0, 3.0, 5.0])
    assert table.sigma[0] == pytest.approx(np.sqrt(0.5))
    assert np.isnan([table.sigma[1], table.sigma[2], table.mean[2]]).all()
    assert np.isnan(confusion([0, 0, 1], [1.0, 2.0, 3.0], [1.0, 3.0, 5.0]).bits)


def test_misreads_of_gaussian_levels_are_those_of_the_tail() -> None:
    sigma = 4e-6  # neighbours 10 µS apart: half-way is 1.25 σ
    tail = norm.sf(1.25)
    found = confusion(*readings(sigma), TARGETS)
    assert found.misread.value == pytest.approx([tail, 2 * tail, 2 * tail, tail], rel=1e-3)
    assert found.misread_all.low < 1.5 * tail < found.misread_all.high
    # nearly all errors are to a neighbour: one bit of two with Gray, and 1 → 2, 2 → 1 cost two bits in binary
    assert found.bit_error_rate() == pytest.approx(1.5 * tail / 2, rel=5e-3)
    assert found.bit_error_rate(gray=False) == pytest.approx((1.5 + 0.5) * tail / 2, rel=5e-3)


def test_neighbours_cross_with_the_probability_of_a_gaussian_difference() -> None:
    found = overlap(*readings(4e-6), TARGETS)
    assert found.sigmas == pytest.approx(np.full(3, 10 / 8), rel=1e-3)
    assert found.crossed == pytest.approx(np.full(3, norm.sf(10 / (4 * np.sqrt(2)))), rel=1e-3)
    assert overlap([0, 0, 1, 1], [1.0, 2.0, 2.0, 3.0], [1.0, 3.0]).crossed[0] == pytest.approx(1 / 8)  # one tie of four


def test_bands_leave_out_what_lies_between_them_and_lost_readings() -> None:
    found = confusion([0, 0, 0, 1, 1], [1.0, 1.3, 1.6, 2.2, np.nan], [1.0, 2.0], band=0.3)
    assert found.counts.tolist() == [[2, 0, 1], [0, 1, 1]]
    unequal = confusion([0, 1], [2.4, 2.6], [1.0, 3.0], band=[1.5, 0.5])  # 2.4 is nearer to 3, in the band of 1
    assert unequal.counts.tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(UsageError, match="bands of levels 0 and 1 overlap"):
        confusion([0], [1.0], [1.0, 2.0], band=0.6)


def test_bits_of_known_channels() -> None:
    perfect = confusion(np.arange(16).repeat(100), np.arange(16.0).repeat(100), np.arange(16.0))
    assert perfect.bits == pytest.approx(4.0)
    assert perfect.bit_error_rate() == 0.0
    assert perfect.capacity() == pytest.approx(4.0, abs=1e-5)
    # a binary symmetric channel of error 0.1 carries 1 − H(0.1)
    number = np.array([0] * 10_000 + [1] * 10_000)
    g = number.astype(float)
    g[:1000], g[-1000:] = 1.0, 0.0
    h = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert confusion(number, g, [0.0, 1.0]).bits == pytest.approx(1 - h, abs=1e-4)
    # a Z channel of error 0.5: capacity log2(1.25) at p = 2/5, more than equal use gives
    g = np.where((number == 1) & (np.arange(20_000) % 2 == 0), 0.0, number)
    z = confusion(number, g, [0.0, 1.0])
    assert z.capacity() == pytest.approx(np.log2(1.25), abs=1e-5)
    assert z.bits < z.capacity()


def test_readings_that_tell_nothing_hold_no_bits_however_few_they_are() -> None:
    rng = np.random.default_rng(3)
    found = [confusion(rng.integers(0, 4, 200), rng.choice(TARGETS, 200), TARGETS).bits for _ in range(200)]
    # the plain count would say 9/(2·200·ln 2) = 0.032 bit of nothing; correction leaves what max(0, ·) makes of scatter
    assert np.mean(found) < 0.012


def test_effective_bits_of_an_ideal_quantiser_are_its_bits() -> None:
    x = np.random.default_rng(0).uniform(0, 1, 200_000)
    step = 2.0**-6
    assert effective_bits(np.floor(x / step) * step + step / 2 - x, 1.0) == pytest.approx(6.0, abs=0.01)
    assert effective_bits([0.0], 1.0) == float("inf")
    assert effective_bits([1.0, -1.0], 1.0) < 0


def test_states_of_constant_spread_are_counted_by_division() -> None:
    found = states([0.0, 36.0], [1.0, 1.0], k=3)
    assert len(found) == 7
    assert np.diff(found) == pytest.approx(np.full(6, 6.0))
    assert len(states([0.0, 35.9], [1.0, 1.0], k=3)) == 6
    assert len(states([0.0, 1.0], [5.0, 5.0])) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.2, 3.0), min_size=2, max_size=8), st.floats(0.5, 4.0))
def test_no_choice_of_states_is_larger(sigma: list[float], k: float) -> None:
    x = np.arange(len(sigma), dtype=float) * 2
    found = states(x, sigma, k)
    half = k * np.asarray(sigma)
    spread = np.interp(found, x, half)
    assert np.all((found + spread)[:-1] <= (found - spread)[1:] + 1e-6)
    for choice in itertools.combinations(range(len(x)), len(found) + 1):
        at = np.array(choice)
        assert np.any((x + half)[at][:-1] > (x - half)[at][1:])


@pytest.mark.parametrize(
    ("number", "g", "targets", "message"),
    [
        ([0, 4], [1.0, 2.0], [1.0, 2.0], "there are 0 … 1"),
        ([0.0], [1.0], [1.0, 2.0], "level of each"),
        ([0], [1.0, 2.0], [1.0, 2.0], "level of each"),
        ([0], [1.0], [2.0, 1.0], "rise"),
        ([0], [np.inf], [1.0, 2.0], "finite"),
    ],
)
def test_input_that_does_not_fit_is_refused(
    number: list[int], g: list[float], targets: list[float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        confusion(number, g, targets)


def test_three_levels_have_no_bit_error_rate() -> None:
    with pytest.raises(UsageError, match="whole bits"):
        confusion([0], [1.0], [1.0, 2.0, 3.0]).bit_error_rate()
