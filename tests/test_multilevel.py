"""Many cells to many levels, a state that is converged to, and weights on the array: through board, lines and array."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.multilevel import Curve
from drivers.simulation import Simulation
from labctl import sequence
from labctl.analysis.levels import confusion
from labctl.errors import ParameterError, UsageError
from labctl.models.array import Array1T1R
from labctl.replay import verify
from labctl.station import load_station, parse_station
from labctl.weights import LevelTable, WeightMap

BAD = "shorted = [[0, 0]]\nopen = [[0, 1]]\nstuck = [[1, 0]]\nnever_forming = [[1, 1]]\nopen_word_lines = [3]"
FAULTY = parse_station(load_station("sim").text + BAD, "faulty")


def run(name: str, path: Path, station: Any = "sim", seed: int = 5, **parameters: Any) -> labctl.Run:
    with labctl.open_bench(station, seed=seed) as bench:
        recorded: labctl.Run = labctl.run(name, bench, out=path / f"{name}.h5", **parameters)
        assert bench.board.status().safe
    return recorded


def test_cells_hold_their_levels_at_the_re_check_and_are_counted_honestly(tmp_path: Path) -> None:
    """Every cell is in its band a second after its last pulse; the array itself agrees; later they relax."""
    station = load_station("sim")
    simulation = Simulation(station, 5)
    array: Array1T1R = simulation.chip.array  # type: ignore[assignment]
    path = tmp_path / "m.h5"
    with Bench(station, simulation.board_transport(), simulation.scope_transport, seed=5) as bench:
        recorded = labctl.run("multilevel", bench, rows=range(8), levels=16, times=[20.0], rounds=20, out=path)
        given = np.array([bench.board.doses(row)[1][0, :4] for row in range(8)])  # type: ignore[index]
    cells, pulses, samples = recorded.table(), recorded.table("pulse"), recorded.table("sample")
    targets, half = np.linspace(4e-6, 128e-6, 16), 124e-6 / 30
    np.testing.assert_allclose(cells["target"], targets[cells["level"]])
    held = np.abs(cells["g_relaxed"] - cells["target"]) <= half * (1 + 1e-9)
    assert held.all()
    assert set(cells["status"]) <= {"done", "already"}
    assert (cells["t_relaxed"][cells["pulses"] > 0] >= 1.0).all(), "the re-check came a second after the last pulse"
    assert np.median(cells["t_relaxed"]) < 1.2, "and not much later"

    assert len(pulses["t"]) == cells["pulses"].sum() == given.sum(), "every pulse is logged, none but these was applied"
    for row, column, count in zip(cells["row"], cells["column"], cells["pulses"], strict=True):
        assert given[row, column] == count
        of_cell = (pulses["row"] == row) & (pulses["column"] == column)
        assert pulses["number"][of_cell].tolist() == list(range(count))
    assert cells["pulses"].mean() < 25  # the eight cells that measured the curves included

    accuracy = {time: k for k, time in enumerate(recorded.table("accuracy")["requested"].tolist())}
    table = recorded.table("accuracy")
    assert table["in_band"][accuracy[1.0]] == 1.0
    last = samples["requested"] == 20.0
    assert last.sum() == 32
    assert (samples["t"][last] >= 20.0).all()
    seen = confusion(samples["level"][last], samples["g"][last], targets)
    assert table["misread"][accuracy[20.0]] == pytest.approx(seen.misread_all.value)
    assert table["rms"][accuracy[20.0]] > table["rms"][accuracy[1.0]], "what was selected at 1 s goes on relaxing"
    exact = (array.device.read(0.2, 0.0, 2.5, 0.0) / 0.2).reshape(16, 4)[:8].ravel()
    order = np.argsort(samples["row"][last] * 4 + samples["column"][last])
    assert np.median(np.abs(samples["g"][last][order] / exact - 1)) < 0.05, "the reported conductances are the array's"
    verify(path)


def test_rounds_program_what_relaxation_moved(tmp_path: Path) -> None:
    """With one round, some cells have left the band after a second; with more, these are programmed again."""
    narrow: dict[str, Any] = {"rows": range(5), "levels": 32, "times": [2.0]}
    once = run("multilevel", tmp_path, rounds=1, **narrow)
    (tmp_path / "more").mkdir()
    often = run("multilevel", tmp_path / "more", rounds=12, **narrow)
    left = once.table()["status"] == "never"
    assert left.any()
    assert not (often.table()["status"] == "never").any()
    assert often.table()["rounds"].max() > 2
    first = once.table("accuracy")
    assert first["in_band"][0] > first["in_band"][1], "before and after relaxation"


def test_levels_come_from_a_file_and_cells_in_band_are_left_alone(tmp_path: Path) -> None:
    wanted = np.array([[0, 3], [2, 1]])
    np.save(tmp_path / "levels.npy", wanted)
    parameters: dict[str, Any] = {
        "rows": [2, 4],
        "columns": [0, 3],
        "levels": 4,
        "matrix": str(tmp_path / "levels.npy"),
        "times": [2],
    }
    with labctl.open_bench("sim", seed=5) as bench:
        first = labctl.run("multilevel", bench, out=tmp_path / "a.h5", **parameters)
        again = labctl.run("multilevel", bench, out=tmp_path / "b.h5", calibration=0, **parameters)
    assert first.table()["level"].tolist() == sorted_by_cell(first, wanted)
    assert set(again.table()["status"]) == {"already"}
    assert again.table()["pulses"].sum() == 0
    bad = np.array([[0, 4], [2, 1]])
    np.save(tmp_path / "levels.npy", bad)
    with labctl.open_bench("sim", seed=5) as bench, pytest.raises(UsageError, match="4 in row 0, column 1"):
        labctl.run("multilevel", bench, out=tmp_path / "c.h5", **parameters)


def sorted_by_cell(recorded: labctl.Run, wanted: np.ndarray) -> list[int]:
    """The levels in the order in which the cells were finished."""
    rows, columns = [2, 4], [0, 3]
    table = recorded.table()
    return [
        int(wanted[rows.index(row), columns.index(column)])
        for row, column in zip(table["row"], table["column"], strict=True)
    ]


def test_bad_cells_are_named_and_do_not_stop_the_others(tmp_path: Path) -> None:
    np.save(tmp_path / "low.npy", np.ones((5, 2)))  # far from where cells are after forming
    parameters: dict[str, Any] = {"levels": 8, "times": [2.0], "matrix": str(tmp_path / "low.npy")}
    recorded = run("multilevel", tmp_path, FAULTY, rows=range(5), columns=[0, 1], **parameters)
    table, accuracy = recorded.table(), recorded.table("accuracy")
    status = {(int(r), int(c)): s for r, c, s in zip(table["row"], table["column"], table["status"], strict=True)}
    assert status[0, 0] == "shorted"
    assert [status[cell] for cell in ((0, 1), (1, 1), (3, 0), (3, 1))] == ["open"] * 4
    assert status[1, 0] == "stuck"
    assert [status[cell] for cell in ((2, 0), (2, 1), (4, 0), (4, 1))] == ["done"] * 4
    assert table["pulses"][table["status"] == "shorted"].max() < 40
    assert accuracy["in_band"][1] == pytest.approx(0.4), "of all cells selected, faulty ones included"
    assert accuracy["rms"][1] <= 124e-6 / 14, "of the cells that respond"


def test_a_curve_learns_where_cells_are() -> None:
    curve = Curve(np.linspace(0.0, 1.0, 5), np.linspace(1.0, 2.0, 5))
    assert curve(0.375) == pytest.approx(1.375)
    for _ in range(500):
        curve.learn(0.375, 1.6)
    assert curve(0.375) == pytest.approx(1.6, abs=1e-3)
    assert curve(1.0) == 2.0, "far away nothing moves"


def test_weights_are_written_with_the_error_that_is_reported(tmp_path: Path) -> None:
    w = np.linspace(-1.5, 1.5, 12).reshape(6, 2)
    np.savetxt(tmp_path / "w.csv", w, delimiter=",")
    common: dict[str, Any] = {"weights": str(tmp_path / "w.csv"), "rows": range(6), "levels": 32, "times": [2.0]}
    recorded = run("program_weights", tmp_path, w_low=-1.0, w_high=1.0, clip=True, **common)
    table, cells, error = recorded.table(), recorded.table("cell"), recorded.table("error")
    np.testing.assert_allclose(table["w"], w.ravel(), rtol=1e-12)
    assert (table["clipped"] == (np.abs(w.ravel()) > 1.0)).all()
    assert error["clipped"].tolist() == [table["clipped"].sum()] * 2
    scale = WeightMap(LevelTable.uniform(4e-6, 128e-6, 32), -1.0, 1.0)
    g = np.zeros((6, 4))
    g[cells["row"], cells["column"]] = cells["g_relaxed"]
    np.testing.assert_allclose(table["w_read"], scale.decode(g.reshape(6, 2, 2)).ravel())
    assert error["rms"][0] == pytest.approx(np.sqrt(np.mean((table["w_read"] - table["w"]) ** 2)))
    kept = ~table["clipped"]
    assert np.abs(table["w_read"] - table["w_level"])[kept].max() < 2 * 2.1e-6 / 124e-6 * 1.01, "two bands of 2 µS"
    verify(recorded.path)

    with labctl.open_bench("sim", seed=5) as bench:
        with pytest.raises(ParameterError, match="weights are outside"):
            labctl.run("program_weights", bench, out=tmp_path / "b.h5", w_low=-1.0, w_high=1.0, **common)
        with pytest.raises(UsageError, match="pairs"):
            labctl.run("program_weights", bench, out=tmp_path / "c.h5", columns=[0, 1, 2])
        assert bench.board.status().safe


def test_unipolar_weights_use_one_cell_each(tmp_path: Path) -> None:
    parameters: dict[str, Any] = {"rows": range(3), "scheme": "unipolar", "levels": 8, "times": [2.0]}
    recorded = run("program_weights", tmp_path, **parameters)
    table = recorded.table()
    assert len(table["w"]) == len(recorded.table("cell")["g"]) == 12
    assert np.abs(table["w_read"] - table["w_level"]).max() <= (table["w"].max() - table["w"].min()) / 14 * 1.01


def test_converging_reaches_the_state_from_both_sides(tmp_path: Path) -> None:
    recorded = run("converge_to_state", tmp_path, rows=range(3), columns=range(2), r_target=10e3)
    table, pulses = recorded.table(), recorded.table("pulse")
    assert set(table["status"]) <= {"done", "already"}
    assert (np.abs(np.log(table["g"] * 10e3)) <= np.log(1.05) + 1e-9).all()
    assert len(pulses["t"]) == table["pulses"].sum()
    assert np.abs(pulses["v"]).min() == pytest.approx(0.5, abs=1e-3)
    first = pulses["number"] == 0
    assert ((pulses["v"][first] > 0) == (pulses["g_before"][first] < 1 / 10e3)).all(), "SET lowers the resistance"
    verify(recorded.path)


def test_converging_names_bad_cells(tmp_path: Path) -> None:
    short: dict[str, Any] = {"widths": [1e-4], "v_step": 0.5, "r_target": 20e3}
    table = run("converge_to_state", tmp_path, FAULTY, rows=[0, 1, 3], columns=[0, 1], **short).table()
    assert table["status"].tolist() == ["shorted", "open", "stuck", "open", "open", "open"]


def test_the_large_station_has_a_pristine_array_and_its_sequence_is_whole(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    corners: dict[str, Any] = {"rows": [0, 63], "columns": [0, 63]}
    with labctl.open_bench("sim-64x64", seed=1) as bench:
        formed = labctl.run("forming", bench, out=tmp_path / "f.h5", rows=[63], columns=[63]).table()
        seen = labctl.run("read_map", bench, out=tmp_path / "m.h5", **corners).table()
        with bench.powered():
            bench.inject(15, 50e-6)
            assert bench.count([15], 10e-3).rate(15) > 100, "its neurons with a pad work"
    assert formed["status"].tolist() == ["formed"]
    conducts = np.nan_to_num(seen["g"]) > 1e-6
    assert list(zip(seen["row"][conducts], seen["column"][conducts], strict=True)) == [(63, 63)]
    chain = sequence.read(pytestconfig.rootpath / "examples" / "multilevel_64x64.toml")
    assert [step.protocol.name for step in chain.steps] == ["forming", "multilevel", "multilevel"]
    assert [len(step.values["rows"]) for step in chain.steps] == [64] * 3  # type: ignore[arg-type]
