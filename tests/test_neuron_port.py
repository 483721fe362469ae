"""The port to the input neurons: what it counts, what it refuses, and that it leaves the bench safe."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.neuron import NeuronPort, View
from labctl.abort import AbortSignal
from labctl.errors import Aborted, InstrumentError, LimitError, MeasurementError, StationError, UsageError
from labctl.replay import verify
from labctl.station import load_station, parse_station
from protocols.lif_traces import lif_traces


@pytest.fixture
def bench() -> Iterator[Bench]:
    with labctl.open_bench("sim", seed=1) as bench:
        yield bench
        assert bench.board.status().safe


def test_a_train_counts_what_its_stamps_say(bench: Bench) -> None:
    """100 Hz pulses of 40 µA, 12 µs wide, on three neurons: alike but for their charge jitter."""
    port = NeuronPort(bench, 0, 4, 9)
    with bench.powered():
        port.rest()
        response = port.pulses(40e-6, 12e-6, 10e-3, 60, stamps=True, lead=1e-3, tail=2e-3)
    assert response.duration == pytest.approx(60 * 10e-3 + 2e-3, abs=1e-9)
    for number in port.numbers:
        times = response.times(number)
        assert len(times) == response.counts[number]
        assert 5 <= len(times) <= 9
        # each spike falls into a pulse or into the latency after it
        assert (times % 10e-3 < 12e-6 + 10e-6).all()
    assert len({tuple(response.times(number)) for number in port.numbers}) == 3


def test_rest_is_rest_whatever_was_before(bench: Bench) -> None:
    """After `rest` the next spike comes at the same time, to the charge jitter, with any history."""
    port, first = NeuronPort(bench, 0), []
    with bench.powered(v_ref=1.0):
        for current in (0.0, 10e-6, 200e-6):
            port.inject(current)
            bench.wait(3.3e-3)
            port.rest()
            first.append(port.pulses(40e-6, 100e-6, 10e-3, 1, stamps=True).times(0)[0])
    assert first == pytest.approx([55e-6] * 3, rel=0.12)


@pytest.mark.parametrize(
    ("width", "period", "count", "message"),
    [
        (0.5e-6, 1e-3, 10, "an output settles in 1 µs"),
        (999.9e-6, 1e-3, 10, "an output settles in 1 µs"),
        (1e-5, 1e-3, 0, "0 pulses of 10 µs"),
        (1e-10, 1e-3, 1, "no time the board can make"),
        (float("nan"), 1e-3, 1, "no time the board can make"),
    ],
)
def test_trains_that_cannot_be_made_are_refused(
    bench: Bench, width: float, period: float, count: int, message: str
) -> None:
    with bench.powered():
        before = bench.now()
        with pytest.raises(UsageError, match=message):
            NeuronPort(bench, 0).pulses(40e-6, width, period, count)
        assert bench.now() == before  # nothing was run


def test_limits_hold_before_anything_moves(bench: Bench) -> None:
    with bench.powered(v_ref=1.0):
        with pytest.raises(LimitError, match="i_syn = 250 µA is outside 0 A … 200 µA"):
            NeuronPort(bench, 0).pulses(250e-6, 1e-5, 1e-3)
        with pytest.raises(LimitError, match=r"drives 230 µA, above the LDO's 200 µA; raise V_ref above 1\.3 V"):
            NeuronPort(bench, 1).regulated_by(0).__enter__()
    with pytest.raises(UsageError, match="there is no input neuron 16"):
        NeuronPort(bench, 16)
    with pytest.raises(UsageError, match="the chip has no power"):
        NeuronPort(bench, 0).inject(1e-6)


def test_switches_open_again(bench: Bench) -> None:
    port = NeuronPort(bench, 1)
    with bench.powered(v_ref=3.0, v_thr=2.6):
        with pytest.raises(RuntimeError), port.regulated_by(0):
            raise RuntimeError
        with port.threshold_from(2):
            pass
        bench.bias(v_thr=1.2)
        bench.inject(1, 20e-6)
        # with its threshold on the bias again: 2.6 kHz, and neuron 0 hears nothing of it
        spikes = bench.count([0, 1], 20e-3, settle=5e-3)
    assert spikes.rate(1) == pytest.approx(2.6e3, rel=0.05)
    assert spikes.counts[0] == 0


def test_a_membrane_is_seen_through_another_neurons_threshold(bench: Bench) -> None:
    """Neuron 1 fires faster while its threshold is a membrane at V_rest 0.6 V than with V_thr at 1.2 V."""
    port = NeuronPort(bench, 1)
    with bench.powered(v_ref=1.0):
        bench.inject(1, 20e-6)
        plain = bench.count([1], 50e-3, settle=5e-3).rate(1)
        with port.threshold_from(2):
            through = bench.count([1], 50e-3, settle=5e-3).rate(1)
    slope = (1 / plain - 1 / through) / 0.6  # seconds a volt
    assert slope == pytest.approx(1 / 3930, rel=0.03)


def test_the_supply_current_of_the_idle_chip(bench: Bench) -> None:
    """Twenty neurons of 15 µW (LDO 10 µW, neuron 5 µW): Garg et al., Sec. III-E."""
    with bench.powered():
        idle = NeuronPort(bench, 0).supply(20e-3)
    assert idle * 3.3 == pytest.approx(20 * 15e-6, rel=1e-3)


def test_what_the_scope_cannot_see_is_said(bench: Bench) -> None:
    with pytest.raises(MeasurementError, match=r"cannot see an output pulse of 10\.\d µs in a record of .* s"):
        list(lif_traces(bench, i_syn=[100e-9], periods=6.0))
    with pytest.raises(StationError, match="no scope probe on MEM3; it watches MEM0"):
        list(lif_traces(bench, neuron=3))
    port = NeuronPort(bench, 0)
    with bench.powered(v_ref=1.0):
        port.look(View("OUT0"), span=1e-3, shortest=(1e-5, "a pulse"), trigger=("OUT0", 1.65))
        bench.wait(5e-3)
        with pytest.raises(InstrumentError, match="did not trigger"):
            port.seen(timeout=0.2)
        port.inject(10e-6)
        port.look(View("MEM0", 0.5, 0.45), span=5e-3, shortest=(1e-4, "the rise"))
        bench.count([0], 6e-3, trigger=True)
        with pytest.raises(MeasurementError, match=r"MEM0 leaves the screen of 200 mV … 700 mV"):
            port.seen()


def test_stamps_of_a_train_too_long_for_the_fifo_are_an_error(bench: Bench) -> None:
    with bench.powered(v_ref=1.0, v_pw=1.1), pytest.raises(InstrumentError, match=r"lost .* time stamps"):
        NeuronPort(bench, *range(16)).pulses(200e-6, 60e-3, 61e-3, stamps=True)


def test_all_outputs_are_low_at_rest(bench: Bench) -> None:
    port = NeuronPort(bench, *range(16))
    with bench.powered(v_pw=0.45, v_ref=1.0):
        port.rest(0.1)
        assert not any(port.high().values())
        NeuronPort(bench, 3, 7).inject(100e-6)
        bench.wait(0.5e-3)  # they have fired, and their pulses last 20 ms
        assert [number for number, high in port.high().items() if high] == [3, 7]
        assert np.isclose(bench.volts("VPW"), 0.45)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("silent = [16]", "simulation.silent names 16, not there"),
        ("stuck_low = 3", "simulation.stuck_low = 3 is not a list of line or neuron"),
        ('stuck_high = ["a"]', "simulation.stuck_high = .* is not a list of line or neuron"),
    ],
)
def test_broken_neurons_of_the_simulation_are_checked(setting: str, message: str) -> None:
    with pytest.raises(StationError, match=message):
        labctl.open_bench(parse_station(load_station("sim").text + setting + "\n", "a test"))


@pytest.mark.parametrize(("setting", "volts"), [("stuck_high = [0]", 3.3), ("stuck_low = [0]", 0.0)])
def test_the_scope_sees_a_stuck_output_and_the_membrane_behind_it(setting: str, volts: float) -> None:
    with labctl.open_bench(parse_station(load_station("sim").text + setting + "\n", "a test"), seed=1) as bench:
        port = NeuronPort(bench, 0)
        with bench.powered(v_ref=1.0):
            port.inject(20e-6)
            port.look(View("OUT0", 4.4, 1.65), View("MEM0", 2.4, 0.9), span=2e-3, shortest=(1e-5, "a pulse"))
            assert bench.count([0], 3e-3, trigger=True).counts[0] == 0
            output, membrane = port.seen()
            assert port.high()[0] == (volts > 0)
    assert output.values == pytest.approx(volts, abs=0.1)
    assert membrane.values.max() > 1.4  # it fires all the same
    assert membrane.values.min() < 0.1


def test_an_aborted_measurement_is_safe_kept_and_re_executed(tmp_path: Path) -> None:
    abort = AbortSignal()
    with labctl.open_bench("sim", seed=1) as bench:
        with pytest.raises(Aborted):
            labctl.run(
                "lif_leak_down",
                bench,
                out=tmp_path / "a.h5",
                abort=abort,
                watch=lambda item, count: abort.set() if count == 2 else None,
            )
        assert bench.board.status().safe
    run = labctl.load(tmp_path / "a.h5")
    assert run.status == "aborted"
    assert len(run.table()["v_taun"]) == 2
    assert verify(run.path).rows == 2
