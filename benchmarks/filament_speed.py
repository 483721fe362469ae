"""Speed of the filament cell: exact path, pulse table, calls from Python; prints a table.

    python benchmarks/filament_speed.py [cells]

Wall and CPU seconds are the least of five runs; CPU is that of all threads, so what is derived from it is per core.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models import filament_kernel as kernel
from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.filament_table import FastPulses, _build

Bias = tuple[float, float, float, float]
SET, RESET, READ = (3.0, 0.0, 3.3, 1e-6), (0.0, 2.4, 3.5, 1e-6), (0.2, 0.0, 3.5, 1e-6)


def best(job: Callable[[], object], prepare: Callable[[], object] = lambda: None, runs: int = 5) -> tuple[float, float]:
    """Least wall and CPU seconds of `job`, each time after `prepare`."""
    wall, cpu = [], []
    for _ in range(runs):
        prepare()
        t, c = time.perf_counter(), time.process_time()
        job()
        wall.append(time.perf_counter() - t)
        cpu.append(time.process_time() - c)
    return min(wall), min(cpu)


@njit(cache=True)
def growth(gaps: NDArray[np.float64], volts: NDArray[np.float64], width: float, p: NDArray[np.float64]) -> int:
    """Solve a pulse for each starting gap; the number of circuit points solved (cell-steps)."""
    steps = 0
    for gap in gaps:
        steps += kernel.grow(gap, volts[0], volts[1], volts[2], width, 1.0, p[10], p[9], 300.0, kernel.STEP, p)[2]
    return steps


def row(label: str, wall: float, cpu: float, cells: int) -> None:
    """One line of the table."""
    print(f"{label:44}{wall * 1e3:10.1f}{cpu * 1e3:10.1f}{cpu / cells * 1e9:12.0f}")


def arrays(cells: int) -> None:
    """Whole-array pulses and reads."""
    print(f"{cells} cells{'':33}{'wall ms':>10}{'CPU ms':>10}{'CPU ns/cell':>12}")
    for name, effects in (("spread", Effects(rtn=0.0, read_noise=0.0)), ("spread, RTN", Effects())):
        array = FilamentArray((cells,), seed=1, effects=effects)
        fast = FastPulses(array)
        array.pulse(*RESET)
        high = array.state()
        array.pulse(*SET)
        low = array.state()
        for label, bias, start in (("SET", SET, high), ("RESET", RESET, low), ("read", READ, low)):
            reset = partial(array.restore, start)
            reset()
            fast.pulse(*bias)  # builds the table
            row(f"{label} pulse 1 µs, exact, {name}", *best(partial(array.pulse, *bias), reset), cells)
            row(f"{label} pulse 1 µs, table, {name}", *best(partial(fast.pulse, *bias), reset), cells)
        row(f"read with noise, {name}", *best(partial(array.read, 0.2, 0.0, 3.5, 1e6), reset), cells)
        array.wait(1.0)
        row(f"read with noise 1 s later, {name}", *best(partial(array.read, 0.2, 0.0, 3.5, 1e6)), cells)


def solver() -> None:
    """Cell-steps a second of the exact path on one core, and the cost of a table."""
    p = FilamentParams().ideal().vector()
    print(f"\n{'exact path, one core':44}{'CPU ns/step':>12}{'M steps/s':>11}{'steps/pulse':>13}")
    gaps = np.linspace(1.6, 2.2, 5000)
    for label, (v_bl, v_sl, v_wl, width), start in (
        ("SET 3.0 V, WL 3.3 V, 1 µs", SET, gaps),
        ("SET 2.0 V, WL 2.5 V, 1 µs", (2.0, 0.0, 2.5, 1e-6), gaps),
        ("RESET 2.4 V, 1 µs", RESET, gaps - 0.9),
        ("RESET 1.25 V, 200 ns", (0.0, 1.25, 3.5, 2e-7), gaps - 0.9),
    ):
        volts = np.array([v_bl, v_sl, v_wl])
        steps = growth(start, volts, width, p)
        _, cpu = best(partial(growth, start, volts, width, p))
        print(f"{label:44}{cpu / steps * 1e9:12.0f}{steps / cpu / 1e6:11.2f}{steps / start.size:13.1f}")
    for label, bias, grid in (("SET", SET, (1, 0.005)), ("RESET", RESET, (101, 0.02))):
        job = partial(_build, *bias[:3], 300.0, p, *grid)
        job()
        print(f"table for a {label} voltage, ms{'':18}{best(job)[1] * 1e3:12.2f}")


def calls() -> None:
    """One cell from Python."""
    one, cell = FilamentArray((64, 64), seed=1), np.array([5])

    def cycles() -> None:
        for _ in range(500):
            one.pulse(*SET, cell)
            one.pulse(*RESET, cell)

    def reads() -> None:
        for _ in range(1000):
            one.read(0.2, 0.0, 3.5, 1e6, cell)

    print(f"\n{'one cell of 64 × 64, from Python':44}{'CPU µs':>12}")
    print(f"{'a SET or RESET pulse':44}{best(cycles)[1] * 1e3:12.2f}")
    print(f"{'a read':44}{best(reads)[1] * 1e3:12.2f}")
    v_bl, v_sl = np.tile([3.0, 0.2, 0.0, 0.2], 10000), np.tile([0.0, 0.0, 2.4, 0.0], 10000)
    width = np.tile([1e-6, 0.0, 1e-6, 0.0], 10000)
    _, cpu = best(partial(one.pulses, v_bl, v_sl, 3.5, width, 5))
    print(f"{'a cycle with two reads, from a list':44}{cpu / 10000 * 1e6:12.2f}")


if __name__ == "__main__":
    arrays(int(sys.argv[1]) if len(sys.argv) > 1 else 65536)
    solver()
    calls()
