"""`labctl fit`: from recorded and imported runs to a parameter file that a station names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl.errors import UsageError
from labctl.fitting import fit_chip, states, sweeps
from labctl.fitting_filament import fit_cell
from labctl.importing import import_file
from labctl.models.filament import FilamentArray, FilamentParams
from labctl.models.fit import autocorrelation
from labctl.models.fit_filament import FREE, Loops, fit_filament, simulate
from labctl.models.fit_missing import complete
from labctl.models.generative import generate_cycles
from labctl.models.generative_params import DEFAULT, load
from labctl.models.parameter_file import load_params
from protocols.cli import main
from protocols.iv_sweep import loop

from .models.test_fit_loops import loops
from .test_simulated_chip import on_disk, station

CELLS, CYCLES = 24, 60


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> labctl.Run:
    """A CSV of another program: loops of published devices, imported."""
    v, i, cycle, _ = loops(CELLS, CYCLES, seed=3)
    folder = tmp_path_factory.mktemp("imported")
    keep = np.arange(len(v)) % 5 == 0
    lines = ["cell,cycle,v (V),i (A)"]
    for cell in range(CELLS):
        lines += [f"{cell},{k},{a:.4f},{b:.6e}" for a, b, k in zip(v[keep], i[keep, cell], cycle[keep], strict=True)]
    (folder / "loops.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return import_file(folder / "loops.csv", folder / "loops.h5")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[labctl.Run]:
    """Three cells of the simulated bench, four loops each, and 60 endurance cycles of one."""
    folder = tmp_path_factory.mktemp("recorded")
    with labctl.open_bench("sim", seed=9) as bench:
        runs = [
            labctl.run("iv_sweep", bench, out=folder / f"iv{row}.h5", row=row, points=60, cycles=4) for row in range(3)
        ]
        runs.append(labctl.run("endurance", bench, out=folder / "e.h5", row=3, cycles=60, per_decade=1000))
    return runs


def test_the_file_made_from_imported_loops_is_a_chip_of_that_kind(
    imported: labctl.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chip.json"
    assert main(["fit", "generative", str(imported.path), "-o", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(file)
    assert "95 % from" in out
    assert "correlation between devices' medians" in out
    assert f"{CELLS} cells × {CYCLES} I–V loops, a memory of 4 cycles, 1 kind of devices" in err
    params = load(file)
    assert params.u_max == pytest.approx(1.5)
    features = np.concatenate([x.v for x in sweeps([imported])])
    assert params.u_limit == pytest.approx(np.abs(features).max())
    known = generate_cycles(load(DEFAULT), 200, 60)
    again = generate_cycles(params, 200, 60)
    for f in (0, 2):
        assert np.median(again[..., f]) == pytest.approx(np.median(known[..., f]), rel=0.1)
    named = on_disk(tmp_path, 'model = "generative"', 'parameters = "chip.json"')
    with labctl.open_bench(named) as bench, bench.powered(), bench.cell(0, 0) as cell:
        [reading] = cell.program().pulse(1.4, 3.0, 1e-3).read(0.2, 3.0).run()
    assert 3.8e3 < 0.2 / reading.current < 6.5e3
    assert main(["fit", "generative", str(imported.path), "-o", str(file)]) == 2, "never over an old file"
    assert "exists already" in capsys.readouterr().err


def test_the_voltages_that_endurance_does_not_tell_are_drawn_with_their_memory() -> None:
    params = load(DEFAULT)
    known = generate_cycles(params, 120, 600, seed=8)
    drawn = np.array(complete(params, [device[:, [0, 2]] for device in known], seed=1))
    assert (drawn[..., [0, 2]] == known[..., [0, 2]]).all()
    lags = np.array([1, 5, 10])
    for f in (1, 3):
        assert np.median(drawn[..., f]) == pytest.approx(np.median(known[..., f]), rel=0.02)
        assert drawn[..., f].std() == pytest.approx(known[..., f].std(), rel=0.1)
        acf = [autocorrelation(y[..., [f] * 4], lags).mean(axis=(0, 1)) for y in (drawn, known)]
        assert acf[0] == pytest.approx(acf[1], abs=0.04)
    for f, g in ((0, 1), (2, 3)):
        within = [np.mean([np.corrcoef(device[:, f], device[:, g])[0, 1] for device in y]) for y in (drawn, known)]
        assert within[0] == pytest.approx(within[1], abs=0.03)
        medians = [
            np.corrcoef(np.median(y[..., f], axis=1), np.median(y[..., g], axis=1))[0, 1] for y in (drawn, known)
        ]
        assert medians[0] == pytest.approx(medians[1], abs=0.2)


def test_endurance_gives_resistances(recorded: list[labctl.Run], tmp_path: Path) -> None:
    [cell] = states(recorded)
    assert 0.9 < np.isfinite(cell.r).mean() <= 1.0
    with pytest.raises(UsageError, match="1 cell × 60 endurance cycles are too few"):
        fit_chip(recorded)
    # eight more like it, so that there is enough
    more = [cell.r[np.random.default_rng(k).permutation(60)] * (0.93 + 0.02 * k) for k in range(8)]
    table = {"cycle": np.tile(np.arange(60), 8), "cell": np.repeat(np.arange(8), 60)}
    r = np.nan_to_num(np.concatenate(more), nan=float(np.nanmedian(cell.r[:, 0])))
    lines = ["cell,cycle,r_hrs (ohm),r_lrs (ohm)"]
    rows = zip(table["cell"], table["cycle"], r[:, 0], r[:, 1], strict=True)
    lines += [f"{a},{b},{c:.6g},{d:.6g}" for a, b, c, d in rows]
    (tmp_path / "e.csv").write_text("\n".join(lines), encoding="utf-8")
    columns = ["cell=cell", "cycle=cycle", "r_hrs=r_hrs (ohm)", "r_lrs=r_lrs (ohm)"]
    chip = fit_chip([import_file(tmp_path / "e.csv", tmp_path / "e.h5", columns=columns)])
    assert "switching voltages are drawn" in chip.notes[1]
    again = generate_cycles(chip.fit.params, 400, 60, seed=2)
    for f, column in ((0, 0), (2, 1)):
        assert np.median(again[..., f]) == pytest.approx(np.median(r[:, column]), rel=0.1)


def test_a_filament_file_from_runs_of_the_bench(
    recorded: list[labctl.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cell.json"
    assert main(["fit", "filament", *(str(run.path) for run in recorded), "-o", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "9 I–V loops of 3 cells, 1 staircases" in err
    assert "v_reset" in out
    params, own = load_params(file, FilamentParams), FilamentParams()
    for name, width in FREE.items():  # the bench is of the default parameters
        assert getattr(params, name) == pytest.approx(getattr(own, name), rel=2 * width)
    with labctl.open_bench(on_disk(tmp_path, 'parameters = "cell.json"')) as bench:
        assert bench.self_check()


def test_an_unknown_filament_is_found_again() -> None:
    """From loops at two gates: ln R of the LRS within 0.12, of the HRS within 0.3; they began 0.15 and 0.7 off."""
    true = replace(
        FilamentParams(), i_0=3.6e-4, e_set=1.79, gamma_reset=22.5, gap_reset=2.25, v_t0=0.75, i_spec=1.3e-6,
        c2c_hrs=0.3,
    )  # fmt: skip
    data = [_record(true, gate, cells=24, cycles=6) for gate in (1.9, 2.2)]
    found = fit_filament(data)
    assert found.mean < 0.4, "24 cells tell the mean to 0.28"
    for one in data:
        for side, state, tolerance in ((0.3, 1, 0.3), (0.3, -1, 0.12), (-0.3, 1, 0.3), (-0.3, -1, 0.12)):
            at = (np.sign(np.gradient(one.v)) == state) & (np.abs(one.v - side) < 0.15)
            want, got = (
                np.median(np.log(np.abs(simulate(p, one, seed=4, cells=300)[:, at]))) for p in (true, found.params)
            )
            assert got == pytest.approx(want, abs=tolerance)


def _record(params: FilamentParams, gate: float, cells: int, cycles: int) -> Loops:
    v = np.array(loop(2.5, -1.8, 80))
    wl = np.where(v >= 0, gate, 3.5)
    array = FilamentArray((cells,), params=params, seed=int(100 * gate))
    all_v = np.tile(v, cycles + 1)
    t = np.arange(len(all_v)) * 2e-3
    i = array.waveform(t, np.maximum(all_v, 0.0), np.maximum(-all_v, 0.0), np.tile(wl, cycles + 1))
    return Loops(v, wl, 2e-3, np.concatenate(np.split(i.T, cycles + 1, axis=1)[1:]), np.tile(np.arange(cells), cycles))


def test_what_cannot_be_fitted_is_said_in_one_line(
    imported: labctl.Run, recorded: list[labctl.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with labctl.open_bench(station(), seed=1) as bench:
        still = labctl.run("iv_sweep", bench, out=tmp_path / "still.h5", points=40, cycles=3, v_set=0.3, v_reset=-0.3)
        other = labctl.run("read_map", bench, out=tmp_path / "map.h5")
    out = str(tmp_path / "x.json")
    for arguments, message in (
        (["generative", str(other.path)], "none of these runs has I–V loops (columns v, i, cycle) or states"),
        (["filament", str(other.path)], "none of these runs has I–V loops"),
        (["generative", str(still.path)], "no cell has two loops in a row that switch both ways"),
        (["filament", str(still.path)], "these loops do not switch"),
        (["generative", str(recorded[0].path)], "1 cell × 4 I–V loops are too few"),
        (["filament", str(imported.path)], "the gate voltage of the loops is not known"),
        (["generative", str(imported.path), "--order", "9"], "are too few for order 9"),
        (["filament", str(recorded[0].path), "--order", "3"], "--order and --components belong to the generative"),
        (["filament", str(recorded[0].path), "--like", out], "cannot read the parameter file"),
        (["generative", str(tmp_path / "none.h5")], "none.h5 does not exist"),
    ):
        assert main(["fit", *arguments, "-o", out]) in (1, 2)
        found = capsys.readouterr()
        assert message in found.err
        assert found.err.count("\n") == 1
        assert not Path(out).exists()
    with pytest.raises(UsageError, match="loops from"):
        fit_filament([Loops(np.linspace(0, 1, 40), np.full(40, 2.0), 1e-3, np.ones((2, 40)), np.arange(2))])
    assert fit_cell(recorded[:1]).notes[0].startswith("3 I–V loops of 1 cells")
