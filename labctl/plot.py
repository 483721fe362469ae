"""A recorded run as a PNG: the picture its protocol declares, or every column against the first."""

from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import StorageError, UsageError
from labctl.protocol import find
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(run: Run, path: str | Path) -> Path:
    """Draw `run` into a PNG file and return its path; raises `StorageError` when it cannot be written."""
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    try:
        draw = find(run.protocol).plot or draw_columns
    except UsageError:  # a protocol that is not installed here any more
        draw = draw_columns
    draw(run, figure)
    note = f"{Path(run.path).name} · {run.header['created'][:16]} · {run.header['station']['name']} · {run.status}"
    figure.supxlabel(note, fontsize=7, color="gray")
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise StorageError(f"plot {path} cannot be written ({error})") from error
    return Path(path)


def draw_columns(run: Run, figure: "Figure") -> None:
    """Every numeric column of the main table against its first column; an imported run as it is looked at."""
    if "source" in run.header:
        from labctl.importing import picture

        if picture.draw(run, figure):
            return
    table, units = run.table(), run.units()
    numeric = [name for name, values in table.items() if values.dtype.kind in "fiub"]
    first, others = numeric[0], numeric[1:] or numeric[:1]
    for axes, name in zip(figure.subplots(len(others), 1, sharex=True, squeeze=False)[:, 0], others, strict=True):
        axes.plot(table[first], table[name], ".-")
        axes.set_ylabel(f"{name} ({units[name]})" if units[name] else name)
        axes.grid(True, alpha=0.3)
    axes.set_xlabel(f"{first} ({units[first]})" if units[first] else first)
