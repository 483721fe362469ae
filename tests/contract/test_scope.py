"""What every oscilloscope does for the driver: simulated in process, simulated behind PyVISA, and the one on the bench.

Nothing here needs a signal at an input. ``pytest --bench FILE.toml`` runs it on the oscilloscope of that station, which
is reset; unplug nothing, its inputs are only looked at.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.scope.dialects import DIALECTS
from drivers.scope.scope import Scope
from drivers.scope.sim import SimScope
from drivers.serve import serve
from labctl.errors import InstrumentError, LabctlError, UsageError
from labctl.link import ScpiLink
from labctl.station import load_station
from labctl.transport import LinkTimeout, open_transport
from labctl.transport.loop import LoopTransport
from tests.hislip import HislipServer
from tests.scope.signals import Signals, sine
from tests.vxi11 import Vxi11Server


@dataclass
class Stand:
    """An oscilloscope, and how time passes for it."""

    scope: Scope
    advance: Callable[[float], None]


def simulated() -> tuple[SimScope, Signals]:
    nodes = Signals(a=sine(1e3, amplitude=0.5))
    return SimScope(nodes, {1: ("a", 10.0)}, lambda: nodes.triggers, seed=4), nodes


class ScopeContract:
    """Each backend brings a `stand`."""

    @pytest.fixture
    def scope(self, stand: Stand) -> Scope:
        stand.scope.reset()
        return stand.scope

    @staticmethod
    def acquire(stand: Stand, points: int = 1000) -> Scope:
        scope = stand.scope
        scope.channel(1, full_scale=4.0, probe=10.0)
        scope.timebase(1e-3, delay=-0.2e-3, points=points)
        scope.trigger(1, level=2.9)
        scope.arm()
        scope.force()
        stand.advance(2e-3)
        scope.wait(timeout=2.0)
        return scope

    def test_it_says_who_it_is(self, scope: Scope) -> None:
        assert scope.identify().count(",") >= 3
        assert scope.identify() == scope.identify()

    @pytest.mark.parametrize("full_scale", [0.08, 0.8, 4.0, 80.0])
    def test_a_channel_is_set_as_asked(self, scope: Scope, full_scale: float) -> None:
        got = scope.channel(1, full_scale=full_scale, offset=full_scale / 4, coupling="AC", probe=10.0)
        assert got.full_scale == pytest.approx(full_scale, rel=scope.dialect.rounding)
        assert got.offset == pytest.approx(full_scale / 4, abs=scope.dialect.rounding * full_scale)
        assert (got.coupling, got.probe) == ("AC", 10.0)

    @pytest.mark.parametrize(("span", "delay"), [(1e-6, 0.0), (5e-3, -1e-3), (0.1, 0.2)])
    def test_the_time_base_is_set_as_asked(self, scope: Scope, span: float, delay: float) -> None:
        got = scope.timebase(span, delay=delay)
        assert got.span == pytest.approx(span, rel=scope.dialect.rounding)
        assert got.delay == pytest.approx(delay, abs=scope.dialect.rounding * max(span, abs(delay)))

    @pytest.mark.parametrize("source", [1, "EXT"])
    @pytest.mark.parametrize("slope", ["rising", "falling"])
    def test_the_trigger_is_set_as_asked(self, scope: Scope, source: int | str, slope: str) -> None:
        scope.channel(1, full_scale=4.0, probe=1.0)
        assert scope.trigger(source, level=1.0, slope=slope) == pytest.approx(1.0, abs=0.1)  # type: ignore[arg-type]

    def test_what_it_cannot_do_is_refused_and_nothing_changes(self, scope: Scope) -> None:
        scope.channel(1, full_scale=4.0)
        for ask in (
            lambda: scope.channel(1, full_scale=0.0),
            lambda: scope.channel(99, full_scale=1.0),
            lambda: scope.timebase(-1.0),
            lambda: scope.trigger(1, level=100.0),
        ):
            with pytest.raises(UsageError):
                ask()
        scope.check()

    def test_a_wrong_command_is_reported_once(self, scope: Scope) -> None:
        scope.link.write(":THIS:IS:NO:COMMAND 1")
        with pytest.raises(InstrumentError, match="-113"):
            scope.check()
        scope.check()

    def test_a_trace_has_the_asked_length_and_place(self, stand: Stand, scope: Scope) -> None:
        trace = self.acquire(stand).fetch(1)
        assert len(trace.codes) == 1000
        assert trace.dt == pytest.approx(1e-6, rel=1e-3)
        assert trace.t0 == pytest.approx(-0.2e-3, abs=2e-6)
        assert np.ptp(trace.codes) < 250
        assert trace.scale == pytest.approx(4.0 / 256, rel=0.05)
        again = scope.fetch(1)
        assert np.array_equal(again.codes, trace.codes)

    def test_words_are_the_same_trace(self, stand: Stand, scope: Scope) -> None:
        self.acquire(stand)
        coarse, fine = scope.fetch(1), scope.fetch(1, word=True)
        assert np.abs(coarse.values - fine.values).max() <= coarse.scale

    def test_without_a_trigger_the_wait_ends_and_the_scope_is_stopped(self, stand: Stand, scope: Scope) -> None:
        scope.channel(1, full_scale=4.0)
        scope.timebase(1e-3)
        scope.trigger(1, level=2.9)
        scope.arm()
        with pytest.raises(InstrumentError, match="did not trigger"):
            scope.wait(timeout=0.1)
        query, done = scope.dialect.done
        assert done(scope.link.query(query))

    def test_after_a_timeout_the_next_answer_is_the_right_one(self, scope: Scope) -> None:
        for n in range(3):
            with pytest.raises(LinkTimeout):
                scope.link.query(":THIS:IS:NO:QUERY?", 0.3)
            assert scope.link.query(f"*ESE {n};*ESE?").lstrip("+") == str(n)
        with pytest.raises(LabctlError):
            scope.check()


class TestLoop(ScopeContract):
    @pytest.fixture
    def stand(self) -> Stand:
        sim, nodes = simulated()
        return Stand(Scope(ScpiLink(LoopTransport(sim), "scope"), DIALECTS["keysight-infiniivision"]), nodes.advance)


class TestVisaSocket(ScopeContract):
    @pytest.fixture
    def stand(self) -> Iterator[Stand]:
        sim, nodes = simulated()
        with serve(sim, "tcp://127.0.0.1:0") as server:
            host, port = server.address.removeprefix("tcp://").split(":")
            transport = open_transport(f"TCPIP::{host}::{port}::SOCKET")
            yield Stand(Scope(ScpiLink(transport, "scope"), DIALECTS["keysight-infiniivision"]), nodes.advance)
            transport.close()


class TestVisaHislip(ScopeContract):
    @pytest.fixture
    def stand(self) -> Iterator[Stand]:
        sim, nodes = simulated()
        server = HislipServer(sim)
        transport = open_transport(server.address)
        yield Stand(Scope(ScpiLink(transport, "scope"), DIALECTS["keysight-infiniivision"]), nodes.advance)
        transport.close()
        server.stop()


class TestVisaVxi11(ScopeContract):
    @pytest.fixture
    def stand(self) -> Iterator[Stand]:
        sim, nodes = simulated()
        server = Vxi11Server(sim)
        transport = open_transport(server.address)
        yield Stand(Scope(ScpiLink(transport, "scope"), DIALECTS["keysight-infiniivision"]), nodes.advance)
        transport.close()
        server.stop()


class TestBench(ScopeContract):
    @pytest.fixture
    def stand(self, request: pytest.FixtureRequest) -> Iterator[Stand]:
        name = request.config.getoption("--bench", None)
        if not name:
            pytest.skip("needs the oscilloscope of a bench: pytest --bench FILE.toml")
        station = load_station(str(name))
        if station.scope in ("", "sim", "loop"):
            pytest.skip(f"station {name} has no real oscilloscope")
        transport = open_transport(station.scope)
        yield Stand(Scope(ScpiLink(transport, "scope"), DIALECTS[station.dialect]), time.sleep)
        transport.close()


def test_all_ways_to_the_simulated_scope_show_the_same() -> None:
    """The same seed gives the same bytes in process and over PyVISA: raw socket, HiSLIP, VXI-11."""
    found = []
    for backend in (TestLoop, TestVisaSocket, TestVisaHislip, TestVisaVxi11):
        stands = backend.stand.__wrapped__(backend())  # type: ignore[attr-defined]
        stand = stands if isinstance(stands, Stand) else next(stands)
        stand.scope.reset()
        trace = backend.acquire(stand, points=1_000_000).fetch(1)
        found.append((trace.codes.tobytes(), trace.scale, trace.offset, trace.t0, trace.dt))
        if not isinstance(stands, Stand):
            assert next(stands, None) is None
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0][0]) == 1_000_000
