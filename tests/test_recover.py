"""After a kill, a cut or damage: every row that was synced is in the recovered file, and nothing that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.journal_reader import read_journal
from labctl.protocol import Trace
from labctl.reader import Run, load
from labctl.recover import recover
from tests.recorded import NOTES, POINTS, TEXTS, TRACES, Note, Point, Recording, bits, fill
from tests.test_journal import boundaries
from tests.test_reader import check_content


def assert_same(one: Run, other: Run) -> None:
    """Tables, traces, transactions, bit for bit."""
    assert (one.tables, one.traces, one.header) == (other.tables, other.traces, other.header)
    for name in one.tables:
        assert bits(one.table(name)) == bits(other.table(name))
        assert one.elapsed(name).tobytes() == other.elapsed(name).tobytes()
    for name in one.traces:
        assert one.trace_count(name) == other.trace_count(name)
        assert one.trace_rows(name).tolist() == other.trace_rows(name).tolist()
        assert one.trace_elapsed(name).tobytes() == other.trace_elapsed(name).tobytes()
        for k in range(one.trace_count(name)):
            a, b = one.trace(name, k), other.trace(name, k)
            assert (a.codes.dtype, a.codes.tobytes()) == (b.codes.dtype, b.codes.tobytes())
            assert (a.scale, a.offset, a.unit, a.t0, a.dt) == (b.scale, b.offset, b.unit, b.t0, b.dt)
    assert one.transactions() == other.transactions()
    assert one.transaction_rows().tolist() == other.transaction_rows().tolist()


def layout(path: Path) -> dict[str, object]:
    """Every object of an HDF5 file with its type and attributes, without what may differ."""
    found: dict[str, object] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        attrs = {key: str(value) for key, value in item.attrs.items() if "LIST" not in key}
        found[name] = (
            (str(item.dtype), item.chunks, item.compression, attrs) if isinstance(item, h5py.Dataset) else attrs
        )

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_recovered_is_what_finished_would_have_been(tmp_path: Path) -> None:
    """The journal of a run that was finished gives the same file again: same layout, same bits."""
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.finish()
    finished = recording.path.rename(tmp_path / "finished.h5")
    assert recover(recording.path) == recording.path
    assert_same(load(recording.path), load(finished))
    assert layout(recording.path) == layout(finished)
    assert load(recording.path).status == "done"
    assert load(recording.path).events() == load(finished).events()
    assert load(recording.path).check() == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["finished.h5", "x.h5"]


@pytest.mark.parametrize("end", [None, "done", "aborted", "failed"])
def test_the_status_is_what_the_run_said_last(tmp_path: Path, end: str | None) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    if end:
        recording.journal.event("end", status=end, checks=1)
    recording.journal.close()
    recovered = load(recover(recording.journal.path))
    assert recovered.status == (end or "recovered")
    check_content(recovered)
    assert recovered.losses == []
    names = [name for name, _ in recovered.events()]
    assert names == (["identities", "end"] if end else ["identities", "recovery"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.h5", "x.h5.torn"]


def test_the_hdf5_file_may_be_anything(tmp_path: Path) -> None:
    """The journal alone decides: the HDF5 file is missing, empty, garbage or torn."""
    for k, content in enumerate((None, b"", b"garbage" * 100, b"\x89HDF\r\n\x1a\n")):
        recording = fill(Recording(tmp_path / f"{k}.h5"))
        recording.journal.close()
        for file in (recording.path, Path(f"{recording.path}.part")):
            file.unlink()
        if content is not None:
            recording.path.write_bytes(content)
        recover(recording.path)
        check_content(load(recording.path))
        torn = Path(f"{recording.path}.torn")
        assert torn.exists() == (content is not None)
        if content is not None:
            assert torn.read_bytes() == content


def test_recovering_twice_changes_nothing(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.journal.close()
    before = recover(recording.path).read_bytes()
    assert recover(recording.path).read_bytes() == before
    check_content(load(recording.path))


def test_a_finished_file_whose_journal_was_left_is_kept_as_it_is(tmp_path: Path) -> None:
    """The computer died between closing the file and removing the journal."""
    recording = fill(Recording(tmp_path / "x.h5"))
    before = recording.finish().read_bytes()
    assert recording.journal.path.exists()
    assert load(recording.path).status == "done"
    assert recover(recording.path).read_bytes() == before
    assert not recording.journal.path.exists()


def test_a_run_that_a_viewer_kept_from_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: the file is open until after the end of the run. Nothing is lost, before the recovery or after."""
    recording = fill(Recording(tmp_path / "x.h5"))

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Access is denied")

    with monkeypatch.context() as patch:
        patch.setattr("labctl.disk.OPEN_FILES_STAY", True)
        patch.setattr("labctl.disk.PATIENCE", -1.0)
        patch.setattr(os, "replace", refuse)
        with pytest.raises(StorageError, match="open in another program"):
            recording.finish()
        with pytest.raises(StorageError, match="open in another program"):
            recover(recording.path)
    check_content(load(recording.path))
    finished = Path(f"{recording.path}.part").read_bytes()
    assert recover(recording.path).read_bytes() == finished
    assert load(recording.path).status == "done"
    check_content(load(recording.path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.h5"]


def test_a_recovery_that_was_cut_off_is_started_again(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.journal.close()
    for name in ("x.h5.recovering", "x.h5.recovering.part", "x.h5.new"):
        (tmp_path / name).write_bytes(b"half a file")
    check_content(load(recover(recording.path)))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.h5", "x.h5.torn"]


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.journal.sync()
    with pytest.raises(StorageError, match="being recorded right now"):
        recover(recording.path)
    recording.finish()
    check_content(load(recording.path))


def test_nothing_to_recover_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        recover(tmp_path / "x.h5")
    recording = Recording(tmp_path / "x.h5")
    recording.journal.close()
    recording.journal.path.unlink()
    with pytest.raises(StorageError, match=r"its journal .* is not there"):
        recover(recording.path)


def test_damage_in_the_middle_is_named_and_traces_keep_their_rows(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.h5")
    for k in range(40):
        recording.row(0, Point(k, 0, k, True))
        recording.trace(TRACES[0])
    recording.journal.close()
    data = bytearray(recording.journal.path.read_bytes())
    at = boundaries(bytes(data))
    for row in (10, 20, 21):
        data[at[2 + 2 * row] + 30] ^= 0xFF  # the row
    data[at[2 + 2 * 30 + 1] + 80] ^= 0xFF  # a trace
    recording.journal.path.write_bytes(data)
    run = load(recover(recording.path))
    kept = [k for k in range(40) if k not in (10, 20, 21)]
    assert run.table()["n"].tolist() == kept
    assert run.trace_count("v_mem") == 39
    traced = [k for k in range(40) if k != 30]
    rows = run.trace_rows("v_mem").tolist()
    assert [kept[row] if row >= 0 else None for row in rows] == [k if k in kept else None for k in traced]
    assert [loss.endswith("damaged, 1 record lost") for loss in run.losses] == [True] * 4 + [False]
    assert run.losses[4] == "table point, lost rows: 10, 20 to 21"
    assert run.check() == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.h5", "x.h5.journal.torn", "x.h5.torn"]


def test_a_lost_record_of_a_done_run_makes_it_recovered(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    recording.journal.event("end", status="done", checks=0)
    recording.journal.close()
    data = bytearray(recording.journal.path.read_bytes())
    data[boundaries(bytes(data))[5]] ^= 1
    recording.journal.path.write_bytes(data)
    run = load(recover(recording.path))
    assert (run.status, len(run.losses)) == ("recovered", 2)


def placed_run(path: Path) -> tuple[Recording, list[Trace]]:
    """A run that was cut off, with small traces and large ones, of floats and of integers, of three names."""
    rng = np.random.default_rng(5)
    kinds = [("w", "f4", 100_000), ("w", "f4", 250_000), ("w", "f4", 10), ("x", "f8", 1_200_000), ("c", "i2", 70_001),
             ("w", "f4", 100_000), ("w", "f8", 40_000), ("w", "f4", 100_000), ("c", "i4", 30_000)]  # fmt: skip
    traces = [
        Trace(name, (1000 * rng.standard_normal(n)).astype(dtype), 1.0, 0.0, "V", 0.0, 1e-9) for name, dtype, n in kinds
    ]
    recording = Recording(path)
    for k, trace in enumerate(traces):
        recording.row(0, Point(k, 0, k, True))
        recording.trace(trace)
    recording.journal.close()
    return recording, traces


def check_placed(run: Run, traces: list[Trace]) -> None:
    """Every one of `placed_run`, of its row."""
    for name in "wxc":
        mine = [k for k, trace in enumerate(traces) if trace.name == name]
        assert run.trace_rows(name).tolist() == mine
        for index, k in enumerate(mine):
            np.testing.assert_array_equal(run.trace(name, index).codes, traces[k].codes)
    assert run.check() == []


def test_large_waveforms_are_written_once_and_recovered(tmp_path: Path) -> None:
    """The journal has only the place of large float samples; others, and those that change the dtype, in full."""
    recording, traces = placed_run(tmp_path / "x.h5")
    in_full = sum(trace.codes.nbytes for k, trace in enumerate(traces) if k in (2, 4, 6, 7, 8))
    assert in_full < recording.journal.path.stat().st_size < in_full + 5000
    check_placed(load(recording.path), traces)  # interrupted
    run = load(recover(recording.path))
    assert (run.status, run.losses) == ("recovered", [])
    check_placed(run, traces)


def test_a_finished_run_of_large_waveforms(tmp_path: Path) -> None:
    recording, traces = placed_run(tmp_path / "x.h5")
    recording.store.finish("done", {}, recording.journal.path)
    check_placed(load(recording.path), traces)
    recording.path.write_bytes(recording.path.read_bytes()[:-1])  # its end is gone, and the journal is still there
    check_placed(load(recover(recording.path)), traces)


def test_samples_that_no_file_has_are_named(tmp_path: Path) -> None:
    recording, traces = placed_run(tmp_path / "x.h5")
    part = Path(f"{recording.path}.part")
    data = bytearray(part.read_bytes())
    at = data.index(traces[1].codes[1000:1010].tobytes())
    data[at] ^= 1
    part.write_bytes(data)
    recording.path.unlink()  # what others may look at; it may have them too
    run = load(recover(recording.path))
    assert run.losses == ["trace w of row 1: its samples are not whole in x.h5.part, nor in x.h5"]
    assert run.trace_rows("w").tolist() == [0, 2, 5, 6, 7]
    assert run.row_count() == len(traces)
    assert run.check() == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.h5", "x.h5.journal.torn", "x.h5.torn"]


def test_a_journal_whose_waveforms_are_gone_gives_all_else(tmp_path: Path) -> None:
    recording, traces = placed_run(tmp_path / "x.h5")
    for file in (recording.path, Path(f"{recording.path}.part")):
        file.unlink()
    run = load(recover(recording.path))
    assert [loss.split(":")[0] for loss in run.losses] == [f"trace {traces[k].name} of row {k}" for k in (0, 1, 3, 5)]
    assert run.row_count() == len(traces)
    assert run.check() == []


CHILD = """
import sys, time
import numpy as np
from pathlib import Path
from labctl.protocol import Rows, Trace
from tests.recorded import Note, Point, Recording

recording = Recording(Path(sys.argv[1]))
kind = int(sys.argv[2])
report = sys.stdout.buffer
report.write(b"0\\n")
report.flush()
k = 0  # after k steps the journal has this many records besides its header:
while True:
    recording.row(0, Point(0.5 * k, -k, k, k % 2 == 0))
    recording.row(1, Note(f"cell {k}", k, "ü" * (k % 40)))
    recording.journal.transaction("board", b"ask %d" % k, b"answer" * (k % 9))
    n = 20000 if kind in (2, 4) else 100
    block = Rows(Note, cell=np.array([f"block {k}"] * 3), r=float(k), text="")
    recording.rows(1, block)
    codes = np.arange(n, dtype=np.int16) + k
    recording.trace(Trace("w", codes.astype(np.float32) if kind == 4 else codes, 1.0, 0.0, "V", 0.0, 1.0))
    k += 1
    if kind == 0 and k % 50 == 0:
        recording.journal.sync()
    # five records a step; whole steps that are on the disk for certain
    report.write(b"%d\\n" % ((recording.journal.synced - 2) // 5))
    report.flush()
    if kind == 3:
        time.sleep(0.002)
"""


def expected_rows(steps: int) -> tuple[list[Point], list[Note]]:
    """What the child has recorded after so many whole steps."""
    points = [Point(0.5 * k, -float(k), k, k % 2 == 0) for k in range(steps)]
    notes = []
    for k in range(steps):
        notes.append(Note(f"cell {k}", float(k), "ü" * (k % 40)))
        notes += [Note(f"block {k}", float(k), "")] * 3
    return points, notes


def kill_one(folder: Path, kind: int, delay: float) -> tuple[int, int]:
    """Kill a writer after `delay` s and check its recovery; (steps it had reported as synced, steps recovered)."""
    path = folder / "killed.h5"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(kind)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"0\n", child.communicate()[1].decode()
    os.set_blocking(child.stdout.fileno(), False)
    until = time.monotonic() + delay
    reported = b""
    while time.monotonic() < until:  # else the pipe fills and stops the child
        reported += os.read(child.stdout.fileno(), 1 << 16) if select(child.stdout.fileno(), 0.005) else b""
    child.send_signal(signal.SIGKILL)
    child.wait()
    os.set_blocking(child.stdout.fileno(), True)
    reported += child.stdout.read()
    child.communicate()
    synced = max((int(line) for line in reported.split(b"\n")[:-1]), default=0)

    with h5py.File(path) as file:  # what others may look at opens even now
        assert file.attrs["status"] == "running"
    recover(path)
    run = load(path)
    assert run.status == "recovered"
    assert run.check() == []
    steps = run.row_count()
    assert synced <= steps
    points, notes = expected_rows(steps)
    table = run.table()
    assert [Point(*row) for row in zip(*(column.tolist() for column in table.values()), strict=True)] == points
    found = [Note(*row) for row in zip(*(column.tolist() for column in run.table("note").values()), strict=True)]
    assert found == notes[: len(found)]
    assert len(notes) - 4 <= len(found)
    traces = run.trace_count("w") if "w" in run.traces else 0
    assert steps - 1 <= traces <= steps
    for k in {0, traces // 2, traces - 1} if traces else set():
        trace = run.trace("w", k)
        assert (trace.codes == np.arange(len(trace.codes)).astype(np.int16) + k).all()
    asked = [t.request for t in run.transactions()]
    assert asked == [b"ask %d" % k for k in range(len(asked))]
    assert steps - 1 <= len(asked) <= steps
    for file in folder.iterdir():
        file.unlink()
    return synced, steps


def select(fd: int, timeout: float) -> bool:
    """Whether something can be read."""
    import select as system

    return bool(system.select([fd], [], [], timeout)[0])


KILLS = int(os.environ.get("LABCTL_KILLS", "20"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals and non-blocking pipes of POSIX")
@pytest.mark.timeout(60 + 5 * KILLS)
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    """LABCTL_KILLS=200 python -m pytest tests/test_recover.py -k kill: as many as that; 20 by default."""
    moments = random.Random(8)
    results = [kill_one(tmp_path, k % 5, moments.uniform(0.0, 0.5)) for k in range(KILLS)]
    assert sum(steps for _, steps in results) > 20 * KILLS  # the writers did write
    assert sum(synced for synced, _ in results) > 10 * KILLS  # and the disk was asked meanwhile


FINISHER = """
import sys
from pathlib import Path
from tests.recorded import Recording, fill

for k in range(10_000):
    recording = fill(Recording(Path(sys.argv[1]) / f"{k}.h5"))
    recording.journal.sync()
    print("synced", k, flush=True)
    recording.finish()
    recording.journal.path.unlink()
    print("done", k, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_kill_9_while_finishing(tmp_path: Path) -> None:
    """Runs end one after the other; whichever step of the end the kill meets, nothing that was synced is lost."""
    moments = random.Random(3)
    unfinished = 0
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(
            [sys.executable, "-c", FINISHER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert child.stdout is not None
        said = [child.stdout.readline()]  # the first run is synced
        time.sleep(moments.uniform(0.0, 0.2))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().splitlines()
        child.communicate()
        synced = [int(line.split()[1]) for line in said if line.startswith("synced")]
        done = [int(line.split()[1]) for line in said if line.startswith("done")]
        for k in done:
            assert load(folder / f"{k}.h5").status == "done"
            assert not (folder / f"{k}.h5.journal").exists()
        for k in synced:
            left = (folder / f"{k}.h5.journal").exists()
            run = load(recover(folder / f"{k}.h5"))
            assert run.status in ("done", "recovered")
            check_content(run)
            unfinished += left
    assert unfinished > 0  # some kills did come before the last step


def test_fifty_truncations_and_fifty_flipped_bytes(tmp_path: Path) -> None:
    """Of a longer journal, at random places, through the whole recovery."""
    recording = Recording(tmp_path / "x.h5")
    for k in range(300):
        recording.row(0, POINTS[k % 5]._replace(n=k))
        if k % 10 == 0:
            recording.row(1, NOTES[k % 3])
            recording.trace(TRACES[k % 2])
            recording.rows(1, TEXTS)
            recording.journal.transaction("board", b"ask", b"answer")
    recording.journal.close()
    data = recording.journal.path.read_bytes()
    whole = read_journal(recording.journal.path)
    ends = boundaries(data)
    chance = random.Random(5)
    for k in range(100):
        path = tmp_path / f"{k}.h5"
        broken = bytearray(data)
        if k < 50:
            del broken[chance.randrange(2000, len(data)) :]
        else:
            broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        Path(f"{path}.journal").write_bytes(broken)
        run = load(recover(path))
        n = run.table()["n"].tolist()
        if k < 50:
            assert n == list(range(len(n)))
            assert (run.losses == []) == (len(broken) in ends)
        else:
            assert n == sorted(set(n))
            assert set(n) <= set(range(300))
            # one record: rows that came with nothing between them, a block of two, a trace … or a spare header
            rows = sorted(set(range(300)) - set(n))
            assert len(rows) <= 10
            if rows and rows[-1] < 299:  # else it was the last record, and nothing after it says what it was
                assert run.losses[1].endswith(f"lost rows: {rows[0]}" + f" to {rows[-1]}" * (len(rows) > 1))
            others = [
                len(whole.numbers[1]) - run.row_count("note"),
                len(whole.traces) - run.trace_count("v_mem"),
                len(whole.transactions) - len(run.transactions()),
            ]
            assert sum(map(bool, [rows, *others])) == (bool(run.losses) and "nothing lost" not in run.losses[0])
        values = run.table()["v"]
        assert values.tolist() == [POINTS[number % 5].v for number in n]
