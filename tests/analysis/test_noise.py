"""Noise against records whose spectrum and levels are known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from labctl.analysis.noise import histogram, record_interval, slope, spectrum
from labctl.analysis.rtn import rtn
from labctl.errors import MeasurementError, UsageError

DT = 1e-3


def telegraph(rng: np.random.Generator, n: int, tau_low: float, tau_high: float) -> np.ndarray:
    """(n,) 0 or 1, DT apart, of a two-state Markov process with exponential dwells (s)."""
    times, state, at = [0.0], bool(rng.random() < tau_high / (tau_low + tau_high)), 0.0
    first = state
    while at < n * DT:
        at += rng.exponential(tau_high if state else tau_low)
        times.append(at)
        state = not state
    k = np.searchsorted(times, (np.arange(n) + 0.5) * DT, side="right") - 1
    return np.asarray((k % 2 == 0) == first, float)


def test_the_moments_of_known_records() -> None:
    rng = np.random.default_rng(0)
    normal = histogram(rng.normal(5.0, 0.1, 50_000))
    assert (normal.mean, normal.sigma) == pytest.approx((5.0, 0.1), rel=0.01)
    assert abs(normal.skewness) < 0.05
    assert abs(normal.kurtosis) < 0.1
    assert normal.counts.sum() == 50_000
    levels = histogram(np.tile([0.0, 1.0], 500))
    assert levels.kurtosis == pytest.approx(-2.0)
    assert histogram(np.ones(10)).counts.sum() == 10


def test_white_noise_has_its_density_and_no_slope() -> None:
    x = np.random.default_rng(1).normal(0, 2.0, 65_536)
    found = spectrum(x, DT, 64)
    assert found.psd.mean() == pytest.approx(2 * 4.0 * DT, rel=0.02)  # one-sided: 2σ²·dt
    assert abs(slope(found).value) < 0.08


def test_the_scatter_of_a_spectrum_is_what_it_says() -> None:
    found = spectrum(np.random.default_rng(2).normal(0, 1, 100_000), DT, 20)
    assert found.psd.std() / found.psd.mean() == pytest.approx(found.averages**-0.5, rel=0.1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_the_slope_of_coloured_noise(exponent: float) -> None:
    n = 2**13
    shape = np.concatenate([[0.0], np.fft.rfftfreq(n, DT)[1:] ** (-exponent / 2)])
    inside = 0
    for seed in range(60):
        white = np.random.default_rng(seed).normal(0, 1, n)
        a = slope(spectrum(np.fft.irfft(np.fft.rfft(white) * shape, n), DT, 16))
        assert a.value == pytest.approx(exponent, abs=0.2)
        inside += a.low < exponent < a.high
    assert inside / 60 == pytest.approx(0.95, abs=0.08)


def test_a_telegraph_signal_has_a_lorentzian() -> None:
    x = telegraph(np.random.default_rng(4), 200_000, 0.02, 0.03)
    found = spectrum(x, DT, 100)
    corner = 1 / 0.02 + 1 / 0.03
    p = 0.6
    expected = 4 * p * (1 - p) / corner / (1 + (2 * np.pi * found.f / corner) ** 2)
    at = found.f < 30  # far below half the sampling rate
    assert found.psd[at] / expected[at] == pytest.approx(np.ones(at.sum()), abs=0.6)
    assert (found.psd[at] / expected[at]).mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_two_levels_their_times_and_their_amplitude(noise: float) -> None:
    rng = np.random.default_rng(5)
    signal = telegraph(rng, 8_000, 0.05, 0.02)
    record = 10e-6 * (1 + 0.1 * signal) + rng.normal(0, noise * 1e-6, len(signal))
    found = rtn(record, DT)
    assert found.found
    assert found.level == pytest.approx([10e-6, 11e-6], rel=0.01)
    assert found.tau_low.low < 0.05 < found.tau_low.high
    assert found.tau_high.low < 0.02 < found.tau_high.high
    assert found.part[1] == pytest.approx(2 / 7, abs=0.07)
    assert found.amplitude == pytest.approx(0.1 / (1 + 0.1 * 2 / 7), rel=0.05)
    assert np.mean(found.state == signal) > 0.99
    assert abs(found.whiteness) < 0.1


def test_dwell_times_cover_the_truth() -> None:
    rng = np.random.default_rng(6)
    inside = np.zeros(2)
    for _ in range(60):
        signal = telegraph(rng, 3000, 0.06, 0.03)
        found = rtn(signal + rng.normal(0, 0.2, 3000), DT, most=2)
        inside += [found.tau_low.low < 0.06 < found.tau_low.high, found.tau_high.low < 0.03 < found.tau_high.high]
    assert inside / 60 == pytest.approx(np.full(2, 0.95), abs=0.07)


def test_fast_switching_is_allowed_for() -> None:
    """Dwells of 3 samples: one in seven is shorter than half an interval and is not seen."""
    rng = np.random.default_rng(7)
    signal = telegraph(rng, 40_000, 3 * DT, 6 * DT)
    found = rtn(signal + rng.normal(0, 0.1, len(signal)), DT, most=2)
    assert found.tau_low.value == pytest.approx(3 * DT, rel=0.05)
    assert found.tau_high.value == pytest.approx(6 * DT, rel=0.05)


def test_two_traps_make_four_levels() -> None:
    rng = np.random.default_rng(8)
    slow, fast = telegraph(rng, 30_000, 0.3, 0.2), telegraph(rng, 30_000, 0.02, 0.03)
    found = rtn(10 + slow + 0.4 * fast + rng.normal(0, 0.05, 30_000), DT)
    assert found.level == pytest.approx([10, 10.4, 11, 11.4], abs=0.02)
    # the lowest level is left by either trap: its rate is the sum of both
    assert found.dwell.value[0] == pytest.approx(1 / (1 / 0.3 + 1 / 0.02), rel=0.15)


@pytest.mark.parametrize("kind", ["white", "drift", "jump", "walk", "pink", "constant"])
def test_no_rtn_is_found_where_there_is_none(kind: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        white = rng.normal(0, 1, 4000)
        n = np.arange(4000)
        pink = np.fft.irfft(np.fft.rfft(white) / np.maximum(np.arange(2001), 1) ** 0.5, 4000)
        record = {
            "white": white,
            "drift": white + n / 400,
            "jump": white + 10 * (n > 1700),
            "walk": np.cumsum(white),
            "pink": pink,
            "constant": np.ones(4000),
        }[kind]
        found = rtn(record, DT)
        assert not found.found, (kind, seed)
        assert found.reason
        assert np.isnan([found.tau_low.value, found.amplitude, found.dwell.value[0]]).all()


def test_correlated_noise_under_a_telegraph_signal_does_not_hide_it() -> None:
    rng = np.random.default_rng(9)
    signal = telegraph(rng, 10_000, 0.1, 0.1)
    noise = lfilter([1.0], [1.0, -0.3], rng.normal(0, 0.1, 10_000))
    found = rtn(signal + noise, DT, most=2)
    assert found.level == pytest.approx([0, 1], abs=0.02)
    assert found.whiteness == pytest.approx(0.3, abs=0.05)


def test_uneven_samples_are_refused() -> None:
    assert record_interval([0.0, 0.1, 0.2]) == pytest.approx(0.1)
    with pytest.raises(MeasurementError, match="even ones"):
        record_interval([0.0, 0.1, 0.3])
    with pytest.raises(UsageError, match="interval"):
        spectrum(np.arange(100.0), 0.0)
    with pytest.raises(UsageError, match="shorter than 8 samples"):
        spectrum(np.arange(50.0), 1.0, 30)
    with pytest.raises(UsageError, match="finite"):
        rtn(np.full(100, np.nan), 1.0)
