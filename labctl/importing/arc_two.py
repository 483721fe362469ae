"""ArC TWO data stores (HDF5, "H5DS").

As ArC TWO Control describes it ("The H5 Data Store", versions 0.1 and 0.2): root attributes H5DS_VERSION_MAJOR and
_MINOR; ``/crosspoints/WxxByy/timeseries``, a table of current, voltage, pulse_width, read_voltage (float32, A, V, s, V)
and op_type (bit 0: read, bit 1: pulse), of which the first NROWS (an attribute) count; ``…/experiments`` with tables of
any columns, alone or in groups, named NAME_TIMESTAMP (ns since 1970), with the attribute crosspoints;
``/synthetics``, the same for several cells; ``/crossbar/current`` and ``voltage`` (bit lines × word lines), the last
state. Lines count from 0.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import StorageError
from labctl.importing.common import Imported, identifier, row_type
from labctl.protocol import Rows
from labctl.quantity import Q
from labctl.store import RESERVED

_CELL = re.compile(r"W(\d+)B(\d+)$")
_STAMP = re.compile(r"(.+)_(\d{16,20})$")
_VERSIONS = ((0, 1), (0, 2))
_UNITS = {"current": "A", "voltage": "V", "read_voltage": "V", "pulse_width": "s", "resistance": "Ω", "time": "s"}


class Operation(NamedTuple):
    """One entry of a crosspoint's history."""

    row: A[int, Q("", meaning="word line, from 0")]
    column: A[int, Q("", meaning="bit line, from 0")]
    i: A[float, Q("A", meaning="current")]
    v: A[float, Q("V", meaning="voltage applied")]
    width: A[float, Q("s", meaning="pulse width")]
    v_read: A[float, Q("V", meaning="voltage it was read at")]
    pulsed: A[bool, Q("", meaning="a pulse was applied")]
    read: A[bool, Q("", meaning="the current was read")]


class Raster(NamedTuple):
    """The last state of the crossbar, cell by cell."""

    row: A[int, Q("", meaning="word line, from 0")]
    column: A[int, Q("", meaning="bit line, from 0")]
    i: A[float, Q("A", meaning="current")]
    v: A[float, Q("V", meaning="voltage it was read at")]


def read(path: Path) -> Imported:
    """The whole data store; what no table can hold is named in `Imported.left_out`. Raises `StorageError`."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return _read(path, file)
    except (OSError, KeyError, ValueError) as error:
        raise StorageError(f"{path} cannot be read as an ArC TWO data store ({error})") from error


def _read(path: Path, file: Any) -> Imported:
    version = tuple(int(file.attrs.get(f"H5DS_VERSION_{part}", -1)) for part in ("MAJOR", "MINOR"))
    if version == (-1, -1) or "crosspoints" not in file:
        raise StorageError(f"{path} is HDF5, but no ArC TWO data store: it has no H5DS_VERSION and no /crosspoints")
    if version not in _VERSIONS:
        raise StorageError(f"{path} is an ArC TWO data store of version {version}; known are {_VERSIONS}")
    left_out: dict[str, str] = {}
    history: list[list[NDArray[Any]]] = []
    stamps: list[int] = []
    experiments: dict[tuple[str, Any], list[tuple[NDArray[Any], NDArray[np.int64], int]]] = {}
    for name, group in file["crosspoints"].items():
        cell = _CELL.match(name)
        if not cell:
            left_out[f"/crosspoints/{name}"] = "its name is no crosspoint (WxxByy)"
            continue
        place = np.array([[int(cell[1]), int(cell[2])]])
        if "timeseries" in group:
            history.append(_history(group["timeseries"], *place[0]))
        for item in _datasets(group.get("experiments", {})):
            _collect(item, place, experiments, stamps, left_out)
    for item in _datasets(file.get("synthetics", {})):
        _collect(item, np.empty((0, 2), np.int64), experiments, stamps, left_out)
    columns = [np.concatenate(parts) for parts in zip(*history, strict=True)] if history else [np.empty(0)] * 8
    tables = [Rows(Operation, **dict(zip(Operation._fields, map(_typed, Operation._fields, columns), strict=True)))]
    if "crossbar" in file and {"current", "voltage"} <= set(file["crossbar"]):
        current, voltage = (np.asarray(file["crossbar"][key][...], np.float64) for key in ("current", "voltage"))
        bits, words = np.indices(current.shape)
        tables.append(Rows(Raster, row=words.ravel(), column=bits.ravel(), i=current.ravel(), v=voltage.ravel()))
    taken = [*RESERVED, "operation", "raster", "bad_line"]
    for (name, _), parts in experiments.items():
        tables.append(_experiment(identifier(name, taken), parts))
        taken.append(tables[-1].row.__name__)
    return Imported(
        tables,
        created=datetime.fromtimestamp(min(stamps) / 1e9) if stamps else None,
        instrument="ArC TWO",
        notes={
            "title": _text(file.attrs.get("TITLE", "")),
            "h5ds_version": ".".join(map(str, version)),
            "words": int(file.attrs.get("words", file["crossbar"].attrs.get("words", 0) if "crossbar" in file else 0)),
            "bits": int(file.attrs.get("bits", file["crossbar"].attrs.get("bits", 0) if "crossbar" in file else 0)),
        },
        left_out=left_out,
    )


def _history(dataset: Any, row: int, column: int) -> list[NDArray[Any]]:
    data = _used(dataset)
    n = len(data)
    op = data["op_type"]
    return [
        np.full(n, row), np.full(n, column), data["current"], data["voltage"], data["pulse_width"],
        data["read_voltage"], (op & 2) != 0, (op & 1) != 0,
    ]  # fmt: skip


def _typed(name: str, values: NDArray[Any]) -> NDArray[Any]:
    kind = {"row": np.int64, "column": np.int64, "pulsed": np.bool_, "read": np.bool_}.get(name, np.float64)
    return values.astype(kind)


def _used(dataset: Any) -> NDArray[Any]:
    """The rows that count: a growing table is longer than what was written. NROWS 0 with rows: written at once."""
    used = int(dataset.attrs.get("NROWS", len(dataset)))
    data: NDArray[Any] = dataset[: used if 0 < used <= len(dataset) else None]
    return data[:0] if used == 0 and dataset.name.endswith("/timeseries") else data


def _datasets(group: Any) -> Iterator[Any]:
    for item in group.values():
        if hasattr(item, "dtype"):
            yield item
        else:
            yield from _datasets(item)


def _collect(
    dataset: Any,
    place: NDArray[np.int64],
    experiments: dict[tuple[str, Any], list[tuple[NDArray[Any], NDArray[np.int64], int]]],
    stamps: list[int],
    left_out: dict[str, str],
) -> None:
    """Put a table beside others of the same name and columns; one table of ours holds them all."""
    stamped = [_STAMP.match(part) for part in dataset.name.split("/")]
    names = [match[1] if match else part for match, part in zip(stamped, dataset.name.split("/"), strict=True)]
    stamps += [int(match[2]) for match in stamped if match]
    kinds = dataset.dtype.fields
    if dataset.ndim != 1 or kinds is None or any(kind[0].kind not in "iufb" for kind in kinds.values()):
        left_out[dataset.name] = f"{dataset.dtype} of shape {dataset.shape} is no table of numbers"
        return
    if not place.size:
        cells = np.asarray(dataset.attrs.get("crosspoints", np.empty((0, 2))), np.int64).reshape(-1, 2)
        place = cells if len(cells) == 1 else np.array([[-1, -1]])
        if len(cells) != 1:
            left_out[f"{dataset.name}@crosspoints"] = f"belongs to several cells: {cells.tolist()}"
    below = names[names.index("experiments") + 1 :] if "experiments" in names else names[2:]
    experiments.setdefault(("_".join(below), dataset.dtype), []).append((_used(dataset), place[0], len(experiments)))


def _experiment(name: str, parts: list[tuple[NDArray[Any], NDArray[np.int64], int]]) -> Rows:
    fields = parts[0][0].dtype.names or ()
    taken = ["row", "column", "experiment"]
    columns: dict[str, tuple[type, Q]] = {
        "row": (int, Q("", meaning="word line, from 0; -1: several cells")),
        "column": (int, Q("", meaning="bit line, from 0; -1: several cells")),
        "experiment": (int, Q("", meaning="which table of the source of this name, from 0")),
    }
    values: dict[str, NDArray[Any]] = {
        "row": np.concatenate([np.full(len(data), place[0]) for data, place, _ in parts]),
        "column": np.concatenate([np.full(len(data), place[1]) for data, place, _ in parts]),
        "experiment": np.concatenate([np.full(len(part[0]), k) for k, part in enumerate(parts)]),
    }
    for key in fields:
        own = identifier(key, taken)
        taken.append(own)
        data = np.concatenate([part[0][key] for part in parts])
        kind = {"f": float, "b": bool}.get(data.dtype.kind, int)
        unit = _UNITS.get(key, "")
        columns[own] = (kind, Q(unit, meaning=f"{key}, as ArC TWO names it" + ("" if unit else "; unit not stated")))
        values[own] = data.astype({float: np.float64, bool: np.bool_, int: np.int64}[kind])
    return Rows(row_type(name, f"The tables {name} of all cells.", columns), **values)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
