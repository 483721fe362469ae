"""Reads a journal up to what is provably good, and names what is lost.

A record counts only when its CRC, which covers the file's nonce, proves it. After damage the next proven record is
looked for; sequence and row numbers tell exactly how many records, and which rows, are missing between the two.
"""

import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from labctl.errors import StorageError
from labctl.journal import (
    COMMON,
    EVENT,
    HEAD,
    HEADER,
    MAGIC,
    ROW,
    ROW_PREFIX,
    ROWS,
    ROWS_PREFIX,
    TEXT_LENGTH,
    TRACE,
    TRACE_PREFIX,
    TRANSACTION,
    TRANSACTION_PREFIX,
    VERSION,
)
from labctl.journal_entries import Block, Entry, EventEntry, Loss, Remains, Spans, TraceEntry, TransactionEntry
from labctl.protocol import Table, Trace
from labctl.schema import DTYPES, from_json
from labctl.transport.tape import Transaction

_PREAMBLE = 3 * (len(MAGIC) + 4)
_BATCH = 4096
_PREFIXES = {
    HEADER: COMMON, ROW: ROW_PREFIX, ROWS: ROWS_PREFIX, TRACE: TRACE_PREFIX,
    TRANSACTION: TRANSACTION_PREFIX, EVENT: COMMON,
}  # fmt: skip


class JournalReader:
    """An open journal. `entries` goes through it once, in order; after that `losses` and `lost_rows` are complete.

    Raises `StorageError` when there is no journal, or none of the two copies of its header is whole.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.losses: list[Loss] = []
        self.lost_rows: Spans = {}
        self.last_t = 0.0
        self._samples = True
        try:
            with self.path.open("rb") as file:
                file.seek(0, 2)
                self._data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b""
        except OSError as error:
            raise StorageError(f"journal {self.path} cannot be read ({error.strerror or error})") from error
        self._view = memoryview(self._data)
        self._size = len(self._data)
        try:
            described = self._find_header()
        except BaseException:
            self.close()
            raise
        self.started: str = described["started"]
        self.header: dict[str, Any] = described["header"]
        self.tables: tuple[Table, ...] = tuple(from_json(table) for table in described["tables"])
        self._numbers = [0] * len(self.tables)
        self._row_types = [_row_type(table) for table in self.tables]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._view.release()
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def entries(self, samples: bool = True) -> Iterator[Entry]:
        """Everything that is proven, in order.

        samples=False: rows are left out, waveforms have no codes, and neither is proven (for one's own journal).
        """
        self._samples = samples
        for kind, offset, count in self._records():
            if kind in (ROW, ROWS):
                yield from self._block(kind, offset, count)
            elif kind == TRACE:
                yield self._trace(offset)
            elif kind == TRANSACTION:
                yield self._transaction(offset)
            elif kind == EVENT:
                yield self._event(offset)

    def position(self, number: int) -> int:
        """Where the main row of that number is among those that came so far; -1 when it is lost, or none was meant."""
        if not self._numbers or not 0 <= number < self._numbers[0]:
            return -1
        before = 0
        for first, last in self.lost_rows.get(self.tables[0].name, []):
            if first <= number <= last:
                return -1
            before += (last - first + 1) * (number > last)
        return number - before

    def _find_header(self) -> dict[str, Any]:
        step = len(MAGIC) + 4
        head = bytes(self._view[:_PREAMBLE])
        copies = [head[k : k + step] for k in range(0, _PREAMBLE, step)]
        if not any(copy.startswith(MAGIC) for copy in copies):
            what = "is no journal of labctl" if len(head) >= step else "ends before its header: nothing was recorded"
            raise StorageError(f"{self.path} {what}; give FILE.h5 or FILE.h5.journal")
        for nonce in dict.fromkeys(copy[len(MAGIC) :] for copy in copies):
            self._seed = crc32(nonce)
            offset: int | None = _PREAMBLE
            for _ in range(2):
                if offset is None:
                    break
                proven = self._proven(offset)
                if proven and proven[0] == HEADER:
                    described: dict[str, Any] = json.loads(
                        bytes(self._view[offset + HEAD.size + COMMON.size : proven[2]])
                    )
                    if described["version"] > VERSION:
                        raise StorageError(
                            f"{self.path} has version {described['version']}, this labctl reads up to {VERSION};"
                            " update labctl"
                        )
                    return described
                offset = self._resync(offset, 1)
        raise StorageError(
            f"{self.path}: both copies of the header are damaged or missing; the rows cannot be told apart"
        )

    def _proven(self, offset: int) -> tuple[int, int, int] | None:
        """(kind, sequence, end) of the record at `offset` when its CRC proves it."""
        body = offset + HEAD.size
        if body + COMMON.size > self._size:
            return None
        size, check = HEAD.unpack_from(self._view, offset)
        end = body + size
        kind, _, sequence = COMMON.unpack_from(self._view, body)
        if end > self._size or kind not in _PREFIXES or size < _PREFIXES[kind].size:
            return None
        covered = end
        if kind == TRACE:
            *_, name, unit, dtype, samples = TRACE_PREFIX.unpack_from(self._view, body)
            covered = body + TRACE_PREFIX.size + name + unit + dtype
            if covered > end or (self._samples and crc32(self._view[covered:end]) != samples):
                return None
        if crc32(self._view[body:covered], crc32(self._view[offset : offset + 4], self._seed)) != check:
            return None
        return kind, sequence, end

    def _resync(self, offset: int, expected: int) -> int | None:
        """Where the next proven record begins, after the damaged one at `offset` whose sequence number is at least
        `expected` - 1; None when there is none.
        """
        if offset + HEAD.size <= self._size:  # mostly the damage is inside one record and its length still stands
            end = offset + HEAD.size + HEAD.unpack_from(self._view, offset)[0]
            proven = self._proven(end)
            if proven and proven[1] == expected:
                return int(end)
        window = 1 << 20
        reach = HEAD.size + COMMON.size
        for start in range(offset + 1, self._size - reach + 1, window):
            stop = min(start + window, self._size - reach + 1)
            data = np.frombuffer(self._view[start : stop + reach], np.uint8)
            n = stop - start
            kinds = data[HEAD.size : HEAD.size + n]
            at = np.flatnonzero((kinds >= HEADER) & (kinds <= EVENT))
            sequence = np.zeros(len(at), np.uint64)
            for k in range(8):
                sequence |= data[at + (HEAD.size + 9 + k)].astype(np.uint64) << np.uint64(8 * k)
            most = expected + (self._size - offset) // reach
            at = at[(sequence >= expected) & (sequence <= most)]
            del data, kinds  # they would keep the map from closing
            for candidate in at.tolist():
                if self._proven(start + candidate):
                    return start + candidate
        return None

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """(kind, offset, count) of proven records; equal rows of one table that follow each other are one item."""
        offset, expected = _PREAMBLE, 0
        run_of = (0, 0, 0)
        while offset < self._size:
            proven = self._proven(offset)
            if proven is None or proven[1] < expected:
                found = self._resync(offset, expected + 1)
                end = self._size if found is None else found
                self.losses.append(Loss(offset, end - offset, None))
                if found is None:
                    return
                offset = found
                continue
            kind, sequence, end = proven
            if self.losses and self.losses[-1].records is None:
                # the first two records are the header and its copy: one of them was enough
                self.losses[-1].records = max(0, sequence - max(expected, 2))
            count = 1
            if kind == ROW:
                table = ROW_PREFIX.unpack_from(self._view, offset + HEAD.size)[3]
                key = (kind, table, end - offset)
                if key == run_of and self._row_types[table] is not None:
                    count = self._run(offset, end - offset, table, sequence)
                    end = offset + count * (end - offset)
                run_of = key
            else:
                run_of = (kind, 0, 0)
            yield kind, offset, count
            offset, expected = end, sequence + count

    def _run(self, offset: int, size: int, table: int, sequence: int) -> int:
        """How many rows of that table and size follow each other from `offset`, all proven; at least 1."""
        n = min(_BATCH, (self._size - offset) // size)
        rows = np.frombuffer(self._view[offset : offset + n * size], self._row_types[table])
        same = (
            (rows["length"] == size - HEAD.size)
            & (rows["kind"] == ROW)
            & (rows["table"] == table)
            & (rows["sequence"] == np.arange(sequence, sequence + n, dtype=np.uint64))
            & (rows["number"] == np.arange(n, dtype=np.uint64) + rows["number"][0])
        )
        n = n if same.all() else int(np.argmin(same))
        checks = rows["crc"][:n].tolist() if self._samples else []
        del rows, same
        view, seed = self._view, crc32(self._view[offset : offset + 4], self._seed)
        start = offset + HEAD.size
        for k, check in enumerate(checks):
            if crc32(view[start : start + size - HEAD.size], seed) != check:
                return max(k, 1)
            start += size
        return n

    def _block(self, kind: int, offset: int, count: int) -> Iterator[Block]:
        body = offset + HEAD.size
        if kind == ROW:
            _, t, _, table, number = ROW_PREFIX.unpack_from(self._view, body)
            n = count
        else:
            _, t, _, table, number, n = ROWS_PREFIX.unpack_from(self._view, body)
        self._missing(table, number)
        self._numbers[table] = number + n
        self.last_t = t
        if count > 1:
            last = body + (count - 1) * (HEAD.size + HEAD.unpack_from(self._view, offset)[0])
            self.last_t = COMMON.unpack_from(self._view, last)[1]
        if not self._samples:
            return
        numbers = np.arange(number, number + n, dtype=np.int64)
        row_type = self._row_types[table]
        if kind == ROW and row_type is not None:
            records = np.frombuffer(self._view[offset : offset + n * row_type.itemsize], row_type)
            columns = {column.name: records["c_" + column.name].copy() for column in self.tables[table].columns}
            times = records["t"].copy()
            del records
            yield Block(table, numbers, times, columns)
        else:
            at = body + (ROW_PREFIX.size if kind == ROW else ROWS_PREFIX.size)
            columns = self._row_with_text(table, at) if kind == ROW else self._columns(table, at, n)
            yield Block(table, numbers, np.full(n, t), columns)

    def _missing(self, table: int, number: int) -> None:
        """The next row of that table has `number`: name those in between as lost."""
        if number > self._numbers[table]:
            self.lost_rows.setdefault(self.tables[table].name, []).append((self._numbers[table], number - 1))
        self._numbers[table] = max(number, self._numbers[table])

    def _columns(self, table: int, at: int, n: int) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {}
        for column in self.tables[table].columns:
            if column.kind is str:
                columns[column.name], at = self._texts(at, n)
            else:
                dtype = DTYPES[column.kind]
                columns[column.name] = np.frombuffer(self._view[at : at + n * dtype.itemsize], dtype).copy()
                at += n * dtype.itemsize
        return columns

    def _row_with_text(self, table: int, at: int) -> dict[str, NDArray[Any]]:
        columns = {}
        declared = self.tables[table].columns
        for column in declared:
            if column.kind is not str:
                dtype = DTYPES[column.kind]
                columns[column.name] = np.frombuffer(self._view[at : at + dtype.itemsize], dtype).copy()
                at += dtype.itemsize
        names = [column.name for column in declared if column.kind is str]
        texts, _ = self._texts(at, len(names))
        columns |= {name: texts[k : k + 1] for k, name in enumerate(names)}
        return {column.name: columns[column.name] for column in declared}

    def _texts(self, at: int, n: int) -> tuple[NDArray[Any], int]:
        lengths = struct.unpack_from(f"<{n}{TEXT_LENGTH.format[1:]}", self._view, at)
        at += n * TEXT_LENGTH.size
        texts = np.empty(n, object)
        for k, length in enumerate(lengths):
            texts[k] = str(self._view[at : at + length], "utf-8")
            at += length
        return texts, at

    def _trace(self, offset: int) -> TraceEntry:
        body = offset + HEAD.size
        end = body + HEAD.unpack_from(self._view, offset)[0]
        _, t, _, row, scale, dc, t0, dt, *lengths, check = TRACE_PREFIX.unpack_from(self._view, body)
        at = body + TRACE_PREFIX.size
        texts = []
        for length in lengths:
            texts.append(str(self._view[at : at + length], "utf-8"))
            at += length
        name, unit, dtype = texts
        codes = np.frombuffer(self._view[at : end if self._samples else at], np.dtype(dtype)).copy()
        self.last_t = t
        return TraceEntry(t, row, Trace(name, codes, scale, dc, unit, t0, dt), check)

    def _transaction(self, offset: int) -> TransactionEntry:
        body = offset + HEAD.size
        end = body + HEAD.unpack_from(self._view, offset)[0]
        _, t, _, name, request = TRANSACTION_PREFIX.unpack_from(self._view, body)
        at = body + TRANSACTION_PREFIX.size
        self.last_t = t
        return TransactionEntry(
            t,
            self._numbers[0] if self._numbers else 0,
            Transaction(
                str(self._view[at : at + name], "utf-8"),
                bytes(self._view[at + name : at + name + request]),
                bytes(self._view[at + name + request : end]),
            ),
        )

    def _event(self, offset: int) -> EventEntry:
        body = offset + HEAD.size
        end = body + HEAD.unpack_from(self._view, offset)[0]
        _, t, _ = COMMON.unpack_from(self._view, body)
        what = json.loads(bytes(self._view[body + COMMON.size : end]))
        for table, number in enumerate(what["rows"]):
            self._missing(table, number)
        self.last_t = t
        return EventEntry(t, self._numbers[0] if self._numbers else 0, what["name"], what["data"])


@dataclass
class JournalContents:
    """A whole journal in memory; `tables` and `rows` go together, one dictionary of columns a table."""

    header: dict[str, Any]
    started: str
    tables: tuple[Table, ...]
    rows: list[dict[str, NDArray[Any]]]
    numbers: list[NDArray[np.int64]]
    t: list[NDArray[np.float64]]
    traces: list[TraceEntry]
    transactions: list[TransactionEntry]
    events: list[EventEntry]
    losses: list[Loss]
    lost_rows: Spans


def read_journal(path: str | Path) -> JournalContents:
    """Everything that a journal proves, and what it lost; raises `StorageError` when it cannot be read at all."""
    with JournalReader(path) as reader:
        entries = list(reader.entries())
        blocks = [[e for e in entries if isinstance(e, Block) and e.table == k] for k in range(len(reader.tables))]
        return JournalContents(
            reader.header,
            reader.started,
            reader.tables,
            [
                {
                    c.name: np.concatenate([np.empty(0, DTYPES[c.kind]), *(block.columns[c.name] for block in some)])
                    for c in table.columns
                }
                for table, some in zip(reader.tables, blocks, strict=True)
            ],
            [np.concatenate([np.empty(0, np.int64), *(block.numbers for block in some)]) for some in blocks],
            [np.concatenate([np.empty(0), *(block.t for block in some)]) for some in blocks],
            [entry for entry in entries if isinstance(entry, TraceEntry)],
            [entry for entry in entries if isinstance(entry, TransactionEntry)],
            [entry for entry in entries if isinstance(entry, EventEntry)],
            reader.losses,
            reader.lost_rows,
        )


def _row_type(table: Table) -> np.dtype[Any] | None:
    """A row record as it lies on disk; None when it has text."""
    if any(column.kind is str for column in table.columns):
        return None
    head = [
        ("length", "<u4"),
        ("crc", "<u4"),
        ("kind", "u1"),
        ("t", "<f8"),
        ("sequence", "<u8"),
        ("table", "<u2"),
        ("number", "<u8"),
    ]
    return np.dtype([*head, *(("c_" + column.name, DTYPES[column.kind]) for column in table.columns)])


def remains(path: str | Path) -> Remains:
    """What the finished file carries on of its own journal."""
    with JournalReader(path) as reader:
        found = Remains(reader.started)
        for entry in reader.entries(samples=False):
            found.add(entry)
        found.last_t = reader.last_t
        return found
