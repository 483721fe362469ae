"""Converters: codes, half-step errors, flagged saturation, and a product through both with its stated bound."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import UsageError
from labctl.models.converters import Converter, MixedSignalProduct
from labctl.models.crossbar import Crossbar


@given(bits=st.integers(1, 24), x=st.floats(-1, 1), bipolar=st.booleans())
def test_a_sample_within_range_is_half_a_step_off_at_most_and_the_rest_is_flagged(
    bits: int, x: float, bipolar: bool
) -> None:
    adc = Converter(bits, 0.7, bipolar)
    got = adc.sample([x])
    low, high = adc.limits
    inside = (low - 0.5) * adc.step <= x <= (high + 0.5) * adc.step
    assert low <= got.codes[0] <= high
    if abs(abs(x / adc.step) % 1 - 0.5) > 1e-9:
        assert got.saturated[0] != inside
    if not got.saturated[0]:
        assert abs(got.values[0] - x) <= adc.step / 2 * (1 + 1e-9)
    assert len(range(low, high + 1)) == 2**bits


def test_three_bits_by_hand() -> None:
    adc = Converter(3, 4.0)  # step 1, codes -4 … 3
    got = adc.sample([-5, -4.4, -4, -0.4, 0, 0.4, 0.6, 3.4, 3.6, math.inf])
    np.testing.assert_array_equal(got.codes, [-4, -4, -4, 0, 0, 0, 1, 3, 3, 3])
    np.testing.assert_array_equal(got.saturated, [True, False, False, False, False, False, False, False, True, True])
    single = Converter(2, 3.0, bipolar=False).sample([-0.4, 0.6, 3.0, 3.6])
    np.testing.assert_array_equal(single.codes, [0, 1, 3, 3])
    np.testing.assert_array_equal(single.saturated, [False, False, False, True])


def test_a_busy_signal_has_the_noise_of_bennett() -> None:
    adc = Converter(8, 1.0)
    x = np.random.default_rng(0).uniform(-0.9, 0.9, 200_000)
    error = adc.sample(x).values - x
    assert abs(error.var() / (adc.step**2 / 12) - 1) < 0.02
    assert abs(error.mean()) < 0.01 * adc.step


def test_offset_and_gain_error_move_the_codes() -> None:
    real = Converter(10, 1.0, offset=0.01, gain_error=0.05)
    got = real.sample([0.0, 0.5]).values
    np.testing.assert_allclose(got, [0.01, 0.535], atol=real.step / 2)
    np.testing.assert_allclose(real.drive([0.0, 0.5]), [0.01, 0.535], atol=real.step)


def test_a_dac_refuses_what_it_cannot_put_out() -> None:
    dac = Converter(8, 0.5)
    np.testing.assert_array_equal(dac.drive([0.0, 0.25, -0.5]), [0.0, 0.25, -0.5])
    with pytest.raises(UsageError, match=r"0\.6 is outside the converter's -0\.5 … 0\.49609"):
        dac.drive([0.1, 0.6])
    with pytest.raises(UsageError, match="nan"):
        dac.drive([math.nan])


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_through_both_converters_keeps_its_bound(bits: int, dtype: Any) -> None:
    rng = np.random.default_rng(bits)
    array = Crossbar(10 ** rng.uniform(-6, -4, (48, 20)))
    v = rng.uniform(-0.19, 0.17, (50, 48))
    exact = array.product(v, method="direct")
    product = MixedSignalProduct(array.compile(dtype), Converter(bits, 0.2), Converter(bits, 2 * np.abs(exact).max()))
    got = product(v)
    error = np.abs(got.values - exact)
    assert not got.saturated.any()
    assert (error <= product.bound).all()
    assert error.max() > 0.02 * product.bound.max()  # and the bound is not empty talk
    small = MixedSignalProduct(product.array, product.dac, Converter(bits, 0.3 * np.abs(exact).max()))(v)
    np.testing.assert_array_equal(small.saturated.any(), True)


@pytest.mark.parametrize(
    "arguments",
    [(0, 1.0), (25, 1.0), (8, 0.0), (8, -1.0), (8, math.nan), (8, 1.0, True, math.nan), (8, 1.0, True, 0.0, -1.0)],
)
def test_a_converter_that_cannot_be_is_refused(arguments: Any) -> None:
    with pytest.raises(UsageError):
        Converter(*arguments)


def test_nan_is_not_sampled() -> None:
    with pytest.raises(UsageError, match="nan"):
        Converter(8, 1.0).sample([0.0, math.nan])
