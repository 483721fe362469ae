"""Speed of the generative model beside PyPI `synaptogen`, same parameters, same machine, one run, interleaved.

    python benchmarks/generative_speed.py [--cells 1048576] [--rounds 7]

Each figure is the best of the rounds (other work on the machine only ever slows one down). The memory limit is what
the bytes that a SET and a RESET must move would take at the bandwidth of a triad on as many threads.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import synaptogen
from numba import njit

from labctl.models.generative import Generative
from labctl.models.generative_params import load


@njit(nogil=True)
def triad(a, b, c):
    for i in range(a.size):
        a[i] = b[i] + np.float32(2) * c[i]


def bandwidth(threads: int, rounds: int, size: int = 2**25) -> float:
    """Bytes a second of a float32 triad, the read of the written lines included."""
    a, b, c = (np.ones(size, np.float32) for _ in range(3))
    parts = [slice(k * size // threads, (k + 1) * size // threads) for k in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def run() -> None:
            list(pool.map(triad, *([x[p] for p in parts] for x in (a, b, c))))

        run()
        return 16 * size / min(seconds(run) for _ in range(rounds))


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=2**20)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    n = args.cells
    params = load(Path(synaptogen.__file__).with_name("default_params.json"))
    theirs = synaptogen.CellArrayCPU(n)
    ours = Generative((n,), params, seed=1)
    threads = ours.threads
    full = {"v_wl": 3.0, "width": params.timing.width}
    buffer = np.empty(-(-n // 256) * 256, np.float32)
    rng = np.random.default_rng(0)
    random = [np.empty(n)]

    def their_cycle() -> None:
        synaptogen.applyVoltage(theirs, -1.5)
        synaptogen.applyVoltage(theirs, 1.5)

    def our_cycle() -> None:
        ours.write(1.5, 0.0, **full)
        ours.write(0.0, 1.5, **full)

    def our_pulses() -> None:
        ours.pulse(1.5, 0.0, **full)
        ours.pulse(0.0, 1.5, **full)

    def our_queue() -> None:  # four cycles queued: a block of cells stays in cache
        ours.waveform(np.arange(1, 9) * params.timing.width, [1.5, 0.0] * 4, [0.0, 1.5] * 4, 3.0)

    def their_random() -> None:
        synaptogen.applyVoltage(theirs, -random[0])

    def our_random() -> None:
        ours.write(random[0], 0.0, **full)

    def their_read() -> None:
        synaptogen.Iread(theirs)

    def our_read() -> None:
        ours.read(-0.2, 0.0, 3.0, 1e8, out=buffer)

    def our_read64() -> None:
        ours.read(-0.2, 0.0, 3.0, 1e8)

    cases: dict[str, tuple[Callable[[], None], int, float, list[tuple[str, Callable[[], None], int]]]] = {
        "SET + RESET cycles, updates": (
            their_cycle,
            2 * n,
            30,
            [
                ("write", our_cycle, 2 * n),
                ("pulse (currents)", our_pulses, 2 * n),
                ("waveform, 4 queued", our_queue, 8 * n),
            ],
        ),
        "random voltages, updates": (their_random, n, 10, [("write", our_random, n)]),
        "reads with noise": (their_read, n, 15, [("read, float32 out", our_read, n), ("read", our_read64, n)]),
    }
    print(f"{n} cells, VAR({params.order}), {threads} threads; {ours.bytes_a_cell:.0f} bytes a cell")
    print(f"{'':34}{'synaptogen':>12}  {'labctl':26}{'M/s':>9}{'ratio':>8}{'wanted':>8}")
    for name, (theirs_run, count, wanted, runs) in cases.items():
        for _ in range(30 if "random" in name else 2):
            random[0] = rng.uniform(-1.5, 1.5, n)
            theirs_run()
            runs[0][1]()
        best = dict.fromkeys(("theirs", *(label for label, _, _ in runs)), np.inf)
        for _ in range(args.rounds):
            random[0] = rng.uniform(-1.5, 1.5, n)
            best["theirs"] = min(best["theirs"], seconds(theirs_run))
            time.sleep(0.3)  # BLAS threads spin for a while after their product
            for label, run, _ in runs:
                best[label] = min(best[label], seconds(run))
        for label, _, items in runs:
            ratio = items / best[label] * best["theirs"] / count
            print(
                f"{name:34}{count / best['theirs'] / 1e6:10.2f}/s  {label:26}{items / best[label] / 1e6:9.1f}"
                f"{ratio:8.1f}{wanted:8}"
            )
    # a SET reads U_SET, R_LRS, U_RESET, flags and reads and writes r, threshold, flags; a RESET reads history, mu and
    # sigma, reads and writes y, r, threshold, slope, count, slot, flags, and writes one latent vector
    p = params.order
    moved = (12 + 1 + 16 + 1) + (16 * p + 32 + 32 + 16 + 8 + 8 + 2 + 2 + 16)
    for t in sorted({1, threads}):
        limit = 2 * bandwidth(t, args.rounds) / moved / 1e6
        print(f"memory: {moved} bytes a SET + RESET; triad on {t} threads allows {limit:.0f} M updates/s")


if __name__ == "__main__":
    main()
