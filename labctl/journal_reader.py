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
    BATCH,
    COMMON,
    EVENT,
    HEAD,
    HEADER,
    MAGIC,
    PIECE,
    PLACED,
    ROW,
    ROW_PREFIX,
    ROWS,
    ROWS_PREFIX,
    TRACE,
    TRACE_PREFIX,
    TRANSACTION,
    TRANSACTION_PREFIX,
    VERSION,
)
from labctl.journal_entries import Block, Entry, EventEntry, Loss, Remains, Spans, TraceEntry, TransactionEntry
from labctl.protocol import Table, Trace
from labctl.schema import DTYPES, TEXT_LENGTH, RowPacker, from_json
from labctl.transport.tape import Transaction

_PREAMBLE = 3 * (len(MAGIC) + 4)
_PREFIXES = {
    HEADER: COMMON, ROW: ROW_PREFIX, ROWS: ROWS_PREFIX, TRACE: TRACE_PREFIX,
    TRANSACTION: TRANSACTION_PREFIX, EVENT: COMMON, BATCH: ROWS_PREFIX, PLACED: TRACE_PREFIX,
}  # fmt: skip


class JournalReader:
    """An open journal. `entries` goes through it once, in order; after that `losses` and `lost_rows` are complete.

    Samples that were placed in the HDF5 file are read from the forms of it that lie beside the journal; `lost_traces`
    names those that none of them proves.
    Raises `StorageError` when there is no journal, or none of the two copies of its header is whole.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        whole = str(path).removesuffix(".journal")
        self._beside = [Path(whole + suffix) for suffix in (".part", "", ".torn")]
        self.losses: list[Loss] = []
        self.lost_rows: Spans = {}
        self.lost_traces: list[str] = []
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
        self._packers = [RowPacker(table) for table in self.tables]

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
        for kind, offset in self._records():
            if kind in (ROW, ROWS, BATCH):
                yield from self._block(kind, offset)
            elif kind in (TRACE, PLACED):
                yield from self._trace(kind, offset)
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
            at = np.flatnonzero((kinds >= HEADER) & (kinds <= PLACED))
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

    def _records(self) -> Iterator[tuple[int, int]]:
        """(kind, offset) of proven records."""
        offset, expected = _PREAMBLE, 0
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
            yield kind, offset
            offset, expected = end, sequence + 1

    def _block(self, kind: int, offset: int) -> Iterator[Block]:
        at = offset + HEAD.size
        if kind == ROW:
            _, self.last_t, _, table, number = ROW_PREFIX.unpack_from(self._view, at)
            n, at = 1, at + ROW_PREFIX.size
        else:
            _, self.last_t, _, table, number, n = ROWS_PREFIX.unpack_from(self._view, at)
            at += ROWS_PREFIX.size
        self._missing(table, number)
        self._numbers[table] = number + n
        if not self._samples:
            return
        times = np.full(n, self.last_t)
        if kind == BATCH:
            records = np.frombuffer(self._view, self._packers[table].dtype, n, at)
            columns = {column.name: records["c_" + column.name].copy() for column in self.tables[table].columns}
            times = records["t"].copy()
            del records  # it would keep the map from closing
        else:
            columns = self._row_with_text(table, at) if kind == ROW else self._columns(table, at, n)
        yield Block(table, np.arange(number, number + n, dtype=np.int64), times, columns)

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

    def _trace(self, kind: int, offset: int) -> Iterator[TraceEntry]:
        body = offset + HEAD.size
        end = body + HEAD.unpack_from(self._view, offset)[0]
        _, t, _, row, scale, dc, t0, dt, *lengths, check = TRACE_PREFIX.unpack_from(self._view, body)
        at = body + TRACE_PREFIX.size
        texts = []
        for length in lengths:
            texts.append(str(self._view[at : at + length], "utf-8"))
            at += length
        name, unit, dtype = texts
        self.last_t = t
        if not self._samples:
            data: bytes | None = b""
        elif kind == TRACE:
            data = bytes(self._view[at:end])
        else:
            data = self._placed_samples([PIECE.unpack_from(self._view, k) for k in range(at, end, PIECE.size)], check)
        if data is None:
            part, file, _ = (path.name for path in self._beside)
            self.lost_traces.append(f"trace {name} of row {row}: its samples are not whole in {part}, nor in {file}")
        else:
            codes = np.frombuffer(data, np.dtype(dtype))
            yield TraceEntry(t, row, Trace(name, codes, scale, dc, unit, t0, dt), check)

    def _placed_samples(self, pieces: list[tuple[int, int]], check: int) -> bytes | None:
        """The samples that lie in the HDF5 file, from whichever of its forms their CRC proves; None when none."""
        for path in self._beside:
            try:
                with path.open("rb") as file:
                    data = b"".join([file.read(size) for where, size in pieces if file.seek(where) == where])
            except OSError:
                continue
            if crc32(data) == check and len(data) == sum(size for _, size in pieces):
                return data
        return None

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
    lost_traces: list[str]


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
            reader.lost_traces,
        )


def remains(path: str | Path) -> Remains:
    """What the finished file carries on of its own journal."""
    with JournalReader(path) as reader:
        found = Remains(reader.started)
        for entry in reader.entries(samples=False):
            found.add(entry)
        found.last_t = reader.last_t
        return found
