"""Rebuilds a run's HDF5 file from its journal alone, through the same `Store` that writes it in the first place."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.disk import is_being_written, replace
from labctl.errors import StorageError
from labctl.journal_entries import Block, EventEntry, Remains, TraceEntry, describe_losses
from labctl.journal_reader import JournalReader
from labctl.protocol import Rows
from labctl.reader import open_file
from labctl.store import Store

if TYPE_CHECKING:
    import h5py


def recover(path: str | Path) -> Path:
    """Make FILE.h5 whole again from FILE.h5.journal; return its path.

    path: either of the two. Every row that the journal proves is in the new file, and nothing else; what is lost is
    named in its event "recovery" (`Run.losses`). Its status is "recovered", or what the run itself said last when its
    end is in the journal. The torn working file is kept as FILE.h5.torn, the journal, unless all of it was proven, as
    FILE.h5.journal.torn. Raises `StorageError` when the run still goes on, or nothing can be recovered.
    """
    path = Path(path)
    if path.name.endswith(".journal"):
        path = path.with_name(path.name.removesuffix(".journal"))
    journal = Path(f"{path}.journal")
    whole = _is_finished(path)
    if not journal.exists():
        if whole:
            return path
        missing = "does not exist" if not path.exists() else "was cut off"
        raise StorageError(f"{path} {missing}, and its journal {journal.name} is not there; nothing to recover from")
    if is_being_written(journal):
        raise StorageError(f"{path} is being recorded right now; stop that run first")
    if whole:
        os.remove(journal)  # the run was finished; only the last step, this one, was missing
        return path
    part = path.with_name(path.name + ".part")
    if _is_finished(part):  # the run was finished, and could not take its place: somebody had the file open
        replace(part, path)
        os.remove(journal)
        return path
    fresh = path.with_name(path.name + ".recovering")
    for left_over in (fresh, Path(f"{fresh}.part"), Path(f"{path}.new")):
        left_over.unlink(missing_ok=True)  # of a recovery that was cut off itself
    _, losses = _rebuild(journal, fresh)
    if torn := next((file for file in (part, path) if file.exists()), None):
        replace(torn, _free(path.with_name(path.name + ".torn")))
    replace(fresh, path)
    if losses:
        os.replace(journal, _free(journal.with_name(journal.name + ".torn")))
    else:
        os.remove(journal)
    return path


def rebuild_in_memory(journal: Path) -> "h5py.File":
    """The HDF5 file that a journal makes, in memory: what `reader.load` shows of a run that goes on."""
    return _rebuild(journal, None)[0].file


def _rebuild(journal: Path, path: Path | None) -> tuple[Store, list[str]]:
    with JournalReader(journal) as reader:
        rest = Remains(reader.started)
        store = Store(path, reader.header, reader.tables)
        end: dict[str, Any] = {}
        for entry in reader.entries():
            rest.add(entry)
            if isinstance(entry, Block):
                store.rows(entry.table, Rows(reader.tables[entry.table].row, **entry.columns), entry.t)
            elif isinstance(entry, TraceEntry):
                store.trace(entry.trace, reader.position(entry.row), entry.t)
            elif isinstance(entry, EventEntry) and entry.name == "end":
                end = entry.data
        losses, rest.last_t = describe_losses(reader.losses, reader.lost_rows, reader.lost_traces), reader.last_t
        said = end.get("status", "")
        status = said if said in ("aborted", "failed") or (said == "done" and not losses) else "recovered"
        if losses or not end:
            store.event("recovery", {"losses": losses}, reader.last_t)
    store.finish(status, end, rest)
    return store, losses


def _is_finished(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return str(file.attrs.get("status", "running")) != "running"
    except StorageError:
        return False


def _free(path: Path) -> Path:
    """That path, or the first of path.2, path.3 … that nobody has."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate
