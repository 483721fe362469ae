"""The HDF5 file of a run: NeXus for viewers, dimension scales for xarray, everything in one.

Layout and versions: `docs/file-format.md`. Rows are gathered and written in blocks into FILE.h5.part; about once a
second while rows come, a copy of it becomes FILE.h5. So FILE.h5 never changes under a reader and always opens, whatever
happens to this process; it may be behind. HDF5 itself cannot do that: a reader of a file that grows sees addresses
beyond its end, and columns of different lengths.
"""

import contextlib
import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.disk import DiskFile, replace, sync_folder
from labctl.errors import StorageError, UsageError
from labctl.journal import TIME, Journal
from labctl.journal_entries import EventEntry, PackedRows, Piece, Remains
from labctl.journal_reader import remains
from labctl.protocol import Rows, Table, Trace
from labctl.schema import DTYPES, RowPacker, arrays
from labctl.store_frame import RESERVED as RESERVED
from labctl.store_frame import TEXT, write_frame, write_identities, write_journal
from labctl.store_traces import TraceWriter

CHUNK = 512  # rows: small tables stay small files, 10^8 rows still open at once
BLOCK = 16384  # rows of blocks gathered before they are written
BLOCK_SIZE = 1 << 19  # bytes of single rows gathered before they are written
EVERY = 1.0  # s of the run, at least, between two copies that others can see
COPY_RATE = 20e6  # bytes a second, at most, that go into these copies

_memories = itertools.count()


class Store:
    """Writes one run. `row`, `rows` and `trace` take what `journal.Journal` took, and the time it returned.

    path: a new file (`StorageError` when it exists or cannot be written), or None for one in memory.
    header: JSON, as in `runner.describe`; of it only params, param_units, param_meanings, protocol, comment, operator
    and created are looked at.
    """

    def __init__(self, path: str | Path | None, header: dict[str, Any], tables: Sequence[Table]) -> None:
        self.path = Path(path) if path is not None else Path("memory")
        for table in tables:
            if table.name in RESERVED:
                raise UsageError(f"a table cannot be called {table.name}, the file uses that name; rename the row type")
            if any(column.name == "elapsed" for column in table.columns):
                raise UsageError(f"table {table.name}: the column elapsed is made by the recorder; choose another name")
        self._header = header
        self.incoming: deque[PackedRows] = deque()
        self._seen, self._due = 0.0, EVERY  # when others were last shown the file, and will be next
        self._disk: DiskFile | None = None
        if path is None:
            self.file = h5py.File(f"memory-{next(_memories)}", "w", driver="core", backing_store=False)
            self._describe(header, tables)
        else:
            self._create(header, tables)
        self._extra: list[EventEntry] = []

    def _create(self, header: dict[str, Any], tables: Sequence[Table]) -> None:
        with self._storing("made"):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            with self._storing("made"):
                self._disk = DiskFile(Path(f"{self.path}.part"))
            self.file = h5py.File(self._disk, "w", libver=("earliest", "v108"))
            self._describe(header, tables)
            with self._storing("written"):
                self._publish(self._disk)
        except BaseException:
            if self._disk is not None:
                self._close()
                self._disk.path.unlink()
            self.path.unlink()
            raise

    def _describe(self, header: dict[str, Any], tables: Sequence[Table]) -> None:
        self._entry = write_frame(self.file, self.path.name, header, tables)
        self._tables = [_TableWriter(self._entry, table, header) for table in tables]
        if tables:
            self._entry.attrs["default"] = tables[0].name
        self._traces = TraceWriter(self._entry)

    def follow(self, journal: Journal) -> None:
        """Take single rows as the journal packs them (`take`), and sync what `place` wrote whenever it syncs."""
        journal.hand_on = self.incoming.append
        journal.sync_samples = self._sync_samples

    def take(self) -> None:
        """Add the rows that the journal has handed on; whoever writes rows calls this now and then."""
        while self.incoming:
            rows = self.incoming.popleft()
            table = self._tables[rows.table]
            table.add_packed(rows.packed, rows.texts)
            (last,) = TIME.unpack_from(rows.packed, len(rows.packed) - table.packer.struct.size)
            if last >= self._due or len(table.packed) >= BLOCK_SIZE:
                self._write(last)

    def row(self, table_index: int, row: tuple[Any, ...], t: float) -> None:
        """Add a row that was recorded at `t`, in s since the start; where there is no journal."""
        packer = self._tables[table_index].packer
        packed, _ = packer.pack(t, row), packer.pack_texts(row)
        self.incoming.append(PackedRows(table_index, packed, [tuple(row[k] for k in packer.texts)]))
        self.take()

    def rows(self, table_index: int, block: Rows, t: float | NDArray[np.float64]) -> None:
        """Add a block; t: one time, or one a row."""
        self.take()
        table = self._tables[table_index]
        times = np.full(len(block), t) if np.ndim(t) == 0 else np.asarray(t, np.float64)
        table.add(arrays(table.table, block), times)
        last = float(times[-1]) if len(times) else 0.0
        if table.gathered >= BLOCK or last >= self._due:
            self._write(last)

    def place(self, trace: Trace) -> list[Piece]:
        """Write the samples of a large waveform of floats; return where they are in FILE.h5.part and FILE.h5.

        Empty for any other waveform. `journal.Journal.trace` and `trace` must follow.
        """
        if self._disk is None:
            return []
        with self._storing("written"):
            return self._traces.place(trace)

    def _sync_samples(self) -> None:
        """Return when everything that was placed is on the disk; raises `OSError`. The journal's thread calls it."""
        if self._disk is not None:
            self._disk.sync_data()

    def trace(self, trace: Trace, row: int, t: float, pieces: Sequence[Piece] = ()) -> None:
        """Add a waveform that belongs to row number `row` of the main table; pieces: what `place` returned."""
        self.take()
        if self._traces.add(trace, row, t, bool(pieces)) or t >= self._due:
            self._write(t)

    def event(self, name: str, data: dict[str, Any], t: float) -> None:
        """Add an event that the journal does not have."""
        self._extra.append(EventEntry(t, self._tables[0].count if self._tables else 0, name, data))

    def _write(self, now: float) -> None:
        with self._storing("written"):
            for table in self._tables:
                table.write()
            self._traces.write()
            if now >= self._due and self._disk is not None:
                pause = max(EVERY, self._disk.size / COPY_RATE)
                if now >= self._seen + pause:
                    with contextlib.suppress(OSError):  # no room for a copy is no reason to stop measuring
                        self._publish(self._disk)
                    self._seen = now
                self._due = self._seen + pause

    def _publish(self, disk: DiskFile) -> None:
        """Put a copy of the working file in place. Who has the one before open keeps that, whole."""
        self._traces.publish()
        self.file.flush()
        copy = Path(f"{self.path}.new")
        try:
            shutil.copyfile(disk.path, copy)
            os.replace(copy, self.path)
        except OSError:
            copy.unlink(missing_ok=True)
            raise

    def finish(self, status: str, summary: dict[str, Any], journal: str | Path | Remains | None) -> None:
        """Write the rest and the journal's own records, then set the status, sync and close.

        status: done, aborted, failed or recovered (running: leave it as interrupted). Raises `StorageError`; the
        journal is then still the truth and must stay. A file in memory is left open. journal: its path, or what was
        read of it, or None for a run that had none.
        """
        try:
            with self._storing("finished"):
                self.take()
                for table in self._tables:
                    table.finish()
                self._finish_entry(summary, journal)
                if self._disk is None:
                    self.file.attrs["status"] = status
                    return
                self.file.flush()
                self._disk.sync()  # only when all of it is on the disk may the file say that it is whole
                self.file.attrs["status"] = status
                self.file.flush()
                self._disk.sync()
                self._close()
                replace(self._disk.path, self.path)
                sync_folder(self.path.parent)
        finally:
            self._traces.close()
            if self._disk is not None:
                self._close()

    def _finish_entry(self, summary: dict[str, Any], journal: str | Path | Remains | None) -> None:
        entry = self._entry
        entry["summary"] = json.dumps(summary)
        if journal is None:
            journal = Remains(self._header.get("created", ""))
        elif not isinstance(journal, Remains):
            journal = remains(journal)
        write_journal(entry, journal.transactions, journal.events + self._extra)
        self._traces.finish(journal.sums)
        entry["duration"] = journal.last_t
        entry["duration"].attrs["units"] = "s"
        if journal.started:
            del entry["start_time"]
            begin = datetime.fromisoformat(journal.started)
            entry["start_time"] = begin.isoformat()
            entry["end_time"] = (begin + timedelta(seconds=journal.last_t)).isoformat()
        identities = next((event.data for event in journal.events if event.name == "identities"), {})
        write_identities(entry, identities)

    @contextlib.contextmanager
    def _storing(self, what: str) -> Iterator[None]:
        try:
            if self._disk is not None and self._disk.closed:
                raise StorageError(f"{self.path} is closed; nothing more can be {what}")
            yield
            if self._disk is not None and self._disk.failure is not None:
                raise self._disk.failure
        except FileExistsError as error:
            raise StorageError(
                f"{error.filename} exists already; a recording is never overwritten, choose another name"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise StorageError(f"{self.path} cannot be {what} ({reason}); is there room on the disk?") from error

    def _close(self) -> None:
        self.file.close()
        if self._disk is not None:
            self._disk.close()


class _TableWriter:
    """The columns of one table: gathers rows, writes blocks."""

    def __init__(self, entry: Any, table: Table, header: dict[str, Any]) -> None:
        self.table = table
        self.packer = RowPacker(table)
        self.packed = bytearray()  # rows, as the packer leaves them
        self.gathered = 0
        self.count = 0
        self._texts: list[tuple[str, ...]] = []
        self._blocks: list[tuple[list[NDArray[Any]], NDArray[np.float64]]] = []
        group = entry.create_group(table.name, track_order=True)
        axis, signal = _axis_and_signal(table, header)
        group.attrs.update(
            {"NX_class": "NXdata", "title": table.doc or table.name, "axes": [axis], f"{axis}_indices": 0}
        )
        if signal:
            group.attrs["signal"] = signal
        self._columns = []
        for column in table.columns:
            attrs = {"units": column.q.unit, "long_name": column.q.meaning or column.name}
            self._columns.append(_column(group, column.name, column.kind, attrs))
        attrs = {"units": "s", "long_name": "time since the start of the run"}
        self._columns.append(_column(group, "elapsed", float, attrs))
        scale = group[axis]
        scale.make_scale(axis)
        for dataset in self._columns:
            if dataset != scale:
                dataset.dims[0].attach_scale(scale)
        self._checks = [0] * len(self._columns)

    def add_packed(self, packed: bytes, texts: list[tuple[str, ...]]) -> None:
        """Gather rows as they are in the journal."""
        self.packed += packed
        if self.packer.texts:
            self._texts += texts

    def add(self, columns: list[NDArray[Any]], times: NDArray[np.float64]) -> None:
        """Gather a block. It is copied unless it is long enough to be written at once."""
        self._gather()
        keep = columns if len(times) >= BLOCK else [values.copy() for values in columns]
        self._blocks.append((keep, times))
        self.gathered += len(times)

    def _gather(self) -> None:
        if self.packed:
            columns, times = self.packer.columns(self.packed, self._texts)
            self._blocks.append((columns, times))
            self.gathered += len(times)
            self.packed, self._texts = bytearray(), []

    def write(self) -> None:
        """Append what was gathered."""
        self._gather()
        if not self.gathered:
            return
        blocks, self._blocks = self._blocks, []
        columns = [
            np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*(b[0] for b in blocks), strict=True)
        ]
        columns.append(np.concatenate([block[1] for block in blocks]))
        first, self.count = self.count, self.count + self.gathered
        self.gathered = 0
        # all lengths first, in memory; they reach the file together at the next flush
        for dataset in self._columns:
            dataset.resize(self.count, 0)
        for k, (dataset, values) in enumerate(zip(self._columns, columns, strict=True)):
            dataset[first:] = values.view(np.int8) if values.dtype == bool else values
            if values.dtype != object:
                self._checks[k] = crc32(values.data, self._checks[k])

    def finish(self) -> None:
        """Write the rest, and a check value for each column."""
        self.write()
        for dataset, check in zip(self._columns, self._checks, strict=True):
            if dataset.dtype != object:
                dataset.attrs["crc32"] = np.uint32(check)


def _column(group: Any, name: str, kind: type, attrs: dict[str, Any]) -> Any:
    # a bool is an int8 that says so, as xarray writes it: HDF5's own enum is read by few
    dtype = {str: TEXT, bool: np.dtype("i1")}.get(kind, DTYPES[kind])
    fill = {float: np.nan, int: np.iinfo(np.int64).min}.get(kind)
    dataset = group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), fillvalue=fill)
    dataset.attrs.update(attrs)
    if kind is bool:
        dataset.attrs["dtype"] = "bool"
    return dataset


def _axis_and_signal(table: Table, header: dict[str, Any]) -> tuple[str, str | None]:
    """What a viewer plots first: the first number that is no parameter, against the first column."""
    numbers = [column.name for column in table.columns if column.kind in (float, int)]
    axis = numbers[0] if numbers and numbers[0] == table.columns[0].name else "elapsed"
    others = [name for name in numbers if name != axis]
    measured = [name for name in others if name not in header.get("params", {})]
    return axis, next(iter(measured + others), "elapsed" if axis != "elapsed" else None)
