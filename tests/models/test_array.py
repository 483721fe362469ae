"""The 1T1R array: which cells a bias touches, what the drivers see, floating lines, drops, doses, state."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.array import Array1T1R
from labctl.models.array_network import G_LEAK
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray, FilamentParams

V_T = 0.7


class Cubic:
    """Cells of g·(V + k·V³) behind an ideal switch at V_WL > V_T.

    A pulse makes g grow at the rate growth·V; the noise is 1 % a hertz.
    """

    def __init__(self, g: ArrayLike, k: float = 0.0, growth: float = 0.0) -> None:
        self.g = np.array(g, np.float64)
        self.k, self.growth, self.clock = k, growth, 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.g.shape

    def _current(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, cells: Cells) -> FloatArray:
        g = self.g.ravel() if cells is None else self.g.ravel()[cells]
        v = np.asarray(v_bl, np.float64) - np.asarray(v_sl, np.float64)
        i: FloatArray = g * (v + self.k * v**3) * (np.asarray(v_wl) > V_T)
        return i

    def pulse(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: float, cells: Cells = None) -> FloatArray:
        select = slice(None) if cells is None else cells
        self.g.ravel()[select] *= np.exp(self.growth * width * (np.asarray(v_bl) - np.asarray(v_sl)))
        return self._current(v_bl, v_sl, v_wl, cells)

    def waveform(
        self, t: ArrayLike, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, cells: Cells = None
    ) -> FloatArray:
        raise NotImplementedError

    def read(
        self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, bandwidth: float, cells: Cells = None
    ) -> FloatArray:
        return self._current(v_bl, v_sl, v_wl, cells) * (1 + 0.01 * bandwidth)

    def wait(self, seconds: float, temperature: float | None = None) -> None:
        self.clock += seconds

    def state(self) -> dict[str, NDArray[np.generic]]:
        return {"g": self.g.copy()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        if state["g"].shape != self.g.shape:
            raise UsageError("wrong shape")
        self.g = np.array(state["g"], np.float64)


def conductances(rows: int, columns: int, seed: int = 0) -> FloatArray:
    return 10.0 ** np.random.default_rng(seed).uniform(-6, -3.7, (rows, columns))


def lines(n: int, default: float = 0.0, **levels: float) -> FloatArray:
    v = np.full(n, default)
    for name, level in levels.items():
        v[int(name[1:])] = level
    return v


def test_a_selected_cell_gives_its_current_to_both_its_drivers_and_no_other() -> None:
    g = conductances(5, 4)
    array = Array1T1R(Cubic(g))
    i_bl, i_sl = array.hold(lines(5, _2=1.5), lines(4, _1=0.2), np.zeros(5), 1e-6)
    np.testing.assert_allclose(i_bl, lines(4, _1=0.2 * g[2, 1]), rtol=1e-14)
    np.testing.assert_allclose(i_sl, lines(5, _2=-0.2 * g[2, 1]), rtol=1e-14)
    assert array.doses["pulses"].sum() == array.doses["pulses"][2, 1] == 1
    assert array.doses["half_selects"].sum() == array.doses["reads"].sum() == 0


def test_columns_add_the_open_rows_only() -> None:
    g = conductances(6, 3)
    wl = np.array([1.5, 0, 1.5, 0.1, np.nan, 1.5])
    bl = np.array([0.3, 0.1, 0.0])
    i_bl, i_sl = Array1T1R(Cubic(g, k=2.0)).read(wl, bl, np.zeros(6), 0.0)
    expected = g[[0, 2, 5]].sum(0) * (bl + 2 * bl**3)
    np.testing.assert_allclose(i_bl, expected, rtol=1e-13)
    assert math.isclose(i_bl.sum(), -i_sl.sum(), rel_tol=1e-13)
    assert not i_sl[[1, 3, 4]].any()


def test_half_selected_cells_move_and_are_counted_apart() -> None:
    device = Cubic(conductances(4, 4), growth=1e3)
    before = device.g.copy()
    array = Array1T1R(device)
    array.hold(lines(4, _1=2.0), lines(4, 0.5, _2=1.0), np.zeros(4), 1e-3)  # V/2 on the row's other cells
    moved = np.zeros((4, 4), bool)
    moved[1] = True
    np.testing.assert_array_equal(device.g != before, moved)
    assert array.doses["pulses"][1, 2] == 1
    np.testing.assert_array_equal(array.doses["half_selects"][1], [1, 1, 0, 1])
    np.testing.assert_allclose(device.g[1, 0] / before[1, 0], math.exp(0.5), rtol=1e-12)


def test_reading_moves_nothing_but_the_count_of_reads() -> None:
    device = Cubic(conductances(4, 4), growth=1e3)
    before = device.g.copy()
    array = Array1T1R(device)
    quiet = array.read(np.full(4, 2.0), np.full(4, 0.2), np.zeros(4), 0.0)[0]
    noisy = array.read(np.full(4, 2.0), np.full(4, 0.2), np.zeros(4), 3.0)[0]
    np.testing.assert_allclose(noisy, quiet * 1.03, rtol=1e-12)
    np.testing.assert_array_equal(device.g, before)
    assert (array.doses["reads"] == 2).all()


def test_zero_seconds_tell_the_current_and_count_nothing() -> None:
    array = Array1T1R(Cubic(conductances(3, 3), growth=1e3))
    i_bl, _ = array.hold(np.full(3, 2.0), np.full(3, 0.2), np.zeros(3), 0.0)
    np.testing.assert_allclose(i_bl, 0.2 * array.device.read(1, 0, 2, 0).reshape(3, 3).sum(0), rtol=1e-12)
    assert not any(count.any() for count in array.doses.values())


def test_a_floating_bit_line_settles_where_its_currents_cancel() -> None:
    g = np.array([[1e-4, 2e-5], [3e-5, 5e-5]])
    # both rows open, bit line 0 floats between source lines at 0.4 and 0 V
    array = Array1T1R(Cubic(g))
    args = np.full(2, 2.0), np.array([np.nan, 0.0]), np.array([0.4, 0.0])
    i_bl, i_sl = array.hold(*args, 1e-6)
    middle = 0.4 * g[0, 0] / (g[0, 0] + g[1, 0])
    np.testing.assert_allclose(array.potentials(*args)[0][:, 0], middle, rtol=1e-8)
    assert i_bl[0] == 0
    np.testing.assert_allclose(i_bl[1], -0.4 * g[0, 1], rtol=1e-8)
    np.testing.assert_allclose(i_sl, [(0.4 - middle) * g[0, 0] + 0.4 * g[0, 1], -middle * g[1, 0]], rtol=1e-8)


def test_a_floating_line_with_one_open_cell_or_none_carries_nothing() -> None:
    array = Array1T1R(Cubic(conductances(3, 3)))
    bl = np.array([np.nan, 0.2, np.nan])
    i_bl, _ = array.hold(lines(3, _1=2.0), bl, np.zeros(3), 1e-6)
    np.testing.assert_array_equal(i_bl != 0, [False, True, False])
    assert array.doses["pulses"].sum() == 1
    i_bl, i_sl = array.hold(np.zeros(3), bl, np.zeros(3), 1e-6)
    assert not i_bl.any()
    assert not i_sl.any()


def test_an_island_that_nothing_drives_is_at_ground() -> None:
    array = Array1T1R(Cubic(conductances(2, 2)))
    args = np.full(2, 2.0), np.full(2, np.nan), np.full(2, np.nan)
    assert not array.hold(*args, 1e-6)[0].any()
    assert np.abs(array.potentials(*args)).max() < 1e-12


def dense_currents(
    g: FloatArray, wl: FloatArray, bl: FloatArray, sl: FloatArray, r_bl: float, r_sl: float
) -> FloatArray:
    """Bit line driver currents by writing down every node of the whole array, off cells included."""
    m, n = g.shape
    size = 2 * m * n
    a, b = np.zeros((size, size)), np.zeros(size)
    top, low = np.arange(m * n).reshape(m, n), np.arange(m * n, size).reshape(m, n)

    def join(i: int, j: int, conductance: float) -> None:
        a[i, i] += conductance
        a[j, j] += conductance
        a[i, j] -= conductance
        a[j, i] -= conductance

    for r in range(m):
        for c in range(n):
            join(top[r, c], low[r, c], g[r, c] * (wl[r] > V_T) + 1e-30)
            for node, ahead, r_line, volts, leak in (
                (top[r, c], top[r - 1, c] if r else -1, r_bl, bl[c], True),
                (low[r, c], low[r, c - 1] if c else -1, r_sl, sl[r], True),
            ):
                if np.isnan(volts) and leak:
                    a[node, node] += G_LEAK
                if ahead >= 0:
                    join(node, ahead, 1 / r_line)
                elif not np.isnan(volts):
                    a[node, node] += 1 / r_line
                    b[node] += volts / r_line
    v = np.linalg.solve(a, b)
    return np.where(np.isnan(bl), 0, (np.nan_to_num(bl) - v[top[0]]) / r_bl)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_line_drops_agree_with_every_node_written_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 7, 2)
    g = conductances(m, n, seed)
    wl = rng.choice([0.0, 2.0], m)
    bl, sl = rng.choice([0.0, 0.3, -0.2, np.nan], n), rng.choice([0.0, 0.1, np.nan], m, p=[0.6, 0.2, 0.2])
    r = tuple(rng.uniform(0.5, 50, 2))
    i_bl, i_sl = Array1T1R(Cubic(g), line_resistance=r).read(wl, bl, sl, 0.0)
    exact = dense_currents(g, wl, bl, sl, *r)
    np.testing.assert_allclose(i_bl, exact, rtol=1e-6, atol=2e-12)
    assert abs(i_bl.sum() + i_sl.sum()) < 1e-6 * np.abs(i_bl).max() + 1e-12


def test_one_cell_behind_its_wires_is_a_series_resistance() -> None:
    g = conductances(8, 8)
    for resistance, series in (((3.0, 5.0), 6 * 3.0 + 4 * 5.0), ((0.0, 5.0), 4 * 5.0), ((3.0, 0.0), 6 * 3.0)):
        array = Array1T1R(Cubic(g), line_resistance=resistance)
        bl = np.full(8, np.nan)
        bl[3] = 0.2
        i_bl, _ = array.read(lines(8, _5=2.0), bl, np.zeros(8), 0.0)
        assert math.isclose(i_bl[3], 0.2 / (1 / g[5, 3] + series), rel_tol=1e-9)


def test_nonlinear_cells_obey_kirchhoff_at_every_node() -> None:
    g, k, r = conductances(6, 5), 30.0, 40.0
    array = Array1T1R(Cubic(g, k=k), line_resistance=r)
    args = np.full(6, 2.0), np.array([1.5, 0.0, np.nan, 0.7, -1.0]), np.zeros(6)
    top, low = array.potentials(*args)
    v = top - low
    cell = g * (v + k * v**3)
    along_bl = np.diff(np.vstack([args[1], top]), axis=0) / -r  # into each node from above
    along_bl[0, 2] = 0  # no driver
    after = np.vstack([along_bl[1:], np.zeros(5)])
    np.testing.assert_allclose(along_bl - after, cell, atol=1e-6 * np.abs(cell).max())
    i_bl, i_sl = array.read(*args, 0.0)
    np.testing.assert_allclose(i_bl, cell.sum(0) * ~np.isnan(args[1]), atol=1e-6 * np.abs(i_bl).max())
    np.testing.assert_allclose(-i_sl, cell.sum(1), atol=1e-6 * np.abs(i_sl).max())


def test_a_pulse_follows_the_drop_while_the_cell_changes() -> None:
    # dg/dt = a·g·V/(1 + 2·r·g) gives ln(g/g0) + 2·r·(g − g0) = a·V·t exactly
    g0, a, r, v, t = 2e-5, 1e3, 50.0, 1.0, 2e-3
    device = Cubic([[g0]], growth=a)
    Array1T1R(device, line_resistance=r).hold([2.0], [v], [0.0], t)
    g = device.g[0, 0]
    assert abs((math.log(g / g0) + 2 * r * (g - g0)) / (a * v * t) - 1) < 2e-4
    assert math.log(g / g0) / (a * v * t) < 0.995  # without the drop it would be 1
    single = Cubic([[g0]], growth=a)
    Array1T1R(single, line_resistance=r, resolution=math.inf).hold([2.0], [v], [0.0], t)
    assert math.isclose(math.log(single.g[0, 0] / g0), a * t * v / (1 + 2 * r * g0), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("gap", "wl", "bl", "sl", "width"),
    [(1.3, 2.7, 2.0, 0.0, 1e-7), (1.3, 2.7, 2.0, 0.0, 1e-6), (0.2, 3.5, 0.0, 1.25, 2e-7)],
)
def test_a_filament_at_the_far_corner_switches_as_in_finer_steps(
    gap: float, wl: float, bl: float, sl: float, width: float
) -> None:
    found = []
    for resistance, resolution in ((2.5, 5e-3), (2.5, 2e-4), (0.0, 5e-3)):
        device = FilamentArray((64, 64), params=FilamentParams().ideal(), effects=Effects.none())
        device.set_gap(gap)
        array = Array1T1R(device, line_resistance=resistance, resolution=resolution)
        array.hold(lines(64, _63=wl), lines(64, math.nan, _63=bl), lines(64, _63=sl), width)
        found.append(0.2 / device.read(0.2, 0.0, 3.5, 0.0, np.array([64 * 64 - 1]))[0])
    assert abs(found[0] / found[1] - 1) < 0.01
    assert width == 1e-6 or abs(found[2] / found[1] - 1) > 0.05  # the drop matters until the gate ends the SET


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_bias_of_physical_cells_settles_and_obeys_kirchhoff(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = (int(k) for k in rng.integers(2, 9, 2))
    device = FilamentArray((m, n), seed=seed % 1000, formed=bool(rng.random() < 0.8))
    if rng.random() < 0.7:
        device.set_gap(rng.uniform(0.1, 2.2, m * n))
    array = Array1T1R(device, line_resistance=float(rng.choice([0.0, 2.0, 50.0])))
    wl = rng.choice([0, 1.2, 2.0, 3.5, 4.5], m)
    bl, sl = rng.choice([0, 0.2, 1.0, 2.0, 3.3, np.nan], n), rng.choice([0, 0.0, 1.5, np.nan], m)
    i_bl, i_sl = array.hold(wl, bl, sl, 10 ** rng.uniform(-8, -5))
    for _ in range(2):
        assert not i_bl[np.isnan(bl)].any()
        assert not i_sl[np.isnan(sl)].any()
        # 1e-9 A: cells at 0 V and reads whose potentials are known to 1 nV
        assert abs(i_bl.sum() + i_sl.sum()) < 1e-6 * max(np.abs(i_bl).max(), np.abs(i_sl).max()) + 1e-9
        top, low = array.potentials(wl, bl, sl)
        driven = np.concatenate([bl[~np.isnan(bl)], sl[~np.isnan(sl)], [0.0]])
        both = np.concatenate([top[~np.isnan(top)], low[~np.isnan(low)], [0.0]])
        assert driven.min() <= both.min() <= both.max() <= driven.max()
        i_bl, i_sl = array.read(wl, bl, sl, 0.0)


def test_a_passive_crossbar_has_no_gates() -> None:
    g = conductances(3, 3)
    array = Array1T1R(Cubic(g), gate_off=-math.inf)
    i_bl, _ = array.read(np.full(3, 1.0), lines(3, _0=0.2), np.array([0.0, np.nan, np.nan]), 0.0)
    # sneak paths through the floating rows into the grounded columns
    sneak = sum(1 / (1 / g[r, 0] + 1 / (g[r, 1] + g[r, 2])) for r in (1, 2))
    assert math.isclose(i_bl[0], 0.2 * (g[0, 0] + sneak), rel_tol=1e-8)


def test_idle_time_reaches_the_cells_also_after_others_were_pulsed() -> None:
    device = Cubic(conductances(2, 2))
    array = Array1T1R(device)
    array.hold(np.zeros(2), np.zeros(2), np.zeros(2), 2.0)
    assert device.clock == 2.0
    array.hold(lines(2, _0=2.0), lines(2, _0=1.0), np.zeros(2), 0.5)
    assert device.clock == 2.0
    array.wait(1.0)
    assert device.clock == 3.5


def test_state_comes_back_whole() -> None:
    array = Array1T1R(Cubic(conductances(3, 4), growth=1e3), line_resistance=2.0)
    args = np.full(3, 2.0), np.array([1.0, 0.2, 0.0, np.nan]), np.zeros(3)
    array.hold(*args, 1e-4)
    saved = array.state()
    first = array.hold(*args, 1e-4), array.read(*args, 1.0), array.doses
    array.restore(saved)
    again = array.hold(*args, 1e-4), array.read(*args, 1.0), array.doses
    for a, b in zip(first[0] + first[1], again[0] + again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    for name, count in first[2].items():
        np.testing.assert_array_equal(count, again[2][name])


@pytest.mark.parametrize(
    ("wl", "bl", "sl", "seconds", "what"),
    [
        (np.ones(3), np.ones(4), np.zeros(3), -1e-6, "seconds"),
        (np.ones(3), np.ones(4), np.zeros(3), math.nan, "seconds"),
        (np.ones(4), np.ones(4), np.zeros(3), 1e-6, "wl has shape"),
        (np.ones(3), np.ones((1, 4)), np.zeros(3), 1e-6, "bl has shape"),
        (np.ones(3), np.ones(4), np.zeros(2), 1e-6, "sl has shape"),
        (np.ones(3), np.full(4, np.inf), np.zeros(3), 1e-6, "infinite"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    wl: FloatArray, bl: FloatArray, sl: FloatArray, seconds: float, what: str
) -> None:
    array = Array1T1R(Cubic(conductances(3, 4), growth=1e3))
    array.hold(np.full(3, 2.0), np.ones(4), np.zeros(3), 1e-6)  # a cached pattern must not let a wrong shape through
    array.hold(np.ones(3), np.ones(4), np.zeros(3), 1e-6)
    before = array.state()
    with pytest.raises(UsageError, match=what):
        array.hold(wl, bl, sl, seconds)
    after = array.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, (1.0, -1.0)])
def test_a_bad_line_resistance_is_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="line_resistance"):
        Array1T1R(Cubic(conductances(2, 2)), line_resistance=bad)


@pytest.mark.parametrize("arguments", [{"resolution": 0.0}, {"resolution": math.nan}, {"gate_off": math.nan}])
def test_other_bad_settings_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        Array1T1R(Cubic(conductances(2, 2)), **arguments)


def test_a_foreign_state_is_refused_whole() -> None:
    array = Array1T1R(Cubic(conductances(2, 2)))
    other = Array1T1R(Cubic(conductances(2, 3)))
    before = array.state()
    for state in ({}, other.state(), before | {"device.g": np.zeros((5, 5))}):
        with pytest.raises(UsageError):
            array.restore(state)
        assert all(np.array_equal(before[name], array.state()[name]) for name in before)
