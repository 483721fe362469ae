"""The part of the simulated firmware that owns outputs, time and programs: converters, lines, counters, records."""

import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import NONE, TICK, ErrorCode, LineKind, Source
from drivers.fpga.outputs import COUNTERS, Fault, Outputs, Route
from drivers.fpga.plant import Plant
from drivers.fpga.program import (
    OVERRANGE_REGISTER,
    RECORD,
    REGISTER,
    REGISTERS,
    SAMPLE_UNIT,
    SETTLE,
    Add,
    Branch,
    Commit,
    Condition,
    Connect,
    Count,
    Dac,
    Delay,
    Emit,
    End,
    Instruction,
    Kind,
    Levels,
    Loop,
    Pulse,
    Read,
    SampleFlag,
    Set,
    Stamp,
    Tally,
    Trigger,
)

FIFO_DEPTH, SAMPLE_TICKS = 65536, 100
RANGES = (1e-6, 10e-6, 100e-6, 1e-3)
"""Full scale of each transimpedance range in amperes; 32767 codes each way."""
SLICE = 10_000_000
"""Longest stretch simulated at once, in ticks (100 ms); between two stretches an abort can act."""
PULSES_AT_ONCE = 5000
"""Pulses of a loop that are simulated at once; between two such an abort can act."""


class _Visit(NamedTuple):
    """How things were when a program last stood at a LOOP with iterations to go."""

    situation: tuple[object, ...]
    effects: int
    tick: int
    doses: NDArray[np.int64]


class Machine:
    """Outputs, clock, counters and the program counter of the simulated board."""

    def __init__(self, plant: Plant, lines: dict[LineKind, int]) -> None:
        self.plant = plant
        self.tick = 0
        self.outputs = Outputs(lines)
        self.doses = self.outputs.doses
        self.counts = np.zeros(COUNTERS, np.int64)
        self.stamped = 0
        self.fifo: deque[tuple[int, int]] = deque()
        self.lost = 0
        self.records: deque[bytes] = deque()
        self.position = 0
        self._register = [0] * REGISTERS
        self._collected = 0  # until when the plant's spikes were counted
        self._effects = 0  # counts what a program did that makes its loops more than holds
        self._visit: _Visit | None = None
        self._range = len(RANGES) - 1

    def apply(self, dacs: dict[int, int], routes: list[Route]) -> None:
        """Set converters and lines at this tick, all or none, and let them settle."""
        self.outputs.accept(dacs, routes)
        self._set(dacs, routes)
        self._pass(SETTLE)

    def safe(self) -> None:
        """Make the outputs safe, in the defined order."""
        for dacs, routes in self.outputs.to_safety():
            self._set(dacs, routes)
            self._pass(SETTLE)

    def _set(self, dacs: dict[int, int], routes: Sequence[Route] = ()) -> None:
        self.outputs.set(dacs, routes)
        self.plant.drive(self.outputs.volts, self.outputs.routes, list(dacs), bool(routes))

    # time ------------------------------------------------------------------------------------------------------

    def _pass(self, ticks: int) -> None:
        self.plant.advance(ticks)
        self.tick += ticks
        if self.tick - self._collected >= SLICE:
            self.collect()

    def collect(self) -> None:
        """Count the spikes until now, and keep the stamps of those that are wanted."""
        at, counters = self.plant.spikes()
        since, self._collected = self._collected, self.tick
        if len(at):
            self.counts += np.bincount(counters, minlength=COUNTERS)
            if self.stamped:
                at = np.minimum(at + since, self.tick - 1)
                wanted = (self.stamped >> counters.astype(np.int64)) & 1 == 1
                events = list(zip(at[wanted].tolist(), counters[wanted].tolist(), strict=True))
                room = FIFO_DEPTH - len(self.fifo)
                self.fifo.extend(events[:room])
                self.lost += max(0, len(events) - room)

    def _wait(self, ticks: int) -> Iterator[int]:
        """Let time pass in slices; yields the cost of each."""
        while ticks > 0:
            step = min(ticks, SLICE)
            self._pass(step)
            ticks -= step
            yield 1 + 50 * step // SLICE

    # programs --------------------------------------------------------------------------------------------------

    def _value(self, operand: int) -> int:
        return self._register[operand - REGISTER] if REGISTER <= operand < REGISTER + REGISTERS else operand

    def _time(self, operand: int) -> int:
        ticks = self._value(operand)
        if ticks < 0:
            raise Fault(ErrorCode.LIMIT, "a time", ticks, 0)
        return ticks

    def _record(self, kind: Kind, value: int, aux: int, tag: int, flags: int = 0) -> None:
        self.records.append(_RECORD.pack(self.tick, value, aux, tag, kind, flags))

    def _keep_counts(self, counts: NDArray[np.int64], mask: int, tag: int) -> None:
        for counter in range(COUNTERS):
            if mask >> counter & 1:
                self._record(Kind.COUNT, int(counts[counter]), counter, tag)

    def run(self, listing: dict[int, tuple[Instruction, int]]) -> Iterator[int]:
        """Execute a program; yields the cost of each step (1: some 0.1 ms), so that the caller can stop in between."""
        self._register = [0] * REGISTERS
        self._visit = None
        self.collect()
        self.stamped = 0
        self.position = 0
        dacs: dict[int, int] = {}
        routes: list[tuple[int, int, int]] = []
        value = self._value
        while True:
            item, following = listing[self.position]
            if type(item) not in _HOLDS or getattr(item, "log", False):
                self._effects += 1
            match item:
                case Dac():
                    dacs[item.channel] = value(item.level)
                case Connect():
                    routes.append((item.kind, item.line, item.source))
                case Commit():
                    self.apply(dacs, routes)
                    dacs, routes = {}, []
                case Delay():
                    yield from self._wait(self._time(item.ticks))
                case Pulse():
                    yield from self._pulse(item)
                case Read():
                    self._register[item.register] = self._sample(item)
                case Set():
                    self._register[item.register] = value(item.value)
                case Add():
                    total = self._register[item.register] + value(item.value)
                    if not -(2**31) <= total < 2**31:
                        raise Fault(ErrorCode.LIMIT, f"register {item.register}", total, 2**31 - 1)
                    self._register[item.register] = total
                case Branch():
                    if _CONDITIONS[item.condition](value(item.a), value(item.b)):
                        following = item.target
                case Loop():
                    self._register[item.register] -= 1
                    if self._register[item.register] > 0:
                        yield from self._repeat(item.register, (tuple(dacs.items()), tuple(routes)))
                        following = item.target if self._register[item.register] else following
                case Emit():
                    self._record(Kind.VALUE, value(item.value), 0, item.tag)
                case Trigger():
                    self._time(item.width)
                    self.plant.trigger(self.tick)
                case Count():
                    self.collect()
                    before = self.counts.copy()
                    yield from self._wait(self._time(item.gate))
                    self.collect()
                    self._keep_counts(self.counts - before, item.mask, item.tag)
                case Tally():
                    self.collect()
                    self._keep_counts(self.counts % 2**31, item.mask, item.tag)
                case Levels():
                    self._record(Kind.LEVELS, 0, self.plant.levels() & item.mask, item.tag)
                case Stamp():
                    self.collect()
                    self.stamped = item.mask
                case End():
                    return
            self.position = following
            yield 1

    def _repeat(self, register: int, staged: tuple[object, ...]) -> Iterator[int]:
        """At a LOOP: where the last iteration did nothing but hold lines, and all is as it was before it, every further
        one is the same; carry out those that are left at once, as far as the plant can."""
        others = (*self._register[:register], *self._register[register + 1 :])
        routes = tuple(of.tobytes() for of in self.outputs.routes.values())
        situation = (self.position, tuple(self.outputs.codes), routes, others, staged)
        last = self._visit
        if last is not None and (last.effects, last.situation) == (self._effects, situation):
            ticks, doses = self.tick - last.tick, self.doses.counts - last.doses
            given = int(doses[0].max(initial=0)) + 1
            while (left := self._register[register]) > 0 and ticks:
                times = min(left, max(1, SLICE // ticks), max(1, PULSES_AT_ONCE // given))
                if not self.plant.repeat(times):
                    break
                self._register[register] -= times
                self.tick += times * ticks
                self.doses.counts += times * doses
                if self.tick - self._collected >= SLICE:
                    self.collect()
                yield 1 + 50 * times * ticks // SLICE + times * given // 25
        self._visit = _Visit(situation, self._effects, self.tick, self.doses.counts.copy())
        self.plant.mark()

    def _pulse(self, item: Pulse) -> Iterator[int]:
        level, width, lead, lag = (
            self._value(item.level),
            self._time(item.width),
            self._time(item.lead),
            self._time(item.lag),
        )
        high = {item.drive: level}
        if item.gate != NONE:
            high[item.gate] = self._value(item.gate_level)
        self.outputs.accept(high)
        if item.gate != NONE:
            self._set({item.gate: high[item.gate]})
            yield from self._wait(lead)
        self.doses.pulse(item.drive, item.gate, self.outputs.codes)
        self._set({item.drive: level})
        yield from self._wait(width)
        self._set({item.drive: 0})
        if item.gate != NONE:
            yield from self._wait(lag)
            self._set({item.gate: 0})
        if item.log:
            self._record(Kind.PULSE, width, level, item.tag)

    def _sample(self, item: Read) -> int:
        self.outputs.line(item.kind, item.line)
        if item.range != NONE and item.range >= len(RANGES):
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"range {item.range}", item.range, len(RANGES) - 1)
        if item.average == 0:
            raise Fault(ErrorCode.LIMIT, "conversions averaged", 0, 1)
        kind = LineKind(item.kind)
        ticks = SAMPLE_TICKS * item.average
        if self.outputs.routes[kind][item.line] != Source.SENSE:
            self._pass(ticks)
            self._record(Kind.SAMPLE, 0, 0, item.tag, SampleFlag.FLOATING)
            return 0
        self.doses.read(kind, item.line, self.outputs.codes)
        chosen = self._range if item.range == NONE else item.range
        if kind == LineKind.VDD:  # its mean begins here
            self.plant.current(kind, item.line, 0.0)
        while True:
            self._pass(ticks)
            exact = self.plant.current(kind, item.line, 1 / (2 * ticks * TICK))
            code = round(exact / RANGES[chosen] * 32767)
            if item.range == NONE and abs(code) > 32767 and chosen < len(RANGES) - 1:
                chosen += 1
            elif item.range == NONE and abs(code) < 3000 and chosen > 0:
                chosen -= 1
                if abs(exact) > RANGES[chosen]:  # noise at the edge must not swing it for ever
                    chosen += 1
                    break
            else:
                break
        if item.range == NONE:
            self._range = chosen
        flags = 0
        if abs(code) > 32767:
            code, flags = 32767 if code > 0 else -32767, SampleFlag.OVER
        elif abs(code) < 8:
            flags = SampleFlag.BELOW
        self._record(Kind.SAMPLE, code, chosen, item.tag, flags)
        if flags == SampleFlag.OVER:
            return OVERRANGE_REGISTER if code > 0 else -OVERRANGE_REGISTER
        return round(code / 32767 * RANGES[chosen] / SAMPLE_UNIT)


_HOLDS = frozenset((Dac, Connect, Commit, Delay, Pulse, Loop))
"""Instructions that do no more than hold lines for some time (a pulse that is logged does more)."""
_RECORD = struct.Struct("<QiIHBB")
assert _RECORD.size == RECORD.itemsize
_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    Condition.ALWAYS: lambda a, b: True,
    Condition.EQ: lambda a, b: a == b,
    Condition.NE: lambda a, b: a != b,
    Condition.LT: lambda a, b: a < b,
    Condition.LE: lambda a, b: a <= b,
    Condition.GT: lambda a, b: a > b,
    Condition.GE: lambda a, b: a >= b,
}
