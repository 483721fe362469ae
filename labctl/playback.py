"""Playback: what a run yielded, again, in recorded time: rows, blocks, traces and events.

    for event in labctl.load("x.h5").playback(speed=10):
        watch(event.item, event.rows)

An item is what a running bench gives to its `watch` callback, so one live view shows both. Another thread may pause,
seek, step, change the speed or stop at any moment; a wait ends at once.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import UsageError
from labctl.protocol import Rows

if TYPE_CHECKING:
    from labctl.reader import Run

_CHUNK = 4096  # rows read at once
_ELAPSED = 1 << 20
_ROWS, _TRACE, _EVENT = range(3)  # of one moment, rows come before their traces


class Played(NamedTuple):
    """One item of a playback.

    t: when it was recorded, in s since the start of the run. item: a row (a NamedTuple of the table's columns), a
    `Rows` block, a `Trace`, or a `reader.Event`. rows: main rows up to and including this item.
    """

    t: float
    item: Any
    rows: int


class Playback:
    """An iterator over the items of a run that keeps the recorded time, `speed` times as fast; inf does not wait.

    Iterate in one thread; `pause`, `resume`, `step`, `seek`, `stop` and the attribute `speed` may be used from any.
    loop: begin again at the end. now, sleep: the clock, and how to wait on a condition for some seconds (for tests).
    Raises `UsageError` for a speed that is not above 0.
    """

    def __init__(
        self,
        run: "Run",
        speed: float = 1.0,
        *,
        loop: bool = False,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self.run = run
        self.loop = loop
        self._timeline = _Timeline(run)
        self._now, self._sleep = now, sleep
        self._changed = threading.Condition()
        self._next = 0
        self._paused = self._stopped = False
        self._steps = 0
        self._position = 0.0
        self._since: float | None = None  # when `_position` was right
        self.speed = speed

    @property
    def duration(self) -> float:
        """Time of the last item, in s since the start of the run."""
        return float(self._timeline.t[-1]) if len(self._timeline) else 0.0

    @property
    def position(self) -> float:
        """Where the playback is, in s since the start of the run."""
        with self._changed:
            return self._where()

    @property
    def paused(self) -> bool:
        """Whether it waits for `resume` or `step`."""
        return self._paused

    @property
    def speed(self) -> float:
        """Seconds of the recording a second."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        if not speed > 0:
            raise UsageError(
                f"speed = {speed} plays nothing; give a number above 0 (inf: everything at once), or pause"
            )
        with self._changed:
            if self._since is not None:
                self._position, self._since = self._where(), self._now()
            self._speed = speed
            self._changed.notify_all()

    def pause(self) -> None:
        """Hold; the item that is waited for does not come."""
        with self._changed:
            self._position, self._since, self._paused = self._where(), None, True
            self._changed.notify_all()

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._changed:
            self._paused, self._steps = False, 0
            self._changed.notify_all()

    def step(self, items: int = 1) -> None:
        """Pause, and let the next `items` items come without waiting."""
        if items < 1:
            raise UsageError(f"step({items}) goes nowhere; give a number above 0, seek goes back")
        with self._changed:
            if not self._paused:
                self._position, self._since, self._paused = self._where(), None, True
            self._steps += items
            self._changed.notify_all()

    def seek(self, t: float) -> None:
        """Go on with the first item at or after `t` s, forward or back; raises `UsageError` for NaN."""
        if math.isnan(t):
            raise UsageError(f"cannot seek to {t}; give a time between 0 and {self.duration:g} s")
        with self._changed:
            self._next = int(np.searchsorted(self._timeline.t, t))
            self._position = min(max(t, 0.0), self.duration)
            self._since = None
            self._changed.notify_all()

    def stop(self) -> None:
        """End the iteration."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def before(self, t: float) -> Iterator[Played]:
        """All items before `t` s, without waiting: what a view shows that has jumped there."""
        for number in range(int(np.searchsorted(self._timeline.t, t))):
            yield self._timeline.item(number)

    def __iter__(self) -> Iterator[Played]:
        while (number := self._wait()) is not None:
            yield self._timeline.item(number)

    def _where(self) -> float:
        if self._since is None:
            return self._position
        return min(self._position + (self._now() - self._since) * self._speed, self.duration)

    def _wait(self) -> int | None:
        """The next item's number as soon as it is due; None at the end."""
        with self._changed:
            while not self._stopped:
                if self._next >= len(self._timeline):
                    if not (self.loop and len(self._timeline)):
                        return None
                    self._next, self._position, self._since = 0, 0.0, None
                t = float(self._timeline.t[self._next])
                if self._paused:
                    if not self._steps:
                        self._changed.wait()
                        continue
                    self._steps -= 1
                    self._position = t
                elif not math.isinf(self._speed):
                    if self._since is None:
                        self._since = self._now()
                    # not counted from the last item: small lateness does not add up
                    due = (t - self._position) / self._speed - (self._now() - self._since)
                    if due > 1e-6:
                        self._sleep(self._changed, min(due, 3600.0))
                        continue
                else:
                    self._position, self._since = t, None
                self._next += 1
                return self._next - 1
            return None


class _Timeline:
    """The items of a run in the order they were recorded. Only times and places are kept; data are read when due."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._tables, self._traces = run.tables, run.traces
        self._events = run.events()
        parts: list[tuple[NDArray[np.float64], int, int, NDArray[np.int64], NDArray[np.int64]]] = []
        for source, name in enumerate(self._tables):
            first, t = _moments(run, name)
            count = np.diff(np.append(first, run.row_count(name)))
            parts.append((t, _ROWS, source, first, count))
        for source, name in enumerate(self._traces):
            t = run.trace_elapsed(name)
            parts.append((t, _TRACE, source, np.arange(len(t)), np.ones(len(t), np.int64)))
        t = run.event_elapsed()
        parts.append((t, _EVENT, 0, np.arange(len(t)), np.ones(len(t), np.int64)))
        kind = np.concatenate([np.full(len(part[0]), part[1]) for part in parts])
        source_of = np.concatenate([np.full(len(part[0]), part[2]) for part in parts])
        t, first, count = (np.concatenate([part[k] for part in parts]) for k in (0, 3, 4))
        order = np.lexsort((kind, t))
        self.t = t[order]
        self._kind, self._source, self._first, self._count = kind[order], source_of[order], first[order], count[order]
        self._main = np.cumsum(np.where((self._kind == _ROWS) & (self._source == 0), self._count, 0))
        self._types = [run.row_type(name) for name in self._tables]
        self._cached: dict[int, tuple[int, list[tuple[Any, ...]]]] = {}

    def __len__(self) -> int:
        return len(self.t)

    def item(self, number: int) -> Played:
        kind, source, first = int(self._kind[number]), int(self._source[number]), int(self._first[number])
        item: Any
        if kind == _EVENT:
            item = self._events[first]
        elif kind == _TRACE:
            item = self._run.trace(self._traces[source], first)
        else:
            item = self._rows(source, first, int(self._count[number]))
        return Played(float(self.t[number]), item, int(self._main[number]))

    def _rows(self, source: int, first: int, count: int) -> Any:
        kind, name = self._types[source], self._tables[source]
        if count > 1:
            return Rows(kind, **self._run.table(name, slice(first, first + count)))
        start, rows = self._cached.get(source, (0, []))
        if not start <= first < start + len(rows):
            columns = self._run.table(name, slice(first, first + _CHUNK))
            start, rows = first, list(zip(*(values.tolist() for values in columns.values()), strict=True))
            self._cached[source] = (start, rows)
        return kind(*rows[first - start])


def _moments(run: "Run", name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the rows of a table begin that were recorded at one moment, and that moment; blocks stay together."""
    firsts: list[NDArray[np.int64]] = []
    times: list[NDArray[np.float64]] = []
    last = math.nan
    for start in range(0, run.row_count(name), _ELAPSED):
        t = run.elapsed(name, slice(start, start + _ELAPSED))
        at = np.flatnonzero(t != np.concatenate([[last], t[:-1]]))
        firsts.append(at + start)
        times.append(t[at])
        last = float(t[-1])
    return np.concatenate([np.empty(0, np.int64), *firsts]), np.concatenate([np.empty(0), *times])
