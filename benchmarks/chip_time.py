"""What one second of chip time costs the simulated bench: a neuron at 60 kHz, through protocol, driver, wire, firmware.

    python benchmarks/chip_time.py

CPU time of the whole process, best of five, in one run.
"""

import time
from collections.abc import Callable

import labctl
from drivers.bench import Bench


def cost(work: Callable[[], object]) -> float:
    """CPU seconds of `work`, the best of five, after one run to warm up."""
    work()
    times = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    bench: Bench
    with labctl.open_bench("sim", seed=1) as bench, bench.powered(v_ref=1.0, v_thr=1.8):
        bench.inject(0, 200e-6)
        rate = bench.count([0], 1.0).rate(0)
        rows = [
            (f"count one neuron at {rate / 1e3:.1f} kHz", cost(lambda: bench.count([0], 1.0))),
            ("the same with a time stamp a spike", cost(lambda: bench.count([0], 1.0, stamps=True))),
        ]
        bench.inject(0, 0.0)
        rows.append(("all neurons silent", cost(lambda: bench.count([0], 1.0))))
    print("CPU time for one second of chip time:")
    for name, seconds in rows:
        print(f"{name:<42} {seconds * 1e3:7.2f} ms  {1 / seconds:8.0f} × real time")


if __name__ == "__main__":
    main()
