"""Apache Parquet: one file a table, one for all waveforms of a name; units and the run's header as metadata."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from labctl.exporting import table_paths

if TYPE_CHECKING:
    from labctl.reader import Run

CHUNK = 1 << 20


def write(run: "Run", stem: Path) -> Iterator[Path]:
    """STEM.parquet, STEM_TABLE.parquet, STEM_TRACE.parquet; each field's metadata holds its unit and meaning.

    Waveforms: one line each (row, t0, dt, values). Yields each path before its file is written.
    """
    about = {"labctl": json.dumps({"header": run.header, "status": run.status}, ensure_ascii=False)}
    for name, path in table_paths(run, stem, ".parquet"):
        fields = [
            pa.field(column.name, _TYPES[column.kind], metadata={"unit": column.q.unit, "meaning": column.q.meaning})
            for column in run.columns(name)
        ]
        fields.append(pa.field("elapsed", pa.float64(), metadata={"unit": "s", "meaning": "time since the start"}))
        schema = pa.schema(fields, metadata=about)
        yield _fresh(path)
        with pq.ParquetWriter(path, schema) as out:
            for start in range(0, run.row_count(name), CHUNK):
                rows = slice(start, start + CHUNK)
                columns = [*run.table(name, rows).values(), run.elapsed(name, rows)]
                out.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema))
    for name in run.traces:
        path = Path(f"{stem}_{name}.parquet")
        count = run.trace_count(name)
        unit = run.trace(name, 0).unit if count else ""
        schema = pa.schema(
            [
                pa.field("row", pa.int64(), metadata={"meaning": "row of the main table"}),
                pa.field("t0", pa.float64(), metadata={"unit": "s", "meaning": "time of the first sample"}),
                pa.field("dt", pa.float64(), metadata={"unit": "s", "meaning": "time between samples"}),
                pa.field("values", pa.list_(pa.float64()), metadata={"unit": unit}),
            ],
            metadata=about,
        )
        yield _fresh(path)
        with pq.ParquetWriter(path, schema) as out:
            for number, row in enumerate(run.trace_rows(name).tolist()):
                trace = run.trace(name, number)
                out.write_table(pa.table([[row], [trace.t0], [trace.dt], [trace.values]], schema))


def _fresh(path: Path) -> Path:
    path.open("xb").close()  # fails when it exists
    return path


_TYPES: dict[type, Any] = {float: pa.float64(), int: pa.int64(), bool: pa.bool_(), str: pa.string()}
