"""Station files: what is wrong is said with file, key and value."""

from pathlib import Path

import pytest

from labctl.errors import StationError
from labctl.station import load_station, parse_station

GOOD = load_station("sim").text


def test_the_built_in_station_describes_the_whole_chip() -> None:
    station = load_station("sim")
    assert (station.chip.rows, station.chip.columns, station.chip.neurons) == (16, 4, 16)
    assert station.biases["v_thr"] == 1.2
    assert station.converter("IN15") == 25
    assert station.probe("MEM0") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "sim"', ""), "name is missing"),
        (("rows = 16", 'rows = "many"'), "chip.rows = 'many' is of the wrong type"),
        (("rows = 16", "rows = 16\ncolour = 3"), "chip.colour is not known here"),
        (("VREF = 1", "VREF = 0"), "converter 0 is wired to both VDD and VREF"),
        (("VREF = 1", "VREF = 300"), "converters.VREF = 300"),
        (("r_syn = 10e3", "r_syn = [1e4, 2e4]"), "one positive resistance, or 16"),
        (("[limits]", "[limits"), "is no TOML"),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(StationError, match=f"station bad.toml.*{message}"):
        parse_station(GOOD.replace(*change, 1), "bad.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"none.toml cannot be read"):
        load_station(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StationError, match="cannot be read"):
        load_station(str(tmp_path / "binary.toml"))
    with pytest.raises(StationError, match=r"there is no station 'nowhere'"):
        load_station("nowhere")


def test_what_is_not_wired_is_said() -> None:
    station = load_station("sim")
    with pytest.raises(StationError, match="wires no converter to VXX"):
        station.converter("VXX")
    with pytest.raises(StationError, match="no scope probe on MEM9"):
        station.probe("MEM9")
