"""Export of a recorded map: the array as it was last measured, as a SPICE circuit of the filament model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labctl.errors import UsageError
from labctl.models.filament import FilamentParams
from labctl.models.spice import measured_netlist
from labctl.reader import Run


def write(run: Run, out: Path) -> Iterator[Path]:
    """Write the one file. Raises `UsageError` for a run that measured no conductances of cells."""
    table = next((t for t in map(run.table, run.tables) if {"row", "column"} <= set(t) and {"g", "r"} & set(t)), None)
    if table is None or not len(table["row"]):
        raise UsageError(
            f"{run.path.name} tells no conductances of cells (columns row, column, g or r); give a run of read_map, "
            f"or a station: labctl export STATION.toml --to spice"
        )
    g = np.asarray(table["g"] if "g" in table else 1.0 / table["r"], np.float64)
    cells = {
        (int(row), int(column)): float(np.nan_to_num(value))
        for row, column, value in zip(table["row"], table["column"], g, strict=True)
    }
    v_read, v_wl = (float(run.params.get(name, default)) for name, default in (("v_read", 0.2), ("v_wl", 2.5)))
    yield out
    head = (
        f"* {run.path.name}: {len(cells)} cells as they were last measured, at {v_read:g} V, gates at {v_wl:g} V\n"
        "* lines BLc, WLr, SLr; start a transient with uic; made by labctl\n"
    )
    with out.open("x", encoding="utf-8") as file:
        file.write(head + measured_netlist(FilamentParams(), cells, v_read, v_wl))
