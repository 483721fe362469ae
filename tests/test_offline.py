"""The offline bench: experiments on a recording, through the real drivers and codecs."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import labctl
from drivers.bench import Bench, open_bench
from drivers.cell import Bias
from drivers.fpga.messages import LineKind
from drivers.fpga.sim import SimBoard
from labctl.errors import LimitError, StorageError
from labctl.offline import NotRecorded, Recorded, ScpiQuestions
from labctl.protocol import Protocol, protocol
from labctl.quantity import Q
from labctl.reader import Run
from labctl.replay import verify
from labctl.station import load_station
from labctl.store import Store
from labctl.transport.loop import LoopTransport
from labctl.transport.tape import Transaction
from tests.fpga.plant import ResistorPlant


class Aging(ResistorPlant):
    """Its current shrinks with every reading, its counter 1 runs with the voltage at IN0: every answer differs."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[NDArray[np.int64]] = []

    def current(self, kind: LineKind, line: int, bandwidth: float) -> float:
        self.factor *= 0.9
        return self.factor * super().current(kind, line, bandwidth)

    def advance(self, ticks: int) -> None:
        steps = np.arange(0, ticks, int(1000 / (0.1 + self.volts[10])), dtype=np.int64)
        self.fired.append(self.tick + steps)
        self.tick += ticks

    def spikes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        t = np.concatenate([*self.fired, np.zeros(0, np.int64)]) - self.told
        self.fired.clear()
        self.told = self.tick
        return t, np.ones(len(t), np.uint8)


class Rate(NamedTuple):
    """A rate."""

    i_syn: A[float, Q("A", meaning="current")]
    spikes: A[int, Q("", meaning="spikes")]


class Point(NamedTuple):
    """A current."""

    row: A[int, Q("", meaning="cell")]
    v: A[float, Q("V", meaning="voltage")]
    i: A[float, Q("A", meaning="current")]


@protocol
def rates(
    bench: Bench, i_syn: A[Sequence[float], Q("A", 0, 200e-6, "x")] = (0.0,), again: A[int, Q("", meaning="x")] = 1
) -> Iterator[Rate]:
    """Count spikes at some currents."""
    with bench.powered(v_ref=1.0):
        for current in i_syn:
            bench.inject(0, current)
            for _ in range(again):
                yield Rate(current, bench.count([1], 1e-3).counts[1])


@protocol
def rates_otherwise(bench: Bench, i_syn: A[Sequence[float], Q("A", 0, 200e-6, "x")] = (0.0,)) -> Iterator[Rate]:
    """The same, by someone else: biases one by one, with a status here and there."""
    with bench.powered():
        bench.bias(v_ref=1.0)
        for current in i_syn:
            bench.inject(0, 0.0)
            bench.now()
            bench.inject(0, current)
            yield Rate(current, bench.count([1], 1e-3).counts[1])


@protocol
def staircases(
    bench: Bench,
    rows: A[Sequence[int], Q("", 0, 15, "cells")] = (0, 1),
    v: A[Sequence[float], Q("V", 0, 1, "steps")] = (0.1, 0.2),
    cycles: A[int, Q("", 1, 9, "how often")] = 2,
) -> Iterator[Point]:
    """Step some cells."""
    with bench.powered():
        for row in rows:
            for _ in range(cycles):
                for volts, reading in zip(v, bench.cell(row, 0).sweep([Bias(x, 3.0) for x in v], 1e-5), strict=True):
                    yield Point(row, volts, reading.current)


def record(path: Path, what: Protocol, **parameters: Any) -> Run:
    board = SimBoard(Aging(), word_lines=16, bit_lines=4)
    bench = Bench(load_station("sim"), LoopTransport(board), lambda: LoopTransport(board), seed=5)
    return labctl.run(what, bench, out=path, **parameters)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("offline") / "counted.h5"
    return record(path, rates, i_syn=[1e-5, 5e-5, 1e-4, 2e-4])


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return record(tmp_path_factory.mktemp("offline") / "stepped.h5", staircases)


def again(recorded: Run, out: Path, what: Protocol, **parameters: Any) -> tuple[Run, Recorded]:
    with open_bench(str(recorded.path)) as bench:
        assert bench.offline is not None
        return labctl.run(what, bench, out=out / "again.h5", **parameters), bench.offline


def test_the_same_script_gives_the_same_rows(counted: Run, stepped: Run, tmp_path: Path) -> None:
    for recorded, what in ((counted, rates), (stepped, staircases)):
        folder = tmp_path / what.name
        run, offline = again(recorded, folder, what, **recorded.params)
        for name, values in recorded.table().items():
            np.testing.assert_array_equal(run.table()[name], values)
        assert (offline.jumps, offline.repeats, offline.skipped) == (0, 0, 0)
        assert run.header["station"]["name"] == f"sim (offline: {recorded.path.name})"
        assert verify(run.path, what).rows == recorded.row_count()


def test_settings_may_come_in_any_order(counted: Run, tmp_path: Path) -> None:
    expected = dict(zip(*counted.table().values(), strict=True))
    assert len(set(expected.values())) == 4  # else nothing would be shown
    for k, what in enumerate((rates, rates_otherwise)):
        currents = [2e-4, 1e-5, 1e-4]
        run, offline = again(counted, tmp_path / str(k), what, i_syn=currents)
        assert run.table()["spikes"].tolist() == [expected[current] for current in currents]
        assert offline.jumps > 0


def test_counts_may_be_asked_again(counted: Run, tmp_path: Path) -> None:
    run, offline = again(counted, tmp_path, rates, i_syn=[5e-5], again=3)
    assert len(set(run.table()["spikes"].tolist())) == 1
    assert offline.repeats > 0
    assert f"{offline.repeats} answers given again" in offline.summary()


def test_what_was_not_recorded_is_refused_where_it_is_asked(counted: Run, tmp_path: Path) -> None:
    with open_bench(str(counted.path)) as bench:
        words = r"counted.h5 does not hold the answer: this board program \(.*Count.*\).*never recorded in this state"
        with pytest.raises(NotRecorded, match=words) as caught:
            labctl.run(rates, bench, out=tmp_path / "x.h5", i_syn=[1e-5, 3e-5])
    assert caught.value.exit_code == 1
    run = labctl.load(tmp_path / "x.h5")
    assert (run.status, run.row_count()) == ("failed", 1)


def test_cells_remember(stepped: Run, tmp_path: Path) -> None:
    """Cells in another order are fine, each cell's own history is not to be reordered."""
    i = stepped.table()["i"]
    assert len(set(i.tolist())) == 8
    run, _ = again(stepped, tmp_path / "a", staircases, rows=[1, 0])
    np.testing.assert_array_equal(run.table()["i"], np.concatenate([i[4:], i[:4]]))
    run, _ = again(stepped, tmp_path / "b", staircases, rows=[1], cycles=1)
    np.testing.assert_array_equal(run.table()["i"], i[4:6])
    with pytest.raises(NotRecorded, match=r"holds .* 2 times, before .* a cell remembers"):
        again(stepped, tmp_path / "c", staircases, rows=[0], cycles=3)
    with pytest.raises(NotRecorded, match="never recorded"):
        again(stepped, tmp_path / "d", staircases, v=[0.1, 0.3])


def test_limits_hold_offline_too(counted: Run, tmp_path: Path) -> None:
    with open_bench(str(counted.path)) as bench, pytest.raises(LimitError), bench.powered(v_ref=9.0):
        pass


def test_a_file_without_transactions_is_no_bench(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.h5", {"protocol": "import_table", "params": {}}, [])
    store.finish("done", {}, None)
    with pytest.raises(StorageError, match="no transactions with a bench"):
        open_bench(str(tmp_path / "x.h5"))
    with pytest.raises(StorageError, match="does not exist"):
        open_bench(str(tmp_path / "none.h5"))


def scope_tape(*pairs: tuple[str, str]) -> list[Transaction]:
    return [Transaction("scope", request.encode() + b"\n", reply.encode()) for request, reply in pairs]


def asking(offline: Recorded) -> Callable[[str], str]:
    return lambda text: offline.take("scope", text.encode() + b"\n").decode()


def test_scpi_answers_depend_on_the_settings_not_on_their_order() -> None:
    tape = scope_tape(
        ("*IDN?", "MAKER"),
        (":CHAN1:SCAL 0.1;OFFS 0", ""), (":TIM:RANG 1e-3", ""), (":SING", ""), (":WAV:DATA?", "#11A"),
        (":CHAN1:SCAL 0.2", ""), (":SING", ""), (":WAV:DATA?", "#11B"), (":WAV:DATA?", "#11C"),
        (":TIM:RANG?", "1e-3"),
    )  # fmt: skip
    ask = asking(Recorded(tape, {"scope": ScpiQuestions}, "x.h5"))
    assert ask("*IDN?") == "MAKER"
    assert ask(":TIM:RANG 1e-3;:SING;:CHAN1:OFFS 0") == ""
    assert ask(":chan1:scal 0.2") == ""
    assert [ask(":WAV:DATA?") for _ in range(2)] == ["#11B", "#11C"]
    assert ask(":CHAN1:SCAL 0.1") == ""
    assert ask(":WAV:DATA?") == "#11A"
    assert ask("*IDN?") == "MAKER"
    ask(":CHAN1:SCAL 0.3")
    with pytest.raises(NotRecorded, match=r":WAV:DATA\? was never recorded in this state"):
        ask(":WAV:DATA?")
    ask("*RST")
    with pytest.raises(NotRecorded):
        ask(":TIM:RANG?")


def test_a_waveform_belongs_to_what_the_scope_saw() -> None:
    """The same scope settings, another state of the other instrument."""
    tape = [Transaction("source", b"V 1\n", b""), *scope_tape((":WAV:DATA?", "#11A"), (":TIM:RANG?", "5"))]
    tape += [Transaction("source", b"V 2\n", b""), *scope_tape((":WAV:DATA?", "#11B"))]
    offline = Recorded(tape, {"source": ScpiQuestions, "scope": lambda: ScpiQuestions(sees=("source",))}, "x.h5")
    offline.take("source", b"V 2\n")
    assert asking(offline)(":WAV:DATA?") == "#11B"
    assert asking(offline)(":TIM:RANG?") == "5"  # a setting does not
    offline.take("source", b"V 1\n")
    assert asking(offline)(":WAV:DATA?") == "#11A"
    offline.take("source", b"V 3\n")
    with pytest.raises(NotRecorded):
        asking(offline)(":WAV:DATA?")
    with pytest.raises(NotRecorded, match="no instrument 'meter'"):
        offline.take("meter", b"")


def test_a_line_of_settings_and_a_query_is_one_question() -> None:
    """As the driver asks for a preamble: the settings of the line count before its query, whoever came first."""
    line = ":WAV:SOUR CHAN1;FORM BYTE;:WAV:PRE?"
    tape = scope_tape((":CHAN1:SCAL 0.1", ""), (line, "A"), (":CHAN1:SCAL 0.2", ""), (line, "B"))
    ask = asking(Recorded(tape, {"scope": ScpiQuestions}, "x.h5"))
    ask(":CHAN1:SCAL 0.2")
    assert ask(line) == "B"
    ask(":CHAN1:SCAL 0.1")
    assert ask(line) == "A"


def test_the_simulated_bench_with_its_oscilloscope(tmp_path: Path) -> None:
    """The traces of a recording come back with the points they belong to, in another order and left out alike."""
    shape = {"duration": 2e-3, "settle": 1e-4, "v_thr": [1.2]}
    with open_bench("sim", seed=2) as bench:
        first = labctl.run("lif_fi_curve", bench, out=tmp_path / "a.h5", i_syn=[5e-5, 2e-4], trace=True, **shape)  # type: ignore[arg-type]
    assert not np.array_equal(first.trace("mem", 0).codes, first.trace("mem", 1).codes)
    with open_bench(str(first.path)) as bench:
        back = labctl.run("lif_fi_curve", bench, out=tmp_path / "b.h5", i_syn=[2e-4, 5e-5], trace=True, **shape)  # type: ignore[arg-type]
    assert back.table()["rate"].tolist() == first.table()["rate"].tolist()[::-1]
    for k in range(2):
        np.testing.assert_array_equal(back.trace("mem", k).values, first.trace("mem", 1 - k).values)
    with open_bench(str(first.path)) as bench:
        without = labctl.run("lif_fi_curve", bench, out=tmp_path / "c.h5", i_syn=[2e-4], **shape)  # type: ignore[arg-type]
    assert without.table()["rate"][0] == first.table()["rate"][1]


@pytest.mark.parametrize("name", ["lif_shared_regulator", "lif_pulse_width", "lif_energy"])
def test_protocols_of_every_kind_run_on_their_own_recording(name: str, tmp_path: Path) -> None:
    """Switches between neurons, many scope settings, the supply's monitor."""
    with open_bench("sim", seed=1) as bench:
        first = labctl.run(name, bench, out=tmp_path / "a.h5")
    with open_bench(str(first.path)) as bench:
        back = labctl.run(name, bench, out=tmp_path / "b.h5", **first.params)
        assert bench.offline is not None
        assert (bench.offline.jumps, bench.offline.repeats, bench.offline.loose) == (0, 0, 0)
    for table in first.tables:
        for column, values in first.table(table).items():
            np.testing.assert_array_equal(back.table(table)[column], values)
