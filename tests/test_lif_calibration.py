"""Calibration on chips that nobody has seen: seeds are drawn by the test, and named when it fails."""

import secrets
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl import calibration as cal
from labctl.analysis.neurons import typical
from labctl.errors import MeasurementError, ParameterError, StorageError, UsageError
from labctl.replay import verify
from labctl.station import Station, load_station, parse_station

SEED = secrets.randbelow(2**31)
BROKEN = "stuck_low = [3]\nstuck_high = [5]\nsilent = [7]\n"


def station(text: str = "") -> Station:
    """The simulated bench with 10 % mismatch, and what else the test wants of the simulation."""
    plain = load_station("sim").text
    return parse_station(plain.replace("mismatch = 0.0 ", "mismatch = 0.1 ") + text, "10 % mismatch")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> labctl.Run:
    with labctl.open_bench(station(), seed=SEED) as bench:
        return labctl.run("lif_calibrate", bench, out=tmp_path_factory.mktemp("cal") / "cal.h5")


def test_every_neuron_of_an_unknown_chip_does_what_is_asked(run: labctl.Run) -> None:
    """5 kHz at 20 µA within 3 % for each of 16 neurons, by its own threshold or by its own current."""
    check = run.table("check")
    assert check["neuron"].tolist() == list(range(16)), f"seed {SEED}"
    assert np.abs(check["rate"] / 5e3 - 1).max() < 0.03, f"seed {SEED}"
    assert np.abs(check["rate_trim"] / 5e3 - 1).max() < 0.03, f"seed {SEED}"
    before, after = check["rate_before"].std(), check["rate"].std()
    assert before > 200, f"seed {SEED}: the chip has no mismatch to speak of"
    assert after < before / 10, f"seed {SEED}"


def test_the_laws_hold_for_the_measured_periods(run: labctl.Run) -> None:
    neurons = run.table()
    assert (neurons["verdict"] == "ok").all(), f"seed {SEED}"
    assert neurons["residual"].max() < 2e-3, f"seed {SEED}"
    assert neurons["t_d"] == pytest.approx(3.92e-6, rel=0.6), f"seed {SEED}"
    assert neurons["jitter"].mean() == pytest.approx(0.03, rel=0.3), f"seed {SEED}"
    assert neurons["s_n"] == pytest.approx(50.3e-3, rel=0.01), f"seed {SEED}"
    assert neurons["s_p"] == pytest.approx(-50.3e-3, rel=0.01), f"seed {SEED}"


def test_a_calibration_is_re_executed_bit_by_bit(run: labctl.Run) -> None:
    assert verify(run.path).rows > 900


def test_it_holds_where_it_was_not_measured(run: labctl.Run, tmp_path: Path) -> None:
    """A rate at a current between those of the calibration, pulse widths and leak times, on the same chip again."""
    known = cal.from_run(run)
    path = known.save(tmp_path / "chip.json")
    with labctl.open_bench(station(), seed=SEED) as bench:
        asked = labctl.run("lif_request", bench, calibration=str(path), rate=5.5e3, i_syn=24e-6, out=tmp_path / "a.h5")
        table = asked.table()
        assert np.abs(table["error"]).max() < 0.03, f"seed {SEED}"
        assert np.ptp(table["v_thr"]) > 0.1, f"seed {SEED}"
        v_pw = known.v_pw(0, 100e-6)
        width = labctl.run("lif_pulse_width", bench, v_pw=[v_pw], out=tmp_path / "w.h5").table()["width"][0]
        assert width == pytest.approx(100e-6, rel=0.03), f"seed {SEED}"
        v_taun = known.v_taun(0, 30e-3)
        fall = labctl.run("lif_leak_down", bench, v_taun=[v_taun], out=tmp_path / "l.h5").table()["settling"][0]
        assert fall == pytest.approx(30e-3, rel=0.05), f"seed {SEED}"
        again = labctl.run("lif_request", bench, neuron=[2, 6], out=tmp_path / "b.h5")  # calibrates by itself
        assert np.abs(again.table()["error"]).max() < 0.03, f"seed {SEED}"
        assert verify(again.path).rows == 2
    with pytest.raises(ParameterError, match=r"no V_thr in .* makes 100 kHz at 20 µA"):
        known.v_thr(0, 100e3, 20e-6)


def test_broken_neurons_are_named(tmp_path: Path) -> None:
    with labctl.open_bench(station(BROKEN), seed=SEED) as bench:
        run = labctl.run("lif_calibrate", bench, neuron=range(2, 9), out=tmp_path / "cal.h5")
    verdicts = dict(zip(run.table()["neuron"].tolist(), run.table()["verdict"].tolist(), strict=True))
    expected = dict.fromkeys(range(2, 9), "ok") | {3: "stuck low", 5: "stuck high", 7: "silent"}
    assert verdicts == expected, f"seed {SEED}"
    known = cal.from_run(run)
    assert known.ok == {k: verdict == "ok" for k, verdict in expected.items()}
    with pytest.raises(MeasurementError, match=r"neuron 5 of .* is stuck high; take another one"):
        known.v_thr(5, 5e3, 20e-6)
    with pytest.raises(UsageError, match="neuron 12 is not in the calibration"):
        known.law(12)


def test_a_chip_of_which_nothing_works_is_a_result(tmp_path: Path) -> None:
    with labctl.open_bench(station("silent = [0, 1]\n"), seed=SEED) as bench:
        run = labctl.run("lif_calibrate", bench, neuron=[0, 1], out=tmp_path / "cal.h5")
    assert run.table()["verdict"].tolist() == ["silent", "silent"]
    assert len(run.table("check")["neuron"]) == 0


def test_a_neuron_that_follows_no_law_is_not_used(tmp_path: Path) -> None:
    """With a limit below what the converters' steps leave (1.3e-4), no neuron is good enough, and none is used."""
    with labctl.open_bench(station(), seed=SEED) as bench:
        run = labctl.run("lif_calibrate", bench, neuron=[0, 1], residual=2e-5, out=tmp_path / "cal.h5")
    assert run.table()["verdict"].tolist() == ["residual too large"] * 2
    assert len(run.table("check")["neuron"]) == 0
    with pytest.raises(MeasurementError, match=r"neuron 1 of .* is residual too large"):
        cal.from_run(run).v_thr(1, 5e3, 20e-6)


def test_the_file_is_found_again_by_its_key_and_refused_elsewhere(run: labctl.Run, tmp_path: Path) -> None:
    known = cal.from_run(run)
    assert cal.cached(tmp_path, known.key) is None
    known.save(cal.path_in(tmp_path, known.key))
    again = cal.cached(tmp_path, known.key)
    assert again == known
    assert known.date == run.header["created"]
    path = cal.path_in(tmp_path, known.key)
    with (
        labctl.open_bench(station(), seed=SEED + 1) as bench,
        pytest.raises(UsageError, match="another wiring or board"),
    ):
        next(iter(labctl_protocol("lif_request")(bench, calibration=str(path))))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(StorageError, match="no calibration of format"):
        cal.read(path)
    path.write_text('{"format": 1, "chip": 3}', encoding="utf-8")
    with pytest.raises(StorageError, match="is damaged"):
        cal.read(path)
    with pytest.raises(StorageError, match="cannot be read"):
        cal.read(tmp_path / "none.json")


def labctl_protocol(name: str) -> labctl.protocol.Protocol:
    return labctl.protocol.find(name)


def test_key_depends_on_chip_wiring_and_board() -> None:
    base = load_station("sim")
    keys = {
        cal.key_of(base, "board 1"),
        cal.key_of(base, "board 2"),
        cal.key_of(replace(base, converters={**base.converters, "IN0": 40}), "board 1"),
        cal.key_of(replace(base, chip=replace(base.chip, name="another")), "board 1"),
    }
    assert len(keys) == 4


def test_the_typical_neuron_is_the_papers() -> None:
    law, biases = typical(), {**load_station("sim").biases, "v_thr": 0.8}
    assert law.rate(10e-6, biases) == pytest.approx(800, rel=0.05)
    assert law.pulse_width(0.45) == pytest.approx(20e-3, rel=0.05)
