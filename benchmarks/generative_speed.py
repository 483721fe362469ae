"""Speed of the generative model beside PyPI `synaptogen`, same parameters, same machine, one run, interleaved.

    python benchmarks/generative_speed.py [--cells 1048576] [--rounds 7]

Each figure is the best of the rounds (other work on the machine only ever slows one down), once by the clock on the
wall and once by CPU seconds of all threads, which other work disturbs less: BLAS gives `synaptogen` threads too. The
memory limit is what the bytes that a SET and a RESET must move would take at the bandwidth of a triad on as many
threads.
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
        return 16 * size / min(seconds(run)[0] for _ in range(rounds))


def seconds(function: Callable[[], object], again: bool = True) -> tuple[float, float]:
    """Seconds on the wall and of CPU, all threads, a call.

    again: of as many calls in a row as take 50 ms, after as many to warm up; one call of 1 ms would time how long a
    sleeping core takes to wake up. Not for what does less the second time.
    """
    for _ in range(2 if again else 1):
        calls, begin, cpu = 0, time.perf_counter(), time.process_time()
        while calls == 0 or (again and time.perf_counter() < begin + 0.05):
            function()
            calls += 1
        wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return wall / calls, cpu / calls


def least(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), min(a[1], b[1])


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
    buffer = np.empty(-(-n // 16) * 16, np.float32)
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
        "SET + RESET, updates": (
            their_cycle,
            2 * n,
            30,
            [
                ("write", our_cycle, 2 * n),
                ("pulse, currents", our_pulses, 2 * n),
                ("waveform, 4 queued", our_queue, 8 * n),
            ],
        ),
        "random voltages, updates": (their_random, n, 10, [("write", our_random, n)]),
        "reads with noise": (their_read, n, 15, [("read, float32 out", our_read, n), ("read", our_read64, n)]),
    }
    print(f"{n} cells, VAR({params.order}), {threads} threads; {ours.bytes_a_cell:.0f} bytes a cell")
    print(f"{'':28}{'synaptogen M/s':>18}  {'labctl':22}{'M/s':>15}{'ratio':>13}{'wanted':>8}")
    print(f"{'':28}{'wall':>9}{'CPU':>9}  {'':22}{'wall':>8}{'CPU':>7}{'wall':>7}{'CPU':>6}")
    for name, (theirs_run, count, wanted, runs) in cases.items():
        for _ in range(30 if "random" in name else 2):
            random[0] = rng.uniform(-1.5, 1.5, n)
            theirs_run()
            runs[0][1]()
        best = dict.fromkeys(("theirs", *(label for label, _, _ in runs)), (np.inf, np.inf))
        for _ in range(args.rounds):
            random[0] = rng.uniform(-1.5, 1.5, n)
            again = "random" not in name
            best["theirs"] = least(best["theirs"], seconds(theirs_run, again))
            time.sleep(0.3)  # BLAS threads spin for a while after their product
            for label, run, _ in runs:
                best[label] = least(best[label], seconds(run, again))
        one = [count / t / 1e6 for t in best["theirs"]]
        for label, _, items in runs:
            own = [items / t / 1e6 for t in best[label]]
            print(
                f"{name:28}{one[0]:9.2f}{one[1]:9.2f}  {label:22}{own[0]:8.1f}{own[1]:7.1f}"
                f"{own[0] / one[0]:7.1f}{own[1] / one[1]:6.1f}{wanted:8}"
            )
    # a SET reads y and reads and writes r, threshold and flags; a RESET reads mu, sigma and one latent vector and reads
    # and writes y, r, threshold, count, slot and flags, and once in p cycles the history, p vectors
    moved = (16 + 8 + 8 + 2) + (32 + 16 + 32 + 8 + 8 + 8 + 2 + 2 + 32)
    for t in sorted({1, threads}):
        limit = 2 * bandwidth(t, args.rounds) / moved / 1e6
        print(
            f"memory: {moved} bytes a SET + RESET, so a triad's bandwidth on {t} threads allows {limit:.0f} M updates/s"
        )


if __name__ == "__main__":
    main()
