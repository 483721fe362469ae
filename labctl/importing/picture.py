"""What to look at first in an imported run: loops, histories of cells, waveforms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.exporting import heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labctl.reader import Run

MOST = 12
"""Cells or waveforms in one picture; the title says how many there are."""


def draw(run: "Run", figure: "Figure") -> bool:
    """Draw an imported run; False when there is no picture for what it holds."""
    if run.traces:
        return _waveforms(run, figure)
    for name in ("curve", *run.tables):
        if name in run.tables and {"v", "i"} <= set(run.units(name)) and name not in ("operation", "raster"):
            return _loops(run, name, figure)
    if "operation" in run.tables:
        return _histories(run, figure)
    return False


def _waveforms(run: "Run", figure: "Figure") -> bool:
    axes = figure.subplots()
    every = [(name, k) for name in run.traces for k in range(run.trace_count(name))]
    for name, k in every[:MOST]:
        trace = run.trace(name, k)
        axes.plot(trace.t * 1e3, trace.values, linewidth=0.8, label=heading(f"{name} {k or ''}".strip(), trace.unit))
    axes.set(xlabel="time from the trigger (ms)", ylabel="value", title=_title(run, len(every), "waveforms"))
    axes.grid(True, alpha=0.3)
    axes.legend()
    return True


def _loops(run: "Run", name: str, figure: "Figure") -> bool:
    table, axes = run.table(name), figure.subplots()
    keys = [key for key in ("row", "column", "cell", "sweep", "cycle") if key in table]
    groups = _groups(table, keys)
    for which, at in groups[:MOST]:
        label = ", ".join(f"{key} {value}" for key, value in zip(keys, which, strict=True))
        axes.plot(table["v"][at], np.abs(table["i"][at]), ".-", linewidth=0.8, label=label)
    _log_scale(axes, np.abs(table["i"]))
    axes.set(xlabel="V (V)", ylabel="|I| (A)", title=_title(run, len(groups), "loops"))
    axes.grid(True, which="both", alpha=0.3)
    if 1 < len(groups) <= MOST:
        axes.legend(fontsize=7)
    return True


def _histories(run: "Run", figure: "Figure") -> bool:
    table = run.table("operation")
    shown = "r" if "r" in table else "i"
    groups = _groups(table, ["row", "column"])
    above, below = figure.subplots(2, 1, sharex=True)
    for (row, column), at in groups[:MOST]:
        above.plot(np.abs(table[shown][at]), ".-", linewidth=0.8, label=f"({row}, {column})")
        below.plot(table["v"][at], ".-", linewidth=0.8)
    _log_scale(above, np.abs(table[shown]))
    above.set(ylabel=heading("resistance" if shown == "r" else "|current|", run.units("operation")[shown]))
    above.set_title(_title(run, len(groups), "cells"))
    above.legend(title="(row, column)", fontsize=7)
    below.set(xlabel="operation on the cell", ylabel="amplitude (V)")
    for axes in (above, below):
        axes.grid(True, alpha=0.3)
    return True


def _log_scale(axes: Any, values: Any) -> None:
    """A logarithmic scale, where there is a span to show on it."""
    if len(np.unique(values[np.isfinite(values) & (values > 0)])) > 1:
        axes.set_yscale("log", nonpositive="mask")


def _groups(table: dict[str, Any], keys: Sequence[str]) -> list[tuple[tuple[Any, ...], Any]]:
    """The rows that have the same values in `keys`, in order of appearance."""
    n = len(next(iter(table.values())))
    if not keys:
        return [((), np.arange(n))]
    found: dict[tuple[Any, ...], list[int]] = {}
    for k, which in enumerate(zip(*(table[key].tolist() for key in keys), strict=True)):
        found.setdefault(which, []).append(k)
    return [(which, np.array(at)) for which, at in found.items()]


def _title(run: "Run", count: int, what: str) -> str:
    part = f"the first {MOST} of {count} {what}" if count > MOST else f"{count} {what}" if count > 1 else what[:-1]
    return f"{run.header['source']['name']}: {part}"
