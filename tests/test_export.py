"""Export: what comes out is what went in, read back by other libraries, and nothing is left behind on failure."""

import csv
import hashlib
import json
import subprocess
import warnings
import zipfile
from pathlib import Path
from typing import Annotated as A
from typing import NamedTuple

import numpy as np
import pytest

import labctl
from labctl.errors import StorageError, UsageError
from labctl.exporting import export
from labctl.importing import import_file
from labctl.protocol import Table, Trace
from labctl.quantity import Q
from labctl.reader import Run
from labctl.store import Store


class Point(NamedTuple):
    """A point."""

    v: A[float, Q("V", meaning="voltage over the cell")]
    n: A[int, Q("", meaning="how | many")]
    ok: A[bool, Q("", meaning="valid")]
    note: A[str, Q("", meaning="what was seen")]


class Spike(NamedTuple):
    """A spike."""

    t: A[float, Q("s", meaning="when, on the bench's clock")]
    neuron: A[int, Q("", meaning="which")]


POINTS = [Point(0.1 + 1e-17 * 7, 3, True, 'a "quoted", text'), Point(float("nan"), -(2**60), False, "Ω\nline"),
          Point(1 / 3, 0, True, "")]  # fmt: skip
TIMES = [0.5, 0.75, 1.25]
SPIKES = [(2e-3, 1), (1e-3, 0), (3e-3, 1)]
MEM = Trace("mem", np.array([-100, 0, 100], np.int16), 1e-3, 0.5, "V", -1e-6, 2e-6)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    header = {
        "protocol": "small", "protocol_doc": "A small run.", "params": {"v_thr": 0.8}, "param_units": {"v_thr": "V"},
        "param_meanings": {"v_thr": "threshold"}, "created": "2026-03-01T12:00:00.000+01:00", "comment": "for export",
        "tags": ["x"], "seed": 7, "station": {"name": "sim", "text": ""}, "versions": {"labctl": "1"},
    }  # fmt: skip
    store = Store(tmp_path / "run.h5", header, [Table(Point), Table(Spike)])
    for k, point in enumerate(POINTS):
        store.row(0, point, TIMES[k])
    for t, neuron in SPIKES:
        store.row(1, (t, neuron), 1.5)
    store.trace(MEM, 1, 0.8)
    store.finish("done", {}, None)
    return labctl.load(tmp_path / "run.h5")


def same(values: list[float], expected: list[float]) -> bool:
    return np.array(values).tobytes() == np.array(expected).tobytes()


def test_csv_reads_back_bit_for_bit(run: Run, tmp_path: Path) -> None:
    paths = export(run, "csv")
    assert [path.name for path in paths] == ["run.csv", "run_spike.csv", "run_mem_0000.csv"]
    with paths[0].open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["v (V)", "n", "ok", "note", "elapsed (s)"]
    assert same([float(row[0]) for row in rows], [point.v for point in POINTS])
    assert [int(row[1]) for row in rows] == [point.n for point in POINTS]
    assert [row[3] for row in rows] == [point.note for point in POINTS]
    assert [float(row[4]) for row in rows] == TIMES
    with paths[2].open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["t (s)", "mem (V)"]
    assert [float(row[1]) for row in rows] == MEM.values.tolist()
    again = import_file(paths[1], tmp_path / "again.h5", format="table")
    assert again.table()["t"].tolist() == [t for t, _ in SPIKES]
    assert again.units()["t"] == "s"


def test_parquet_keeps_types_units_and_header(run: Run) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    paths = export(run, "parquet")
    assert [path.name for path in paths] == ["run.parquet", "run_spike.parquet", "run_mem.parquet"]
    table = pq.read_table(paths[0])
    assert same(table["v"].to_pylist(), [point.v for point in POINTS])
    assert table["n"].to_pylist() == [point.n for point in POINTS]
    assert table["ok"].to_pylist() == [point.ok for point in POINTS]
    assert table["note"].to_pylist() == [point.note for point in POINTS]
    assert table.schema.field("v").metadata == {b"unit": b"V", b"meaning": b"voltage over the cell"}
    assert json.loads(table.schema.metadata[b"labctl"])["header"]["params"] == {"v_thr": 0.8}
    traces = pq.read_table(paths[2]).to_pylist()
    assert traces == [{"row": 1, "t0": MEM.t0, "dt": MEM.dt, "values": MEM.values.tolist()}]


def test_nwb_is_valid_and_holds_traces_spikes_and_tables(run: Run) -> None:
    pynwb = pytest.importorskip("pynwb")
    (path,) = export(run, "nwb")
    assert path.name == "run.nwb"
    with pynwb.NWBHDF5IO(path, "r") as io:
        assert pynwb.validate(io=io) == []
        content = io.read()
        assert content.session_start_time.isoformat() == "2026-03-01T12:00:00+01:00"
        assert content.session_description == "for export"
        series = content.acquisition["mem_0000"]
        assert series.data.dtype == np.int16
        np.testing.assert_array_equal(series.data[:] * series.conversion + series.offset, MEM.values)
        np.testing.assert_allclose((series.starting_time, series.rate, series.unit == "volts"), (0.8 - 1e-6, 5e5, 1))
        assert content.units["spike_times"][0].tolist() == [1e-3]
        assert content.units["spike_times"][1].tolist() == [2e-3, 3e-3]
        table = content.processing["tables"]["point"]
        assert same(table["v"][:], [point.v for point in POINTS])
        assert list(table["note"][:]) == [point.note for point in POINTS]
        assert table["v"].description == "voltage over the cell (V)"


def test_a_zip_for_publication_checks_itself(run: Run, tmp_path: Path) -> None:
    (path,) = export(run, "zip", tmp_path / "paper" / "data.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / "data"
    names = {"run.h5", "run.csv", "run_spike.csv", "run_mem_0000.csv", "README.md", "SHA256SUMS"}
    assert {item.name for item in folder.iterdir()} == names
    assert (folder / "run.h5").read_bytes() == run.path.read_bytes()
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    assert set(sums) == names - {"SHA256SUMS"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for words in ("| v | V | voltage over the cell |", "| n | – | how \\| many |", "| v_thr | 0.8 | V | threshold |",
                  "Waveforms mem", "3 samples 2 µs apart", "for export", "A small run."):  # fmt: skip
        assert words in readme
    first = path.read_bytes()
    path.unlink()
    assert export(run, "zip", path)[0].read_bytes() == first


def test_sha256sum_of_the_system_agrees(run: Run, tmp_path: Path) -> None:
    (path,) = export(run, "zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    try:
        subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "unpacked" / "run", check=True)
    except FileNotFoundError:
        pytest.skip("this system has no sha256sum")


@pytest.mark.parametrize(("format", "second"), [("csv", "run_spike.csv"), ("parquet", "run_spike.parquet")])
def test_nothing_is_overwritten_and_nothing_left_behind(run: Run, tmp_path: Path, format: str, second: str) -> None:
    (tmp_path / second).write_text("mine")
    with pytest.raises(StorageError, match=rf"{second} exists already"):
        export(run, format)
    assert (tmp_path / second).read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"run.h5", second}


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no export to 'xls'; there are csv, parquet, nwb, zip"):
        export(run, "xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file exists already"):
        export(run, "csv", tmp_path / "file" / "x")


def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "labctl.exporting.parquet", raising=False)
    with warnings.catch_warnings(), pytest.raises(UsageError, match=r"needs the package pyarrow; pip install"):
        export(run, "parquet")


def test_an_imported_run_can_be_exported(tmp_path: Path) -> None:
    (tmp_path / "iv.txt").write_text("V I\n0 0\n1 1e-3\n")
    imported = import_file(tmp_path / "iv.txt")
    pytest.importorskip("pynwb")
    pytest.importorskip("pyarrow")
    for format in ("csv", "parquet", "nwb", "zip"):
        assert export(imported, format)[0].stat().st_size > 0


def test_only_a_whole_recording_is_published(tmp_path: Path) -> None:
    from labctl.journal import Journal

    journal = Journal(tmp_path / "x.h5.journal", {"protocol": "p", "params": {}}, [Table(Spike)])
    journal.row(0, (1.0, 2))
    journal.close()
    run = labctl.load(tmp_path / "x.h5")
    with pytest.raises(StorageError, match="is interrupted; labctl recover it first"):
        export(run, "zip")
    assert export(run, "csv")[0].read_text().splitlines()[1].startswith("1.0,2,")
    assert {path.name for path in tmp_path.iterdir()} == {"x.h5.journal", "x.csv"}
