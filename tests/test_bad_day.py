"""What goes wrong on a bench: one clear line, the right exit code, a safe bench, and the rows so far in the file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import labctl
from drivers.bench import Bench
from drivers.fpga.sim import SimBoard
from drivers.serve import serve
from drivers.simulation import Simulation
from labctl.abort import AbortSignal
from labctl.errors import LabctlError
from labctl.recover import recover
from labctl.replay import verify
from labctl.station import load_station
from labctl.transport.loop import LoopTransport, Peer
from protocols.cli import main
from tests.fpga.plant import ResistorPlant


class Garbage:
    """An instrument that answers everything with noise."""

    def receive(self, data: bytes) -> bytes:
        return bytes(range(1, 250)) + b"\n" if data else b""


class DyingScope:
    """A scope that answers well at first and with noise after `good` messages."""

    def __init__(self, scope: Peer, good: int) -> None:
        self._scope, self._good = scope, good

    def receive(self, data: bytes) -> bytes:
        if data:
            self._good -= 1
        return self._scope.receive(data) if self._good > 0 else Garbage().receive(data)


def station_file(tmp_path: Path, board: str = "sim", scope: str = "sim") -> str:
    text = re.sub(r'(\[board\]\nlink = )"sim"', rf'\1"{board}"', load_station("sim").text)
    path = tmp_path / "bench.toml"
    path.write_text(re.sub(r'(\[scope\]\nlink = )"sim"', rf'\1"{scope}"', text), encoding="utf-8")
    return str(path)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    first, *notes = error.strip().splitlines()
    assert len(notes) <= 1, "one line, and where the rows are"
    return first


def test_a_board_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = SimBoard(ResistorPlant(), word_lines=16, bit_lines=4, version=9)
    with serve(peer, "tcp://127.0.0.1:0") as server:
        bench = station_file(tmp_path, board=server.address, scope="")
        assert main(["run", "iv_sweep", "--bench", bench, "--out", str(tmp_path)]) == 3
    assert "speaks protocol version 9, this labctl speaks 1; update" in one_line(capsys)
    assert not list(tmp_path.glob("*.h5*"))


def test_a_board_that_babbles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Garbage(), "tcp://127.0.0.1:0") as server:
        bench = station_file(tmp_path, board=server.address, scope="")
        assert main(["bench", "check", "--bench", bench]) == 3
    assert "does not answer" in one_line(capsys)


@pytest.mark.parametrize("good", [0, 8, 25])
def test_a_scope_that_answers_garbage(good: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At once, while it is being set, after the first points: what was measured until then is in the file."""
    simulation = Simulation(load_station("sim"), seed=2)
    try:
        board = simulation.serve("tcp://127.0.0.1:0", None)["board"]
        with serve(DyingScope(simulation.scope, good), "tcp://127.0.0.1:0") as scope:
            host, port = scope.address.removeprefix("tcp://").split(":")
            bench = station_file(tmp_path, board=board, scope=f"TCPIP::{host}::{port}::SOCKET")
            path = tmp_path / "garbage.h5"
            fast = ["--i-syn", "50u,100u,150u", "--v-thr", "1.2", "--duration", "2m", "--trace", "yes"]
            assert main(["run", "lif_fi_curve", *fast, "--bench", bench, "--out", str(path)]) == 3
        assert simulation.board.machine.outputs.is_safe
    finally:
        simulation.close()
    assert "scope" in one_line(capsys)
    run = labctl.load(path)
    assert run.status == "failed"
    assert run.row_count() < 3
    assert any("error" in event.data for event in run.events() if event.name == "end")


FULL_DISK = """
import resource, signal, sys
import labctl
from labctl.errors import StorageError
from protocols.iv_sweep import iv_sweep

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with labctl.open_bench("sim", seed=9) as other:
    list(iv_sweep(other, points=8))  # compiles what has to be compiled before the limit falls
with labctl.open_bench("sim", seed=4) as bench:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    try:
        labctl.run("iv_sweep", bench, points=40, cycles=100000, dwell=1e-3, out=sys.argv[1])
    except StorageError as error:
        print(bench.board.status().safe, error.exit_code, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits on Windows")
@pytest.mark.parametrize("size", [60_000, 120_000])
def test_a_full_disk(size: int, tmp_path: Path) -> None:
    """No file may grow beyond `size`: the run stops, the bench is safe, the rows until then can be recovered."""
    path = tmp_path / "full.h5"
    command = [sys.executable, "-c", FULL_DISK, str(path), str(size)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert child.returncode == 0, child.stderr
    safe, code, message = child.stdout.strip().split(" ", 2)
    assert (safe, code) == ("True", "1")
    assert "cannot be written" in message
    assert "\n" not in message
    run = labctl.load(path)
    if run.status == "interrupted":  # not even the HDF5 file could be finished
        run = labctl.load(recover(path))
    rows = run.row_count()
    assert rows > 100
    with labctl.open_bench("sim", seed=4) as bench:
        whole = labctl.run("iv_sweep", bench, points=40, cycles=rows // 41 + 1, dwell=1e-3, out=tmp_path / "whole.h5")
    assert (whole.table()["i"][:rows] == run.table()["i"]).all()


class Interrupting:
    """A board whose firmware is watched: an abort is asked for after so many requests."""

    def __init__(self, peer: SimBoard, abort: AbortSignal, after: int) -> None:
        self._peer, self._abort, self._after = peer, abort, after

    def receive(self, data: bytes) -> bytes:
        self._after -= 1
        if self._after == 0:
            self._abort.set()
        return self._peer.receive(data)


@pytest.mark.parametrize("after", range(3, 40, 6))
def test_an_abort_at_any_request_leaves_the_bench_safe_and_replays(after: int, tmp_path: Path) -> None:
    station = load_station("sim")
    simulation = Simulation(station, seed=5)
    abort = AbortSignal()
    wire = LoopTransport(Interrupting(simulation.board, abort, after))
    path = tmp_path / "aborted.h5"
    with Bench(station, wire, simulation.scope_transport, seed=5) as bench:
        with pytest.raises(LabctlError) as caught:
            labctl.run("iv_sweep", bench, points=40, cycles=50, abort=abort, out=path)
        assert caught.value.exit_code == 130
        assert simulation.board.machine.outputs.is_safe
    run = labctl.load(path)
    assert run.status == "aborted"
    assert verify(path).rows == run.row_count()
