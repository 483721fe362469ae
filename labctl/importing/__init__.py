"""Import: recordings of other instruments and programs become ordinary runs, that show, plot, playback and export read.

Nothing is dropped silently: a line that cannot be read stops the import, or, with `skip_bad`, is kept word by word in
the table `bad_line` of the new file. Formats: ``arc1``, ``arc2``, ``table``, ``scope``.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import StorageError, UsageError
from labctl.importing.common import Imported, is_hdf5, read_text, write

if TYPE_CHECKING:
    from labctl.reader import Run

FORMATS = {
    "arc1": "labctl.importing.arc_one",
    "arc2": "labctl.importing.arc_two",
    "table": "labctl.importing.tables",
    "scope": "labctl.importing.scope_csv",
}
"""Name → module with ``read(path, **options) -> Imported``."""


def import_file(
    path: str | Path,
    out: str | Path | None = None,
    *,
    format: str = "auto",
    skip_bad: bool = False,
    comment: str = "",
    tags: tuple[str, ...] = (),
    **options: Any,
) -> "Run":
    """Make a run of a file of another program and return it, loaded.

    out: a new file (default: the same name with .h5). format: one of `FORMATS`, or "auto": told from the content.
    skip_bad: leave lines out that cannot be read, and keep them in the table ``bad_line``; without it they are an
    error that names them. options: what the format takes (`tables.read`: columns, decimal).
    Raises `StorageError` when the file cannot be read as that format or `out` exists, `UsageError` for wrong options.
    """
    source = Path(path)
    if format != "auto" and format not in FORMATS:
        raise UsageError(f"there is no format {format!r}; there are {', '.join(FORMATS)}, or auto")
    chosen = format if format != "auto" else guess(source)
    if options.get("columns") and chosen != "table":
        raise UsageError(f"{source.name} is imported as {chosen}, whose columns are known; --column is for tables")
    target = Path(out) if out is not None else source.with_name(_stem(source) + ".h5")
    if target.exists():
        raise StorageError(f"{target} exists already; labctl never overwrites a recording, choose another name")
    imported: Imported = importlib.import_module(FORMATS[chosen]).read(source, **options)
    if imported.bad and not skip_bad:
        shown = "; ".join(str(line) for line in imported.bad[:5])
        more = f"; and {len(imported.bad) - 5} more" if len(imported.bad) > 5 else ""
        raise StorageError(
            f"{source}: {len(imported.bad)} bad lines, nothing was imported: {shown}{more};"
            " correct them, or give --skip-bad to import the others and keep these as text"
        )
    return write(imported, source, chosen, target, comment, tags)


def guess(path: Path) -> str:
    """The format of a file, from its content; raises `StorageError` when it cannot be read."""
    from labctl.importing import arc_one, scope_csv

    if is_hdf5(path):
        return "arc2"
    head = [line for _, line in zip(range(40), read_text(path).splitlines(), strict=False)]
    if arc_one.recognises(head):
        return "arc1"
    return "scope" if scope_csv.recognises(head) else "table"


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix):
        name = name.removesuffix(ending) or name
    # ArC TWO's own files end in .h5 too
    return f"{name}_imported" if path.suffix in (".h5", ".hdf5") else name
