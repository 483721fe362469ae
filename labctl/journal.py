"""The journal: an append-only file that is the truth about a run until its HDF5 file is closed.

Layout (all little-endian): three copies of the preamble, magic (16 bytes) and nonce (4 bytes); then records::

    length u32 | CRC-32 u32 | kind u8 | time f64 | sequence u64 | payload

length counts from `kind` to the end of the payload. The CRC covers nonce, length and all that follows it (the samples
of a waveform have a CRC of their own instead), so that no record of another file, embedded by chance, passes for one of
this. time is in seconds since the start of the run on a monotonic clock; sequence numbers all records from 0. Records 0
and 1 are the header, twice. `docs/file-format.md` has the payloads; `journal_reader` reads them.

Rows that follow each other with nothing between them share a record, up to 64. The samples of a large waveform of
floats are not here but in the HDF5 file (`store.Store.place`), so that they are written once; their record says where.
"""

import atexit
import contextlib
import json
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from zlib import crc32

from labctl.disk import hold_lock, sync_folder
from labctl.errors import MeasurementError, StorageError
from labctl.journal_entries import PackedRows, Piece
from labctl.protocol import Rows, Table, Trace
from labctl.schema import TEXT_LENGTH, RowPacker, TraceCheck, arrays, is_constant, to_json

MAGIC = b"labctl journal 1"
VERSION = 2
HEADER, ROW, ROWS, TRACE, TRANSACTION, EVENT, BATCH, PLACED = range(1, 9)
HEAD = struct.Struct("<II")
COMMON = struct.Struct("<BdQ")
TIME = struct.Struct("<d")
ROW_PREFIX = struct.Struct("<BdQHQ")  # + table, row number
ROWS_PREFIX = struct.Struct("<BdQHQI")  # + table, number of the first row, rows
TRACE_PREFIX = struct.Struct(
    "<BdQqddddHHHI"
)  # + row, scale, offset, t0, dt, lengths of name, unit, dtype; CRC of codes
TRANSACTION_PREFIX = struct.Struct("<BdQHI")  # + lengths of the instrument's name and of the request
PIECE = struct.Struct("<QQ")  # where samples lie in the HDF5 file: offset, size; bytes

PERIOD = 0.2  # s between syncs while there is something to sync; the promise is 0.25 s
WRITE_AT = 256 * 1024
BACKLOG = 64 * 1024 * 1024  # beyond this the caller waits for the disk
LARGE = 64 * 1024
BATCH_ROWS = 64  # rows at most that share a record: what one damaged byte may cost
BLOCK_ROWS = 1 << 20  # rows a record: lengths are u32, and a damaged record should not cost everything


class Journal:
    """Append-only and checked; a thread of its own writes and syncs it at least every 0.25 s.

    header: JSON; what `store.Store` and `reader.Run` know of the run before it starts.
    Raises `StorageError` when the file exists or cannot be written, here or (for a write that failed meanwhile) at any
    later call; what was synced before stays. Rows that do not match their table raise `MeasurementError` and leave
    nothing behind. `row`, `rows`, `trace` and `event` return the time they were recorded at, in s since the start.

    sync_samples: makes the samples durable that were placed in the HDF5 file; raises `OSError`.
    hand_on: takes the single rows as they were recorded, some at a time, so that nobody packs them again.
    """

    sync_samples: Callable[[], None] | None = None
    hand_on: Callable[[PackedRows], None] | None = None

    def __init__(self, path: str | Path, header: dict[str, Any], tables: Sequence[Table]) -> None:
        self.path = Path(path)
        described = {
            "version": VERSION,
            "started": datetime.now().astimezone().isoformat(timespec="microseconds"),
            "header": header,
            "tables": [to_json(table) for table in tables],
        }
        text = json.dumps(described).encode()
        self._tables = tables
        self._numbers = [0] * len(tables)
        self._traces = TraceCheck()
        self._sequence = 0
        self._synced = 0
        self._buffer = bytearray()
        self._chunks: list[bytearray | bytes | memoryview] = []
        self._backlog = 0
        self._large = False
        self._placed = False
        self._batch: deque[bytes] = deque()  # rows of one table, packed, that will share a record
        self._batch_table = 0
        self._append_to_batch = self._batch.append
        self._failure: str | None = None
        self._lock = threading.Lock()  # the buffer
        self._io = threading.Lock()  # the file
        self._wake = threading.Event()
        self._closing = False
        nonce = os.urandom(4)
        self._seed = crc32(nonce)
        self._packers = [RowPacker(table) for table in tables]
        self._pack: list[Callable[..., bytes] | None] = [
            None if packer.texts else packer.struct.pack for packer in self._packers
        ]
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._fd = os.open(self.path, flags, 0o666)
        except FileExistsError as error:
            raise StorageError(
                f"{self.path} exists: an earlier run was cut off there; labctl recover it, or choose another name"
            ) from error
        except OSError as error:
            raise StorageError(f"journal {self.path} cannot be made ({error.strerror or error})") from error
        hold_lock(self._fd)
        self._start = perf_counter()
        self._buffer += (MAGIC + nonce) * 3
        for _ in range(2):
            self._append(COMMON.pack(HEADER, 0.0, self._sequence) + text)
        try:
            self._drain(sync=True)
            sync_folder(self.path.parent)
        except StorageError:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise
        self._thread = threading.Thread(target=self._keep_synced, name=f"journal {self.path.name}", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def row(self, table_index: int, row: tuple[Any, ...]) -> float:
        """Append one row of a table; for the one thread that measures."""
        pack = self._pack[table_index]
        if pack is None:
            return self._row_with_text(table_index, row)
        t = perf_counter() - self._start
        try:
            packed = pack(t, *row)
        except (struct.error, TypeError, OverflowError) as error:
            raise self._packers[table_index].misfit(row) from error
        if table_index != self._batch_table or len(self._batch) >= BATCH_ROWS:
            with self._lock:
                self._end_batch()
                self._batch_table = table_index
            if self._backlog > BACKLOG:
                self._drain(sync=False)
        self._append_to_batch(packed)  # without the lock: a deque takes from one thread while another empties it
        return t

    def _row_with_text(self, table_index: int, row: tuple[Any, ...]) -> float:
        packer = self._packers[table_index]
        with self._lock:
            self._end_batch()
            t, number = perf_counter() - self._start, self._numbers[table_index]
            packed, texts = packer.pack(t, row), packer.pack_texts(row)
            prefix = ROW_PREFIX.pack(ROW, t, self._sequence, table_index, number)
            self._append(prefix + packed[TIME.size :] + texts)
            self._numbers[table_index] = number + 1
        if self.hand_on is not None:
            self.hand_on(PackedRows(table_index, packed, [tuple(row[k] for k in packer.texts)]))
        return t

    def _end_batch(self) -> None:
        """Make the rows so far a record; whatever comes next comes after them."""
        n, table = len(self._batch), self._batch_table
        if not n:
            return
        last = self._batch[n - 1]
        packed = b"".join([self._batch.popleft() for _ in range(n)])
        (t,) = TIME.unpack_from(last)
        self._append(ROWS_PREFIX.pack(BATCH, t, self._sequence, table, self._numbers[table], n) + packed)
        self._numbers[table] += n
        if self.hand_on is not None:
            self.hand_on(PackedRows(table, packed, []))

    def rows(self, table_index: int, block: Rows) -> float:
        """Append a block of rows, as columns."""
        table = self._tables[table_index]
        columns = arrays(table, block)
        with self._lock:
            self._end_batch()
            t = perf_counter() - self._start
        for first in range(0, len(block), BLOCK_ROWS):
            n = min(BLOCK_ROWS, len(block) - first)
            parts: list[bytes | memoryview] = []
            for column, values in zip(table.columns, columns, strict=True):
                if column.kind is str:
                    cells = [value.encode() for value in values[first : first + n].tolist()]
                    parts.append(b"".join(TEXT_LENGTH.pack(len(cell)) for cell in cells) + b"".join(cells))
                else:
                    parts.append(values[first : first + n].data.cast("B"))
            with self._lock:
                number = self._numbers[table_index]
                self._append_parts(ROWS_PREFIX.pack(ROWS, t, self._sequence, table_index, number, n), parts)
                self._numbers[table_index] = number + n
            self._write_large()
        return t

    def trace(self, trace: Trace, row: int, pieces: Sequence[Piece] = ()) -> float:
        """Append a waveform that belongs to row number `row` of the main table (-1: before the first).

        pieces: where its samples lie in the HDF5 file, when `Store.place` has put them there already.
        """
        codes = self._traces.codes(trace)
        name, unit, dtype = trace.name.encode(), trace.unit.encode(), codes.dtype.str.encode()
        data = codes.data.cast("B") if len(codes) else b""
        check = crc32(data)
        with self._lock:
            self._end_batch()
            t = perf_counter() - self._start
            prefix = TRACE_PREFIX.pack(
                PLACED if pieces else TRACE, t, self._sequence, row, trace.scale, trace.offset, trace.t0, trace.dt,
                len(name), len(unit), len(dtype), check,
            )  # fmt: skip
            prefix += name + unit + dtype
            if pieces:
                self._append(prefix + b"".join(PIECE.pack(*piece) for piece in pieces))
                self._placed = True
                return t
            self._append_parts(prefix, [data], checked=True)
            if self._backlog <= BACKLOG and is_constant(codes):
                self._large = False  # nobody can change it: the thread may write it in its own time
        self._write_large()
        return t

    def transaction(self, instrument: str, request: bytes, reply: bytes) -> None:
        """Append one exchange with an instrument; any thread may call it."""
        name = instrument.encode()
        with self._lock:
            self._end_batch()
            t = perf_counter() - self._start
            prefix = TRANSACTION_PREFIX.pack(TRANSACTION, t, self._sequence, len(name), len(request))
            self._append_parts(prefix, [name, request, reply])
        self._write_large()

    def event(self, name: str, /, **data: Any) -> float:
        """Append something that happened, such as ``event("end", status="done")``; `data` is JSON."""
        with self._lock:
            self._end_batch()
            # with the rows so far, so that it shows when the last ones before it are missing
            text = json.dumps({"name": name, "data": data, "rows": self._numbers}).encode()
            t = perf_counter() - self._start
            self._append(COMMON.pack(EVENT, t, self._sequence) + text)
        return t

    @property
    def recorded(self) -> int:
        """How many records were accepted."""
        return self._sequence + bool(self._batch)

    @property
    def synced(self) -> int:
        """How many records, from the first, are on the disk for certain."""
        return self._synced

    def sync(self) -> None:
        """Return when everything so far is on the disk; raises `StorageError`."""
        self._drain(sync=True)

    def close(self) -> None:
        """Sync and close; the file stays. Raises `StorageError` when something could not be written."""
        if self._closing:
            return
        self._closing = True
        atexit.unregister(self._at_exit)
        self._wake.set()
        self._thread.join()
        try:
            self._drain(sync=True)
        finally:
            with self._lock, self._io:
                os.close(self._fd)
                self._fail(self._failure or f"journal {self.path} is closed")

    def _at_exit(self) -> None:
        """Nobody closed it: keep what is there."""
        with contextlib.suppress(StorageError):
            self.close()

    def _append(self, body: bytes, checked: bytes = b"") -> None:
        if self._failure is not None:
            raise StorageError(self._failure)
        size = len(body) + len(checked)
        head = HEAD.pack(size, crc32(body, crc32(TEXT_LENGTH.pack(size), self._seed)))
        self._buffer += head + body + checked
        self._sequence += 1
        if len(self._buffer) > WRITE_AT:
            self._spill()

    def _append_parts(self, prefix: bytes, parts: Sequence[bytes | memoryview], checked: bool = False) -> None:
        """A record of several parts; checked: they have a CRC of their own in `prefix`."""
        size = len(prefix) + sum(map(len, parts))
        if size < LARGE:
            data = b"".join(parts)
            self._append(prefix, data) if checked else self._append(prefix + data)
            return
        if size >= 1 << 32:
            raise MeasurementError(
                f"a record of {size} bytes is too long for the journal; the limit is 4 GiB, split it"
            )
        if self._failure is not None:
            raise StorageError(self._failure)
        check = crc32(prefix, crc32(TEXT_LENGTH.pack(size), self._seed))
        for part in () if checked else parts:
            check = crc32(part, check)
        self._buffer += HEAD.pack(size, check) + prefix
        self._sequence += 1
        self._spill()
        self._chunks += parts  # by reference, `_write_large` writes them before their owner goes on
        self._backlog += size
        self._large = True

    def _write_large(self) -> None:
        if self._large or self._backlog > BACKLOG:
            self._large = False
            self._drain(sync=False)

    def _spill(self) -> None:
        self._chunks.append(self._buffer)
        self._backlog += len(self._buffer)
        self._buffer = bytearray()
        self._wake.set()

    def _drain(self, sync: bool) -> None:
        """Write what is buffered; `sync` also waits for the disk."""
        try:
            with self._io:
                with self._lock:
                    if self._failure is not None:
                        raise StorageError(self._failure)
                    self._end_batch()
                    chunks, self._chunks = [*self._chunks, self._buffer], []
                    self._buffer, self._backlog = bytearray(), 0
                    written = self._sequence
                for chunk in chunks:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(self._fd, rest) :]
            if sync and written > self._synced:  # without the lock: who writes meanwhile need not wait for the disk
                if self._placed and self.sync_samples is not None:
                    self.sync_samples()
                getattr(os, "fdatasync", os.fsync)(self._fd)
                self._synced = max(written, self._synced)
        except OSError as error:
            self._fail(
                f"journal {self.path} cannot be written ({error.strerror or error});"
                f" the first {self._synced} records are safe, free some space and start again"
            )
            raise StorageError(self._failure) from error

    def _fail(self, message: str) -> None:
        """From here on every call raises."""
        self._failure = message
        self._pack = [None] * len(self._pack)  # so that `row` need not look

    def _keep_synced(self) -> None:
        last = 0.0
        while not self._closing:
            self._wake.wait(max(0.0, last + PERIOD - time.monotonic()))
            self._wake.clear()
            now = time.monotonic()
            due = now >= last + PERIOD
            try:
                self._drain(sync=due)
            except StorageError:
                return  # the next call raises it
            if due:
                last = now
