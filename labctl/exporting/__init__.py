"""Export: a recorded run for other programs: ``csv``, ``parquet``, ``nwb``, ``zip`` for publication, ``spice``."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import StorageError, UsageError

if TYPE_CHECKING:
    from labctl.reader import Run

FORMATS = {
    "csv": ("labctl.exporting.csv", ""),
    "parquet": ("labctl.exporting.parquet", ""),
    "nwb": ("labctl.exporting.nwb", ".nwb"),
    "zip": ("labctl.exporting.publication", ".zip"),
    "spice": ("labctl.exporting.spice", ".cir"),
}
"""Name → module with ``write(run, out) -> list of paths``, and the ending of its one file ("": several)."""


def export(run: "Run", format: str, out: str | Path | None = None) -> list[Path]:
    """Write `run` in another format; return the files made, the main table's first.

    out: the file (nwb, zip, spice), or the beginning of the files' names (csv, parquet: OUT.csv, OUT_TABLE.csv …);
    default: the run's own name. Raises `UsageError` for an unknown format or a package that is not installed,
    `StorageError` when a file exists already or cannot be written. Then nothing is left behind.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no export to {format!r}; there are {', '.join(FORMATS)}")
    module, ending = FORMATS[format]
    stem = run.path.with_suffix("") if out is None else Path(out)
    if not ending:
        stem = stem.with_suffix("") if stem.suffix == f".{format}" else stem
    elif stem.suffix != ending:
        stem = stem.with_name(stem.name + ending)
    made: list[Path] = []
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path in importlib.import_module(module).write(run, stem):
            made.append(path)
    except BaseException as error:
        for path in made:
            path.unlink(missing_ok=True)
        if isinstance(error, ModuleNotFoundError):
            raise UsageError(
                f"export to {format} needs the package {error.name}; pip install 'labctl[export]'"
            ) from error
        if isinstance(error, FileExistsError):
            raise StorageError(f"{error.filename} exists already; choose another name with -o") from error
        if isinstance(error, OSError):
            raise StorageError(f"{run.path.name} cannot be exported to {stem} ({error.strerror or error})") from error
        raise
    return made


def heading(name: str, unit: str) -> str:
    """A column's head, as ``v (V)``; `labctl import` reads it back."""
    return f"{name} ({unit})" if unit else name


def table_paths(run: "Run", stem: Path, ending: str) -> Sequence[tuple[str, Path]]:
    """Each table with its file: the main one without a suffix."""
    main = run.tables[0] if run.tables else ""
    return [(name, Path(f"{stem}{ending}" if name == main else f"{stem}_{name}{ending}")) for name in run.tables]
