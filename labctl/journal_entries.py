"""What a journal holds, read: rows in blocks, waveforms, transactions, events; and what it lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.protocol import Trace
from labctl.transport.tape import Transaction


class Block(NamedTuple):
    """Rows of one table: their numbers (n,), times (n,) in s, and the columns, in the table's order."""

    table: int
    numbers: NDArray[np.int64]
    t: NDArray[np.float64]
    columns: dict[str, NDArray[Any]]


class TraceEntry(NamedTuple):
    """A waveform, the number of the main row it belongs to, and the CRC-32 of its codes."""

    t: float
    row: int
    trace: Trace
    crc: int


class PackedRows(NamedTuple):
    """Rows of one table, one after the other as `schema.RowPacker` packs them, and the texts of each."""

    table: int
    packed: bytes
    texts: list[tuple[str, ...]]


class Piece(NamedTuple):
    """A stretch of samples in the HDF5 file, in bytes."""

    offset: int
    size: int


class TransactionEntry(NamedTuple):
    """One exchange; rows_before: main rows recorded before it, lost ones included."""

    t: float
    rows_before: int
    transaction: Transaction


class EventEntry(NamedTuple):
    """Something that happened; rows_before as in `TransactionEntry`."""

    t: float
    rows_before: int
    name: str
    data: dict[str, Any]


Entry = Block | TraceEntry | TransactionEntry | EventEntry


@dataclass
class Loss:
    """A stretch of the journal that proves nothing.

    offset, size: in bytes. records: how many are missing, None at the end, where nobody can know.
    """

    offset: int
    size: int
    records: int | None

    def __str__(self) -> str:
        where = f"journal, bytes {self.offset} to {self.offset + self.size - 1}"
        if self.records is None:
            return f"{where}: the last ones, a record that was cut off or damaged"
        what = f"{self.records} record" + ("s" if self.records > 1 else "") if self.records else "nothing"
        return f"{where}: damaged, {what} lost"


Spans = dict[str, list[tuple[int, int]]]
"""By table, missing row numbers as (first, last)."""


def describe_losses(losses: list[Loss], rows: Spans, traces: Sequence[str] = ()) -> list[str]:
    """One line a stretch of damage, then one a table that misses rows, then `traces`; empty when nothing is lost."""
    lines = [str(loss) for loss in losses]
    for name, spans in rows.items():
        shown = [f"{first}" if first == last else f"{first} to {last}" for first, last in spans]
        lines.append(f"table {name}, lost rows: " + ", ".join(shown))
    return [*lines, *traces]


@dataclass
class Remains:
    """Everything of a journal but its rows and samples; what a finished file carries on.

    started: ISO time of the start. last_t: time of the last record, s. sums: by trace name, the CRC-32 of each.
    """

    started: str
    last_t: float = 0.0
    transactions: list[TransactionEntry] = field(default_factory=list)
    events: list[EventEntry] = field(default_factory=list)
    sums: dict[str, list[int]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take what is to be carried on."""
        if isinstance(entry, TransactionEntry):
            self.transactions.append(entry)
        elif isinstance(entry, EventEntry):
            self.events.append(entry)
        elif isinstance(entry, TraceEntry):
            self.sums.setdefault(entry.trace.name, []).append(entry.crc)
