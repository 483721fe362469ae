"""All of the HDF5 file but its rows and waveforms: what is known before the first, and what the journal leaves."""

import json
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import h5py
import numpy as np

from labctl.journal_entries import EventEntry, TransactionEntry
from labctl.protocol import Table
from labctl.schema import to_json
from labctl.store_traces import GZIP

FORMAT = "labctl run"
FORMAT_VERSION = 1
RESERVED = ("header", "schema", "summary", "parameters", "provenance", "traces", "journal", "title", "start_time",
            "end_time", "duration", "program_name", "user", "notes", "bench", "experiment_identifier")  # fmt: skip
TEXT = h5py.string_dtype("utf-8")


def write_frame(file: Any, name: str, header: dict[str, Any], tables: Sequence[Table]) -> Any:
    """Everything that is known before the first row."""
    created = header.get("created", "")
    file.attrs.update({
        "NX_class": "NXroot", "default": "entry", "file_name": name, "creator": "labctl",
        "HDF5_Version": h5py.version.hdf5_version, "h5py_version": h5py.version.version,
        "format": FORMAT, "format_version": FORMAT_VERSION, "status": "running",
    })  # fmt: skip
    if created:
        file.attrs["file_time"] = created
    entry = _group(file, "entry", "NXentry")
    entry["title"] = _text(header.get("comment") or header.get("protocol", ""))
    entry["start_time"] = created
    entry["program_name"] = "labctl"
    entry["header"] = json.dumps(header)  # a long attribute would not fit
    entry["schema"] = json.dumps([to_json(table) for table in tables])
    if header.get("operator"):
        user = _group(entry, "user", "NXuser")
        user["name"] = _text(header["operator"])
    if header.get("comment"):
        notes = _group(entry, "notes", "NXnote")
        notes["type"] = "text/plain"
        notes["description"] = "operator's comment"
        notes["data"] = _text(header["comment"])
    parameters = _group(entry, "parameters", "NXcollection")
    for key, value in header.get("params", {}).items():
        dataset = _field(parameters, key, value)
        dataset.attrs["units"] = header.get("param_units", {}).get(key, "")
        dataset.attrs["long_name"] = header.get("param_meanings", {}).get(key, "") or key
        if dataset.shape:
            dataset.make_scale(key)
    known = ("params", "param_units", "param_meanings")
    _tree(entry, "provenance", {key: value for key, value in header.items() if key not in known})
    return entry


def write_identities(entry: Any, identities: dict[str, Any]) -> None:
    bench = _group(entry, "bench", "NXcollection")
    for name, identity in identities.items():
        instrument = _group(bench, name, "NXinstrument")
        instrument["name"] = _text(str(identity))


def write_journal(entry: Any, transactions: list[TransactionEntry], events: list[EventEntry]) -> None:
    """Ragged bytes as one vector and where each piece ends: opens in milliseconds, whatever their number."""
    journal = _group(entry, "journal", "NXcollection")
    group = _group(journal, "transactions", "NXcollection")
    names = list(dict.fromkeys(item.transaction.instrument for item in transactions))
    number = {name: k for k, name in enumerate(names)}
    requests = [item.transaction.request for item in transactions]
    replies = [item.transaction.reply for item in transactions]
    _vector(group, "elapsed", [item.t for item in transactions], "f8", "s")
    _vector(group, "rows_before", [item.rows_before for item in transactions], "i8")
    _vector(group, "instrument", [number[item.transaction.instrument] for item in transactions], "u2")
    group.create_dataset("instruments", data=np.array(names, object), dtype=TEXT)
    for name, pieces in (("request", requests), ("reply", replies)):
        _vector(group, f"{name}_end", np.cumsum([len(piece) for piece in pieces], dtype=np.int64), "i8")
        _vector(group, f"{name}_bytes", np.frombuffer(b"".join(pieces), np.uint8), "u1")
    # one check sum a transaction: a re-execution can name the one that was changed, even where no row depends on it
    _vector(
        group, "crc32", [crc32(reply, crc32(request)) for request, reply in zip(requests, replies, strict=True)], "u4"
    )
    group = _group(journal, "events", "NXcollection")
    _vector(group, "elapsed", [event.t for event in events], "f8", "s")
    _vector(group, "rows_before", [event.rows_before for event in events], "i8")
    for name, texts in (("name", [_text(e.name) for e in events]), ("data", [json.dumps(e.data) for e in events])):
        group.create_dataset(name, data=np.array(texts, object), dtype=TEXT)


def _text(text: str) -> str:
    """For readers of the file; NUL and bytes that are no UTF-8 stay in the JSON of the header only."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _vector(group: Any, name: str, values: Any, dtype: str, unit: str = "") -> None:
    array = np.asarray(values, dtype)
    options: dict[str, Any] = {"chunks": (min(len(array), 1 << 18),), **GZIP} if len(array) else {}
    dataset = group.create_dataset(name, data=array, **options)
    if unit:
        dataset.attrs["units"] = unit


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(_text(name).replace("/", "_"), track_order=True)
    group.attrs["NX_class"] = nx_class
    return group


def _tree(parent: Any, name: str, values: dict[str, Any]) -> None:
    """JSON as groups and fields, for people with a viewer."""
    group = _group(parent, name, "NXcollection")
    for key, value in values.items():
        if isinstance(value, dict):
            _tree(group, key, value)
        else:
            _field(group, key, value)


def _field(group: Any, key: str, value: Any) -> Any:
    """A JSON value as a dataset: numbers and text as they are, all else as JSON text."""
    uniform = value if isinstance(value, list) else [value]
    plain = np.asarray(value) if len({type(item) for item in uniform}) == 1 else np.asarray(json.dumps(value))
    if plain.dtype.kind not in "biufU":
        plain = np.asarray(json.dumps(value))
    if plain.dtype.kind == "U":
        plain = np.vectorize(_text, otypes=[object])(plain)
    kind = {"b": np.dtype("i1"), "O": TEXT}.get(plain.dtype.kind, plain.dtype)
    dataset = group.create_dataset(_text(key).replace("/", "_"), data=plain, dtype=kind)
    if plain.dtype == bool:
        dataset.attrs["dtype"] = "bool"
    return dataset
