"""NWB 2 (Neurodata Without Borders) for neuron traces and spikes.

Waveforms become `TimeSeries` under acquisition, with the converter's codes, conversion and offset as recorded. A table
of spikes (a column `t` in s, and a column `neuron` or a name that begins with spike) becomes `Units`, one a neuron,
with the times of that column. Every table is kept whole as a `DynamicTable` in the processing module "tables". Checked
with pynwb's validator before the file counts as made.
"""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pynwb
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import VectorData

from labctl.errors import StorageError

if TYPE_CHECKING:
    from labctl.reader import Run

_UNITS = {"V": "volts", "A": "amperes", "s": "seconds", "Ω": "ohms", "Hz": "hertz"}


def write(run: "Run", path: Path) -> Iterator[Path]:
    """One .nwb file; raises `StorageError` when pynwb's validator finds fault with it."""
    path.open("xb").close()  # fails when it exists
    yield path
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(_content(run))
    with pynwb.NWBHDF5IO(path, "r") as io:
        errors = pynwb.validate(io=io)
    if errors:
        raise StorageError(f"{path} is no valid NWB, pynwb finds {len(errors)} faults, the first: {errors[0]}")


def _content(run: "Run") -> pynwb.NWBFile:
    header = run.header
    parameters = ", ".join(
        f"{k} = {v} {header.get('param_units', {}).get(k, '')}".strip() for k, v in run.params.items()
    )
    created = datetime.fromisoformat(header["created"])
    content = pynwb.NWBFile(
        session_description=run.comment or header.get("protocol_doc") or run.protocol,
        identifier=sha256(f"{run.path.name} {header.get('created')} {header.get('session')}".encode()).hexdigest(),
        session_start_time=created if created.tzinfo else created.astimezone(),
        experiment_description=f"{run.protocol}: {parameters}",
        experimenter=header.get("operator") or None,
        keywords=run.tags or None,
        protocol=run.protocol,
        source_script=header.get("protocol_source_sha256") and f"sha256 {header['protocol_source_sha256']}",
        source_script_file_name=header.get("protocol_module"),
        notes=f"exported from {run.path.name}, status {run.status}; a chip, no animal",
    )
    content.add_device(pynwb.device.Device(name="bench", description=str(header.get("station", {}).get("name", ""))))
    for name in run.traces:
        _traces(run, name, content)
    tables = content.create_processing_module("tables", "the recorded tables, whole")
    for name in run.tables:
        columns = run.table(name)
        tables.add(_dynamic(run, name, columns))
        if run.units(name).get("t") == "s" and ("neuron" in columns or name.startswith("spike")):
            who = columns.get("neuron", np.zeros(len(columns["t"]), np.int64))
            for neuron in np.unique(who).tolist():
                times = np.sort(columns["t"][who == neuron])
                content.add_unit(spike_times=times, id=int(neuron))
    return content


def _traces(run: "Run", name: str, content: pynwb.NWBFile) -> None:
    begins, rows = run.trace_elapsed(name), run.trace_rows(name)
    for number, (begin, row) in enumerate(zip(begins.tolist(), rows.tolist(), strict=True)):
        trace = run.trace(name, number)
        # NWB's time is the session's: the moment of recording plus the sample's time from the trigger
        content.add_acquisition(
            pynwb.TimeSeries(
                name=f"{name}_{number:04d}",
                data=H5DataIO(trace.codes, compression="gzip", compression_opts=1, shuffle=True),
                unit=_UNITS.get(trace.unit, trace.unit or "n.a."),
                conversion=float(trace.scale),
                offset=float(trace.offset),
                starting_time=(0.0 if np.isnan(begin) else begin) + trace.t0,
                rate=1.0 / trace.dt,
                description=f"waveform of row {row} of {run.tables[0]}; t = 0 is the trigger at {begin:.6g} s",
            )
        )


def _dynamic(run: "Run", name: str, columns: dict[str, Any]) -> pynwb.core.DynamicTable:
    meanings = {column.name: column.q for column in run.columns(name)}
    data = []
    for key, values in columns.items():
        q = meanings[key]
        text = f"{q.meaning or key} ({q.unit})" if q.unit else q.meaning or key
        data.append(VectorData(name=key, description=text, data=values.tolist() if values.dtype == object else values))
    data.append(VectorData(name="elapsed", description="time since the start (s)", data=run.elapsed(name)))
    return pynwb.core.DynamicTable(name=name, description=f"table {name} of {run.protocol}", columns=data)
