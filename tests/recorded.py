"""A small run with every kind of row, for the tests of the recording.

The kept files in `tests/data` hold exactly this: change nothing here without making new ones.
"""

from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import numpy as np

from labctl.journal import Journal
from labctl.protocol import Rows, Table, Trace
from labctl.quantity import Q
from labctl.store import Store


class Point(NamedTuple):
    """One point."""

    v: A[float, Q("V", -3, 3, "voltage")]
    i: A[float, Q("A", meaning="current")]
    n: A[int, Q("", meaning="how many")]
    ok: A[bool, Q("", meaning="valid")]


class Note(NamedTuple):
    """One note."""

    cell: A[str, Q("", meaning="which cell")]
    r: A[float, Q("Ω", 0, meaning="resistance")]
    text: A[str, Q("", meaning="what was seen")]


TABLES = (Table(Point), Table(Note))
HEADER: dict[str, Any] = {
    "protocol": "small_run",
    "params": {"v": [0.5, 1.0], "cycles": 3, "name": "Zürich", "fast": True, "modes": ["a", "b"]},
    "param_units": {"v": "V", "cycles": "", "name": "", "fast": "", "modes": ""},
    "param_meanings": {"v": "voltages", "cycles": "how often"},
    "seed": 7,
    "versions": {"labctl": "0.1.0", "numpy": "2.4.6"},
    "comment": "a small run",
    "tags": ["test", "small"],
    "created": "2026-03-01T12:00:00.000+01:00",
    "operator": "somebody",
}
POINTS = [Point(0.1 * k, 1e-9 * k * k, k - 3, k % 3 == 0) for k in range(5)]
NOTES = [Note("(0, 1)", 1e4, "gut: 10 kΩ ✓"), Note("", float("inf"), ""), Note("x" * 50, float("nan"), "zwei\nZeilen")]
BLOCK = Rows(Point, v=np.linspace(-1, 1, 4), i=2e-6, n=np.arange(4, dtype=np.uint8), ok=np.array([True, False] * 2))
TEXTS = Rows(Note, cell=np.array(["a", "bé"]), r=np.array([1, 2]), text="same")
TRACES = [
    Trace("v_mem", np.array([-5, 0, 7], np.int16), 1e-3, 0.25, "V", -1e-6, 5e-7),
    Trace("v_mem", np.array([1, 2, 3, 4], np.int16), 1e-3, 0.25, "V", -1e-6, 5e-7),
    Trace("i_out", np.array([0.5, np.nan], np.float32), 1.0, 0.0, "A", 0.0, 1e-3),
]


class Recording:
    """Journal and store side by side, as the runner uses them."""

    def __init__(self, path: Path, header: dict[str, Any] = HEADER) -> None:
        self.path = path
        self.journal = Journal(f"{path}.journal", header, TABLES)
        self.store = Store(path, header, TABLES)
        self.store.follow(self.journal)
        self.main = 0

    def row(self, table: int, row: tuple[Any, ...]) -> None:
        self.journal.row(table, row)
        self.store.take()
        self.main += table == 0

    def rows(self, table: int, block: Rows) -> None:
        self.store.rows(table, block, self.journal.rows(table, block))
        self.main += len(block) if table == 0 else 0

    def trace(self, trace: Trace) -> None:
        pieces = self.store.place(trace)
        self.store.trace(trace, self.main - 1, self.journal.trace(trace, self.main - 1, pieces), pieces)

    def finish(self, status: str = "done") -> Path:
        """End the run, as the runner does: with its journal still there."""
        self.journal.event("end", status=status, checks=2)
        self.journal.close()
        self.store.finish(status, {"status": status, "checks": 2}, self.journal.path)
        return self.path


def fill(recording: Recording) -> Recording:
    """Something of everything."""
    recording.journal.event("identities", board="board 7", scope="SCOPE,1,2")
    recording.trace(TRACES[2])  # before the first row
    for k, point in enumerate(POINTS):
        recording.journal.transaction("board", b"ask %d" % k, bytes(range(k)))
        recording.row(0, point)
        if k < 2:
            recording.trace(TRACES[k])
            recording.row(1, NOTES[k])
    recording.rows(0, BLOCK)
    recording.rows(1, TEXTS)
    recording.row(1, NOTES[2])
    recording.journal.transaction("scope", b"*IDN?\n", b"SCOPE\n")
    recording.row(0, POINTS[0])
    return recording


def bits(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns as bytes, so that NaN equals NaN and −0 differs from 0; text as it is."""
    return {
        name: values.tolist() if values.dtype == object else (values.dtype.str, values.tobytes())
        for name, values in columns.items()
    }
