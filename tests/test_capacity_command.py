"""`labctl capacity`: the station's own numbers, and where they come from."""

import json
from pathlib import Path
from typing import Any

import pytest

import labctl
from drivers.hardware import hardware_of
from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray
from labctl.station import load_station, parse_station
from protocols.cli import main

from .test_simulated_chip import station


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], list[str]]:
    assert main(["capacity", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {line["name"]: line["value"] for line in found["lines"]}, found["notes"]


def test_numbers_are_the_stations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with labctl.open_bench(station("open_word_lines = [0]"), seed=2) as bench:
        measured = labctl.run("read_map", bench, out=tmp_path / "map.h5", rows=[1, 2], columns=[0, 1])
    lines, notes = run(capsys, "16,4", "--window", "10m", "--rates", "100", "--measured", str(measured.path))
    assert lines["cells"] == 16 * 8
    assert lines["crossbars"] == 2
    assert lines["time per inference"] == pytest.approx(2 * 10e-3)
    g, t_spike = measured.table()["g"].mean(), 10.14e-6  # OUT at v_pw = 1.0 V
    assert lines["read, a cell"] == pytest.approx(0.2**2 * g * t_spike, rel=1e-3)
    # 16 inputs at 100 Hz in 10 ms are 16 spikes, each through 8 cells
    assert lines["inference: cells"] == pytest.approx(16 * 8 * lines["read, a cell"])
    assert any("measured, map.h5" in note for note in notes)


def test_pulses_are_those_of_the_cells() -> None:
    hardware, _ = hardware_of(load_station("sim"), seed=3)
    array = FilamentArray((16, 4), seed=3, effects=Effects())
    i = array.pulse(0.0, 2.0, 4.2, 1e-6)
    assert hardware.reset_pulse.volts == -2.0
    assert abs(hardware.reset_pulse.amps) > abs(i.mean()), "the current falls during a RESET"
    assert 20e-6 < hardware.set_pulse.amps < 2e-3
    low = parse_station(load_station("sim").text.replace("v_bcomp = 2.4", "v_bcomp = 0.9"), "low")
    assert hardware_of(low)[0].spike == 7e-9
    real = parse_station(load_station("sim").text.replace('link = "sim"', 'link = "tcp://127.0.0.1:1"', 1), "real")
    notes = hardware_of(real)[1]
    assert "write pulses are assumed" in notes
    assert any("20 µS are assumed" in note for note in notes)


def test_wrong_use_is_said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, message in (
        (["abc"], "layers 'abc' at '20' Hz are no numbers"),
        (["16"], "give two or more positive whole numbers"),
        (["16,4", "--rates", "1,2,3"], "give one rate, or 2"),
        (["16,4", "--window", "-1"], "window = -1 s is below the limit"),
        (["16,4", "--chips", "0"], "chips"),
        (["16,4", "--bench", "nowhere"], "there is no station"),
        (["16,4", "--measured", str(tmp_path / "none.h5")], "none.h5 does not exist"),
    ):
        assert main(["capacity", *arguments]) in (1, 2)
        found = capsys.readouterr().err
        assert message in found
        assert found.count("\n") == 1
