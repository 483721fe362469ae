"""The journal proves what it holds: after any damage nothing is invented, and the loss is named exactly."""

import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.disk import is_being_written
from labctl.errors import MeasurementError, StorageError
from labctl.journal import BATCH_ROWS, HEAD, MAGIC, ROWS_PREFIX, Journal
from labctl.journal_entries import describe_losses
from labctl.journal_reader import JournalContents, read_journal
from labctl.protocol import Rows, Trace
from labctl.schema import is_constant
from tests.recorded import BLOCK, HEADER, NOTES, POINTS, TABLES, TEXTS, TRACES, Note, Point, bits

PREAMBLE = 3 * (len(MAGIC) + 4)


def small(path: Path) -> Path:
    """A journal of a few kinds of records, about 2 kB."""
    journal = Journal(path, {"protocol": "x"}, TABLES)
    journal.event("identities", board="b")
    for k, point in enumerate(POINTS):
        journal.row(0, point)
        if k == 1:
            journal.trace(TRACES[0], 1)
            journal.row(1, NOTES[0])
    journal.transaction("board", b"request", b"reply")
    journal.rows(0, BLOCK)
    journal.rows(1, TEXTS)
    journal.row(0, POINTS[2])
    journal.event("end", status="done")
    journal.close()
    return path


def boundaries(data: bytes) -> list[int]:
    """Where the records begin, by their lengths alone, and the end."""
    at = [PREAMBLE]
    while at[-1] < len(data):
        at.append(at[-1] + HEAD.size + HEAD.unpack_from(data, at[-1])[0])
    assert at[-1] == len(data)
    return at


def records(contents: JournalContents) -> set[tuple[Any, ...]]:
    """Every single thing in it, for comparing; rows with number and time."""
    found: set[tuple[Any, ...]] = set()
    for k, (numbers, times, columns) in enumerate(zip(contents.numbers, contents.t, contents.rows, strict=True)):
        cells = [column.tolist() for column in columns.values()]
        found |= {("row", k, *map(repr, row)) for row in zip(numbers.tolist(), times.tolist(), *cells, strict=True)}
    found |= {("trace", t.t, t.row, t.trace.name, t.trace.codes.tobytes(), t.trace.scale) for t in contents.traces}
    found |= {("transaction", t.t, *t.transaction) for t in contents.transactions}
    return found | {("event", e.t, e.name, repr(e.data)) for e in contents.events}


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, HEADER, TABLES)
    times = [journal.row(0, point) for point in POINTS]
    times += [journal.rows(0, BLOCK)] * len(BLOCK)
    for note in NOTES:
        journal.row(1, note)
    journal.rows(1, TEXTS)
    for k, trace in enumerate(TRACES):
        journal.trace(trace, k - 1)
    journal.transaction("board", b"\x00\xff", b"")
    journal.event("comment", text="ä\0", value=[1, None])
    journal.close()
    read = read_journal(path)
    assert read.header == HEADER
    assert [(table.name, table.columns, table.doc) for table in read.tables] == [
        (table.name, table.columns, table.doc) for table in TABLES
    ]
    expected = [
        np.array([p.v for p in POINTS] + BLOCK.columns["v"].tolist()),
        np.array([p.i for p in POINTS] + [2e-6] * 4),
        np.array([p.n for p in POINTS] + [0, 1, 2, 3], np.int64),
        np.array([p.ok for p in POINTS] + [True, False, True, False]),
    ]
    assert bits(read.rows[0]) == bits(dict(zip(Point._fields, expected, strict=True)))
    assert read.rows[1]["cell"].tolist() == [n.cell for n in NOTES] + ["a", "bé"]
    assert read.rows[1]["text"].tolist() == [n.text for n in NOTES] + ["same", "same"]
    assert read.rows[1]["r"].tobytes() == np.array([n.r for n in NOTES] + [1, 2]).tobytes()
    assert read.t[0].tolist() == times
    assert read.numbers[0].tolist() == list(range(9))
    for entry, trace, row in zip(read.traces, TRACES, (-1, 0, 1), strict=True):
        assert (entry.row, entry.trace.codes.dtype, entry.trace.codes.tobytes()) == (
            row, trace.codes.dtype, trace.codes.tobytes(),
        )  # fmt: skip
        assert [getattr(entry.trace, k) for k in ("name", "scale", "offset", "unit", "t0", "dt")] == [
            getattr(trace, k) for k in ("name", "scale", "offset", "unit", "t0", "dt")
        ]
    assert [t.transaction for t in read.transactions] == [("board", b"\x00\xff", b"")]
    assert [(e.name, e.data) for e in read.events] == [("comment", {"text": "ä\0", "value": [1, None]})]
    assert read.transactions[0].rows_before == 9
    assert read.losses == []


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
int64 = st.integers(-(2**63), 2**63 - 1)
points = st.tuples(st.floats(), st.floats(), int64, st.booleans()).map(lambda row: Point(*row))
notes = st.tuples(texts, st.floats(), texts).map(lambda row: Note(*row))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(points, notes), max_size=30))
def test_any_row_comes_back(tmp_path: Path, rows: list[Point | Note]) -> None:
    path = tmp_path / "any"
    path.unlink(missing_ok=True)
    journal = Journal(path, {}, TABLES)
    for row in rows:
        journal.row(isinstance(row, Note), row)
    journal.close()
    read = read_journal(path)
    for index, kind in enumerate((Point, Note)):
        back = [kind(*cells) for cells in zip(*(c.tolist() for c in read.rows[index].values()), strict=True)]
        pack = [[struct.pack("<d", c) if isinstance(c, float) else c for c in row] for row in back]
        want = [[struct.pack("<d", c) if isinstance(c, float) else c for c in row] for row in rows if type(row) is kind]
        assert pack == want


def test_a_torn_tail_costs_only_what_is_torn(tmp_path: Path) -> None:
    """Cut after every single byte."""
    data = small(tmp_path / "whole").read_bytes()
    at = boundaries(data)
    torn = tmp_path / "torn"
    for end in range(at[1]):
        torn.write_bytes(data[:end])
        with pytest.raises(StorageError, match=r"header|no journal"):
            read_journal(torn)
    whole = {}
    for end in at[1:]:
        torn.write_bytes(data[:end])
        read = read_journal(torn)
        assert read.losses == []
        whole[end] = records(read)
    assert (len(whole[at[2]]), len(whole[at[-1]])) == (0, 17)  # after the headers; everything that `small` recorded
    for end in range(at[1], len(data) + 1):
        torn.write_bytes(data[:end])
        start = max(boundary for boundary in at if boundary <= end)
        read = read_journal(torn)
        assert records(read) == whole[start]
        if end != start:
            (loss,) = read.losses
            assert (loss.offset, loss.size, loss.records) == (start, end - start, None)
            assert f"bytes {start} to {end - 1}: the last" in str(loss)
            assert read.lost_rows == {}


@pytest.mark.parametrize("all_bits", [True, False])
def test_a_flipped_byte_costs_one_record_and_is_named(tmp_path: Path, all_bits: bool) -> None:
    """At every single position, all its bits or one of them."""
    path = small(tmp_path / "whole")
    data = path.read_bytes()
    at = boundaries(data)
    everything = records(read_journal(path))
    damaged = tmp_path / "damaged"
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 0xFF if all_bits else 1 << position % 8
        damaged.write_bytes(broken)
        read = read_journal(damaged)
        found = records(read)
        assert found <= everything, f"invented at byte {position}"
        record = sum(boundary <= position for boundary in at) - 1
        if record < 2:  # preamble or one of the headers: there are others
            assert found == everything
            assert [loss.records for loss in read.losses] == [0] * (record >= 0)
            assert all("nothing lost" in str(loss) for loss in read.losses)
            continue
        (loss,) = read.losses
        assert loss.offset == at[record]
        lost = everything - found
        assert {item[0] for item in lost} <= {"row", "trace", "transaction", "event"}
        assert len({item[0] for item in lost}) == 1, f"more than one record lost at byte {position}"
        if record == len(at) - 2:  # the last one: nothing after it proves what it was
            assert loss.records is None
            continue
        assert loss.records == 1
        rows = sorted((item for item in lost if item[0] == "row"), key=lambda item: int(item[2]))
        if rows:
            name = TABLES[rows[0][1]].name
            assert read.lost_rows == {name: [(int(rows[0][2]), int(rows[-1][2]))]}
        else:
            assert read.lost_rows == {}
        assert str(loss).endswith("damaged, 1 record lost")


def test_damage_over_several_records_names_every_row(tmp_path: Path) -> None:
    """Rows with nothing between them share a record, so a damaged byte costs up to `BATCH_ROWS` of them."""
    path = tmp_path / "j"
    journal = Journal(path, {}, TABLES)
    for k in range(20000):
        journal.row(0, Point(k, k, k, True))
        if k == 11000:
            journal.row(1, NOTES[0])
    journal.close()
    whole = read_journal(path)
    assert whole.rows[0]["n"].tolist() == list(range(20000))
    data = bytearray(path.read_bytes())
    at = boundaries(bytes(data))
    first_rows = [ROWS_PREFIX.unpack_from(data, start + HEAD.size)[4] for start in at[2:150]]
    sizes = np.diff(first_rows)
    assert sizes.max() == BATCH_ROWS
    for first, last in ((100, 103), (120, 120), (140, 141)):
        data[at[2 + first] + 5 : at[2 + last] + 6] = bytes(at[2 + last] - at[2 + first] + 1)
    path.write_bytes(data)
    read = read_journal(path)
    assert [loss.records for loss in read.losses] == [4, 1, 2]
    spans = [(first_rows[first], first_rows[last + 1] - 1) for first, last in ((100, 103), (120, 120), (140, 141))]
    assert read.lost_rows == {"point": spans}
    lines = describe_losses(read.losses, read.lost_rows)
    assert lines[0].endswith("damaged, 4 records lost")
    assert lines[3:] == ["table point, lost rows: " + ", ".join(f"{first} to {last}" for first, last in spans)]
    keep = [k for k in range(20000) if not any(first <= k <= last for first, last in spans)]
    assert read.numbers[0].tolist() == keep == read.rows[0]["n"].tolist()
    assert len(read.rows[1]["r"]) == 1


def test_rows_of_another_journal_inside_a_damaged_record_are_not_taken(tmp_path: Path) -> None:
    other = small(tmp_path / "other").read_bytes()
    path = tmp_path / "j"
    journal = Journal(path, {"protocol": "x"}, TABLES)
    journal.transaction("board", other, other)
    journal.row(0, POINTS[0])
    journal.close()
    data = bytearray(path.read_bytes())
    data[boundaries(bytes(data))[2]] ^= 0xFF  # the length: where the next record begins must be searched
    path.write_bytes(data)
    read = read_journal(path)
    assert [len(columns["r" if k else "v"]) for k, columns in enumerate(read.rows)] == [1, 0]
    assert (read.transactions, read.events, read.losses[0].records) == ([], [], 1)


def test_a_tail_of_zeros_is_no_data(tmp_path: Path) -> None:
    """As after a power cut: the file's length was written, its content not yet."""
    path = small(tmp_path / "j")
    everything = records(read_journal(path))
    with path.open("ab") as file:
        file.write(bytes(5000))
    read = read_journal(path)
    assert records(read) == everything
    assert [(loss.size, loss.records) for loss in read.losses] == [(5000, None)]


@pytest.mark.parametrize(
    ("table", "row", "words"),
    [
        (0, (1.0, "2", 3, True), "i = '2'"),
        (0, (None, 2.0, 3, True), "v = None"),
        (0, (1.0, 2.0, 3.5, True), "n = 3.5"),
        (0, (1.0, 2.0, 2**63, True), "n = 9223372036854775808"),
        (0, (1.0, 10**400, 3, True), "i = 1000"),
        (0, (1.0, 2.0, 3), "4 columns"),
        (1, ("a\0b", 1.0, ""), "cell = 'a\\\\x00b'"),
        (1, ("a", 1.0, "\ud800"), "text = "),
        (1, (b"a", 1.0, ""), "cell = b'a'"),
        (1, ("a", "b", ""), "r = 'b'"),
    ],
)
def test_a_row_that_does_not_match_leaves_nothing(tmp_path: Path, table: int, row: tuple[Any, ...], words: str) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)
    journal.row(0, POINTS[0])
    with pytest.raises((MeasurementError, ValueError), match=words if len(row) == len(TABLES[table].columns) else None):
        journal.row(table, row)
    journal.row(0, POINTS[1])
    journal.close()
    read = read_journal(tmp_path / "j")
    assert read.rows[0]["v"].tolist() == [POINTS[0].v, POINTS[1].v]
    assert read.numbers[0].tolist() == [0, 1]
    assert len(read.rows[1]["r"]) == 0
    assert read.losses == []


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (Rows(Point, v=1.0, i=np.array([1j, 2]), n=1, ok=True), "i holds float values, not complex"),
        (Rows(Point, v=1.0, i=1.0, n=np.array([1.5, 2.0]), ok=True), "n holds int values, not float"),
        (Rows(Point, v=1.0, i=1.0, n=np.array([1, 2**63], np.uint64), ok=True), "n holds int values, not uint64"),
        (Rows(Point, v=1.0, i=1.0, n=np.array([1, 2]), ok=1), "ok holds bool values"),
        (Rows(Note, cell=np.array(["a", "b\0c"], object), r=1.0, text=""), "cell = "),
        (Rows(Note, cell=np.array([1, 2]), r=1.0, text=""), "cell = 1"),
    ],
)
def test_a_block_that_does_not_match_leaves_nothing(tmp_path: Path, block: Rows, words: str) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)
    with pytest.raises(MeasurementError, match=words):
        journal.rows(int(block.row is Note), block)
    journal.close()
    assert all(len(numbers) == 0 for numbers in read_journal(tmp_path / "j").numbers)


@pytest.mark.parametrize(
    "trace",
    [
        Trace("a/b", np.zeros(2, np.int8), 1, 0, "V", 0, 1),
        Trace("", np.zeros(2, np.int8), 1, 0, "V", 0, 1),
        Trace("a", np.zeros((2, 2), np.int8), 1, 0, "V", 0, 1),
        Trace("a", np.zeros(2, complex), 1, 0, "V", 0, 1),
        Trace("v_mem", np.zeros(2, np.int8), 1, 0, "A", 0, 1),
        Trace("big", np.zeros(2, np.uint64), 1, 0, "V", 0, 1),
    ],
)
def test_a_trace_that_cannot_be_kept_leaves_nothing(tmp_path: Path, trace: Trace) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)
    journal.trace(TRACES[0], 0)
    journal.trace(Trace("big", np.zeros(1, np.int64), 1, 0, "V", 0, 1), 0)
    with pytest.raises(MeasurementError, match="trace"):
        journal.trace(trace, 0)
    journal.close()
    assert len(read_journal(tmp_path / "j").traces) == 2


def test_large_blocks_and_waveforms_are_taken_as_they_were(tmp_path: Path) -> None:
    """They are written without a copy; what their owner does afterwards does not count."""
    journal = Journal(tmp_path / "j", {}, TABLES)
    n = 3_000_000 // 8
    v, codes = np.arange(n, dtype=float), np.arange(n, dtype=np.int16)
    journal.rows(0, Rows(Point, v=v, i=v, n=np.arange(n), ok=False))
    journal.trace(Trace("w", codes, 1, 0, "V", 0, 1), 0)
    v[:], codes[:] = -1, -1
    journal.row(0, POINTS[1])
    journal.close()
    read = read_journal(tmp_path / "j")
    assert (read.rows[0]["v"][:n] == np.arange(n)).all()
    assert (read.traces[0].trace.codes == np.arange(n).astype(np.int16)).all()
    assert read.rows[0]["v"][n] == POINTS[1].v
    assert read.losses == []


@pytest.mark.parametrize("constant", [True, False])
def test_waveforms_that_nobody_can_change_are_written_behind_the_callers_back(tmp_path: Path, constant: bool) -> None:
    """They come out the same, in order with everything else, and closing waits for them."""
    journal = Journal(tmp_path / "j", {}, TABLES)
    for k in range(40):
        codes = np.frombuffer(np.full(1_000_000, k, np.int16).tobytes(), np.int16)
        assert is_constant(codes)
        if not constant:
            codes = codes.copy()
            assert not is_constant(codes)
            assert not is_constant(codes[::2])
        journal.trace(Trace("w", codes, 1, 0, "V", 0, 1), k)
        journal.row(0, POINTS[k % 5])
        if not constant:
            codes[:] = -1
    journal.close()
    read = read_journal(tmp_path / "j")
    assert [(t.row, *np.unique(t.trace.codes)) for t in read.traces] == [(k, k) for k in range(40)]
    assert read.rows[0]["v"].tolist() == [POINTS[k % 5].v for k in range(40)]
    assert read.losses == []


def test_threads_may_record_transactions_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)

    def work(name: str) -> None:
        for k in range(2000):
            journal.transaction(name, b"%d" % k, name.encode() * (k % 50))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("board", "scope", "psu")]
    for thread in threads:
        thread.start()
    for k in range(2000):
        journal.row(0, Point(k, 0, k, True))
    for thread in threads:
        thread.join()
    journal.close()
    read = read_journal(tmp_path / "j")
    assert read.rows[0]["n"].tolist() == list(range(2000))
    for name in ("board", "scope", "psu"):
        mine = [t.transaction for t in read.transactions if t.transaction.instrument == name]
        assert mine == [(name, b"%d" % k, name.encode() * (k % 50)) for k in range(2000)]
    times = [t.t for t in read.transactions]
    assert times == sorted(times)


def test_it_is_synced_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread reaches the disk by itself, and says how far; the disk is asked after the bytes are in the file."""
    sizes = []
    name = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
    real = getattr(os, name)

    def spy(fd: int) -> None:
        sizes.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, name, spy)
    journal = Journal(tmp_path / "j", {}, TABLES)
    assert journal.synced == 2  # the header, from the start
    journal.row(0, POINTS[0])
    while journal.synced < 3:
        time.sleep(0.01)  # pytest-timeout ends this if it never comes
    assert sizes[-1] == (tmp_path / "j").stat().st_size
    assert len(read_journal(tmp_path / "j").rows[0]["v"]) == 1
    journal.row(0, POINTS[1])
    journal.sync()
    assert journal.synced == journal.recorded == 4
    assert len(read_journal(tmp_path / "j").rows[0]["v"]) == 2
    journal.close()


def test_an_existing_journal_is_never_touched(tmp_path: Path) -> None:
    path = small(tmp_path / "j")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="exists"):
        Journal(path, {}, TABLES)
    assert path.read_bytes() == before


def test_after_closing_nothing_is_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)
    journal.close()
    journal.close()
    calls: list[Callable[[], object]] = [
        lambda: journal.row(0, POINTS[0]),
        lambda: journal.event("x"),
        lambda: journal.rows(0, BLOCK),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="closed"):
            call()


def test_who_writes_it_is_seen(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)
    assert is_being_written(tmp_path / "j")
    journal.close()
    assert not is_being_written(tmp_path / "j")


def forever(journal: Journal) -> None:
    """Rows until it fails."""
    while True:
        journal.row(0, POINTS[1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_device_is_raised_at_the_next_call(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", {}, TABLES)
    journal.row(0, POINTS[0])
    journal.sync()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._fd)
    os.close(full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\); the first 3 records"):
        forever(journal)
    calls: list[Callable[[], object]] = [
        lambda: journal.row(0, POINTS[1]),
        lambda: journal.trace(TRACES[0], 0),
        journal.sync,
        journal.close,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="No space left"):
            call()
    assert read_journal(tmp_path / "j").rows[0]["v"].tolist() == [POINTS[0].v]


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_full_disk_keeps_what_was_synced(tmp_path: Path) -> None:
    """The system's own limit on the size of a file: a write comes back short, the next one fails."""
    code = f"""
import resource, sys
from labctl.errors import StorageError
from labctl.journal import Journal
from tests.recorded import POINTS, TABLES
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
journal = Journal({str(tmp_path / "j")!r}, {{}}, TABLES)
accepted = 0
try:
    while True:
        journal.row(0, POINTS[accepted % 5])
        accepted += 1
        if accepted == 300:
            journal.sync()
except StorageError as error:
    print(accepted, error)
try:
    journal.close()
except StorageError:
    print("close said so too")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    accepted = int(first.split()[0])
    assert "File too large" in first
    assert second == "close said so too"
    read = read_journal(tmp_path / "j")
    kept = len(read.rows[0]["v"])
    assert 300 <= kept <= accepted
    assert read.rows[0]["v"].tolist() == [POINTS[k % 5].v for k in range(kept)]
    assert (tmp_path / "j").stat().st_size == 40_000


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for content in (b"", b"abc", b"\x89HDF\r\n\x1a\n" + bytes(1000), os.urandom(5000)):
        path.write_bytes(content)
        with pytest.raises(StorageError):
            read_journal(path)
    with pytest.raises(StorageError, match="cannot be read"):
        read_journal(tmp_path / "none")
