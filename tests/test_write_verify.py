"""Write-verify on the board and on the host, on good cells and bad ones; the protocols made of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.simulation import ChipPlant, Simulation
from drivers.verify import SHORT_PULSES, Band, Outcome, Ramp, Where, write_verify
from labctl.errors import LimitError, ParameterError
from labctl.models.array import Array1T1R
from labctl.replay import verify
from labctl.station import load_station, parse_station

GATE = Ramp("v_wl", 1.6, 2.4, 0.03, 3.0, 2.4, 1e-6, back=0.06, floor=1.4)
DRIVE = Ramp("v", 0.7, 2.5, 0.1, 2.5, 4.2, 1e-6, back=0.2, floor=0.5)
WIDER = Ramp("width", 1e-7, 3e-6, 2e-7, 0.95, 4.2, 1e-6)
SAME = Ramp("v", 1.2, 1.2, 0.0, 1.2, 4.2, 1e-6)
ISPP = Ramp("v", 0.8, 3.0, 0.07, 3.0, 2.1, 1e-6)


def band(target: float, half: float = 4e-6, **other: Any) -> Band:
    return Band(target - half, target + half, **({"set": GATE, "reset": DRIVE} | other))


BAD = "shorted = [[0, 0]]\nopen = [[0, 1]]\nstuck = [[0, 2]]\nnever_forming = [[0, 3]]\nopen_word_lines = [1]"


def simulated(faults: str = "") -> tuple[Bench, Array1T1R]:
    """A bench, and the array in it; `faults` go to [simulation]."""
    station = parse_station(load_station("sim").text + faults, "with faults")
    simulation = Simulation(station, 3)
    bench = Bench(station, simulation.board_transport(), simulation.scope_transport, seed=3)
    bench.begin(None, 1, bench.abort)
    array: Array1T1R = simulation.chip.array  # type: ignore[assignment]
    return bench, array


def verified(plans: list[Band], where: Where, faults: str = "") -> list[Outcome]:
    bench, _ = simulated(faults)
    with bench, bench.powered():
        return [write_verify(cell, plan, where) for plan, cell in zip(plans, cells(bench), strict=False)]


def cells(bench: Bench) -> Iterator[Any]:
    yield from bench.cells([0, 1, 2], [0, 1, 2, 3])


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"confirm": 0.0, "average": 1},
        {"reset": WIDER},
        {"reset": SAME},
        {"set": ISPP},
        {"set": ISPP._replace(back=0.2)},
        {"attempts": 7},
        {"set": GATE._replace(stop=1.7)},
    ],
)
def test_board_and_host_do_the_same_to_the_same_cells(other: dict[str, Any]) -> None:
    """Each reading, pulse, time and status, good cells and bad ones: the board's program is the host's loop."""
    plans = [band(g * 1e-6, **other) for g in (5, 20, 40, 60, 80, 100, 120, 130, 30, 50, 70, 90)]
    on_board, on_host = verified(plans, "board", BAD), verified(plans, "host", BAD)
    for board, host in zip(on_board, on_host, strict=True):
        assert repr(board) == repr(host)  # repr: NaN is NaN
    assert len({outcome.status for outcome in on_board}) > 2
    assert sum(len(outcome.pulses) for outcome in on_board) > 20


def test_a_cell_ends_in_its_band_and_is_read_twice_there() -> None:
    bench, array = simulated()
    errors = []
    with bench, bench.powered():
        for target, cell in zip(np.linspace(10e-6, 120e-6, 12), cells(bench), strict=True):
            end = write_verify(cell, band(target, confirm=5e-3))
            assert end.status in ("done", "already")
            assert abs(end.last.g - target) <= 4e-6 * (1 + 1e-3)
            number = cell.row * 4 + cell.column
            true = float(array.device.read(0.2, 0.0, 2.5, 0.0, np.array([number]))[0]) / 0.2
            errors.append(abs(end.last.g / true - 1))
            if end.pulses:
                assert end.t - end.t_pulse >= 5e-3, "the second reading came after the delay"
                assert end.pulses[-1].g_after == pytest.approx(target, abs=4e-6), "so was the first in the band"
    assert np.median(errors) < 0.05, "what is reported is the cell …"
    assert max(errors) < 0.5, "… within RTN"


def test_every_pulse_is_in_the_rows_and_moves_the_cell_its_way() -> None:
    """As many rows as the board counted, in order; SET pulses below the band, RESET pulses above it."""
    bench, _ = simulated()
    with bench, bench.powered():
        for target, cell in zip(np.linspace(10e-6, 120e-6, 12), cells(bench), strict=True):
            before = counted(bench, cell)
            end = write_verify(cell, band(target))
            assert counted(bench, cell) - before == len(end.pulses)
            assert [pulse.number for pulse in end.pulses] == list(range(len(end.pulses)))
            for pulse in end.pulses:
                assert (pulse.v > 0) == (pulse.g_before < target - 4e-6)
                assert (pulse.v < 0) == (pulse.g_before > target + 4e-6)
            times = [pulse.t for pulse in end.pulses]
            assert times == sorted(set(times))


def counted(bench: Bench, cell: Any) -> int:
    counts = bench.board.doses(cell.row)
    assert counts is not None
    return int(counts[1][0, cell.column])


def test_ramps_begin_and_end_where_they_say_and_go_back_when_the_polarity_turns() -> None:
    """SET alone cannot reach 1 mS: the gate goes from start to stop, both included, and the ramp's end is the end."""
    far = Band(1e-3, 1.1e-3, GATE._replace(step=0.3), DRIVE, r_short=500.0)
    [end] = verified([far], "board")
    assert end.status == "never"
    assert [pulse.v_wl for pulse in end.pulses] == pytest.approx([1.6, 1.9, 2.2, 2.4], abs=1e-4)
    assert [pulse.v for pulse in end.pulses] == pytest.approx([3.0] * 4, abs=1e-4)
    [end] = verified([far._replace(set=SAME, attempts=6)], "board")
    assert [pulse.v for pulse in end.pulses] == pytest.approx([1.2] * 6, abs=1e-4)

    turning = [band(g * 1e-6, half=1e-6, attempts=60) for g in (70, 80, 90, 60, 50, 40)]
    turns = 0
    for end in verified(turning, "board"):
        last = {1: GATE.start + 0.06, -1: DRIVE.start + 0.2}
        sign = 0
        for pulse in end.pulses:
            now, ramp = (pulse.v_wl, GATE) if pulse.v > 0 else (-pulse.v, DRIVE)
            same = pulse.v * sign > 0
            back, floor = ramp.back or 0.0, ramp.floor or 0.0
            expected = min(last[int(np.sign(pulse.v))] + ramp.step, ramp.stop) if same else max(
                last[int(np.sign(pulse.v))] - back, floor
            )  # fmt: skip
            assert now == pytest.approx(expected, abs=2e-3)
            turns += sign != 0 and not same
            sign = int(np.sign(pulse.v))
            last[sign] = now
    assert turns > 5


def test_a_cell_in_its_band_gets_no_pulse() -> None:
    bench, _ = simulated()
    with bench, bench.powered():
        for cell in cells(bench):
            [now] = cell.program().read(0.2, 2.5).run()
            end = write_verify(cell, band(now.g, half=0.2 * now.g))
            assert end.status == "already"
            assert counted(bench, cell) == 0


def test_bad_cells_are_named_after_few_pulses() -> None:
    ends = verified([band(60e-6)] * 9, "board", BAD)
    assert [end.status for end in ends] == ["shorted", "open", "stuck", "open", *["open"] * 4, "done"]
    assert len(ends[0].pulses) == SHORT_PULSES
    assert all(pulse.v < 0 for pulse in ends[0].pulses), "a short is not SET"
    assert all(pulse.v > 0 for pulse in ends[1].pulses), "high resistance is not RESET"


@pytest.mark.parametrize("where", ["board", "host"])
def test_readings_that_are_no_resistance_end_it(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative current never leads to a pulse; beyond the range only RESET is tried, and not for long."""
    wrong = -5e-6
    monkeypatch.setattr(ChipPlant, "current", lambda self, kind, line, bandwidth: wrong)
    [end] = verified([band(60e-6)], where)
    assert (end.status, end.pulses) == ("negative", ())
    wrong = 5e-3
    [end] = verified([band(60e-6)], where)
    assert (end.status, end.last.status, len(end.pulses)) == ("shorted", "over", SHORT_PULSES)
    assert all(np.isnan(pulse.g_after) for pulse in end.pulses), "beyond the range is no conductance"


def test_nothing_is_applied_when_a_ramp_leaves_the_limits_or_is_none() -> None:
    bench, _ = simulated()
    with bench, bench.powered(), bench.cell(0, 0) as cell:
        with pytest.raises(LimitError, match=r"4\.6 V"):
            write_verify(cell, band(60e-6, set=GATE._replace(stop=4.6)))
        with pytest.raises(ParameterError, match="start"):
            write_verify(cell, band(60e-6, set=GATE._replace(start=2.5)))
        with pytest.raises(ParameterError, match="band"):
            write_verify(cell, band(60e-6, half=-1e-6))
        with pytest.raises(ParameterError, match="shorted"):
            write_verify(cell, band(500e-6))
        assert counted(bench, cell) == 0


@pytest.mark.parametrize("method", ["igvva", "ispp", "ping_pong"])
def test_each_method_programs_cells(method: str, tmp_path: Path) -> None:
    with labctl.open_bench("sim", seed=3) as bench:
        run = labctl.run("program_verify", bench, out=tmp_path / "p.h5", rows=range(4), method=method)
        again = labctl.run("program_verify", bench, out=tmp_path / "q.h5", rows=range(4), method=method, tolerance=0.3)
    table, pulses = run.table(), run.table("pulse")
    done = np.isin(table["status"], ["done", "already"])
    assert done.mean() >= 13 / 16
    assert (np.abs(table["g"][done] * 15e3 - 1) <= 0.05 * (1 + 1e-3)).all()
    assert len(pulses["t"]) == table["pulses"].sum()
    assert set(again.table()["status"][done]) == {"already"}, "programmed cells stay, but for relaxation"
    verify(run.path)
