"""Damaged sources: every importer gives a run or one clear error, and every line is accounted for."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.errors import LabctlError
from labctl.importing import arc_one, import_file, scope_csv, tables
from tests.test_import_arc import ARC_ONE
from tests.test_import_scope import LAYOUTS

SOURCES = [
    ARC_ONE, *LAYOUTS.values(), "V,I\n0,0\n1,1e-3\n", "# V I\n0 0\n1 2\n\n0 0\n1 1\n", "V;I\n0,5;1,5\n1;2\n",
    "Record Length,2.5e3,,-0.0025,0.2,\nSource,CH2,,-0.0015,0.3,\n,,,-0.0005,0.4,\n",
]  # fmt: skip
PIECES = st.sampled_from([*',;\t \n"0.-eE+xΩ#()', "nan", "inf", "1e999", "\n\n", "ch1", "class", "elapsed"])


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 3))
        text = text[:at] + draw(st.one_of(st.just(""), PIECES)) + text[at + cut :]
    return text


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / "x.csv"


def test_a_time_beyond_all_numbers_is_a_bad_line(path: Path) -> None:
    path.write_text("Source,CH1\nSecond,Volt\n0,0.1\n1e-6,0.2\n1e9990,0.3\n2e-6,0.4\n", encoding="utf-8")
    assert [bad.line for bad in scope_csv.read(path).bad] == [5]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=damaged())
def test_every_line_is_accounted_for(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    blank = sum(not line.strip() for line in lines)
    with contextlib.suppress(LabctlError):
        scope_csv.read(path)
    with contextlib.suppress(LabctlError):
        one = arc_one.read(path)
        head = next(k for k, line in enumerate(lines) if arc_one.recognises([line]))
        rest = lines[head + 1 :]
        assert len(one.tables[0]) + len(one.bad) == len(rest) - sum(not line.strip() for line in rest)
    with contextlib.suppress(LabctlError):
        table = tables.read(path)
        named = len(lines) - blank - len(table.tables[0]) - len(table.bad) - len(table.notes["comments"])
        assert named in (0, 1)  # the line of heads, where there is one


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=damaged())
def test_what_can_be_read_becomes_a_file_that_can_be_read(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    target = path.with_suffix(".h5")
    target.unlink(missing_ok=True)
    try:
        run = import_file(path, skip_bad=True)
    except LabctlError as caught:
        error = str(caught)
    else:
        error = ""
    assert target.exists() == (not error)
    assert "\n" not in error
    if error:
        return
    assert run.check() == []
    bad = run.table("bad_line")["text"].tolist() if "bad_line" in run.tables else []
    assert set(bad) <= set(text.splitlines())
