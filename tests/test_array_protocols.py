"""Maps, forming, pulse trains, endurance and retention through board, line matrix and array."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import labctl
from drivers.bench import Bench
from drivers.simulation import Simulation
from labctl.analysis import plasticity
from labctl.models.array import Array1T1R
from labctl.protocol import discover
from labctl.replay import verify
from labctl.station import load_station, parse_station
from protocols.endurance import read_at

UNFORMED = parse_station(load_station("sim").text.replace("formed = true", "formed = false"), "unformed")
SMALL: dict[str, Any] = {"rows": [0, 5, 15], "columns": [0, 3]}


def run(name: str, path: Path, station: Any = "sim", seed: int = 3, **parameters: Any) -> labctl.Run:
    """Run, and hold the recording to its own re-execution."""
    with labctl.open_bench(station, seed=seed) as bench:
        recorded: labctl.Run = labctl.run(name, bench, out=path, **parameters)
        assert bench.board.status().safe
    assert verify(recorded.path).rows == sum(recorded.row_count(table) for table in recorded.tables)
    return recorded


def test_a_map_is_what_the_array_is(tmp_path: Path) -> None:
    """Through converters, gates, lines, amplifier and ranges, each cell reads as its model within read noise."""
    table = run("read_map", tmp_path / "map.h5", rows=range(16), columns=range(4)).table()
    array = Simulation(load_station("sim"), seed=3).chip.array.device  # type: ignore[attr-defined]
    exact = (array.read(0.2, 0.0, 2.5, 0.0) / 0.2).reshape(16, 4)
    measured = table["g"].reshape(16, 4)
    assert (table["status"] == "ok").all()
    error = np.abs(measured / exact - 1)  # what is left: relaxation and RTN of these few milliseconds
    assert np.median(error) < 0.02
    assert error.max() < 0.15


def test_a_map_of_an_unformed_array_says_that_nothing_can_be_resolved(tmp_path: Path) -> None:
    table = run("read_map", tmp_path / "map.h5", UNFORMED, **SMALL).table()
    assert np.isnan(table["g"][table["status"] != "ok"]).all()
    assert (np.nan_to_num(table["g"]) < 1e-8).all()


def test_forming_stops_by_itself_and_leaves_formed_cells_alone(tmp_path: Path) -> None:
    first = run("forming", tmp_path / "a.h5", UNFORMED, **SMALL)
    table, steps = first.table(), first.table("step")
    assert (table["status"] == "formed").all()
    assert (table["r"] < 50e3).all()
    assert ((table["v_form"] > 2.0) & (table["v_form"] < 4.0)).all()
    for row, column, pulses in zip(table["row"], table["column"], table["pulses"], strict=True):
        of_cell = (steps["row"] == row) & (steps["column"] == column)
        assert of_cell.sum() == pulses + 1
        assert (steps["i"][of_cell][:-1] < 0.2 / 50e3).all(), "no pulse after it conducted"
    again = run("forming", tmp_path / "b.h5", **SMALL).table()  # an array that was formed before
    assert set(again["status"]) == {"already"}
    assert (again["pulses"] == 0).all()


def test_forming_that_ends_too_early_is_named(tmp_path: Path) -> None:
    table = run("forming", tmp_path / "f.h5", UNFORMED, v_start=1.0, v_stop=1.2, **SMALL).table()
    assert set(table["status"]) == {"never"}
    assert (table["pulses"] == 5).all()


def test_forming_pulses_reach_the_selected_cell_only(tmp_path: Path) -> None:
    with labctl.open_bench(UNFORMED, seed=3) as bench:
        labctl.run("forming", bench, rows=[4], columns=[2], out=tmp_path / "f.h5")
        table = labctl.run("read_map", bench, out=tmp_path / "m.h5").table()
    conducts = np.nan_to_num(table["g"]) > 1e-6
    assert list(zip(table["row"][conducts], table["column"][conducts], strict=True)) == [(4, 2)]


def test_potentiation_raises_and_depression_lowers_the_conductance(tmp_path: Path) -> None:
    table = run("potentiation_depression", tmp_path / "pd.h5", cycles=2, n_set=60, n_reset=60).table()
    second = table["g"][table["cycle"] == 1]
    assert len(second) == 121
    assert second[60] > 1.5 * second[0]
    assert second[120] < second[60] / 1.5
    gradual = np.diff(second[:61])
    assert gradual.max() < 0.6 * (second[60] - second[0]), "more than one pulse does the work"


@pytest.mark.parametrize(("cycles", "expected"), [(1, [0]), (2, [0, 1]), (100, [0, 1, 99])])
def test_cycles_that_are_read(cycles: int, expected: list[int]) -> None:
    chosen = read_at(cycles, 10)
    assert set(expected) <= set(chosen)
    assert chosen[-1] == cycles - 1


def bias_counts(array: Array1T1R) -> np.ndarray:
    """How often each cell was biased, less the conversions of the readings, whose number depends on auto-range."""
    doses = array.doses
    return np.asarray(doses["pulses"] - doses["reads"])


def test_endurance_applies_each_pulse_once(tmp_path: Path) -> None:
    """The array's own count: no cell but the chosen one was pulsed, and that one as often as the cycles say."""
    station = load_station("sim")
    simulation = Simulation(station, seed=3)
    array: Array1T1R = simulation.chip.array  # type: ignore[assignment]
    counts = []
    for cycles in (50, 51):
        before = bias_counts(array)
        with Bench(station, simulation.board_transport(), simulation.scope_transport, seed=3) as bench:
            path = tmp_path / f"{cycles}.h5"
            recorded = labctl.run("endurance", bench, row=2, column=1, cycles=cycles, per_decade=1, out=path)
        counts.append((bias_counts(array) - before)[2, 1])
    others = array.doses["pulses"]
    others[2, 1] = 0
    assert not others.any()
    assert counts[1] - counts[0] == 2, "one more cycle is one SET and one RESET pulse more"
    table = recorded.table()
    assert table["cycle"][-1] == 50
    assert np.nanmedian(table["r_hrs"]) > 2 * np.nanmedian(table["r_lrs"])
    assert verify(recorded.path).rows == len(table["cycle"])


def test_retention_keeps_requested_and_actual_times(tmp_path: Path) -> None:
    table = run("retention", tmp_path / "r.h5", rows=[0], columns=[0, 1], times=[1e-6, 0.1, 1000.0]).table()
    assert table["scan"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    late = table["t"][2] - table["requested"][2]
    assert late > 0, "a scan that is due before the last is over is taken at once"
    assert table["t"][4] == pytest.approx(0.1, abs=0.01)
    assert table["t"][6] == pytest.approx(1000.0, abs=0.05)


def figure_of(name: str, recorded: labctl.Run) -> Figure:
    figure = Figure()
    draw = discover()[name].plot
    assert draw is not None
    draw(recorded, figure)
    return figure


def test_the_retention_plot_fits_the_drift_of_what_was_read(tmp_path: Path) -> None:
    """As many exponents as cells that were read; an open cell gets none, and a short record says so."""
    broken = parse_station(load_station("sim").text + "open = [[0, 1]]\n", "broken")
    long = run("retention", tmp_path / "r.h5", broken, times=[0.1, 1.0, 10.0, 100.0])
    assert "ν of 3 cells" in figure_of("retention", long).axes[1].get_title()
    short = run("retention", tmp_path / "s.h5", times=[0.1])
    assert "no law" in figure_of("retention", short).axes[1].get_title()


def test_the_potentiation_plot_says_how_the_update_bends_and_when_there_is_none(tmp_path: Path) -> None:
    trained = run("potentiation_depression", tmp_path / "p.h5", n_set=20, n_reset=20, cycles=2)
    axes = figure_of("potentiation_depression", trained).axes[1]
    table = trained.table()
    second = table["cycle"] == 1  # the first begins from the state that forming left
    cut = plasticity.trains(*(table[name][second] for name in ("cycle", "v", "g")))
    both = plasticity.update(cut.up, cut.down)
    assert axes.get_title() == f"asymmetry {both.asymmetry:.2f}, on/off {both.on_off:.2g}, {both.states} states"
    assert set(axes.get_legend_handles_labels()[1]) == {
        f"SET: β = {both.up.beta.value:.2g}",
        f"RESET, backwards: β = {both.down.beta.value:.2g}",
    }
    few = run("potentiation_depression", tmp_path / "f.h5", n_set=3, n_reset=0)
    assert "four pulses" in figure_of("potentiation_depression", few).axes[1].get_title().replace("\n", " ")
    broken = parse_station(load_station("sim").text + "open = [[0, 0]]\n", "broken")
    dark = run("potentiation_depression", tmp_path / "o.h5", broken, n_set=5, n_reset=5)
    assert "no update" in figure_of("potentiation_depression", dark).axes[1].get_title()


def test_retention_at_two_temperatures_gives_the_energy_of_the_loss(tmp_path: Path) -> None:
    """The picture of the second run fits both; relaxation and noise are off, so that what is lost is retention."""
    text = load_station("sim").text + "\n[simulation.effects]\nrelaxation = 0.0\nrtn = 0.0\nretention_spread = 0.1\n"
    small: dict[str, Any] = {"rows": range(4), "columns": range(4), "times": [1, 3, 10, 30, 100, 300], "loss": 0.02}
    for kelvin, compare in ((430.0, ""), (450.0, str(tmp_path / "430.0.h5"))):
        station = parse_station(text.replace("temperature = 300.0", f"temperature = {kelvin}"), "hot")
        path = tmp_path / f"{kelvin}.h5"
        recorded = run("retention", path, station, temperature=kelvin, compare=compare, **small)
    figure = figure_of("retention", recorded)
    said = figure.axes[1].get_title()
    energy = float(re.search(r"E_a = ([\d.]+)", said)[1])  # type: ignore[index]
    assert energy == pytest.approx(1.2, abs=0.15)


def test_a_wait_longer_than_the_board_holds_is_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.bench.DELAYS", 2)
    with labctl.open_bench("sim") as bench, bench.powered():
        start = bench.now()
        bench.wait(105.0)
        assert bench.now() - start == pytest.approx(105.0, abs=1e-3)
