"""Fits of distributions against samples of known ones: parameters, coverage, and how often a true one is refused."""

import numpy as np
import pytest
from scipy import stats

from labctl.analysis.distributions import fit_lognormal, fit_weibull, weibull_plot
from labctl.errors import MeasurementError, UsageError

FITS = {"weibull": fit_weibull, "lognormal": fit_lognormal}


def sample(name: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """Scale 3, shape 8 (Weibull) or 0.5 (log-normal)."""
    if name == "weibull":
        return np.asarray(3.0 * rng.weibull(8.0, n))
    return np.asarray(3.0 * np.exp(0.5 * rng.normal(size=n)))


SHAPE = {"weibull": 8.0, "lognormal": 0.5}


@pytest.mark.parametrize("name", FITS)
def test_parameters_agree_with_truth_and_with_scipy(name: str) -> None:
    x = sample(name, np.random.default_rng(1), 3000)
    found = FITS[name](x, draws=0)
    assert found.scale.low < 3.0 < found.scale.high
    assert found.shape.low < SHAPE[name] < found.shape.high
    law = stats.weibull_min if name == "weibull" else stats.lognorm
    shape, _, scale = law.fit(x, floc=0)
    assert (found.shape.value, found.scale.value) == pytest.approx((shape, scale), rel=1e-3)
    assert found.log_likelihood == pytest.approx(law.logpdf(x, shape, 0, scale).sum(), rel=1e-5)
    assert found.quantile([0.1, 0.5]) == pytest.approx(law.ppf([0.1, 0.5], shape, 0, scale), rel=1e-3)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("cut", [np.inf, 3.1])
def test_intervals_cover_with_and_without_censoring(name: str, cut: float) -> None:
    rng = np.random.default_rng(2)
    inside = np.zeros(2)
    for _ in range(100):
        x = sample(name, rng, 40)
        found = FITS[name](np.minimum(x, cut), x > cut, draws=0)
        assert found.censored == int((x > cut).sum())
        inside += [
            found.scale.low < 3.0 < found.scale.high,
            found.shape.low < SHAPE[name] < found.shape.high,
        ]
    assert inside / 100 == pytest.approx(np.full(2, 0.95), abs=0.05)


@pytest.mark.parametrize("name", FITS)
def test_goodness_refuses_a_true_law_as_often_as_it_says_and_a_wrong_one_mostly(name: str) -> None:
    rng = np.random.default_rng(3)
    other = "lognormal" if name == "weibull" else "weibull"
    true = np.array([FITS[name](sample(name, rng, 60), draws=200).p for _ in range(60)])
    assert np.mean(true < 0.1) == pytest.approx(0.1, abs=0.1)
    assert np.mean(true) == pytest.approx(0.5, abs=0.12)
    wrong = np.array([FITS[name](sample(other, rng, 300), draws=200).p for _ in range(20)])
    assert np.mean(wrong < 0.05) > 0.9


def test_censored_values_keep_the_median_right_where_leaving_them_out_would_not() -> None:
    x = sample("weibull", np.random.default_rng(4), 4000)
    cut = x > 2.9
    honest = fit_weibull(np.minimum(x, 2.9), cut)
    assert honest.scale.value == pytest.approx(3.0, rel=0.01)
    assert np.isnan(honest.p)
    assert fit_weibull(x[~cut], draws=0).scale.high < 2.9


def test_a_weibull_sample_lies_on_a_line_of_its_shape() -> None:
    rank = (np.arange(1, 51) - 0.3) / 50.4
    x, y = weibull_plot(stats.weibull_min.ppf(rank, 8.0, scale=3.0))
    assert np.polyfit(x, y, 1) == pytest.approx([8.0, -8 * np.log(3.0)], rel=1e-9)


def test_input_that_determines_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="must be > 0"):
        fit_weibull([1.0, -1.0, 2.0])
    with pytest.raises(MeasurementError, match="2 of 3 values were reached"):
        fit_weibull([1.0, 2.0, 3.0], [False, False, True])
    with pytest.raises(MeasurementError, match="not all equal"):
        fit_lognormal([2.0, 2.0, 2.0, 2.0])
    with pytest.raises(UsageError, match="True or False"):
        fit_weibull([1.0, 2.0, 3.0], [0, 0, 1])
