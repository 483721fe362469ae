"""A zip for publication: the recorded file as it is, its tables as CSV, a README of every column, check sums."""

import tempfile
import zipfile
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import StorageError
from labctl.exporting import csv, heading, table_paths
from labctl.quantity import si

if TYPE_CHECKING:
    from labctl.reader import Run

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same run makes the same bytes


def write(run: "Run", path: Path) -> Iterator[Path]:
    """NAME.h5, NAME*.csv, README.md and SHA256SUMS in one folder of one zip; `sha256sum -c SHA256SUMS` checks it."""
    if run.status in ("running", "interrupted"):
        raise StorageError(f"{run.path} is {run.status}; labctl recover it first, then publish it")
    with path.open("xb") as file, tempfile.TemporaryDirectory() as folder:
        yield path
        files = [run.path, *csv.write(run, Path(folder) / run.path.stem)]
        readme = _readme(run, files)
        sums = {file.name: _sum(file) for file in files} | {"README.md": sha256(readme.encode()).hexdigest()}
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
            for name, text in (("README.md", readme), ("SHA256SUMS", listing)):
                out.writestr(_info(f"{path.stem}/{name}"), text)
            for source in files:
                with (
                    source.open("rb") as data,
                    out.open(_info(f"{path.stem}/{source.name}"), "w", force_zip64=True) as to,
                ):
                    while block := data.read(1 << 20):
                        to.write(block)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _readme(run: "Run", files: list[Path]) -> str:
    header = run.header
    units = header.get("param_units", {})
    meanings = header.get("param_meanings", {})
    lines = [
        f"# {run.path.stem}: {run.protocol}", "",
        str(header.get("protocol_doc", "")), "",
        f"- recorded: {header.get('created', '')}, status {run.status}",
        f"- bench: {header.get('station', {}).get('name', '')}; seed {header.get('seed')}",
        f"- comment: {run.comment or '–'}; tags: {', '.join(run.tags) or '–'}",
        "- software: " + ", ".join(f"{k} {version}" for k, version in header.get("versions", {}).items() if version),
    ]  # fmt: skip
    if "source" in header:
        source = header["source"]
        lines.append(f"- imported from {source['name']} ({source['format']}), SHA-256 {source['sha256']}")
    lines += [f"- lost in a recovery: {loss}" for loss in run.losses]
    lines += ["", "All numbers are in SI units.", ""]
    if run.params:
        lines += ["## Parameters", "", "| name | value | unit | meaning |", "|---|---|---|---|"]
        for name, value in run.params.items():
            lines.append(f"| {name} | {_cell(value)} | {units.get(name, '')} | {_cell(meanings.get(name, ''))} |")
        lines.append("")
    for name, path in table_paths(run, Path(run.path.stem), ".csv"):
        rows = run.row_count(name)
        lines += [f"## Table {name} ({path.name}, {rows} rows)", "", "| column | unit | meaning |", "|---|---|---|"]
        for column in run.columns(name):
            lines.append(f"| {column.name} | {column.q.unit or '–'} | {_cell(column.q.meaning)} |")
        lines += ["| elapsed | s | time since the start of the run, when the row was recorded |", ""]
    for name in run.traces:
        first = run.trace(name, 0)
        lines += [
            f"## Waveforms {name} ({run.path.stem}_{name}_NNNN.csv, {run.trace_count(name)} of them)", "",
            f"Columns t (s), 0 at the trigger, and {heading(name, first.unit)}; the first has {len(first.codes)}"
            f" samples {si(first.dt, 's')} apart.", "",
        ]  # fmt: skip
    names = ", ".join(file.name for file in files[:20]) + (", …" if len(files) > 20 else "")
    lines += [
        "## Files", "", f"{names}. The .h5 file is the recording itself (HDF5: NeXus, xarray, labctl); SHA256SUMS"
        " lists the SHA-256 of every file.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
