"""The simulated chip as [simulation] of a station describes it: faulty cells, broken lines, time."""

import os
from pathlib import Path

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.simulated_chip import Settings
from labctl.errors import StationError, StorageError
from labctl.models.filament import FilamentParams
from labctl.models.filament_cells import X_WEAR
from labctl.models.named import MODELS
from labctl.models.parameter_file import load_params, save_params
from labctl.models.slider import SliderParams
from labctl.replay import verify
from labctl.station import Station, load_station, parse_station


def station(*lines: str) -> Station:
    """The built-in station with more lines in [simulation], without its oscilloscope."""
    text = load_station("sim").text.replace('link = "sim"                          # sim | loop', 'link = "" #', 1)
    head, simulation, rest = text.partition("[simulation]\n")
    own = "\n".join(lines)
    if own.startswith("model"):
        rest = rest.partition("\n")[2]
    top, table, effects = own.partition("[simulation.effects]")
    return parse_station(f"{head}{simulation}{top}\n{rest}\n{table}{effects}\n", "test")


def reads(bench: Bench, row: int, column: int) -> tuple[str, float]:
    with bench.powered(), bench.cell(row, column) as cell:
        [reading] = cell.program().read(0.2, 2.5).run()
    return reading.status, reading.current


def switch(bench: Bench, row: int, column: int) -> tuple[float, float]:
    """Currents after a SET and after a RESET, A."""
    with bench.powered(), bench.cell(row, column) as cell:
        program = cell.program().pulse(2.8, 2.4, 1e-6).read(0.2, 2.5).pulse(-2.0, 4.2, 1e-6).read(0.2, 2.5)
        low, high = program.run()
    return low.current, high.current


def test_faulty_cells_are_faulty() -> None:
    named = station(
        "shorted = [[0, 1], [15, 3]]", "never_forming = [[2, 0]]", "open = [[3, 0]]", "stuck = [[4, 2]]",
        "open_word_lines = [5]", "open_bit_lines = []",
    )  # fmt: skip
    with labctl.open_bench(named, seed=3) as bench:
        for row, column in ((0, 1), (15, 3)):
            status, current = reads(bench, row, column)
            assert status == "ok"
            assert 0.2 / current < 3e3  # 500 Ω and the transistor
        for row, column in ((2, 0), (3, 0), (5, 0), (5, 3)):
            status, current = reads(bench, row, column)
            assert status == "below" or abs(current) < 10e-9
            low, high = switch(bench, row, column)
            assert abs(low) < 10e-9
            assert abs(high) < 10e-9
        low, high = switch(bench, 4, 2)
        assert low == pytest.approx(high, rel=0.3)  # RTN
        low, high = switch(bench, 6, 2)
        assert low > 3 * high > 0


def test_a_broken_bit_line_cuts_off_its_column_and_nothing_else() -> None:
    with labctl.open_bench(station("open_bit_lines = [1]", "open_source_lines = [7]"), seed=3) as bench:
        healthy = reads(bench, 2, 0)[1]
        assert healthy > 1e-6
        assert abs(reads(bench, 2, 1)[1]) < 10e-9
        assert abs(reads(bench, 7, 0)[1]) < 10e-9
    with labctl.open_bench(station(), seed=3) as bench:
        assert reads(bench, 2, 0)[1] == pytest.approx(healthy, rel=1e-3)


def test_a_fraction_of_the_cells_is_drawn_by_the_seed() -> None:
    shorts = []
    for seed in (1, 1, 2):
        with labctl.open_bench(station("shorted = 0.2"), seed=seed) as bench:
            shorts.append([0.2 / reads(bench, row, column)[1] < 2e3 for row in range(16) for column in range(2)])
    assert shorts[0] == shorts[1] != shorts[2]
    assert 1 <= sum(shorts[0]) <= 14


def test_cells_relax_from_programming_on() -> None:
    """As the recorded arrays do: a few µS within a second, more later, from cell to cell differently."""
    moved = []
    with labctl.open_bench(station(), seed=4) as bench:
        for row in range(16):
            with bench.powered(), bench.cell(row, 0) as cell:
                [first] = cell.program().pulse(2.8, 2.4, 1e-6).read(0.2, 2.5).run()
                bench.wait(1.0)
                [later] = cell.program().read(0.2, 2.5).run()
            moved.append((later.current - first.current) / 0.2)
    assert 1e-6 < np.std(moved) < 12e-6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("shorted = [[16, 0]]", r"simulation.shorted names cell \[16, 0\], not there; the chip has 16 rows and 4"),
        ("shorted = [[0, 4]]", r"simulation.shorted names cell \[0, 4\], not there"),
        ("stuck = [3]", r"simulation.stuck = \[3\] is not a list of cells \[\[row, column\], …\] or a fraction"),
        ("never_forming = 1.5", "simulation.never_forming = 1.5 is not a list of cells"),
        ("open_word_lines = [16]", "simulation.open_word_lines names 16, not there; there are 0 … 15"),
        ("open_bit_lines = [-1]", "simulation.open_bit_lines names -1, not there; there are 0 … 3"),
        ("silent = [true]", "simulation.silent = .* is not a list of line or neuron numbers"),
        ("warp = 9", "simulation.warp is not known; there are model, "),
    ],
)
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(StationError, match=f"station sim: {message}"):
        Settings.of(station(line))


# models, parameter files, the state file ----------------------------------------------------------------------------

MINE = '''
"""A user's own cell: an ohmic resistor that a positive pulse makes ten times better."""
import numpy as np


class Resistors:
    def __init__(self, shape, seed=0, params=None):
        self.shape, self.seed = shape, seed
        ohm = float(params.read_text()) if params else 1e5
        self.g = np.full(shape[0] * shape[1], 1 / ohm)

    def _at(self, cells):
        return slice(None) if cells is None else cells

    def pulse(self, v_bl, v_sl, v_wl, width, cells=None):
        at = self._at(cells)
        v = np.broadcast_to(np.subtract(v_bl, v_sl), self.g[at].shape)
        if width > 0:
            self.g[at] = np.where(v > 1, 1e-4, self.g[at])
        return self.g[at] * v

    def read(self, v_bl, v_sl, v_wl, bandwidth, cells=None):
        return self.pulse(v_bl, v_sl, v_wl, 0.0, cells)

    def waveform(self, t, v_bl, v_sl, v_wl, cells=None):
        raise NotImplementedError

    def wait(self, seconds, temperature=None):
        pass

    def state(self):
        return {"g": self.g.copy()}

    def restore(self, state):
        self.g[...] = state["g"]
'''


def on_disk(folder: Path, *lines: str) -> str:
    """The same as a file in `folder`."""
    (folder / "my.toml").write_text(station(*lines).text, encoding="utf-8")
    return str(folder / "my.toml")


@pytest.mark.parametrize("model", list(MODELS))
def test_each_model_runs_a_protocol_and_the_run_re_executes(model: str, tmp_path: Path) -> None:
    with labctl.open_bench(station(f'model = "{model}"'), seed=5) as bench:
        run = labctl.run("iv_sweep", bench, out=tmp_path / "iv.h5", points=60, cycles=2, dwell=1e-4)
    table = run.table()
    v, i = table["v"], table["i"]
    rising = (table["cycle"] == 1) & (v > 0) & (np.gradient(v) > 0)
    falling = (table["cycle"] == 1) & (v > 0) & (np.gradient(v) < 0)
    at = 0.3  # V; the SET of this loop shows: the way back carries more
    assert np.interp(at, v[falling][::-1], i[falling][::-1]) > 1.5 * np.interp(at, v[rising], i[rising])
    assert verify(tmp_path / "iv.h5").rows == run.row_count("point")


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "ohm.txt").write_text("2e5", encoding="utf-8")
    with labctl.open_bench(on_disk(tmp_path, 'model = "mine.py:Resistors"', 'parameters = "ohm.txt"')) as bench:
        assert reads(bench, 1, 1)[1] == pytest.approx(1e-6, rel=1e-3)
        assert switch(bench, 1, 1)[0] == pytest.approx(20e-6, rel=1e-3)
        assert reads(bench, 1, 2)[1] == pytest.approx(1e-6, rel=1e-3)


def test_a_parameter_file(tmp_path: Path) -> None:
    save_params(tmp_path / "slider.json", SliderParams(r_on=30e3).ideal())
    lines = 'model = "slider"', 'parameters = "slider.json"', "[simulation.effects]", "rtn = 0.0", "relaxation = 0.0"
    with labctl.open_bench(on_disk(tmp_path, *lines)) as bench, bench.powered(), bench.cell(0, 0) as cell:
        [reading] = cell.program().pulse(3.0, 4.0, 1e-3).read(0.2, 4.0).run()
    assert 0.2 / reading.current == pytest.approx(30e3, rel=0.1)
    assert load_params(tmp_path / "slider.json", SliderParams) == SliderParams(r_on=30e3).ideal()


@pytest.mark.parametrize("model", list(MODELS))
def test_a_chip_goes_on_where_it_was(model: str, tmp_path: Path) -> None:
    """Two openings of a station with a state file give what one opening gives; the chip's seed stays."""
    kept = on_disk(tmp_path, f'model = "{model}"', 'state = "chip.npz"')
    found = []
    for seed in (5, 6):
        with labctl.open_bench(kept, seed=seed) as bench:
            assert "SIM-5" in bench.board.identity.text
            found += [switch(bench, 0, 0), switch(bench, 0, 1)]
    with labctl.open_bench(station(f'model = "{model}"'), seed=5) as bench:
        expected = [switch(bench, 0, 0), switch(bench, 0, 1)]
        for _ in range(2):
            expected.append(switch(bench, 0, len(expected) - 2))
    assert found[:2] == expected[:2]
    # between the openings the chip is off: the clock of RTN stands still, so not to the last digit
    assert np.array(found[2:]) == pytest.approx(np.array(expected[2:]), rel=0.3)
    assert found[2:] != found[:2]
    assert sorted(os.listdir(tmp_path)) == ["chip.npz", "my.toml"]


def test_wear_and_doses_are_kept_after_an_error(tmp_path: Path) -> None:
    kept = on_disk(tmp_path, 'state = "chip.npz"')

    def fails() -> None:
        with labctl.open_bench(kept, seed=1) as bench:
            switch(bench, 3, 3)
            raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        fails()
    with np.load(tmp_path / "chip.npz") as saved:
        pulses = saved["array.doses"][0].reshape(16, 4)
        wear = saved["device.x"][X_WEAR].reshape(16, 4)
    assert pulses[3, 3] > 0
    assert pulses.sum() == pulses[3, 3]
    assert wear[3, 3] > 0.2
    assert wear.sum() == wear[3, 3]


def test_a_run_on_a_kept_chip_re_executes_and_leaves_the_chip(tmp_path: Path) -> None:
    kept = on_disk(tmp_path, 'state = "chip.npz"')
    files = []
    for k in range(2):
        with labctl.open_bench(kept, seed=1) as bench:
            files.append(labctl.run("iv_sweep", bench, out=tmp_path / f"{k}.h5", points=40, cycles=2, dwell=1e-4).path)
    before = (tmp_path / "chip.npz").read_bytes()
    assert [verify(file).rows for file in files] == [labctl.load(file).row_count() for file in files]
    assert (tmp_path / "chip.npz").read_bytes() == before
    first, second = (labctl.load(file).table()["i"] for file in files)
    assert not np.array_equal(first, second), "the second run found the chip as the first had left it"


def test_a_state_that_is_not_this_chips_is_refused_and_left_alone(tmp_path: Path) -> None:
    with labctl.open_bench(on_disk(tmp_path, 'state = "chip.npz"')) as bench:
        switch(bench, 0, 0)
    file = tmp_path / "chip.npz"
    good = file.read_bytes()
    shape = station('state = "chip.npz"').text.replace("columns = 4", "columns = 3")
    (tmp_path / "shape.toml").write_text(shape, encoding="utf-8")
    save_params(tmp_path / "own.json", FilamentParams(g_0=0.4))
    cases = [
        (on_disk(tmp_path, 'model = "slider"', 'state = "chip.npz"'), "a chip of model 'filament', the station says"),
        (str(tmp_path / "shape.toml"), "a chip of shape '16 × 4', the station says '16 × 3'"),
    ]
    for path, message in cases:
        with pytest.raises(StationError, match=message):
            labctl.open_bench(path)
    for line, message in (
        ('parameters = "own.json"', "a chip of parameters"),
        ("shorted = [[0, 0]]", "keeps a chip with other faulty cells"),
    ):
        with pytest.raises(StationError, match=message):
            labctl.open_bench(on_disk(tmp_path, 'state = "chip.npz"', line))
    assert file.read_bytes() == good
    plain = on_disk(tmp_path, 'state = "chip.npz"')
    with np.load(file) as saved:
        later = {name: saved[name] for name in saved.files} | {"about.version": np.array("9")}
    np.savez(tmp_path / "later.npz", **later)
    for bad, message in (
        ((tmp_path / "later.npz").read_bytes(), "of version 9, this labctl has 1"),
        (good[: len(good) // 2], "cannot be read as the state of a chip"),
        (b"", "cannot be read as the state of a chip"),
    ):
        file.write_bytes(bad)
        with pytest.raises(StationError, match=message):
            labctl.open_bench(plain)
        assert file.read_bytes() == bad
    np.savez(file, a=np.zeros(3))
    with pytest.raises(StationError, match="is no saved state of a chip"):
        labctl.open_bench(plain)


def test_two_runs_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    kept = on_disk(tmp_path, 'state = "chip.npz"')
    first, second = labctl.open_bench(kept), labctl.open_bench(kept)
    first.close()
    good = (tmp_path / "chip.npz").read_bytes()
    with pytest.raises(StorageError, match="was changed by another run meanwhile"):
        second.close()
    assert (tmp_path / "chip.npz").read_bytes() == good


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('model = "spintronic"', "there is no model 'spintronic'; there are filament, generative, slider, multilevel"),
        ('model = "none.py:Cells"', "none.py of model .* is not there"),
        ('model = "bad.py:Cells"', "bad.py cannot be imported: ZeroDivisionError"),
        ('model = "empty.py:Cells"', "empty.py has no class 'Cells'"),
        ('model = "half.py:Cells"', "has no shape, pulse, waveform"),
        ('model = "mine.py:Resistors"\nshorted = 0.5', "takes no defects; leave that out"),
        ('parameters = "none.json"', "none.json"),
        ('parameters = "bad.json"', "bad.json is not JSON"),
        ('parameters = "other.json"', "is of format 'labctl-slider', not 'labctl-filament'"),
        ('model = "slider"\nparameters = "later.json"', "has version 2; this labctl reads version 1"),
        ('model = "slider"\nparameters = "typo.json"', "r_onn is no parameter of this model"),
        ('model = "slider"\nparameters = "far.json"', "far.json: r_on"),
        ("line_resistance = -1", "line_resistance = -1.0 Ω a segment must be finite and not negative"),
        ("[simulation.effects]\nrtnn = 1.0", "simulation.effects.rtnn is not known; there are relaxation"),
        ("[simulation.effects]\nrtn = -1.0", "rtn = -1"),
    ],
)
def test_bad_models_and_parameters_are_named(line: str, message: str, tmp_path: Path) -> None:
    texts = {
        "bad.py": "1 / 0", "empty.py": "", "half.py": "class Cells:\n    def __init__(self, shape): pass\n",
        "mine.py": MINE, "bad.json": "{", "other.json": '{"format": "labctl-slider", "version": 1}',
        "later.json": '{"format": "labctl-slider", "version": 2}',
        "typo.json": '{"format": "labctl-slider", "version": 1, "r_onn": 1e4}',
        "far.json": '{"format": "labctl-slider", "version": 1, "r_on": -5}',
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(StationError, match=message):
        labctl.open_bench(on_disk(tmp_path, line))
