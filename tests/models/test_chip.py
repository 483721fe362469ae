"""The chip at its pins: characterisation, network mode, composition, waves, state."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from labctl.errors import LabctlError, ParameterError, UsageError
from labctl.models.chip import Chip, open_rows
from labctl.models.device import Hold
from labctl.models.neuron import Biases, Neurons, Spikes, ldo_current, pulse_width

TYPICAL = {
    "VDD": 3.3, "VREF": 1.0, "VOPA": 2.4, "VGAIN": 2.1, "VTAUN": 1.2, "VTAUP": 1.2, "VREST": 0.6, "VTHR": 1.2,
    "VBCOMP": 2.4, "VPW": 1.0,
}  # fmt: skip


class Resistors:
    """Cells that are resistors while their gate is above 1 V; `aged` counts the seconds that passed."""

    def __init__(self, ohms: ArrayLike) -> None:
        self.g = 1.0 / np.asarray(ohms, np.float64)
        self.aged = 0.0
        self.reads = 0

    def hold(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, seconds: float) -> Any:
        self.aged += seconds
        return self._currents(wl, bl, sl)

    def repeat(self, holds: Sequence[Hold], times: int) -> bool:
        return False

    def read(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, bandwidth: float) -> Any:
        self.reads += 1
        i_bl, i_sl = self._currents(wl, bl, sl)
        return i_bl * (1 + 1e-9 * bandwidth), i_sl

    def _currents(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike) -> Any:
        i = (np.asarray(bl)[None] - np.asarray(sl)[:, None]) * self.g * (np.asarray(wl) > 1)[:, None]
        i = np.where(np.isfinite(i), i, 0.0)
        return i.sum(axis=0), -i.sum(axis=1)

    def potentials(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike) -> Any:
        on = np.asarray(wl) > 1
        v_sl = np.where(on, np.asarray(sl, np.float64), np.nan)
        g = self.g * np.isfinite(v_sl)[:, None]
        floated = (g * np.nan_to_num(v_sl)[:, None]).sum(axis=0) / np.maximum(g.sum(axis=0), 1e-30)
        v_bl = np.where(np.isnan(bl), floated, np.asarray(bl, np.float64))
        shape = self.g.shape
        return (
            np.where(on[:, None], np.broadcast_to(v_bl, shape), np.nan),
            np.where(on[:, None], np.broadcast_to(v_sl[:, None], shape), np.nan),
        )

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {"aged": np.array(self.aged)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        if "aged" not in state:
            raise UsageError("no state of resistors")
        self.aged = float(np.asarray(state["aged"], np.float64))


def powered(ohms: ArrayLike = 1e6, **changes: Any) -> Chip:
    chip = Chip(array=Resistors(np.broadcast_to(ohms, (16, 4))), **changes)
    for pin, volts in TYPICAL.items():
        chip.drive(pin, volts)
    chip.advance(0.1)  # the membranes rise to rest
    return chip


def counts(spikes: Spikes) -> list[int]:
    return [int(n) for n in np.bincount(spikes.neuron, minlength=20)]


def test_pins_and_nodes_have_the_names_of_the_chip() -> None:
    chip = powered()
    assert chip.pins[:10] == ("VDD", "VREF", "VOPA", "VGAIN", "VTAUN", "VTAUP", "VREST", "VTHR", "VBCOMP", "VPW")
    assert chip.pins[10:] == tuple(f"IN{k}" for k in range(16))
    assert {"IN19", "MEM3", "OUT16", "WL15", "BL3", "SL0"} <= set(chip.nodes)
    assert "BL4" not in chip.nodes
    assert chip.time == pytest.approx(0.1)


def test_an_input_neuron_at_its_pad_is_a_neuron_behind_its_resistance() -> None:
    """Same spikes as the model with I = (V_in − V_ref)/R, each pad with its own R."""
    r = np.geomspace(10e3, 1e6, 16)
    chip = powered(r_syn=r)
    for k in range(16):
        chip.drive(f"IN{k}", 1.4)
    spikes = chip.advance(0.2)
    model = Neurons(20, biases=Biases(v_ref=1.0), seed=0)
    expected = model.advance(0.2, np.concatenate((ldo_current(1.4, 1.0, r), np.zeros(4))))
    assert counts(spikes) == counts(expected)
    assert np.sort(spikes.t) == pytest.approx(np.sort(expected.t), abs=1e-9)


def test_a_pin_acts_from_the_moment_it_is_driven() -> None:
    chip = powered()
    chip.watch("IN3")
    chip.watch("MEM3")
    chip.watch("OUT3")
    start = chip.time
    assert not chip.advance(1e-3).t.size
    chip.drive("IN3", 3.0)
    spikes = chip.advance(1e-3)
    assert set(spikes.neuron) == {3}
    assert spikes.t[0] == pytest.approx(3.92e-6 + 3.02e-6 + 0.886 / 694e3, rel=0.05)
    now = start + 1e-3
    assert chip.wave("IN3", np.array([start, now - 1e-6, now, now + 1e-4])).tolist() == [0.0, 0.0, 3.0, 3.0]
    first = now + spikes.t[0]
    assert chip.wave("OUT3", first + np.array([-1e-8, 1e-8])).tolist() == [0.0, 3.3]
    assert chip.wave("MEM3", first - 1e-9) > 1.486
    assert chip.wave("MEM3", first + 1e-9) == 0.0
    chip.drive("VDD", 0.0)
    assert not chip.advance(1e-3).t.size
    assert chip.wave("MEM3", chip.time) == 0.0


def test_the_lines_reach_the_array() -> None:
    chip = powered(np.full((16, 4), 1e5))
    wl, bl, sl = np.zeros(16), np.full(4, np.nan), np.zeros(16)
    wl[2], bl[1] = 3.3, 0.2
    chip.lines(wl, bl, sl)
    chip.watch("BL1")
    chip.watch("SL2")
    chip.watch("BL0")
    chip.watch("WL2")
    array: Any = chip.array
    before = array.aged
    chip.advance(1e-3)
    assert array.aged == pytest.approx(before + 1e-3)
    assert chip.line_current("bl", 1) == pytest.approx(2e-6)
    assert chip.line_current("sl", 2) == pytest.approx(-2e-6)
    assert chip.line_current("sl", 3) == 0.0
    assert chip.line_current("wl", 2) == 0.0
    assert chip.read_current("bl", 1, 1e6) == pytest.approx(2e-6 * 1.001, rel=1e-9)
    bl[1] = 0.4
    chip.lines(wl, bl, sl)
    assert chip.line_current("bl", 1) == pytest.approx(4e-6)  # at once, before time passes
    chip.advance(1e-3)
    t = chip.time - np.array([1.5e-3, 0.5e-3])
    assert chip.wave("BL1", t).tolist() == [0.2, 0.4]
    assert chip.wave("WL2", t).tolist() == [3.3, 3.3]
    assert chip.wave("BL0", t).tolist() == [0.0, 0.0]  # floats, pulled to its source lines by its cells
    sl[2] = 0.3
    chip.lines(wl, bl, sl)
    assert chip.wave("BL0", chip.time) == pytest.approx(0.3)


def network(ohms: ArrayLike = 1e6, **changes: Any) -> Chip:
    chip = powered(ohms, **changes)
    chip.couple(0.4)
    return chip


def test_in_network_mode_spikes_open_rows_and_columns_are_integrated() -> None:
    """Each input spike is a read pulse of one pulse width into the output neurons: I = V_read·ΣG of the open rows."""
    ohms = np.full((16, 4), np.inf)
    ohms[0, 0], ohms[1, 0], ohms[1, 1] = 5e3, 5e3, 10e3
    chip = network(ohms)
    chip.drive("IN0", 1.5)
    chip.drive("VPW", 0.9)
    for node in ("WL0", "WL1", "SL0", "BL0", "MEM16", "IN16"):
        chip.watch(node)
    start = chip.time
    spikes = chip.advance(20e-3)
    t = spikes.t[spikes.neuron == 0]
    assert (np.diff(spikes.t) >= 0).all()
    found = spikes.t[spikes.neuron == 16]
    width = float(pulse_width(0.9))
    reference = Neurons(20, biases=Biases(v_ref=1.0, v_pw=0.9), seed=0)
    steps = np.column_stack((t, t + width)).ravel()
    current = np.tile([0.4 / 5e3, 0.0], len(t))
    inside = steps <= 20e-3
    expected = reference.advance_steps(
        20e-3, [steps[inside] if k == 16 else np.zeros(0) for k in range(20)],
        [current[inside] if k == 16 else np.zeros(0) for k in range(20)],
    ).t  # fmt: skip
    assert len(found) == len(expected) > 10
    assert np.abs(found - expected).max() < 1e-9
    assert counts(spikes)[17:] == [0, 0, 0]
    at = start + t[3] + np.array([-1e-8, 1e-8, width - 1e-8, width + 1e-8])
    assert chip.wave("WL0", at).tolist() == [0.0, 3.3, 3.3, 0.0]
    assert (chip.wave("WL1", at) == 0.0).all()
    assert chip.wave("SL0", at) == pytest.approx(1.4)
    assert chip.wave("BL0", at) == pytest.approx(1.0)
    assert chip.wave("IN16", at) == pytest.approx(1.0)
    chip.couple(None)
    chip.drive("IN0", 1.0)
    assert not chip.advance(5e-3).t[1:].size


def test_overlapping_rows_add_their_currents_each_pattern_solved_once() -> None:
    ohms = np.full((16, 4), 20e3)
    chip = network(ohms, mismatch=0.1, seed=4)
    for k in range(16):
        chip.drive(f"IN{k}", 1.6)
    array: Any = chip.array
    array.reads = 0
    spikes = chip.advance(5e-3)
    assert min(counts(spikes)[16:]) > 5
    rows = Spikes(spikes.t[spikes.neuron < 16], spikes.neuron[spikes.neuron < 16])
    times, masks = open_rows(0, np.zeros(16), chip.neurons.pulse_widths, rows, 5e-3)
    assert array.reads == len(set(masks.tolist()) - {0}) < len(times)
    sample = np.random.default_rng(0).uniform(0, 5e-3, 200)
    for at in sample:
        t_pw = chip.neurons.pulse_widths
        is_open = {int(k) for t, k in zip(*spikes, strict=True) if k < 16 and t <= at < t + t_pw[k]}
        mask = masks[np.searchsorted(times, at, side="right") - 1]
        assert {k for k in range(16) if mask >> k & 1} == is_open


def test_network_mode_does_not_depend_on_how_time_is_cut() -> None:
    def fresh() -> Chip:
        chip = network(np.geomspace(10e3, 300e3, 64).reshape(16, 4), mismatch=0.1, seed=2)
        for k in range(8):
            chip.drive(f"IN{k}", 1.2 + 0.05 * k)
        return chip

    whole = fresh().advance(10e-3)
    chip = fresh()
    lengths = [1e-3, 2.345e-3, 1e-6, 3e-3, 3.654e-3]
    parts = [chip.advance(s) for s in lengths]
    t = np.concatenate([part.t + sum(lengths[:k]) for k, part in enumerate(parts)])
    who = np.concatenate([part.neuron for part in parts])
    assert counts(Spikes(t, who)) == counts(whole)
    for k in range(20):
        assert np.abs(t[who == k] - whole.t[whole.neuron == k]).max(initial=0.0) < 1e-9


def test_a_pair_adapts_and_is_undone() -> None:
    """Fig. 7B by a pair: a constant current, a threshold that rises with each spike."""
    chip = powered(r_syn=50e3)
    chip.drive("VREF", 2.4)
    chip.drive("VTHR", 2.6)
    chip.pair(0, 1)
    chip.watch("MEM1")
    chip.drive("IN0", 3.2)
    spikes = chip.advance(20e-3)
    assert set(spikes.neuron) == {0}
    isi = np.diff(spikes.t)
    assert isi[-1] > 1.5 * isi[0]
    assert chip.wave("MEM1", chip.time) > 1.0
    chip.unpair(0)
    assert chip.neurons.biases.v_thr == 2.6
    chip.advance(5e-3)
    assert not chip.neurons.connects(np.arange(20) == 0)


def test_a_regulator_of_an_output_neuron_in_network_mode() -> None:
    """OUT16 → IN15, THR16 ← MEM15: the switch leads back to the input layer, so rows are followed edge by edge.

    With V_thr 2 V the output neuron adapts; with 0.5 V the regulator fires itself, which opens its row to column 1.
    """
    ohms = np.full((16, 4), np.inf)
    ohms[0, 0], ohms[15, 1] = 5e3, 5e3

    def regulated(v_thr: float) -> Chip:
        chip = network(ohms)
        chip.drive("IN0", 1.5)
        chip.drive("VTHR", 0.3)  # a fast row: many read pulses
        chip.advance(1e-3)
        chip.drive("VTHR", v_thr)
        chip.share([16], 15, 100e3)
        return chip

    adapting = regulated(2.0).advance(40e-3)
    t = adapting.t[adapting.neuron == 16]
    assert len(t) > 10
    assert np.diff(t)[-3:].mean() > 1.5 * np.diff(t)[:3].mean()
    assert 15 not in adapting.neuron
    firing = regulated(0.5)
    spikes = firing.advance(10e-3)
    assert (np.diff(spikes.t) >= 0).all()
    assert counts(spikes)[15] > 0
    assert counts(spikes)[17] > 0
    firing.couple(None)
    firing.drive("IN0", 1.0)
    firing.advance(5e-3)
    assert not firing.advance(10e-3).t.size
    again = regulated(0.5)
    parts = [again.advance(2.5e-3) for _ in range(4)]
    t = np.concatenate([part.t + 2.5e-3 * k for k, part in enumerate(parts)])
    assert len(t) == len(spikes.t)
    assert np.abs(t - spikes.t).max() < 1e-9


def test_state_comes_back_whole() -> None:
    def fresh() -> Chip:
        return network(np.full((16, 4), 20e3), mismatch=0.1, seed=3)

    chip = fresh()
    for k in range(4):
        chip.drive(f"IN{k}", 1.5)
    chip.share([4], 5)
    chip.advance(3e-3)
    saved = chip.state()
    expected = chip.advance(3e-3)
    other = fresh()
    other.restore(saved)
    assert other.time == pytest.approx(0.103)
    found = other.advance(3e-3)
    assert (found.t == expected.t).all()
    assert (found.neuron == expected.neuron).all()
    with pytest.raises(UsageError, match="no state of a chip of 8 × 4"):
        Chip(rows=8, array=Resistors(np.ones((8, 4)))).restore(saved)
    broken = {k: v for k, v in saved.items() if k != "array.aged"}
    before = other.state()
    with pytest.raises(UsageError, match="no state of resistors"):
        other.restore(broken)
    assert all(np.array_equal(v, before[k], equal_nan=True) for k, v in other.state().items())


def test_histories_are_kept_only_while_watched() -> None:
    chip = powered()
    with pytest.raises(UsageError, match="node 'IN0' is not watched"):
        chip.wave("IN0", np.zeros(1))
    chip.watch("OUT0")
    chip.watch("MEM0")
    chip.watch("IN0")
    chip.unwatch("OUT0")
    chip.drive("IN0", 1.5)
    chip.advance(1e-3)
    middle = chip.time
    chip.advance(1e-3)
    assert chip.wave("MEM0", chip.time - 5e-4) > -1e-3  # still watched through MEM0
    with pytest.raises(UsageError, match="not watched"):
        chip.wave("OUT0", chip.time)
    chip.forget(middle)
    with pytest.raises(UsageError, match="outside"):
        chip.wave("MEM0", middle - 1e-4)
    assert chip.wave("IN0", middle) == 1.5
    with pytest.raises(UsageError, match="outside"):
        chip.wave("IN0", chip.time + 1.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.drive("VX", 1.0), UsageError, "there is no pin 'VX'; the chip has VDD"),
        (lambda c: c.drive("VTHR", 7.0), ParameterError, "VTHR = 7 V is above the limit of 5 V"),
        (lambda c: c.drive("IN0", math.nan), ParameterError, "IN0 = nan"),
        (lambda c: c.lines(np.zeros(4), np.zeros(4), np.zeros(16)), UsageError, r"wl has shape \(4,\)"),
        (lambda c: c.lines(np.zeros(16), np.full(4, np.inf), np.zeros(16)), UsageError, "infinite voltage"),
        (lambda c: c.advance(-1.0), UsageError, "duration = -1.0 s"),
        (lambda c: c.line_current("bl", 4), UsageError, "there is no line bl4"),
        (lambda c: c.read_current("xx", 0, 1.0), UsageError, "there is no line xx0"),
        (lambda c: c.watch("MEM20"), UsageError, "there is no node 'MEM20'"),
        (lambda c: c.couple(-0.1), UsageError, "v_read = -0.1 V"),
        (lambda c: c.pair(0, 16), UsageError, "neuron 16 has no input pad"),
        (lambda c: c.share([1, 2], 2), UsageError, "cannot regulate itself"),
        (lambda c: c.pair(20, 0), UsageError, "there is no neuron 20"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_changes_nothing(call: Any, error: type[LabctlError], message: str) -> None:
    chip = powered()
    before = chip.state()
    with pytest.raises(error, match=message):
        call(chip)
    after = chip.state()
    assert all(np.array_equal(after[k], v, equal_nan=True) for k, v in before.items())


def test_a_chip_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="r_syn has shape"):
        Chip(array=Resistors(np.ones((16, 4))), r_syn=np.ones(3))
    with pytest.raises(UsageError, match="R_syn > 0"):
        Chip(array=Resistors(np.ones((16, 4))), r_syn=0.0)
    with pytest.raises(UsageError, match="0 rows"):
        Chip(rows=0, array=Resistors(np.ones((1, 4))))
    with pytest.raises(UsageError, match="sigma"):
        Chip(array=Resistors(np.ones((16, 4))), mismatch=0.9)
