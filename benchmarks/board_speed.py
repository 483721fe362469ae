"""How fast the simulated board works on cells, beside what the device model alone can do: one run prints the table.

    python benchmarks/board_speed.py [--cells N] [--cycles N]

Everything goes through the whole chain (protocol, link, firmware, lines, array, journal, HDF5); the limit is the time
that the model's compiled kernel takes for the same pulses on the same cell. CPU seconds of this process, and wall time.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import labctl
from labctl.models.filament import FilamentArray


def timed(name: str, out: Path, station: str, count: int, unit: str, **parameters: Any) -> float:
    """Run a protocol once; prints and returns CPU seconds."""
    with labctl.open_bench(station, seed=1) as bench:
        labctl.run("read_map", bench, rows=[0], columns=[0], out=out / f"warm-{name}-{count}.h5")  # compiles
        cpu, wall = time.process_time(), time.perf_counter()
        run = labctl.run(name, bench, out=out / f"{name}-{count}.h5", **parameters)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        pulses = int(bench.doses.ledger.counts[0].sum())
    size = run.path.stat().st_size / 1e6
    print(
        f"{name:<12} {count:>9} {unit:<7} {cpu:7.1f} s CPU {wall:7.1f} s wall {pulses:>9} pulses"
        f" {cpu / pulses * 1e6:7.1f} µs a pulse {len(run.transactions()):>7} transactions {size:6.1f} MB"
    )
    return cpu / pulses


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4096, help="cells to form (default 4096)")
    parser.add_argument("--cycles", type=int, default=1_000_000, help="endurance cycles (default 1e6)")
    options = parser.parse_args()
    device = FilamentArray((16, 4), seed=1)
    v = np.tile([2.8, 0.0], 20_000)
    device.pulses(v[:2], 2.0 - v[:2] / 1.4, 2.4, 1e-6, 0)  # compiles
    start = time.process_time()
    device.pulses(v, np.where(v > 0, 0.0, 2.0), np.where(v > 0, 2.4, 4.2), 1e-6, 0)
    limit = (time.process_time() - start) / v.size
    print(f"the model's kernel alone: {limit * 1e6:.1f} µs a pulse")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train = timed("endurance", out, "sim", options.cycles, "cycles", cycles=options.cycles)
        rows = range(min(64, max(1, options.cells // 64)))
        columns = range(min(64, options.cells))
        step = timed("forming", out, "sim-64x64", len(rows) * len(columns), "cells", rows=rows, columns=columns)
    print(f"a train costs {train / limit:.1f} × the kernel, a pulse with its reading {step / limit:.1f} ×")


if __name__ == "__main__":
    main()
