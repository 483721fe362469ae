"""Re-execution: the same protocol and drivers against the recorded transactions; rows must come out bit-identical."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from labctl import bench_factory
from labctl.abort import AbortSignal
from labctl.errors import Aborted, DivergenceError, LabctlError, StorageError, UsageError
from labctl.protocol import Protocol, Rows, Trace, find
from labctl.reader import Run, load
from labctl.resume import Resumed
from labctl.station import parse_station
from labctl.transport.tape import Tape


@dataclass(frozen=True)
class Verification:
    """What a re-execution compared, all of it identical."""

    rows: int
    traces: int
    transactions: int


def verify(path: str | Path, protocol: Protocol | None = None) -> Verification:
    """Re-execute a recorded run; raises `DivergenceError` that names the first difference.

    protocol: run this one instead of the installed protocol of the recorded name.
    """
    run = load(path)
    header = run.header
    if "source" in header and not run.transactions():
        raise UsageError(
            f"{path} was imported: it has no exchange with an instrument to re-execute; leave --verify out"
        )
    declared = protocol or find(run.protocol)
    values = declared.check(run.params)
    ends = [data for name, data in run.events() if name == "end"]
    if not ends:
        raise StorageError(f"{path}: the recording breaks off ({run.status}); only a run that ended can be re-executed")
    tape = Tape(run.transactions())
    station = parse_station(header["station"]["text"], f"in {path}")
    bench = bench_factory("tape")(station, tape, seed=header["seed"])
    aborted_at = ends[-1]["checks"] if run.status == "aborted" else None
    resumed = Resumed.of(header)
    progress = _Comparison(run, tape, resumed)
    rows: Iterator[Any] | None = None
    try:
        bench.begin(None, header["session"], AbortSignal(aborted_at))
        if resumed is not None:
            bench.resume(resumed.finished, resumed.begun)
        rows = declared(bench, **values)
        for item in rows:
            progress.compare(item)
    except Aborted:
        if aborted_at is None:
            raise
    except DivergenceError as error:
        raise DivergenceError(f"{progress.where()}: {error}") from error
    except LabctlError as error:
        if run.status != "failed":
            raise DivergenceError(
                f"{progress.where()}, transaction {tape.position - 1}: the recorded run went on here, now: {error}"
            ) from error
    tape.finish()
    progress.finish()
    return progress.result(tape.position)


class _Comparison:
    """Holds each new item against the recorded one; those that a resumed run took over were not measured in it."""

    def __init__(self, run: Run, tape: Tape, resumed: Resumed | None) -> None:
        self._run, self._tape = run, tape
        self._recorded = {name: run.table(name) for name in run.tables}
        self.rows = dict.fromkeys(run.tables, 0) | (resumed.rows if resumed else {})
        self.traces = {name: resumed.traces(run, name) if resumed else 0 for name in run.traces}
        self._names: dict[type, str] = {}
        self._before = sum(self.rows.values()), sum(self.traces.values())

    def result(self, transactions: int) -> Verification:
        """What was measured again."""
        rows, traces = self._before
        return Verification(sum(self.rows.values()) - rows, sum(self.traces.values()) - traces, transactions)

    def where(self) -> str:
        main = self._run.tables[0]
        return f"after row {self.rows[main] - 1} of {main}" if self.rows[main] else "before the first row"

    def compare(self, item: Any) -> None:
        if isinstance(item, Trace):
            self._trace(item)
        elif isinstance(item, Rows):
            for row in zip(*(item.columns[name].tolist() for name in item.columns), strict=True):
                self._row(item.row, row)
        else:
            self._row(type(item), item)

    def _row(self, kind: type, row: tuple[Any, ...]) -> None:
        if kind not in self._names:
            from labctl.protocol import Table

            self._names[kind] = Table(kind).name
        table = self._names[kind]
        columns, at = self._recorded[table], self.rows[table]
        for (name, recorded), now in zip(columns.items(), row, strict=True):
            if at >= len(recorded):
                raise DivergenceError(
                    f"row {at} of {table} was not recorded, last is {len(recorded) - 1}{self._last()}"
                )
            if not identical(recorded[at], now):
                raise DivergenceError(f"row {at} of {table}: {name} was {recorded[at]!r}, is now {now!r}{self._last()}")
        self.rows[table] += 1

    def _trace(self, trace: Trace) -> None:
        at = self.traces.setdefault(trace.name, 0)
        if trace.name not in self._run.traces or at >= self._run.trace_count(trace.name):
            raise DivergenceError(f"trace {trace.name} {at} was not recorded{self._last()}")
        recorded = self._run.trace(trace.name, at)
        for name, then, now in zip_longest(
            ("scale", "offset", "t0", "dt"),
            (recorded.scale, recorded.offset, recorded.t0, recorded.dt),
            (trace.scale, trace.offset, trace.t0, trace.dt),
        ):
            if not identical(then, now):
                raise DivergenceError(f"trace {trace.name} {at}: {name} was {then!r}, is now {now!r}{self._last()}")
        if recorded.codes.shape != trace.codes.shape or (recorded.codes != trace.codes).any():
            raise DivergenceError(f"trace {trace.name} {at}: samples differ{self._last()}")
        self.traces[trace.name] += 1

    def finish(self) -> None:
        for table, done in self.rows.items():
            recorded = len(next(iter(self._recorded[table].values())))
            if done < recorded:
                raise DivergenceError(f"row {done} of {table} was recorded but not measured again{self._last()}")

    def _last(self) -> str:
        return f" (last transaction: {self._tape.position - 1})"


def identical(recorded: Any, now: Any) -> bool:
    """Whether two values are the same to the last bit; NaN is NaN."""
    if isinstance(now, float):
        return struct.pack("<d", float(recorded)) == struct.pack("<d", now)
    return bool(recorded == now)
