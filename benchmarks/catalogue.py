"""`labctl ls` over 3,000 small files: the first time, the second, after one change; beside a scan that opens each file.

python benchmarks/catalogue.py [FILES]
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import h5py

from labctl.catalogue import catalogue
from labctl.protocol import Table
from labctl.quantity import Q
from labctl.store import Store


class Point(NamedTuple):
    """A point."""

    v: A[float, Q("V", meaning="voltage")]
    i: A[float, Q("A", meaning="current")]


def make(folder: Path, files: int) -> None:
    header = {"protocol": "iv_sweep", "params": {"row": 1}, "created": "2026-03-01T12:00:00+01:00", "tags": ["x"],
              "station": {"name": "sim", "text": '[chip]\nname = "chip"'}}  # fmt: skip
    pattern = folder / "0.h5"
    store = Store(pattern, header, [Table(Point)])
    for k in range(20):
        store.row(0, (0.1 * k, 1e-6 * k), 0.01 * k)
    store.finish("done", {}, None)
    for number in range(1, files):
        place = folder / f"day{number % 30}"
        place.mkdir(exist_ok=True)
        shutil.copy(pattern, place / f"{number}.h5")


def open_each(folder: Path) -> list[Any]:
    """What a scan without an index costs at least: open each file, read one attribute."""
    found = []
    for path in folder.rglob("*.h5"):
        with h5py.File(path, "r", locking=False) as file:
            found.append(file.attrs["status"])
    return found


def timed(what: Callable[[], list[Any]]) -> tuple[float, int]:
    start = time.perf_counter()
    found = what()
    return time.perf_counter() - start, len(found)


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "data", Path(name) / "cache"
        folder.mkdir()
        make(folder, files)
        results = [("open each file, one attribute", timed(lambda: open_each(folder)))]
        for label in ("ls, first time", "ls, second time", "ls, third time"):
            results.append((label, timed(lambda: catalogue(folder, cache=cache))))
        (folder / "day1" / "1.h5").touch()
        results.append(("ls, one file changed", timed(lambda: catalogue(folder, cache=cache))))
        (index,) = cache.iterdir()
        print(f"{files} files; index {index.stat().st_size / 1e6:.2f} MB")
        floor = results[0][1][0]
        for label, (seconds, found) in results:
            print(f"{label:<32} {seconds * 1e3:9.1f} ms  {found} runs  {floor / seconds:7.1f} × the scan's speed")


if __name__ == "__main__":
    main()
