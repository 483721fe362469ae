"""The crossbar's currents: against Kirchhoff's law, a sparse LU, ngspice, closed forms; what is compiled; bad input."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import MeasurementError, UsageError
from labctl.models import crossbar
from labctl.models.array import Array1T1R
from labctl.models.crossbar import Crossbar, Method, Wires, select
from labctl.models.device import FloatArray
from labctl.models.filament import FilamentArray
from tests.models.test_array import Cubic

METHODS: tuple[Method, ...] = ("gradients", "direct")


def cells(m: int, n: int, seed: int = 0) -> FloatArray:
    return 10.0 ** np.random.default_rng(seed).uniform(-6, -4, (m, n))


def inputs(m: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed + 1).uniform(-0.2, 0.2, m)


def worst(found: NDArray[np.floating], expected: FloatArray) -> float:
    """The largest deviation, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@st.composite
def circuits(draw: st.DrawFn) -> tuple[FloatArray, Wires, FloatArray, FloatArray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, n = (int(k) for k in rng.integers(1, 12, 2))
    g = cells(m, n, int(rng.integers(2**31))) * rng.choice([0.0, 1.0], (m, n), p=[0.1, 0.9])
    segment, series = rng.uniform(0.1, 20, 2), rng.choice([0.0, 100.0], 2)
    wires = Wires(
        r_row=segment[0],
        r_column=segment[1],
        r_driver=series[0],
        r_sense=series[1],
        drive=draw(st.sampled_from(["left", "right", "both"])),
        sense=draw(st.sampled_from(["top", "bottom", "both"])),
    )
    v_rows, v_columns = rng.uniform(-1, 1, m), rng.choice([0.0, 0.3], n)
    v_rows[rng.random(m) < 0.3] = np.nan
    v_columns[rng.random(n) < 0.3] = np.nan
    return g, wires, v_rows, v_columns


def ends(wires: Wires, v: FloatArray, row: bool) -> tuple[FloatArray, FloatArray]:
    """Conductances from a line's first and last node to its driver, (lines,) each."""
    series = wires.r_row + wires.r_driver if row else wires.r_column + wires.r_sense
    where = wires.drive if row else wires.sense
    held = np.where(np.isnan(v), 0, 1 / series)
    return held * (where not in ("right", "bottom")), held * (where not in ("left", "top"))


@settings(max_examples=60, deadline=None)
@given(circuits())
def test_the_direct_solution_obeys_kirchhoff_at_every_node_and_the_gradients_agree(
    circuit: tuple[FloatArray, Wires, FloatArray, FloatArray],
) -> None:
    g, wires, v_rows, v_columns = circuit
    fast, s = (Crossbar(g, wires).solve(v_rows, v_columns, method=method) for method in METHODS)
    cell = g * s.v_cells
    limit = 1e-10 * np.abs(cell).max() + 2e-14  # volts on the leaks of 12 floating nodes
    for v, node, into, r, found in (
        (v_rows, s.v_row, -cell, wires.r_row, s.i_rows),
        (v_columns, s.v_column.T, cell.T, wires.r_column, s.i_columns),
    ):
        along = -np.diff(node, axis=1) / r
        first, last = ends(wires, v, node is s.v_row)
        left, right = first * (np.nan_to_num(v) - node[:, 0]), last * (np.nan_to_num(v) - node[:, -1])
        net = into.copy()
        net[:, 1:] += along
        net[:, :-1] -= along
        net[:, 0] += left
        net[:, -1] += right
        assert np.abs(net).max() < limit
        np.testing.assert_allclose(found, left + right, atol=12 * limit)
    scale = max(np.abs(s.i_rows).max(), np.abs(s.i_columns).max())
    assert np.abs(fast.i_rows - s.i_rows).max() <= 1e-9 * scale + 1e-14
    assert np.abs(fast.i_columns - s.i_columns).max() <= 1e-9 * scale + 1e-14


@pytest.mark.parametrize(("m", "n"), [(16, 16), (64, 64), (64, 20), (128, 128)])
def test_gradients_and_compiled_matrix_are_within_1e_9_of_a_direct_solution(m: int, n: int) -> None:
    array, v = Crossbar(cells(m, n)), inputs(m)
    direct = array.product(v, method="direct")
    assert worst(array.product(v), direct) < 1e-9
    assert worst(array.compile()(v), direct) < 1e-9


@pytest.mark.parametrize("scheme", ["ground", "float", "V/2", "V/3"])
def test_selecting_a_cell_of_a_passive_crossbar_is_within_1e_9_of_a_direct_solution(scheme: Any) -> None:
    array = Crossbar(cells(64, 48), Wires(2.0, 3.0))
    bias = select((64, 48), 50, 20, 1.0, scheme)
    fast, direct = array.solve(*bias), array.solve(*bias, method="direct")
    assert worst(fast.i_rows, direct.i_rows) < 1e-9
    assert worst(fast.i_columns, direct.i_columns) < 1e-9
    assert np.abs(fast.v_cells - direct.v_cells).max() < 1e-9


def spice(g: FloatArray, v: FloatArray, folder: Path) -> FloatArray:
    """Column currents by ngspice, one ohm a segment, rows driven at the left, columns sensed at the bottom."""
    m, n = g.shape
    deck = ["crossbar"]
    for i in range(m):
        deck.append(f"vr{i} d{i} 0 dc {float(v[i])!r}")
        deck += [f"rr{i}_{j} {f'd{i}' if j == 0 else f'u{i}_{j - 1}'} u{i}_{j} 1" for j in range(n)]
        deck += [f"rc{i}_{j} u{i}_{j} w{i}_{j} {float(1 / g[i, j])!r}" for j in range(n)]
    for j in range(n):
        deck += [f"rw{i}_{j} w{i}_{j} {f's{j}' if i == m - 1 else f'w{i + 1}_{j}'} 1" for i in range(m)]
        deck.append(f"vs{j} s{j} 0 dc 0")
    deck += [".options reltol=1e-9 abstol=1e-18 vntol=1e-15", ".control", "set numdgt=15", "op"]
    deck += [f"print i(vs{j})" for j in range(n)] + ["quit", ".endc", ".end"]
    path = folder / "crossbar.cir"
    path.write_text("\n".join(deck) + "\n")
    ran = subprocess.run(["ngspice", "-b", str(path)], capture_output=True, text=True, timeout=100)
    found = [float(line.split("=")[1]) for line in ran.stdout.splitlines() if line.startswith("i(vs")]
    assert len(found) == n, ran.stdout[-500:] + ran.stderr[-500:]
    return np.array(found)


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed: no comparison with it")
@pytest.mark.parametrize("n", [16, 64])
def test_currents_are_within_1e_6_of_ngspice(n: int, tmp_path: Path) -> None:
    g, v = cells(n, n), inputs(n)
    expected = spice(g, v, tmp_path)
    array = Crossbar(g)
    for found in (array.product(v), array.product(v, method="direct"), array.compile()(v)):
        assert worst(found, expected) < 1e-6


def anything(value: Any) -> Any:
    """`value`, behind the type checker's back."""
    return value


DRIVES: list[tuple[Any, float]] = [("left", 36.0), ("right", 34.0), ("both", 1 / (1 / 36 + 1 / 34))]


def test_one_cell_is_a_series_circuit() -> None:
    for drive, r in DRIVES:
        g = np.zeros((5, 4))
        g[1, 2] = 5e-5
        array = Crossbar(g, Wires(2.0, 7.0, r_driver=30.0, r_sense=11.0, drive=drive, sense="top"))
        for method in METHODS:
            s = array.solve([0, 0.4, 0, 0, 0], method=method)
            total = 0.4 / (r + 2e4 + 2 * 7.0 + 11)
            assert abs(s.i_rows[1] / total - 1) < 1e-9
            assert abs(-s.i_columns[2] / total - 1) < 1e-9


def test_ideal_lines_give_the_ideal_product_and_are_the_limit_of_good_ones() -> None:
    g, v = cells(30, 20), inputs(30)
    ideal = v @ g
    assert worst(Crossbar(g, Wires(0, 0)).product(v), ideal) < 1e-12
    drops = [worst(Crossbar(g, Wires(r, r)).product(v), ideal) for r in (0.01, 0.001)]
    assert 9.9 < drops[0] / drops[1] < 10.1  # of the first order in r
    half = Crossbar(g, Wires(0, 5.0)).product(v)
    assert worst(Crossbar(g, Wires(1e-9, 5.0)).product(v), half) < 1e-9
    assert worst(Crossbar(g, Wires(5.0, 0)).product(v), Crossbar(g, Wires(5.0, 1e-9)).product(v)) < 1e-9


def test_sneak_paths_through_floating_lines_follow_the_closed_form() -> None:
    m, n, g = 12, 7, 2e-5
    array = Crossbar(np.full((m, n), g), Wires(0, 0))
    s = array.solve(*select((m, n), 3, 2, 1.0, "float"))
    # (n − 1) cells, then (m − 1)(n − 1), then (m − 1), in series, beside the selected one
    sneak = g / (1 / (n - 1) + 1 / ((m - 1) * (n - 1)) + 1 / (m - 1))
    assert abs(s.i_rows[3] / (g + sneak) - 1) < 1e-9
    assert not np.delete(s.i_rows, 3).any()
    good = Crossbar(np.full((m, n), g), Wires(1e-4, 1e-4)).solve(*select((m, n), 3, 2, 1.0, "float"))
    assert abs(good.i_rows[3] / s.i_rows[3] - 1) < 1e-6


@pytest.mark.parametrize(("scheme", "line", "elsewhere"), [("V/2", 0.5, 0.0), ("V/3", 1 / 3, -1 / 3)])
def test_half_selected_cells_see_what_the_scheme_says(scheme: Any, line: float, elsewhere: float) -> None:
    v = Crossbar(cells(6, 5), Wires(0, 0)).solve(*select((6, 5), 2, 3, 1.0, scheme)).v_cells
    expected = np.full((6, 5), elsewhere)
    expected[2] = expected[:, 3] = line
    expected[2, 3] = 1.0
    np.testing.assert_allclose(v, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_a_compiled_product_keeps_its_stated_error(dtype: Any, shape: tuple[int, int]) -> None:
    array = Crossbar(cells(*shape), Wires(3.0, 1.0, 20.0, 5.0, "both", "top"))
    compiled = array.compile(dtype)
    v = np.random.default_rng(5).uniform(-0.2, 0.2, (64, shape[0]))
    found = compiled(v)
    assert found.dtype == dtype
    exact = array.product(v, method="direct")
    bound = compiled.error * (np.abs(v) @ np.abs(compiled.matrix.astype(float)))
    assert (np.abs(found - exact) <= bound).all()
    assert compiled.error < (1e-9 if dtype is np.float64 else 5e-6)
    np.testing.assert_allclose(compiled(v[3]), found[3], rtol=1e-4 if dtype is np.float32 else 1e-11)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-5])
def test_a_fast_approximation_keeps_its_tolerance(tolerance: float) -> None:
    for n, r in ((32, 1.0), (128, 1.0), (128, 10.0)):
        array, v = Crossbar(cells(n, n), Wires(r, r)), np.abs(inputs(n))
        exact = array.product(v, method="direct")
        assert worst(array.product(v, tolerance=tolerance), exact) < tolerance
        assert worst(v @ array.conductance, exact) > 0.01  # without the wires it would not


def test_programming_replaces_what_was_factorised() -> None:
    g, h, v = cells(20, 20), cells(20, 20, 9), inputs(20)
    array = Crossbar(g)
    for method in METHODS:
        array.program(g)
        before = array.product(v, method=method)
        array.program(h)
        after = array.product(v, method=method)
        assert worst(before, Crossbar(g).product(v)) < 1e-9
        assert worst(after, Crossbar(h).product(v)) < 1e-9
        assert worst(before, after) > 0.1


def test_a_batch_is_its_vectors_one_by_one() -> None:
    array = Crossbar(cells(30, 20))
    v = np.random.default_rng(3).uniform(0, 0.2, (7, 30))
    np.testing.assert_array_equal(array.product(v), [array.product(row) for row in v])
    assert array.product(np.zeros((0, 30))).shape == (0, 20)


def test_an_array_of_ohmic_cells_is_a_crossbar() -> None:
    array = Array1T1R(Cubic(cells(10, 8)), line_resistance=(4.0, 6.0))
    bl, sl = np.array([0.2, 0, 0.1, np.nan, 0.2, 0, 0, np.nan]), np.array([0.0, 0, 0, np.nan, 0, 0.1, 0, 0, 0, 0])
    i_bl, i_sl = array.read(np.full(10, 2.0), bl, sl, 0.0)
    s = Crossbar(array.ohmic(0.2, 2.0), Wires(6.0, 4.0, sense="top")).solve(sl, bl)
    assert worst(i_bl, s.i_columns) < 1e-6
    assert worst(i_sl, s.i_rows) < 1e-6


def test_physical_cells_taken_as_ohmic_are_within_two_per_cent_of_the_newton_solution() -> None:
    rng = np.random.default_rng(4)
    device = FilamentArray((32, 32), seed=2)
    device.set_gap(rng.uniform(0.2, 1.3, 32 * 32))
    array = Array1T1R(device, line_resistance=1.0)
    bl, sl = rng.uniform(0, 0.2, 32), np.zeros(32)
    _, exact = array.read(np.full(32, 3.5), bl, sl, 0.0)
    g = array.ohmic(0.2, 3.5)
    assert worst(Crossbar(g, Wires(sense="top")).solve(sl, bl).i_rows, exact) < 0.02
    assert worst(-(g @ bl), exact) > 0.15  # what ignoring the wires costs


def test_gradients_that_do_not_arrive_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossbar, "_ITERATIONS", 2)
    with pytest.raises(MeasurementError, match=r"after 2 steps.*method='direct'"):
        Crossbar(cells(64, 64)).product(inputs(64))


@pytest.mark.parametrize(
    "bad", [np.full((4, 3), np.nan), np.full((4, 3), -1e-6), np.full((4, 3), np.inf), np.zeros((3, 4)), np.zeros(12)]
)
def test_bad_conductances_are_refused_and_change_nothing(bad: FloatArray) -> None:
    g, v = cells(4, 3), inputs(4)
    array = Crossbar(g)
    before = array.product(v)
    with pytest.raises(UsageError):
        array.program(bad)
    np.testing.assert_array_equal(array.conductance, g)
    np.testing.assert_array_equal(array.product(v), before)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.solve(np.zeros(5)),
        lambda a: a.solve([np.inf, 0, 0, 0]),
        lambda a: a.solve(np.zeros(4), np.zeros(4)),
        lambda a: a.solve(np.zeros(4), method="magic"),
        lambda a: a.solve(np.zeros(4), tolerance=0),
        lambda a: a.product(np.zeros((2, 3))),
        lambda a: a.product(np.full((2, 4), np.nan)),
        lambda a: a.compile(np.int32),
        lambda a: a.compile()(np.zeros(3)),
        lambda a: a.compile()([0, 0, np.nan, 0]),
        lambda a: a.compile()([np.inf, -np.inf, 0, 0]),
        lambda a: Crossbar(np.zeros((2, 2)), Wires(r_row=-1)),
        lambda a: Crossbar(np.zeros((2, 2)), Wires(r_sense=np.nan)),
        lambda a: Crossbar(np.zeros((2, 2)), Wires(drive=anything("top"))),
        lambda a: Crossbar(np.ones((2, 2)), Wires(0, 1)).solve([0, 0], method="gradients"),
        lambda a: select((4, 3), 4, 0, 1.0, "V/2"),
        lambda a: select((4, 3), 0, 0, 1.0, anything("V/4")),
        lambda a: select((4, 3), 0, 0, np.nan, "V/2"),
    ],
)
def test_bad_input_is_refused(call: Any) -> None:
    with pytest.raises(UsageError):
        call(Crossbar(cells(4, 3)))
