"""CSV with units: one file a table, one a waveform. Numbers are written so that they read back bit for bit."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.exporting import heading, table_paths

if TYPE_CHECKING:
    from labctl.reader import Run

CHUNK = 65536


def write(run: "Run", stem: Path) -> Iterator[Path]:
    """STEM.csv, STEM_TABLE.csv, STEM_TRACE_0000.csv …; heads are ``name (unit)``; `elapsed` is the last column.

    Yields each path as soon as its file exists.
    """
    for name, path in table_paths(run, stem, ".csv"):
        units = run.units(name)
        with path.open("x", encoding="utf-8", newline="") as file:
            yield path
            out = csv.writer(file)
            out.writerow([*(heading(column, unit) for column, unit in units.items()), "elapsed (s)"])
            for start in range(0, run.row_count(name), CHUNK):
                rows = slice(start, start + CHUNK)
                columns = [*run.table(name, rows).values(), run.elapsed(name, rows)]
                out.writerows(zip(*(values.tolist() for values in columns), strict=True))
    for name in run.traces:
        for number in range(run.trace_count(name)):
            path = Path(f"{stem}_{name}_{number:04d}.csv")
            trace = run.trace(name, number)
            with path.open("x", encoding="utf-8", newline="") as file:
                yield path
                out = csv.writer(file)
                out.writerow(["t (s)", heading(name, trace.unit)])
                out.writerows(zip(trace.t.tolist(), trace.values.tolist(), strict=True))
