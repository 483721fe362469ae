"""The part of the simulated firmware that owns outputs, time and programs: converters, lines, counters, records."""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.dose_counters import DoseCounters
from drivers.fpga.messages import NONE, TICK, ErrorCode, Limit, LineKind, Source
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

DACS, COUNTERS, FIFO_DEPTH, SAMPLE_TICKS = 64, 32, 65536, 100
DAC_FULL_SCALE = 5.0
RANGES = (1e-6, 10e-6, 100e-6, 1e-3)
"""Full scale of each transimpedance range in amperes; 32767 codes each way."""
SLICE = 10_000_000
"""Longest stretch simulated at once, in ticks (100 ms); between two stretches an abort can act."""
PULSES_AT_ONCE = 5000
"""Pulses of a loop that are simulated at once; between two such an abort can act."""


class Plant(Protocol):
    """What the board's connectors lead to. Voltages in V, currents in A, times in ticks."""

    def drive(
        self, volts: NDArray[np.float64], lines: dict[LineKind, NDArray[np.intp]], changed: Sequence[int], routed: bool
    ) -> None:
        """Converter outputs (DACS,) and, per kind, each line's source (Source, or Source.DAC + converter); changed: the
        converters that moved, routed: whether lines were connected otherwise."""

    def advance(self, ticks: int) -> None:
        """Let time pass."""

    def spikes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The spikes since the last call as (ticks since then, counter), in order of time."""

    def mark(self) -> None:
        """Here the body of a loop begins."""

    def repeat(self, times: int) -> bool:
        """Do again, so many times, all that was driven and advanced since `mark`; False, and nothing done, where that
        cannot be had faster than step by step."""

    def current(self, kind: LineKind, line: int, bandwidth: float) -> float:
        """Current out of a line into its amplifier, with the chip's noise in `bandwidth` (Hz); out of the supply's
        monitor the mean since it was last asked."""

    def levels(self) -> int:
        """Which spike outputs are high now: bit k is counter k."""

    def trigger(self, tick: int) -> None:
        """The trigger output rises."""


class _Visit(NamedTuple):
    """How things were when a program last stood at a LOOP with iterations to go."""

    situation: tuple[object, ...]
    effects: int
    tick: int
    doses: NDArray[np.int64]


class Fault(Exception):
    """A request or an instruction that the board refuses."""

    def __init__(self, code: ErrorCode, detail: str, value: float = np.nan, limit: float = np.nan) -> None:
        super().__init__(detail)
        self.code, self.detail, self.value, self.limit = code, detail, value, limit


class Machine:
    """Outputs, clock, counters and the program counter of the simulated board."""

    def __init__(self, plant: Plant, lines: dict[LineKind, int]) -> None:
        self.plant = plant
        self.tick = 0
        self.codes = [0] * DACS
        self._volts = np.zeros(DACS)
        self.routes = {kind: np.full(n, _rest(kind), np.intp) for kind, n in lines.items()}
        self.counts = np.zeros(COUNTERS, np.int64)
        self.stamped = 0
        self.fifo: deque[tuple[int, int]] = deque()
        self.lost = 0
        self.records: deque[bytes] = deque()
        self.position = 0
        self.doses = DoseCounters(self.routes)
        self._limits: dict[int, list[Limit]] = {}
        self._register = [0] * REGISTERS
        self._collected = 0  # until when the plant's spikes were counted
        self._effects = 0  # counts what a program did that makes its loops more than holds
        self._visit: _Visit | None = None
        self._range = len(RANGES) - 1

    # outputs ---------------------------------------------------------------------------------------------------

    def set_limits(self, limits: tuple[Limit, ...]) -> None:
        """Replace the clamp table, unless present outputs violate it."""
        table: dict[int, list[Limit]] = {}
        for limit in limits:
            for channel in (limit.channel, limit.reference):
                if channel != NONE or channel == limit.channel:
                    self._channel(channel)
                    table.setdefault(channel, []).append(limit)
        old, self._limits = self._limits, table
        try:
            self.check(self.codes, range(DACS))
        except Fault:
            self._limits = old
            raise

    def check(self, codes: list[int], changed: Iterable[int]) -> None:
        """Raise LIMIT unless `codes` obeys every limit that names a changed converter."""
        for channel in changed:
            for limit in self._limits.get(channel, ()):
                value = codes[limit.channel] - (codes[limit.reference] if limit.reference != NONE else 0)
                if not limit.low <= value <= limit.high:
                    bound = limit.low if value < limit.low else limit.high
                    against = f" minus DAC {limit.reference}" if limit.reference != NONE else ""
                    raise Fault(ErrorCode.LIMIT, f"DAC {limit.channel}{against}", value, bound)

    def apply(self, dacs: dict[int, int], routes: list[tuple[int, int, int]]) -> None:
        """Set converters and lines at this tick, all or none, and let them settle."""
        codes = self.codes.copy()
        for channel, code in dacs.items():
            self._channel(channel)
            if not 0 <= code <= 65535:
                raise Fault(ErrorCode.LIMIT, f"DAC {channel}", code, 0 if code < 0 else 65535)
            codes[channel] = code
        self.check(codes, list(dacs))
        for kind, line, source in routes:
            if kind not in self.routes or line >= len(self.routes[LineKind(kind)]):
                raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"line kind {kind}, line {line}", line)
            self._source(LineKind(kind), source)
        self.codes = codes
        for kind, line, source in routes:
            self.routes[LineKind(kind)][line] = source
        if routes:
            self.doses.rerouted()
        self._drive(list(dacs), bool(routes))
        self._pass(SETTLE)

    def safe(self) -> None:
        """Outputs to 0 in the defined order: BL and SL drives, gates, lines to rest, converters downwards."""
        for kinds in ((LineKind.BL, LineKind.SL), (LineKind.WL,)):
            driven = {int(s) - Source.DAC for kind in kinds for s in self.routes[kind] if s >= Source.DAC}
            if any(self.codes[channel] for channel in driven):
                self._set_now(dict.fromkeys(driven, 0))
                self._pass(SETTLE)
        if not self._is_at_rest():
            for kind, routes in self.routes.items():
                routes[:] = _rest(kind)
            self.doses.rerouted()
            self._drive((), True)
            self._pass(SETTLE)
        for channel in reversed(range(DACS)):
            if self.codes[channel]:
                self._set_now({channel: 0})
                self._pass(SETTLE)

    @property
    def is_safe(self) -> bool:
        """All converters at 0, all lines grounded, all switches open."""
        return not any(self.codes) and self._is_at_rest()

    def _is_at_rest(self) -> bool:
        return all((routes == _rest(kind)).all() for kind, routes in self.routes.items())

    def _source(self, kind: LineKind, source: int) -> None:
        if kind == LineKind.VDD:
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, "the supply's monitor is always connected", source)
        if kind in (LineKind.OUT, LineKind.THR):
            if source != Source.FLOAT and not 0 <= source - Source.NEURON < COUNTERS:
                raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"{kind.name} cannot be connected to source", source)
        elif source not in (Source.FLOAT, Source.GROUND, Source.SENSE):
            self._channel(source - Source.DAC)

    def _channel(self, channel: int) -> None:
        if not 0 <= channel < DACS:
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"converter {channel}; there are 0 … {DACS - 1}", channel, DACS - 1)

    def _set_now(self, dacs: dict[int, int]) -> None:
        for channel, code in dacs.items():
            self.codes[channel] = code
        self._drive(list(dacs), False)

    def _drive(self, changed: Sequence[int], routed: bool) -> None:
        for channel in changed:
            self._volts[channel] = self.codes[channel] * (DAC_FULL_SCALE / 65535)
        self.plant.drive(self._volts, self.routes, changed, routed)

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
        routes = tuple(of.tobytes() for of in self.routes.values())
        situation = (self.position, tuple(self.codes), routes, others, staged)
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
        codes = self.codes.copy()
        for channel, code in high.items():
            self._channel(channel)
            if not 0 <= code <= 65535:
                raise Fault(ErrorCode.LIMIT, f"DAC {channel}", code, 0 if code < 0 else 65535)
            codes[channel] = code
        self.check(codes, list(high))
        if item.gate != NONE:
            self._set_now({item.gate: high[item.gate]})
            yield from self._wait(lead)
        self.doses.pulse(item.drive, item.gate, self.codes)
        self._set_now({item.drive: level})
        yield from self._wait(width)
        self._set_now({item.drive: 0})
        if item.gate != NONE:
            yield from self._wait(lag)
            self._set_now({item.gate: 0})
        if item.log:
            self._record(Kind.PULSE, width, level, item.tag)

    def _sample(self, item: Read) -> int:
        if item.kind not in self.routes or item.line >= len(self.routes[LineKind(item.kind)]):
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"line kind {item.kind}, line {item.line}", item.line)
        if item.range != NONE and item.range >= len(RANGES):
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"range {item.range}", item.range, len(RANGES) - 1)
        if item.average == 0:
            raise Fault(ErrorCode.LIMIT, "conversions averaged", 0, 1)
        kind = LineKind(item.kind)
        ticks = SAMPLE_TICKS * item.average
        if self.routes[kind][item.line] != Source.SENSE:
            self._pass(ticks)
            self._record(Kind.SAMPLE, 0, 0, item.tag, SampleFlag.FLOATING)
            return 0
        self.doses.read(kind, item.line, self.codes)
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


def _rest(kind: LineKind) -> Source:
    """What a line is connected to in the safe state."""
    return {LineKind.OUT: Source.FLOAT, LineKind.THR: Source.FLOAT, LineKind.VDD: Source.SENSE}.get(kind, Source.GROUND)


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
