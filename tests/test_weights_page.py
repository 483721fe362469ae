"""The page on weights runs as it stands, commands and Python alike, and ends with products that are the matrix's."""

import ast
import re
from pathlib import Path

import pytest

import labctl
from tests.pages import run_page


def test_the_page_runs(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = pytestconfig.rootpath / "docs" / "weights.md"
    blocks = re.findall(r"^```(python|sh)$", page.read_text(encoding="utf-8"), re.M)
    assert blocks == ["python", "sh", "sh", "python", "python"]
    run_page(page)
    printed = capsys.readouterr().out
    numpy, measured = (
        ast.literal_eval(re.findall(rf"^{who} +(\[.*\])$", printed, re.M)[0]) for who in ("numpy", "measured")
    )
    worst = max(abs(a - b) for pair in zip(numpy, measured, strict=True) for a, b in zip(*pair, strict=True))
    assert worst < 15, "of products whose σ is 40"
    assert re.search(r"^programming +\S+ x·w +[5-9]\.\d\d effective bits$", printed, re.M)
    assert {path.name for path in Path().glob("*.png")} == {"programmed.png", "product.png"}
    assert labctl.load("product.h5").status == "done"
