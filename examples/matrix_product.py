"""Write a matrix on the array, multiply with it, compare with numpy: from weights to a product and its error.

python examples/matrix_product.py [FOLDER]
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import labctl
from labctl.plot import plot
from labctl.weights import LevelTable, WeightMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def main(folder: Path) -> list[Path]:
    """Measure into `folder`; returns the recorded files."""
    folder.mkdir(parents=True, exist_ok=True)
    w = np.random.default_rng(1).uniform(-1, 1, (16, 2))
    np.save(folder / "w.npy", w)
    with labctl.open_bench("sim", seed=1) as bench:
        programmed = labctl.run(
            "program_weights", bench, weights=str(folder / "w.npy"), levels=64, rounds=4, times=[10.0], out=folder
        )
        product = labctl.run(
            "mvm", bench, pairs=True, signed=True, vectors=12, targets=str(programmed.path), out=folder
        )
    p, q = programmed.params, product.params
    slope = WeightMap.spanning(w, LevelTable.uniform(p["g_min"], p["g_max"], p["levels"])).slope
    unit = q["v_read"] * slope / (2 ** q["bits"] - 1)  # the current (A) of x·w = 1
    x = product.table("input")["x"].reshape(-1, 16)
    y = product.table()["y"].reshape(len(x), q["repeats"], 2) / unit
    print(f"x·w: σ {np.std(x @ w):.1f}; measured differs by {np.std(y.mean(1) - x @ w):.1f}")
    picture = product.path.with_suffix(".png")
    draw(w, programmed, x @ w, y, product).savefig(picture, dpi=110)
    print(plot(programmed, programmed.path.with_suffix(".png")))
    print(picture)
    return [programmed.path, product.path]


def draw(w: Floats, programmed: labctl.Run, exact: Floats, y: Floats, product: labctl.Run) -> "Figure":
    """Weights as they were written, products as they were measured, the parts of their error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    table, error = programmed.table(), product.table("error")
    left.plot(table["w"], table["w_read"], ".")
    left.set(xlabel="weight asked", ylabel="weight read", title=f"{w.size} weights on pairs of cells")
    middle.plot(exact.ravel(), y.mean(1).ravel(), ".")
    middle.set(xlabel="x·w by numpy", ylabel="x·w measured", title=f"{exact.size} products")
    for axes, values in ((left, w), (middle, exact)):
        ends = [values.min(), values.max()]
        axes.plot(ends, ends, color="gray", linewidth=0.8, zorder=0)
        axes.grid(True, alpha=0.3)
    bars = right.barh(error["source"][::-1], error["bits"][::-1])
    right.bar_label(bars, fmt="%.1f", padding=2)
    right.set(xlabel="effective bits", title="each part of the error alone", xlim=(0, 1.15 * error["bits"].max()))
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
