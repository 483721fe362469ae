"""The runner: checks, records, watches for an abort, and leaves a safe bench and a whole file, whatever happens."""

import getpass
import importlib.metadata
import inspect
import os
import platform
import secrets
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from labctl import __version__
from labctl import resume as resuming
from labctl.abort import AbortSignal
from labctl.errors import Aborted, MeasurementError, StorageError
from labctl.journal import Journal
from labctl.protocol import Protocol as Declared
from labctl.protocol import Rows, Trace, Value, find
from labctl.reader import Run, load
from labctl.station import Station
from labctl.store import Store
from labctl.transport.tape import Recorder


class BenchLike(Protocol):
    """What the runner needs of a bench; `drivers.bench.Bench` is one."""

    station: Station
    seed: int

    def begin(self, recorder: Recorder | None, session: int, abort: AbortSignal, folder: Path | None) -> dict[str, str]:
        """Start from a known state and record every transaction from here on; return who answers. folder: the run's."""

    def resume(self, finished: Sequence[tuple[int, int]], begun: Any) -> None:
        """Go on where another run was cut off (see `labctl.resume`)."""

    def end(self) -> None:
        """Stop recording."""


Watcher = Callable[[Any, int], None]
"""Called with each yielded item and the number of main rows so far; must return at once."""


def run(
    protocol: str | Declared,
    bench: BenchLike,
    *,
    out: str | Path | None = None,
    comment: str = "",
    tags: Sequence[str] = (),
    abort: AbortSignal | None = None,
    watch: Watcher | None = None,
    **parameters: object,
) -> Run:
    """Run a protocol on a bench and record it; return the loaded run.

    protocol: a name, ``FILE.py:NAME``, or a declared protocol. out: a file ending in .h5, or a folder to name one in.
    Raises `ParameterError` before a file or a volt exists. Any later error is raised after the bench was made safe and
    the rows so far were kept; `Aborted` when `abort` was set.
    """
    declared = protocol if isinstance(protocol, Declared) else find(protocol)
    values = declared.check(parameters)
    path = _output_path(out, declared.name)
    header = describe(declared, values, bench, secrets.randbelow(2**32), comment, tags)
    return _execute(declared, values, bench, path, header, None, abort or AbortSignal(), watch)


def resume(
    path: str | Path,
    bench: BenchLike,
    *,
    out: str | Path | None = None,
    protocol: Declared | None = None,
    abort: AbortSignal | None = None,
    watch: Watcher | None = None,
) -> Run:
    """Go on with a run that was aborted, failed or killed, at its first unfinished cell; return the new run.

    The new file (out; default: NAME-2.h5 beside the first) holds the rows of the finished cells too, and says how long
    the gap was. Raises `UsageError` where there is nothing to go on with; else as `run`.
    """
    first = load(path)
    declared = protocol or find(first.protocol)
    resumed = resuming.where(first, declared)
    values = declared.check(first.params)
    target = _output_path(out or resuming.next_name(first.path), declared.name)
    header = describe(declared, values, bench, secrets.randbelow(2**32), first.comment, first.tags)
    header["resumed"] = resuming.describe(first, resumed)
    return _execute(declared, values, bench, target, header, first, abort or AbortSignal(), watch)


def _execute(
    declared: Declared,
    values: Mapping[str, Value],
    bench: BenchLike,
    path: Path,
    header: dict[str, Any],
    first: Run | None,
    abort: AbortSignal,
    watch: Watcher | None,
) -> Run:
    journal_path = Path(f"{path}.journal")
    journal = Journal(journal_path, header, declared.tables)
    try:
        store = Store(path, header, declared.tables)
        store.follow(journal)
    except BaseException:
        journal.close()
        journal_path.unlink()
        raise
    status, error = "failed", None
    try:
        books = _Books(declared, journal, store, watch)
        journal.event("identities", **bench.begin(books, header["session"], abort, path.parent))
        if first is not None:
            _take_over(first, header, declared, bench, books)
        _record(declared(bench, **values), books)
        status = "done"
    except BaseException as caught:
        error = caught
        if isinstance(caught, Aborted | KeyboardInterrupt):
            status = "aborted"
    finally:
        bench.end()
    _finish(journal, store, status, error, abort)
    if error is not None:
        error.add_note(f"what was measured is kept in {path}")
        raise error
    return load(path)


class _Books:
    """Journal and HDF5 file, written side by side; what the bench records goes to the journal."""

    def __init__(self, declared: Declared, journal: Journal, store: Store, watch: Watcher | None) -> None:
        self._journal, self._store, self._watch = journal, store, watch
        self._index = {table.row: number for number, table in enumerate(declared.tables)}
        self._counts = [0] * len(declared.tables)
        self.transaction = journal.transaction

    def event(self, name: str, /, **data: Any) -> None:
        """An event, with how many rows each table had; on the disk before anything follows from it."""
        self._journal.event(name, **data, rows=list(self._counts))
        if name == "begun":
            self._journal.sync()

    def item(self, item: Any) -> None:
        """Whatever a protocol yields."""
        number = self._index.get(type(item))
        if number is not None:
            self._journal.row(number, item)
            self._counts[number] += 1
            if self._store.incoming:
                self._store.take()
        elif type(item) is Trace:
            self.trace(item, self._counts[0] - 1)
        elif type(item) is Rows and item.row in self._index:
            number = self._index[item.row]
            self._store.rows(number, item, self._journal.rows(number, item))
            self._counts[number] += len(item)
        else:
            name = item.row.__name__ if type(item) is Rows else type(item).__name__
            raise MeasurementError(f"the protocol yielded a {name} that it does not declare; name it in Iterator[…]")
        if self._watch is not None:
            self._watch(item, self._counts[0])

    def trace(self, trace: Trace, row: int) -> None:
        """A waveform of a row of the main table."""
        pieces = self._store.place(trace)
        self._store.trace(trace, row, self._journal.trace(trace, row, pieces), pieces)


def _take_over(first: Run, header: dict[str, Any], declared: Declared, bench: BenchLike, books: _Books) -> None:
    """Begin with what the first run finished."""
    resumed = resuming.Resumed.of(header)
    assert resumed is not None
    for block in resuming.taken_over(first, resumed, declared):
        books.item(block)
    for name in first.traces:
        rows = first.trace_rows(name)[: resumed.traces(first, name)]
        for number, row in enumerate(rows.tolist()):
            books.trace(first.trace(name, number), row)
    books.event("resumed", **{key: header["resumed"][key] for key in ("file", "gap")})
    bench.resume(resumed.finished, resumed.begun)


def _record(rows: Generator[Any, None, None], books: _Books) -> None:
    take = books.item
    try:
        for item in rows:
            take(item)
    finally:
        rows.close()  # leaves the protocol's safe-state context now, not when the garbage is collected


def _finish(journal: Journal, store: Store, status: str, error: BaseException | None, abort: AbortSignal) -> None:
    """Close the books. The journal goes only when the HDF5 file is whole."""
    summary: dict[str, Any] = {"status": status, "checks": abort.checks}
    if error is not None:
        summary["error"] = f"{type(error).__name__}: {error}"
    problem: BaseException | None = None
    try:
        journal.event("end", **summary)
    except StorageError as caught:
        problem = caught
    try:
        journal.close()
    except StorageError as caught:
        problem = problem or caught
    try:
        store.finish(status, summary, journal.path)
        if problem is None:
            os.remove(journal.path)
    except (OSError, StorageError) as caught:
        problem = problem or caught
    if problem is not None and error is None:
        raise StorageError(f"{problem}; once that is mended: labctl recover {store.path}") from problem


def describe(
    declared: Declared, values: Mapping[str, Value], bench: BenchLike, session: int, comment: str, tags: Sequence[str]
) -> dict[str, Any]:
    """Everything about a run that is known before it starts, for the file's header."""
    try:
        source = inspect.getsource(inspect.getmodule(declared.function) or declared.function)
    except (OSError, TypeError):
        source = ""
    packages = ("numpy", "h5py", "pyvisa", "pyvisa-py", "pyserial", "numba", "scipy")
    return {
        "protocol": declared.name,
        "protocol_doc": declared.doc,
        "protocol_module": declared.__module__,
        "protocol_source_sha256": sha256(source.encode()).hexdigest(),
        "params": {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
        "param_units": {name: parameter.q.unit for name, parameter in declared.parameters.items()},
        "param_meanings": {name: parameter.q.meaning for name, parameter in declared.parameters.items()},
        "seed": bench.seed,
        "session": session,
        "station": {"name": bench.station.name, "text": bench.station.text},
        "comment": comment,
        "tags": list(tags),
        "created": datetime.now().astimezone().isoformat(timespec="milliseconds"),
        "operator": _operator(),
        "computer": platform.node(),
        "platform": platform.platform(),
        "versions": {
            "labctl": __version__,
            "git": _git_commit(),
            "python": platform.python_version(),
            **{name: version for name in packages if (version := _installed(name))},
        },
    }


@cache
def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no account in a container
        return ""


@cache
def _git_commit() -> str:
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _output_path(out: str | Path | None, name: str) -> Path:
    target = Path(out) if out is not None else Path.cwd()
    if target.suffix == ".h5":
        path = target
    else:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = target / f"{stamp}_{name}.h5"
        number = 1
        while path.exists():
            number += 1
            path = target / f"{stamp}_{name}_{number}.h5"
    if path.exists():
        raise StorageError(f"{path} exists already; labctl never overwrites a recording, choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"folder {path.parent} cannot be made ({error})") from error
    return path
