"""Oscilloscope captures as CSV: a time column, or a start and an increment, and a column a channel.

Layouts, told from the file itself, as the makers' user manuals and public readers describe them; none was checked
against a file from an instrument on this bench:

- Keysight InfiniiVision (User's Guide, "CSV and ASCII XY file structure"): ``x-axis,1,2`` /
  ``second,Volt,Volt`` / data;
- Tektronix TDS/TBS: settings in the first columns, time and value beside them in columns 4 and 5 from line 1 on;
- Tektronix MSO/DPO: settings, ``TIME,CH1,CH2`` / data;
- Rigol: ``X,CH1,Start,Increment`` / ``Sequence,Volt,<t0>,<dt>`` / ``0,1.2,``; or ``Time(s),CH1(V)`` / data, with or
  without ``t0 = …, tInc = …``;
- Siglent: settings, ``Second,Volt`` (or ``Source,CH1`` above it) / data;
- Rohde & Schwarz RTM/RTB: ``in s,C1 in V`` / data;
- Teledyne LeCroy: settings, ``Time,Ampl`` / data;
- Pico: ``Time,Channel A`` / ``(ms),(V)`` / data.
"""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated as A
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import StorageError
from labctl.importing.common import BadLine, Imported, identifier, number, read_text
from labctl.protocol import Rows, Trace
from labctl.quantity import Q

_SETTINGS = ("record length", "sample interval", "sample rate", "horizontal units", "x-axis", "segments")
_TIME = re.compile(r"(x-axis|x|time.*|seconds?|in s|t)$", re.IGNORECASE)
_UNITS = {"volt": "V", "volts": "V", "v": "V", "mv": "mV", "ampere": "A", "amp": "A", "a": "A", "ma": "mA", "s": "s",
          "second": "s", "seconds": "s", "ms": "ms", "us": "us", "µs": "us", "ns": "ns"}  # fmt: skip
_SCALE = {"V": ("V", 1.0), "mV": ("V", 1e-3), "A": ("A", 1.0), "mA": ("A", 1e-3), "s": ("s", 1.0), "ms": ("s", 1e-3),
          "us": ("s", 1e-6), "ns": ("s", 1e-9)}  # fmt: skip


class Channel(NamedTuple):
    """One channel of the capture; its samples are the trace of the same number."""

    channel: A[str, Q("", meaning="name in the source; the trace is called the same in lower case")]
    samples: A[int, Q("", meaning="number of samples")]
    t0: A[float, Q("s", meaning="time of the first sample; 0 is the trigger")]
    dt: A[float, Q("s", meaning="time between samples")]
    jitter: A[float, Q("s", meaning="largest distance of a written time from t0 + k·dt")]
    low: A[float, Q("", meaning="smallest sample, in the trace's unit")]
    high: A[float, Q("", meaning="largest sample, in the trace's unit")]


@dataclass
class _Layout:
    """Where what is: `time` and `values` are columns, `data` the first line of data, `unit` and `scale` a column."""

    data: int
    names: list[str]
    values: list[int]
    time: int | None
    t0: float = 0.0
    dt: float = 0.0
    units: list[str] = field(default_factory=list)
    time_scale: float = 1.0


def recognises(head: list[str]) -> bool:
    """Whether the first lines look like an oscilloscope's."""
    cells = [[cell.strip().lower() for cell in _cells(line)] for line in head if line.strip()]
    if not cells:
        return False
    if any(row[0] in _SETTINGS for row in cells) or cells[0][0].startswith("lecroy"):
        return True
    first = cells[0]
    if first[0] == "in s" or (first[0] == "x" and "ch1" in first) or "increment" in first:
        return True
    return bool(re.match(r"time ?(\(s\))?$", first[0])) and any(
        re.match(r"(ch ?\d|channel [\da-d])", c) for c in first[1:]
    )


def read(path: Path) -> Imported:
    """The channels as traces, and a table of them. Raises `StorageError` when no layout fits or time is uneven."""
    lines = read_text(path).splitlines()
    layout = _layout(path, lines)
    needed = max([*layout.values, layout.time if layout.time is not None else 0]) + 1
    samples: list[list[float]] = []
    times: list[float] = []
    places: list[int] = []
    quantum = 0.0
    bad: list[BadLine] = []
    for k, line in enumerate(lines[layout.data :], layout.data + 1):
        if not line.strip(" ,;\t\r"):
            continue
        cells = _cells(line)
        try:
            if len(cells) < needed:
                raise ValueError(f"{len(cells)} columns, at least {needed} are needed")
            samples.append([number(cells[column]) for column in layout.values])
            if layout.time is None:
                times.append(0.0)
            else:
                t = number(cells[layout.time]) * layout.time_scale
                if not np.isfinite(t):
                    raise ValueError("the time column is not a finite number")
                times.append(t)
                quantum = max(quantum, _quantum(cells[layout.time]) * layout.time_scale)
            places.append(k)
        except ValueError as error:
            if len(samples) > len(times):
                samples.pop()
            reason = str(error) if "column" in str(error) else "a sample is not a number"
            bad.append(BadLine(k, reason, line))
    if len(samples) < 2:
        raise StorageError(f"{path} holds {len(samples)} samples ({len(bad)} lines could not be read); 2 are needed")
    t0, dt, jitter = _time_base(path, layout, np.array(times), places, quantum)
    data = np.array(samples)
    names: list[str] = []
    traces: list[tuple[Trace, int]] = []
    for k, name in enumerate(layout.names):
        names.append(identifier(name, names))
        unit, scale = _SCALE.get(layout.units[k], (layout.units[k], 1.0))
        # the numbers as they are written: what the codes of the converter were, the file does not tell
        traces.append((Trace(names[-1], np.ascontiguousarray(data[:, k]), scale, 0.0, unit, t0, dt), k))
    n = len(traces)
    table = Rows(
        Channel,
        channel=np.array(layout.names, object),
        samples=np.full(n, len(data)),
        t0=np.full(n, t0),
        dt=np.full(n, dt),
        jitter=np.full(n, jitter),
        low=np.array([trace.values.min() for trace, _ in traces]),
        high=np.array([trace.values.max() for trace, _ in traces]),
    )
    settings = {str(k + 1): line for k, line in enumerate(lines[: max(layout.data, 1)]) if line.strip()}
    if layout.time == 3:  # the settings go on beside the data
        settings = {str(k + 1): ",".join(c[:3]) for k, line in enumerate(lines[:30]) if (c := _cells(line))[0].strip()}
    return Imported([table], traces, bad, instrument="oscilloscope", notes={"settings": settings})


def _cells(line: str) -> list[str]:
    delimiter = next((mark for mark in ("\t", ";") if mark in line), ",")
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [""]) or [""]


def _numbers(cells: list[str]) -> list[bool]:
    found = []
    for cell in cells:
        try:
            number(cell)
            found.append(True)
        except ValueError:
            found.append(False)
    return found


def _layout(path: Path, lines: list[str]) -> _Layout:
    rows = [_cells(line) for line in lines[:200]]
    if (
        len(rows) > 1
        and rows[0][0].strip().lower().startswith("record length")
        and _numbers(rows[0])[3:5] == [True, True]
    ):
        names = {row[0].strip().lower(): row[1].strip() for row in rows[:20] if len(row) > 1}
        unit = _UNITS.get(names.get("vertical units", "V").lower(), names.get("vertical units", "V"))
        time_unit = _UNITS.get(names.get("horizontal units", "s").lower(), "s")
        return _Layout(0, [names.get("source", "CH1")], [4], 3, units=[unit], time_scale=_SCALE[time_unit][1])
    for k, row in enumerate(rows):
        if k and sum(_numbers(row)) >= 2 and _numbers(row)[0] and not any(_numbers(rows[k - 1])[:1]):
            heads = _heads_above(rows, k)
            if heads:
                try:
                    return _columns(path, *heads, k)
                except (ValueError, IndexError) as error:
                    raise StorageError(
                        f"{path}: lines {k - 1} and {k} are no heads of a known layout ({error})"
                    ) from error
    raise StorageError(
        f"{path} has no layout of an oscilloscope's CSV that is known here; import it as a table: --as table"
    )


def _heads_above(rows: list[list[str]], data: int) -> tuple[list[str], list[str]] | None:
    """Names and units (or empty) of the columns, from the one or two lines above the data."""
    above = [[cell.strip() for cell in row] for row in rows[max(0, data - 3) : data] if any(c.strip() for c in row)]
    if not above:
        return None
    last = above[-1]
    units = [_UNITS.get(cell.strip("()[]").lower(), "") for cell in last]
    if len(above) > 1 and (last[0].lower() in ("second", "seconds", "sequence") or (units[0] and any(units[1:]))):
        names = above[-2]
        if names[0].lower() == "source":  # Siglent: which channels, above "Second,Volt"
            names = ["time", *names[1:]]
        elif not (_TIME.match(names[0]) or len(names) == len(last)):
            names = ["time"]  # a setting, not names
        return names, last
    return (last, [""] * len(last)) if _TIME.match(last[0]) else None


def _columns(path: Path, names: list[str], units: list[str], data: int) -> _Layout:
    t0 = dt = 0.0
    lowered = [name.lower() for name in names]
    time: int | None = 0
    last = len(names) if len(names) > 1 else len(units)
    if "increment" in lowered:  # Rigol: start and increment stand in the line of units
        last = lowered.index("start")
        t0, dt = number(units[lowered.index("start")]), number(units[lowered.index("increment")])
        time = None
    values, found, found_units = [], [], []
    for k in range(1, last):
        name = names[k] if k < len(names) else f"CH{k}"
        if not name or re.match(r"t(0|inc)\s*=", name, re.IGNORECASE):
            continue
        inner = re.match(r"(.*?)\s*[\[(](.*?)[\])]$|(.*?) in (\w+)$", name)
        unit = units[k].strip("()[]") if k < len(units) else ""
        if inner:
            name, unit = inner[1] or inner[3] or name, inner[2] or inner[4] or ""
        elif re.match(r"CH\d+V$", name):
            name, unit = name[:-1], "V"
        if name.isdigit():
            name = f"CH{name}"
        values.append(k)
        found.append("CH1" if name.lower() in ("volt", "ampl", "voltage") else name)
        found_units.append(_UNITS.get(unit.lower(), unit or "V"))
    if not values:
        raise StorageError(f"{path}: line {data} names no channel; import it as a table: --as table")
    time_unit = re.search(r"[\[(](\w+)[\])]", names[0]) or re.search(r"[\[(]?(\w+)", units[0] if units else "")
    scale = _SCALE.get(_UNITS.get(time_unit[1].lower(), "s") if time_unit else "s", ("s", 1.0))[1]
    return _Layout(data, found, values, time, t0, dt, found_units, scale)


def _time_base(
    path: Path, layout: _Layout, times: NDArray[np.float64], places: list[int], quantum: float
) -> tuple[float, float, float]:
    if layout.time is None:
        if not (layout.dt > 0 and np.isfinite(layout.t0)):
            raise StorageError(f"{path}: start {layout.t0:g} s and increment {layout.dt:g} s make no time base")
        return layout.t0, layout.dt, 0.0
    n = len(times)
    dt, t0 = float((times[-1] - times[0]) / (n - 1)), float(times[0])
    if quantum > 1e-3 * dt > 0:  # written with few digits: the ends alone would stretch the scale
        dt, t0 = (float(value) for value in np.polyfit(np.arange(n), times, 1))
    distance = np.abs(times - (t0 + dt * np.arange(n)))
    # what writing rounds away, and a little for the clock; a gap or a second segment is more
    if not dt > 0 or distance.max() > quantum + 0.01 * dt:
        k = int(np.argmax(distance)) if dt > 0 else 0
        raise StorageError(
            f"{path}: the samples are not evenly spaced (line {places[k]}: {times[k]:g} s, expected"
            f" {t0 + dt * k:g} s); import it as a table: --as table"
        )
    return t0, dt, float(distance.max())


def _quantum(text: str) -> float:
    """The last digit's worth of a number as it is written: 1e-4 for 0.0012 and for 1.2e-3."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    return float(f"1e{int(exponent or 0) - len(mantissa.partition('.')[2])}")
