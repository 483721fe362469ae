"""Runs that were cut off go on at the first unfinished cell: no pulse is repeated, none is missing, all are in the
ledger."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.fpga.messages import DOSES
from drivers.simulation import Simulation
from labctl.abort import AbortSignal
from labctl.errors import Aborted, MeasurementError, StorageError, UsageError
from labctl.replay import verify
from labctl.resume import NothingFinished
from labctl.runner import resume
from labctl.station import Station, load_station, parse_station
from protocols.endurance import read_at

CHILD = """
import sys, time, labctl
pause = float(sys.argv[5])
with labctl.open_bench(sys.argv[1]) as bench:
    def watch(item, rows):
        print(rows, flush=True)
        time.sleep(pause)
    labctl.run(sys.argv[2], bench, out=sys.argv[3], watch=watch, **eval(sys.argv[4]))
"""


class Served:
    """A simulated bench that outlives its clients, and the station file that leads to it."""

    def __init__(self, folder: Path, formed: bool = True) -> None:
        text = load_station("sim").text
        if not formed:
            text = text.replace("formed = true", "formed = false")
        self.simulation = Simulation(parse_station(text, "served"), seed=3)
        address = self.simulation.serve("tcp://127.0.0.1:0", None)["board"]
        text = re.sub(r'(\[board\]\nlink = )"sim"', rf'\1"{address}"', text)
        text = re.sub(r'(\[scope\]\nlink = )"sim"', r'\1""', text)
        self.file = folder / "station.toml"
        self.file.write_text(text.replace("[chip]\n", '[chip]\nid = "W3 D7"\n'), encoding="utf-8")
        self.ledger = folder / "W3_D7.doses.json"

    @property
    def counts(self) -> np.ndarray:
        """The board's own counts, (kinds, rows, columns)."""
        return self.simulation.board.machine.doses.counts.copy()

    def kill_at(self, rows: int, name: str, path: Path, pause: float = 0.0, **parameters: Any) -> None:
        """Run in another process, with so many seconds for each row, and kill it -9 when it has that many rows."""
        command = [sys.executable, "-c", CHILD, str(self.file), name, str(path), repr(parameters), str(pause)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if int(line) >= rows:
                    child.kill()
                    break
            else:
                raise AssertionError("it ended before it could be killed")

    def agrees(self) -> bool:
        """Whether the ledger says what the board counted."""
        said = json.loads(self.ledger.read_text(encoding="utf-8"))["counts"]
        return np.array_equal(np.array([said[kind] for kind in DOSES]), self.counts)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    bench = Served(tmp_path)
    yield bench
    bench.simulation.close()


def test_forming_goes_on_at_the_first_unfinished_cell(tmp_path: Path) -> None:
    served = Served(tmp_path, formed=False)
    path = tmp_path / "f.h5"
    served.kill_at(9, "forming", path, pause=3e-3)  # some 25 rows a cell: 0.6 s, of which the last 0.25 s may be lost
    interrupted = labctl.load(path)
    finished = [(e.data["row"], e.data["column"]) for e in interrupted.events() if e.name == "finished"]
    assert 1 <= len(finished) <= 9
    before = served.counts[0]
    with labctl.open_bench(str(served.file)) as bench:
        whole = resume(path, bench)
    assert whole.path.name == "f-2.h5"
    table = whole.table()
    cells = list(zip(table["row"].tolist(), table["column"].tolist(), strict=True))
    assert cells == [(row, column) for row in range(16) for column in range(4)]
    again = np.flatnonzero(table["status"] != "formed")
    assert set(table["status"][again]) <= {"already"}
    assert all(cells[k] not in finished and before[cells[k]] for k in again), "formed, but not yet on the disk"
    after = served.counts[0]
    for cell in finished:
        assert after[cell] == before[cell], "a finished cell gets no pulse"
    for cell, pulses in zip(cells, table["pulses"].tolist(), strict=True):
        assert after[cell] == pulses + (0 if cell in finished else before[cell]), "each pulse once"
    assert served.agrees()
    assert [e.data["gap"] > 0 for e in whole.events() if e.name == "resumed"] == [True]
    assert verify(whole.path).rows == sum(whole.row_count(name) for name in whole.tables) - sum(
        whole.header["resumed"]["rows"].values()
    )
    served.simulation.close()


@pytest.mark.parametrize("rows", [2, 20])
def test_endurance_repeats_no_pulse(rows: int, served: Served, tmp_path: Path) -> None:
    """Killed wherever it was, the resumed run completes exactly the cycles that were asked for."""
    path = tmp_path / "e.h5"
    cycles = {"cycles": 800, "per_decade": 12}
    served.kill_at(rows, "endurance", path, row=2, column=1, **cycles)
    assert served.counts[0, 2, 1] < 1600
    with labctl.open_bench(str(served.file)) as bench:
        whole = resume(path, bench)
    assert served.counts[0, 2, 1] == 1600, "a SET and a RESET a cycle, each once"
    others = served.counts[0]
    others[2, 1] = 0
    assert not others.any()
    assert served.agrees()
    cycle = whole.table()["cycle"]
    assert set(cycle.tolist()) <= set(read_at(800, 12))
    assert cycle[-1] == 799
    assert (np.diff(cycle) > 0).all()
    verify(whole.path)


def test_a_run_can_be_cut_off_and_resumed_again_and_again(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    served.kill_at(3, "endurance", path, cycles=600, per_decade=12)
    with labctl.open_bench(str(served.file)) as bench:
        abort = AbortSignal()
        with pytest.raises(Aborted):
            resume(path, bench, abort=abort, watch=lambda item, rows: abort.set() if rows > 15 else None)
        second = tmp_path / "e-2.h5"
        assert labctl.load(second).status == "aborted"
        whole = resume(second, bench)
    assert whole.path.name == "e-3.h5"
    assert served.counts[0, 0, 0] == 1200
    assert served.agrees()


def test_a_board_that_lost_its_power_cannot_say_where_to_go_on(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    served.kill_at(3, "endurance", path, cycles=800)
    served.simulation.board._boot += 1  # as after another power-on
    with labctl.open_bench(str(served.file)) as bench, pytest.raises(MeasurementError, match="lost its power"):
        resume(path, bench)
    assert served.simulation.board.machine.outputs.is_safe


def test_what_cannot_be_resumed_says_why(tmp_path: Path) -> None:
    done, early = tmp_path / "done.h5", tmp_path / "early.h5"
    with labctl.open_bench("sim", seed=1) as bench:
        labctl.run("read_map", bench, rows=[0], columns=[0], out=done)
        with pytest.raises(UsageError, match="nothing to resume"):
            resume(done, bench)
        abort = AbortSignal()
        abort.set()
        with pytest.raises(Aborted):
            labctl.run("read_map", bench, out=early, abort=abort)
        with pytest.raises(NothingFinished, match="run it again"):
            resume(early, bench)


def test_an_aborted_map_is_completed_in_the_same_file_format(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with labctl.open_bench("sim", seed=1) as bench:
        abort = AbortSignal()
        with pytest.raises(Aborted):
            labctl.run("read_map", bench, out=path, abort=abort, watch=lambda _, n: abort.set() if n == 20 else None)
        whole = resume(path, bench, out=tmp_path / "whole.h5")
    assert whole.row_count() == 64
    assert whole.check() == []
    assert len({*zip(whole.table()["row"].tolist(), whole.table()["column"].tolist(), strict=True)}) == 64


def limited(pulses: int) -> Station:
    text = load_station("sim").text.replace("[limits]\n", f"[limits]\npulses = {pulses}\n")
    return parse_station(text, "limited")


def test_the_budget_of_a_cell_refuses_before_anything_is_applied(tmp_path: Path) -> None:
    simulation = Simulation(limited(400), seed=1)
    with labctl.open_bench(limited(400), seed=1) as bench:
        labctl.run("endurance", bench, cycles=150, out=tmp_path / "a.h5")
        assert bench.doses.ledger.of(0, 0)["pulses"] == 300
        with pytest.raises(UsageError, match=r"cell \(0, 0\).*given.*may get 400"):
            labctl.run("endurance", bench, cycles=150, out=tmp_path / "b.h5")
        assert bench.board.status().safe
        given = bench.doses.ledger.of(0, 0)["pulses"]
        assert 300 <= given <= 400
        labctl.run("endurance", bench, cycles=150, column=1, out=tmp_path / "c.h5")
    simulation.close()


def test_a_ledger_goes_on_from_run_to_run_and_is_refused_for_another_chip(served: Served, tmp_path: Path) -> None:
    for number in range(2):
        with labctl.open_bench(str(served.file)) as bench:
            labctl.run("endurance", bench, cycles=50, out=tmp_path / f"{number}.h5")
        assert served.agrees()
    assert served.counts[0, 0, 0] == 200
    served.simulation.board._boot += 1
    served.simulation.board.machine.doses.counts[:] = 0
    with labctl.open_bench(str(served.file)) as bench:
        labctl.run("endurance", bench, cycles=50, out=tmp_path / "2.h5")
    said = json.loads(served.ledger.read_text(encoding="utf-8"))
    assert said["counts"]["pulses"][0][0] == 300, "two power-ons are added up"
    served.ledger.write_text(json.dumps(said | {"chip": "another"}), encoding="utf-8")
    with (
        labctl.open_bench(str(served.file)) as bench,
        pytest.raises(StorageError, match=r"no dose ledger of chip 'W3 D7'.*another"),
    ):
        labctl.run("endurance", bench, cycles=50, out=tmp_path / "3.h5")


def test_half_selected_cells_are_counted(served: Served, tmp_path: Path) -> None:
    with labctl.open_bench(str(served.file)) as bench:
        labctl.run("endurance", bench, row=2, column=1, cycles=10, out=tmp_path / "e.h5")
    half = served.counts[2]
    same_row, same_column = np.arange(16) == 2, np.arange(4) == 1
    assert (half[2, ~same_column] == 20).all(), "the open gate reaches the whole row"
    assert (half[~same_row, 1] == 10).all(), "the driven bit line reaches its column in SET"
    assert not half[~same_row][:, ~same_column].any()
    assert half[2, 1] == 0
