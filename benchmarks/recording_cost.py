"""What a recorded point costs in the runner, the journal and the store together, beside a raw append, in one run.

    python benchmarks/recording_cost.py

CPU time of the whole process, threads included, so that the journal's syncing thread counts. Peers that are installed
(h5py row by row always; PyMeasure and QCoDeS where they are) are measured in the same run.
"""

import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated as A
from typing import NamedTuple

import h5py
import numpy as np

from labctl.abort import AbortSignal
from labctl.protocol import Rows, protocol
from labctl.quantity import Q
from labctl.runner import run
from labctl.station import Station, load_station
from labctl.transport.tape import Recorder

POINTS, BLOCK_ROWS = 10_000, 4_000_000


class Scalars(NamedTuple):
    """Three scalars."""

    a: A[float, Q("V", meaning="a")]
    b: A[float, Q("A", meaning="b")]
    c: A[float, Q("s", meaning="c")]


@protocol
def instant(bench: object, n: A[int, Q("", 1, 10**9, "points")] = POINTS) -> Iterator[Scalars]:
    """An instrument that answers at once."""
    for k in range(n):
        yield Scalars(k * 1.0, k * 2.0, k * 3.0)


@protocol
def instant_blocks(bench: object, n: A[int, Q("", 1, 10**9, "points")] = BLOCK_ROWS) -> Iterator[Rows | Scalars]:
    """The same in blocks of 100,000 rows."""
    for start in range(0, n, 100_000):
        a = np.arange(start, min(start + 100_000, n), dtype=float)
        yield Rows(Scalars, a=a, b=a * 2, c=a * 3)


class NoBench:
    """A bench without instruments."""

    station: Station = load_station("sim")
    seed = 0

    def begin(self, recorder: Recorder | None, session: int, abort: AbortSignal, folder: Path | None) -> dict[str, str]:
        return {}

    def resume(self, finished: Sequence[tuple[int, int]], begun: object) -> None:
        """There are no cells."""

    def end(self) -> None:
        """Nothing to stop."""


def cost(work: Callable[[], object]) -> float:
    """CPU seconds of `work`, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        number = 0

        def new(suffix: str) -> Path:
            nonlocal number
            number += 1
            return Path(folder) / f"{number}{suffix}"

        def raw_append() -> None:
            file = os.open(new(".bin"), os.O_WRONLY | os.O_CREAT)
            for row in instant(None):
                os.write(file, struct.pack("<3d", *row))
            os.close(file)

        def h5py_row_by_row() -> None:
            with h5py.File(new(".h5"), "w") as file:
                data = file.create_dataset("rows", (0, 3), "f8", maxshape=(None, 3), chunks=(4096, 3))
                for k, row in enumerate(instant(None)):
                    data.resize(k + 1, axis=0)
                    data[k] = row

        def per_run() -> float:
            """What a run costs that is not the rows: header, files, closing."""
            return cost(lambda: run(instant, NoBench(), out=new(".h5"), n=1))

        fixed = per_run()
        loop = cost(lambda: list(instant(None))) / POINTS
        rows = [
            ("loop and instrument alone", loop),
            ("labctl.run, rows", (cost(lambda: run(instant, NoBench(), out=new(".h5"))) - fixed) / POINTS),
            ("labctl.run, blocks", (cost(lambda: run(instant_blocks, NoBench(), out=new(".h5"))) - fixed) / BLOCK_ROWS),
            ("raw binary append, a write a row", cost(raw_append) / POINTS),
            ("h5py row by row", cost(h5py_row_by_row) / POINTS),
        ]
        print(f"a run costs {fixed * 1e3:.1f} ms of CPU before its first row; then, a point of 3 scalars:")
        for name, seconds in rows:
            print(f"{name:<36} {seconds * 1e6:8.3f} µs  {seconds / rows[3][1]:7.2f} × raw append")


if __name__ == "__main__":
    main()
