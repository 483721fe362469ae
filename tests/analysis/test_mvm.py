"""The error budget of products against a crossbar whose causes are known one by one."""

import numpy as np
import pytest

from labctl.analysis.mvm import calibrate, product_bits, repeat_noise, stages
from labctl.errors import UsageError
from labctl.models.converters import Converter
from labctl.models.crossbar import Crossbar, Wires
from labctl.weights import LevelTable, WeightMap

RNG = np.random.default_rng(0)
W = RNG.uniform(-1, 1, (64, 64))
X = RNG.uniform(0, 1, (200, 64))
MAP = WeightMap(LevelTable.uniform(2e-6, 100e-6, 33))


def test_bits_of_a_product_that_is_rounded_to_so_many() -> None:
    y = np.random.default_rng(1).uniform(-1, 1, (400, 64))
    step = 2 / 2**8
    assert product_bits(np.floor(y / step) * step + step / 2, y, 2.0) == pytest.approx(8.0, abs=0.01)


def test_causes_of_a_simulated_crossbar_add_up_in_quadrature() -> None:
    rng = np.random.default_rng(2)
    g = MAP.encode(W).g
    v = 0.2

    def product(g: np.ndarray) -> np.ndarray:
        return np.asarray(X @ (g[..., 0] - g[..., 1]) / MAP.slope)

    levels = product(g)
    programmed = product(g + rng.normal(0, 1e-6, g.shape))
    sigma = 2e-7  # A, of a column current
    noisy = programmed + rng.normal(0, sigma, (2, *programmed.shape)).sum(0) / v / MAP.slope
    adc = Converter(8, 64 * 100e-6 * v / 5)
    read = adc.sample(noisy * v * MAP.slope)
    assert not read.saturated.any()
    final = read.values / v / MAP.slope
    budget = stages(X @ W, {"levels": levels, "programming": programmed, "read noise": noisy, "ADC": final})
    square = float(np.mean((X**2).sum(1)))
    expected = [
        (square / 12) ** 0.5 / 32,  # a weight is rounded to 1/32
        (2 * square) ** 0.5 * 1e-6 / MAP.slope,
        2**0.5 * sigma / v / MAP.slope,
        adc.step / 12**0.5 / v / MAP.slope,
    ]
    assert budget.rms == pytest.approx(expected, rel=0.1)
    assert abs(budget.common) < 0.15
    assert budget.total == pytest.approx(np.sqrt(np.sum(np.square(expected))), rel=0.1)
    assert budget.total_bits == pytest.approx(product_bits(final, X @ W))
    assert "programming" in str(budget)


def test_line_resistance_is_found_and_mostly_calibrated_away() -> None:
    g = MAP.encode(W).g[..., 0]
    ideal = 0.2 * X @ g
    dropped = Crossbar(g, Wires(r_row=2.0, r_column=2.0)).product(0.2 * X)
    budget = stages(ideal, {"levels": ideal, "lines": dropped})
    assert budget.rms[0] == 0.0
    assert budget.bits[0] == np.inf
    assert budget.rms[1] == pytest.approx(budget.total)
    better = calibrate(dropped, ideal)
    assert (better.gain < 0.95).all()
    assert product_bits(better.y, ideal) > product_bits(dropped, ideal) + 2


def test_repeats_give_the_noise_alone() -> None:
    y = np.random.default_rng(3).normal(0, 1, (1, 50, 64)) + np.random.default_rng(4).normal(0, 0.1, (20, 50, 64))
    assert repeat_noise(y) == pytest.approx(0.1, rel=0.02)


def test_bad_input_is_refused() -> None:
    y = np.arange(12.0).reshape(4, 3)
    with pytest.raises(UsageError, match="shape"):
        product_bits(y, y[:2])
    with pytest.raises(UsageError, match="full_scale"):
        product_bits(y, np.ones((4, 3)))
    with pytest.raises(UsageError, match="saturated"):
        product_bits(np.full((2, 2), np.nan), np.ones((2, 2)))
