"""Recorded runs, read: a finished file directly, a run that goes on or was cut off from its journal.

The file is opened for each access and closed again, so a `Run` holds no handle and blocks nobody.
"""

import contextlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from labctl.disk import is_being_written
from labctl.errors import StorageError, UsageError
from labctl.protocol import Column, Table, Trace
from labctl.schema import from_json
from labctl.transport.tape import Transaction

if TYPE_CHECKING:
    import h5py
    import xarray

    from labctl.playback import Playback

READABLE = (1,)  # versions of the format


class Event(NamedTuple):
    """Something that happened during the run: end, error, comment, recovery, identities."""

    name: str
    data: dict[str, Any]


class Run:
    """One recorded run. Tables are named; the first is the main one, and `None` means it.

    status: done, aborted, failed, recovered; running, or interrupted (cut off, not yet recovered).
    """

    def __init__(self, path: Path, status: str, memory: "h5py.File | None" = None) -> None:
        self.path = path
        self.status = status
        self._memory = memory
        with self._open() as file:
            entry = file["entry"]
            self.header: dict[str, Any] = json.loads(entry["header"].asstr()[()])
            self._declared = {table.name: table for table in map(from_json, json.loads(entry["schema"].asstr()[()]))}
            self._counts = {name: min((len(d) for d in entry[name].values()), default=0) for name in self._declared}
            self._traces = {name: len(group["row"]) for name, group in entry.get("traces", {}).items()}

    @property
    def protocol(self) -> str:
        """The protocol's name."""
        return str(self.header.get("protocol", ""))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as they were given, defaults filled in, SI units."""
        return dict(self.header.get("params", {}))

    @property
    def comment(self) -> str:
        """The operator's comment."""
        return str(self.header.get("comment", ""))

    @property
    def tags(self) -> list[str]:
        """The operator's tags."""
        return list(self.header.get("tags", []))

    @property
    def tables(self) -> list[str]:
        """Names of the tables, the main one first."""
        return list(self._declared)

    @property
    def traces(self) -> list[str]:
        """Names of the waveforms."""
        return list(self._traces)

    def row_count(self, name: str | None = None) -> int:
        """Rows of a table."""
        return self._counts[self._table(name).name]

    def columns(self, name: str | None = None) -> tuple[Column, ...]:
        """The declared columns of a table: name, kind, unit, limits, meaning."""
        return self._table(name).columns

    def row_type(self, name: str | None = None) -> type:
        """The NamedTuple type of a table's rows: same name and columns as the protocol's."""
        return self._table(name).row

    def playback(self, speed: float = 1.0, *, loop: bool = False) -> "Playback":
        """Rows, traces and events again, in recorded time, `speed` times as fast; see `playback.Playback`."""
        from labctl.playback import Playback

        return Playback(self, speed, loop=loop)

    def units(self, name: str | None = None) -> dict[str, str]:
        """Unit of each column; "" for pure numbers and text."""
        return {column.name: column.q.unit for column in self.columns(name)}

    def table(self, name: str | None = None, rows: slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Column → (n,) array: float64, int64, bool, or object for text. `rows` reads a part of a long table."""
        table = self._table(name)
        with self._open() as file:
            group = file["entry"][table.name]
            return {column.name: self._read(group, column.name, column.kind, rows) for column in table.columns}

    def elapsed(self, name: str | None = None, rows: slice = slice(None)) -> NDArray[np.float64]:
        """(n,) when each row was recorded, in s since the start of the run."""
        with self._open() as file:
            return self._read(file["entry"][self._table(name).name], "elapsed", float, rows)

    def trace_count(self, name: str) -> int:
        """How many waveforms of that name there are."""
        return self._traces[self._trace_name(name)]

    def trace(self, name: str, index: int = 0) -> Trace:
        """Waveform `index` of that name, as it was recorded."""
        count = self.trace_count(name)
        if not -count <= index < count:
            raise UsageError(f"{self.path}: there is no trace {name} {index}, there are {count}")
        index %= count
        with self._open() as file:
            group = file["entry/traces"][name]
            codes = group["codes"]
            try:
                samples = codes[index, : int(group["length"][index])]
            except OSError as error:
                raise StorageError(f"{self.path}: trace {name} {index} is damaged ({error})") from error
            scale, offset, t0, dt = (float(group[key][index]) for key in ("scale", "offset", "t0", "dt"))
            return Trace(name, samples, scale, offset, str(codes.attrs["units"]), t0, dt)

    def trace_rows(self, name: str) -> NDArray[np.int64]:
        """(n,) the row of the main table that each waveform belongs to; -1: none."""
        with self._open() as file:
            return np.asarray(file["entry/traces"][self._trace_name(name)]["row"][...], np.int64)

    def trace_elapsed(self, name: str) -> NDArray[np.float64]:
        """(n,) when each waveform was recorded, in s since the start of the run."""
        with self._open() as file:
            return np.asarray(file["entry/traces"][self._trace_name(name)]["elapsed"][...], np.float64)

    def transactions(self) -> list[Transaction]:
        """Every exchange with an instrument, in order; raises `StorageError` for one whose bytes were changed."""
        with self._open() as file:
            group = file["entry"].get("journal/transactions")
            if group is None:
                return []
            names = group["instruments"].asstr()[...].tolist()
            which = group["instrument"][...].tolist()
            requests, replies = (_pieces(group, name) for name in ("request", "reply"))
            checks = group["crc32"][...].tolist()
        for number, (request, reply, expected) in enumerate(zip(requests, replies, checks, strict=True)):
            if crc32(reply, crc32(request)) != expected:
                raise StorageError(
                    f"{self.path}: transaction {number} ({names[which[number]]}) is damaged: its bytes do not match its"
                    " check sum"
                )
        return [Transaction(names[k], *pair) for k, *pair in zip(which, requests, replies, strict=True)]

    def transaction_rows(self) -> NDArray[np.int64]:
        """(n,) how many rows of the main table had been recorded before each transaction."""
        return self._journal_column("transactions", "rows_before", "i8")

    def transaction_elapsed(self) -> NDArray[np.float64]:
        """(n,) when each transaction was over, in s since the start of the run."""
        return self._journal_column("transactions", "elapsed", "f8")

    def events(self) -> list[Event]:
        """What happened during the run, in order."""
        with self._open() as file:
            group = file["entry"].get("journal/events")
            if group is None:
                return []
            pairs = zip(group["name"].asstr()[...], group["data"].asstr()[...], strict=True)
            return [Event(name, json.loads(data)) for name, data in pairs]

    def event_elapsed(self) -> NDArray[np.float64]:
        """(n,) when each event happened, in s since the start of the run."""
        return self._journal_column("events", "elapsed", "f8")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the runner said at the end."""
        with self._open() as file:
            text = file["entry"].get("summary")
            return {} if text is None else dict(json.loads(text.asstr()[()]))

    @property
    def losses(self) -> list[str]:
        """What a recovery could not save, one line each."""
        return [loss for name, data in self.events() if name == "recovery" for loss in data["losses"]]

    def check(self) -> list[str]:
        """Read everything against its check sums; what is damaged, one line each."""
        found = []
        with self._open() as file:
            for table in self._declared.values():
                for name, dataset in file["entry"][table.name].items():
                    expected = dataset.attrs.get("crc32")
                    if expected is not None and crc32(np.ascontiguousarray(dataset[...]).data) != int(expected):
                        found.append(f"table {table.name}: column {name} is damaged")
            for name, count in self._traces.items():
                group = file["entry/traces"][name]
                sums = group["crc32"][...].tolist() if "crc32" in group else [None] * count
                for index, length in enumerate(group["length"][...].tolist()):
                    try:
                        check = crc32(group["codes"][index, :length].tobytes())
                        damaged = sums[index] not in (check, None)
                    except OSError:  # HDF5's own check of a chunk
                        damaged = True
                    if damaged:
                        found.append(f"trace {name} {index} is damaged")
        try:
            self.transactions()
        except (StorageError, OSError) as error:
            found.append(str(error))
        return found

    def to_xarray(self, name: str | None = None) -> "xarray.Dataset":
        """A table as an `xarray.Dataset`, as `xarray.open_dataset` reads it from the file."""
        import xarray

        table = self._table(name)
        with self._open() as file:
            group = file["entry"][table.name]
            axis = str(np.ravel(group.attrs["axes"])[0])
            attrs = {key: {k: group[key].attrs[k] for k in ("units", "long_name")} for key in group}
            values = {column.name: self._read(group, column.name, column.kind) for column in table.columns}
            values["elapsed"] = self._read(group, "elapsed", float)
            title = str(group.attrs["title"])
        variables = {key: (axis, value, attrs[key]) for key, value in values.items()}
        return xarray.Dataset(
            {key: variable for key, variable in variables.items() if key != axis},
            coords={axis: variables[axis]},
            attrs={"title": title, "protocol": self.protocol, "status": self.status},
        )

    def _table(self, name: str | None) -> Table:
        if name is None and self._declared:
            return next(iter(self._declared.values()))
        if name not in self._declared:
            raise UsageError(f"{self.path} has no table {name!r}; it has {', '.join(self._declared) or 'none'}")
        return self._declared[name]

    def _trace_name(self, name: str) -> str:
        if name not in self._traces:
            raise UsageError(f"{self.path} has no trace {name!r}; it has {', '.join(self._traces) or 'none'}")
        return name

    def _read(self, group: Any, name: str, kind: type, rows: slice = slice(None)) -> NDArray[Any]:
        # columns of a file that is still being written, or was cut off, may differ in length: what all have counts
        at = slice(*rows.indices(self._counts[group.name.rpartition("/")[2]]))
        values: NDArray[Any] = group[name].asstr()[at] if kind is str else group[name][at]
        return values.astype(bool) if kind is bool else values

    def _journal_column(self, kind: str, name: str, dtype: str) -> NDArray[Any]:
        with self._open() as file:
            group = file["entry"].get(f"journal/{kind}")
            return np.asarray([] if group is None else group[name][...], dtype)

    @contextlib.contextmanager
    def _open(self) -> "Iterator[h5py.File]":
        if self._memory is not None:
            yield self._memory
            return
        with open_file(self.path) as file:
            yield file


@contextlib.contextmanager
def open_file(path: Path) -> "Iterator[h5py.File]":
    """The HDF5 file, read only; raises `StorageError` in one line."""
    import h5py

    try:
        try:
            file = h5py.File(path, "r")
        except FileNotFoundError:
            raise
        except OSError:  # somebody has a lock on it, or this process has it open without locks
            file = h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist; give the path of a recorded .h5 file") from error
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StorageError(
            f"{path} cannot be opened as HDF5 ({reason}); if its journal is there: labctl recover"
        ) from error
    with file:
        yield file


def load(path: str | Path) -> Run:
    """Open a recorded run; raises `StorageError`.

    A finished file is read as it is. One whose journal is still beside it is read from the journal: status "running"
    while its writer lives, else "interrupted" (then `labctl recover` makes the file whole).
    """
    path = Path(path)
    if path.name.endswith(".journal"):
        path = path.with_name(path.name.removesuffix(".journal"))
    journal = Path(f"{path}.journal")
    running = journal.exists() and is_being_written(journal)
    if not running:
        try:
            status = _final_status(path)
        except StorageError:
            if not journal.exists():
                raise
            status = None
        if status is not None:
            return Run(path, status)
    if journal.exists():
        from labctl.recover import rebuild_in_memory

        return Run(path, "running" if running else "interrupted", rebuild_in_memory(journal))
    return Run(path, "interrupted")  # cut off, and the journal is lost: what the file itself still has


def _final_status(path: Path) -> str | None:
    """The status of a finished file; None for one that was never finished."""
    with open_file(path) as file:
        if file.attrs.get("format") != "labctl run":
            raise StorageError(f"{path} is an HDF5 file, but no recording of labctl; see labctl import")
        version = int(file.attrs["format_version"])
        if version not in READABLE:
            raise StorageError(
                f"{path} has format version {version}, this labctl reads up to {max(READABLE)}; update labctl"
            )
        status = str(file.attrs["status"])
        return None if status == "running" else status


def _pieces(group: Any, name: str) -> list[bytes]:
    data = group[f"{name}_bytes"][...].tobytes()
    ends = group[f"{name}_end"][...].tolist()
    return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
