"""How long each run of the neuron report takes, and the whole of it: python benchmarks/lif_report.py

Chip time against computer time, in one process. The first line after an installation also compiles the kernels.
"""

import tempfile
import time
from pathlib import Path

from labctl.report_lif import JOBS, measure, rows, write


def main() -> None:
    """Print one line a run."""
    with tempfile.TemporaryDirectory() as folder:
        runs, started = {}, time.perf_counter()
        print(f"{'run':<12} {'protocol':<22} {'seconds':>8} {'transactions':>13}")
        for job in JOBS:
            before = time.perf_counter()
            runs |= measure("sim", folder, jobs=[job])
            spent = time.perf_counter() - before
            print(f"{job:<12} {JOBS[job].protocol:<22} {spent:8.2f} {len(runs[job].transactions()):13d}")
        before = time.perf_counter()
        write(runs, Path(folder) / "page.html")
        print(f"{'page':<35} {time.perf_counter() - before:8.2f}")
        met = [row for row in rows(runs) if row.reproduced]
        print(f"{'all of it':<35} {time.perf_counter() - started:8.2f}   limit 60 s; {len(met)} measured rows met")


if __name__ == "__main__":
    main()
