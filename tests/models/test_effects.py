"""The effects that all models share, each against the number it states."""

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import ParameterError
from labctl.models import counter_rng, effects
from labctl.models.effects import Defects, Effects
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.multilevel import MultilevelArray, MultilevelParams

SEED = np.uint64(5)


def many(f, n: int = 20000) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    return np.array([f(cell) for cell in range(n)])


# random numbers


def test_normals_are_normal_and_independent_of_their_neighbours() -> None:
    z = np.array([[counter_rng.normal(SEED, cell, count, 0) for count in range(50)] for cell in range(400)])
    assert z.mean() == pytest.approx(0.0, abs=4 / np.sqrt(z.size))
    assert z.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * z.size))
    assert np.mean(z**4) == pytest.approx(3.0, abs=4 * np.sqrt(96 / z.size))
    for a, b in ((z[:, :-1], z[:, 1:]), (z[:-1], z[1:])):
        assert abs(np.mean(a * b)) < 4 / np.sqrt(a.size)


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9), st.integers(-(10**12), 10**12), st.integers(0, 3000))
@settings(max_examples=200, deadline=None)
def test_uniforms_exclude_both_ends(seed: int, cell: int, count: int, stream: int) -> None:
    assert 0.0 < counter_rng.uniform(np.uint64(seed), cell, count, stream) < 1.0


# relaxation and retention


def conductances(g: float, t: float, strength: Effects, n: int = 20000) -> NDArray[np.float64]:
    e = strength.vector()
    return g * np.exp(many(lambda cell: effects.drift(SEED, cell, 1, t, 0.0, g, e), n))


@pytest.mark.parametrize(
    ("t", "sigma", "mean"), [(0.01, 2.3e-6, -0.1e-6), (1.0, 4.5e-6, -0.5e-6), (1e4, 7.8e-6, -1.3e-6)]
)
def test_relaxation_over_the_levels_of_an_array(t: float, sigma: float, mean: float) -> None:
    levels = np.linspace(2e-6, 126e-6, 32)  # 32 levels of 4 µS, as recorded
    moved = [conductances(g, t, Effects(), 6000) - g for g in levels]
    assert np.mean([np.std(d) for d in moved]) == pytest.approx(sigma, rel=0.1)
    assert np.mean([np.mean(d) for d in moved]) == pytest.approx(mean, abs=0.25e-6)
    assert min((g + d.min()) for g, d in zip(levels, moved, strict=True)) > 0.0


def test_relaxation_seen_through_the_filament_cell() -> None:
    """The same, programmed, waited and read through the model: σ within 25 % of the recorded ones."""
    array = FilamentArray((16, 1000), seed=3, params=FilamentParams().ideal(), effects=Effects(rtn=0.0, read_noise=0.0))
    levels = np.linspace(6e-6, 126e-6, 16)
    p = array.params
    array.set_gap(np.repeat(p.g_0 * np.log(p.i_0 / p.v_0 / levels), 1000))
    start = array.read(0.05, 0.0, 4.0, 0.0).reshape(array.shape) / 0.05
    elapsed = 0.0
    for t, sigma in ((0.01, 2.3e-6), (1.0, 4.5e-6), (1e4, 7.8e-6)):
        array.wait(t - elapsed)
        elapsed = t
        moved = array.read(0.05, 0.0, 4.0, 0.0).reshape(array.shape) / 0.05 - start
        assert moved.std(axis=1).mean() == pytest.approx(sigma, rel=0.25)


def test_relaxation_walks_on_and_starts_anew_with_each_programming() -> None:
    e = Effects().vector()
    early, late = (many(lambda cell, t=t: effects.drift(SEED, cell, 1, t, 0.0, 60e-6, e), 4000) for t in (1.0, 1e4))
    other = many(lambda cell: effects.drift(SEED, cell, 2, 1.0, 0.0, 60e-6, e), 4000)
    assert 0.4 < np.corrcoef(early, late)[0, 1] < 0.75  # σ 4.5 of 7.8 µS is shared
    assert abs(np.corrcoef(early, other)[0, 1]) < 0.06


def test_relaxation_can_be_scaled_and_switched_off() -> None:
    assert (conductances(50e-6, 1e3, Effects.none(), 50) == 50e-6).all()
    one, two = (np.std(conductances(60e-6, 1.0, Effects(relaxation=s), 4000)) for s in (0.5, 1.0))
    assert one / two == pytest.approx(0.5, rel=0.02)


def test_retention_follows_arrhenius() -> None:
    strength = Effects(relaxation=0.0, retention_spread=0.0, retention_shape=1.0, rtn=0.0, read_noise=0.0)
    lost = {}
    for kelvin in (358.0, 383.0, 408.0):
        array = MultilevelArray((1,), params=MultilevelParams().ideal(), effects=strength)
        array.set_level(1.0)
        array.wait(1e6, kelvin)
        g = array.read(0.2, 0.0, 3.5, 0.0)[0] / 0.2
        lost[kelvin] = -np.log(1.0 - np.log(g / 100e-6) / np.log(11e-6 / 100e-6))  # t/τ
    assert lost[358.0] == pytest.approx(1e6 / 3.2e8, rel=1e-6)
    slope = np.polyfit(1.0 / np.array(list(lost)), np.log(list(lost.values())), 1)[0]
    assert -slope * 8.617333e-5 == pytest.approx(1.2, rel=1e-6)  # eV


def test_retention_ends_at_the_end() -> None:
    e = Effects(relaxation=0.0, retention_spread=0.0).vector()
    assert 200e-6 * np.exp(effects.drift(SEED, 0, 1, 1.0, 1e16, 200e-6, e)) == pytest.approx(11e-6, rel=1e-3)


def test_pulses_that_do_not_program_leave_relaxation_alone() -> None:
    plain, poked = (FilamentArray((50,), seed=4, effects=Effects(rtn=0.0)) for _ in range(2))
    for array in (plain, poked):
        array.pulse(3.0, 0.0, 3.3, 1e-6)
    for _ in range(100):
        plain.wait(1.0)
        poked.wait(1.0)
        poked.pulse(0.1, 0.0, 3.5, 1e-6)
    a, b = plain.read(0.2, 0.0, 3.5, 0.0), poked.read(0.2, 0.0, 3.5, 0.0)
    assert b == pytest.approx(a, rel=1e-5)


# RTN and noise


def test_traps_are_two_state_markov_processes() -> None:
    """Occupancy p, autocorrelation exp(−t/τ), exponential dwell: those of a two-state Markov process."""
    rate, p, dt = 1.0, 0.3, 0.2
    x = np.array([[effects._occupied(SEED, cell, 7, dt * k * rate, p) for k in range(600)] for cell in range(100)])
    assert set(np.unique(x)) == {0.0, 1.0}
    error = np.sqrt(p * (1 - p) * 2 / (100 * 600 * dt))
    assert x.mean() == pytest.approx(p, abs=4 * error)
    c = x - p
    for lag in (1, 5, 10):
        expected = p * (1 - p) * np.exp(-lag * dt)
        assert np.mean(c[:, :-lag] * c[:, lag:]) == pytest.approx(expected, abs=0.012)
    # P(stay 1 for one step) of the continuous process
    stay = np.mean(x[:, 1:][x[:, :-1] == 1.0])
    assert stay == pytest.approx(p + (1 - p) * np.exp(-dt), abs=0.015)
    # memoryless: staying does not depend on having stayed
    long_stay = np.mean(x[:, 2:][(x[:, :-2] == 1.0) & (x[:, 1:-1] == 1.0)])
    assert long_stay == pytest.approx(stay, abs=0.02)


def trace(g: float, cell: int, e: NDArray[np.float64], seconds: float = 250.0, rate: float = 400.0) -> float:
    """σ(G) in S of one cell over `seconds`, read `rate` times a second."""
    t = np.arange(0.0, seconds, 1.0 / rate)[::25]
    return float(np.std([g * effects.rtn(SEED, cell, x, g, rate / 2, k, e) for k, x in enumerate(t)]))


def test_read_noise_of_an_array_is_that_recorded() -> None:
    """0.5 … 10 µS a cell over 250 s at 400 Hz."""
    e = Effects().vector()
    sigmas = np.array([trace(g, cell, e) for cell in range(40) for g in (50e-6, 200e-6)])
    assert 0.5e-6 < np.median(sigmas) < 5e-6
    assert np.mean((sigmas > 0.3e-6) & (sigmas < 10e-6)) > 0.9


def test_rtn_is_normal_in_lrs_and_log_normal_and_larger_in_hrs() -> None:
    strength = Effects(rtn_traps=1, rtn_rate_low=1.0, rtn_rate_high=1.0)
    e = strength.vector()

    def swing(cell: int, g: float) -> float:
        seen = [effects.rtn(SEED, cell, t, g, inf, 0, e) for t in np.arange(0.0, 60.0, 0.5)]
        return max(seen) - min(seen)

    low = np.array([swing(cell, 200e-6) for cell in range(300)])
    high = np.array([swing(cell, 5e-6) for cell in range(300)])
    low, high = low[low > 0], high[high > 0]
    assert np.mean(low) == pytest.approx(0.02, rel=0.1)
    assert np.std(low) == pytest.approx(0.01, rel=0.2)
    assert np.median(high) == pytest.approx(0.1, rel=0.15)
    assert np.std(np.log(high)) == pytest.approx(0.8, rel=0.15)
    assert skewness(np.log(high)) == pytest.approx(0.0, abs=0.5)
    assert skewness(high) > 1.0 > skewness(low)


def skewness(x: NDArray[np.float64]) -> float:
    return float(np.mean((x - x.mean()) ** 3) / x.std() ** 3)


def test_a_narrow_bandwidth_averages_fast_traps() -> None:
    e = Effects(rtn_traps=1, rtn_rate_low=1e3, rtn_rate_high=1e3).vector()
    wide, narrow = (
        np.std([effects.rtn(SEED, 1, 0.01 * k, 200e-6, bandwidth, k, e) for k in range(3000)])
        for bandwidth in (1e5, 10.0)
    )
    assert narrow / wide == pytest.approx(np.sqrt(2 * 2 * 10.0 / 1e3), rel=0.15)  # √(2/(λT)), T = 1/(2B)
    assert effects.rtn(SEED, 1, 1.0, 200e-6, 0.0, 0, e) == 1.0


# endurance and defects


def test_window_is_half_at_the_end_of_life() -> None:
    e = Effects(endurance_life=1e5, endurance_spread=0.0).vector()
    assert effects.window(SEED, 0, 0.0, e) == 1.0
    assert effects.window(SEED, 0, 1e5, e) == pytest.approx(0.5)
    assert effects.window(SEED, 0, 1e3, e) > 0.95
    e = Effects(endurance_life=1e5, endurance_spread=0.6).vector()
    left = many(lambda cell: effects.window(SEED, cell, 1e5, e), 4000)
    assert np.median(left) == pytest.approx(0.5, abs=0.02)
    assert np.std(np.log(left / (1 - left))) == pytest.approx(0.6 * 0.7, rel=0.1)


def test_fractions_and_lists_of_defects() -> None:
    codes = Defects(stuck=0.1, shorted=0.05, never_forming=0.02, open=0.01).codes(3, 100000)
    share = np.bincount(codes, minlength=5) / codes.size
    expected = np.array([0.82, 0.1, 0.05, 0.02, 0.01])
    assert share == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(codes.size))
    named = Defects(stuck=1.0, open_cells=[2]).codes(3, 4)
    assert list(named) == [effects.STUCK, effects.STUCK, effects.OPEN, effects.STUCK]


def test_bad_strengths_are_refused() -> None:
    for bad in ({"relaxation": -1.0}, {"retention_tau": float("nan")}, {"rtn_traps": 99}, {"rtn_g_hrs": 1.0}):
        with pytest.raises(ParameterError):
            Effects(**bad)
    for worse in ({"stuck": 0.7, "open": 0.7}, {"shorted": -0.1}):
        with pytest.raises(ParameterError):
            Defects(**worse)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="cell 9"):
        Defects(stuck_cells=[9]).codes(0, 4)
