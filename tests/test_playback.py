"""Playback: order, counts and values; and a clock that only the test moves."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.fpga.sim import SimBoard
from labctl.errors import UsageError
from labctl.playback import Playback, Played
from labctl.protocol import Rows, Table, Trace, protocol
from labctl.quantity import Q
from labctl.reader import Event, Run
from labctl.station import load_station
from labctl.store import Store
from labctl.transport.loop import LoopTransport
from tests.fpga.plant import ResistorPlant


class Point(NamedTuple):
    """A point."""

    v: A[float, Q("V", meaning="voltage")]
    name: A[str, Q("", meaning="which")]


class Spike(NamedTuple):
    """A spike."""

    t: A[float, Q("s", meaning="when")]


BLOCK = Rows(Point, v=np.arange(5.0), name=np.array(list("abcde"), object))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Rows at 0, 1 … 4 s, each with a spike half a second later; a block at 10 s, a trace, an event."""
    path = tmp_path_factory.mktemp("playback") / "x.h5"
    store = Store(path, {"protocol": "p", "params": {}}, [Table(Point), Table(Spike)])
    for k in range(5):
        store.row(0, Point(0.1 * k, f"row {k}"), float(k))
        store.row(1, Spike(1e-3 * k), k + 0.5)
    store.trace(Trace("mem", np.arange(3, dtype=np.int8), 1.0, 0.0, "V", 0.0, 1.0), 4, 4.0)
    store.rows(0, BLOCK, 10.0)
    store.event("comment", {"text": "look"}, 7.0)
    store.finish("done", {}, None)
    return labctl.load(path)


class Clock:
    """Time passes only while somebody waits; `then` happens in the middle of the first wait."""

    def __init__(self) -> None:
        self.t = 100.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.t

    def sleep(self, condition: threading.Condition, seconds: float) -> None:
        self.waits.append(seconds)
        self.t += seconds


def played(run: Run, **kwargs: float) -> tuple[Playback, Clock]:
    clock = Clock()
    return Playback(run, now=clock.now, sleep=clock.sleep, **kwargs), clock  # type: ignore[arg-type]


def test_everything_at_once_in_the_order_it_was_recorded(run: Run) -> None:
    events = list(run.playback(speed=math.inf))
    times = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4, 4.5, 7, 10]
    assert [event.t for event in events] == times
    assert [event.rows for event in events] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 10]
    first = events[0].item
    assert (first.v, first.name, type(first).__name__) == (0.0, "row 0", "Point")
    assert Table(type(events[1].item)).name == "spike"
    assert isinstance(events[9].item, Trace)  # after the row it belongs to
    assert events[11].item == Event("comment", {"text": "look"})
    block = events[-1].item
    assert isinstance(block, Rows)
    assert block.columns["v"].tolist() == BLOCK.columns["v"].tolist()
    assert block.columns["name"].tolist() == list("abcde")


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_recorded_time_is_kept(run: Run, speed: float) -> None:
    playback, clock = played(run, speed=speed)
    assert playback.duration == 10.0
    for event in playback:
        # late by no more than rounding, and lateness does not add up
        assert clock.t - 100.0 == pytest.approx(event.t / speed, abs=2e-6)
        assert playback.position == pytest.approx(event.t, abs=1e-4)


def test_a_slow_listener_is_not_made_slower(run: Run) -> None:
    playback, clock = played(run)
    for event in playback:
        if event.t == 1.0:
            clock.t += 2.2  # the view took its time
        if 1.0 < event.t <= 3.0:
            assert clock.t == pytest.approx(103.2)  # these are overdue
    assert clock.t == pytest.approx(110.0)


def test_speed_changes_at_once(run: Run) -> None:
    playback, clock = played(run)
    for event in playback:
        if event.t == 4.5:
            playback.speed = 5.0
    assert clock.t == pytest.approx(100.0 + 4.5 + 5.5 / 5.0)
    with pytest.raises(UsageError, match="speed = 0"):
        playback.speed = 0
    with pytest.raises(UsageError, match="speed = -1"):
        run.playback(speed=-1)


def test_seek_forward_back_and_what_came_before(run: Run) -> None:
    playback, clock = played(run)
    seen = []
    for event in playback:
        seen.append(event.t)
        if seen == [0, 0.5, 1]:
            playback.seek(7.0)
            assert playback.position == 7.0
        if seen[-2:] == [7, 10] and len(seen) == 5:
            playback.seek(3.2)
    assert seen == [0, 0.5, 1, 7, 10, 3.5, 4, 4, 4.5, 7, 10]
    assert clock.t == pytest.approx(100.0 + 1 + 3 + 6.8)
    assert [event.t for event in playback.before(1.0)] == [0, 0.5]
    assert [event.rows for event in playback.before(1.1)] == [1, 1, 2]
    with pytest.raises(UsageError, match="cannot seek"):
        playback.seek(math.nan)


def test_loop_begins_again(run: Run) -> None:
    playback, clock = played(run, loop=True)
    seen: list[Played] = []
    for event in playback:
        seen.append(event)
        if len(seen) == 30:
            playback.stop()
    assert [event.t for event in seen[13:17]] == [0, 0.5, 1, 1.5]
    assert seen[13].rows == 1
    assert clock.t == pytest.approx(100.0 + 20.0 + seen[-1].t)


def test_pause_and_step_and_stop_from_another_thread(run: Run) -> None:
    """With the real clock: at 1e-3 of the speed the second item is due in 500 s; nobody waits for that."""
    playback = run.playback(speed=1e-3)
    seen: list[Played] = []
    arrived = threading.Semaphore(0)

    def listen() -> None:
        for event in playback:
            seen.append(event)
            arrived.release()
        arrived.release()

    thread = threading.Thread(target=listen)
    thread.start()
    assert arrived.acquire(timeout=10)
    playback.pause()
    assert playback.paused
    playback.step(3)
    for _ in range(3):
        assert arrived.acquire(timeout=10)
    assert [event.t for event in seen] == [0, 0.5, 1, 1.5]
    assert playback.position == 1.5
    playback.resume()
    playback.speed = math.inf  # ends the wait for the fifth
    while len(seen) < 13:
        assert arrived.acquire(timeout=10)
    thread.join(timeout=10)
    assert not thread.is_alive()
    with pytest.raises(UsageError, match=r"step\(0\)"):
        playback.step(0)


def test_stop_ends_a_wait_and_a_pause(run: Run) -> None:
    for prepare in (lambda p: None, Playback.pause):
        playback = run.playback(speed=1e-6)
        prepare(playback)
        thread = threading.Thread(target=list, args=(playback,))
        thread.start()
        playback.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_paused_playback_does_not_move(run: Run) -> None:
    playback, clock = played(run)
    events = iter(playback)
    next(events)
    clock.t += 0.25
    playback.pause()
    clock.t += 1000.0
    assert playback.position == pytest.approx(0.25)
    playback.resume()
    next(events)
    assert clock.waits[-1] == pytest.approx(0.25)


def test_a_long_run_reads_every_row_once_and_right(tmp_path: Path) -> None:
    path = tmp_path / "long.h5"
    store = Store(path, {"protocol": "p", "params": {}}, [Table(Spike)])
    n = 10_000
    store.rows(0, Rows(Spike, t=np.arange(n) * 0.5), np.linspace(0.0, 10.0, n))
    store.finish("done", {}, None)
    events = list(labctl.load(path).playback(speed=math.inf))
    assert [event.item.t for event in events] == [k * 0.5 for k in range(n)]
    assert [event.rows for event in events] == list(range(1, n + 1))


@protocol
def mixed(bench: Bench) -> Iterator[Point | Spike | Rows | Trace]:
    """Rows of two tables, a block, traces."""
    with bench.powered():
        for k in range(3):
            yield Point(bench.count([0], 1e-3).rate(0), f"row {k}")
            yield Trace("ramp", np.arange(k + 1, dtype=np.int16), 1e-3, 0.0, "V", 0.0, 1.0)
            yield Spike(0.1 * k)
        yield BLOCK
        yield Point(9.0, "last")


def shown(item: Any, rows: int) -> tuple[Any, ...]:
    """What a view makes of an item."""
    if isinstance(item, Trace):
        return rows, item.name, item.values.tolist(), item.t.tolist()
    if isinstance(item, Rows):
        return rows, Table(item.row).name, {key: values.tolist() for key, values in item.columns.items()}
    return rows, Table(type(item)).name, item._asdict()


def test_a_view_sees_what_it_saw_while_it_was_recorded(tmp_path: Path) -> None:
    live: list[tuple[Any, ...]] = []
    board = SimBoard(ResistorPlant(), word_lines=16, bit_lines=4)
    bench = Bench(load_station("sim"), LoopTransport(board), lambda: LoopTransport(board))
    run = labctl.run(mixed, bench, out=tmp_path / "x.h5", watch=lambda item, rows: live.append(shown(item, rows)))
    played_back = run.playback(speed=math.inf)
    assert [shown(event.item, event.rows) for event in played_back if not isinstance(event.item, Event)] == live
    assert len(live) == 11


def test_an_empty_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "empty.h5", {"protocol": "p", "params": {}}, [Table(Point)])
    store.finish("aborted", {}, None)
    playback = labctl.load(tmp_path / "empty.h5").playback(loop=True)
    assert list(playback) == []
    assert playback.duration == 0.0
