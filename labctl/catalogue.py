"""Catalogue: the runs in a folder tree, from an index that is only a cache.

The index lies in the user's cache folder, never beside the data. An entry counts while size and time of modification
of its file (and of its journal) are the same; a deleted or damaged index is made again. Files are the truth.
"""

import contextlib
import fnmatch
import json
import os
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, StorageError, UsageError

VERSION = 1
_CELLS = ("cell", "cells", "row", "rows", "column", "columns", "neuron", "neurons")


@dataclass(frozen=True)
class Entry:
    """One run. path: relative to the folder, with slashes. status: as `Run.status`, or "unreadable" with the `problem`.
    created: ISO time. rows: of the main table, None where only a journal tells. cells: the parameters that say which.
    """

    path: str
    status: str
    protocol: str = ""
    chip: str = ""
    station: str = ""
    cells: str = ""
    created: str = ""
    comment: str = ""
    tags: tuple[str, ...] = ()
    rows: int | None = None
    size: int = 0
    problem: str = ""


def catalogue(
    folder: str | Path = ".",
    *,
    protocol: str = "*",
    chip: str = "*",
    status: str = "*",
    since: str | datetime | None = None,
    tags: Sequence[str] = (),
    cache: Path | None = None,
) -> list[Entry]:
    """The runs under `folder` that fit, oldest first.

    protocol, chip, status: patterns as file names have them (``lif_*``), whatever the case. since: a date or time, ISO
    8601, local where it has no zone. tags: all of them. cache: folder of the index (default: the user's own).
    Raises `StorageError` when there is no such folder and `UsageError` for a date that is none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StorageError(f"{folder} is no folder; labctl ls lists the runs under a folder")
    begin = _time(since) if isinstance(since, str) else since
    patterns = {"protocol": protocol, "chip": chip, "status": status}
    found = []
    for entry in _entries(root.resolve(), cache):
        fits = all(fnmatch.fnmatchcase(getattr(entry, k).lower(), pattern.lower()) for k, pattern in patterns.items())
        if fits and set(tags) <= set(entry.tags) and (begin is None or _is_since(entry, begin)):
            found.append(entry)
    return sorted(found, key=lambda entry: (_sortable(entry.created), entry.path))


def _entries(root: Path, cache: Path | None) -> list[Entry]:
    index = _index_path(root, cache)
    known = _read_index(index)
    fresh: dict[str, tuple[list[int], Entry]] = {}
    changed = False
    for path, key in _files(root):
        before = known.get(path)
        if before is not None and before[0] == key:
            fresh[path] = before
            continue
        fresh[path] = (key, _look(root, path, key[1]))
        changed = True
    if changed or len(fresh) != len(known):
        # what a living process still writes may end without its size changing: never believed the next time
        _write_index(index, {path: pair for path, pair in fresh.items() if pair[1].status != "running"})
    return [entry for _, entry in fresh.values()]


def _files(root: Path) -> Iterator[tuple[str, list[int]]]:
    """Relative path of each run and what tells that it changed: times (ns) and sizes of file and journal."""
    folders = [str(root)]
    start = len(str(root).rstrip(os.sep)) + 1
    while folders:
        seen: dict[str, list[int]] = {}
        try:
            with os.scandir(folders.pop()) as items:
                for item in items:
                    if item.is_dir(follow_symlinks=False):
                        if not item.name.startswith("."):
                            folders.append(item.path)
                    elif item.name.endswith((".h5", ".h5.journal")):
                        at = 2 if item.name.endswith(".journal") else 0
                        with contextlib.suppress(OSError):  # gone meanwhile
                            stat = item.stat()
                            key = seen.setdefault(item.path.removesuffix(".journal"), [0, 0, 0, 0])
                            key[at : at + 2] = [stat.st_mtime_ns, stat.st_size]
        except OSError:
            continue  # a folder that may not be read has no runs for this user
        for path, key in seen.items():
            yield path[start:].replace(os.sep, "/"), key


def _look(root: Path, path: str, size: int) -> Entry:
    from labctl.disk import is_being_written
    from labctl.journal_reader import JournalReader
    from labctl.reader import load

    full = root / path
    journal = Path(f"{full}.journal")
    try:
        running = journal.exists() and is_being_written(journal)
        # a finished file may still have its journal, when the run was cut off just before removing it
        if not running and full.exists() and (entry := _finished(full, path, size)):
            return entry
        if journal.exists():
            with JournalReader(journal) as reader:
                return _entry(path, "running" if running else "interrupted", reader.header, None, size)
        run = load(full)
        return _entry(path, run.status, run.header, run.row_count() if run.tables else 0, size)
    except (LabctlError, OSError, KeyError, ValueError) as error:
        return Entry(path, "unreadable", size=size, problem=str(error))


def _finished(full: Path, path: str, size: int) -> Entry | None:
    from labctl.reader import open_file

    try:
        with open_file(full) as file:  # all that is asked for in one go: `load` would open it twice
            status = str(file.attrs.get("status", ""))
            if file.attrs.get("format") != "labctl run" or status in ("", "running"):
                return None
            content = file["entry"]
            main = content.attrs.get("default")
            rows = len(content[main]["elapsed"]) if main else 0
            return _entry(path, status, json.loads(content["header"].asstr()[()]), rows, size)
    except StorageError:
        return None


def _entry(path: str, status: str, header: dict[str, Any], rows: int | None, size: int) -> Entry:
    station = header.get("station") or {}
    name = str(station.get("name", ""))
    try:
        chip = str(tomllib.loads(station.get("text", "")).get("chip", {}).get("name", ""))
    except (tomllib.TOMLDecodeError, AttributeError):
        chip = ""
    params = header.get("params") or {}
    cells = ", ".join(f"{key} {_short(params[key])}" for key in _CELLS if key in params)
    return Entry(
        path, status, str(header.get("protocol", "")), chip, name, cells, str(header.get("created", "")),
        str(header.get("comment", "")), tuple(map(str, header.get("tags", ()))), rows, size,
    )  # fmt: skip


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value[:4])) + (f" … ({len(value)})" if len(value) > 4 else "")
    return str(value)


def _index_path(root: Path, cache: Path | None) -> Path:
    if cache is None:
        import platformdirs

        cache = platformdirs.user_cache_path("labctl", appauthor=False) / "catalogue"
    return cache / f"{sha256(os.fsencode(root)).hexdigest()[:32]}.json"


def _read_index(path: Path) -> dict[str, tuple[list[int], Entry]]:
    names = [field.name for field in fields(Entry)]
    try:
        data = json.loads(path.read_bytes())
        if data["version"] != VERSION or data["fields"] != names:
            return {}
        made = {}
        for key, values in data["entries"]:
            entry = Entry(**dict(zip(names, values, strict=True)))
            object.__setattr__(entry, "tags", tuple(entry.tags))
            made[entry.path] = (key, entry)
        return made
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # not there, or no index any more: it is made again


def _write_index(path: Path, entries: dict[str, tuple[list[int], Entry]]) -> None:
    names = [field.name for field in fields(Entry)]
    rows = [[key, list(asdict(entry).values())] for key, entry in entries.values()]
    text = json.dumps({"version": VERSION, "fields": names, "entries": rows}, ensure_ascii=False)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # no place for a cache: the next time takes as long as this one
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise UsageError(f"{text!r} is no date; write 2026-11-23 or 2026-11-23T14:00") from error


def _sortable(text: str) -> float:
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _is_since(entry: Entry, begin: datetime) -> bool:
    return _sortable(entry.created) >= begin.astimezone().timestamp()
