"""`labctl export --to spice`: what ngspice makes of the file is what the bench measures."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import labctl
from drivers.simulated_chip import Settings, SimulatedArray
from labctl.models.neuron import Biases, Neurons
from labctl.models.neuron_params import LifParams
from labctl.models.spice import neuron_subcircuit
from labctl.station import load_station
from protocols.cli import main

from .test_simulated_chip import on_disk, switch

needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")


def read_in_ngspice(circuit: Path, row: int, columns: int = 4, v_wl: float = 2.5) -> list[float]:
    """Resistance of each cell of a row: bit lines at 0.2 V, the row's gate at `v_wl`, all else at 0 V."""
    lines = "".join(f"VBL{c} BL{c} 0 0.2\n" for c in range(columns))
    for k in range(16):
        lines += f"VSL{k} SL{k} 0 0\nVWL{k} WL{k} 0 {v_wl if k == row else 0}\n"
        lines += f"VIN{k} IN{k} 0 0\n"
    shown = "".join(f"let r{c} = 0.2/-vbl{c}#branch[length(time)-1]\nprint r{c}\n" for c in range(columns))
    deck = f"read\n.include {circuit.name}\n{lines}.control\ntran 1n 20n uic\n{shown}quit\n.endc\n.end\n"
    (circuit.parent / "deck.cir").write_text(deck, encoding="utf-8")
    done = subprocess.run(
        ["ngspice", "-b", "deck.cir"], cwd=circuit.parent, capture_output=True, text=True, timeout=100, check=False
    )
    found = dict(line.split(" = ") for line in done.stdout.splitlines() if line.startswith("r") and " = " in line)
    assert len(found) == columns, done.stdout + done.stderr
    return [float(found[f"r{c}"]) for c in range(columns)]


@needs_ngspice
def test_the_present_state_of_a_chip(tmp_path: Path) -> None:
    faults = 'state = "chip.npz"', "shorted = [[2, 1]]", "open = [[2, 2]]", "never_forming = [[2, 3]]"
    quiet = "[simulation.effects]", "rtn = 0.0", "read_noise = 0.0"
    path = on_disk(tmp_path, *faults, *quiet)
    with labctl.open_bench(path, seed=8) as bench:
        for column in range(4):
            switch(bench, 1, column)
    file = tmp_path / "chip.cir"
    assert main(["export", path, "--to", "spice", "-o", str(file)]) == 0
    station = load_station(path)
    array = SimulatedArray(station, Settings.of(station), 0).array
    cells = np.arange(4, 12)
    expected = 0.2 / np.maximum(array.device.read(0.2, 0.0, 2.5, 0.0, cells), 1e-30)
    hrs = read_in_ngspice(file, 1)
    assert np.median(hrs) > 20e3, "the last pulse on each was a RESET"
    assert hrs == pytest.approx(expected[:4].tolist(), rel=1e-3)
    faulty = read_in_ngspice(file, 2)
    assert faulty[0] == pytest.approx(expected[4], rel=1e-3)
    assert faulty[1] == pytest.approx(expected[5], rel=1e-3)
    assert abs(faulty[2]) > 1e9
    assert abs(faulty[3]) > 1e8
    assert main(["export", path, "--to", "spice", "-o", str(file)]) == 1, "never over an old file"


@needs_ngspice
def test_a_measured_map(tmp_path: Path) -> None:
    with labctl.open_bench(on_disk(tmp_path, "shorted = [[0, 2]]"), seed=4) as bench:
        for column in range(4):
            switch(bench, 5, column)
        run = labctl.run("read_map", bench, out=tmp_path / "map.h5")
    assert main(["export", str(run.path), "--to", "spice"]) == 0
    table = run.table()
    for row in (0, 5):
        g = table["g"][(table["row"] == row)]
        assert 1 / np.array(read_in_ngspice(tmp_path / "map.cir", row)) == pytest.approx(g, rel=0.01)


@needs_ngspice
@pytest.mark.parametrize(("v_in", "biases"), [(2.8, Biases()), (4.39, Biases(v_thr=0.8, v_pw=1.1))])
def test_the_neuron_as_a_subcircuit(v_in: float, biases: Biases, tmp_path: Path) -> None:
    """Its first spike and its period within 1 % of the model's, from 40 µA and 200 µA."""
    duration = 3e-3 if v_in < 3 else 0.5e-3
    deck = (
        f"neuron\n{neuron_subcircuit(LifParams(), biases)}Vin in 0 PWL(0 0 1e-8 0 1.1e-8 {v_in})\nX0 in out mem lif\n"
        f".control\ntran {duration / 20_000} {duration} uic\nwrdata out.txt v(out)\nquit 0\n.endc\n.end\n"
    )
    (tmp_path / "n.cir").write_text(deck, encoding="utf-8")
    subprocess.run(["ngspice", "-b", "n.cir"], cwd=tmp_path, check=True, capture_output=True, timeout=100)
    t, out = np.loadtxt(tmp_path / "out.txt", unpack=True)
    half = 0.5 * float(biases.v_dd)
    edges = t[1:][(out[1:] > half) & (out[:-1] <= half)]
    i_syn = (v_in - float(biases.v_ref)) / 10e3
    expected = Neurons(1, biases=biases, noise=False).advance(duration, i_syn).t
    assert len(expected) > 5
    assert len(edges) == len(expected)
    assert edges[0] == pytest.approx(expected[0], rel=0.01)
    assert np.diff(edges) == pytest.approx(np.diff(expected), rel=0.01)


def test_what_has_no_circuit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with labctl.open_bench("sim", seed=4) as bench:
        run = labctl.run("iv_sweep", bench, out=tmp_path / "iv.h5", points=10)
    for target, message in (
        (str(run.path), "tells no conductances of cells"),
        (on_disk(tmp_path, 'model = "slider"'), "model slider has no circuit; the filament model has"),
        ("nowhere", "there is no station 'nowhere'"),
    ):
        out = tmp_path / "x.cir"
        assert main(["export", target, "--to", "spice", "-o", str(out)]) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()
    (tmp_path / "pristine").mkdir()
    text = Path(on_disk(tmp_path / "pristine")).read_text(encoding="utf-8").replace("formed = true", "formed = false")
    (tmp_path / "pristine.toml").write_text(text, encoding="utf-8")
    assert main(["export", str(tmp_path / "pristine.toml"), "--to", "spice", "-o", str(tmp_path / "x.cir")]) == 2
    assert "cell 0 is pristine" in capsys.readouterr().err
