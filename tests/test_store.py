"""The HDF5 file: what viewers and xarray find in it, and what a disk or a reader can do to it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import xarray

from labctl.errors import MeasurementError, StorageError, UsageError
from labctl.protocol import Rows, Table, Trace
from labctl.quantity import Q
from labctl.reader import load
from labctl.recover import recover
from labctl.store import Store
from tests.recorded import HEADER, NOTES, TABLES, TRACES, Point, Recording, bits, fill


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(Recording(tmp_path_factory.mktemp("store") / "small.h5")).finish()


def test_a_nexus_viewer_finds_its_way_to_a_plot(path: Path) -> None:
    """The chain of default attributes of the NeXus manual ("Find the plottable data", version 3)."""
    with h5py.File(path) as file:
        assert file.attrs["NX_class"] == "NXroot"
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        data = entry[entry.attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata"
        assert list(data.attrs["axes"]) == ["v"]
        assert data.attrs["v_indices"] == 0
        signal, axis = data[data.attrs["signal"]], data["v"]
        assert signal.name.endswith("/i")
        assert signal.shape == axis.shape == (10,)
        assert (signal.attrs["units"], axis.attrs["units"]) == ("A", "V")
        assert (signal.attrs["long_name"], axis.attrs["long_name"]) == ("current", "voltage")
        assert entry["start_time"].asstr()[()] <= entry["end_time"].asstr()[()]
        assert entry["title"].asstr()[()] == "a small run"
        assert entry["duration"].attrs["units"] == "s"
        assert entry["user/name"].asstr()[()] == "somebody"
        assert entry["bench/scope/name"].asstr()[()] == "SCOPE,1,2"


def test_provenance_can_be_browsed(path: Path) -> None:
    """What the header's JSON says, as fields that any viewer shows; parameters have their own group."""
    with h5py.File(path) as file:
        group = file["entry/provenance"]
        assert group["seed"][()] == HEADER["seed"]
        assert group["tags"].asstr()[...].tolist() == HEADER["tags"]
        assert group["versions/numpy"].asstr()[()] == HEADER["versions"]["numpy"]
        assert "params" not in group


def test_every_group_has_a_class_and_every_number_of_a_table_a_unit(path: Path) -> None:
    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group):
            assert str(item.attrs["NX_class"]).startswith("NX"), name
        elif item.parent.attrs["NX_class"] == "NXdata" and item.shape:
            assert "units" in item.attrs, name
            assert item.attrs["long_name"], name

    with h5py.File(path) as file:
        file.visititems(visit)


@pytest.mark.parametrize("name", ["point", "note"])
def test_xarray_opens_tables(path: Path, name: str) -> None:
    run = load(path)
    with xarray.open_dataset(path, engine="h5netcdf", group=f"entry/{name}") as dataset:
        axis = "v" if name == "point" else "elapsed"
        assert list(dataset.dims) == [axis]
        for column, values in run.table(name).items():
            assert dataset[column].dtype.kind == ("U" if values.dtype == object else values.dtype.kind)
            np.testing.assert_array_equal(dataset[column].values, values.astype(dataset[column].dtype))
            assert dataset[column].attrs["units"] == run.units(name)[column]
        np.testing.assert_array_equal(dataset["elapsed"].values, run.elapsed(name))
        same = run.to_xarray(name)
        assert set(same.variables) == set(dataset.variables)
        assert same.coords.keys() == dataset.coords.keys()
        for key in same.variables:
            np.testing.assert_array_equal(same[key].values.astype(dataset[key].dtype), dataset[key].values)


def test_xarray_opens_traces_in_volts_and_seconds(path: Path) -> None:
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/traces/v_mem") as dataset:
        codes = dataset["codes"]
        assert codes.dims == ("row", "t")
        for k, trace in enumerate(TRACES[:2]):
            np.testing.assert_allclose(codes.values[k, : len(trace.codes)], trace.values, rtol=1e-15)
            assert dataset["length"].values[k] == len(trace.codes)
        np.testing.assert_allclose(dataset["t"].values, TRACES[1].t, rtol=1e-15)
        assert (codes.attrs["units"], dataset["t"].attrs["units"]) == ("V", "s")
        assert dataset["row"].values.tolist() == [0, 1]


def test_nexus_decodes_traces(path: Path) -> None:
    with h5py.File(path) as file:
        data = file["entry/traces/v_mem"]
        assert list(data.attrs["axes"]) == ["row", "t"]
        assert data["codes"].shape == (len(data["row"]), len(data["t"]))
        decoded = (data["codes"][1] + data["codes_offset"][()]) * data["codes_scaling_factor"][()]
        np.testing.assert_allclose(decoded, TRACES[1].values, rtol=1e-14)
        filters = data["codes"]
        assert (filters.compression, filters.shuffle, filters.fletcher32) == ("gzip", True, True)


def test_parameters_have_units_and_open_in_xarray(path: Path) -> None:
    with h5py.File(path) as file:
        group = file["entry/parameters"]
        assert list(group) == list(HEADER["params"])
        assert group["v"][...].tolist() == [0.5, 1.0]
        assert (group["v"].attrs["units"], group["v"].attrs["long_name"]) == ("V", "voltages")
        assert group["name"].asstr()[()] == "Zürich"
        assert group["modes"].asstr()[...].tolist() == ["a", "b"]
        assert json.loads(file["entry/header"].asstr()[()]) == HEADER
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/parameters") as dataset:
        assert bool(dataset["fast"]) is True
        assert int(dataset["cycles"]) == 3


def test_a_header_of_a_megabyte_fits(tmp_path: Path) -> None:
    header = {**HEADER, "station": {"text": "x" * 1_000_000}}
    path = Recording(tmp_path / "x.h5", header).finish()
    assert load(path).header == header


def test_an_empty_run_is_a_whole_file(tmp_path: Path) -> None:
    path = Recording(tmp_path / "empty.h5", {}).finish()
    run = load(path)
    assert {name: [len(v) for v in run.table(name).values()] for name in run.tables} == {
        "point": [0] * 4,
        "note": [0] * 3,
    }
    assert run.table("note")["cell"].dtype == object
    assert run.table()["n"].dtype == np.int64
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/note") as dataset:
        assert dataset.sizes == {"elapsed": 0}
    run.to_xarray()


def test_a_viewer_plots_what_was_measured_not_what_was_set(tmp_path: Path) -> None:
    """The first number that is no parameter, against the first column; text and no numbers at all work too."""

    class Sweep(NamedTuple):
        i_syn: A[float, Q("A")]
        v_thr: A[float, Q("V")]
        rate: A[float, Q("Hz")]

    class Words(NamedTuple):
        word: A[str, Q("")]

    class Single(NamedTuple):
        x: A[float, Q("V")]

    header = {"params": {"i_syn": [1.0], "v_thr": [0.8, 1.8]}}
    store = Store(tmp_path / "x.h5", header, [Table(Sweep), Table(Words), Table(Single)])
    store.row(0, Sweep(1.0, 2.0, 3.0), 0.5)
    store.row(1, Words("hello"), 0.5)
    store.finish("done", {}, None)
    with h5py.File(tmp_path / "x.h5") as file:
        found = {
            name: (file["entry"][name].attrs["axes"][0], file["entry"][name].attrs.get("signal"))
            for name in ("sweep", "words", "single")
        }
    assert found == {"sweep": ("i_syn", "rate"), "words": ("elapsed", None), "single": ("x", "elapsed")}


def test_a_file_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="exists already"):
        Store(path, HEADER, TABLES)
    assert path.read_bytes() == before


def test_names_that_the_file_needs_are_refused_before_a_file_exists(tmp_path: Path) -> None:
    class Header(NamedTuple):
        x: A[float, Q("V")]

    class Timed(NamedTuple):
        elapsed: A[float, Q("s")]

    for row, word in ((Header, "header"), (Timed, "elapsed")):
        with pytest.raises(UsageError, match=word):
            Store(tmp_path / "x.h5", {}, [Table(row)])
    with pytest.raises(StorageError, match="nowhere"):
        Store(tmp_path / "nowhere" / "x.h5", {}, [])
    assert list(tmp_path.iterdir()) == []


def test_rows_and_blocks_of_any_size_keep_their_order(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.h5")
    rng = np.random.default_rng(3)
    expected: list[int] = []
    for size in [*rng.integers(0, 30_000, 12).tolist(), 1, 0, 16384, 16385]:
        if size % 2:
            first = len(expected)
            n = np.arange(first, first + size)
            recording.rows(0, Rows(Point, v=n * 0.5, i=0.0, n=n, ok=n % 2 == 0))
            n[:] = -1  # a block belongs to the protocol again once it was recorded
            expected += range(first, first + size)
        for _ in range(size % 300):
            k = len(expected)
            recording.row(0, Point(k * 0.5, 0.0, k, k % 2 == 0))
            expected.append(k)
    run = load(recording.finish())
    table = run.table()
    assert table["n"].tolist() == expected
    assert (table["v"] == np.array(expected) * 0.5).all()
    assert (table["ok"] == (np.array(expected) % 2 == 0)).all()
    assert (np.diff(run.elapsed()) >= 0).all()
    assert run.check() == []


def test_a_small_run_is_a_small_file(tmp_path: Path) -> None:
    """Seven columns of a few rows, their frame and nothing else."""
    assert fill(Recording(tmp_path / "x.h5")).finish().stat().st_size < 200_000


def make_traces(*traces: Trace, path: Path) -> None:
    store = Store(path, {}, [])
    for k, trace in enumerate(traces):
        store.trace(trace, k, 2.0 * k)  # so far apart that each is written on its own
    store.finish("done", {}, None)


def trace(
    codes: list[Any], dtype: str, scale: float = 0.5, offset: float = 1.0, t0: float = 0.0, dt: float = 1.0
) -> Trace:
    return Trace("w", np.array(codes, dtype), scale, offset, "V", t0, dt)


@pytest.mark.parametrize(
    "traces",
    [
        [trace([1, 2], "i1"), trace([300, -300, 5], "i2"), trace([2**31], "u4"), trace([-1], "i8")],
        [trace([1, 2], "i2"), trace([0.5, 1.5], "f4"), trace([2**31 - 1], "i4")],
        [trace([1, 2, 3], ">i2"), trace([], "i2"), trace([4], "i2")],
        [trace([1], "i2"), trace([2], "i2", scale=0.25), trace([3], "i2", scale=0.5)],
        [trace([1], "i2"), trace([2, 3], "i2", t0=1.0), trace([3], "i2", dt=2.0)],
        [trace([1], "i1"), trace([2], "i2", scale=0.25), trace([300], "i4", offset=9.0)],
        [trace(list(range(30000)), "i4"), trace([1], "i4"), trace(list(range(45000)), "i4")],
        [trace(list(range(300_000)), "f8"), trace([1], "f8"), trace(list(range(400_000)), "f8")],
        [
            trace(list(range(1000)), "f4"),
            trace(list(range(3500)), "f4"),
            trace(list(range(3000)), "f4"),
            trace([], "f4"),
        ],
        [trace([], "f4"), trace([1.5], "f4"), trace(list(range(512)), "f8"), trace(list(range(600)), "f4")],
    ],
)
def test_traces_of_any_length_dtype_and_scale_come_back(tmp_path: Path, traces: list[Trace]) -> None:
    path = tmp_path / "x.h5"
    make_traces(*traces, path=path)
    run = load(path)
    assert run.trace_count("w") == len(traces)
    for k, given in enumerate(traces):
        read = run.trace("w", k)
        np.testing.assert_array_equal(read.codes, given.codes)
        assert (read.scale, read.offset, read.t0, read.dt) == (given.scale, given.offset, given.t0, given.dt)
    same_scale = len({(t.scale, t.offset) for t in traces}) == 1
    same_time = len({(t.t0, t.dt) for t in traces}) == 1
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/traces/w") as dataset:
        for k, given in enumerate(traces):
            line = dataset["codes"].values[k, : len(given.codes)]
            np.testing.assert_array_equal(line, given.values if same_scale else given.codes)
        assert ("t" in dataset) == same_time
    with h5py.File(path) as file:
        group = file["entry/traces/w"]
        axes = list(group.attrs["axes"])
        assert [len(group[axis]) for axis in axes] == list(group["codes"].shape)
        assert ("codes_scaling_factor" in group) == same_scale


def test_a_trace_belongs_to_the_protocol_again_once_recorded(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.h5", {}, [])
    codes = np.zeros(1000, np.int16)
    large = np.zeros(1_000_000, np.int16)
    for k in range(3):
        codes[:], large[:] = k, k
        store.trace(Trace("a", codes, 1, 0, "V", 0, 1), k, 0.0)
        store.trace(Trace("b", large, 1, 0, "V", 0, 1), k, 0.0)
    store.finish("done", {}, None)
    run = load(tmp_path / "x.h5")
    assert [run.trace(name, k).codes[-1] for name in "ab" for k in range(3)] == [0, 1, 2] * 2


def test_an_error_of_a_packing_thread_reaches_the_run_and_the_journal_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(tmp_path / "x.h5")
    traces = [Trace("w", np.arange(600_000, dtype=np.int16) + k, 1.0, 0.0, "V", 0.0, 1.0) for k in range(40)]

    def fail(data: object, level: int) -> bytes:
        raise MemoryError("no room to pack")

    given: list[Trace] = []

    def record_all() -> None:
        for trace in traces:
            given.append(trace)
            recording.trace(trace)

    with monkeypatch.context() as patch:
        patch.setattr("labctl.store_traces.zlib.compress", fail)
        with pytest.raises(MemoryError, match="no room to pack"):
            record_all()
        with pytest.raises(MemoryError):
            recording.finish("failed")
    assert len(given) < 40  # it did not wait for the end
    run = load(recover(recording.path))
    assert run.status == "failed"
    assert run.trace_count("w") == len(given)
    assert all((run.trace("w", k).codes == trace.codes).all() for k, trace in enumerate(given))


def test_a_store_alone_refuses_what_a_journal_refuses(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.h5", {}, TABLES)
    store.trace(TRACES[0], 0, 0.0)
    with pytest.raises(MeasurementError, match="give it another name"):
        store.trace(Trace("v_mem", np.zeros(2, int), 1, 0, "A", 0, 1), 0, 0.0)
    with pytest.raises(MeasurementError, match="ok holds bool"):
        store.rows(0, Rows(Point, v=1.0, i=1.0, n=np.array([1]), ok=1), 0.0)
    store.finish("done", {}, None)
    assert load(tmp_path / "x.h5").row_count() == 0


def test_damage_in_a_finished_file_is_found(tmp_path: Path) -> None:
    path = fill(Recording(tmp_path / "x.h5")).finish()
    assert load(path).check() == []
    with h5py.File(path, "r+") as file:
        file["entry/point/i"][3] += 1e-20
        file["entry/traces/i_out/codes"][0, 0] = 0.25
        file["entry/journal/transactions/reply_bytes"][3] ^= 1
    *found, transaction = load(path).check()
    assert found == ["table point: column i is damaged", "trace i_out 0 is damaged"]
    assert "transaction 3 (board) is damaged" in transaction
    with pytest.raises(StorageError, match=r"transaction 3 \(board\) is damaged"):
        load(path).transactions()


def test_damage_in_a_compressed_trace_is_found_by_hdf5_itself(tmp_path: Path) -> None:
    """One byte of the file is changed, in the middle of a chunk."""
    path = fill(Recording(tmp_path / "x.h5")).finish()
    with h5py.File(path) as file:
        chunk = file["entry/traces/v_mem/codes"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 0x10
    path.write_bytes(data)
    assert load(path).check() == ["trace v_mem 0 is damaged"]
    with pytest.raises(StorageError, match="trace v_mem 0 is damaged"):
        load(path).trace("v_mem", 0)


def test_others_can_look_while_it_is_written(tmp_path: Path) -> None:
    """A plain reader in another process, opening again and again, finds whole tables in order, and never an error."""
    path = tmp_path / "x.h5"
    code = f"""
import h5py, numpy as np, xarray
print("ready", flush=True)
looks = set()
while len(looks) < 10:
    with h5py.File({str(path)!r}) as file:
        group = file["entry/point"]
        columns = [group[name][...] for name in ("n", "v", "i", "elapsed")]
        n = np.arange(len(columns[0]))
        assert all((column == n * factor).all() for column, factor in zip(columns, (1, 0.5, -1.0))), columns
        assert len(columns[3]) == len(n)
        if "traces" in file["entry"]:
            assert (file["entry/traces/w/codes"][:, -1] == np.arange(1, 1 + len(file["entry/traces/w/row"]))).all()
    with xarray.open_dataset({str(path)!r}, engine="h5netcdf", group="entry/point") as seen:
        assert (seen["v"].values == 0.5 * seen["n"].values).all()
    looks.add(len(n))
print(len(looks))
"""
    store = Store(path, HEADER, TABLES)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    k = times = 0
    while process.poll() is None:
        times += 1  # a second of the run has passed: every time a copy is published
        for _ in range(k % 500):
            store.row(0, Point(0.5 * k, -1.0 * k, k, True), 1.1 * times)
            k += 1
        n = np.arange(k, k + 501)
        store.rows(0, Rows(Point, v=0.5 * n, i=-1.0 * n, n=n, ok=True), 1.1 * times)
        k += 501
        store.trace(Trace("w", np.full(3000, times, np.int16), 1.0, 0.0, "V", 0.0, 1.0), k - 1, 1.1 * times)
    store.finish("done", {}, None)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert int(output) == 10
    assert load(path).row_count() == k
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.h5"]


def test_status_says_whole_only_when_it_is(tmp_path: Path) -> None:
    recording = fill(Recording(tmp_path / "x.h5"))
    with h5py.File(recording.path) as file:
        assert file.attrs["status"] == "running"
        assert file.attrs["format_version"] == 1
    recording.finish("aborted")
    with h5py.File(recording.path, "r") as file:
        assert file.attrs["status"] == "aborted"


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
@pytest.mark.parametrize("limit", [5_000, 60_000, 200_000])
def test_a_full_disk_ends_in_one_line_and_the_journal_still_has_the_rows(tmp_path: Path, limit: int) -> None:
    """The system's limit on the size of one file, met by the HDF5 file; the journal is on a disk with room."""
    code = f"""
import resource, sys
from labctl.errors import StorageError
from tests.recorded import Point, Recording
from pathlib import Path
recorded = 0
recording = None
try:
    recording = Recording(Path({str(tmp_path / "x.h5")!r}))
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    while recorded < 20_000:
        # the journal's own limit would come first otherwise
        t = 1.1 * recorded if recorded % 100 == 0 else 0.0
        recording.store.row(0, Point(recorded, 0, recorded, True), t)
        recorded += 1
    recording.store.finish("done", {{}}, None)
except StorageError as error:
    print("first:", error)
try:
    recording.store.finish("failed", {{}}, None)
except StorageError as error:
    print("second:", error)
print("alive", recorded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("first: ")
    assert "is there room on the disk?" in lines[0]
    assert lines[-1].startswith("alive")


def test_bits_survive(tmp_path: Path) -> None:
    """NaN payloads, −0, denormals and the ends of the integers."""
    odd = np.frombuffer(np.array([0x7FF8DEADBEEF0001, 1 << 63, 1, 0xFFF0000000000000], np.uint64).tobytes(), float)
    ends = np.array([-(2**63), 2**63 - 1, 0, -1])
    rows = Rows(Point, v=odd, i=odd[::-1], n=ends, ok=np.array([True, False, True, False]))
    recording = Recording(tmp_path / "x.h5")
    recording.rows(0, rows)
    for row in zip(*(column.tolist() for column in rows.columns.values()), strict=True):
        recording.row(0, Point(*row))
    for note in NOTES:
        recording.row(1, note)
    table = load(recording.finish()).table()
    for half in (slice(0, 4), slice(4, 8)):
        assert bits({name: values[half] for name, values in table.items()}) == bits(
            {name: np.ascontiguousarray(values) for name, values in rows.columns.items()}
        )
