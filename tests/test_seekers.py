"""Pulses, cut-off sweeps and the seekers, through board, line matrix and array."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.errors import UsageError
from protocols.iv_sweep import loop


def table(name: str, path: Path, seed: int = 2, **parameters: Any) -> labctl.Run:
    with labctl.open_bench("sim", seed=seed) as bench:
        run: labctl.Run = labctl.run(name, bench, out=path / f"{name}.h5", **parameters)
        assert bench.board.status().safe
    return run


def test_each_pulse_is_given_once_and_the_sign_says_which_way(tmp_path: Path) -> None:
    with labctl.open_bench("sim", seed=2) as bench:
        down = labctl.run("pulse", bench, rows=[1, 3], v=-1.2, v_wl=2.8, n=4, out=tmp_path / "down.h5").table()
        up = labctl.run("pulse", bench, rows=[1, 3], v=2.0, v_wl=2.0, n=700, out=tmp_path / "up.h5").table()
        assert [bench.doses.ledger.of(row, 0)["pulses"] for row in (0, 1, 3)] == [0, 704, 704]
    assert down["pulse"].tolist() == [0, 1, 2, 3, 4] * 2
    assert up["pulse"].tolist() == list(range(701)) * 2, "also where a train is more than the board's memory holds"
    assert (down["g"].reshape(2, 5)[:, -1] < 0.5 * down["g"].reshape(2, 5)[:, 0]).all(), "RESET"
    assert (up["g"].reshape(2, 701)[:, -1] > 2 * up["g"].reshape(2, 701)[:, 0]).all(), "SET"


@pytest.mark.parametrize("mode", ["staircase", "pulsed"])
def test_a_cut_off_turns_each_half_back(mode: str, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"i_set": 60e-6, "i_reset": 90e-6}
    cut = table("iv_sweep", tmp_path, points=100, cycles=2, mode=mode, **limits).table()
    whole = loop(2.5, -1.8, 100)
    for cycle in (0, 1):
        v, i = (cut[name][cut["cycle"] == cycle] for name in ("v", "i"))
        assert len(v) < len(whole)
        for sign, limit in ((1, limits["i_set"]), (-1, limits["i_reset"])):
            half = sign * v > 0
            over = np.abs(i[half]) >= limit
            assert over.sum() <= 2, "the point that reached it and the same voltage on the way back"
            assert over.any()
            side = v[half]
            np.testing.assert_array_equal(side, side[::-1], "out and back at the same voltages")
        assert set(v.tolist()) <= set(whole)


def test_a_cut_off_needs_a_loop_that_fits_the_board(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="up to 1000 points"):
        table("iv_sweep", tmp_path, points=2000, i_set=1e-4)


def test_pulsed_and_staircase_sweeps_find_the_same_cell(tmp_path: Path) -> None:
    """What the cell carries at small voltages does not depend on how one goes there."""
    small: dict[str, Any] = {"v_set": 0.2, "v_reset": -0.2, "points": 16, "v_wl": 2.5}
    runs = []
    for mode in ("staircase", "pulsed"):
        (tmp_path / mode).mkdir()
        runs.append(table("iv_sweep", tmp_path / mode, mode=mode, **small).table())
    np.testing.assert_array_equal(runs[0]["v"], runs[1]["v"])
    far = np.abs(runs[0]["v"]) > 0.05
    np.testing.assert_allclose(runs[1]["i"][far], runs[0]["i"][far], rtol=0.03)
    assert runs[1]["t"][-1] - runs[1]["t"][0] > 1.4 * (runs[0]["t"][-1] - runs[0]["t"][0]), "it rests in between"


def test_the_switch_seeker_finds_voltages_that_switch(tmp_path: Path) -> None:
    """SET up, RESET down, in turn, at voltages where recorded arrays switch."""
    run = table("switch_seeker", tmp_path, rows=[0, 1, 2], columns=[0, 1], switches=6)
    cells, events = run.table(), run.table("switch")
    assert set(cells["status"]) == {"done"}
    assert (cells["switches"] == 6).all()
    assert (np.diff(np.sign(events["v"]).reshape(6, 6), axis=1) != 0).all(), "they alternate"
    up = events["v"] > 0
    assert (events["g_after"][up] > 1.5 * events["g_before"][up]).all()
    assert (events["g_after"][~up] < events["g_before"][~up] / 1.5).all()
    assert ((events["v"][up] > 1.2) & (events["v"][up] < 2.6)).all(), "SETs of the recorded arrays: 1.2 … 2.6 V"


def test_the_state_seeker_counts_what_can_be_told_apart(tmp_path: Path) -> None:
    run = table("state_seeker", tmp_path, rows=[0, 1], columns=[1], hold=0.1)
    cells, states = run.table(), run.table("state")
    assert set(cells["status"]) == {"done"}
    assert (cells["states_held"] <= cells["states"]).all()
    assert (cells["states_held"] >= 4).all(), "two bits at least"
    strict = table("state_seeker", tmp_path / "strict", rows=[0, 1], columns=[1], hold=0.1, k=10.0).table()
    assert (strict["states"] <= cells["states"]).all(), "the same readings with wider intervals"
    rises = states["v_wl"] > 1.9
    assert np.corrcoef(states["v_wl"][rises], states["g"][rises])[0, 1] > 0.7
