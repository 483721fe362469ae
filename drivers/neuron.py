"""Input neurons of the chip: currents and pulse trains on IN, spikes of OUT counted, pictures of MEM and OUT.

One port drives one or several neurons from the same tick on. Everything with a time in it is a program of the board.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.board import SpikeTrain
from drivers.fpga.messages import NONE, LineKind, Source
from drivers.fpga.program import (
    SETTLE,
    Commit,
    Dac,
    Delay,
    End,
    Kind,
    Levels,
    Loop,
    Read,
    Set,
    Stamp,
    Tally,
    Trigger,
    length,
)
from labctl.analysis.waveforms import needs_interval
from labctl.errors import InstrumentError, LimitError, MeasurementError, UsageError
from labctl.protocol import Trace
from labctl.quantity import si

if TYPE_CHECKING:
    from drivers.bench import Bench

RISE = 0.1
"""Seconds in which a membrane rises from 0 to rest at the typical V_taup (8 ms), with room for other biases."""

SHORT_RECORD, LONG_RECORD = 5_000, 1_000_000
"""Points of the shortest and the longest record that is fetched."""
CLIPPED = 1e-3
"""Part of the samples that may be beyond the screen: noise, not signal."""
SAMPLES = 8
"""Points that the shortest thing to be seen must have."""


class View(NamedTuple):
    """What the scope shows of a node: screen height and centre, in V."""

    node: str
    full_scale: float = 4.0
    offset: float = 1.5


@dataclass(frozen=True)
class Response:
    """What neurons did during a pulse train: spikes by neuron, the train's length (s), when each spike came (s after
    the first onset; only where stamps were asked), and the board's clock at the first onset (s)."""

    counts: Mapping[int, int]
    duration: float
    train: SpikeTrain
    onset: float

    def times(self, neuron: int) -> NDArray[np.float64]:
        """(k,) times of a neuron's spikes in s after the first onset."""
        return np.asarray(self.train.t[self.train.counter == neuron] - self.onset)

    def isi(self, neuron: int) -> NDArray[np.float64]:
        """(k − 1,) inter-spike intervals of a neuron in s."""
        return np.diff(self.times(neuron))


class NeuronPort:
    """Some input neurons, driven together. Use inside ``with bench.powered():``."""

    def __init__(self, bench: "Bench", *numbers: int) -> None:
        self._bench = bench
        self.numbers = numbers
        self._views: tuple[View, ...] = ()
        self._mask = 0
        for number in numbers:
            bench.r_syn(number)  # raises for a neuron that is not there
            self._mask |= 1 << number

    # stimuli -----------------------------------------------------------------------------------------------------

    def inject(self, i_syn: float) -> None:
        """Drive all neurons of the port with a constant current (A)."""
        self._bench.inputs(dict.fromkeys(self.numbers, i_syn))

    def release(self) -> None:
        """No current: IN at V_ref."""
        self.inject(0.0)

    def rest(self, seconds: float = RISE) -> None:
        """Bring the membranes to V_rest from below, whatever they were at: fire once by a threshold at 0, and wait."""
        v_thr = self._bench.volts("VTHR")
        self.release()
        self._bench.bias(v_thr=0.0)
        self._bench.wait(100e-6)
        self._bench.bias(v_thr=v_thr)
        self._bench.wait(seconds)

    def pulses(
        self,
        i_syn: float,
        width: float,
        period: float,
        count: int = 1,
        *,
        stamps: bool = False,
        trigger: bool = False,
        lead: float = 0.0,
        tail: float = 0.0,
    ) -> Response:
        """Apply `count` pulses of `i_syn` A, `width` s long, one each `period` s, with IN at 0 V between them.

        Spikes are counted from the first onset to the end of the last period plus `tail` s. trigger: raise the board's
        trigger output at the first onset. lead: s before it, already at 0 V. Raises `LimitError`, `UsageError` before
        anything is applied.
        """
        bench, settle = self._bench, SETTLE
        on, off = bench.ticks(width) - settle, bench.ticks(period) - bench.ticks(width) - settle
        if on < 0 or off < 0 or count < 1:
            tick = bench.board.identity.tick
            raise UsageError(
                f"{count} pulses of {si(width, 's')} each {si(period, 's')} cannot be made: an output settles in"
                f" {si(settle * tick, 's')}, so pulse and pause take at least that"
            )
        bench.abort.check()
        converters = [bench.station.converter(f"IN{number}") for number in self.numbers]
        levels = [bench.board.code(c, bench.v_in(n, i_syn)) for c, n in zip(converters, self.numbers, strict=True)]
        low = [*(Dac(converter, 0) for converter in converters), Commit()]
        head = [*low, *(Delay(ticks) for ticks in bench.pieces(lead)), Stamp(self._mask if stamps else 0)]
        head += [Tally(self._mask, 0), *([Trigger(SETTLE)] if trigger else []), Set(0, count)]
        body = [*(Dac(*pair) for pair in zip(converters, levels, strict=True)), Commit(), Delay(on), *low, Delay(off)]
        end = [*(Delay(ticks) for ticks in bench.pieces(tail)), Tally(self._mask, 1), Stamp(0), End()]
        records = bench.run([*head, *body, Loop(0, length(head)), *end])
        tallies = records[records["kind"] == Kind.COUNT]
        before, after = (tallies[tallies["tag"] == tag] for tag in (0, 1))
        counts = (after["value"].astype(np.int64) - before["value"]) % 2**31
        tick = bench.board.identity.tick
        train = bench.board.spikes() if stamps else SpikeTrain(np.zeros(0), np.zeros(0, np.uint8), 0)
        if train.lost:
            raise InstrumentError(f"the board lost {train.lost} time stamps of a full FIFO; take shorter trains")
        onset = int(before["tick"][0])
        return Response(
            dict(zip(before["aux"].tolist(), counts.tolist(), strict=True)),
            (int(after["tick"][0]) - onset) * tick,
            train,
            onset * tick,
        )

    # what else the board sees ------------------------------------------------------------------------------------

    def high(self) -> dict[int, bool]:
        """Which spike outputs are high at this moment."""
        [record] = self._bench.run([Levels(self._mask, 0), End()])
        return {number: bool(int(record["aux"]) >> number & 1) for number in self.numbers}

    def supply(self, seconds: float) -> float:
        """The mean current (A) that the chip draws from V_dd, measured for `seconds`."""
        conversions = self._bench.ticks(seconds) // self._bench.board.identity.sample_ticks
        reads = max(1, -(-conversions // 50_000))
        read = Read(LineKind.VDD, 0, NONE, max(1, conversions // reads), 0, 0)
        readings = list(self._bench.readings([read, Set(1, reads), read, Loop(1, length([read, Set(1, 1)])), End()]))
        worst = next((reading.status for reading in readings if reading.status != "ok"), "ok")
        if worst != "ok":
            raise InstrumentError(f"the supply's current cannot be read ({worst}); the monitor's ranges do not fit it")
        return float(np.mean([reading.current for reading in readings[1:]]))  # the first finds the range

    # composition -------------------------------------------------------------------------------------------------

    @contextmanager
    def regulated_by(self, regulator: int) -> Iterator[None]:
        """While inside, the spikes of the port's neurons drive `regulator`, whose membrane is their threshold.

        Garg et al., Fig. 7. Raises `LimitError` when a spike would draw more than the LDO can give.
        """
        self.check_spike_current(regulator)
        source = Source.NEURON + regulator
        self._bench.board.set_routes(
            [(kind, number, source) for number in self.numbers for kind in (LineKind.OUT, LineKind.THR)]
        )
        try:
            yield
        finally:
            self._bench.board.set_routes(
                [(kind, number, Source.FLOAT) for number in self.numbers for kind in (LineKind.OUT, LineKind.THR)]
            )

    @contextmanager
    def threshold_from(self, other: int) -> Iterator[None]:
        """While inside, the membrane of neuron `other` is the threshold of the port's neurons."""
        routes = [(LineKind.THR, number, Source.NEURON + other) for number in self.numbers]
        self._bench.board.set_routes(routes)
        try:
            yield
        finally:
            self._bench.board.set_routes([(kind, number, Source.FLOAT) for kind, number, _ in routes])

    def check_spike_current(self, regulator: int) -> float:
        """The current (A) that a spike at V_dd drives into IN of `regulator`; raises `LimitError` above the LDO's."""
        bench = self._bench
        current = (bench.volts("VDD") - bench.volts("VREF")) / bench.r_syn(regulator)
        limit = bench.station.limits["i_syn"]
        if current > limit:
            raise LimitError(
                f"a spike of {si(bench.volts('VDD'), 'V')} into neuron {regulator} drives {si(current, 'A')}, above the"
                f" LDO's {si(limit, 'A')}; raise V_ref above"
                f" {si(bench.volts('VDD') - limit * bench.r_syn(regulator), 'V')}"
            )
        return current

    # pictures ----------------------------------------------------------------------------------------------------

    def look(
        self,
        *views: View,
        span: float,
        shortest: tuple[float, str],
        before: float = 0.0,
        trigger: tuple[str, float] | None = None,
    ) -> None:
        """Arm the scope for one record of `span` s that shows `views`, from `before` s before the trigger on.

        shortest: (s, what it is), the shortest thing that must be seen; the record gets the points it needs.
        trigger: (node, level in V) rising; default the board's trigger output. Raises `MeasurementError` when no record
        is long enough to show the shortest thing, and `StationError` where no probe is on a node.
        """
        station, scope = self._bench.station, self._bench.scope
        lengths = sorted(n for n in scope.dialect.points if SHORT_RECORD <= n <= LONG_RECORD)
        points = next((n for n in lengths if shortest[0] >= SAMPLES * span / n), lengths[-1])
        needs_interval(shortest[0], span, points, shortest[1], SAMPLES)
        self._views = views
        for view in views:
            channel = station.probe(view.node)
            scope.channel(
                channel, full_scale=view.full_scale, offset=view.offset, probe=station.attenuation.get(channel, 1.0)
            )
        scope.timebase(span, delay=-before, points=points)
        if trigger is None:
            scope.trigger("EXT", level=1.0, slope="rising")
        else:
            scope.trigger(station.probe(trigger[0]), level=trigger[1], slope="rising")
        scope.arm()

    def seen(self, timeout: float = 10.0) -> Sequence[Trace]:
        """The traces of `look`, in its order; raises `InstrumentError` when the scope did not trigger within `timeout`
        s (of the world's time), and `MeasurementError` when a trace leaves the screen."""
        scope = self._bench.scope
        scope.wait(self._bench.abort.check, timeout)
        traces = []
        for view in self._views:
            trace = scope.fetch(self._bench.station.probe(view.node))
            if (beyond := scope.clipped(trace)) > len(trace.codes) * CLIPPED:
                low, high = (si(view.offset + sign * view.full_scale / 2, "V") for sign in (-1, 1))
                raise MeasurementError(
                    f"{view.node} leaves the screen of {low} … {high} in {beyond} of {len(trace.codes)} samples;"
                    " look at a larger range"
                )
            traces.append(replace(trace, name=view.node.rstrip("0123456789").lower()))
        return traces
