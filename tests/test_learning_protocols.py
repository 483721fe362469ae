"""STDP and the fit of the learning model, through the whole chain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from drivers.cell import CellPort
from labctl.errors import UsageError
from labctl.models.filament import FilamentParams
from labctl.models.parameter_file import save_params
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
