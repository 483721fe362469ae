"""Re-execution with changed code: exactly the rows that change are named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated as A
from typing import NamedTuple

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.fpga.sim import SimBoard
from labctl.changes import MISSING, Change, changes, with_module
from labctl.errors import StorageError, UsageError
from labctl.protocol import Trace, protocol
from labctl.quantity import Q
from labctl.reader import Run
from labctl.station import load_station
from labctl.transport.loop import LoopTransport
from protocols.cli import main
from tests.fpga.plant import ResistorPlant


class Point(NamedTuple):
    """A count."""

    gate: A[float, Q("s", meaning="gate")]
    rate: A[float, Q("Hz", meaning="rate")]


@protocol
def counting(bench: Bench, points: A[int, Q("", 1, 9, "how many")] = 3) -> Iterator[Point | Trace]:
    """Count for longer and longer."""
    with bench.powered():
        for k in range(points):
            counted = bench.count([0], 1e-3 * (k + 1))
            yield Point(counted.gate, counted.rate(0))
            yield Trace("ramp", np.arange(3, dtype=np.int16), 1.0, 0.0, "V", 0.0, 1.0)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    board = SimBoard(ResistorPlant(), word_lines=16, bit_lines=4)
    bench = Bench(load_station("sim"), LoopTransport(board), lambda: LoopTransport(board), seed=5)
    return labctl.run(counting, bench, out=tmp_path_factory.mktemp("changes") / "run.h5")


CHANGED = """
from collections.abc import Iterator
from tests.test_changes import *
from tests.test_changes import counting as original

@protocol
def {name}(bench: Bench, points: A[int, Q("", 1, 9, "x")] = 3{more}) -> Iterator[Point | Trace]:
    "Changed."
    for item in original(bench, points=points):
        yield {item}
"""


def changed(folder: Path, item: str, name: str = "counting", more: str = "") -> Path:
    path = folder / "changed.py"
    path.write_text(CHANGED.format(name=name, item=item, more=more))
    return path


def test_the_same_code_changes_nothing(recorded: Run) -> None:
    result = changes(recorded.path, counting)
    assert (result.found, result.columns, result.compared, result.rows) == ([], [], 3, 0)


def test_exactly_the_changed_values_are_named(
    recorded: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = recorded.table()["rate"].tolist()
    module = changed(
        tmp_path, "item._replace(rate=item.rate * 2) if isinstance(item, Point) and item.gate > 1.5e-3 else item"
    )
    result = with_module(recorded.path, str(module))
    assert result.found == [Change("point", k, "rate", rates[k], 2 * rates[k]) for k in (1, 2)]
    assert main(["replay", str(recorded.path), "--verify", "--with", str(module)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["table", "row", "column", "before", "after"]
    assert lines[1].split() == ["point", "1", "rate", repr(rates[1]), repr(2 * rates[1])]
    assert lines[-1] == "2 rows change; 3 were compared"


def test_one_bit_is_a_change(recorded: Run, tmp_path: Path) -> None:
    module = changed(tmp_path, "item._replace(rate=np.nextafter(item.rate, 1e9)) if isinstance(item, Point) else item")
    assert with_module(recorded.path, str(module)).rows == 3


def test_traces_are_compared_too(recorded: Run, tmp_path: Path) -> None:
    item = "item if isinstance(item, Point) else Trace('ramp', item.codes + 1, 1.0, 0.0, 'V', 1.0, 1.0)"
    result = with_module(recorded.path, str(changed(tmp_path, item)))
    assert [(change.table, change.row, change.column) for change in result.found[:2]] == [
        ("trace ramp", 0, "t0"),
        ("trace ramp", 0, "samples"),
    ]
    assert result.rows == 3


def test_parameters_that_came_and_went_are_named(recorded: Run, tmp_path: Path) -> None:
    module = changed(tmp_path, "item", more=', extra: A[float, Q("V", meaning="new")] = 1.0')
    assert with_module(recorded.path, str(module)).added == ["extra"]
    assert with_module(recorded.path, str(module)).found == []


def test_columns_that_came_and_went_are_named_once(
    recorded: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "columns.py"
    path.write_text(
        CHANGED.format(name="counting", more="", item="Point(item.gate) if hasattr(item, 'gate') else item").replace(
            "@protocol", 'class Point(NamedTuple):\n    gate: A[float, Q("s", meaning="gate")]\n\n@protocol'
        )
    )
    result = with_module(recorded.path, str(path))
    assert result.columns == [f"point: gone rate; new {MISSING}"]
    assert result.found == []
    assert main(["replay", str(recorded.path), "--with", str(path)]) == 1
    assert "columns of point: gone rate" in capsys.readouterr().out


def test_missing_rows_are_changes(recorded: Run, tmp_path: Path) -> None:
    path = tmp_path / "fewer.py"
    text = CHANGED.format(name="counting", item="item", more="")
    path.write_text(text.replace("yield item", "if getattr(item, 'gate', 0) < 1.5e-3:\n            yield item"))
    result = with_module(recorded.path, str(path))
    assert [(change.table, change.row, change.after) for change in result.found if change.table == "point"] == [
        ("point", 1, MISSING),
        ("point", 2, MISSING),
    ]


def test_other_questions_are_a_divergence(recorded: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.py"
    path.write_text(
        CHANGED.format(name="counting", item="item", more="").replace("points=points)", "points=points + 1)")
    )
    assert main(["replay", str(recorded.path), "--with", str(path)]) == 1
    assert "asks the bench something else after 3 rows" in capsys.readouterr().err


def test_wrong_use(recorded: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no module; write FILE.py"):
        with_module(recorded.path, "counting")
    with pytest.raises(UsageError, match="declares no protocol 'nothing'"):
        with_module(recorded.path, f"{changed(tmp_path, 'item')}:nothing")
    assert with_module(recorded.path, f"{changed(tmp_path, 'item', name='another')}:another").found == []
    (tmp_path / "iv.csv").write_text("V,I\n0,0\n")
    from labctl.importing import import_file

    with pytest.raises(StorageError, match="no whole recording"):
        changes(import_file(tmp_path / "iv.csv").path, counting)
