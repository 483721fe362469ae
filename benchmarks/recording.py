"""What recording costs: journal and HDF5 file together, beside raw appends, h5py and other packages, in one run.

    python benchmarks/recording.py [--peers PYTHON] [--rows 100000000] [--folder DIR]

--peers: an interpreter that has PyMeasure, QCoDeS and Bluesky; `recording_peers.py` runs there. --rows: also make a
table of so many rows, then open and slice it. CPU is that of the whole process, threads included; wall is given where a
disk counts. The best of a few repeats, because other work on the machine only ever adds.

A point costs what 20,000 of them cost more than one, divided by 20,000; a run, what one with a single point costs.
Every package, ours included, is used as its documentation shows: its own runner around an instrument that answers at
once.
"""

import argparse
import json
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import h5py
import numpy as np

from labctl.abort import AbortSignal
from labctl.journal import Journal
from labctl.protocol import Rows, Table, Trace, protocol
from labctl.quantity import Q
from labctl.reader import load
from labctl.recover import recover
from labctl.runner import run
from labctl.station import Station, load_station
from labctl.store import Store
from labctl.transport.tape import Recorder

POINTS = 20_000
BLOCK_ROWS = 1_000_000
WAVEFORMS, SAMPLES = 100, 1_000_000


class Scalars(NamedTuple):
    """Three scalars."""

    a: A[float, Q("V", meaning="a")]
    b: A[float, Q("A", meaning="b")]
    c: A[float, Q("s", meaning="c")]


def instant(n: int) -> Any:
    """An instrument that answers at once."""
    for k in range(n):
        yield Scalars(k * 1.0, k * 2.0, k * 3.0)


@protocol
def scalar_points(bench: object, n: A[int, Q("", 1, 10**9, "points")] = 1) -> Iterator[Scalars]:
    """An instrument that answers at once."""
    for k in range(n):
        yield Scalars(k * 1.0, k * 2.0, k * 3.0)


@protocol
def scalar_blocks(bench: object, n: A[int, Q("", 1, 10**9, "points")] = 1) -> Iterator[Rows | Scalars]:
    """The same in blocks of 100,000 rows."""
    for start in range(0, n, 100_000):
        a = np.arange(start, min(start + 100_000, n), dtype=float)
        yield Rows(Scalars, a=a, b=a * 2, c=a * 3)


class Bench:
    """Runs each case in a fresh folder; best CPU and wall, s."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, work: Callable[[Path], None], repeats: int = 3) -> tuple[float, float]:
        cpu = wall = float("inf")
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                start, at = time.process_time(), time.perf_counter()
                work(Path(folder))
                cpu, wall = min(cpu, time.process_time() - start), min(wall, time.perf_counter() - at)
        return cpu, wall


class Recorded:
    """Journal and store as the runner uses them."""

    def __init__(self, folder: Path, tables: list[Table]) -> None:
        self.journal = Journal(folder / "x.h5.journal", {}, tables)
        self.store = Store(folder / "x.h5", {}, tables)
        self.store.follow(self.journal)

    def finish(self) -> None:
        """As the runner ends a run."""
        self.journal.event("end", status="done")
        self.journal.close()
        self.store.finish("done", {}, self.journal.path)
        self.journal.path.unlink()


class NoBench:
    """A bench without instruments."""

    station: Station = load_station("sim")
    seed = 0

    def begin(self, recorder: Recorder | None, session: int, abort: AbortSignal, folder: Path | None) -> dict[str, str]:
        return {}

    def resume(self, finished: Sequence[tuple[int, int]], begun: Any) -> None:
        """Nothing to go on with."""

    def end(self) -> None:
        """Nothing to stop."""


def scalars(bench: Bench, peers: dict[str, Any]) -> None:
    """Points of three scalars, one by one."""

    def labctl_run(n: int) -> Callable[[Path], None]:
        return lambda folder: void(run(scalar_points, NoBench(), out=folder / "x.h5", n=n))

    def labctl_blocks(n: int) -> Callable[[Path], None]:
        return lambda folder: void(run(scalar_blocks, NoBench(), out=folder / "x.h5", n=n))

    def loop(n: int) -> Callable[[Path], None]:
        return lambda folder: void(sum(1 for _ in instant(n)))

    def append(n: int) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            fd = os.open(folder / "x", os.O_WRONLY | os.O_CREAT)
            for row in instant(n):
                os.write(fd, struct.pack("<3d", *row))
            os.close(fd)

        return work

    def h5py_blocks(n: int) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            with h5py.File(folder / "x.h5", "w") as file:
                data = file.create_dataset("rows", (0, 3), "f8", maxshape=(None, 3), chunks=(4096, 3))
                held = []
                for row in instant(n):
                    held.append(row)
                    if len(held) == 256 or n == 1:
                        data.resize(len(data) + len(held), 0)
                        data[-len(held) :] = held
                        held = []

        return work

    def h5py_rows(n: int) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            with h5py.File(folder / "x.h5", "w") as file:
                data = file.create_dataset("rows", (0, 3), "f8", maxshape=(None, 3), chunks=(4096, 3))
                for k, row in enumerate(instant(n)):
                    data.resize(k + 1, 0)
                    data[k] = row

        return work

    def cost(work: Callable[[int], Callable[[Path], None]], points: int = POINTS) -> tuple[float, float]:
        """CPU s a run, and a point."""
        fixed = bench(work(1), 5)[0]
        return fixed, (bench(work(points), 5)[0] - fixed) / points

    ours = "labctl.run, rows (durable in 0.25 s)"
    table = {
        "loop and instrument alone": cost(loop),
        ours: cost(labctl_run),
        "labctl.run, blocks of 100,000": cost(labctl_blocks, BLOCK_ROWS),
        "raw append, one write a row (not synced)": cost(append),
        "h5py, blocks of 256 rows (not synced)": cost(h5py_blocks),
        "h5py, row by row (not synced)": cost(h5py_rows, 1000),
        **peers.get("scalars", {}),
        "labctl.run, rows, once more": cost(labctl_run),
    }
    best = min(table[ours][1], table["labctl.run, rows, once more"][1])
    print(f"\nrows of 3 scalars, CPU{'':35} ms a run   µs a point")
    for name, (fixed, point) in table.items():
        print(f"  {name:<50} {fixed * 1e3:8.1f} {point * 1e6:12.3f}   {point / best:8.2f} × ours")


def void(_: object) -> None:
    """Nothing comes of it."""


def waveforms(bench: Bench, peers: dict[str, Any]) -> None:
    """Float32 waveforms of a million samples."""
    rng = np.random.default_rng(1)
    some = [rng.standard_normal(SAMPLES, np.float32) for _ in range(4)]
    for one in some:
        one.setflags(write=False)  # as an array over the bytes of an instrument's answer is
    codes = [(128 + 40 * one).astype(np.uint8) for one in some]

    def append(folder: Path) -> None:
        with (folder / "x").open("wb", buffering=0) as file:
            for k in range(WAVEFORMS):
                file.write(some[k % 4].data)

    def raw(synced: bool, **filters: Any) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            with h5py.File(folder / "x.h5", "w") as file:
                data = file.create_dataset(
                    "w", (0, SAMPLES), "f4", maxshape=(None, SAMPLES), chunks=(1, SAMPLES), **filters
                )
                for k in range(WAVEFORMS):
                    data.resize(k + 1, 0)
                    data[k] = some[k % 4]
            if synced:
                fd = os.open(folder / "x.h5", os.O_RDWR)
                os.fsync(fd)
                os.close(fd)

        return work

    def recorded(source: list[Any], count: int) -> Callable[[Path], None]:
        def work(folder: Path) -> None:
            run = Recorded(folder, [Table(Scalars)])
            for k in range(count):
                trace = Trace("w", source[k % 4], 1.0, 0.0, "V", 0.0, 1e-9)
                pieces = run.store.place(trace)
                run.store.trace(trace, -1, run.journal.trace(trace, -1, pieces), pieces)
            run.finish()

        return work

    size = WAVEFORMS * SAMPLES * 4 / 1e9
    table = {
        "raw append (not synced)": (size, bench(append)),
        "h5py, chunk a waveform (not synced)": (size, bench(raw(False))),
        "h5py, chunk a waveform, synced at the end": (size, bench(raw(True))),
        "h5py, + fletcher32, synced at the end": (size, bench(raw(True, fletcher32=True))),
        "labctl journal + HDF5, synced, CRC": (size, bench(recorded(some, WAVEFORMS))),
        "labctl, 8-bit codes (gzip, fletcher32)": (size / 20, bench(recorded(codes, WAVEFORMS // 5), 1)),
    }
    table |= {name: (gb, (cpu, wall)) for name, (gb, cpu, wall) in peers.get("waveforms", {}).items()}
    base = table["h5py, chunk a waveform (not synced)"]
    print(f"\nfloat32 waveforms of {SAMPLES} samples: GB per CPU-second, per second")
    for name, (gb, (cpu, wall)) in table.items():
        share = (gb / cpu) / (base[0] / base[1][0]), (gb / wall) / (base[0] / base[1][1])
        print(f"  {name:<50} {gb / cpu:7.3f} {gb / wall:7.3f}   {share[0]:5.2f} {share[1]:5.2f} × unsynced h5py")


def recovery(bench: Bench) -> None:
    """A journal of a million rows, made into a file again."""
    rows = 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder / "x.h5.journal", {}, [Table(Scalars)])
        for row in instant(rows):
            journal.row(0, row)
        journal.close()
        start = time.process_time()
        recover(folder / "x.h5")
        print(f"\nrecovery of {rows} rows: {(time.process_time() - start) / rows * 1e6:.2f} µs of CPU a row")


def big_table(folder: Path, rows: int) -> None:
    """Open and slice; everything is on the disk, the reader is fresh."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        store = Store(Path(name) / "x.h5", {}, [Table(Scalars)])
        a = np.arange(1_000_000.0)
        for start in range(0, rows, len(a)):
            store.rows(0, Rows(Scalars, a=a + start, b=a, c=a), 0.0)
        store.finish("done", {}, None)
        best = [float("inf")] * 2
        for _ in range(5):
            at = time.perf_counter()
            run = load(Path(name) / "x.h5")
            best[0] = min(best[0], time.perf_counter() - at)
            part = run.table(rows=slice(rows // 2, rows // 2 + 10_000))
            best[1] = min(best[1], time.perf_counter() - at)
            assert part["a"][0] == rows // 2
        size = (Path(name) / "x.h5").stat().st_size / 1e9
        print(f"\ntable of {rows} rows, {size:.1f} GB: opened in {best[0] * 1e3:.1f} ms,", end=" ")
        print(f"opened and 10,000 rows of all columns read in {best[1] * 1e3:.1f} ms")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", help="interpreter that has the other packages")
    parser.add_argument("--rows", type=int, default=0, help="also make a table of so many rows")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to write")
    options = parser.parse_args()
    peers: dict[str, Any] = {}
    if options.peers:
        script = Path(__file__).with_name("recording_peers.py")
        command = [options.peers, str(script), str(options.folder)]
        peers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    bench = Bench(options.folder)
    scalars(bench, peers)
    waveforms(bench, peers)
    recovery(bench)
    if options.rows:
        big_table(options.folder, options.rows)


if __name__ == "__main__":
    main()
