"""Matrix–vector products: bits, sums and the parts of an error; then through board, line matrix and array."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.simulation import Simulation
from labctl.analysis.products import bit_planes, contributions, differential, product
from labctl.errors import LabctlError, StationError, UsageError
from labctl.models.crossbar import Crossbar, Wires
from labctl.replay import verify
from labctl.station import load_station, parse_station

SIM = load_station("sim").text


def station(**changes: str) -> Any:
    """The simulated one with other lines in [simulation]."""
    lines = "".join(f"\n{name} = {value}" for name, value in changes.items())
    return parse_station(SIM.replace("formed = true", "formed = true" + lines), "changed")


def run(path: Path, where: Any = "sim", **parameters: Any) -> labctl.Run:
    """Run, and hold the recording to its own re-execution."""
    with labctl.open_bench(where, seed=3) as bench:
        recorded: labctl.Run = labctl.run("mvm", bench, out=path, **parameters)
        assert bench.board.status().safe
    assert verify(recorded.path).rows == sum(recorded.row_count(table) for table in recorded.tables)
    return recorded


def parts(recorded: labctl.Run) -> dict[str, float]:
    """rms (A) of each part of the error."""
    table = recorded.table("error")
    return dict(zip(table["source"].tolist(), table["rms"].tolist(), strict=True))


def inputs(recorded: labctl.Run, rows: int = 16) -> np.ndarray:
    return np.asarray(recorded.table("input")["x"].reshape(-1, rows))


def measured(recorded: labctl.Run, outputs: int = 4) -> np.ndarray:
    """(vectors, outputs), the mean over the repeats."""
    repeats = recorded.params["repeats"]
    return np.asarray(recorded.table()["y"].reshape(-1, repeats, outputs).mean(1))


# pure --------------------------------------------------------------------------------------------------------------


def test_planes_add_up_to_the_inputs() -> None:
    x = np.array([0, 5, -3, 31, -31, 8])
    planes = bit_planes(x)
    total = np.zeros(6, int)
    for plane in planes:
        total[plane.rows] += plane.weight
    assert total.tolist() == x.tolist()
    assert sorted({plane.weight for plane in planes}) == [-16, -8, -4, -2, -1, 1, 2, 4, 8, 16]
    assert bit_planes(np.zeros(3, int)) == []
    assert [plane.weight for plane in bit_planes(np.array([4]))] == [4], "passes that open no row are left out"


def test_products_and_pairs_are_numpys() -> None:
    y = product([[1, 2]], [[1e-6, 3e-6], [2e-6, 5e-6]], v=0.3, x_max=3)
    assert y == pytest.approx(np.array([[5e-7, 13e-7]]))
    assert differential(y) == pytest.approx(np.array([[-8e-7]]))
    with pytest.raises(UsageError, match="3 columns make no pairs"):
        differential(np.zeros(3))


def test_each_part_of_an_error_is_found_again() -> None:
    """Errors of known size, put in, come out, each in its own place."""
    rng = np.random.default_rng(5)
    shape = (60, 40)  # vectors, outputs
    sizes = {"programming": 5.0, "line resistance": 3.0, "cells moved": 2.0, "read noise": 1.0, "ADC": 0.4}
    target = rng.normal(0, 100, shape)
    truth = target + rng.normal(0, sizes["programming"], shape)
    cells = truth + rng.normal(0, sizes["cells moved"], (8, *shape))
    mean = truth - rng.normal(0, sizes["line resistance"], shape)
    own = np.hypot(sizes["read noise"], sizes["ADC"])
    y = (mean + rng.normal(0, own, (10, *shape))).transpose(1, 0, 2)
    bent = {part.source: part for part in contributions(y * 0.5 + 20, cells, target, np.zeros(shape), 1000.0)}
    assert bent["calibrated"].rms == pytest.approx(np.sqrt(25 + 9 + own**2), rel=0.05), "a gain of 0.5 is taken out"
    assert bent["total"].rms > 40
    y[3, 2, 5] = np.nan  # one that could not be measured
    adc = np.full(shape, sizes["ADC"] ** 2)
    found = {part.source: part for part in contributions(y, cells, target, adc, full_scale=1000.0)}
    sizes["total"] = np.sqrt(sizes["programming"] ** 2 + sizes["line resistance"] ** 2 + own**2)
    sizes["programming"] = np.hypot(5.0, 2.0 / np.sqrt(8))  # the cells are known as well as eight readings tell
    sizes["calibrated"] = sizes["total"]
    assert set(found) == set(sizes)
    for source, size in sizes.items():
        assert found[source].rms == pytest.approx(size, rel=0.05), source
        assert found[source].bits == pytest.approx(np.log2(1000 / size / np.sqrt(12)), abs=0.08), source
    assert {part.source for part in contributions(y[:2, :1], cells[:1, :2], None, adc[:2], 1.0)} == {
        "total",
        "line resistance",
        "ADC",
    }, "what cannot be told apart is left out"
    assert contributions(np.full((2, 2, 2), np.nan), cells[:, :2, :2], None, adc[:2, :2], 1.0) == []


# through the chain -------------------------------------------------------------------------------------------------


def test_a_product_is_what_the_array_gives(tmp_path: Path) -> None:
    """Measured products against the model's own currents, and the parts of the error against each other."""
    recorded = run(tmp_path / "p.h5", vectors=6)
    array = Simulation(load_station("sim"), seed=3).chip.array.device  # type: ignore[attr-defined]
    exact = -array.read(0.0, 0.1, 2.5, 0.0).reshape(16, 4) / 0.1
    y = measured(recorded)
    expected = inputs(recorded) @ exact * 0.1 / 31
    assert np.sqrt(np.mean((y / expected - 1) ** 2)) < 0.01, "read noise and what relaxed meanwhile"
    rms = parts(recorded)
    assert rms["ADC"] < rms["read noise"] / 20, "16 bits"
    assert rms["line resistance"] < rms["cells moved"], "there is none"
    noise = recorded.table()["y"].reshape(6, 8, 4).std(1, ddof=1)
    assert rms["read noise"] == pytest.approx(np.sqrt((noise**2).mean()), rel=0.01)


def test_line_resistance_is_found_and_is_kirchhoffs(tmp_path: Path) -> None:
    """Read one by one, then all rows at once: the drop between the two is that of the crossbar model."""
    ohm = 20.0
    recorded = run(tmp_path / "p.h5", station(line_resistance=str(ohm)), vectors=2, repeats=1, bits=2, average=64)
    g = recorded.table("weight")["g"].reshape(-1, 16, 4).mean(0)
    i, j = np.indices(g.shape)
    alone = 1 / (1 / g - (i + j + 2) * ohm)  # a cell read alone has its own wires in series
    y, drops = measured(recorded), np.zeros((2, 4))
    for vector, x in enumerate(inputs(recorded)):
        for plane in bit_planes(x):
            open_rows = np.zeros((16, 1))
            open_rows[plane.rows] = 1
            wires = Wires(r_row=ohm, r_column=ohm, drive="left", sense="top")
            drops[vector] += plane.weight / 3 * Crossbar(alone * open_rows, wires).product(np.full(16, 0.1))
    ideal = product(inputs(recorded), g, 0.1, 3)
    lost = np.sqrt(np.mean((ideal - drops) ** 2))
    assert np.sqrt(np.mean((y - drops) ** 2)) < lost / 10
    rms = parts(recorded)
    assert rms["line resistance"] == pytest.approx(lost, rel=0.1)
    assert rms["total"] == pytest.approx(rms["line resistance"], rel=0.05), "at 20 Ω nothing else matters"


def test_signs_pairs_and_converters_give_the_same_product(tmp_path: Path) -> None:
    common: dict[str, Any] = {"pairs": True, "signed": True, "vectors": 6}
    serial = run(tmp_path / "a.h5", **common)
    dac = run(tmp_path / "b.h5", drive="dac", **common)
    x = inputs(serial)
    assert (x < 0).any()
    assert np.array_equal(x, inputs(dac)), "drawn from the run's seed"
    g = serial.table("weight")["g"].reshape(-1, 16, 4).mean(0)
    ideal = x @ (g[:, ::2] - g[:, 1::2]) * 0.1 / 31
    for recorded in (serial, dac):
        y = measured(recorded, 2)
        assert np.abs(y - ideal).max() < 5 * np.hypot(parts(recorded)["cells moved"], parts(recorded)["read noise"])
        assert np.corrcoef(y.ravel(), ideal.ravel())[0, 1] > 0.95


def test_inputs_targets_and_cells_come_from_files(tmp_path: Path) -> None:
    with labctl.open_bench("sim", seed=3) as bench:
        labctl.run("read_map", bench, out=tmp_path / "map.h5", v_read=0.1)
    g = labctl.load(tmp_path / "map.h5").table()["g"].reshape(16, 4)[2:8, 1:3]
    np.savetxt(tmp_path / "targets.csv", g * 1.1, delimiter=",")
    x = np.array([[7, 0, 3, 1, 0, 6], [0, 0, 0, 0, 0, 0], [1, -7, 2, 2, 2, 2]])
    np.save(tmp_path / "x.npy", x)
    files = {name: str(tmp_path / file) for name, file in (("cells", "map.h5"), ("targets", "targets.csv"))}
    recorded = run(tmp_path / "p.h5", rows=range(2, 8), columns=[1, 2], bits=3, inputs=str(tmp_path / "x.npy"), **files)
    assert recorded.row_count() == 3 * 8 * 2
    assert np.array_equal(inputs(recorded, 6), x)
    ideal = x @ g * 0.1 / 7
    assert recorded.table()["y_cells"].reshape(3, 8, 2)[:, 0] == pytest.approx(ideal)
    assert parts(recorded)["programming"] == pytest.approx(np.sqrt(np.mean((0.1 * ideal) ** 2)))
    assert "cells moved" not in parts(recorded), "nothing was read one by one"
    zero = recorded.table()["vector"] == 1
    assert (recorded.table()["y"][zero] == 0).all()
    assert set(recorded.table()["status"]) == {"ok"}


def test_a_sum_beyond_the_largest_range_is_no_value(tmp_path: Path) -> None:
    simulation = Simulation(load_station("sim"), seed=3)
    simulation.chip.array.device.set_gap(0.1, np.arange(0, 64, 4))  # type: ignore[attr-defined]  # column 0
    with Bench(load_station("sim"), simulation.board_transport(), simulation.scope_transport, seed=3) as bench:
        recorded = labctl.run("mvm", bench, out=tmp_path / "p.h5", v_read=0.5, bits=1, vectors=4)
    table = recorded.table()
    over = table["status"] == "over"
    assert over.any()
    assert set(table["output"][over]) == {0}
    assert np.isnan(table["y"][over]).all()
    assert np.isfinite(table["y"][~over]).all()
    assert np.isfinite(list(parts(recorded).values())).all()


def test_an_array_that_does_not_conduct_gives_nothing(tmp_path: Path) -> None:
    unformed = parse_station(SIM.replace("formed = true", "formed = false"), "unformed")
    recorded = run(tmp_path / "p.h5", unformed, vectors=2)
    assert set(recorded.table("weight")["status"]) == {"below"}
    assert np.isnan(recorded.table("weight")["g"]).all()
    assert set(recorded.table()["status"]) <= {"below", "ok"}
    assert np.nanmax(np.abs(recorded.table()["y"]), initial=0.0) < 5e-9, "what 16 pristine cells leak"
    assert recorded.row_count("error") == 0


def test_faulty_cells_and_lines_are_named(tmp_path: Path) -> None:
    faulty = station(shorted="[[3, 1]]", never_forming="[[2, 0]]", open="[[5, 2]]", open_bit_lines="[3]")
    recorded = run(tmp_path / "p.h5", faulty, vectors=2, repeats=2, bits=3)
    weights = recorded.table("weight")
    status = weights["status"].reshape(-1, 16, 4)[0]
    assert status[2, 0] == status[5, 2] == "below"
    assert set(status[:, 3]) == {"below"}, "nothing flows through a line that is broken"
    assert weights["g"].reshape(-1, 16, 4)[0, 3, 1] > 5e-4, "a short is a large conductance, within range"
    table = recorded.table()
    lost = table["output"] == 3
    assert set(table["status"][lost]) == {"below"}
    assert set(table["status"][~lost]) == {"ok"}
    assert table["y"][~lost] == pytest.approx(table["y_cells"][~lost], rel=0.05)
    assert np.isnan(table["y"][lost]).all()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"columns": [0, 1, 2], "pairs": True}, UsageError, "3 columns make no pairs"),
        ({"rows": [0, 16]}, UsageError, "there is no row 16; UNICO .* has rows 0 … 15"),
        ({"columns": [1, 1]}, UsageError, "column 1 is named twice"),
        ({"inputs": "x.csv"}, UsageError, "vectors of 2 inputs; this matrix has 16 rows"),
        ({"inputs": "x.csv", "rows": [0, 1], "bits": 2}, UsageError, "2 bits go up to 3"),
        ({"inputs": "half.csv", "rows": [0, 1]}, UsageError, "whole numbers"),
        ({"targets": "x.csv"}, UsageError, "1 rows × 2 columns; 16 × 4 are needed"),
        ({"cells": "none.h5"}, LabctlError, "none.h5"),
        (
            {"targets": "part.h5"},
            UsageError,
            "no table with row, column and g_target or target; it is a run of read_map",
        ),
        ({"cells": "part.h5"}, UsageError, r"part.h5 has nothing of cell \(0, 1\)"),
    ],
)
def test_what_cannot_be_is_said_before_a_volt(
    parameters: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("1,5")
    Path("half.csv").write_text("1,0.5")
    with labctl.open_bench("sim", seed=3) as bench:
        labctl.run("read_map", bench, out="part.h5", columns=[0])
    with labctl.open_bench("sim", seed=3) as bench, pytest.raises(error, match=message):
        labctl.run("mvm", bench, out=tmp_path / "p.h5", **parameters)


def test_converters_for_source_lines_must_be_wired(tmp_path: Path) -> None:
    lines = [line for line in SIM.splitlines() if not line.startswith("SL1 ")]
    with (
        labctl.open_bench(parse_station("\n".join(lines), "shared"), seed=3) as bench,
        pytest.raises(StationError, match="no converter to SL1"),
    ):
        labctl.run("mvm", bench, out=tmp_path / "p.h5", drive="dac")


def test_a_larger_chip_than_the_counters_reach(tmp_path: Path) -> None:
    """64 × 64 with sixteen pads: rows without a pad are there all the same."""
    large = parse_station(SIM.replace("rows = 16 ", "rows = 64 ").replace("columns = 4 ", "columns = 64 "), "large")
    recorded = run(tmp_path / "p.h5", large, rows=range(64), columns=[0, 63], vectors=1, repeats=2, maps=1, bits=1)
    assert recorded.table()["y"] == pytest.approx(recorded.table()["y_cells"], rel=0.02)
    assert recorded.table()["y"].min() > 1e-4
