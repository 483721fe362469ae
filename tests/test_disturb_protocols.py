"""Stress on the read voltage and on lines that are not selected, against the model without a bench."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.simulation import Simulation
from labctl.errors import LimitError, StationError
from labctl.station import load_station, parse_station
from tests.test_noise_protocols import QUIET, effects, run

CALM = effects(QUIET)


def alone(seed: int = 3, extra: str = CALM) -> Any:
    """The cells of the bench's chip without the bench."""
    station = parse_station(load_station("sim").text + extra, "calm")
    return Simulation(station, seed).chip.array.device  # type: ignore[attr-defined]


def test_reading_a_million_times_moves_nothing_and_stress_moves_as_the_model(tmp_path: Path) -> None:
    device, pulses = alone(), 20_000
    small: dict[str, Any] = {"rows": [0], "pulses": pulses, "per_decade": 1}
    for v, moves in ((0.2, False), (1.1, True)):
        recorded, array = run("read_disturb", tmp_path / f"{v}.h5", CALM, v_stress=v, **small)
        looks = recorded.table("look")
        assert np.unique(looks["stress"]).tolist() == [0, 1, 12, 141, 1682, 20_000]
        for row in range(len(recorded.table()["row"])):
            one = {name: column[row] for name, column in recorded.table().items()}
            change = one["g_last"] / one["g_first"] - 1
            if one["role"] == "control" or not moves:
                assert abs(change) < 2e-3
                continue
            at = np.array([one["column"]])
            before = device.read(0.2, 0.0, 2.5, 0.0, at)[0]
            device.pulse(v, 0.0, 2.5, pulses * 1e-6, at)
            assert change > 0.01
            assert change == pytest.approx(device.read(0.2, 0.0, 2.5, 0.0, at)[0] / before - 1, rel=0.2)
        given = array.doses["pulses"] - array.doses["reads"]
        assert given[0, 0] - given[0, 2] == pulses, "each stress pulse once"


@pytest.mark.parametrize("v", [2.2, -1.4])
@pytest.mark.parametrize("scheme", ["float", "v/2", "v/3"])
def test_victims_see_what_the_scheme_leaves_them(scheme: str, v: float, tmp_path: Path) -> None:
    """Each victim ends as a cell of the model that was held at its part of the voltage so long."""
    device, pulses = alone(), 3000
    recorded, _ = run(
        "half_select_disturb", tmp_path / "h.h5", CALM, scheme=scheme, v=v, v_wl=3.0, rows=[0, 1], pulses=pulses
    )
    part = {"float": 0.0, "v/2": 0.5, "v/3": 1 / 3}[scheme]
    found = recorded.table()
    for k, (row, column) in enumerate(zip(found["row"], found["column"], strict=True)):
        shares = found["shares"][k]
        at = np.array([row * 4 + column])
        before = device.read(0.2, 0.0, 2.5, 0.0, at)[0]
        if row == 0 and (shares == "itself" or part):  # the gates of the other rows are down
            bl, sl = max(v, 0.0), max(-v, 0.0)  # the transistor's gate counts from the lower of them
            bl, across = (bl, v) if shares == "itself" else (abs(v) * (part if v > 0 else 1 - part), v * part)
            assert bl - sl == pytest.approx(across)
            device.pulse(bl, sl, 3.0, pulses * 1e-6, at)
            if shares != "itself":
                assert found["v"][k] == pytest.approx(across)
        after = device.read(0.2, 0.0, 2.5, 0.0, at)[0]
        assert found["g_last"][k] / found["g_first"][k] == pytest.approx(
            after / before, rel=0.2 if shares == "itself" else 0.02
        ), shares
    row_shift = np.abs(found["g_last"] / found["g_first"] - 1)[found["shares"] == "row"]
    assert row_shift.max() > 0.01 if scheme == "v/2" else row_shift.max() < 0.01


def test_with_all_gates_up_the_column_suffers_too(tmp_path: Path) -> None:
    shift = {}
    for all_gates in (False, True):
        path = tmp_path / f"{all_gates}.h5"
        small: dict[str, Any] = {"v": -1.6, "v_wl": 3.0, "rows": range(4), "pulses": 500, "per_decade": 1}
        found = run("half_select_disturb", path, CALM, all_gates=all_gates, **small)[0].table()
        change = np.abs(found["g_last"] / found["g_first"] - 1)
        shift[all_gates] = {name: change[found["shares"] == name].max() for name in ("row", "column", "nothing")}
    assert shift[True]["row"] > 5e-3
    assert shift[True]["column"] > 5e-3
    assert shift[False]["column"] < 1e-3
    assert max(shift[True]["nothing"], shift[False]["nothing"]) < 1e-3


def test_half_selects_need_a_converter_and_keep_its_limits(tmp_path: Path) -> None:
    text = load_station("sim").text
    bare = parse_station(text.replace("BIAS_DRIVE = 45", ""), "bare")
    with labctl.open_bench(bare) as bench, pytest.raises(StationError, match="no converter to BIAS_DRIVE"):
        labctl.run("half_select_disturb", bench, out=tmp_path / "a.h5")
    low = parse_station(text.replace("v_sl = 4.5", "v_sl = 1.0"), "low")
    with labctl.open_bench(low) as bench, pytest.raises(LimitError, match=r"BIAS_DRIVE = 1\.2 V is beyond 1 V"):
        labctl.run("half_select_disturb", bench, out=tmp_path / "b.h5", v=2.4)


def test_a_short_is_not_pulsed(tmp_path: Path) -> None:
    recorded, array = run("half_select_disturb", tmp_path / "s.h5", "shorted = [[0, 0]]\n", rows=[1], pulses=10)
    found, looks = recorded.table(), recorded.table("look")
    assert found["shares"].tolist() == ["itself", "column", *["nothing"] * 3]
    assert found["status"].tolist() == ["shorted", *["done"] * 4]
    assert set(looks["pulses"].tolist()) == {0}
    assert array.doses["pulses"][0, 0] < 10
    assert array.doses["half_selects"].sum() == 0
