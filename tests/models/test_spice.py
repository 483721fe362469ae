"""The cell as a SPICE subcircuit: a transient of ngspice against the kernel, within 1 % in R."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import UsageError
from labctl.models.effects import Defects, Effects
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.spice import filament_netlist, filament_subcircuit

IDEAL = FilamentParams().ideal()
needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")


def ngspice(netlist: str, folder: Path) -> dict[str, float]:
    """Run a netlist in batch mode; the values that it prints by `print`."""
    (folder / "cell.cir").write_text(netlist)
    done = subprocess.run(
        ["ngspice", "-b", "cell.cir"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    values = {}
    for line in done.stdout.splitlines():
        name, separator, value = line.partition(" = ")
        if separator:
            try:
                values[name.strip()] = float(value.split()[0])
            except ValueError:
                continue
    assert values, done.stdout + done.stderr
    return values


def pulse_then_read(cells: str, v_bl: float, v_sl: float, v_wl: float, width: float, columns: int = 1) -> str:
    """One pulse on row 0 with edges of 10 ps, then a read of 20 ns."""
    end, edge, on = width + 1e-9, 1e-11, 1e-9
    read = end + 5e-9

    def source(line: str, level: float, after: float) -> str:
        points = f"0 0 {on - edge} 0 {on} {level} {end} {level} {end + edge} 0 {read - edge} 0 {read} {after} 1 {after}"
        return f"V{line} {line} 0 PWL({points})\n"

    drive = "".join(source(f"BL{c}", v_bl, 0.2) for c in range(columns))
    shown = "".join(f"let r{c} = 0.2/-vbl{c}#branch[length(time)-1]\nprint r{c}\n" for c in range(columns))
    return (
        f"* one pulse\n{cells}{drive}{source('SL0', v_sl, 0.0)}{source('WL0', v_wl, 3.5)}"
        f".options reltol=1e-5 method=gear\n.control\ntran {width / 500} {read + 2e-8} 0 {width / 200} uic\n{shown}"
        ".endc\n.end\n"
    )


@needs_ngspice
@pytest.mark.parametrize(
    ("gap", "bias"),
    [
        (0.75, (0.0, 1.25, 3.5, 200e-9)),
        (0.8, (0.0, 0.95, 3.5, 200e-9)),
        (1.9, (2.0, 0.0, 2.5, 100e-9)),
        (2.0, (3.0, 0.0, 3.3, 1e-6)),
        (1.9, (2.0, 0.0, 1.9, 10e-6)),
    ],
)
def test_one_pulse_agrees_with_ngspice(gap: float, bias: tuple[float, float, float, float], tmp_path: Path) -> None:
    array = FilamentArray((1, 1), params=IDEAL, effects=Effects.none())
    array.set_gap(gap)
    before = 0.2 / array.read(0.2, 0.0, 3.5, 0.0)[0]
    netlist = pulse_then_read(filament_netlist(array), *bias)
    array.pulse(*bias)
    expected = 0.2 / array.read(0.2, 0.0, 3.5, 0.0)[0]
    assert abs(np.log(expected / before)) > 0.2
    assert ngspice(netlist, tmp_path)["r0"] == pytest.approx(expected, rel=0.01)


@needs_ngspice
def test_an_array_is_exported_as_it_is(tmp_path: Path) -> None:
    defects = Defects(shorted_cells=[2], open_cells=[3])
    array = FilamentArray((1, 4), seed=2, effects=Effects.none(), defects=defects)
    array.pulse(0.0, 1.8, 3.5, 1e-6)
    netlist = pulse_then_read(filament_netlist(array), 0.0, 0.0, 3.5, 1e-9, columns=4)
    found = ngspice(netlist, tmp_path)
    expected = 0.2 / np.maximum(array.read(0.2, 0.0, 3.5, 0.0), 1e-12)
    assert [found[f"r{c}"] for c in (0, 1)] == pytest.approx(expected[:2], rel=1e-3)
    assert found["r2"] == pytest.approx(expected[2], rel=1e-3)
    assert abs(found["r3"]) > 1e9


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(UsageError, match="pristine"):
        filament_netlist(FilamentArray((2, 2), formed=False))
    with pytest.raises(UsageError, match="rows"):
        filament_netlist(FilamentArray((4,)))
    assert filament_subcircuit(IDEAL, 350.0, "hot").startswith(".subckt hot bl wl sl")
