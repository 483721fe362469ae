"""I–V loops through the whole chain: board, line matrix, array."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from labctl.station import load_station, parse_station
from protocols.iv_sweep import loop


def sweep(tmp_path: Path, name: str = "iv.h5", seed: int = 1, **parameters: Any) -> dict[str, np.ndarray]:
    with labctl.open_bench("sim", seed=seed) as bench:
        return labctl.run("iv_sweep", bench, out=tmp_path / name, **parameters).table()


def conductance(table: dict[str, np.ndarray], at: np.ndarray) -> float:
    at = at & (table["status"] == "ok")
    return float(np.polyfit(table["v"][at], table["i"][at], 1)[0])


def test_the_loop_goes_through_both_ends_and_back() -> None:
    v = loop(1.0, -2.0, 12)
    assert v == pytest.approx([0, 0.5, 1, 0.5, 0, -0.5, -1, -1.5, -2, -1.5, -1, -0.5, 0])


def test_a_hysteresis_loop_with_set_at_positive_and_reset_at_negative(tmp_path: Path) -> None:
    table = sweep(tmp_path, cycles=2, points=120)
    second = table["cycle"] == 1  # the first starts from the state that forming left
    up, sign = np.r_[True, np.diff(table["v"]) >= 0], np.sign(table["v"])
    small = (np.abs(table["v"]) > 0.05) & (np.abs(table["v"]) < 0.35)
    before_set = conductance(table, second & small & (sign > 0) & up)
    after_set = conductance(table, second & small & (sign > 0) & ~up)
    before_reset = conductance(table, second & small & (sign < 0) & ~up)
    after_reset = conductance(table, second & small & (sign < 0) & up)
    assert after_set > 3 * before_set, "SET at positive voltage"
    assert after_reset < before_reset / 3, "RESET at negative voltage"
    assert (table["i"][table["v"] > 0.1] > 0).all()
    assert (table["i"][table["v"] < -0.1] < 0).all()


def test_the_gate_limits_the_current_of_the_low_resistance_state(tmp_path: Path) -> None:
    peaks, conductances = [], []
    for v_wl in (1.8, 2.1, 2.5):
        table = sweep(tmp_path, f"{v_wl}.h5", v_wl=v_wl, cycles=2, points=80)
        at = (table["cycle"] == 1) & (table["v"] > 0)
        peaks.append(table["i"][at].max())
        down = at & (np.r_[True, np.diff(table["v"]) < 0]) & (table["v"] < 0.35) & (table["v"] > 0.05)
        conductances.append(conductance(table, down))
    assert peaks[0] < peaks[1] < peaks[2]
    assert conductances[0] < conductances[1] < conductances[2]


def test_an_unformed_array_is_a_setting_and_does_not_conduct(tmp_path: Path) -> None:
    station = parse_station(load_station("sim").text.replace("formed = true", "formed = false"), "unformed")
    with labctl.open_bench(station, seed=1) as bench:
        table = labctl.run("iv_sweep", bench, v_set=1.0, v_reset=-1.0, points=40, out=tmp_path / "u.h5").table()
    assert np.abs(table["i"]).max() < 1e-6


def test_other_cells_are_left_alone(tmp_path: Path) -> None:
    """RESET of one cell does not touch its neighbours of the same row and column."""

    def read(bench: Bench, row: int, column: int, name: str) -> float:
        small = labctl.run(
            "iv_sweep",
            bench,
            row=row,
            column=column,
            v_set=0.15,
            v_reset=-0.15,
            v_wl=3.5,
            points=12,
            out=tmp_path / name,
        )
        table = small.table()
        return conductance(table, np.ones(len(table["v"]), bool))

    with labctl.open_bench("sim", seed=3) as bench:
        neighbours = [(2, 0), (2, 2), (1, 1), (3, 1)]
        before = [read(bench, *cell, f"b{k}.h5") for k, cell in enumerate(neighbours)]
        own = read(bench, 2, 1, "own.h5")
        labctl.run("iv_sweep", bench, row=2, column=1, cycles=1, points=60, out=tmp_path / "loop.h5")
        after = [read(bench, *cell, f"a{k}.h5") for k, cell in enumerate(neighbours)]
        assert read(bench, 2, 1, "own2.h5") != pytest.approx(own, rel=0.2)
    assert after == pytest.approx(before, rel=0.1)
