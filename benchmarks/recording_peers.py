"""The same job for other packages, run by `recording.py --peers PYTHON`; prints JSON in its last line.

Each records points of three scalars from an instrument that answers at once, in the way its own documentation shows.
A package that is missing is left out.
"""

import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

POINTS = 20_000
FEW = 1_000  # for what takes milliseconds a point


def cost(work: Callable[[int], Any], points: int) -> tuple[float, float]:
    """CPU seconds of the process: a run, and a point of it; the best of five."""

    def best(n: int) -> float:
        found = float("inf")
        for _ in range(5):
            start = time.process_time()
            work(n)
            found = min(found, time.process_time() - start)
        return found

    fixed = best(1)
    return fixed, (best(points) - fixed) / points


def pymeasure(folder: Path) -> tuple[float, float]:
    """Procedure, Worker, CSV: as its tutorial does. The file is whole when the worker has ended."""
    from pymeasure.experiment import Procedure, Results, Worker

    class Instant(Procedure):  # type: ignore[misc]
        DATA_COLUMNS = ["a", "b", "c"]  # noqa: RUF012
        points = 1

        def execute(self) -> None:
            for k in range(self.points):
                self.emit("results", {"a": k * 1.0, "b": k * 2.0, "c": k * 3.0})

    def work(points: int) -> None:
        file = folder / "x.csv"
        file.unlink(missing_ok=True)
        procedure = Instant()
        procedure.points = points
        worker = Worker(Results(procedure, str(file)))
        worker.start()
        worker.join(timeout=300)

    found = cost(work, POINTS)
    with (folder / "x.csv").open() as lines:
        assert sum(not line.startswith("#") for line in lines) == POINTS + 1
    return found


def qcodes(folder: Path) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """Measurement and add_result, default settings; and ten waveforms as arrays: GB, CPU s, wall s."""
    import qcodes.dataset as data

    data.initialise_or_create_database_at(str(folder / "x.db"))
    data.load_or_create_experiment("bench", sample_name="none")
    measurement = data.Measurement()
    for name in "abc":
        measurement.register_custom_parameter(name)

    def work(points: int) -> None:
        with measurement.run() as saver:
            for k in range(points):
                saver.add_result(("a", k * 1.0), ("b", k * 2.0), ("c", k * 3.0))

    scalars = cost(work, FEW)
    waves = data.Measurement()
    waves.register_custom_parameter("w", paramtype="array")
    wave = np.random.default_rng(1).standard_normal(1_000_000, np.float32)
    start, at = time.process_time(), time.perf_counter()
    with waves.run() as saver:
        for _ in range(10):
            saver.add_result(("w", wave))
    return scalars, (10 * wave.nbytes / 1e9, time.process_time() - start, time.perf_counter() - at)


def bluesky(folder: Path) -> tuple[float, float]:
    """RunEngine and count, a bare device, no writer."""
    from bluesky import RunEngine
    from bluesky.plans import count

    class Status:
        done = success = True

        def add_callback(self, callback: Callable[[Any], None]) -> None:
            callback(self)

        def exception(self, timeout: float | None = None) -> None:
            return None

    class Instant:
        name, parent = "instant", None
        k = 0

        def trigger(self) -> Status:
            self.k += 1
            return Status()

        def read(self) -> dict[str, Any]:
            now = time.time()
            return {name: {"value": self.k * 1.0, "timestamp": now} for name in "abc"}

        def describe(self) -> dict[str, Any]:
            return {name: {"source": "none", "dtype": "number", "shape": []} for name in "abc"}

        def read_configuration(self) -> dict[str, Any]:
            return {}

        def describe_configuration(self) -> dict[str, Any]:
            return {}

    engine = RunEngine({})
    return cost(lambda points: engine(count([Instant()], num=points)), FEW // 5)


def main() -> None:
    """Measure what is installed."""
    logging.disable(logging.CRITICAL)
    found: dict[str, Any] = {"scalars": {}, "waveforms": {}}
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as name:
        folder = Path(name)
        with contextlib.suppress(ImportError):
            found["scalars"]["PyMeasure, Worker to CSV"] = pymeasure(folder)
        with contextlib.suppress(ImportError):
            found["scalars"]["QCoDeS, add_result"], found["waveforms"]["QCoDeS, array parameter"] = qcodes(folder)
        with contextlib.suppress(ImportError):
            found["scalars"]["Bluesky, RunEngine, bare device, no writer"] = bluesky(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
