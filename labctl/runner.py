"""The runner: checks, records, watches for an abort, and leaves a safe bench and a whole file, whatever happens."""

import getpass
import importlib.metadata
import inspect
import os
import platform
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from labctl import __version__
from labctl.abort import AbortSignal
from labctl.errors import Aborted, StorageError
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

    def begin(self, recorder: Recorder | None, session: int, abort: AbortSignal) -> dict[str, str]:
        """Start from a known state and record every transaction from here on; return who answers."""

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
    abort = abort or AbortSignal()
    session = secrets.randbelow(2**32)
    header = describe(declared, values, bench, session, comment, tags)
    journal_path = Path(f"{path}.journal")
    journal = Journal(journal_path, header, declared.tables)
    try:
        store = Store(path, header, declared.tables)
    except BaseException:
        journal.close()
        journal_path.unlink()
        raise
    status, error = "failed", None
    try:
        journal.event("identities", **bench.begin(journal, session, abort))
        _record(declared, values, bench, journal, store, watch)
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


def _record(
    declared: Declared,
    values: Mapping[str, Value],
    bench: BenchLike,
    journal: Journal,
    store: Store,
    watch: Watcher | None,
) -> None:
    index = {table.row: number for number, table in enumerate(declared.tables)}
    main = 0
    rows = declared(bench, **values)
    try:
        for item in rows:
            kind = type(item)
            if kind is Trace:
                store.trace(item, main - 1, journal.trace(item, main - 1))
            elif kind is Rows:
                number = index[item.row]
                store.rows(number, item, journal.rows(number, item))
                main += len(item) if number == 0 else 0
            else:
                number = index[kind]
                store.row(number, item, journal.row(number, item))
                main += number == 0
            if watch is not None:
                watch(item, main)
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
        raise StorageError(f"{problem}; free some space, then: labctl recover {store.path}") from problem


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
