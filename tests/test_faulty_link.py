"""A link that loses, repeats, corrupts and delays one frame in ten: the same rows, and every pulse exactly once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import labctl
from drivers.bench import Bench
from drivers.simulation import Simulation
from labctl.protocol import discover
from labctl.station import load_station
from labctl.transport.loop import LoopTransport
from tests.faults import FaultyTransport
from tests.test_every_protocol import SHORT

MEMRISTOR = [name for name in discover() if not name.startswith("lif_")]


def measured(name: str, path: Path, rate: float) -> tuple[labctl.Run, NDArray[np.int64], int]:
    """The run, the board's counts of pulses, reads and half-selects, and how many frames were spoilt."""
    station = load_station("sim")
    simulation = Simulation(station, seed=11)
    wire: Any = FaultyTransport(simulation.board, rate, seed=5) if rate else LoopTransport(simulation.board)
    with Bench(station, wire, simulation.scope_transport, seed=11, close=simulation.close) as bench:
        bench.board.link.timeout = 1e-3
        run = labctl.run(name, bench, out=path, **SHORT.get(name, {}))
        assert bench.board.status().safe
    return run, simulation.board.machine.doses.counts, getattr(wire, "hits", 0)


@pytest.mark.parametrize("name", MEMRISTOR)
def test_the_rows_of_a_clean_link(name: str, tmp_path: Path) -> None:
    clean, doses, _ = measured(name, tmp_path / "clean.h5", 0.0)
    spoilt, spoilt_doses, hits = measured(name, tmp_path / "spoilt.h5", 0.1)
    assert hits > 0
    np.testing.assert_array_equal(spoilt_doses, doses, "each pulse once, each read once")
    for table in clean.tables:
        for column, values in clean.table(table).items():
            np.testing.assert_array_equal(spoilt.table(table)[column], values, f"{table}.{column}")
