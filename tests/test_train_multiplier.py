"""One cell taught to multiply: the closed loop, what it multiplies with afterwards, and cells that learn nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.simulation import Simulation
from labctl.errors import ParameterError
from labctl.replay import verify
from labctl.station import load_station, parse_station


def run(path: Path, bench: Bench, **parameters: Any) -> labctl.Run:
    recorded: labctl.Run = labctl.run("train_multiplier", bench, out=path, **parameters)
    assert bench.board.status().safe
    assert verify(recorded.path).rows == sum(recorded.row_count(table) for table in recorded.tables)
    return recorded


@pytest.mark.parametrize(("w", "x_train"), [(0.6, 1.0), (0.3, 2.0)])
def test_the_loop_closes_and_the_cell_multiplies(w: float, x_train: float, tmp_path: Path) -> None:
    cells = {"rows": [0, 7, 12], "columns": [1, 3]}
    with labctl.open_bench("sim", seed=3) as bench:
        recorded = run(tmp_path / "t.h5", bench, w=w, x_train=x_train, x=[0.5, x_train], **cells)
    trained, steps, table, z = recorded.table("trained"), recorded.table("step"), recorded.table(), w * x_train
    assert set(trained["status"]) == {"done"}
    assert (np.abs(trained["error"]) <= 0.02).all()
    for row, column, n in zip(trained["row"], trained["column"], trained["steps"], strict=True):
        of = (steps["row"] == row) & (steps["column"] == column)
        assert steps["step"][of].tolist() == list(range(n))
        assert abs(steps["error"][of][-1]) <= 0.02
    assert ((steps["v"] > 0) == (steps["before"] < z)).all(), "potentiated where it is too small, else depressed"
    turned = steps["after"][steps["v"] > 0] - steps["before"][steps["v"] > 0]
    assert turned.mean() > 0
    assert table["z"] == pytest.approx(np.tile([0.5 * w, z], 6))
    off = (table["error"] / table["z"]).reshape(6, 2)
    assert abs(np.median(off[:, 1])) < 0.05, "relaxation and noise at the input of the training"
    if x_train * 0.2 > 0.3:
        assert (off[:, 0] < -0.1).all(), "taught at 0.4 V, a cell gives less at 0.1 V: its I–V curve bends upwards"


def test_inference_is_what_the_cell_is(tmp_path: Path) -> None:
    """Against the model's own current at each voltage, in both directions: the curve of the cell is in the products."""
    simulation = Simulation(load_station("sim"), seed=3)
    x = [-2.0, -1.0, -0.25, 0.25, 1.0, 2.0]
    with Bench(load_station("sim"), simulation.board_transport(), simulation.scope_transport, seed=3) as bench:
        recorded = run(tmp_path / "t.h5", bench, w=0.5, x=x, average=1000)
    device: Any = simulation.chip.array.device  # type: ignore[attr-defined]
    cell = np.array([0])
    exact = [
        float(device.read(max(v, 0.0), max(-v, 0.0), 2.5, 0.0, cell)[0]) / (0.2 * 100e-6) for v in np.array(x) * 0.2
    ]
    measured = recorded.table()["measured"]
    assert measured == pytest.approx(np.array(exact), rel=0.04), "what relaxed and what telegraph noise moved"
    assert exact[-1] / exact[-3] != pytest.approx(8.0, rel=0.005), "a curve it is"


def test_cells_that_learn_nothing_are_named(tmp_path: Path) -> None:
    faults = "\nshorted = [[0, 0]]\nopen = [[1, 0]]\nnever_forming = [[2, 0]]\nstuck = [[3, 0]]"
    text = load_station("sim").text.replace("formed = true", "formed = true" + faults)
    with labctl.open_bench(parse_station(text, "faulty"), seed=3) as bench:
        recorded = run(tmp_path / "t.h5", bench, rows=range(5), x=[1.0], attempts=60)
    trained, table = recorded.table("trained"), recorded.table()
    assert trained["status"].tolist()[:2] == ["shorted", "open"]
    assert trained["status"].tolist()[2] == "open", "nothing flows through a pristine cell either"
    assert trained["status"].tolist()[3:] == ["stuck", "done"]
    assert np.isnan(table["measured"][1])
    assert table["status"][1] == "below"
    assert table["measured"][0] > 3, "a short is read, and is far from what was wanted"


def test_attempts_that_are_used_up_are_said(tmp_path: Path) -> None:
    with labctl.open_bench("sim", seed=3) as bench:
        trained = run(tmp_path / "t.h5", bench, attempts=8).table("trained")
    assert trained["status"].tolist() == ["never"]
    assert trained["steps"].tolist() == [8]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"x": [1.0, 3.0]}, "x·v_unit = 600 mV is above the limit of 500 mV"),
        ({"x": [0.0]}, "x·v_unit = 0 V is below the limit of 10 mV"),
        ({"tolerance": 0.7}, "tolerance = 0.7 is not below the product z = 0.6"),
    ],
)
def test_what_cannot_be_is_said_before_a_volt(parameters: dict[str, Any], message: str, tmp_path: Path) -> None:
    with labctl.open_bench("sim", seed=3) as bench:
        with pytest.raises(ParameterError, match=message):
            labctl.run("train_multiplier", bench, out=tmp_path / "t.h5", **parameters)
        assert bench.board.status().safe
