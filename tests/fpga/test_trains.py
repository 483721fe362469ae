"""A loop of pulses that the simulated board carries out at once is the same as one carried out step by step."""

from typing import Any

import numpy as np
import pytest

from drivers.bench import Bench
from drivers.fpga.messages import NONE, LineKind, Source
from drivers.fpga.program import (
    Commit,
    Connect,
    Count,
    Dac,
    Delay,
    Emit,
    End,
    Instruction,
    Loop,
    Pulse,
    Read,
    Set,
    Tally,
    length,
)
from drivers.simulation import ChipPlant, Simulation
from labctl.station import load_station

WL, BL, SL = 26, 27, 28


def routes(positive: bool) -> list[Instruction]:
    bl, sl = (Source.DAC + BL, Source.SENSE) if positive else (Source.SENSE, Source.DAC + SL)
    return [
        Connect(LineKind.BL, 1, bl),
        Connect(LineKind.SL, 2, sl),
        Connect(LineKind.WL, 2, Source.DAC + WL),
        Commit(),
    ]


def floating() -> list[Instruction]:
    return [Connect(LineKind.BL, k, Source.FLOAT) for k in (0, 2, 3)]


SET_PULSE = Pulse(BL, 36700, 100, WL, 31457, 5, 5, False, 0)
RESET_PULSE = Pulse(SL, 26214, 100, WL, 55050, 5, 5, False, 0)
READ = Read(LineKind.SL, 2, NONE, 16, 0, 0)
BODIES: dict[str, list[Instruction]] = {
    "one polarity": [SET_PULSE, Delay(1000)],
    "both polarities": [*routes(False), RESET_PULSE, *routes(True), SET_PULSE],
    "a gate that stays up": [Pulse(BL, 36700, 100, NONE, 0, 0, 0, False, 0)],
    "two widths and waits of 30 ms": [SET_PULSE, Delay(3_000_000), Pulse(BL, 39321, 30, WL, 39321, 5, 9, False, 0)],
}


def run(body: list[Instruction], times: int, monkeypatch: pytest.MonkeyPatch, trains: bool) -> dict[str, Any]:
    repeated: list[int] = []
    with monkeypatch.context() as patch:
        whole = ChipPlant.repeat

        def repeat(plant: ChipPlant, n: int) -> bool:
            done = trains and whole(plant, n)
            repeated.append(n if done else 0)
            return done

        patch.setattr(ChipPlant, "repeat", repeat)
        station = load_station("sim")
        simulation = Simulation(station, seed=5)
        bench = Bench(station, simulation.board_transport(), simulation.scope_transport, seed=5)
        with bench:
            bench.begin(None, 1, bench.abort)
            with bench.powered():
                bench.inputs({0: 50e-6, 1: 20e-6})
                head: list[Instruction] = [*floating(), *routes(True), Dac(WL, 31457), Commit(), Set(0, times)]
                program = [*head, *body, Loop(0, length(head)), Tally(3, 1), Dac(BL, 2621), Dac(WL, 32768), Commit()]
                records = bench.run([*program, READ, Count(100_000, 3, 2), End()])
    machine = simulation.board.machine
    state = simulation.chip.array.state()
    simulation.close()
    return {
        "records": records,
        "board": machine.doses.counts.copy(),
        "tick": machine.tick,
        "state": {name: values for name, values in state.items() if values.dtype.kind in "fi"},
        "repeated": sum(repeated),
    }


@pytest.mark.parametrize("body", BODIES)
def test_a_train_is_the_same_as_its_steps(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, train = (run(BODIES[body], 40, monkeypatch, trains) for trains in (False, True))
    assert (steps["repeated"], train["repeated"]) == (0, 38), "all but the first two, which are compared"
    assert train["tick"] == steps["tick"]
    np.testing.assert_array_equal(train["board"], steps["board"])
    for name, values in steps["state"].items():
        np.testing.assert_allclose(train["state"][name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    for column in ("tick", "value", "aux", "tag", "kind", "flags"):
        np.testing.assert_array_equal(train["records"][column], steps["records"][column], err_msg=column)
    if train["tick"] * 10e-9 > 0.1:
        assert (train["records"]["value"][train["records"]["tag"] == 1] > 100).all(), "neurons fired meanwhile"


def test_what_a_loop_emits_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run([SET_PULSE, Emit(7, 1)], 20, monkeypatch, True)
    assert found["repeated"] == 0
    assert (found["records"]["tag"] == 7).sum() == 20


def test_a_loop_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outer one reads, the inner one is a train each time."""
    body = [SET_PULSE, Delay(100)]
    inner: list[Instruction] = [Set(1, 10), *body, Loop(1, 0), Emit(7, 0)]
    head = length([*floating(), *routes(True), Dac(WL, 31457), Commit(), Set(0, 5)])
    inner[-2] = Loop(1, head + length([inner[0]]))
    steps, train = (run(inner, 5, monkeypatch, trains) for trains in (False, True))
    assert train["repeated"] == 5 * 8
    assert train["tick"] == steps["tick"]
    np.testing.assert_array_equal(train["board"], steps["board"])
    np.testing.assert_array_equal(train["records"]["value"], steps["records"]["value"])
