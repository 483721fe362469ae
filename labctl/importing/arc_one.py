"""ArC ONE sessions (CSV or CSV.gz).

As ArC ONE Control (arc1_pyqt, "Save session") writes them: line 1 the session's name, line 2 the date as C's ``%c``,
line 3 the names Wordline, Bitline, Resistance, Amplitude (V), Pulse width (s), Tag, ReadTag, ReadVoltage, then one
line an operation, sorted by cell; lines and word lines count from 1. A curve tracer's points carry the tags ``CT_s``,
``CT_i_N`` (N: cycle, from 1) and ``CT_e``; their resistance is Amplitude / current.
"""

import csv
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated as A
from typing import NamedTuple

import numpy as np

from labctl.errors import StorageError
from labctl.importing.common import BadLine, Imported, number, read_text
from labctl.protocol import Rows
from labctl.quantity import Q

NAMES = ("wordline", "bitline", "resistance", "amplitude", "pulsewidth", "tag", "readtag", "readvoltage")
_CURVE = re.compile(r"(CT\w*?)_(s|e|i_(\d+))$")


class Operation(NamedTuple):
    """One operation on one cell, in the order of the file."""

    row: A[int, Q("", meaning="word line, from 0 (ArC ONE counts from 1)")]
    column: A[int, Q("", meaning="bit line, from 0 (ArC ONE counts from 1)")]
    r: A[float, Q("Ω", meaning="resistance read afterwards")]
    v: A[float, Q("V", meaning="amplitude of the operation")]
    width: A[float, Q("s", meaning="pulse width; 0 for a read")]
    tag: A[str, Q("", meaning="what the operation belongs to, as ArC ONE names it")]
    read_tag: A[str, Q("", meaning="how it was read")]
    v_read: A[float, Q("V", meaning="voltage it was read at; NaN where the file is silent")]


class Curve(NamedTuple):
    """One point of a curve tracer."""

    v: A[float, Q("V", meaning="voltage over the cell")]
    i: A[float, Q("A", meaning="current: amplitude / resistance")]
    cycle: A[int, Q("", meaning="which loop, from 0")]
    row: A[int, Q("", meaning="word line, from 0")]
    column: A[int, Q("", meaning="bit line, from 0")]
    sweep: A[int, Q("", meaning="which curve tracer measurement of the file, from 0")]


def recognises(head: list[str]) -> bool:
    """Whether the first lines are those of an ArC ONE session."""
    return any(_names(line) == NAMES for line in head[:5])


def read(path: Path) -> Imported:
    """The whole session; lines that are no operation are in `Imported.bad`. Raises `StorageError`."""
    lines = read_text(path).splitlines()
    start = next((k for k, line in enumerate(lines[:5]) if _names(line) == NAMES), None)
    if start is None:
        raise StorageError(f"{path} has no line of column names as ArC ONE writes it (Wordline, Bitline, …)")
    session = lines[0].strip().strip('"') if start > 0 else ""
    date = lines[1].strip().strip('"') if start > 1 else ""
    rows: list[Operation] = []
    bad: list[BadLine] = []
    for k, line in enumerate(lines[start + 1 :], start + 2):
        if line.strip():
            try:
                rows.append(_operation(next(csv.reader([line]))))
            except (ValueError, csv.Error, StopIteration) as error:
                bad.append(BadLine(k, str(error), line))
    if not rows:
        raise StorageError(f"{path} holds no operation ({len(bad)} lines could not be read); nothing to import")
    tables = [_columns(Operation, rows)]
    curve = _curves(rows)
    if curve:
        tables.append(_columns(Curve, curve))
    return Imported(
        tables, bad=bad, created=_date(date), instrument="ArC ONE", notes={"session": session, "date": date}
    )


def _names(line: str) -> tuple[str, ...]:
    return tuple(re.sub(r"\(.*?\)|[^a-z]", "", cell.lower()) for cell in line.split(","))


def _operation(cells: list[str]) -> Operation:
    if len(cells) != len(NAMES):
        raise ValueError(f"{len(cells)} columns, not {len(NAMES)}")
    place = []
    for name, cell in zip(("Wordline", "Bitline"), cells, strict=False):
        if not cell.strip().isdigit() or int(cell) < 1:
            raise ValueError(f"{name} {cell!r} is not a number from 1")
        place.append(int(cell) - 1)
    values = []
    for name, cell in zip(
        ("Resistance", "Amplitude", "Pulse width", "ReadVoltage"), [*cells[2:5], cells[7]], strict=True
    ):
        try:
            # ArC ONE leaves what it does not know empty
            values.append(number(cell) if cell.strip() else float("nan"))
        except ValueError:
            raise ValueError(f"{name} {cell!r} is not a number") from None
    r, v, width, v_read = values
    return Operation(place[0], place[1], r, v, width, cells[5].strip(), cells[6].strip(), v_read)


def _curves(rows: list[Operation]) -> list[Curve]:
    found: list[Curve] = []
    sweep, cycle, place = -1, 0, (-1, -1)
    for row in rows:
        match = _CURVE.match(row.tag)
        if not match:
            place = (-1, -1)
            continue
        if match[2] == "s" or place != (row.row, row.column):
            sweep, cycle, place = sweep + 1, 0, (row.row, row.column)
        if match[3]:
            cycle = int(match[3]) - 1
        i = row.v / row.r if row.r else float("nan")
        found.append(Curve(row.v, i, cycle, row.row, row.column, sweep))
        if match[2] == "e":
            place = (-1, -1)
    return found


def _columns(kind: type, rows: list[Operation] | list[Curve]) -> Rows:
    columns = zip(*rows, strict=True)
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    arrays = {
        name: np.array(values, object if isinstance(values[0], str) else None)
        for name, values in zip(fields, columns, strict=True)
    }
    return Rows(kind, **arrays)


def _date(text: str) -> datetime | None:
    for layout in ("%a %b %d %H:%M:%S %Y", "%d/%m/%Y %H:%M:%S", "%a %d %b %Y %H:%M:%S"):
        try:
            return datetime.strptime(text, layout)
        except ValueError:
            continue
    return None  # another locale's: the text itself is in the notes
