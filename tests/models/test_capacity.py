"""The capacity calculator: counts and energies by hand, the paper's break-even, a pulse taken from a device model."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labctl.errors import UsageError
from labctl.models.capacity import Hardware, Line, Network, Pulse, capacity, table
from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.station import load_station


def found(lines: tuple[Line, ...]) -> dict[str, float]:
    return {line.name: line.value for line in lines}


def test_counts_of_a_small_network_by_hand() -> None:
    # 20 × 6 weights on 2 × 3 tiles of 16 × 4, then 6 × 3 on 1 × 2
    got = found(capacity(Hardware(chips=3), Network((20, 6, 3), window=0.1)))
    assert got["weights"] == 20 * 6 + 6 * 3
    assert got["cells"] == 2 * got["weights"]
    assert got["crossbars"] == 2 * 3 + 1 * 2
    assert got["cells in use"] == got["cells"] / (8 * 64)
    assert got["neurons"] == 29
    assert got["columns with LDO and attenuator"] == 2 * 12 + 6
    assert got["passes"] == 3
    assert math.isclose(got["time per inference"], 0.3)


def test_energies_of_one_crossbar_by_hand() -> None:
    h = Hardware(v_read=0.1, g_mean=50e-6, t_spike=20e-6, c_wl=1e-15)
    got = found(capacity(h, Network((16, 4), window=1.0, rates=(100.0, 10.0), cells_per_weight=1)))
    spikes = 16 * 100
    assert math.isclose(got["read, a cell"], 1e-2 * 50e-6 * 20e-6)
    assert math.isclose(got["inference: cells"], spikes * 4 * 1e-11)
    assert math.isclose(got["inference: word lines"], spikes * 4 * 1e-15 * 3.3**2)
    busy = 1 - math.exp(-16 * 100 * 20e-6)
    column = (1 - busy) * (10e-6 + 10e-12) + busy * (18e-6 + 20e-6)
    assert math.isclose(got["inference: LDOs, attenuators"], 4 * column, rel_tol=1e-12)
    assert math.isclose(got["inference: neurons"], 20 * 5e-6 + (spikes + 40) * 200e-12)
    parts = [value for name, value in got.items() if name.startswith("inference: ")]
    assert math.isclose(got["energy per inference"], sum(parts))
    assert math.isclose(got["energy per synaptic event"], sum(parts) / (spikes * 4))
    assert math.isclose(got["mean power"], sum(parts))


def test_a_column_cut_in_two_reads_with_the_rows_of_each_part() -> None:
    h = Hardware(rows=16, columns=4, attenuator_static=0.0, ldo_static=0.0)
    n = Network((21, 4), window=1.0, rates=(1000.0, 0.0), cells_per_weight=1)
    busy = [1 - math.exp(-rows * 1000 * 10e-6) for rows in (16, 5)]
    assert math.isclose(found(capacity(h, n))["inference: LDOs, attenuators"], 4 * sum(busy) * 38e-6, rel_tol=1e-12)


@pytest.mark.parametrize(("rate", "better"), [(700.0, "low"), (770.0, "usual")])
def test_low_comparator_bias_pays_below_733_hz(rate: float, better: str) -> None:
    n = Network((4, 4), rates=rate)
    usual, low = (found(capacity(h, n))["inference: neurons"] for h in (Hardware(), Hardware().low_bias()))
    assert (low < usual) == (better == "low")


def test_programming_takes_pulses_and_reads_of_every_cell() -> None:
    h = Hardware(set_pulse=Pulse(2, 1e-4, 1e-6), reset_pulse=Pulse(-1, 2e-4, 3e-6), pulses=10, t_verify=5e-6)
    got = found(capacity(h, Network((8, 2))))
    assert math.isclose(got["SET pulse, a cell"], 2e-10)
    assert math.isclose(got["RESET pulse, a cell"], 6e-10)
    assert math.isclose(got["programming: time"], 32 * 10 * (2e-6 + 5e-6))
    assert math.isclose(got["programming: energy"], 32 * 10 * (4e-10 + 0.04 * 20e-6 * 5e-6))


def test_the_station_gives_its_numbers_and_the_table_warns_of_the_ldo() -> None:
    station = load_station("sim")
    h = Hardware.of(station, g_mean=100e-6)
    assert (h.rows, h.columns, h.v_dd, h.i_limit) == (16, 4, 3.3, 200e-6)
    text = table(capacity(h, Network((784, 100, 10))))
    assert "ABOVE the 200 µA of an LDO: at most 10 of 16 rows at once" in text
    assert "within the 200 µA" in table(capacity(replace(h, g_mean=20e-6), Network((784, 10))))
    assert "time per inference" in text
    assert len(text.splitlines()) == 22
    with pytest.raises(UsageError, match="gmean"):
        Hardware.of(station, gmean=1e-6)


def test_a_pulse_has_the_energy_that_the_device_takes_and_leaves_it_as_it_was() -> None:
    device = FilamentArray((4, 4), params=FilamentParams().ideal(), effects=Effects.none())
    device.set_gap(1.3)
    before = device.state()
    got = Pulse.of(device, 2.0, 0.0, 2.7, 1e-6)
    assert all(np.array_equal(before[name], after) for name, after in device.state().items())
    t = np.linspace(0, 1e-6, 20001)
    current = [device.read(2.0, 0.0, 2.7, 0.0)[0]] + [device.pulse(2.0, 0.0, 2.7, 5e-11)[0] for _ in range(20000)]
    assert math.isclose(got.energy, 2.0 * np.trapezoid(current, t), rel_tol=0.01)
    assert got.seconds == 1e-6


@pytest.mark.parametrize(
    "make",
    [
        lambda: Network((784,)),
        lambda: Network((784, 0)),
        lambda: Network((4, 4), window=-1.0),
        lambda: Network((4, 4), rates=(1.0,)),
        lambda: Network((4, 4), rates=math.nan),
        lambda: Hardware(rows=0),
        lambda: Hardware(rows=1.5),  # type: ignore[arg-type]
        lambda: Hardware(g_mean=-1e-6),
        lambda: Hardware(t_spike=math.nan),
        lambda: Hardware(spike="much"),  # type: ignore[arg-type]
        lambda: Pulse(2.0, math.inf, 1e-6),
        lambda: Pulse.of(FilamentArray((1, 1)), 2.0, 0.0, 2.7, -1e-6),
    ],
)
def test_bad_numbers_are_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()
