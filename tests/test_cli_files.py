"""The command line for recorded files: ls, replay, import, export, and --bench FILE.h5."""

import json
from pathlib import Path

import pytest

import labctl
from drivers.bench import Bench
from drivers.fpga.sim import SimBoard
from labctl.reader import Run
from labctl.station import load_station
from labctl.transport.loop import LoopTransport
from protocols.cli import main
from tests.fpga.plant import ResistorPlant

POINTS = ["--duration", "1m", "--settle", "10u"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    board = SimBoard(ResistorPlant(), word_lines=16, bit_lines=4)
    bench = Bench(load_station("sim"), LoopTransport(board), lambda: LoopTransport(board), seed=5)
    path = tmp_path_factory.mktemp("files") / "run.h5"
    more = {"i_syn": [1e-5, 2e-5], "v_thr": [1.2], "duration": 1e-3, "settle": 1e-5}
    return labctl.run("lif_fi_curve", bench, out=path, tags=["x"], comment="a comment", **more)  # type: ignore[arg-type]


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(arguments))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "labctl: " in error
    return code, error


def test_ls(recorded: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *a, **k: tmp_path / "cache")
    folder = str(recorded.path.parent)
    assert main(["ls", folder]) == 0
    text = capsys.readouterr().out
    for word in ("done", "lif_fi_curve", "UNICO", "neuron 0", "#x", "run.h5", "a comment", "1 run"):
        assert word in text
    assert main(["ls", folder, "--protocol", "lif_*", "--tag", "x", "--status", "done", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["path"], entry["rows"], entry["tags"]) == ("run.h5", 2, ["x"])
    assert main(["ls", folder, "--since", "2100-01-01"]) == 0
    assert capsys.readouterr().out == "0 runs\n"
    assert failing(capsys, "ls", str(tmp_path / "none")) == (1, f"labctl: {tmp_path / 'none'} is no folder; labctl ls"
                                                            " lists the runs under a folder\n")  # fmt: skip
    assert failing(capsys, "ls", folder, "--since", "then")[0] == 2


def test_playback(recorded: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recorded.path), "--speed", "inf"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " point: " in line]
    assert len(lines) == 2
    assert "i_syn = 10 µA  v_thr = 1.2 V" in lines[0]
    assert main(["replay", str(recorded.path), "--speed", "inf", "--json"]) == 0
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["what"] for item in items] == ["event identities", "point", "point", "event end"]
    assert [item["rows"] for item in items] == [0, 1, 2, 2]
    assert main(["replay", str(recorded.path), "--speed", "inf", "--from", "1000"]) == 0
    assert capsys.readouterr().out == ""
    assert failing(capsys, "replay", str(recorded.path), "--speed", "0")[0] == 2
    assert main(["replay", str(recorded.path), "--verify"]) == 0


def test_json_lines_hold_null_where_there_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "iv.csv").write_text("t,V,I\n0,0,\n1,1,1\n")
    assert main(["import", str(tmp_path / "iv.csv")]) == 0
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "iv.h5"), "--speed", "inf", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "NaN" not in lines[0]
    assert json.loads(lines[0])["values"]["i"] is None
    assert json.loads(lines[1])["values"]["i"] == 1.0


def test_a_recorded_file_is_a_bench(recorded: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again.h5"
    arguments = ["run", "lif_fi_curve", "--bench", str(recorded.path), "--v-thr", "1.2", *POINTS]
    assert main([*arguments, "--i-syn", "20u,10u", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(out)
    assert "questions answered from run.h5" in captured.err
    assert labctl.load(out).table()["rate"].tolist() == recorded.table()["rate"].tolist()[::-1]
    code, error = failing(capsys, *arguments, "--i-syn", "30u", "--out", str(tmp_path / "x.h5"))
    assert code == 1
    assert "run.h5 does not hold the answer" in error


def test_import_show_plot_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "iv.csv"
    source.write_text("SMU1,SMU2\n0,0\n0.5,10\n1.0,bad\n")
    arguments = ["import", str(source), "--column", "v=SMU1", "--column", "i=-SMU2:uA"]
    code, error = failing(capsys, *arguments)
    assert code == 1
    assert "1 bad lines, nothing was imported: line 4: i 'bad' is not a number" in error
    assert main([*arguments, "--skip-bad", "--tag", "t", "--comment", "c"]) == 0
    captured = capsys.readouterr()
    target = tmp_path / "iv.h5"
    assert captured.out == f"{target}\n"
    assert "i (A): column 2 (SMU2)" in captured.err
    assert "left out: line 4: i 'bad' is not a number" in captured.err
    assert main(["show", str(target)]) == 0
    assert "-10 µA" in capsys.readouterr().out
    assert main(["plot", str(target)]) == 0
    assert main(["replay", str(target)]) == 0
    assert "bad_line" in capsys.readouterr().out
    code, error = failing(capsys, "replay", str(target), "--verify")
    assert code == 2
    assert "iv.h5 was imported: it has no exchange with an instrument to re-execute" in error
    assert main(["export", str(target), "--to", "csv", "-o", str(tmp_path / "out" / "x")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "out" / name) for name in ("x.csv", "x_bad_line.csv")
    ]
    assert (tmp_path / "out" / "x.csv").read_text().splitlines()[0] == "v (V),i (A),elapsed (s)"


@pytest.mark.parametrize("kind", ["arc1", "scope"])
def test_every_import_has_a_picture(kind: str, tmp_path: Path) -> None:
    from tests.test_import_arc import ARC_ONE
    from tests.test_import_scope import LAYOUTS

    source = tmp_path / "x.csv"
    source.write_text(ARC_ONE if kind == "arc1" else LAYOUTS["keysight"])
    assert main(["import", str(source)]) == 0
    assert main(["plot", str(tmp_path / "x.h5"), "-o", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_use(recorded: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "iv.csv").write_text("V,I\n0,0\n")
    for arguments, code, words in (
        (["import", str(tmp_path / "none.csv")], 1, "cannot be read"),
        (["import", str(tmp_path / "iv.csv"), "--as", "xls"], 2, "no format 'xls'"),
        (["import", str(tmp_path / "iv.csv"), "--as", "scope", "--decimal", ","], 2, "--decimal is for tables"),
        (["import", str(tmp_path / "iv.csv"), "--column", "v=X"], 2, "no columns are called 'X'"),
        (["export", str(recorded.path), "--to", "xls"], 2, "no export to 'xls'"),
        (["export", str(tmp_path / "none.h5"), "--to", "csv"], 1, "does not exist"),
        (["replay", str(recorded.path), "--with", "x"], 2, "is no module"),
        (["run", "lif_fi_curve", "--bench", str(tmp_path / "none.h5")], 1, "does not exist"),
    ):
        got, error = failing(capsys, *arguments)
        assert (got, words in error) == (code, True), error
    assert {path.name for path in tmp_path.iterdir()} == {"iv.csv"}
