"""Weights go to conductances and come back; what does not fit is said, never hidden."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from labctl.errors import ParameterError, StorageError, UsageError
from labctl.weights import LevelTable, WeightMap, bit_join, bit_slice, load_matrix, place_values

TABLE = LevelTable.uniform(2e-6, 100e-6)
WEIGHTS = arrays(float, array_shapes(max_dims=3, max_side=5), elements=st.floats(-1, 1))


def test_the_default_table_has_256_levels_evenly_in_g() -> None:
    assert len(TABLE) == 256
    assert TABLE.values[[0, -1]].tolist() == [2e-6, 100e-6]
    assert np.diff(TABLE.values) == pytest.approx(np.full(255, 98e-6 / 255))
    r = 1 / LevelTable.uniform_in_r(2e-6, 100e-6, 5).values
    assert np.diff(r) == pytest.approx(np.full(4, -(500e3 - 10e3) / 4))


@settings(deadline=None)
@given(WEIGHTS, st.integers(2, 256), st.sampled_from(["unipolar", "differential"]))
def test_every_weight_comes_back_within_half_a_level(w: np.ndarray, levels: int, scheme: str) -> None:
    table = LevelTable.uniform(1e-6, 50e-6, levels)
    mapping = WeightMap(table, -1.0, 1.0, scheme)  # type: ignore[arg-type]
    sent = mapping.encode(w)
    assert sent.g.shape == (*w.shape, mapping.cells)
    assert np.array_equal(table.values[sent.level], sent.g)
    step = (table.g[1] - table.g[0]) / mapping.slope
    assert np.abs(sent.error).max() <= step / 2 * (1 + 1e-9)
    back = mapping.decode(sent.g)
    assert back - w == pytest.approx(sent.error)
    # what the levels make of a weight is itself a weight that the levels make exactly
    again = mapping.encode(np.clip(back, -1, 1))
    assert np.array_equal(again.level, sent.level)


def test_a_pair_carries_the_sign_and_zero_is_the_same_on_both() -> None:
    sent = WeightMap(TABLE).encode([[0.0, 1.0], [-1.0, 0.5]])
    assert sent.level[0, 0].tolist() == [0, 0]
    assert sent.level[0, 1].tolist() == [255, 0]
    assert sent.level[1, 0].tolist() == [0, 255]
    assert sent.level[1, 1, 1] == 0
    assert len(sent.clipped.asked) == 0


def test_columns_of_pairs_compute_the_product() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.uniform(-1, 1, (8, 3)), rng.uniform(0, 0.2, 8)
    mapping = WeightMap.spanning(w, TABLE)
    g = mapping.encode(w).g
    difference = x @ (g[..., 0] - g[..., 1])
    assert difference / mapping.slope == pytest.approx(x @ w, abs=8 * 0.2 / 255 / 2)


def test_nothing_is_clipped_silently() -> None:
    w = [[0.2, 1.5], [-3.0, 1.0]]
    with pytest.raises(ParameterError, match=r"2 of 4 weights are outside -1 … 1, such as weight \(1, 0\) = -3"):
        WeightMap(TABLE).encode(w)
    sent = WeightMap(TABLE).encode(w, clip=True)
    assert sent.clipped.where.tolist() == [[0, 1], [1, 0]]
    assert sent.clipped.asked.tolist() == [1.5, -3.0]
    assert sent.clipped.written.tolist() == [1.0, -1.0]
    assert "2 weights clipped, the most by 2: weight (1, 0) = -3" in str(sent.clipped)
    assert sent.error[1, 0] == pytest.approx(2.0)
    with pytest.raises(UsageError, match=r"weight \(0, 1\) is not a finite"):
        WeightMap(TABLE).encode([[0.0, np.nan]], clip=True)


@given(WEIGHTS, st.sampled_from(["unipolar", "differential"]))
def test_a_spanning_map_clips_none(w: np.ndarray, scheme: str) -> None:
    mapping = WeightMap.spanning(3 * w, TABLE, scheme)  # type: ignore[arg-type]
    assert not len(mapping.encode(3 * w).clipped.asked)


def test_the_rms_error_is_that_of_a_uniform_quantiser() -> None:
    w = np.random.default_rng(1).uniform(-1, 1, 100_000)
    step = 1 / 255
    assert WeightMap(TABLE).encode(w).rms == pytest.approx(step / np.sqrt(12), rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LevelTable((1e-6,)), "2 … 256"),
        (lambda: LevelTable((1e-6, 1e-6)), "above the one before"),
        (lambda: LevelTable.uniform(2e-6, 1e-6), "g_min < g_max"),
        (lambda: LevelTable.uniform(1e-6, 2e-6, 257), "256"),
        (lambda: LevelTable.uniform_in_r(0.0, 2e-6), "g_min > 0"),
        (lambda: WeightMap(TABLE, -1.0, 2.0), "symmetric"),
        (lambda: WeightMap(TABLE, 1.0, 0.0, "unipolar"), "lower one first"),
        (lambda: bit_slice([16], 4), "take 0 … 15"),
        (lambda: bit_slice([-1], 4), "take 0 … 15"),
        (lambda: place_values(70, 1), "62"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()  # type: ignore[operator]


@given(st.integers(1, 8).flatmap(lambda c: st.tuples(st.just(c), st.integers(1, 4))), st.data())
def test_bit_slices_come_back(shape: tuple[int, int], data: st.DataObject) -> None:
    cells, bits = shape
    values = np.array(data.draw(st.lists(st.integers(0, 2 ** (cells * bits) - 1), min_size=1, max_size=9)))
    digits = bit_slice(values, cells, bits)
    assert digits.shape == (len(values), cells)
    assert digits.min() >= 0
    assert digits.max() < 2**bits
    assert np.array_equal(bit_join(digits, bits), values)


def test_four_devices_hold_0_to_15_and_eight_0_to_255() -> None:
    assert bit_slice(10, 4).tolist() == [0, 1, 0, 1]  # least significant first
    assert bit_slice(255, 8).tolist() == [1] * 8
    assert bit_slice(np.arange(256), 8).sum() == 1024
    with pytest.raises(UsageError, match="whole numbers"):
        bit_slice([0.5], 4)


def test_a_bit_serial_product_is_the_product() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.integers(0, 16, 8), rng.uniform(0, 1, (8, 3))
    serial = bit_slice(x, 4).T @ w  # one product a bit
    assert bit_join(serial.T) == pytest.approx(x @ w)


@pytest.mark.parametrize(
    "text", ["1,2\n3,-4.5\n", "# w\n1;2\n\n3;-4.5\n", "1\t2\n3\t-4.5", " 1 2\n3   -4.5\n", "\ufeff1,2\n3,-4.5"]
)
def test_text_files_of_every_separator(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.csv").write_text(text, encoding="utf-8")
    assert load_matrix(tmp_path / "w.csv", (2, 2)).tolist() == [[1.0, 2.0], [3.0, -4.5]]


def test_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.arange(6, dtype=np.int8).reshape(2, 3))
    assert load_matrix(tmp_path / "w.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(UsageError, match="2 rows × 3 columns; 3 × 2 are needed"):
        load_matrix(tmp_path / "w.npy", (3, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,x\n", "line 2, entry 2: 'x' is not a number"),
        ("1,2\n\n3,\n", "line 3, entry 2: '' is not a number"),
        ("1;2\n3;0,5\n", "decimal point, not a comma"),
        ("# h\n1,2\n3\n", "line 3 has 1 entries, line 2 has 2"),
        ("1,2\n3,nan\n", "line 2, entry 2: nan is no weight"),
        ("a,b\n1,2\n", "line 1, entry 1: 'a'"),
        ("\n", "no numbers"),
    ],
)
def test_a_bad_text_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "w.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_matrix(tmp_path / "w.csv")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        load_matrix(tmp_path / "none.csv")
    with pytest.raises(StorageError, match="does not exist"):
        load_matrix(tmp_path / "none.npy")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(StorageError, match=r"cannot be read as \.npy"):
        load_matrix(tmp_path / "cut.npy")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="as text"):
        load_matrix(tmp_path / "binary.csv")
    for name, array in (("vector", np.zeros(3)), ("complex", np.zeros((2, 2), complex)), ("text", np.array([["a"]]))):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(UsageError, match="matrix"):
            load_matrix(tmp_path / f"{name}.npy")
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.inf]]))
    with pytest.raises(UsageError, match="row 0, column 1: inf is no weight; 1 of 2"):
        load_matrix(tmp_path / "nan.npy")
