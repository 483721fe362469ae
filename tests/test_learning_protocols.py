"""STDP and the fit of the learning model, through the whole chain."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.cell import CellPort
from labctl.analysis.fit_multilevel import fit_multilevel
from labctl.errors import LimitError, MeasurementError, UsageError
from labctl.models.filament import FilamentParams
from labctl.models.multilevel import MultilevelParams
from labctl.models.parameter_file import save_params
from labctl.station import Station, load_station, parse_station
from protocols.stdp import Shape, waveforms
from tests.test_disturb_protocols import CALM, alone
from tests.test_noise_protocols import run

SHAPE = Shape(v_post=2.0, tail_post=0.9, v_pre=1.0, tail_pre=0.6, width=10e-6, tau=50e-6)


def test_where_spikes_overlap_the_net_voltage_is_larger() -> None:
    for dt, peak in ((20e-6, 2.0 + 0.6 * np.exp(-0.2)), (-20e-6, -(1.0 + 0.9 * np.exp(-0.2)))):
        post, pre = waveforms(dt, 5e-6, SHAPE)
        net = post - pre
        assert (net.max() if dt > 0 else net.min()) == pytest.approx(peak)
        assert post[-1] == pre[-1] == 0.0
    post, pre = waveforms(0.0, 5e-6, SHAPE)
    assert (post - pre)[0] == pytest.approx(2.0 - 1.0)


def test_a_pair_does_what_its_waveforms_do_to_the_model(tmp_path: Path) -> None:
    """The same voltages on the same cell without a bench end at the same conductances, pair by pair."""
    save_params(tmp_path / "ideal.json", FilamentParams().ideal())  # no cycle is like another with spread
    ideal = f"parameters = {str(tmp_path / 'ideal.json')!r}\n" + CALM
    device, at = alone(extra=ideal), np.array([0])
    found = run("stdp", tmp_path / "s.h5", ideal, dt=[-40e-6, -10e-6, 10e-6, 40e-6], repeats=2)[0].table("pair")

    def prepare() -> None:
        device.pulse(0.0, 2.0, 4.2, 1e-6, at)
        device.pulse(2.8, 0.0, 2.0, 1e-6, at)

    def g() -> float:
        return float(device.read(0.2, 0.0, 2.5, 0.0, at)[0] / 0.2)

    prepare()
    for k, dt in enumerate(found["dt"]):
        prepare()
        assert found["g_before"][k] == pytest.approx(g(), rel=0.02)
        for post, pre in zip(*waveforms(float(dt), 5e-6, SHAPE), strict=True):
            device.pulse(1.0 + post, 1.0 + pre, 2.8, 5e-6, at)
        assert found["g_after"][k] == pytest.approx(g(), rel=0.02)


def test_the_sign_of_the_time_decides_and_distance_weakens(tmp_path: Path) -> None:
    recorded, array = run("stdp", tmp_path / "s.h5", CALM, repeats=8)
    pairs, [window] = recorded.table("pair"), [recorded.table()]
    change = {dt: float(np.median(pairs["change"][pairs["dt"] == dt])) for dt in np.unique(pairs["dt"])}
    assert change[10e-6] > 1.0 > change[40e-6] > 0.2
    assert change[-10e-6] < -0.3 < change[-160e-6]
    assert abs(change[160e-6]) < 0.05
    assert window["highest"][0] == pytest.approx(max(change.values()))
    assert window["dt_lowest"][0] < 0
    others = array.doses["pulses"].copy()
    others[0, 0] = 0
    assert not others.any(), "the other cells of the row and the column see nothing"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dt": [12e-6]}, "dt = 12 µs is no multiple of step = 5 µs"),
        ({"width": 11e-6, "dt": [10e-6]}, "width = 11 µs is no multiple"),
    ],
)
def test_times_that_the_stairs_cannot_make_are_refused(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        run("stdp", tmp_path / "s.h5", **wrong)


def test_a_level_shorter_than_an_output_change_is_refused() -> None:
    said = "a level of 500 ns is too short; an output change takes 1 µs"
    with labctl.open_bench("sim") as bench, bench.powered(), pytest.raises(UsageError, match=said):
        CellPort(bench, 0, 0).program().levels(1.0, 1.0, 2.0, 0.5e-6)


def learning(tmp_path: Path, params: MultilevelParams) -> Station:
    """A bench whose cells are the learning model, without effects."""
    save_params(tmp_path / "cells.json", params)
    text = load_station("sim").text.replace('model = "filament"', 'model = "multilevel"')
    return parse_station(text + f"parameters = {str(tmp_path / 'cells.json')!r}\n" + CALM, "learning")


def fitted(run: labctl.Run) -> dict[str, float]:
    table = run.table("parameter")
    return dict(zip(table["name"].tolist(), table["value"].tolist(), strict=True))


def test_the_fit_finds_the_numbers_of_the_cell(tmp_path: Path) -> None:
    """Through converters, lines, transistor and amplifier; and the fitted numbers are a model that can be simulated."""
    truth = MultilevelParams(beta_set=2.2, beta_reset=0.7, v_set=0.9, v_reset=1.1, v_scale=0.2, g_max=80e-6).ideal()
    with labctl.open_bench(learning(tmp_path, truth)) as bench:
        run = labctl.run("parameter_fit", bench, out=tmp_path / "p.h5", v_wl_set=4.5, v_wl_reset=4.5)
    found = fitted(run)
    for name, value in found.items():
        assert value == pytest.approx(getattr(truth, name), rel=0.02), name
    assert run.table()["r2"][0] > 0.9999
    assert run.table()["pulses"][0] == 500
    again = MultilevelParams(**found)  # type: ignore[arg-type]
    table = run.table("point")
    with labctl.open_bench(learning(tmp_path, again.ideal())) as bench:
        other = labctl.run("parameter_fit", bench, out=tmp_path / "q.h5", v_wl_set=4.5, v_wl_reset=4.5)
    np.testing.assert_allclose(other.table("point")["g"], table["g"], rtol=0.05, atol=0.5e-6)


def test_pulses_below_the_threshold_count_for_nothing(tmp_path: Path) -> None:
    truth = MultilevelParams(v_set=1.3, v_reset=1.6).ideal()
    with labctl.open_bench(learning(tmp_path, truth)) as bench:
        run = labctl.run("parameter_fit", bench, out=tmp_path / "p.h5", v_wl_set=4.5, v_wl_reset=4.5)
    assert fitted(run)["v_set"] == pytest.approx(1.3, rel=0.02)
    assert fitted(run)["v_reset"] == pytest.approx(1.6, rel=0.02)


def test_noise_of_the_cell_widens_what_is_left_not_the_numbers(tmp_path: Path) -> None:
    truth = replace(MultilevelParams().ideal(), noise=0.05)
    with labctl.open_bench(learning(tmp_path, truth)) as bench:
        run = labctl.run("parameter_fit", bench, out=tmp_path / "p.h5", columns=range(4), v_wl_set=4.5, v_wl_reset=4.5)
    table, rows = run.table("parameter"), run.table()
    assert (rows["r2"] > 0.95).all()
    assert (rows["r2"] < 0.9999).all()
    for name, tolerance in (("v_scale", 0.1), ("v_set", 0.06), ("g_max", 0.03)):
        values = table["value"][table["name"] == name]
        assert np.median(values) == pytest.approx(getattr(truth, name), rel=tolerance)


def test_a_filament_is_no_such_cell_and_the_goodness_says_so(tmp_path: Path) -> None:
    rows = run("parameter_fit", tmp_path / "p.h5")[0].table()
    assert rows["status"].tolist() == ["done"]
    assert 0.5 < rows["r2"][0] < 0.98


def test_records_that_are_no_trains_are_refused() -> None:
    nan, width, g = np.nan, np.full(4, 1e-6), [1e-6, 2e-6, 3e-6, 4e-6]
    with pytest.raises(UsageError, match="does not begin with the reading before a train"):
        fit_multilevel([1.0, 1.0, 1.0, 1.0], width, g)
    with pytest.raises(UsageError, match="a train has pulses of both signs"):
        fit_multilevel([nan, 1.0, -1.0, 1.0], width, g)
    with pytest.raises(MeasurementError, match="3 readings after pulses do not fit 7 numbers"):
        fit_multilevel([nan, 1.0, 1.2, 1.0], width, g)
    still = [nan, *[1.0] * 20, nan, *[2.0] * 20]
    with pytest.raises(MeasurementError, match="nothing moves"):
        fit_multilevel(still, np.full(42, 1e-6), np.full(42, 5e-6))


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("parameter_fit", {"amplitudes": [1.0, 4.0]}, r"BL_DRIVE = 4 V is beyond 3 V"),
        ("stdp", {"v_rest": 2.0}, r"BL_DRIVE = 4 V is beyond 3 V"),
        ("stdp", {"v_rest": 0.5}, r"is beyond 0 V|is outside the converter's"),
    ],
)
def test_a_voltage_beyond_its_limit_is_found_before_the_first_pulse(
    name: str, wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    low = parse_station(load_station("sim").text.replace("v_bl = 4.5", "v_bl = 3.0"), "low")
    with labctl.open_bench(low) as bench:
        with pytest.raises(LimitError, match=said):
            labctl.run(name, bench, out=tmp_path / "l.h5", **wrong)
        assert bench.doses.ledger.of(0, 0)["pulses"] == 0
