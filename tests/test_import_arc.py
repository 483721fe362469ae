"""Import of ArC ONE and ArC TWO files, made here by hand after the makers' descriptions."""

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest

import labctl
from labctl.errors import StorageError, UsageError
from labctl.importing import guess, import_file

ARC_ONE = """\
wafer 3, die 7
Mon Jun 12 14:03:11 2023
Wordline,Bitline,Resistance,Amplitude (V),Pulse width (s),Tag,ReadTag,ReadVoltage
1,1,10250.5,0.5,0.0,S R,R2 V=0.5,0.5
1,1,9800.0,-1.2,0.0001,P,R2 V=0.5,0.5
2,3,20000,0.05,0,CT_s,R2 V=0.5,0.5
2,3,25000,0.1,0,CT_i_1,R2 V=0.5,0.5
2,3,10000,0.05,0,CT_i_2,R2 V=0.5,0.5
2,3,10000,-0.05,0,CT_e,R2 V=0.5,0.5
"""


def arc_one(tmp_path: Path, text: str = ARC_ONE, name: str = "session.csv") -> Path:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["session.csv", "session.csv.gz"])
def test_arc_one(tmp_path: Path, name: str) -> None:
    path = arc_one(tmp_path, name=name)
    assert guess(path) == "arc1"
    run = import_file(path, tags=("wafer3",))
    assert (run.path, run.status, run.protocol) == (tmp_path / "session.h5", "done", "import_arc1")
    assert run.header["created"].startswith("2023-06-12T14:03:11")
    assert run.header["source"]["notes"]["session"] == "wafer 3, die 7"
    assert run.tags == ["wafer3"]
    table = run.table()
    assert table["row"].tolist() == [0, 0, 1, 1, 1, 1]
    assert table["column"].tolist() == [0, 0, 2, 2, 2, 2]
    assert table["r"].tolist() == [10250.5, 9800.0, 20000.0, 25000.0, 10000.0, 10000.0]
    assert table["v"][1] == -1.2
    assert table["width"][1] == 1e-4
    assert table["tag"].tolist() == ["S R", "P", "CT_s", "CT_i_1", "CT_i_2", "CT_e"]
    assert run.units() | {"r": "Ω", "v": "V", "width": "s", "v_read": "V"} == run.units()
    curve = run.table("curve")
    np.testing.assert_allclose(curve["i"], [2.5e-6, 4e-6, 5e-6, -5e-6], rtol=1e-15)
    assert curve["cycle"].tolist() == [0, 0, 1, 1]
    assert curve["sweep"].tolist() == [0, 0, 0, 0]


def test_arc_one_sweeps_and_cells_are_told_apart(tmp_path: Path) -> None:
    head = "\n".join(ARC_ONE.splitlines()[:3])
    points = ["1,1,1e3,0.1,0,CT_s,,0.5", "1,1,1e3,0.2,0,CT_e,,0.5", "1,1,1e3,0.1,0,CT_s,,0.5", "1,2,1e3,0.1,0,CT_i_1,,"]
    run = import_file(arc_one(tmp_path, "\n".join([head, *points])))
    assert run.table("curve")["sweep"].tolist() == [0, 0, 1, 2]
    assert np.isnan(run.table()["v_read"][3])


def test_arc_one_bad_lines_are_named_and_kept(tmp_path: Path) -> None:
    text = ARC_ONE + "0,1,1e4,0.5,0,P,R2,0.5\n1,1,abc,0.5,0,P,R2,0.5\n1,1,1e4\n"
    path = arc_one(tmp_path, text)
    with pytest.raises(
        StorageError, match=r"3 bad lines, nothing was imported: line 10: Wordline '0'.*line 11.*line 12"
    ):
        import_file(path)
    assert not (tmp_path / "session.h5").exists()
    run = import_file(path, skip_bad=True)
    assert run.row_count() == 6
    bad = run.table("bad_line")
    assert bad["line"].tolist() == [10, 11, 12]
    assert bad["text"].tolist() == text.splitlines()[9:]
    assert "'abc' is not a number" in bad["reason"][1]
    assert run.header["source"]["bad_lines"] == 3


def test_nothing_is_overwritten_and_wrong_use_is_refused(tmp_path: Path) -> None:
    path = arc_one(tmp_path)
    import_file(path)
    with pytest.raises(StorageError, match="never overwrites"):
        import_file(path)
    with pytest.raises(UsageError, match="no format 'xls'"):
        import_file(path, tmp_path / "x.h5", format="xls")
    with pytest.raises(UsageError, match="--column is for tables"):
        import_file(path, tmp_path / "x.h5", columns=("v=1",))
    with pytest.raises(StorageError, match="cannot be read"):
        import_file(tmp_path / "none.csv")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(ARC_ONE.encode())[:-12])
    with pytest.raises(StorageError, match="cannot be read"):
        import_file(broken)


def arc_two(path: Path, version: tuple[int, int] = (0, 2)) -> Path:
    """A data store with two cells, an experiment on each, one for both, and something that is no table."""
    dtype = [
        ("current", "<f4"),
        ("voltage", "<f4"),
        ("pulse_width", "<f4"),
        ("read_voltage", "<f4"),
        ("op_type", "<u4"),
    ]
    with h5py.File(path, "w") as file:
        file.attrs.update({
            "H5DS_VERSION_MAJOR": version[0], "H5DS_VERSION_MINOR": version[1], "PYTABLES_FORMAT_VERSION": "2.1",
            "TITLE": "die 4", "words": 3, "bits": 2,
        })  # fmt: skip
        for k, name in enumerate(("W00B01", "W02B00")):
            data = np.zeros(1000, dtype)
            data[:3] = [(1e-6, 0.5, 0.0, 0.5, 1), (0.0, 2.0, 1e-4, 0.5, 2), (2e-6 + k, -1.5, 1e-4, 0.2, 3)]
            dataset = file.create_dataset(f"crosspoints/{name}/timeseries", data=data, maxshape=(None,))
            dataset.attrs["NROWS"] = 3 - k
            ret = np.array([(0.1, 1e-6), (0.2, 2e-6)], [("voltage", "<f4"), ("current", "<f4")])
            table = file.create_dataset(f"crosspoints/{name}/experiments/RET_170000000000000000{k}", data=ret)
            table.attrs["NROWS"] = 0  # written at once, not appended
            table.attrs["crosspoints"] = [[2 * k, 1 - k]]
        both = file.create_dataset("synthetics/MVM_1700000000000000009", data=np.array([(3,)], [("class", "<i4")]))
        both.attrs["crosspoints"] = [[0, 1], [2, 0]]
        file["crosspoints/W00B01/experiments/picture"] = np.zeros((2, 2))
        file["crossbar/current"] = np.arange(6, dtype="f4").reshape(2, 3)
        file["crossbar/voltage"] = np.full((2, 3), 0.5, "f4")
    return path


def test_arc_two(tmp_path: Path) -> None:
    path = arc_two(tmp_path / "store.h5")
    assert guess(path) == "arc2"
    run = import_file(path)
    assert run.path == tmp_path / "store_imported.h5"
    assert run.tables == ["operation", "raster", "ret", "mvm"]
    table = run.table()
    assert table["row"].tolist() == [0, 0, 0, 2, 2]  # NROWS counts, not the length
    assert table["column"].tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_array_equal(table["i"], np.array([1e-6, 0, 2e-6, 1e-6, 0], np.float32).astype(float))
    assert table["pulsed"].tolist() == [False, True, True, False, True]
    assert table["read"].tolist() == [True, False, True, True, False]
    assert run.units()["width"] == "s"
    raster = run.table("raster")
    at = (raster["row"] == 2) & (raster["column"] == 1)
    assert raster["i"][at] == 5.0
    ret = run.table("ret")
    assert ret["row"].tolist() == [0, 0, 2, 2]
    assert ret["experiment"].tolist() == [0, 0, 1, 1]
    assert run.units("ret")["current"] == "A"
    assert run.table("mvm")["c_class"].tolist() == [3]
    left = run.header["source"]["left_out"]
    assert "no table of numbers" in left["/crosspoints/W00B01/experiments/picture"]
    assert "[[0, 1], [2, 0]]" in left["/synthetics/MVM_1700000000000000009@crosspoints"]
    assert [event.name for event in run.events()] == ["left out", "left out"]


def test_arc_two_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"version \(9, 0\)"):
        import_file(arc_two(tmp_path / "new.h5", (9, 0)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StorageError, match="no ArC TWO data store"):
        import_file(tmp_path / "other.h5")
    with pytest.raises(StorageError, match="see labctl import"):
        labctl.load(tmp_path / "other.h5")


def test_half_an_import_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.store import Store

    def fail(*arguments: object) -> None:
        raise StorageError("the disk is full")

    path = arc_one(tmp_path)
    monkeypatch.setattr(Store, "finish", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        import_file(path)
    assert list(tmp_path.iterdir()) == [path]
