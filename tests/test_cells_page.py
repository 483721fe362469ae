"""The page on cells runs as it stands, and what it says of files, statuses and doses is so."""

import json
from pathlib import Path

import numpy as np
import pytest

import labctl
from tests.pages import run_page


def test_the_page_runs(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page(pytestconfig.rootpath / "docs" / "cells.md")
    assert (labctl.load("forming.h5").table()["status"] == "formed").all()
    night = sorted(path.name for path in Path("night").glob("*.h5"))
    assert len(night) == 9
    assert night[0] == "001_iv_sweep_row0_column0.h5"
    assert all(labctl.load(Path("night") / name).status == "done" for name in night)
    ledgers = list(Path().rglob("*.doses.json"))
    assert [str(path) for path in ledgers] == ["W3-D7.doses.json"], "one chip, one ledger"
    pulses = np.array(json.loads(ledgers[0].read_text(encoding="utf-8"))["counts"]["pulses"])
    assert (pulses[:2, :2] >= 4000).all(), "the night's cells"
    assert names["bench"].doses.ledger.of(0, 1)["pulses"] == pulses[0, 1]
    assert "[" in capsys.readouterr().out
