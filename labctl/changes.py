"""Re-execution with changed code: which rows of a recorded run would be others."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from labctl import bench_factory
from labctl.abort import AbortSignal
from labctl.errors import Aborted, DivergenceError, LabctlError, StorageError, UsageError
from labctl.protocol import Protocol, Rows, Table, Trace, find
from labctl.reader import Run, load
from labctl.replay import identical
from labctl.resume import Resumed
from labctl.station import parse_station
from labctl.transport.tape import Tape

MISSING = "–"
"""Stands for a value that only one of the two has."""


class Change(NamedTuple):
    """One value that is another now. A row that one side does not have is `MISSING` there, its column is ""."""

    table: str
    row: int
    column: str
    before: Any
    after: Any


@dataclass
class Changes:
    """What changed, table by table, in the order of the rows.

    compared: rows that both have. columns: which are new or gone, a line a table. dropped: recorded parameters that
    the changed code does not take, added: parameters that were not recorded, at their defaults. stopped: why the
    changed code ended early, or "".
    """

    found: list[Change] = field(default_factory=list)
    compared: int = 0
    dropped: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    stopped: str = ""

    @property
    def rows(self) -> int:
        """How many rows have a change."""
        return len({(change.table, change.row) for change in self.found})


def with_module(path: str | Path, module: str) -> Changes:
    """Re-execute a run with the protocol in ``MODULE.py[:NAME]`` (NAME: the recorded one's)."""
    name = module if module.rpartition(":")[0].endswith(".py") else f"{module}:{load(path).protocol}"
    if not name.rpartition(":")[0].endswith(".py"):
        raise UsageError(f"{module!r} is no module; write FILE.py or FILE.py:NAME")
    return changes(path, find(name))


def changes(path: str | Path, protocol: Protocol) -> Changes:
    """Re-execute a run against its recorded transactions with another protocol, and compare all rows and traces.

    Raises `DivergenceError` when the changed code asks the bench something else: it then measures something else.
    """
    run = load(path)
    ends = [data for name, data in run.events() if name == "end"]
    transactions = run.transactions()
    if not ends or not transactions:
        raise StorageError(
            f"{path}: there is no whole recording to re-execute ({run.status}, {len(transactions)} transactions)"
        )
    known = {name: value for name, value in run.params.items() if name in protocol.parameters}
    result = Changes(
        dropped=[name for name in run.params if name not in known],
        added=[name for name in protocol.parameters if name not in known],
    )
    values = protocol.check(known)
    tape = Tape(transactions)
    station = parse_station(run.header["station"]["text"], f"in {path}")
    bench = bench_factory("tape")(station, tape, seed=run.header["seed"])
    aborted_at = ends[-1]["checks"] if run.status == "aborted" else None
    fresh = _Fresh(protocol)
    resumed = Resumed.of(run.header)
    try:
        bench.begin(None, run.header["session"], AbortSignal(aborted_at))
        if resumed is not None:
            bench.resume(resumed.finished, resumed.begun)
        for item in protocol(bench, **values):
            fresh.add(item)
    except Aborted:
        result.stopped = "aborted, as recorded"
    except DivergenceError as error:
        raise DivergenceError(
            f"the changed code asks the bench something else after {fresh.count} rows: {error}; what was recorded in"
            f" another order: labctl run … --bench {Path(path).name}"
        ) from error
    except LabctlError as error:
        if run.status != "failed":
            raise
        result.stopped = str(error)
    _compare(run, fresh, result, resumed)
    return result


class _Fresh:
    """What the changed code yields, as rows a table and traces a name."""

    def __init__(self, protocol: Protocol) -> None:
        self.columns = {table.name: [column.name for column in table.columns] for table in protocol.tables}
        self.rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in self.columns}
        self.traces: dict[str, list[Trace]] = {}
        self._names = {table.row: table.name for table in protocol.tables}

    @property
    def count(self) -> int:
        return sum(map(len, self.rows.values()))

    def add(self, item: Any) -> None:
        if isinstance(item, Trace):
            self.traces.setdefault(item.name, []).append(item)
            return
        kind = item.row if isinstance(item, Rows) else type(item)
        name = self._names.setdefault(kind, Table(kind).name)
        if isinstance(item, Rows):
            self.rows[name] += zip(*(item.columns[column].tolist() for column in self.columns[name]), strict=True)
        else:
            self.rows[name].append(item)


def _compare(run: Run, fresh: _Fresh, result: Changes, resumed: Resumed | None) -> None:
    """What a resumed run took over from its first part is not compared."""
    taken = resumed.rows if resumed else {}
    for table in dict.fromkeys([*run.tables, *fresh.rows]):
        recorded = {k: v.tolist() for k, v in run.table(table).items()} if table in run.tables else {}
        count = run.row_count(table) if table in run.tables else 0
        first, columns = taken.get(table, 0), fresh.columns.get(table, [])
        now = [()] * first + fresh.rows.get(table, [])
        places = {name: k for k, name in enumerate(columns)}
        both = min(count, len(now))
        result.compared += both - first
        gone, new = (
            [name for name in recorded if name not in places],
            [name for name in columns if name not in recorded],
        )
        if gone or new:
            result.columns.append(f"{table}: gone {', '.join(gone) or MISSING}; new {', '.join(new) or MISSING}")
        for row in range(first, both):
            for name in recorded:
                if name in places and not identical(recorded[name][row], now[row][places[name]]):
                    result.found.append(Change(table, row, name, recorded[name][row], now[row][places[name]]))
        for row in range(both, count):
            result.found.append(Change(table, row, "", {k: v[row] for k, v in recorded.items()}, MISSING))
        for row in range(both, len(now)):
            result.found.append(Change(table, row, "", MISSING, dict(zip(columns, now[row], strict=True))))
    for name in dict.fromkeys([*run.traces, *fresh.traces]):
        count, traces = run.trace_count(name) if name in run.traces else 0, fresh.traces.get(name, [])
        first = resumed.traces(run, name) if resumed and name in run.traces else 0
        for number in range(first, max(count, first + len(traces))):
            then = _about(run.trace(name, number)) if number < count else {"samples": MISSING}
            later = _about(traces[number - first]) if number - first < len(traces) else {"samples": MISSING}
            for key in dict.fromkeys([*then, *later]):
                if then.get(key) != later.get(key):
                    result.found.append(
                        Change(
                            f"trace {name}",
                            number,
                            key,
                            _plain(then.get(key, MISSING)),
                            _plain(later.get(key, MISSING)),
                        )
                    )


def _about(trace: Trace) -> dict[str, Any]:
    return {"t0": trace.t0, "dt": trace.dt, "unit": trace.unit, "samples": trace.values.tobytes()}


def _plain(value: Any) -> Any:
    return f"{len(value) // 8} samples" if isinstance(value, bytes) else value
