"""The examples do what they say."""

import importlib.util
from pathlib import Path

import pytest

import labctl


@pytest.mark.parametrize(
    ("name", "protocols"),
    [
        ("fi_curve", ["lif_fi_curve"]),
        ("form_and_program", ["forming", "potentiation_depression", "read_map"]),
        ("matrix_product", ["mvm", "program_weights"]),
    ],
)
def test_scripts_run_and_leave_their_files(
    name: str, protocols: list[str], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    spec = importlib.util.spec_from_file_location(name, pytestconfig.rootpath / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    runs = [labctl.load(path) for path in tmp_path.glob("*.h5")]
    assert sorted(run.protocol for run in runs) == protocols
    assert {run.status for run in runs} == {"done"}
    assert len(list(tmp_path.glob("*.png"))) == len(runs)


@pytest.mark.parametrize(
    ("number", "name", "column", "rows"), [(0, "rate_after_pause", "rate", 3), (1, "reset_ladder", "g", 8)]
)
def test_the_protocols_of_the_tutorial_run(
    number: int, name: str, column: str, rows: int, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    page = (pytestconfig.rootpath / "docs" / "write-a-protocol.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[number + 1].split("```", 1)[0]
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    with labctl.open_bench("sim", seed=1) as bench:
        run = labctl.run(f"{tmp_path / 'mine.py'}:{name}", bench, out=tmp_path / "mine.h5")
    assert run.row_count() == rows
    assert (run.table()[column] > 0).all()
