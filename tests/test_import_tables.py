"""Import of tables of numbers: mapping, units, signs, separators, bad lines."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import StorageError, UsageError
from labctl.importing import guess, import_file, tables


def written(tmp_path: Path, text: str, name: str = "iv.csv", encoding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    return path


def test_heads_name_and_scale_the_columns(tmp_path: Path) -> None:
    text = "Time (ms),Voltage (mV),I (uA),Temp\n0,100,1.5,20\n1,200,-2.5,21\n"
    run = import_file(written(tmp_path, text))
    assert run.protocol == "import_table"
    table = run.table()
    np.testing.assert_allclose(table["v"], [0.1, 0.2], rtol=1e-15)
    np.testing.assert_allclose(table["i"], [1.5e-6, -2.5e-6], rtol=1e-15)
    assert run.units() == {"v": "V", "i": "A", "t": "s", "temp": ""}
    np.testing.assert_allclose(run.elapsed(), [0.0, 1e-3])  # playback keeps the recorded time
    assert run.header["source"]["notes"]["columns"]["i"] == "column 3 (I (uA))"


def test_a_mapping_with_units_and_sign(tmp_path: Path) -> None:
    text = "SMU1,SMU2,Dev,n\n0.1,1,A1,0\n0.2,2,A2,1\n"
    mapping = ["v=SMU1", "i=-SMU2:nA", "cell=Dev", "cycle=4"]
    run = import_file(written(tmp_path, text), columns=mapping)
    table = run.table()
    assert table["v"].tolist() == [0.1, 0.2]
    np.testing.assert_allclose(table["i"], [-1e-9, -2e-9], rtol=1e-15)
    assert table["cell"].tolist() == ["A1", "A2"]
    assert table["cycle"].dtype == np.int64
    assert "sign turned" in run.columns()[1].q.meaning


@pytest.mark.parametrize(
    ("text", "kwargs"),
    [
        ("V\tI\n0,5\t1,5e-6\n1,0\t2e-6\n", {}),
        ("V;I\n0,5;1,5e-6\n1,0;2e-6\n", {}),
        ("V;I\n0.5;1.5e-6\n1.0;2e-6\n", {}),
        ("# V I\n0.5 1.5e-6\n1.0   2e-6\n", {}),
        ('"V","I"\n"0.5","1.5e-6"\n"1.0","2e-6"\n', {}),
        ("V,I\r\nV,A\r\n0.5,1.5e-6\r\n1.0,2e-6\r\n", {}),
        ("Instrument: SMU\nDate: today\n\nVoltage (V), Current (mA)\n0.5, 1.5e-3\n1.0, 2e-3\n", {}),
        ("Date: 2024 01 02\nSample 7\nV I\n0.5 1.5e-6\n1.0 2e-6\n", {}),
        ("0.5 1.5\n1.0 2.0\n", {"columns": {"v": "1", "i": "2:µA"}}),
    ],
)
def test_separators_decimal_commas_and_preambles(tmp_path: Path, text: str, kwargs: dict[str, object]) -> None:
    run = import_file(written(tmp_path, text), **kwargs)  # type: ignore[arg-type]
    assert run.table()["v"].tolist() == [0.5, 1.0]
    np.testing.assert_allclose(run.table()["i"], [1.5e-6, 2e-6], rtol=1e-14)


def test_a_table_is_not_taken_for_a_scope(tmp_path: Path) -> None:
    for head in ("Model,V,I", "Time,Charge", "time,chip"):
        path = written(
            tmp_path, f"{head}\n" + "1,2,3\n"[: 2 * head.count(",") + 1] + "\n2,3,4"[: 2 * head.count(",") + 2]
        )
        assert guess(path) == "table"


def test_encodings(tmp_path: Path) -> None:
    text = "V,I (µA)\n0.5,1.5\n1,2\n"
    for encoding in ("utf-8-sig", "latin-1", "utf-16"):
        run = import_file(written(tmp_path, text, f"{encoding}.csv", encoding))
        np.testing.assert_allclose(run.table()["i"], [1.5e-6, 2e-6], rtol=1e-15)


def test_blank_lines_count_the_cycles(tmp_path: Path) -> None:
    text = "# Voltage (V)  Current (A)\n\n0 0\n1 1\n\n\n0 0\n1 2\n"
    table = import_file(written(tmp_path, text)).table()
    assert table["cycle"].tolist() == [0, 0, 1, 1]


def test_bad_lines_are_named_and_kept(tmp_path: Path) -> None:
    text = "V,I\n0,0\n1,oops\n2,2,2\n# a remark\n3,\n4,4\n"
    path = written(tmp_path, text)
    with pytest.raises(StorageError, match=r"2 bad lines.*line 3: i 'oops'.*line 4: 3 columns, not 2"):
        import_file(path)
    run = import_file(path, skip_bad=True)
    assert run.table()["v"].tolist() == [0, 3, 4]
    assert np.isnan(run.table()["i"][1])  # empty is not bad, it is missing, and counted
    assert run.header["source"]["notes"]["empty_cells"] == 1
    assert run.header["source"]["notes"]["comments"] == {"5": "# a remark"}
    assert run.table("bad_line")["text"].tolist() == ["1,oops", "2,2,2"]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"v": "nope"}, "no columns are called 'nope'; it has V, I"),
        ({"v": "V", "i": "V"}, "mapped to both v and i"),
        ({"i": "I:mV"}, "i is measured in A"),
        ({"i": "I:furlong"}, "no unit known here"),
        (["i"], "maps no column"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, mapping: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        import_file(written(tmp_path, "V,I\n0,0\n1,1\n"), columns=mapping)


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no line of numbers"):
        import_file(written(tmp_path, "Dear diary,\ntoday\n"))
    with pytest.raises(StorageError, match="no line of numbers"):
        import_file(written(tmp_path, ""))
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(StorageError, match="no text file"):
        import_file(path)


@given(
    values=st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=20
    ),
    delimiter=st.sampled_from([",", "\t", ";", " "]),
)
def test_every_number_comes_through_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("t") / "x.csv"
    path.write_text(f"v{delimiter}i\n" + "".join(f"{v!r}{delimiter}{i!r}\n" for v, i in values))
    imported = tables.read(path)
    assert imported.bad == []
    assert [imported.tables[0].columns[k].tolist() for k in ("v", "i")] == [list(x) for x in zip(*values, strict=True)]
