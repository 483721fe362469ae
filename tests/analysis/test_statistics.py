"""Statistics against distributions whose parameters are known, and intervals against how often they cover them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from labctl.analysis.estimate import Estimate, proportion
from labctl.analysis.statistics import autocorrelation, bootstrap, cdf, correlation, quantiles, spread
from labctl.errors import UsageError
from labctl.models.generative import generate_cycles
from labctl.models.generative_params import load
from tests.models.generative_common import PUBLISHED


def coverage(experiment: Callable[[np.random.Generator], Estimate], truth: float, times: int = 400) -> float:
    """Part of the intervals that hold `truth`."""
    rng = np.random.default_rng(5)
    found = [experiment(rng) for _ in range(times)]
    return float(np.mean([x.low <= truth <= x.high for x in found]))


def cells_of(
    rng: np.random.Generator, cells: int, cycles: int, d2d: float, c2c: float
) -> tuple[np.ndarray, np.ndarray]:
    own = rng.normal(10.0, d2d, cells)
    return (own[:, None] + rng.normal(0, c2c, (cells, cycles))).ravel(), np.repeat(np.arange(cells), cycles)


def test_quantiles_of_normal_values_and_their_coverage() -> None:
    x = np.random.default_rng(1).normal(0, 1, 20_000)
    found = quantiles(np.append(x, np.nan), [0.1, 0.5, 0.9])
    assert found.value == pytest.approx(norm.ppf([0.1, 0.5, 0.9]), abs=0.04)
    for p, n in ((0.5, 15), (0.9, 40), (0.2, 200)):

        def once(rng: np.random.Generator, p: float = p, n: int = n) -> Estimate:
            return Estimate(*(float(part[0]) for part in quantiles(rng.normal(0, 1, n), [p])))

        assert 0.945 - 0.03 <= coverage(once, float(norm.ppf(p))) <= 1.0


def test_an_end_that_the_values_cannot_bound_is_infinite() -> None:
    found = quantiles(np.arange(10.0), [0.5, 0.99])
    assert np.isfinite([found.low[0], found.high[0]]).all()
    assert found.high[1] == np.inf


def test_cdf_uses_median_ranks() -> None:
    drawn = cdf([3.0, 1.0, np.nan, 2.0])
    assert drawn.x.tolist() == [1, 2, 3]
    assert drawn.p == pytest.approx([0.7 / 3.4, 0.5, 2.7 / 3.4])


@pytest.mark.parametrize(("d2d", "c2c"), [(0.5, 1.0), (1.0, 0.3), (0.0, 1.0)])
def test_variance_is_split_into_cycles_and_devices(d2d: float, c2c: float) -> None:
    x, cell = cells_of(np.random.default_rng(2), 2000, 20, d2d, c2c)
    found = spread(x, cell)
    assert found.c2c.value == pytest.approx(c2c, rel=0.02)
    assert found.d2d.value == pytest.approx(d2d, abs=0.05)
    assert found.share.value == pytest.approx(d2d**2 / (d2d**2 + c2c**2), abs=0.02)
    assert (found.cells, found.values) == (2000, 40_000)


def test_the_intervals_of_the_split_cover() -> None:
    d2d, c2c, share = 0.8, 0.5, 0.64 / 0.89
    for name, truth in (("c2c", c2c), ("d2d", d2d), ("share", share), ("mean", 10.0)):

        def once(rng: np.random.Generator, name: str = name) -> Estimate:
            found: Estimate = getattr(spread(*cells_of(rng, 12, 8, d2d, c2c)), name)
            return found

        assert coverage(once, truth) == pytest.approx(0.95, abs=0.03)  # 400 times: ± 0.022 at 2 σ


def test_unequal_numbers_of_cycles_and_labels_of_two_columns() -> None:
    rng = np.random.default_rng(3)
    count = rng.integers(2, 40, 3000)
    cell = np.repeat(np.arange(3000), count)
    x = rng.normal(0, 0.7, 3000)[cell] + rng.normal(0, 0.4, len(cell))
    labels = np.stack([cell // 60, cell % 60], axis=1)
    found = spread(x, labels)
    assert found.d2d.value == pytest.approx(0.7, rel=0.04)
    assert found.c2c.value == pytest.approx(0.4, rel=0.02)


def test_what_the_data_cannot_tell_is_nan() -> None:
    one = spread([1.0, 2.0, 3.0], [0, 0, 0])
    assert one.c2c.value == pytest.approx(1.0)
    assert np.isnan([one.d2d.value, one.share.value, one.mean.low]).all()
    single = spread([1.0, 2.0, 4.0], [0, 1, 2])
    assert np.isnan([single.c2c.value, single.share.value]).all()
    assert single.mean.low < 7 / 3 < single.mean.high
    with pytest.raises(UsageError, match="nothing but nan"):
        spread([np.nan], [0])


def test_bootstrap_draws_whole_cells() -> None:
    # values of a cell all equal: 30 cells are 30 values, however often each was read
    rng = np.random.default_rng(4)
    own = rng.normal(0, 1, 30)
    x, cell = np.repeat(own, 100), np.repeat(np.arange(30), 100)
    found = bootstrap(x, cell, np.mean)
    assert found.high - found.low == pytest.approx(2 * 1.96 * own.std() / 30**0.5, rel=0.1)
    alone = bootstrap(x, np.zeros(3000, int))
    assert np.isnan(alone.low)


def test_the_bootstrap_of_a_median_covers() -> None:
    def once(rng: np.random.Generator) -> Estimate:
        return bootstrap(*cells_of(rng, 40, 5, 1.0, 1.0), draws=300)

    assert coverage(once, 10.0, 200) == pytest.approx(0.94, abs=0.04)


def test_correlations_within_and_between_cells_may_have_opposite_signs() -> None:
    rng = np.random.default_rng(6)
    cell = np.repeat(np.arange(400), 25)
    own = rng.normal(0, 2, 400)[cell]
    a, b = rng.normal(0, 1, (2, len(cell)))
    found = correlation(own + a, -own + 0.6 * a + 0.8 * b, cell)
    assert found.within.low < 0.6 < found.within.high
    assert found.within.high - found.within.low < 0.05
    assert found.between.value == pytest.approx(-0.98, abs=0.02)


def test_a_correlation_covers_and_is_nan_where_there_is_none() -> None:
    def once(rng: np.random.Generator) -> Estimate:
        a, b = rng.normal(0, 1, (2, 30))
        return correlation(a, 0.5 * a + 0.75**0.5 * b).within

    assert coverage(once, 0.5) == pytest.approx(0.95, abs=0.03)
    assert np.isnan(correlation([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]).within.value)
    assert np.isnan(correlation([1.0, 2.0, 3.0], [1.0, 2.0, 2.0]).within.value)


def ar1(rng: np.random.Generator, cells: int, cycles: int, r: float) -> np.ndarray:
    x = np.empty((cells, cycles))
    x[:, 0] = rng.normal(0, 1, cells)
    for k in range(1, cycles):
        x[:, k] = r * x[:, k - 1] + (1 - r * r) ** 0.5 * rng.normal(0, 1, cells)
    return x


def test_the_memory_of_an_autoregression_decays_as_its_power() -> None:
    x = ar1(np.random.default_rng(7), 100, 4000, 0.6)
    found = autocorrelation(x, 5)
    assert found.r == pytest.approx(0.6 ** np.arange(1, 6), abs=0.01)
    x[:, ::7] = np.nan
    assert autocorrelation(x, 5).r == pytest.approx(0.6 ** np.arange(1, 6), abs=0.01)


def test_independent_cycles_have_none_and_the_interval_says_so() -> None:
    def lag1(rng: np.random.Generator) -> Estimate:
        found = autocorrelation(rng.normal(0, 1, 200), 3)
        return Estimate(*(float(part[2]) for part in found[1:]))

    assert coverage(lag1, 0.0) == pytest.approx(0.95, abs=0.03)
    short = autocorrelation([1.0, 2.0, 4.0], 5)
    assert np.isnan(short.r[2:]).all()


def test_the_generative_model_shows_its_published_statistics() -> None:
    """Means and D2D shares of Hennen et al.'s training array, and the lag-1 memory of its LRS."""
    features = generate_cycles(load(PUBLISHED), 512, 300, seed=1)
    log_hrs, lrs = np.log10(features[..., 0]), features[..., 2]
    cell = np.repeat(np.arange(512), 300)
    assert spread(log_hrs.ravel(), cell).share.value == pytest.approx(0.12, abs=0.05)
    assert spread(lrs.ravel(), cell).share.value == pytest.approx(0.49, abs=0.12)
    # 300 cycles bias the lag-1 value by about −(1 + Σr)/300 ≈ −0.04
    assert autocorrelation(lrs, 1).r[0] == pytest.approx(0.494 - 0.04, abs=0.05)


def test_proportions_are_exact_at_the_ends() -> None:
    found = proportion([0, 5, 10, 0], [10, 10, 10, 0])
    assert found.low[0] == 0.0
    assert found.high[0] == pytest.approx(1 - 0.025**0.1)
    assert found.high[2] == 1.0
    assert found.low[1] == pytest.approx(0.1871, abs=1e-4)  # Clopper and Pearson's table
    assert np.isnan(found.value[3])
