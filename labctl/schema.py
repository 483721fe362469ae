"""Tables as JSON and their columns as arrays: what the journal, the HDF5 file and the reader agree on."""

import math
import struct
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import MeasurementError
from labctl.protocol import Column, Rows, Table, Trace
from labctl.quantity import Q

DTYPES: dict[type, np.dtype[Any]] = {
    float: np.dtype("<f8"),
    int: np.dtype("<i8"),
    bool: np.dtype("?"),
    str: np.dtype("O"),
}
_CODES = {float: "d", int: "q", bool: "?"}
TEXT_LENGTH = struct.Struct("<I")
_KINDS = {"float": float, "int": int, "bool": bool, "str": str}
_ACCEPTED = {float: "fiu", int: "iu", bool: "b"}


def to_json(table: Table) -> dict[str, Any]:
    """The declaration of a table; `from_json` is its inverse."""
    return {
        "name": table.name,
        "row": table.row.__name__,
        "doc": table.doc,
        "columns": [
            {
                "name": column.name,
                "kind": column.kind.__name__,
                "unit": column.q.unit,
                "low": column.q.low if math.isfinite(column.q.low) else None,
                "high": column.q.high if math.isfinite(column.q.high) else None,
                "meaning": column.q.meaning,
            }
            for column in table.columns
        ],
    }


def from_json(described: dict[str, Any]) -> Table:
    """A table of the same name, columns and quantities, with a row type of its own."""
    fields: list[tuple[str, Any]] = []
    for column in described["columns"]:
        low = -math.inf if column["low"] is None else column["low"]
        high = math.inf if column["high"] is None else column["high"]
        q = Q(column["unit"], low, high, column["meaning"])
        kind = _KINDS[column["kind"]]
        fields.append((column["name"], Annotated[kind, q]))
    row = NamedTuple(described["row"], fields)  # type: ignore[misc]
    row.__doc__ = described["doc"]
    return Table(row)


def arrays(table: Table, block: Rows) -> list[NDArray[Any]]:
    """The columns of a block in their declared dtypes, contiguous; raises `MeasurementError` where one does not fit."""
    return [column_array(table, column, block.columns[column.name]) for column in table.columns]


def column_array(table: Table, column: Column, values: NDArray[Any]) -> NDArray[Any]:
    """One column in its declared dtype: float64, int64, bool, or object for str."""
    if column.kind is str:
        for value in values.tolist():
            check_text(table, column, value)
        return values.astype(object)
    if values.dtype.kind not in _ACCEPTED[column.kind] or (values.dtype == np.uint64 and column.kind is int):
        fits = column.kind is int and values.dtype == np.uint64 and not (values > np.iinfo(np.int64).max).any()
        if not fits:
            raise MeasurementError(
                f"table {table.name}: column {column.name} holds {column.kind.__name__} values, not {values.dtype};"
                " convert the block, or change the declaration"
            )
    return np.ascontiguousarray(values, DTYPES[column.kind])


def check_text(table: Table, column: Column, value: object) -> bytes:
    """A text cell as UTF-8; raises `MeasurementError` for what an HDF5 string cannot hold."""
    if isinstance(value, str) and "\0" not in value:
        try:
            return value.encode()
        except UnicodeEncodeError:
            pass
    raise MeasurementError(
        f"table {table.name}: {column.name} = {value!r} is not text; give a str without NUL and without lone surrogates"
    )


class RowPacker:
    """How a row lies in the journal: its time in s, then the columns that are no text, little-endian; see `dtype`."""

    def __init__(self, table: Table) -> None:
        self.table = table
        fixed = [column for column in table.columns if column.kind is not str]
        self.struct = struct.Struct("<d" + "".join(_CODES[column.kind] for column in fixed))
        self.dtype = np.dtype([("t", "<f8"), *(("c_" + column.name, DTYPES[column.kind]) for column in fixed)])
        self.texts = [k for k, column in enumerate(table.columns) if column.kind is str]

    def pack(self, t: float, row: tuple[Any, ...]) -> bytes:
        """One row without its texts; raises `MeasurementError` for what its table cannot hold."""
        values = [value for k, value in enumerate(row) if k not in self.texts] if self.texts else row
        try:
            return self.struct.pack(t, *values)
        except (struct.error, TypeError, OverflowError) as error:
            raise self.misfit(row) from error

    def pack_texts(self, row: tuple[Any, ...]) -> bytes:
        """The texts of a row: all lengths, then the texts themselves, as UTF-8."""
        cells = [check_text(self.table, self.table.columns[k], row[k]) for k in self.texts if k < len(row)]
        return b"".join(TEXT_LENGTH.pack(len(cell)) for cell in cells) + b"".join(cells)

    def columns(
        self, packed: bytes | bytearray, texts: list[tuple[str, ...]]
    ) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
        """The columns of many packed rows, one after the other, in the table's order, and their times.

        texts: those of each row.
        """
        records = np.frombuffer(packed, self.dtype)
        of_text = iter(zip(*texts, strict=True))
        columns = [
            np.array(next(of_text), object) if column.kind is str else records["c_" + column.name].copy()
            for column in self.table.columns
        ]
        return columns, records["t"].copy()

    def misfit(self, row: tuple[Any, ...]) -> MeasurementError:
        """Why the row cannot be packed."""
        name, columns = self.table.name, self.table.columns
        for column, value in zip(columns, row, strict=False):
            if column.kind is not str:
                try:
                    struct.pack("<" + _CODES[column.kind], value)
                except (struct.error, TypeError, OverflowError):
                    return MeasurementError(
                        f"table {name}: {column.name} = {value!r} is not a 64-bit {column.kind.__name__};"
                        " yield what the row declares"
                    )
        return MeasurementError(f"table {name} has {len(columns)} columns, the row has {len(row)} values")


class TraceCheck:
    """Whether waveforms can be recorded; the journal and the file each ask one, so that both take the same ones."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, np.dtype[Any]]] = {}

    def codes(self, trace: Trace) -> NDArray[Any]:
        """The codes as a contiguous little-endian array.

        Raises `MeasurementError` for what cannot be recorded: not one row of numbers, a name that cannot name a group,
        another unit than before, or a dtype that has no common one with those before.
        """
        codes = np.asarray(trace.codes)
        if codes.ndim != 1 or codes.dtype.kind not in "iuf" or codes.dtype.itemsize > 8:
            raise MeasurementError(
                f"trace {trace.name}: codes are {codes.dtype} of shape {codes.shape}; give one row of numbers"
            )
        if not trace.name or set(trace.name) & set("/\0") or trace.name in (".", "..") or "\0" in trace.unit:
            raise MeasurementError(f"trace {trace.name!r} in {trace.unit!r} cannot be named so; use letters, digits, _")
        unit, dtype = self._seen.get(trace.name, (trace.unit, codes.dtype))
        common = np.result_type(dtype, codes.dtype)
        lossy = common.kind == "f" and any(d.kind in "iu" and d.itemsize > 4 for d in (dtype, codes.dtype))
        if trace.unit != unit or lossy:
            raise MeasurementError(
                f"trace {trace.name} was {dtype} in {unit!r} before, now it is {codes.dtype} in {trace.unit!r};"
                " give it another name"
            )
        self._seen[trace.name] = (unit, common)
        return np.ascontiguousarray(codes, codes.dtype.newbyteorder("<"))


def is_constant(array: NDArray[Any]) -> bool:
    """Whether nobody can write into the array, nor into what it is a view of."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes)
