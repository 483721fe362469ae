"""What limits a 64 × 64 product with 6-bit weights: the parts of its error as effective bits, and how long it takes.

Run: python benchmarks/mvm_error.py [--size 64] [--levels 64] [--rounds 3] [--ohm 1]
[--folder DIR]

A simulated array is programmed with random levels by `multilevel`; then products of random 4-bit inputs are measured by
`mvm`, first on ideal lines, then with `ohm` Ω a segment of bit and source lines, against the same cells read one by one
on ideal lines. The crossbar model says what the lines should take. Lines of some ohms make the nodal problem of all
rows and columns to be solved at every step of every sample: most of the time goes there.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import labctl
from labctl.analysis.products import bit_planes, product
from labctl.models.crossbar import Crossbar, Wires
from labctl.station import load_station, parse_station

BITS, VECTORS = 4, 3


def station(size: int, ohm: float, chip: Path) -> Any:
    """The simulated station with a larger array, whose chip is kept in a file."""
    text = (
        load_station("sim").text.replace("rows = 16 ", f"rows = {size} ").replace("columns = 4 ", f"columns = {size} ")
    )
    lines = f"\nline_resistance = {ohm}\nstate = '{chip.as_posix()}'"
    return parse_station(text.replace("formed = true", "formed = true" + lines), "large")


def show(title: str, run: labctl.Run, seconds: float) -> None:
    """The table of the parts."""
    table = run.table("error")
    print(f"{title}: {run.row_count()} outputs in {seconds:.0f} s, full scale {table['full_scale'][0] * 1e6:.0f} µA")
    for source, rms, relative, bits in zip(*(table[c] for c in ("source", "rms", "relative", "bits")), strict=True):
        print(f"  {source:16} {rms * 1e6:9.4f} µA  {relative:7.2%} of the outputs' σ  {bits:6.2f} bits")


def lines_by_model(run: labctl.Run, g: np.ndarray, ohm: float, v_read: float) -> float:
    """rms (A) of what the crossbar model loses on these lines, for the same inputs."""
    x = run.table("input")["x"].reshape(-1, len(g))
    wires = Wires(r_row=ohm, r_column=ohm, drive="left", sense="top")
    y = np.zeros((len(x), g.shape[1]))
    for vector, values in enumerate(x):
        for plane in bit_planes(values):
            rows = np.zeros((len(g), 1))
            rows[plane.rows] = 1
            y[vector] += plane.weight / (2**BITS - 1) * Crossbar(g * rows, wires).product(np.full(len(g), v_read))
    return float(np.sqrt(np.mean((y - product(x, g, v_read, 2**BITS - 1)) ** 2)))


def main(size: int, levels: int, rounds: int, ohm: float, folder: Path) -> None:
    lines: dict[str, Any] = {"rows": range(size), "columns": range(size)}
    np.save(folder / "levels.npy", np.random.default_rng(0).integers(0, levels, (size, size)))
    began = time.perf_counter()
    with labctl.open_bench(station(size, 0.0, folder / "chip.npz"), seed=1) as bench:
        matrix = str(folder / "levels.npy")
        programmed = labctl.run(
            "multilevel",
            bench,
            levels=levels,
            matrix=matrix,
            rounds=rounds,
            times=[10.0],
            out=folder / "programmed.h5",
            **lines,
        )
        accuracy = programmed.table("accuracy")
        print(f"{levels} levels on {size} × {size} cells in {time.perf_counter() - began:.0f} s,", end=" ")
        print(
            ", ".join(
                f"{b:.2f} bits after {t:g} s" for t, b in zip(accuracy["requested"], accuracy["bits"], strict=True)
            )
        )
        began = time.perf_counter()
        common = {"bits": BITS, "targets": str(programmed.path), **lines}
        ideal = labctl.run("mvm", bench, vectors=VECTORS, repeats=8, out=folder / "ideal.h5", **common)
        show("ideal lines", ideal, time.perf_counter() - began)
    if ohm:
        began = time.perf_counter()
        with labctl.open_bench(station(size, ohm, folder / "chip.npz"), seed=1) as bench:
            common |= {"vectors": VECTORS, "repeats": 1, "cells": str(ideal.path)}
            wired = labctl.run("mvm", bench, out=folder / "wired.h5", **common)
        show(f"lines of {ohm:g} Ω a segment", wired, time.perf_counter() - began)
        g = ideal.table("weight")["g"].reshape(-1, size, size)[-1]
        print(f"  the crossbar model loses {lines_by_model(wired, g, ohm, 0.1) * 1e6:.4f} µA")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--levels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ohm", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.folder:
            given.folder.mkdir(parents=True, exist_ok=True)
        main(given.size, given.levels, given.rounds, given.ohm, given.folder or Path(temporary))
