"""What the simulated oscilloscope does when: arming, finding triggers in the past, taking records, averaging.

Nothing here waits. `Acquisition.update` does what has become possible since the board last let time pass; a window that
reaches beyond `Nodes.time` is complete only once time is there.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivers.scope.digitiser import LENGTHS, Digitiser, FloatArray, FrontEnd, Setup

CHUNK = 65536
"""Times looked at together when an edge is searched."""
LEAD = 1e-6
"""Seconds of history that the amplifier needs before a sample."""


@dataclass
class Record:
    """One acquisition: when its samples were taken, and the codes of the channels that were looked at."""

    setup: Setup
    number: int
    trigger: float  # absolute time
    first: float  # absolute time of sample 0
    samples: int
    count: int = 1  # acquisitions averaged
    codes: dict[int, FloatArray] = field(default_factory=dict)  # channel → codes of 8 bits, fractions from averaging

    @property
    def dt(self) -> float:
        """Time between samples as the oscilloscope believes it to be."""
        return self.setup.span / self.samples


class Acquisition:
    """Arms, finds triggers, digitises. `triggers` gives the ascending times of pulses at the external input."""

    def __init__(self, front: FrontEnd, triggers: Callable[[], Sequence[float]], digitiser: Digitiser) -> None:
        self.digitiser = digitiser
        self.state: Literal["stop", "single", "run"] = "stop"
        self.record: Record | None = None
        self.triggered = False
        self._front, self._triggers = front, triggers
        self._number = 0
        self._setup = Setup(())
        self._from = 0.0  # triggers before this do not count
        self._searched = 0.0
        self._ready: dict[float, bool] = {}  # slope → the input was beyond the hysteresis, where an edge can start
        self._pending: float | None = None

    @property
    def _now(self) -> float:
        return self._front.nodes.time

    def start(self, state: Literal["single", "run"], setup: Setup) -> None:
        """Arm with `setup`; the record before is gone. "single" ends with one record, or one full average."""
        self.close()
        self.triggered = False
        self.state, self._setup = state, setup
        self._front.watch({n for n, channel in enumerate(setup.channels, 1) if channel.on} | {setup.source})
        self._rearm(self._now)

    def stop(self) -> None:
        """Disarm; a record that is there stays, as far as it was read or can still be."""
        self.state = "stop"
        self._pending = None
        self._release()

    def close(self) -> None:
        """Stop and drop everything."""
        self.record = None
        self.stop()

    def force(self) -> None:
        """Trigger now, if armed."""
        if self.state != "stop" and self._pending is None:
            self._pending = self._now

    def update(self, points: int) -> None:
        """Complete what has become complete; `points`: how many a free-running screen keeps of each record."""
        if self.state == "run" and self._setup.average == 1:
            self._show_latest(points)
        else:
            while self.state != "stop" and self._take_next():
                continue
        if self.state != "stop" and not any(channel.coupling == "AC" for channel in self._setup.channels):
            start = min(self._searched, self._now if self._pending is None else self._pending)
            self._front.forget(start + min(self._setup.left, 0.0) - LEAD)

    def codes(self, channel: int, points: int) -> FloatArray:
        """(n,) codes 1 … 255 of `channel`, at most `points` of them, evenly spread over the record.

        The first read decides how many are kept (at least `Digitiser.first_read`); then the history is dropped.
        """
        record = self.record
        if record is None:
            return np.zeros(0)
        if channel not in record.codes:
            keep = max(points, min(record.samples, self.digitiser.first_read))
            record.codes[channel] = self._digitise(record, channel, _fit(record.samples, keep))
            self._release()
        kept = record.codes[channel]
        return np.asarray(kept[:: len(kept) // _fit(len(kept), points)], np.float64)

    def points(self, channel: int, points: int) -> int:
        """How many points `codes` would return."""
        record = self.record
        if record is None or not record.setup.channels[channel - 1].on:
            return 0
        return _fit(len(record.codes[channel]) if channel in record.codes else record.samples, points)

    # taking records ----------------------------------------------------------------------------------------------

    def _take_next(self) -> bool:
        """Take the next record, if it is complete."""
        if self._pending is None:
            self._pending = self._next_trigger()
        if self._pending is None:
            return False
        self.triggered = True
        end = self._pending + self._setup.left + self._setup.span
        if end > self._now:
            return False
        record = self._record(self._pending)
        if self._setup.average > 1:
            self._average(record)
        self.record, self._pending = record, None
        if self.state == "single" and record.count >= self._setup.average:
            self.state = "stop"
            self._release()
        else:
            self._rearm(max(end, record.trigger) + self.digitiser.rearm)
        return True

    def _show_latest(self, points: int) -> None:
        """A running screen shows the latest complete record; nobody has seen those before it."""
        until = self._now - max(self._setup.left + self._setup.span, 0.0)
        if self._pending is None:
            trigger = self._last_trigger(until)
        elif self._pending <= until:
            trigger, self._pending = self._pending, None
        else:
            return
        if trigger is None:
            return
        self.triggered = True
        self.record = self._record(trigger)
        for n, channel in enumerate(self._setup.channels, 1):
            if channel.on:
                self.codes(n, points)
        self._rearm(max(trigger + self._setup.left + self._setup.span, trigger) + self.digitiser.rearm)

    def _record(self, trigger: float) -> Record:
        samples = self.digitiser.samples(self._setup.span)
        dt = self._setup.span / samples
        first = math.ceil((trigger + self._setup.left) / dt) * dt  # the sample clock runs on its own
        self._number += 1
        return Record(self._setup, self._number, trigger, first, samples)

    def _average(self, record: Record) -> None:
        """Every channel's mean of the first n; from then on new ones weigh 1/n."""
        before = self.record
        record.count = 1 if before is None else before.count + 1
        weight = 1 / min(record.count, self._setup.average)
        for n, channel in enumerate(self._setup.channels, 1):
            if channel.on:
                new = self._digitise(record, n, _fit(record.samples, self.digitiser.average_points))
                record.codes[n] = new if before is None else before.codes[n] * (1 - weight) + new * weight

    def _digitise(self, record: Record, channel: int, points: int) -> FloatArray:
        index = np.arange(points, dtype=np.int64) * (record.samples // points)
        t = record.first + index * (record.dt * (1 + self.digitiser.clock_error))
        return self._front.digitise(record.setup, channel, record.number, index, np.asarray(t, np.float64))

    def _release(self) -> None:
        """Once stopped, drop all history but that of channels which can still be read for the first time."""
        if self.state == "stop":
            record = self.record
            shown = {n for n, channel in enumerate(record.setup.channels, 1) if channel.on} if record else set()
            self._front.keep(shown - set(record.codes) if record else ())

    # finding triggers --------------------------------------------------------------------------------------------

    def _rearm(self, t: float) -> None:
        self._from = self._searched = t
        slopes = {"POS": (1.0,), "NEG": (-1.0,), "EITH": (1.0, -1.0)}[self._setup.slope]
        self._ready = dict.fromkeys(slopes, False)

    def _next_trigger(self) -> float | None:
        """Absolute time of the first trigger since arming, or None."""
        found = None
        if self._setup.source == 0:
            times, late = self._external()
            i = bisect_left(times, self._from - late)
            found = times[i] + late if i < len(times) and times[i] + late <= self._now else None
            self._searched = self._now
        else:
            for first, _ in self._edges(self._searched, self._now, self._ready):
                found = self._refine(*first)
                break
            else:
                self._searched = self._now
        free = self._from + max(self.digitiser.auto_wait, self._setup.span)
        if self._setup.auto and self._now >= free and (found is None or found > free):
            return free
        return found

    def _last_trigger(self, until: float) -> float | None:
        """Absolute time of the last trigger since arming and up to `until`, or None."""
        if until <= self._from:
            return None
        if self._setup.source == 0:
            times, late = self._external()
            i = bisect_right(times, until - late) - 1
            found = times[i] + late if i >= 0 and times[i] + late >= self._from else None
        else:
            found = self._last_edge(until)
        self._searched = until
        free = max(self.digitiser.auto_wait, self._setup.span)
        if self._setup.auto and until - (self._from if found is None else found) >= free:
            return until
        return found

    def _last_edge(self, until: float) -> float | None:
        width, start = CHUNK * self._step(), until
        while start > self._searched:  # the latest edge is mostly near the end
            start, width = max(self._searched, until - width), 4 * width
            ready = self._ready if start == self._searched else dict.fromkeys(self._ready, False)
            found = [last for _, last in self._edges(start, until, ready)]
            if found:
                return self._refine(*found[-1])
        return None

    def _external(self) -> tuple[Sequence[float], float]:
        """When the external input went up, and how much later the edge is that counts."""
        inside = 0 < self._setup.level < self.digitiser.external_high
        late = self.digitiser.external_width if self._setup.slope == "NEG" else 0.0
        return self._triggers() if inside else (), late

    def _edges(
        self, start: float, until: float, ready: dict[float, bool]
    ) -> Iterator[tuple[tuple[float, float, float], tuple[float, float, float]]]:
        """First and last edge of each stretch with any, as (time before, time after, slope); `ready` is kept up."""
        setup, step = self._setup, self._step()
        band = self.digitiser.hysteresis * setup.channels[setup.source - 1].full_scale
        while start < until:
            n = math.ceil((until - start) / step)
            until_chunk = until if n <= CHUNK else start + step * CHUNK
            t = np.linspace(start, until_chunk, min(n, CHUNK) + 1, dtype=np.float64)
            y = self._front.analogue(setup, setup.source, t) - setup.level
            found = []
            for slope in ready:
                at, ready[slope] = edges(slope * y, band, ready[slope])
                found += [(int(i), slope) for i in (at[0], at[-1])] if len(at) else []
            if found:
                first, last = min(found), max(found)
                yield (
                    (float(t[max(first[0] - 1, 0)]), float(t[first[0]]), first[1]),
                    (float(t[max(last[0] - 1, 0)]), float(t[last[0]]), last[1]),
                )
            start = float(t[-1])

    def _step(self) -> float:
        span = self._setup.span
        return min(self.digitiser.trigger_step, max(span / 1000, span / self.digitiser.samples(span)))

    def _refine(self, low: float, high: float, slope: float) -> float:
        """The crossing between two times, to a hundredth of a sample."""
        setup, small = self._setup, self._setup.span / self.digitiser.samples(self._setup.span) / 100
        # from afar, the amplifier is only a delay; near by its rise can carry the crossing a little beyond the two
        slack = 1e-8
        low, high = low - slack, min(high + slack, self._now)
        while high - low > small:
            t = np.linspace(low, high, 257)
            above = slope * (self._front.analogue(setup, setup.source, t) - setup.level) > 0
            i = int(np.argmax(above)) if above.any() else 256
            if i == 0 or not t[i - 1] < t[i] < high:
                return float(t[i])
            low, high = float(t[i - 1]), float(t[i])
        return high


def edges(y: FloatArray, band: float, ready: bool) -> tuple[NDArray[np.intp], bool]:
    """Indices where y first is above 0 after having been at or below −band, and whether it is ready for the next."""
    state = np.concatenate(([-1 if ready else 1], np.where(y > 0, 1, np.where(y <= -band, -1, 0))))
    held = state[np.maximum.accumulate(np.where(state != 0, np.arange(len(state)), 0))]
    return np.flatnonzero((held[1:] > 0) & (held[:-1] < 0)), bool(held[-1] < 0)


def _fit(samples: int, points: int) -> int:
    """The most points up to `points` that take every k-th of `samples`."""
    return max((n for n in LENGTHS if n <= points and samples % n == 0), default=LENGTHS[0])
