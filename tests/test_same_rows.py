"""The same run over every wire gives the same rows: in process, TCP, pty; the scope in process and through PyVISA."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import labctl
from drivers.simulation import Simulation
from labctl.replay import verify
from labctl.station import Station, load_station, parse_station

WIRES = {
    "loop": ("sim", "loop"),
    "loop and VISA": ("sim", "sim"),
    "TCP": ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
    "pty": ("pty", "tcp://127.0.0.1:0"),
}


def linked(board: str, scope: str) -> Station:
    """The simulated station with other addresses."""
    text = load_station("sim").text
    text = re.sub(r'(\[board\]\nlink = )"sim"', rf'\1"{board}"', text)
    return parse_station(re.sub(r'(\[scope\]\nlink = )"sim"', rf'\1"{scope}"', text), "linked")


@pytest.fixture(params=WIRES)
def station(request: pytest.FixtureRequest) -> Iterator[Station]:
    board, scope = WIRES[request.param]
    if board == "pty" and sys.platform == "win32":
        pytest.skip("this system has no pseudo-terminals")
    if board == "sim":
        yield linked(board, scope)
        return
    simulation = Simulation(load_station("sim"), seed=7)
    try:
        found = simulation.serve(board, f"keysight-infiniivision:{scope}")
        host, port = found["scope"].removeprefix("tcp://").split(":")
        yield linked(found["board"], f"TCPIP::{host}::{port}::SOCKET")
    finally:
        simulation.close()


REFERENCE: dict[str, dict[str, np.ndarray]] = {}


def test_the_same_rows_over_every_wire(station: Station, tmp_path: Path) -> None:
    with labctl.open_bench(station, seed=7) as bench:
        fi = labctl.run(
            "lif_fi_curve", bench, i_syn=[20e-6, 100e-6], v_thr=[1.2], duration=0.01, trace=True, out=tmp_path / "fi.h5"
        )
        iv = labctl.run("iv_sweep", bench, points=24, cycles=2, out=tmp_path / "iv.h5")
    got = {"fi": fi.table(), "iv": iv.table(), "mem": {str(k): fi.trace("mem", k).values for k in range(2)}}
    for name, columns in got.items():
        first = REFERENCE.setdefault(name, columns)
        for column, values in columns.items():
            np.testing.assert_array_equal(values, first[column], f"{name}.{column}")
    for run in (fi, iv):
        assert verify(run.path).rows == run.row_count()
