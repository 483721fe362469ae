"""Reading a run: finished, going on, cut off, of another version, and not a run at all."""

import json
import os
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import labctl
from labctl.errors import StorageError, UsageError
from labctl.protocol import Trace
from labctl.reader import load
from labctl.transport.tape import Transaction
from tests.recorded import BLOCK, HEADER, NOTES, POINTS, TABLES, TEXTS, TRACES, Point, Recording, bits, fill

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(Recording(tmp_path_factory.mktemp("reader") / "small.h5")).finish()


def check_content(run: labctl.Run) -> None:
    """Everything that `tests.recorded.fill` recorded, except what happened at the end."""
    assert run.protocol == "small_run"
    assert run.params == HEADER["params"]
    assert run.header == HEADER
    assert (run.comment, run.tags) == ("a small run", ["test", "small"])
    assert run.tables == ["point", "note"]
    assert run.row_count() == 10
    assert run.columns() == TABLES[0].columns
    assert run.units("note") == {"cell": "", "r": "Ω", "text": ""}
    expected = {
        "v": [p.v for p in POINTS] + BLOCK.columns["v"].tolist() + [POINTS[0].v],
        "i": [p.i for p in POINTS] + [2e-6] * 4 + [POINTS[0].i],
        "n": [p.n for p in POINTS] + [0, 1, 2, 3] + [POINTS[0].n],
        "ok": [p.ok for p in POINTS] + [True, False, True, False] + [POINTS[0].ok],
    }
    kinds = {"v": float, "i": float, "n": np.int64, "ok": bool}
    assert bits(run.table()) == bits({name: np.array(cells, kinds[name]) for name, cells in expected.items()})
    notes = run.table("note")
    assert notes["cell"].tolist() == [NOTES[0].cell, NOTES[1].cell, *TEXTS.columns["cell"].tolist(), NOTES[2].cell]
    assert notes["text"].tolist() == [NOTES[0].text, NOTES[1].text, "same", "same", NOTES[2].text]
    assert notes["r"].tobytes() == np.array([NOTES[0].r, NOTES[1].r, 1, 2, NOTES[2].r]).tobytes()
    assert run.traces == ["i_out", "v_mem"]
    for name, index, trace in (("i_out", 0, TRACES[2]), ("v_mem", 0, TRACES[0]), ("v_mem", 1, TRACES[1])):
        read = run.trace(name, index)
        assert (read.codes.dtype, read.codes.tobytes()) == (trace.codes.dtype, trace.codes.tobytes())
        same = ("name", "scale", "offset", "unit", "t0", "dt")
        assert [getattr(read, key) for key in same] == [getattr(trace, key) for key in same]
    assert run.trace_rows("i_out").tolist() == [-1]
    assert run.trace_rows("v_mem").tolist() == [0, 1]
    board = [Transaction("board", b"ask %d" % k, bytes(range(k))) for k in range(5)]
    assert run.transactions() == [*board, Transaction("scope", b"*IDN?\n", b"SCOPE\n")]
    assert run.transaction_rows().tolist() == [0, 1, 2, 3, 4, 9]
    assert run.events()[0] == ("identities", {"board": "board 7", "scope": "SCOPE,1,2"})
    everything = np.concatenate([run.elapsed(), run.elapsed("note"), run.trace_elapsed("v_mem")])
    assert (everything > 0).all()
    assert len(run.transaction_elapsed()) == 6
    assert (np.diff(run.transaction_elapsed()) >= 0).all()
    # a transaction lies between the rows that it led to
    assert (run.transaction_elapsed()[:5] <= run.elapsed()[:5]).all()
    assert (run.transaction_elapsed()[1:5] >= run.elapsed()[:4]).all()


def test_a_finished_run(path: Path) -> None:
    run = load(path)
    assert run.status == "done"
    check_content(run)
    assert run.events()[-1] == ("end", {"status": "done", "checks": 2})
    assert len(run.event_elapsed()) == 2
    assert run.summary == {"status": "done", "checks": 2}
    assert run.losses == []
    assert run.check() == []
    assert load(str(path)).status == "done"


def test_a_finished_run_does_not_need_its_journal(path: Path, tmp_path: Path) -> None:
    alone = shutil.copy(path, tmp_path / "alone.h5")
    check_content(load(alone))


def test_a_run_that_goes_on_is_read_from_its_journal(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.journal.sync()
    for name in (recording.path, recording.journal.path):
        run = load(name)
        assert (run.status, run.path) == ("running", recording.path)
        check_content(run)
        assert run.losses == []
    before = load(recording.path)
    recording.row(0, POINTS[3])
    recording.journal.sync()
    assert load(recording.path).row_count() == 11
    assert before.row_count() == len(before.table()["v"]) == 10
    recording.finish()
    assert load(recording.path).status == "done"


def test_a_run_that_was_cut_off_is_read_from_its_journal(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.journal.close()  # and the HDF5 file is never finished
    run = load(recording.path)
    assert run.status == "interrupted"
    check_content(run)
    os.unlink(recording.path)
    check_content(load(recording.path))


def test_a_run_without_journal_shows_what_its_file_has(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.h5")
    recording.store.row(0, POINTS[0], 5.0)
    recording.journal.close()
    recording.journal.path.unlink()
    run = load(recording.path)
    assert run.status == "interrupted"
    assert run.row_count() == 1
    assert (run.transactions(), run.events(), run.summary) == ([], [], {})
    assert len(run.transaction_elapsed()) == len(run.event_elapsed()) == 0


def test_parts_of_a_table(path: Path) -> None:
    run = load(path)
    whole = run.table()
    for rows in (slice(2, 5), slice(-3, None), slice(None, None, 4), slice(8, 100), slice(5, 5)):
        for name, values in run.table(rows=rows).items():
            np.testing.assert_array_equal(values, whole[name][rows])
        np.testing.assert_array_equal(run.elapsed(rows=rows), run.elapsed()[rows])


def test_wrong_names_say_what_there_is(path: Path) -> None:
    run = load(path)
    with pytest.raises(UsageError, match="no table 'points'; it has point, note"):
        run.table("points")
    with pytest.raises(UsageError, match="no trace 'v'; it has i_out, v_mem"):
        run.trace("v", 0)
    with pytest.raises(UsageError, match="no trace v_mem 2, there are 2"):
        run.trace("v_mem", 2)


def test_nothing_is_held_open(tmp_path: Path) -> None:
    """Whoever loaded a run does not keep others from writing to it or replacing it."""
    path = fill(Recording(tmp_path / "x.h5")).finish()
    run = load(path)
    run.table()
    with h5py.File(path, "r+", locking=True) as file:
        file.attrs["note"] = "mine"
    assert run.table()["v"][0] == POINTS[0].v


def test_a_file_that_others_have_open_is_read(path: Path) -> None:
    for options in ({}, {"locking": False}):
        with h5py.File(path, **options):
            assert load(path).row_count() == 10


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(StorageError, match="cannot be opened as HDF5"):
        load(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StorageError, match="no recording of labctl"):
        load(tmp_path / "other.h5")
    with pytest.raises(StorageError, match="cannot be opened"):
        load(tmp_path)


def test_a_newer_version_is_refused_with_its_number(path: Path, tmp_path: Path) -> None:
    newer = shutil.copy(path, tmp_path / "newer.h5")
    with h5py.File(newer, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(StorageError, match="format version 99, this labctl reads up to 1"):
        load(newer)


@pytest.mark.parametrize("kept", sorted(DATA.glob("run-format-*.h5")), ids=lambda file: file.stem)
def test_every_old_version_stays_readable(kept: Path) -> None:
    """One kept file of each version of the format, made by `fill`."""
    run = load(kept)
    assert run.status == "done"
    check_content(run)
    assert run.check() == []


def test_every_version_has_a_kept_file() -> None:
    from labctl.reader import READABLE
    from labctl.store_frame import FORMAT_VERSION

    assert FORMAT_VERSION in READABLE
    assert {int(file.stem.rpartition("-")[2]) for file in DATA.glob("run-format-*.h5")} == set(READABLE)


def test_every_version_of_the_journal_has_a_kept_file() -> None:
    from labctl.journal import VERSION

    said = [re.search(rb'"version": (\d+)', file.read_bytes()) for file in DATA.glob("run-format-*.journal")]
    assert {int(match[1]) for match in said if match} == set(range(1, VERSION + 1))


@pytest.mark.parametrize("kept", sorted(DATA.glob("run-format-*.journal")), ids=lambda file: file.stem)
def test_old_journals_stay_readable(kept: Path, tmp_path: Path) -> None:
    """A journal may lie about for years before somebody recovers it."""
    shutil.copy(kept, tmp_path / "x.h5.journal")
    run = load(tmp_path / "x.h5")
    assert run.status == "interrupted"
    check_content(run)


def test_a_hundred_million_rows_are_sliced_without_reading_them(tmp_path: Path) -> None:
    """The file is sparse: chunks that nobody wrote are not on the disk. (How long: benchmarks/recording.py.)"""
    path = Recording(tmp_path / "x.h5").finish()
    n = 100_000_000
    with h5py.File(path, "r+") as file:
        for name, dataset in file["entry/point"].items():
            dataset.resize(n, 0)
            dataset[n - 10 :] = 7 if name != "n" else np.arange(10)
    run = load(path)
    assert run.row_count() == n
    part = run.table(rows=slice(n - 5, n))
    assert part["n"].tolist() == [5, 6, 7, 8, 9]
    assert part["v"].tolist() == [7.0] * 5


def test_importing_labctl_does_not_import_hdf5(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, labctl; print(json.dumps(sorted(m for m in ('h5py', 'xarray', 'numba') if m in sys.modules)))"
    out = subprocess.run([sys.executable, "-c", "import json;" + code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_a_trace_of_each_row_is_found(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.h5")
    for k in range(300):
        recording.row(0, Point(k, 0, k, True))
        if k % 2:
            recording.trace(Trace("w", np.full(5 + k % 3, k, np.int16), 1.0, 0.0, "V", 0.0, 1.0))
    run = load(recording.finish())
    rows = run.trace_rows("w")
    assert rows.tolist() == list(range(1, 300, 2))
    for index, row in enumerate(rows):
        assert (run.trace("w", index).codes == run.table()["n"][row]).all()
