"""labctl: a lab controller for memristor-and-neuron chips.

import labctl

with labctl.open_bench("sim", seed=1) as bench:
    run = labctl.run("lif_fi_curve", bench, i_syn=[1e-5, 2e-4], out="x.h5")
print(run.table()["rate"])
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from labctl.protocol import Rows, Trace
    from labctl.quantity import Q
    from labctl.reader import Run, load
    from labctl.runner import run
    from labctl.station import Station

__all__ = ["Q", "Rows", "Run", "Trace", "load", "open_bench", "run"]

_HOME = {"run": "runner", "load": "reader", "Run": "reader", "Q": "quantity", "Rows": "protocol", "Trace": "protocol"}


def open_bench(station: "str | Station" = "sim", *, seed: int = 0) -> Any:
    """Open a bench (see `drivers.bench.open_bench`): a built-in station's name, a station file, a `Station`, or a
    recorded FILE.h5, whose instruments answer from the recording.
    """
    return bench_factory("open")(station, seed=seed)


def bench_factory(name: str) -> Any:
    """What the installed drivers registered under the entry point ``labctl.bench``: "open" or "tape"."""
    return next(entry for entry in importlib.metadata.entry_points(group="labctl.bench") if entry.name == name).load()


def __getattr__(name: str) -> Any:
    # submodules load on first use: a script that only reads a file imports no more than that
    if name in _HOME:
        return getattr(importlib.import_module(f"labctl.{_HOME[name]}"), name)
    raise AttributeError(f"module 'labctl' has no attribute {name!r}")
