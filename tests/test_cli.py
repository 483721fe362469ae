"""The command line: what it prints, what it refuses, and its exit codes."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import labctl
from labctl.station import load_station
from protocols.cli import main

FAST = ["--i-syn", "100u", "--v-thr", "1.2", "--duration", "5m"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run.h5"
    assert main(["run", "lif_fi_curve", *FAST, "--trace", "yes", "--out", str(path), "--comment", "a comment"]) == 0
    return path


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line on standard error."""
    code = main(list(arguments))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return code, error.strip()


def test_run_prints_the_path_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "lif_fi_curve", *FAST, "--out", str(tmp_path)]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert path.parent == tmp_path
    assert labctl.load(path).status == "done"


def test_protocols_lists_the_declarations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    i_syn = listed["lif_fi_curve"]["parameters"]["i_syn"]
    assert (i_syn["unit"], i_syn["high"], i_syn["list"]) == ("A", 200e-6, True)
    assert listed["iv_sweep"]["tables"]["point"]["i"]["unit"] == "A"
    assert main(["protocols"]) == 0
    assert "Firing rate of one neuron" in capsys.readouterr().out
    assert main(["protocols", "iv_sweep"]) == 0
    assert "--v-set V" in capsys.readouterr().out


def test_show(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(recorded), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["status"], shown["tables"]["point"]["rows"], shown["comment"]) == ("done", 1, "a comment")
    assert shown["traces"] == {"mem": 1}
    assert main(["show", str(recorded)]) == 0
    text = capsys.readouterr().out
    assert "i_syn = 100 µA" in text
    assert "rate (Hz)" in text


def test_plot(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "picture.png"
    assert main(["plot", str(recorded), "-o", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_replay_verifies(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recorded), "--verify"]) == 0
    assert capsys.readouterr().out.startswith("identical: 1 rows, 1 traces")


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_replay_names_the_transaction_that_was_changed(
    recorded: Path, where: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One byte of one recorded reply is changed in the file."""
    path = tmp_path / "changed.h5"
    shutil.copy(recorded, path)
    number = change_a_transaction(path, where)
    code, error = failing(capsys, "replay", str(path), "--verify")
    assert code == 1
    assert f"transaction {number}" in error or f"transaction: {number}" in error, error


def change_a_transaction(path: Path, where: float) -> int:
    """Flip one bit of a reply on the file's tape; return which transaction it belongs to."""
    with h5py.File(path, "r+") as file:
        group = file["entry/journal/transactions"]
        replies = group["reply_bytes"][...]
        at = int(len(replies) * where)
        replies[at] ^= 1
        group["reply_bytes"][...] = replies
        return int(np.searchsorted(group["reply_end"][...], at, side="right"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "lif_fi_curve", "--i-syn", "300u"], 2, ["i_syn = 300 µA", "200 µA"]),
        (["run", "lif_fi_curve", "--i-sin", "1u"], 2, ["--i-sin"]),
        (["run", "lif_fi_curve", "--i-syn", "abc"], 2, ["'abc' is not a number"]),
        (["run", "nonsense"], 2, ["there is no protocol 'nonsense'", "iv_sweep"]),
        (["run", "lif_fi_curve", "--bench", "none.toml"], 2, ["none.toml", "cannot be read"]),
        (["run", "lif_fi_curve", "--bench", "nowhere"], 2, ["there is no station 'nowhere'"]),
        (["run", "iv_sweep", "--row", "16"], 2, ["no cell (16, 0)", "16 rows"]),
        (["show", "none.h5"], 1, ["none.h5"]),
        (["replay", "none.h5", "--verify"], 1, ["none.h5"]),
        (["recover", "none.h5"], 1, ["none.h5"]),
        (["frobnicate"], 2, ["frobnicate"]),
        (["sim"], 2, ["--board ADDRESS"]),
    ],
)
def test_wrong_use_is_one_line_and_leaves_no_file(
    arguments: list[str],
    code: int,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    got, error = failing(capsys, *arguments)
    assert got == code
    assert all(word in error for word in words), error
    if code == 2 and "--row" not in arguments:
        assert list(tmp_path.iterdir()) == []


def station_file(tmp_path: Path, **changes: str) -> Path:
    text = load_station("sim").text
    for old, new in changes.items():
        text = text.replace(
            {"board": '[board]\nlink = "sim"', "scope": '[scope]\nlink = "sim"'}[old],
            f"[{old}]\nlink = {json.dumps(new)}",
        )
    path = tmp_path / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_board_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        bench = station_file(tmp_path, board=f"tcp://127.0.0.1:{deaf.getsockname()[1]}", scope="")
        code, error = failing(capsys, "run", "lif_fi_curve", "--bench", str(bench), "--out", str(tmp_path))
    assert code == 3
    assert "does not answer" in error
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bench = station_file(tmp_path, board=f"tcp://127.0.0.1:{port}", scope="")
    code, error = failing(capsys, "bench", "check", "--bench", str(bench))
    assert code == 3
    assert "cannot connect" in error


def test_an_existing_file_is_never_overwritten(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = recorded.read_bytes()
    code, error = failing(capsys, "run", "lif_fi_curve", *FAST, "--out", str(recorded))
    assert code == 1
    assert "never overwrites" in error
    assert recorded.read_bytes() == before


def test_bench_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "check"]) == 0
    text = capsys.readouterr().out
    assert "FAIL" not in text
    for word in ("firmware", "calibration", "biases within limits", "scope", "self" if "self" in text else "memory"):
        assert word in text


def test_ctrl_c_aborts_safely_and_keeps_the_rows(tmp_path: Path) -> None:
    import signal
    import time

    path = tmp_path / "aborted.h5"
    command = [sys.executable, "-m", "protocols.cli", "run", "iv_sweep", "--cycles", "100000", "--out", str(path)]
    journal = tmp_path / "aborted.h5.journal"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not journal.exists() or journal.stat().st_size < 20_000:
            assert child.poll() is None, child.communicate()
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "aborted by the operator" in error
    assert "Traceback" not in error
    run = labctl.load(path)
    assert run.status == "aborted"
    assert len(run.table()["v"]) > 0
    assert main(["replay", str(path), "--verify"]) == 0


def test_the_files_are_hdf5(recorded: Path) -> None:
    with h5py.File(recorded) as file:
        assert file.attrs["NX_class"] in ("NXroot", b"NXroot")


def test_sim_serves_the_bench_to_another_program(tmp_path: Path) -> None:
    """`labctl sim` in one process, `labctl run` in another, over TCP; Ctrl-C ends it."""
    import signal

    scope = "keysight-infiniivision:tcp://127.0.0.1:0"
    command = [
        sys.executable,
        "-m",
        "protocols.cli",
        "sim",
        "--board",
        "tcp://127.0.0.1:0",
        "--scope",
        scope,
        "--seed",
        "6",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = dict(server.stdout.readline().strip().split(": ", 1) for _ in range(2))
        host, port = found["scope"].removeprefix("tcp://").split(":")
        bench = station_file(tmp_path, board=found["board"], scope=f"TCPIP::{host}::{port}::SOCKET")
        path = tmp_path / "served.h5"
        run = ["run", "lif_fi_curve", *FAST, "--trace", "yes", "--bench", str(bench), "--out", str(path)]
        served = subprocess.run(
            [sys.executable, "-m", "protocols.cli", *run], capture_output=True, text=True, check=False
        )
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
    assert served.returncode == 0, served.stderr
    with labctl.open_bench("sim", seed=6) as inside:
        own = labctl.run("lif_fi_curve", inside, i_syn=[100e-6], v_thr=[1.2], duration=5e-3, out=tmp_path / "own.h5")
    assert labctl.load(path).table()["isi"].tolist() == own.table()["isi"].tolist()
