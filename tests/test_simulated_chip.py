"""The simulated chip as [simulation] of a station describes it: faulty cells, broken lines, time."""

import numpy as np
import pytest

import labctl
from drivers.bench import Bench
from drivers.simulated_chip import Settings
from labctl.errors import StationError
from labctl.station import Station, load_station, parse_station

READ = {"v_read": 0.2, "v_wl": 2.5}


def station(*lines: str) -> Station:
    """The built-in station with more lines in [simulation], without its oscilloscope."""
    text = load_station("sim").text.replace('link = "sim"                          # sim | loop', 'link = "" #', 1)
    return parse_station(text + "\n" + "\n".join(lines) + "\n", "test")


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
        ("warp = 9", "simulation.warp is not known; there are formed, "),
    ],
)
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(StationError, match=f"station sim: {message}"):
        Settings.of(station(line))
