"""Fitting the generative model: from parameters that the fitter does not know, and back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.analysis.loops import reset_transitions, state_curves
from labctl.errors import UsageError
from labctl.models.fit import LAGS, autocorrelation, goodness
from labctl.models.fit_curves import fit_curves
from labctl.models.fit_generative import GenerativeFit, fit_generative
from labctl.models.fit_mixture import deconvolve
from labctl.models.generative import Generative, generate_cycles
from labctl.models.generative_params import GenerativeParams, load

from .generative_common import PUBLISHED
from .test_fit_loops import loops

PARAMS = load(PUBLISHED)


def unknown(order: int, seed: int) -> GenerativeParams:
    """Another chip: other devices, other maps, another memory; of the size of the published ones."""
    rng = np.random.default_rng(seed)
    base = load(PUBLISHED, order)
    innovation = np.tril(base.innovation * rng.uniform(0.8, 1.2, (4, 4)))
    lags = base.lags * rng.uniform(0.6, 1.1, (order, 4, 4))
    gamma = base.gamma * rng.uniform(0.9, 1.1, (4, 5))
    means = base.means * rng.uniform(0.97, 1.03, (3, 8))
    means[:, :4] = base.means[:, :4] + (base.means[:, :4] - base.means[:1, :4]) * rng.uniform(0, 1, (3, 4))
    spreads = base.spreads * rng.uniform(0.8, 1.2, (3, 8, 8))
    weights = np.array([0.5, 0.4, 0.1])
    return replace(base, innovation=innovation, lags=lags, gamma=gamma, means=means, spreads=spreads, weights=weights)


@pytest.fixture(scope="module")
def chip() -> GenerativeParams:
    return unknown(10, 1)


@pytest.fixture(scope="module")
def recorded(chip: GenerativeParams) -> np.ndarray:
    """512 devices × 2,000 cycles."""
    return generate_cycles(chip, 512, 2000, seed=77)


@pytest.fixture(scope="module")
def fit(recorded: np.ndarray) -> GenerativeFit:
    return fit_generative(recorded, v_read=-0.2, like=PARAMS)


def test_round_trip(recorded: np.ndarray, fit: GenerativeFit) -> None:
    """1–99 % quantiles within 2 % (R_HRS in Ω), autocorrelations at lags 1 … 10 and correlations within 0.02."""
    again = generate_cycles(fit.params, 2000, 2000, seed=5)
    for f in range(4):
        p = np.linspace(0.01, 0.99, 99)
        assert np.quantile(again[..., f], p) == pytest.approx(np.quantile(recorded[..., f], p), rel=0.02)
    y = [np.concatenate([np.log10(a[..., :1]), a[..., 1:]], axis=2) for a in (recorded, again)]
    lags = np.arange(1, 11)
    found, wanted = (autocorrelation(a, lags).mean(axis=0) for a in y)
    assert found == pytest.approx(wanted, abs=0.02)
    worst = fit.goodness.worst()
    assert worst["quantiles"] < 0.02
    assert worst["acf"] < 0.02
    assert worst["within"] < 0.02
    assert worst["devices"] < 0.15  # of 512 devices: standard error up to 0.04


def test_round_trip_finds_the_parameters(chip: GenerativeParams, fit: GenerativeFit) -> None:
    """Latent autocovariances within 0.03, maps within 0.05 over ±2, device covariance within 20 %."""
    truth, found = chip.autocovariance(10), fit.params.autocovariance(10)
    scale = 1 / np.sqrt(np.diag(truth[0]))
    assert found == pytest.approx(truth * scale[:, None] * scale, abs=0.03)
    x = np.linspace(-2, 2, 41)
    for f in range(4):
        g = np.polyval(chip.gamma[f], x / scale[f])
        weight = np.exp(-(x**2) / 2)
        mean = (g * weight).sum() / weight.sum()
        sd = np.sqrt(((g - mean) ** 2 * weight).sum() / weight.sum())
        h = np.polyval(fit.params.gamma[f], x)
        assert h / np.sqrt(
            ((h - (h * weight).sum() / weight.sum()) ** 2 * weight).sum() / weight.sum()
        ) == pytest.approx((g - mean) / sd, abs=0.08)
    whole = []
    for p in (chip, fit.params):
        w = p.weights / p.weights.sum()
        mean = w @ p.means
        off = p.means - mean
        whole.append(np.einsum("k,kij->ij", w, p.spreads @ p.spreads.swapaxes(1, 2)) + (w * off.T) @ off)
    assert np.sqrt(np.diag(whole[1]))[[0, 1, 2, 3]] == pytest.approx(np.sqrt(np.diag(whole[0]))[[0, 1, 2, 3]], rel=0.2)


def test_report(fit: GenerativeFit, recorded: np.ndarray) -> None:
    text = str(fit.goodness)
    assert "r_hrs" in text
    assert "largest deviations" in text
    q = fit.goodness.quantiles
    assert ((q.low <= q.recorded) & (q.recorded <= q.high)).all()
    assert q.inside().mean() > 0.9
    assert set(fit.goodness.to_dict()) == {"quantiles", "acf", "within", "devices"}
    assert "512 devices × 2000 cycles" in fit.params.provenance


def test_interval_covers_the_truth() -> None:
    """95 % intervals of 30 chips of 60 devices hold the value of the whole population 95 % of the time."""
    chip = load(PUBLISHED, 1)
    population = generate_cycles(chip, 4000, 150, seed=1)
    inside: dict[str, list[NDArray[np.bool_]]] = {"quantiles": [], "acf": [], "within": []}
    for seed in range(30):
        g = goodness(generate_cycles(chip, 60, 150, seed=100 + seed), population)
        for name, part in inside.items():
            part.append(getattr(g, name).inside())
    assert np.mean(inside["quantiles"]) == pytest.approx(0.95, abs=0.04)
    assert np.mean(inside["acf"]) == pytest.approx(0.95, abs=0.04)
    assert np.nanmean(np.array(inside["within"])[:, ~np.eye(4, dtype=bool)]) == pytest.approx(0.95, abs=0.04)


def test_file_of_a_fit_makes_the_same_chip(fit: GenerativeFit, tmp_path: Path) -> None:
    fit.params.save(tmp_path / "chip.json")
    a, b = Generative((300,), fit.params, seed=3), Generative((300,), tmp_path / "chip.json", seed=3)
    for v in (1.5, -1.5, 1.5):
        assert np.array_equal(a.pulse(v, 0.0, 3.0, 1e-3), b.pulse(v, 0.0, 3.0, 1e-3))
    r = -0.2 / a.read(0.0, 0.2, 3.0, 0.0)
    assert np.median(r) == pytest.approx(np.median(a.features[:, 2]), rel=0.01)


def test_a_chip_from_its_loops() -> None:
    """Loops with 0.2 µA of noise: eta within 1 %, currents of up to 200 µA, where they are seen, within 0.5 µA."""
    v, i, cycle, _ = loops(30, 4, seed=21)
    rng = np.random.default_rng(0)
    i = i + rng.normal(0, 0.2e-6, i.shape)
    parts = [state_curves(v, i[:, k], cycle) for k in range(30)]
    ways = [reset_transitions(v, i[:, k], cycle) for k in range(30)]
    curves, way = ([np.concatenate(x) for x in zip(*p, strict=True)] for p in (parts, ways))
    fitted = fit_curves(replace(PARAMS, u_read=-0.2), *curves, transition=(way[0], way[1], way[2]))
    assert fitted.eta == pytest.approx(PARAMS.eta, rel=0.01)
    assert fitted.u_limit == 1.5
    u = np.linspace(-1.5, 1.5, 101)
    for g, seen in ((1 / 4000, u < 0.6), (1 / 5000, u < 0.6), (1 / 40e3, u > -0.5), (1 / 150e3, u > -0.5)):
        current = []
        for p in (PARAMS, fitted):
            g_l, g_h = (np.polyval(c, -0.2) / -0.2 for c in (p.llrs, p.hhrs))
            r = (g_l - g) / (g_l - g_h)
            current.append((1 - r) * np.polyval(p.llrs, u) + r * np.polyval(p.hhrs, u))
        assert current[1][seen] == pytest.approx(current[0][seen], abs=0.5e-6)


@pytest.mark.parametrize("components", [1, 3])
def test_deconvolution_takes_errors_out(components: int) -> None:
    """1,000 values of variance 1 measured with errors of variance 1: a variance of 1, not 2 (5 standard errors)."""
    rng = np.random.default_rng(3)
    n, q = 1000, 3
    truth = np.linalg.cholesky(np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    values = rng.standard_normal((n, q)) @ truth.T + rng.standard_normal((n, q)) + 7
    w, m, c = deconvolve(values, np.tile(np.eye(q), (n, 1, 1)), components)
    mean = w @ m
    whole = np.einsum("k,kij->ij", w, c) + (w * (m - mean).T) @ (m - mean)
    assert mean == pytest.approx(np.full(q, 7.0), abs=5 * np.sqrt(2 / n))
    assert whole == pytest.approx(truth @ truth.T, abs=5 * np.sqrt(8 / n))


def test_deconvolution_finds_outlier_devices() -> None:
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.standard_normal((950, 2)), rng.standard_normal((50, 2)) * 2 + [8.0, -6.0]])
    w, m, _ = deconvolve(values, np.zeros((1000, 2, 2)), 2)
    assert w == pytest.approx([0.95, 0.05], abs=0.02)
    assert m[1] == pytest.approx([8.0, -6.0], abs=1.0)


def test_one_device_and_short_records() -> None:
    """One device: its own numbers, no spread of devices, no interval."""
    data = generate_cycles(PARAMS, 1, 4000, seed=2)
    fit = fit_generative(data, order=2, components=1, v_read=-0.2, like=PARAMS)
    assert fit.params.order == 2
    assert fit.params.means[0, 2] == pytest.approx(data[0, :, 2].mean(), rel=1e-6)
    assert np.abs(fit.params.spreads).max() < 1
    assert np.isnan(fit.goodness.quantiles.low).all()
    assert fit.goodness.acf.model.shape == (4, len(LAGS))
    assert fit.goodness.worst()["quantiles"] < 0.1


NAN = float("nan")
GOOD = generate_cycles(PARAMS, 60, 120, seed=1)


def bent(**changes: float) -> np.ndarray:
    data = GOOD.copy()
    for name, value in changes.items():
        data[3, 5, int(name[1])] = value
    return data


@pytest.mark.parametrize(
    ("cycles", "options", "match"),
    [
        ("x", {}, "not an array"),
        (GOOD[0], {}, "shape"),
        (GOOD[..., :3], {}, "shape"),
        (bent(_1=NAN), {}, "NaN"),
        (bent(_0=-5.0), {}, "not > 0"),
        (bent(_3=0.7), {}, "not > 0"),
        (GOOD, {"order": 0}, "order"),
        (GOOD, {"order": 2.5}, "order"),
        (GOOD, {"order": 24}, "too few"),
        (GOOD, {"components": 0, "order": 1}, "components"),
        (GOOD, {"components": 4, "order": 1}, "too few"),
        (GOOD, {"v_read": 0.0, "order": 1}, "v_read"),
        (GOOD, {"v_read": 3.0, "order": 1}, "v_read"),
        (np.repeat(GOOD[:, :1], 120, axis=1), {"order": 1}, "never changes"),
        (GOOD, {"order": 1, "curves": ([0.1], [0.1], [0.1])}, "samples"),
        (GOOD, {"order": 1, "curves": ([0.1, NAN], [0.1, 0.1], [0.1, 0.1])}, "NaN"),
        (GOOD, {"order": 1, "curves": ([0.1, 0.2], [0.1], [0.1])}, "shapes"),
    ],
)
def test_bad_data(cycles: object, options: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        fit_generative(cycles, like=PARAMS, **options)  # type: ignore[arg-type]
