"""The bench: the instruments together, what the station wires to what, the limits, and the safe state.

A protocol speaks to the bench in the names of the chip (biases, neurons, rows and columns); the bench knows which
converter, line and scope channel that is, checks the limits before anything is sent, and has the board enforce them.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.cell import CellLoop, CellPort
from drivers.doses import Begun, CellDoses
from drivers.fpga.board import Board, Reading, SpikeTrain
from drivers.fpga.program import RECORD, Count, Delay, End, Instruction, Kind, Stamp, Trigger
from drivers.limits import Limits, pin_of
from drivers.scope.dialects import DIALECTS
from drivers.scope.scope import Scope
from labctl.abort import AbortSignal
from labctl.errors import BenchError, LimitError, StationError, UsageError
from labctl.link import FrameLink, ScpiLink
from labctl.offline import Recorded
from labctl.protocol import Trace
from labctl.quantity import si
from labctl.station import Station, load_station
from labctl.transport import Transport, open_transport
from labctl.transport.tape import Recorder, Tape, TapeTransport

MAX_TICKS = 2_000_000_000
"""Longest single delay or gate, in ticks (20 s at 10 ns); longer times are several."""
DELAYS = 5000
"""Delays that fit into the board's program memory at once: 1e5 s."""
POWER_UP = 1e-3
"""Seconds that biases get to settle before a protocol goes on."""


class Bench:
    """One bench, opened from a station. Use as a context manager; `connect` before the first measurement."""

    offline: Recorded | None = None
    """How the questions fit the recording, where a recording answers."""

    def __init__(
        self,
        station: Station,
        board_transport: Transport,
        scope_transport: Callable[[], Transport],
        *,
        seed: int = 0,
        close: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.station = station
        self.seed = seed
        self.limits = Limits(station)
        self.abort = AbortSignal()
        self.board = Board(FrameLink(board_transport, "board"))
        self._scope_transport = scope_transport
        self._scope: Scope | None = None
        self._scope_is_fresh = False
        self._recorder: Recorder | None = None
        self._close = close
        self._sleep = sleep
        self._volts: dict[str, float] = {}
        self._powered = False
        self.doses = CellDoses(self)

    # opening and closing -----------------------------------------------------------------------------------------

    def begin(
        self, recorder: Recorder | None, session: int, abort: AbortSignal, folder: Path | None = None
    ) -> dict[str, str]:
        """Start a run from a known state: new session, every transaction to `recorder`; return who answers.

        folder: where the run is recorded, and the dose ledger of a chip with an id kept.
        """
        self.abort = abort
        self.doses.begin(recorder, folder)
        self._recorder = recorder
        self.board.link.recorder = recorder
        if self._scope is not None:
            self._scope.link.recorder = recorder
            self._scope_is_fresh = False
        return {"board": self.board.connect(session).text}

    def resume(self, finished: Sequence[tuple[int, int]], begun: Begun | None) -> None:
        """Go on where another run was cut off: leave these cells out, that one was begun."""
        self.doses.resume(finished, begun)

    def end(self) -> None:
        """Stop recording."""
        self._recorder = None
        self.doses.end()
        self.board.link.recorder = None
        if self._scope is not None:
            self._scope.link.recorder = None
        self.abort = AbortSignal()

    def close(self) -> None:
        """Release all instruments."""
        try:
            if self._scope is not None:
                self._scope.link.transport.close()
            self.board.close()
        finally:
            self._close()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def scope(self) -> Scope:
        """The oscilloscope, connected and reset at its first use in a run; raises `StationError` without one."""
        if self._scope is None:
            if not self.station.scope:
                raise StationError(f"station {self.station.name} has no oscilloscope; add [scope] to its file")
            if self.station.dialect not in DIALECTS:
                known = ", ".join(DIALECTS)
                raise StationError(
                    f"station {self.station.name}: no dialect {self.station.dialect!r}; there are {known}"
                )
            link = ScpiLink(self._scope_transport(), "scope")
            self._scope = Scope(link, DIALECTS[self.station.dialect], self._sleep)
        if not self._scope_is_fresh:
            self._scope.link.recorder = self._recorder
            self._scope.identify()
            self._scope.reset()
            self._scope_is_fresh = True
        return self._scope

    # power, biases, inputs ---------------------------------------------------------------------------------------

    @contextmanager
    def powered(self, **biases: float) -> Iterator["Bench"]:
        """Power the chip with the station's biases (`biases` override them); leave everything safe, however it ends.

        Raises `LimitError` before anything is sent when a bias is out of limits.
        """
        unknown = next((name for name in biases if name not in self.station.biases), None)
        if unknown:
            raise UsageError(f"there is no bias {unknown!r}; the chip has {', '.join(self.station.biases)}")
        volts = {pin_of(name): value for name, value in {**self.station.biases, **biases}.items()}
        volts |= {f"IN{k}": 0.0 for k in range(self.station.chip.neurons)}
        self.check(volts)
        self.board.set_limits(
            [
                (
                    self.station.converter(r.pin),
                    self.station.converter(r.reference) if r.reference else None,
                    r.low,
                    r.high,
                )
                for r in self.limits.rules
            ]
        )
        self.board.lease()
        self._powered = True
        failed = True
        try:
            self._set(volts)
            self.wait(POWER_UP)
            yield self
            failed = False
        finally:
            self._powered = False
            self._volts = {}
            try:
                self.board.safe()
                self.doses.close()
            except BenchError:
                if not failed:  # the error already on its way says more
                    raise

    def bias(self, **biases: float) -> None:
        """Change biases, all at the same tick: ``bench.bias(v_thr=1.8)``; raises `LimitError` before sending."""
        self._set({pin_of(name): value for name, value in biases.items()})

    def inject(self, neuron: int, i_syn: float) -> None:
        """Drive an input neuron with a constant current (A) through its synaptic resistance.

        V_in = V_ref + I·R_syn; 0 A puts the pad at V_ref. Raises `LimitError` before sending.
        """
        self.inputs({neuron: i_syn})

    def inputs(self, i_syn: Mapping[int, float]) -> None:
        """Drive several input neurons (number → A) from the same tick on, as `inject` does with one."""
        self._set({f"IN{neuron}": self.v_in(neuron, current) for neuron, current in i_syn.items()})

    def v_in(self, neuron: int, i_syn: float) -> float:
        """The voltage at an input neuron's pad that drives `i_syn` A at the present V_ref; raises `LimitError`."""
        limit = self.station.limits["i_syn"]
        if not 0 <= i_syn <= limit:
            raise LimitError(f"i_syn = {si(i_syn, 'A')} is outside 0 A … {si(limit, 'A')}, what the LDO can give")
        pin = f"IN{neuron}"
        volts = self.volts("VREF") + i_syn * self.r_syn(neuron)
        self.check({pin: volts})
        return volts

    def volts(self, pin: str) -> float:
        """What a bias pin or an input is set to now, in V; raises `UsageError` without power."""
        if not self._powered:
            raise UsageError("the chip has no power; do this inside `with bench.powered():`")
        return self._volts[pin]

    def r_syn(self, neuron: int) -> float:
        """The resistance in front of an input neuron, in Ω."""
        if not 0 <= neuron < self.station.chip.neurons:
            raise UsageError(f"there is no input neuron {neuron}; the chip has 0 … {self.station.chip.neurons - 1}")
        return self.station.chip.r_syn[neuron]

    def check(self, volts: Mapping[str, float]) -> None:
        """Raise `LimitError` unless the outputs would stay within the limits with these pins at `volts`."""
        self.limits.check(self._volts, volts)

    def _set(self, volts: Mapping[str, float]) -> None:
        if not self._powered:
            raise UsageError("the chip has no power; do this inside `with bench.powered():`")
        self.check(volts)
        self.board.set_dacs({self.station.converter(pin): value for pin, value in volts.items()})
        self._volts |= volts

    @property
    def is_new_chip(self) -> bool:
        """Whether this bench simulates a chip that remembers nothing of earlier benches."""
        return self.station.board == "sim" and "state" not in self.station.simulation

    def self_check(self) -> Iterator[tuple[str, str, bool]]:
        """Look after the bench without moving an output: (what, finding, whether it is as it should be)."""
        maker, model, serial, firmware, calibration, date = (self.board.identity.text + ",,,,,").split(",")[:6]
        yield "board", f"{maker} {model}, serial {serial}, firmware {firmware}", True
        yield "board calibration", f"{calibration}, {date}", True
        for name, finding in self.board.self_test().items():
            yield f"board {name}", finding, finding == "ok" or name == "clock"
        ranges = ", ".join(si(item.full_scale, "A") for item in self.board.ranges.ranges)
        yield "board current ranges", ranges, True
        status = self.board.status()
        yield "board outputs", "safe" if status.safe else "not safe", status.safe
        chip, identity = self.station.chip, self.board.identity
        beyond = [pin for pin, converter in self.station.converters.items() if converter >= identity.dacs]
        wired = f"{len(self.station.converters)} wired" + (f", beyond the board: {', '.join(beyond)}" if beyond else "")
        yield "converters", wired, not beyond
        needed, there = (
            (chip.rows, chip.columns, chip.neurons),
            (identity.word_lines, identity.bit_lines, identity.counters),
        )
        fits = all(need <= has for need, has in zip(needed, there, strict=True))
        yield "chip", f"{chip.name}: {chip.neurons} input neurons, {chip.rows} × {chip.columns} cells", fits
        try:
            self.check({pin_of(name): value for name, value in self.station.biases.items()})
            yield "biases within limits", ", ".join(f"{k} {si(v, 'V')}" for k, v in self.station.biases.items()), True
        except LimitError as error:
            yield "biases within limits", str(error), False
        if self.station.scope:
            identity_text = self.scope.identify()
            yield "scope", f"{identity_text} as {self.station.dialect}", True
            yield "scope probes", ", ".join(f"{k}: {node}" for k, node in self.station.probes.items()), True

    # measuring ---------------------------------------------------------------------------------------------------

    def records(self, program: Sequence[Instruction]) -> Iterator[NDArray[np.void]]:
        """Run a board program; its records in blocks as they come. An abort ends it and leaves the bench safe."""
        self.abort.check()
        return self.board.run(program, self.abort.check)

    def readings(self, program: Sequence[Instruction]) -> Iterator[Reading]:
        """Run a board program; its current readings as they come."""
        for block in self.records(program):
            yield from self.board.readings(block)

    def run(self, program: Sequence[Instruction]) -> NDArray[np.void]:
        """Run a board program to its end; all its records."""
        return np.concatenate([*self.records(program), np.zeros(0, RECORD)])

    def wait(self, seconds: float) -> None:
        """Let time pass on the bench's clock."""
        pieces = self.pieces(seconds)
        for start in range(0, max(len(pieces), 1), DELAYS):
            self.run([*(Delay(ticks) for ticks in pieces[start : start + DELAYS]), End()])

    def now(self) -> float:
        """The bench's clock, in s since the board was switched on."""
        return self.board.status().tick * self.board.identity.tick

    def count(
        self, neurons: Sequence[int], gate: float, *, settle: float = 0.0, stamps: bool = False, trigger: bool = False
    ) -> "SpikeCounts":
        """Count the spikes of `neurons` during `gate` seconds, after `settle` seconds, with the board's timing.

        stamps: also take each spike's time. trigger: raise the board's trigger output when the gate opens.
        """
        mask = sum(1 << neuron for neuron in set(neurons))
        program: list[Instruction] = [Delay(ticks) for ticks in self.pieces(settle)]
        program += [Trigger(100)] if trigger else []
        program += [Stamp(mask if stamps else 0)]
        pieces = self.pieces(gate)
        program += [Count(ticks, mask, 0) for ticks in pieces]
        records = self.run([*program, Stamp(0), End()])
        counts = records[records["kind"] == Kind.COUNT]
        totals = {neuron: int(counts["value"][counts["aux"] == neuron].sum()) for neuron in neurons}
        closed = float(records["tick"][-1]) * self.board.identity.tick
        train = self.board.spikes() if stamps else SpikeTrain(np.zeros(0), np.zeros(0, np.uint8), 0)
        return SpikeCounts(totals, sum(pieces) * self.board.identity.tick, closed - gate, train)

    def look_at(self, node: str, *, span: float, full_scale: float, offset: float) -> None:
        """Set the scope's channel on `node` for `span` s after the board's next trigger, and arm it.

        full_scale and offset: the screen's height and centre in V. Raises `StationError` where no probe is on `node`.
        """
        channel = self.station.probe(node)
        scope = self.scope
        scope.channel(channel, full_scale=full_scale, offset=offset, probe=self.station.attenuation.get(channel, 1.0))
        scope.timebase(span)
        scope.trigger("EXT", level=1.0, slope="rising")
        scope.arm()

    def seen(self, node: str) -> Trace:
        """The trace that the scope took on `node` since `look_at`; raises `InstrumentError` when it did not trigger."""
        self.scope.wait(self.abort.check)
        return replace(self.scope.fetch(self.station.probe(node)), name=node.rstrip("0123456789").lower())

    def cell(self, row: int, column: int) -> CellPort:
        """The 1T1R cell at a row (word and source line) and a column (bit line); raises `UsageError`."""
        return CellPort(self, row, column)

    def cells(self, rows: Sequence[int], columns: Sequence[int], *, revisit: bool = False) -> CellLoop:
        """The cells at these rows and columns, to loop over (see `CellLoop`); raises `UsageError`."""
        return CellLoop(self, rows, columns, revisit)

    def ticks(self, seconds: float) -> int:
        """`seconds` on the board's clock; raises `UsageError` for times it cannot make."""
        tick = self.board.identity.tick
        ticks = round(seconds / tick) if math.isfinite(seconds) else -1
        if ticks < 0 or (ticks == 0 and seconds > 0):
            raise UsageError(f"{si(seconds, 's')} is no time the board can make; its clock ticks every {si(tick, 's')}")
        return ticks

    def pieces(self, seconds: float) -> list[int]:
        """`seconds` as delays that one instruction can hold, in ticks."""
        whole, rest = divmod(self.ticks(seconds), MAX_TICKS)
        return [MAX_TICKS] * whole + [rest] * (rest > 0)


@dataclass(frozen=True)
class SpikeCounts:
    """Counted spikes a neuron, the gate (s), when it opened (s, the board's clock), and the time stamps if asked."""

    counts: Mapping[int, int]
    gate: float
    opened: float
    train: SpikeTrain

    def rate(self, neuron: int) -> float:
        """Spikes per second within the gate, in Hz."""
        return self.counts[neuron] / self.gate

    def isi(self, neuron: int) -> NDArray[np.float64]:
        """Inter-spike intervals in s, from the time stamps."""
        return np.diff(self.train.t[self.train.counter == neuron])


def open_bench(station: str | Station = "sim", *, seed: int = 0, connect: bool = True) -> Bench:
    """Open the bench of a station (built-in name, file, or `Station`). Raises `StationError` and `LinkError`.

    A recorded run, FILE.h5, is a bench too: its instruments answer from the recording (`drivers.recording`).
    seed: of the simulated chip, where the station simulates one. connect: also ask who is there.
    """
    if isinstance(station, str) and not station.endswith(".h5"):
        station = load_station(station)
    if isinstance(station, str):
        from drivers.recording import recorded_bench

        bench = recorded_bench(station)
    elif station.board == "sim":
        from drivers.simulation import Simulation

        simulation = Simulation(station, seed)
        bench = Bench(
            station, simulation.board_transport(), simulation.scope_transport, seed=seed, close=simulation.close
        )
    else:
        address = station.scope
        bench = Bench(station, open_transport(station.board), lambda: open_transport(address), seed=seed)
    if connect:
        try:
            bench.begin(None, _session(), AbortSignal())
        except BaseException:
            bench.close()
            raise
    return bench


def tape_bench(station: Station, tape: Tape, seed: int = 0) -> Bench:
    """A bench whose instruments answer from a recording."""
    scope = TapeTransport(tape, "scope")  # a recording does not keep anyone waiting
    return Bench(station, TapeTransport(tape, "board"), lambda: scope, seed=seed, sleep=lambda seconds: None)


def _session() -> int:
    import secrets

    return secrets.randbelow(2**32)
