"""Relaxation and read noise through the whole chain, against what the simulated cells do by themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.simulation import Simulation
from labctl.analysis.noise import record_interval
from labctl.analysis.rtn import rtn
from labctl.errors import UsageError
from labctl.models.array import Array1T1R
from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray
from labctl.station import load_station, parse_station

QUIET = "relaxation = 0.0\nrtn = 0.0\nread_noise = 0.0\nretention = 0.0\n"


def run(name: str, path: Path, extra: str = "", seed: int = 3, **parameters: Any) -> tuple[labctl.Run, Array1T1R]:
    """The recording, and the array that it was made on; `extra` goes to the end of the station's file."""
    station = parse_station(load_station("sim").text + extra, "changed")
    simulation = Simulation(station, seed)
    with Bench(station, simulation.board_transport(), simulation.scope_transport, seed=seed) as bench:
        recorded = labctl.run(name, bench, out=path, **parameters)
        assert bench.board.status().safe
    return recorded, simulation.chip.array  # type: ignore[return-value]


def effects(text: str) -> str:
    return "\n[simulation.effects]\n" + text


def test_cells_relax_as_the_model_says_and_stay_where_it_says_so(tmp_path: Path) -> None:
    """σ over cells grows from decade to decade; with relaxation off in the model, nothing moves."""
    wide: dict[str, Any] = {"rows": range(16), "columns": range(4), "dense": 20, "per_decade": 3}
    calm = QUIET.replace("relaxation = 0.0\n", "")
    moving, _ = run("relaxation", tmp_path / "a.h5", effects(calm), **wide)
    still, _ = run("relaxation", tmp_path / "b.h5", effects(QUIET), **wide)
    sigma = {}
    for name, recorded in (("moving", moving), ("still", still)):
        table = recorded.table("sample")
        assert set(recorded.table()["status"]) == {"done"}
        g, t = (table[k].reshape(64, -1) for k in ("g", "t"))
        sigma[name] = (g - g[:, :1]).std(0)
        assert t[:, -1] == pytest.approx(np.full(64, 10.0), rel=0.01)
        assert (np.diff(t, axis=1) > 0).all()
        assert t[:, 0] == pytest.approx(np.full(64, 18e-6), abs=40e-6), "the first reading follows the pulse at once"
    at = [int(np.argmin(np.abs(t[0] - wanted))) for wanted in (1e-3, 1e-2, 1.0, 10.0)]
    spread = sigma["moving"][at]
    assert (np.diff(spread) > 0).all()
    model = FilamentArray((64, 64), seed=9, effects=replace(Effects(), rtn=0.0, read_noise=0.0, retention=0.0))
    model.pulse(2.0, 0.0, 2.4, 100e-6)
    before = model.read(0.2, 0.0, 2.5, 0.0) / 0.2
    model.wait(1.0)
    assert spread[2] == pytest.approx((model.read(0.2, 0.0, 2.5, 0.0) / 0.2 - before).std(), rel=0.3)
    assert sigma["still"].max() < 0.05e-6


def test_a_record_has_the_two_levels_of_its_trap(tmp_path: Path) -> None:
    """One trap a cell: the levels of the record are those that the model takes, sampled without a bench."""
    settings = effects("relaxation = 0.0\nretention = 0.0\nrtn_traps = 1\n")
    recorded, array = run("read_noise", tmp_path / "n.h5", settings, columns=range(4), samples=4000, rest=0.0)
    table, found = recorded.table("sample"), 0
    assert recorded.table()["samples"].tolist() == [4000] * 4
    for column in range(4):
        of = table["column"] == column
        g, t = table["g"][of], table["t"][of]
        assert record_interval(t, 1e-6) == pytest.approx(1e-3, rel=1e-9)
        seen = rtn(g, 1e-3)
        truth = []
        for _ in range(2000):
            array.wait(1e-2)
            truth.append(array.device.read(0.2, 0.0, 2.5, 1e6, np.array([column]))[0] / 0.2)
        low, high = np.quantile(truth, [0.02, 0.98])
        if seen.found:
            found += 1
            assert seen.level == pytest.approx([low, high], rel=2e-3)
        else:  # a trap that is too slow for 4 s, or too fast for the amplifier
            assert seen.reason
    assert found >= 1


def test_an_interval_shorter_than_a_sample_is_refused_before_anything_moves(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shorter than a sample of 64 conversions, 64 µs"):
        run("read_noise", tmp_path / "n.h5", interval=10e-6, average=64)
