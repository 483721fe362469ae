"""Where a run that was cut off goes on: at its first unfinished cell, in a new file that holds the rows so far too.

A memristor's state depends on its history, so a cell that was not finished is measured again from its beginning, and
what was recorded of it is left in the first file. A protocol that `continues` goes on within the cell instead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from labctl.errors import StorageError, UsageError
from labctl.protocol import Protocol, Rows
from labctl.reader import Run


class NothingFinished(UsageError):
    """A run has not come far enough to be resumed."""


@dataclass(frozen=True)
class Resumed:
    """What a resumed run takes over: rows of each table, finished cells (row, column), and the cell that was begun."""

    rows: dict[str, int]
    finished: list[tuple[int, int]]
    begun: dict[str, int] | None

    @classmethod
    def of(cls, header: dict[str, Any]) -> "Resumed | None":
        """What the header of a resumed run says; None for any other run."""
        said = header.get("resumed")
        if said is None:
            return None
        return cls(said["rows"], [(row, column) for row, column in said["finished"]], said["begun"])

    def traces(self, run: Run, name: str) -> int:
        """How many waveforms of that name belong to the rows taken over."""
        return int((run.trace_rows(name) < self.rows[run.tables[0]]).sum())


def where(run: Run, protocol: Protocol) -> Resumed:
    """Where `run` can be resumed; raises `UsageError` when it cannot."""
    if run.status == "done":
        raise UsageError(f"{run.path} is done; there is nothing to resume")
    if run.status == "running":
        raise UsageError(f"{run.path} is still being measured; abort it first")
    before = Resumed.of(run.header) or Resumed(dict.fromkeys(run.tables, 0), [], None)
    rows, finished, begun = before.rows, list(before.finished), before.begun
    for event in run.events():
        if event.name == "finished":
            finished.append((event.data["row"], event.data["column"]))
            rows = dict(zip(run.tables, event.data["rows"], strict=True))
            begun = None
        elif event.name == "begun" and begun is None:
            begun = {name: event.data[name] for name in ("row", "column", "boot", "pulses")}
    if protocol.continues:
        rows = {table: run.row_count(table) for table in run.tables}
    else:
        begun = None
    if not finished and begun is None:
        raise NothingFinished(f"{run.path}: no cell was finished ({run.protocol}); run it again from its beginning")
    missing = [table for table, count in rows.items() if run.row_count(table) < count]
    if missing:
        raise StorageError(f"{run.path} has lost rows of finished cells (table {missing[0]}); run it again")
    return Resumed(rows, finished, begun)


def describe(run: Run, resumed: Resumed) -> dict[str, Any]:
    """What the header of the new run says of the first one."""
    times = run.event_elapsed()
    ended = datetime.fromisoformat(run.header["created"]) + timedelta(seconds=float(times[-1]) if len(times) else 0.0)
    return {
        "file": run.path.name,
        "gap": (datetime.now().astimezone() - ended).total_seconds(),
        "rows": resumed.rows,
        "finished": [list(cell) for cell in resumed.finished],
        "begun": resumed.begun,
    }


def taken_over(run: Run, resumed: Resumed, protocol: Protocol) -> list[Rows]:
    """The rows of the first run that the new one begins with, a block a table."""
    return [
        Rows(table.row, **run.table(table.name, slice(0, resumed.rows[table.name])))
        for table in protocol.tables
        if resumed.rows[table.name]
    ]


def next_name(path: Path) -> Path:
    """A free name beside the first file: NAME-2.h5, NAME-3.h5, …"""
    stem, dash, number = path.stem.rpartition("-")
    base, count = (stem, int(number)) if dash and number.isdigit() and int(number) > 1 else (path.stem, 1)
    while True:
        count += 1
        candidate = path.with_name(f"{base}-{count}.h5")
        if not candidate.exists():
            return candidate
