"""Products of a crossbar with line resistance: labctl beside an ideal product, badcrossbar and CrossSim, in one run.

    python benchmarks/crossbar_speed.py [--size 256] [--vectors 64] [--largest 1024] [--cross-sim CHECKOUT]

1 Ω a segment, conductances log-uniform from 1 to 100 µS, rows driven at the left, columns sensed at the bottom.
`pip install badcrossbar` adds badcrossbar (its cairo needs the system's). CrossSim is not on PyPI: CHECKOUT is a clone
of its repository, version 2 (the one with simulator/circuits/array_simulator.py), whose solver is called at its default
tolerance. Times are the best of several runs, of those that take seconds the only one. Set OPENBLAS_NUM_THREADS=1 on a
machine that others use: a waiting BLAS thread costs the ideal product more than the rest together.
"""

import argparse
import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.models.crossbar import Crossbar, Method

R_WIRE = 1.0


def best(call: Callable[[], Any], budget: float = 0.5) -> tuple[float, Any]:
    """(seconds, result) of the quickest call within `budget` seconds; at least one."""
    quickest, spent, result = np.inf, 0.0, None
    while spent < budget or result is None:
        start = time.perf_counter()
        result = call()
        took = time.perf_counter() - start
        quickest, spent = min(quickest, took), spent + took
    return quickest, result


def cells(n: int) -> NDArray[np.float64]:
    return 10 ** np.random.default_rng(n).uniform(-6, -4, (n, n))


def cross_sim(folder: str, g: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """CrossSim's product for many vectors, in its normalised units; it lowers its relaxation until it converges."""
    sys.path.insert(0, folder)
    from simulator.circuits.array_simulator import mvm_parasitics, solve_mvm_circuit  # type: ignore[import-not-found]

    peak = g.max()
    parasitics = SimpleNamespace(Rp_row=R_WIRE * peak, Rp_col=R_WIRE * peak, gate_input=False)
    xbar = SimpleNamespace(array=SimpleNamespace(parasitics=parasitics), dac=None)
    simulation = SimpleNamespace(
        Niters_max_parasitics=100, Verr_th_mvm=1e-3, relaxation_gamma=1.0, hide_convergence_msg=True
    )
    params = SimpleNamespace(xbar=xbar, simulation=simulation)
    matrix = np.ascontiguousarray(g.T) / peak

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):  # what diverges is caught and tried again
            found = np.array([solve_mvm_circuit(mvm_parasitics, row / 0.2, matrix, params) for row in v])
        return np.asarray(found * peak * 0.2)

    return product


def bad_crossbar(g: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    import badcrossbar  # type: ignore[import-not-found,import-untyped,unused-ignore]

    logging.disable()

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = badcrossbar.compute(v.T, 1 / g, R_WIRE, node_voltages=False, all_currents=False)
        return np.asarray(found.currents.output)

    return product


def ideal(matrix: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return v @ matrix  # type: ignore[no-any-return]


def fresh(array: Crossbar, g: NDArray[np.float64], v: NDArray[np.float64], method: Method = "auto") -> Any:
    """A product right after programming: everything factorised anew."""
    array.program(g)
    return array.product(v, method=method)


def compare(n: int, vectors: int, checkout: str) -> None:
    g, v = cells(n), np.random.default_rng(1).uniform(0.0, 0.2, (vectors, n))
    array = Crossbar(g)
    table: list[tuple[str, float, float, float, Any]] = []

    def measure(name: str, setup: float, product: Callable[[Any], Any], x: Any = v) -> None:
        one, _ = best(lambda: product(x[:1]))
        many, result = best(lambda: product(x))
        table.append((name, setup, one, many, result))

    direct_setup, _ = best(partial(fresh, array, g, v[0], "direct"), 0)
    measure("labctl, sparse LU", direct_setup, lambda x: array.product(x, method="direct"))
    exact = table[0][4]
    setup, _ = best(partial(fresh, array, g, v[0]))
    measure("labctl, gradients", setup, array.product)
    compiled: dict[str, tuple[float, Any]] = {}
    for kind in (np.float64, np.float32):
        x, matrix = v.astype(kind), g.astype(kind)
        measure(f"ideal product, {kind.__name__}", 0.0, partial(ideal, matrix), x)
        compiled[kind.__name__] = best(partial(array.compile, kind), 0)
        measure(f"labctl compiled, {kind.__name__}", *compiled[kind.__name__], x)
    try:
        measure("badcrossbar", 0.0, bad_crossbar(g))
    except ImportError:
        print("badcrossbar is not installed: pip install badcrossbar")
    if checkout:
        product = cross_sim(checkout, g)
        measure("CrossSim", best(lambda: product(v[:1]), 0)[0], product)
    else:
        print("CrossSim is not on PyPI: give --cross-sim CHECKOUT")
    ours = {name: many for name, _, _, many, _ in table}
    print(f"\n{n} × {n}, {vectors} vectors; seconds; error relative to the largest current")
    print(f"{'':26}{'set-up':>10}{'one':>10}{'all':>10}{'error':>10}{'all, × compiled':>17}")
    for name, setup, one, many, result in table:
        error = np.abs(result - exact).max() / np.abs(exact).max()
        against = many / ours["labctl compiled, float64"]
        print(f"{name:26}{setup:10.2g}{one:10.2g}{many:10.2g}{error:10.1e}{against:17.1f}")
    for name, (_, product) in compiled.items():
        ratio = ours[f"labctl compiled, {name}"] / ours[f"ideal product, {name}"]
        print(f"compiled / ideal product, {name}: {ratio:.2f} (wanted ≤ 3); stated error {product.error:.1e}")


def after_programming(largest: int) -> None:
    print("\none product right after programming (factors and gradients, 1e-11), seconds")
    n = 64
    while n <= largest:
        g, v = cells(n), np.random.default_rng(2).uniform(0.0, 0.2, n)
        took, _ = best(partial(fresh, Crossbar(g), g, v), 1.0)
        print(f"{n:5} × {n:<5}{took:10.2g}")
        n *= 4 if n == 64 else 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--vectors", type=int, default=64)
    parser.add_argument("--largest", type=int, default=1024)
    parser.add_argument("--cross-sim", default="", metavar="CHECKOUT")
    arguments = parser.parse_args()
    compare(arguments.size, arguments.vectors, arguments.cross_sim)
    after_programming(arguments.largest)
