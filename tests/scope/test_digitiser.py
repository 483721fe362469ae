"""The simulated oscilloscope's physics, through the driver: what it shows against what was at the probe."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.scope.digitiser import Digitiser, noise
from drivers.scope.scope import Scope
from drivers.scope.sim import SimScope
from labctl.errors import InstrumentError
from labctl.protocol import Trace
from labctl.transport.loop import LoopTransport
from tests.scope.signals import FloatArray, Signals, Wave, scope_on, sine, step

QUIET = Digitiser(noise=0.0, clock_error=0.0)
LSB = 1 / 256
"""Of full scale."""


def bench(wave: Wave, digitiser: Digitiser = QUIET, attenuation: float = 1.0, seed: int = 1) -> tuple[Scope, Signals]:
    nodes = Signals(a=wave)
    nodes.time = 12.345678
    sim = SimScope(nodes, {1: ("a", attenuation)}, lambda: nodes.triggers, seed=seed, digitiser=digitiser)
    scope = scope_on(LoopTransport(sim))
    scope.reset()
    return scope, nodes


def shoot(scope: Scope, nodes: Signals, seconds: float, word: bool = False) -> Trace:
    """Arm, let the board trigger and run, fetch."""
    scope.arm()
    nodes.advance(seconds, trigger=True)
    scope.wait(timeout=0.0)
    return scope.fetch(1, word=word)


@pytest.mark.parametrize("word", [False, True])
@pytest.mark.parametrize(("full_scale", "offset", "delay"), [(4.0, 0.0, 0.0), (2.5, 0.5, 3e-4), (3.2, -0.4, -2e-4)])
def test_a_sine_is_shown_within_half_a_step(full_scale: float, offset: float, delay: float, word: bool) -> None:
    wave = sine(1e3, mean=offset)
    scope, nodes = bench(wave)
    scope.channel(1, full_scale=full_scale, offset=offset)
    scope.timebase(2e-3, delay=delay, points=2000)
    scope.trigger("EXT", level=1.0)
    scope.arm()
    triggered = nodes.time
    nodes.advance(5e-3, trigger=True)
    scope.wait(timeout=0.0)
    trace = scope.fetch(1, word=word)
    shown = wave(np.maximum(triggered + trace.t, triggered))  # before arming: the level at arming
    # half a step of the converter; the amplifier delays by 0.8 ns, 5e-6 of an amplitude here
    assert np.abs(trace.values - shown).max() <= full_scale * LSB / 2 + 1e-5
    assert trace.t0 == pytest.approx(delay, abs=2e-9)
    assert (trace.dt, len(trace.codes)) == (1e-6, 2000)
    assert scope.clipped(trace) == 0


def test_noise_is_what_the_digitiser_says_and_repeats_with_the_seed() -> None:
    digitiser = replace(QUIET, noise=0.01)

    def trace(seed: int) -> FloatArray:
        scope, nodes = bench(lambda t: np.zeros(len(t)), digitiser, seed=seed)
        scope.channel(1, full_scale=2.0)
        scope.timebase(1e-3, points=10_000)
        scope.trigger("EXT", level=1.0)
        return shoot(scope, nodes, 2e-3).values

    first, same, other = trace(5), trace(5), trace(6)
    assert np.array_equal(first, same)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.05
    expected = 2.0 * math.hypot(0.01, LSB / math.sqrt(12))  # rounding adds a step over the root of 12
    assert first.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * 10_000))
    assert abs(first.mean()) < 4 * expected / 100


def test_noise_does_not_depend_on_what_is_read() -> None:
    index = np.arange(1000, dtype=np.int64)
    assert np.array_equal(noise(7, 3, 1, index)[::10], noise(7, 3, 1, index[::10]))
    draws = noise(7, 3, 1, np.arange(200_000, dtype=np.int64))
    assert abs(draws.mean()) < 0.01
    assert draws.std() == pytest.approx(1, abs=0.01)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01
    for other in (noise(8, 3, 1, index), noise(7, 4, 1, index), noise(7, 3, 2, index)):
        assert abs(np.corrcoef(draws[:1000], other)[0, 1]) < 0.15


def test_beyond_the_screen_is_clipped_and_known_to_be() -> None:
    scope, nodes = bench(sine(1e3, amplitude=2.0))
    scope.channel(1, full_scale=2.0)
    scope.timebase(1e-3, points=1000)
    scope.trigger("EXT", level=1.0)
    trace = shoot(scope, nodes, 2e-3)
    assert (trace.codes.min(), trace.codes.max()) == (1, 255)
    # |2 sin| > 1 for two thirds of the time
    assert scope.clipped(trace) == pytest.approx(667, abs=12)
    inside = (trace.codes > 1) & (trace.codes < 255)
    assert np.abs(trace.values[inside]).max() < 1.0


@pytest.mark.parametrize("slope", ["rising", "falling", "either"])
@settings(max_examples=15, deadline=None)
@given(phase=st.floats(0, 6.28), level=st.floats(-0.8, 0.8))
def test_the_trigger_sits_on_the_edge_within_a_sample(slope: str, phase: float, level: float) -> None:
    frequency = 12_345.6
    scope, nodes = bench(sine(frequency, phase=phase))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-4, delay=-5e-5, points=10_000)
    scope.trigger(1, level=level, slope=slope)  # type: ignore[arg-type]
    scope.arm()
    nodes.advance(1e-3)
    scope.wait(timeout=0.0)
    trace = scope.fetch(1, word=True)
    middle = round(-trace.t0 / trace.dt)
    around = trace.values[middle - 50 : middle + 50]
    steepest = 2 * math.pi * frequency
    # half a step of the converter, and one sample of 10 ns at the steepest slope
    assert abs(trace.values[middle] - level) <= 4.0 * LSB / 2 + steepest * 1e-8
    rises = around[-1] > around[0]
    assert slope == "either" or rises == (slope == "rising")


def test_the_trigger_needs_its_hysteresis() -> None:
    """A ripple of 1 % of full scale around the level is no edge; the band is 4 %."""
    ripple = sine(10e3, amplitude=0.04)
    scope, nodes = bench(lambda t: ripple(t) + np.where(t > 12.35, 1.0, 0.0) - np.where(t > 12.352, 1.0, 0.0))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-4, delay=-5e-5, points=1000)
    scope.trigger(1, level=0.0)
    scope.arm()
    nodes.advance(3e-3)
    with pytest.raises(InstrumentError, match="did not trigger"):
        scope.wait(timeout=0.0)
    scope.trigger(1, level=0.5)
    nodes.time = 12.345678
    scope.arm()
    nodes.advance(5e-3)
    scope.wait(timeout=0.0)
    values = scope.fetch(1).values
    assert values[400] == pytest.approx(0, abs=0.06)
    assert values[600] == pytest.approx(1, abs=0.06)


def test_an_edge_between_two_looks_is_found_once() -> None:
    """History comes in pieces; the edge is the same as if it came at once."""

    def trace(pieces: int) -> Trace:
        scope, nodes = bench(step(12.346))
        scope.channel(1, full_scale=4.0, offset=0.5)
        scope.timebase(1e-4, delay=-2e-5, points=1000)
        scope.trigger(1, level=0.5)
        scope.arm()
        for _ in range(pieces):
            nodes.advance(1e-3 / pieces)
            scope.link.query(":OPER:COND?")
        scope.wait(timeout=0.0)
        return scope.fetch(1)

    whole = trace(1)
    assert trace(2).codes.tolist() == trace(97).codes.tolist() == whole.codes.tolist()
    edge = int(np.argmax(whole.values > 0.5))
    assert abs(whole.t[edge]) <= whole.dt + 1e-9  # a sample, and the amplifier's rise


def test_what_lies_beyond_the_present_is_not_there_yet() -> None:
    scope, nodes = bench(sine(1e3))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3)
    scope.trigger("EXT", level=1.0)
    scope.arm()
    nodes.advance(0.9e-3, trigger=True)
    assert scope.link.query(":OPER:COND?") == "+8"  # triggered, still running
    with pytest.raises(InstrumentError, match="nothing to fetch"):
        scope.fetch(1)
    nodes.advance(0.2e-3)
    assert scope.link.query(":OPER:COND?") == "+0"
    assert len(scope.fetch(1).codes) == 10_000


def test_triggers_before_arming_do_not_count() -> None:
    scope, nodes = bench(sine(1e3))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3)
    scope.trigger("EXT", level=1.0)
    nodes.advance(1e-4, trigger=True)
    scope.arm()
    nodes.advance(2e-3)
    with pytest.raises(InstrumentError, match="did not trigger"):
        scope.wait(timeout=0.0)


@pytest.mark.parametrize("level", [-1.0, 3.5])
def test_an_external_level_outside_of_the_pulse_never_triggers(level: float) -> None:
    scope, nodes = bench(sine(1e3))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3)
    scope.trigger("EXT", level=level)
    scope.arm()
    nodes.advance(2e-3, trigger=True)
    with pytest.raises(InstrumentError, match="did not trigger"):
        scope.wait(timeout=0.0)


def test_averaging_reduces_noise_by_the_root_of_the_number() -> None:
    def spread(average: int) -> float:
        scope, nodes = bench(lambda t: np.full(len(t), 0.3), replace(QUIET, noise=0.02))
        scope.channel(1, full_scale=2.0)
        scope.timebase(1e-3, points=1000)
        scope.trigger("EXT", level=1.0)
        scope.acquire_mode("average", average) if average > 1 else scope.acquire_mode("normal")
        scope.arm()
        for _ in range(max(average, 1)):
            nodes.advance(1.5e-3, trigger=True)
        scope.wait(timeout=0.0)
        trace = scope.fetch(1)
        assert abs(trace.values.mean() - 0.3) < 5 * 2.0 * 0.02 / math.sqrt(1000 * average) + 2e-3
        return float(trace.values.std())

    one = spread(1)
    assert one == pytest.approx(2.0 * 0.02, rel=0.1)
    for average in (4, 16, 64):
        # each estimate of a spread from 1000 samples is good to 2.2 %
        assert spread(average) == pytest.approx(one / math.sqrt(average), rel=0.12)


def test_an_average_waits_for_all_its_acquisitions() -> None:
    scope, nodes = bench(sine(1e3))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3, points=1000)
    scope.trigger("EXT", level=1.0)
    scope.acquire_mode("average", 4)
    scope.arm()
    for _ in range(3):
        nodes.advance(2e-3, trigger=True)
    with pytest.raises(InstrumentError, match="triggered, but its average of 4 was not complete"):
        scope.wait(timeout=0.0)


def test_the_probe_divides_and_the_scope_multiplies() -> None:
    """A 10:1 probe on a channel told 1:1 shows a tenth; told 10:1 it shows the tip."""
    for told, shown in ((1.0, 0.1), (10.0, 1.0), (100.0, 10.0)):
        scope, nodes = bench(lambda t: np.ones(len(t)), attenuation=10.0)
        scope.channel(1, full_scale=4.0 * told, probe=told)
        scope.timebase(1e-3, points=1000)
        scope.trigger("EXT", level=1.0)
        assert shoot(scope, nodes, 2e-3).values == pytest.approx(shown, abs=4.0 * told * LSB)


def test_ac_coupling_takes_the_mean_away_and_lets_1_khz_pass() -> None:
    scope, nodes = bench(sine(1e3, amplitude=0.5, mean=3.0))
    scope.channel(1, full_scale=2.0, coupling="AC")
    scope.timebase(5e-3, points=5000)
    scope.trigger("EXT", level=1.0)
    values = shoot(scope, nodes, 6e-3).values
    # settled at the level of arming, which is off the mean by up to the amplitude and relaxes with 45 ms
    assert abs(values.mean()) < 0.51
    assert np.ptp(values) == pytest.approx(1.0, rel=0.15)
    scope.channel(1, full_scale=8.0, offset=3.0)
    assert shoot(scope, nodes, 6e-3).values.mean() == pytest.approx(3.0, abs=0.02)


def test_the_bandwidth_is_a_single_pole() -> None:
    """A step through 20 MHz rises as 1 − exp(−t/τ), τ = 7.96 ns, and through 200 MHz ten times faster."""
    for limited, tau in ((True, 1 / (2 * math.pi * 20e6)), (False, 1 / (2 * math.pi * 200e6))):
        scope, nodes = bench(step(12.346))
        scope.channel(1, full_scale=2.0, offset=0.5)
        scope.link.write(f":CHAN1:BWL {int(limited)}")
        scope.timebase(100e-9, delay=-20e-9, points=500)
        scope.trigger("EXT", level=1.0)
        scope.arm()
        nodes.time = 12.346
        nodes.advance(1e-6, trigger=True)
        scope.wait(timeout=0.0)
        trace = scope.fetch(1, word=True)
        expected = np.where(trace.t < 0, 0.0, 1 - np.exp(-np.maximum(trace.t, 0) / tau))
        # the edge lies between two samples: the rise may begin up to 0.3 ns early or late
        tolerance = 2.0 * LSB / 2 + 0.3e-9 / tau
        assert np.abs(trace.values - expected).max() < tolerance


def test_a_scope_with_a_slow_clock_stretches_time() -> None:
    digitiser = replace(QUIET, clock_error=1e-4)
    scope, nodes = bench(sine(1e3), digitiser)
    scope.channel(1, full_scale=4.0)
    scope.timebase(0.1, points=100_000)
    scope.trigger("EXT", level=1.0)
    armed = nodes.time
    trace = shoot(scope, nodes, 0.2)
    real = sine(1e3)(armed + trace.t * (1 + 1e-4))
    assert np.abs(trace.values - real).max() <= 4.0 * LSB / 2 + 1e-4
    assert np.abs(trace.values - sine(1e3)(armed + trace.t)).max() > 0.05


def test_a_record_is_read_with_fewer_points_as_every_kth_sample() -> None:
    scope, nodes = bench(sine(1e3), Digitiser())
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-2, points=20_000)
    scope.trigger("EXT", level=1.0)
    full = shoot(scope, nodes, 2e-2)
    scope.link.write(":WAV:POIN 500")
    again = scope.link.query_block(":WAV:DATA?")
    assert list(again) == full.codes[::40].tolist()


@pytest.mark.parametrize(("span", "samples"), [(20e-9, 100), (1e-6, 5000), (1e-3, 4_000_000), (10.0, 4_000_000)])
def test_samples_are_limited_by_clock_and_memory(span: float, samples: int) -> None:
    assert Digitiser().samples(span) == samples


def test_a_fast_sweep_has_no_more_points_than_samples() -> None:
    scope, nodes = bench(sine(1e6))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-6, points=100_000)
    scope.trigger("EXT", level=1.0)
    trace = shoot(scope, nodes, 1e-3)
    assert len(trace.codes) == 5000
    assert trace.dt == pytest.approx(2e-10)


def history_of(scope: Scope, nodes: Signals) -> set[str]:
    scope.link.query("*OPC?")
    return set(nodes.watched)


def test_history_is_kept_only_while_it_is_needed() -> None:
    nodes = Signals(a=sine(1e3), b=sine(2e3))
    sim = SimScope(nodes, {1: ("a", 1.0), 2: ("b", 1.0)}, lambda: nodes.triggers)
    scope = scope_on(LoopTransport(sim))
    scope.reset()
    assert history_of(scope, nodes) == set()
    scope.channel(1, full_scale=4.0)
    scope.channel(2, full_scale=4.0)
    scope.timebase(1e-3)
    scope.trigger("EXT", level=1.0)
    assert history_of(scope, nodes) == set()
    scope.arm()
    assert history_of(scope, nodes) == {"a", "b"}
    nodes.advance(2e-3, trigger=True)
    scope.wait(timeout=0.0)
    scope.fetch(2)
    assert history_of(scope, nodes) == {"a"}
    scope.fetch(1)
    assert history_of(scope, nodes) == set()
    scope.channel(1, full_scale=4.0, on=False)
    scope.channel(2, full_scale=4.0, on=False)
    scope.channel(2, full_scale=4.0)
    scope.trigger(1, level=0.0)
    scope.arm()
    assert history_of(scope, nodes) == {"a", "b"}, "the trigger source is watched, though it is not shown"
    scope.stop()
    assert history_of(scope, nodes) == set()


def test_two_channels_may_look_at_one_node() -> None:
    nodes = Signals(a=sine(1e3))
    sim = SimScope(nodes, {1: ("a", 1.0), 2: ("a", 10.0)}, lambda: nodes.triggers, digitiser=QUIET)
    scope = scope_on(LoopTransport(sim))
    scope.reset()
    scope.channel(1, full_scale=4.0)
    scope.channel(2, full_scale=4.0, probe=10.0)
    scope.timebase(1e-3)
    scope.trigger("EXT", level=1.0)
    scope.arm()
    nodes.advance(2e-3, trigger=True)
    scope.wait(timeout=0.0)
    assert np.array_equal(scope.fetch(1).codes, scope.fetch(2).codes)
    assert nodes.watched == {}


def test_a_channel_without_a_probe_shows_a_flat_line() -> None:
    scope, nodes = bench(sine(1e3))
    scope.channel(3, full_scale=4.0)
    scope.timebase(1e-3, points=1000)
    scope.trigger("EXT", level=1.0)
    scope.arm()
    nodes.advance(2e-3, trigger=True)
    scope.wait(timeout=0.0)
    assert set(scope.fetch(3).codes.tolist()) == {128}


def test_forcing_triggers_at_the_present() -> None:
    scope, nodes = bench(sine(1e3))
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3, delay=-5e-4, points=1000)
    scope.trigger(1, level=1.5)  # never reached
    scope.arm()
    nodes.advance(1e-3)
    scope.force()
    now = nodes.time
    nodes.advance(1e-3)
    scope.wait(timeout=0.0)
    trace = scope.fetch(1)
    assert np.abs(trace.values - sine(1e3)(now + trace.t)).max() <= 4.0 * LSB / 2 + 1e-5


def automatic(wave: Callable[[FloatArray], FloatArray], seconds: float) -> tuple[Scope, Signals]:
    scope, nodes = bench(wave)
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3, points=1000)
    scope.trigger(1, level=1.5)
    scope.link.write(":TRIG:SWE AUTO;:SING")
    nodes.advance(seconds)
    return scope, nodes


def test_an_automatic_sweep_runs_free_after_its_time() -> None:
    scope, _ = automatic(sine(1e3), 19e-3)
    with pytest.raises(InstrumentError, match="did not trigger"):
        scope.wait(timeout=0.0)
    scope, nodes = automatic(sine(1e3), 22e-3)
    scope.wait(timeout=0.0)
    trace = scope.fetch(1)
    began = nodes.time - 22e-3 + 20e-3
    assert np.abs(trace.values - sine(1e3)(began + trace.t)).max() <= 4.0 * LSB / 2 + 1e-5


def test_a_running_scope_shows_the_latest() -> None:
    scope, nodes = bench(lambda t: np.floor((t - 12.345678) / 10e-3) * 0.1)
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3, points=1000)
    scope.trigger("EXT", level=1.0)
    scope.link.write(":RUN")
    for k in range(5):
        nodes.advance(10e-3, trigger=True)
        assert scope.fetch(1).values.mean() == pytest.approx(0.1 * k, abs=4.0 * LSB)
    for _ in range(3):
        nodes.advance(10e-3, trigger=True)
    assert scope.fetch(1).values.mean() == pytest.approx(0.7, abs=4.0 * LSB)
    scope.stop()
    assert history_of(scope, nodes) == set()
