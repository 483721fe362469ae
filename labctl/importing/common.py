"""What all importers share: reading text whatever its encoding, tables made at run time, and writing the run."""

import gzip
import keyword
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl import __version__
from labctl.errors import StorageError
from labctl.protocol import Rows, Table, Trace
from labctl.quantity import Q

if TYPE_CHECKING:
    from labctl.reader import Run


class BadLine(NamedTuple):
    """A line of the source that could not be imported, word by word."""

    line: Annotated[int, Q("", meaning="line of the source file, from 1")]
    reason: Annotated[str, Q("", meaning="why it could not be read")]
    text: Annotated[str, Q("", meaning="the line itself")]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason} ({self.text[:60]!r})"


@dataclass
class Imported:
    """A source in memory: tables (the main one first), traces with the main row they belong to, what else it says.

    t: when each main row was recorded, in s since the start, where the source says so. notes: everything else found in
    the source, as text; it goes into the header. left_out: parts of the source that no table can hold, by name.
    """

    tables: list[Rows]
    traces: list[tuple[Trace, int]] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    t: NDArray[np.float64] | None = None
    created: datetime | None = None
    instrument: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def read_text(path: Path) -> str:
    """The text of a file, gzip'ed or not, in UTF-8, UTF-16 (with mark) or Latin-1; raises `StorageError`."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise StorageError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise StorageError(f"{path} is no text file; labctl import reads text tables and ArC TWO's HDF5")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def is_hdf5(path: Path) -> bool:
    """Whether the file begins as HDF5 does; raises `StorageError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror or error})") from error


def number(text: str, decimal: str = ".") -> float:
    """A number as instruments write it; raises `ValueError`. NaN and infinity only where they are written out."""
    text = text.strip().strip('"')
    if "_" in text or (decimal == "," and "." in text):  # float() would take 1_000; 1.000 may be a thousand
        raise ValueError(text)
    if decimal == ",":
        text = text.replace(",", ".")
    return float(text)


def identifier(text: str, taken: Sequence[str] = ()) -> str:
    """A column name that Python and HDF5 take, and that is not in `taken`."""
    name = re.sub(r"\W+", "_", text.strip(), flags=re.ASCII).strip("_").lower() or "column"
    if name[0].isdigit() or keyword.iskeyword(name) or name == "elapsed":
        name = f"c_{name}"
    free, k = name, 1
    while free in taken:
        k += 1
        free = f"{name}_{k}"
    return free


def row_type(name: str, doc: str, columns: Mapping[str, tuple[type, Q]]) -> type:
    """A row type with the given columns, made at run time; `Table` of it is called `name` in lower case."""
    row = NamedTuple(name, [(key, Annotated[kind, q]) for key, (kind, q) in columns.items()])  # type: ignore[misc]
    row.__doc__ = doc
    return row


def write(imported: Imported, source: Path, format: str, target: Path, comment: str, tags: Sequence[str]) -> "Run":
    """Write an imported source as a finished run; raises `StorageError`."""
    from labctl.reader import load
    from labctl.store import Store

    with source.open("rb") as file:
        digest, size = file_digest(file, "sha256").hexdigest(), file.tell()
    created = imported.created or datetime.fromtimestamp(source.stat().st_mtime)
    header = {
        "protocol": f"import_{format}",
        "protocol_doc": f"Imported from {source.name}.",
        "params": imported.params,
        "param_units": {name: imported.units.get(name, "") for name in imported.params},
        "param_meanings": {},
        "seed": None,
        "session": None,
        "station": {"name": imported.instrument or format, "text": ""},
        "comment": comment,
        "tags": list(tags),
        "created": created.astimezone().isoformat(timespec="milliseconds"),
        "created_from": "the file's content" if imported.created else "the file's time of modification",
        "versions": {"labctl": __version__, "numpy": np.__version__},
        "source": {
            "name": source.name, "bytes": size, "sha256": digest, "format": format,
            "notes": imported.notes, "left_out": imported.left_out, "bad_lines": len(imported.bad),
        },
    }  # fmt: skip
    blocks = list(imported.tables)
    if imported.bad:
        columns = zip(*imported.bad, strict=True)
        blocks.append(Rows(BadLine, **dict(zip(BadLine._fields, map(_objects, columns), strict=True))))
    store = Store(target, header, [Table(block.row) for block in blocks])
    try:
        for index, block in enumerate(blocks):
            known = index == 0 and imported.t is not None
            store.rows(index, block, imported.t if known else 0.0)  # type: ignore[arg-type]
        for trace, row in imported.traces:
            store.trace(trace, row, 0.0)
        for what, why in imported.left_out.items():
            store.event("left out", {"what": what, "why": why}, 0.0)
        store.finish("done", {"status": "done", "imported": source.name}, None)
    except BaseException:
        store.file.close()
        for half in (target, Path(f"{target}.part")):  # half an import is none
            half.unlink(missing_ok=True)
        raise
    return load(target)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    if isinstance(values[0], int):
        return np.array(values, np.int64)
    array = np.empty(len(values), object)
    array[:] = [str(value).replace("\0", "␀") for value in values]
    return array


def monotonic(t: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """`t` from 0 when it can be a recording's time (finite, never running back), else None."""
    if len(t) and np.isfinite(t).all() and (np.diff(t) >= 0).all() and math.isfinite(t[-1] - t[0]):
        return np.asarray(t - t[0], np.float64)
    return None
