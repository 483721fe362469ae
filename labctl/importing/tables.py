"""Tables of numbers as text: CSV, TSV, semicolons or white space; mostly I–V curves.

Columns are named by a mapping, ``v=Voltage:mV`` or ``i=-3:uA`` (a minus turns the sign, a number counts columns from
1, the unit is the file's), else by what their heads say. Every other column is kept under its own name. A head with a
unit in brackets, ``I (uA)`` or ``v [V]``, is converted to SI.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import StorageError, UsageError
from labctl.importing.common import BadLine, Imported, identifier, monotonic, number, read_text, row_type
from labctl.protocol import Rows
from labctl.quantity import Q

WANTED = {
    "v": ("V", "voltage", r"(v|volt\w*|bias\w*|av|u|vd|vds|v_?(cell|meas\w*|force\w*|source))"),
    "i": ("A", "current", r"(i|curr\w*|ai|id|ids|i_?(cell|meas\w*|sense\w*))"),
    "t": ("s", "time", r"(t|time\w*|sec\w*|timestamp\w*)"),
    "cell": ("", "which cell, as the file names it", r"(cell|device|dut)(_?(id|no|number|name))?"),
    "cycle": ("", "which loop", r"(cycle|loop|sweep|repeat\w*)(_?(id|no|number))?"),
}
"""Columns that analysis asks for: unit, meaning, and heads that are taken for them without a mapping."""

_SI = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6}
_BASE = {"V": "V", "A": "A", "s": "s", "Ω": "Ω", "Ohm": "Ω", "ohm": "Ω", "S": "S", "Hz": "Hz", "W": "W", "C": "C"}
_HEAD = re.compile(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]\s*$")
_SPEC = re.compile(r"(-?)(.+?)(?::([^:]+))?$")
_COMMENT = ("#", "%", "!", "//", ";;")


@dataclass
class _Column:
    """One column of the file: name, where, factor to SI, unit, what it means."""

    name: str
    index: int
    factor: float
    unit: str
    meaning: str


def read(path: Path, columns: Mapping[str, str] | Sequence[str] = (), decimal: str = "auto") -> Imported:
    """The table; lines that do not fit are in `Imported.bad`.

    columns: name → ``[-]COLUMN[:UNIT]``, or the same as texts ``name=…``. decimal: "." or ",".
    Empty cells are NaN. Blank lines between blocks of data count the cycles where no column does.
    Raises `StorageError` when the file holds no table and `UsageError` when the mapping does not fit it.
    """
    if decimal not in ("auto", ".", ","):
        raise UsageError(f"decimal = {decimal!r}; give . or ,")
    wanted = columns if isinstance(columns, Mapping) else dict(map(_pair, columns))
    lines = read_text(path).splitlines()
    start, split, decimal = _layout(path, lines, decimal)
    width = len(split(lines[start]))
    heads, head_line = _heads(lines, start, split, width)
    chosen = _choose(path, heads, width, wanted)
    cells: list[list[str]] = []
    numbers: list[int] = []
    cycles: list[int] = []
    bad: list[BadLine] = []
    comments: dict[str, str] = {str(k + 1): lines[k] for k in range(start) if k != head_line and lines[k].strip()}
    blocks, gap = 0, False
    for k, line in enumerate(lines[start:], start + 1):
        if not line.strip():
            gap = bool(cells)
        elif line.lstrip().startswith(_COMMENT):
            comments[str(k)] = line
        else:
            found = split(line)
            if len(found) != width:
                bad.append(BadLine(k, f"{len(found)} columns, not {width}", line))
                continue
            blocks, gap = blocks + gap, False
            cells.append(found)
            numbers.append(k)
            cycles.append(blocks)
    values, kinds, wrong = _values(chosen, cells, decimal)
    keep = np.ones(len(cells), bool)
    for row, reason in wrong.items():
        keep[row] = False
        bad.append(BadLine(numbers[row], reason, lines[numbers[row] - 1]))
    declared = {c.name: (kind, Q(c.unit, meaning=c.meaning)) for c, kind in zip(chosen, kinds, strict=True)}
    data = {column.name: array[keep] for column, array in zip(chosen, values, strict=True)}
    if "cycle" not in declared and blocks and "v" in declared:
        declared["cycle"] = (int, Q("", meaning="block of the file, from 0; blocks are parted by blank lines"))
        data["cycle"] = np.array(cycles)[keep]
    if not keep.any():
        raise StorageError(f"{path} holds no line of numbers ({len(bad)} lines could not be read); nothing to import")
    mapping = {c.name: f"column {c.index + 1}" + (f" ({heads[c.index]})" if heads else "") for c in chosen}
    missing = int(sum(np.isnan(array).sum() for array in data.values() if array.dtype.kind == "f"))
    return Imported(
        [Rows(row_type("Point", f"The lines of {path.name}.", declared), **data)],
        bad=sorted(bad),
        t=monotonic(data["t"]) if "t" in data and data["t"].dtype.kind == "f" else None,
        notes={"columns": mapping, "comments": comments, "decimal": decimal, "empty_cells": missing},
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals or not name.isidentifier() or not column:
        raise UsageError(f"{text!r} maps no column; write NAME=COLUMN, NAME=COLUMN:UNIT or NAME=-COLUMN:UNIT")
    return name, column


def _layout(path: Path, lines: list[str], decimal: str) -> tuple[int, Any, str]:
    """Where the numbers begin, how a line is split, and the decimal mark."""
    content = [
        (k, line) for k, line in enumerate(lines[:200]) if line.strip() and not line.lstrip().startswith(_COMMENT)
    ]
    best: tuple[tuple[float, int], int, Any, str] | None = None
    for mark in (".", ",") if decimal == "auto" else (decimal,):
        for delimiter in (",", "\t", ";", None):
            if delimiter == mark:
                continue
            split = _splitter(delimiter)
            lots: dict[int, list[tuple[float, int]]] = {}  # number of columns → (part that is numbers, place)
            for place, (_, line) in enumerate(content):
                cells = split(line)
                if (part := _numeric(cells, mark)) >= 0.5:
                    lots.setdefault(len(cells), []).append((part, place))
            for width, lot in lots.items():
                score = (sum(part for part, _ in lot), width)
                if best is None or score > best[0]:
                    place = max(lot, key=lambda item: item[0])[1]  # the first of the best
                    best = (score, place, split, mark)
    if best is None:
        raise StorageError(f"{path} holds no line of numbers within its first 200 lines; it is no table")
    (_, width), place, split, mark = best
    # the best line need not be the first: one before it may have an empty cell
    while place and len(cells := split(content[place - 1][1])) == width and _numeric(cells, mark) >= 0.5:
        place -= 1
    return content[place][0], split, mark


def _numeric(cells: list[str], mark: str) -> float:
    """Which part of the cells that are not empty are numbers."""
    return sum(_is_number(cell, mark) for cell in cells) / max(1, sum(bool(cell.strip()) for cell in cells))


def _splitter(delimiter: str | None) -> Any:
    if delimiter is None:
        return str.split
    return lambda line: next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))


def _is_number(cell: str, decimal: str) -> bool:
    try:
        number(cell, decimal)
    except ValueError:
        return False
    return True


def _heads(lines: list[str], start: int, split: Any, width: int) -> tuple[list[str], int]:
    """The last line before the numbers that has as many columns, and its index; none: ([], -1)."""
    for k in range(start - 1, -1, -1):
        text = lines[k].lstrip()
        for mark in _COMMENT:
            text = text.removeprefix(mark)
        if text.strip():
            text = text.strip()
            ways = [split(text)]
            if split is str.split:  # names may hold blanks: "Voltage (V)  Current (uA)"
                ways += [re.sub(r"\s+(?=[\[(])", "", text).split(), re.split(r"\s{2,}|\t", text)]
            found = next(([cell.strip() for cell in way] for way in ways if len(way) == width), None)
            if found is None:
                return [], -1
            above = [cell.strip() for cell in split(lines[k - 1])] if k and lines[k - 1].strip() else []
            if len(above) == width and all(cell and _known_unit(cell) for cell in found):  # names, then units
                return [f"{name} ({unit})" for name, unit in zip(above, found, strict=True)], k
            return found, k
    return [], -1


def _choose(path: Path, heads: list[str], width: int, wanted: Mapping[str, str]) -> list[_Column]:
    chosen: list[_Column] = []
    used: dict[int, str] = {}
    bare = [_HEAD.match(head)[1].strip() if _HEAD.match(head) else head for head in heads]  # type: ignore[index]
    for name, spec in wanted.items():
        match = _SPEC.match(spec)
        assert match
        minus, column, unit = match.groups()
        places = [k for k, head in enumerate(heads) if column in (head, bare[k])]
        if not places and column.isdigit() and 1 <= int(column) <= width:
            places = [int(column) - 1]
        if len(places) != 1:
            have = ", ".join(heads) or f"{width} columns without names, 1 … {width}"
            raise UsageError(f"{path.name}: {len(places) or 'no'} columns are called {column!r}; it has {have}")
        if places[0] in used:
            raise UsageError(f"{path.name}: column {column} is mapped to both {used[places[0]]} and {name}")
        used[places[0]] = name
        factor, si = _unit(unit, name) if unit else _head_unit(heads[places[0]] if heads else "")
        standard, meaning, _ = WANTED.get(name, ("", column, ""))
        if unit and standard and si != standard:
            raise UsageError(f"{name} = {spec!r}: {name} is measured in {standard}, {unit!r} is none of it")
        sign = " with its sign turned" if minus else ""
        chosen.append(_Column(name, places[0], -factor if minus else factor, si or standard, f"{meaning}{sign}"))
    if not wanted:
        for name, (unit, meaning, pattern) in WANTED.items():
            places = [k for k, head in enumerate(bare) if re.fullmatch(pattern, head.strip(), re.IGNORECASE)]
            if len(places) == 1 and places[0] not in used:
                factor, si = _head_unit(heads[places[0]])
                used[places[0]] = name
                chosen.append(_Column(name, places[0], factor, si or unit, meaning))
    taken = [column.name for column in chosen]
    for k in range(width):
        if k not in used:
            factor, si = _head_unit(heads[k]) if heads else (1.0, "")
            name = identifier(bare[k] if heads else f"column_{k + 1}", [*taken, *WANTED])
            taken.append(name)
            chosen.append(_Column(name, k, factor, si, heads[k] if heads else f"column {k + 1} of the file"))
    return chosen


def _unit(text: str, name: str) -> tuple[float, str]:
    """Factor to SI, and the SI unit; raises `UsageError` for a unit that is not known."""
    for base, si in _BASE.items():
        if text.endswith(base) and text[: -len(base)] in _SI:
            return _SI[text[: -len(base)]], si
    raise UsageError(f"{name}: {text!r} is no unit known here; write for instance V, mV, uA, ms or kOhm")


def _known_unit(text: str) -> bool:
    try:
        _unit(text.strip("()[]"), "")
    except UsageError:
        return False
    return True


def _head_unit(head: str) -> tuple[float, str]:
    match = _HEAD.match(head)
    if match and match[2]:
        try:
            return _unit(match[2], head)
        except UsageError:
            return 1.0, match[2]  # kept as it is written: dBm, a.u.
    return 1.0, ""


def _values(
    chosen: list[_Column], cells: list[list[str]], decimal: str
) -> tuple[list[NDArray[Any]], list[type], dict[int, str]]:
    """Columns as arrays with their kinds, and the rows that do not fit with the reason."""
    arrays: list[NDArray[Any]] = []
    kinds: list[type] = []
    wrong: dict[int, str] = {}
    for column in chosen:
        texts = [row[column.index].strip() for row in cells]
        numeric = np.full(len(texts), np.nan)
        failed = []
        for k, text in enumerate(texts):
            if text:
                try:
                    numeric[k] = number(text, decimal)
                except ValueError:
                    failed.append(k)
        if len(failed) * 2 > sum(map(bool, texts)) and column.name not in ("v", "i", "t"):
            array = np.empty(len(texts), object)
            array[:] = texts
            arrays.append(array)
            kinds.append(str)
            continue
        for k in failed:
            wrong.setdefault(k, f"{column.name} {texts[k]!r} is not a number")
        whole = column.name in ("cell", "cycle") and column.factor == 1 and not failed
        if whole and np.isfinite(numeric).all() and (numeric == np.floor(numeric)).all() and len(numeric):
            arrays.append(numeric.astype(np.int64))
            kinds.append(int)
        else:
            arrays.append(numeric * column.factor if column.factor != 1 else numeric)
            kinds.append(float)
    return arrays, kinds, wrong
