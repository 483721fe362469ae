"""The page on analysis runs as it stands, and what it prints is what its run shows."""

import re
from pathlib import Path

import pytest

import labctl
import labctl.analysis


def test_the_page_runs(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (pytestconfig.rootpath / "docs" / "analysis.md").read_text(encoding="utf-8")
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.S)), "docs/analysis.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"V_form: 63 % at 3\.\d+", printed)
    assert "of 16 never formed" in printed
    assert "states at 3 σ: 9" in printed  # 98 µS / (2·3·2 µS) + 1
    assert re.search(r"levels \(µA\) \[\S+ \S+\]", printed), "one trap makes two levels"
    assert "together" in printed


def test_the_page_names_every_module(pytestconfig: pytest.Config) -> None:
    page = (pytestconfig.rootpath / "docs" / "analysis.md").read_text(encoding="utf-8")
    folder = Path(labctl.analysis.__file__).parent
    others = {"__init__", "estimate", "rtn_kernel", "neurons", "waveforms"}  # shared, or on the neurons' page
    for module in sorted(path.stem for path in folder.glob("*.py") if path.stem not in others):
        assert f"`{module}." in page, f"docs/analysis.md says nothing of labctl.analysis.{module}"


def test_five_loops_are_drawn_with_their_distributions(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from protocols.iv_sweep import plot

    with labctl.open_bench("sim", seed=1) as bench:
        run = labctl.run("iv_sweep", bench, row=2, column=1, v_reset=-1.5, cycles=5, points=100, out=tmp_path / "iv.h5")
    figure = Figure()
    plot(run, figure)
    legends = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
    texts = [text.get_text() for legend in legends for text in legend.texts]
    assert len(figure.axes) == 3
    assert next(text for text in texts if text.startswith("LRS")).endswith("n = 5")
    assert next(text for text in texts if text.startswith("−V")).endswith("n = 5")
