"""Numbers in bits over several cells: written, read, decoded, on good devices and on faulty ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.errors import MeasurementError, ParameterError
from labctl.replay import verify
from labctl.station import load_station, parse_station


def faulty(**cells: str) -> Any:
    lines = "".join(f"\n{name} = {value}" for name, value in cells.items())
    return parse_station(load_station("sim").text.replace("formed = true", "formed = true" + lines), "faulty")


def run(path: Path, where: Any = "sim", **parameters: Any) -> labctl.Run:
    with labctl.open_bench(where, seed=3) as bench:
        recorded: labctl.Run = labctl.run("bit_slice", bench, out=path, **parameters)
        assert bench.board.status().safe
    assert verify(recorded.path).rows == sum(recorded.row_count(table) for table in recorded.tables)
    return recorded


def test_four_devices_hold_every_number_to_fifteen(tmp_path: Path) -> None:
    recorded = run(tmp_path / "b.h5", columns=[3, 1, 0, 2])
    words, digits, devices = recorded.table(), recorded.table("digit"), recorded.table("device")
    assert words["decoded"].tolist() == words["value"].tolist() == list(range(16))
    assert not words["bit_errors"].any()
    assert devices["column"].tolist() == [3, 1, 0, 2], "the first cell holds the least significant bit"
    assert (devices["g_lrs"] > 2 * devices["g_hrs"]).all()
    assert devices["threshold"] == pytest.approx(np.sqrt(devices["g_lrs"] * devices["g_hrs"]))
    assert (digits["written"] == digits["value"] >> digits["bit"] & 1).all()
    beyond = digits["g"] / devices["threshold"][digits["bit"]]
    assert (beyond[digits["written"] == 1] > 1).all()
    assert (beyond[digits["written"] == 0] < 1).all()
    changed = np.bitwise_count(words["value"][1:] ^ words["value"][:-1])
    assert (words["pulses"][1:] >= changed).all(), "each bit that turns needs a pulse"
    assert words["pulses"].sum() < 3 * changed.sum()


def test_eight_devices_hold_a_byte(tmp_path: Path) -> None:
    words = run(tmp_path / "b.h5", rows=[2, 9], values=[255, 0, 170, 85, 224, 31]).table()
    assert words["decoded"].tolist() == [255, 0, 170, 85, 224, 31]


def test_devices_that_hold_no_bit_are_named_and_left_alone(tmp_path: Path) -> None:
    """A short reads 1, an open cell 0, a stuck one what it is; the errors are exactly the numbers that differ there."""
    station = faulty(shorted="[[0, 1]]", open="[[0, 2]]", stuck="[[0, 3]]")
    recorded = run(tmp_path / "b.h5", station)
    words, digits, devices = recorded.table(), recorded.table("digit"), recorded.table("device")
    assert devices["status"].tolist() == ["done", "shorted", "open", "stuck"]
    assert set(digits["status"][digits["bit"] == 1]) == {"shorted"}
    stuck_at = set(digits["read"][digits["bit"] == 3].tolist())
    assert len(stuck_at) == 1, "it stays as it is"
    expected = words["value"] & 1 | 2 | stuck_at.pop() << 3
    assert words["decoded"].tolist() == expected.tolist()
    assert words["error"].tolist() == (expected - words["value"]).tolist()
    assert words["bit_errors"].tolist() == np.bitwise_count(expected ^ words["value"]).tolist()
    turns = np.sum(words["value"][1:] & 1 != words["value"][:-1] & 1)
    assert turns <= words["pulses"].sum() < 3 * turns, "only the device that works is pulsed"


def test_nothing_to_write_on_is_an_error(tmp_path: Path) -> None:
    with (
        labctl.open_bench(faulty(never_forming="[[0, 0], [0, 1]]"), seed=3) as bench,
        pytest.raises(MeasurementError, match=r"no device has two states: \(0, 0\) open, \(0, 1\) open"),
    ):
        labctl.run("bit_slice", bench, out=tmp_path / "b.h5", columns=[0, 1], values=[1])
    assert labctl.load(tmp_path / "b.h5").status == "failed"


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with (
        labctl.open_bench("sim", seed=3) as bench,
        pytest.raises(ParameterError, match="16 does not fit into 4 cells of 1 bits; they take 0 … 15"),
    ):
        labctl.run("bit_slice", bench, out=tmp_path / "b.h5", values=[3, 16])
