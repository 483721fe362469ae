"""What the board does with a chip's neurons besides counting: switches, levels, the supply's current."""

import numpy as np
import pytest

from drivers.fpga.board import Board
from drivers.fpga.messages import LineKind, Source
from drivers.fpga.program import End, Kind, Levels, Read
from drivers.fpga.sim import SimBoard
from labctl.errors import InstrumentError
from labctl.link import FrameLink
from labctl.transport.loop import LoopTransport
from tests.fpga.plant import ResistorPlant


@pytest.fixture
def bench() -> tuple[Board, SimBoard, ResistorPlant]:
    plant = ResistorPlant()
    peer = SimBoard(plant, word_lines=16, bit_lines=4)
    board = Board(FrameLink(LoopTransport(peer), "board"))
    board.connect(1)
    board.lease()
    return board, peer, plant


def test_switches_close_and_the_safe_state_opens_them(bench: tuple[Board, SimBoard, ResistorPlant]) -> None:
    board, peer, plant = bench
    assert board.status().safe
    board.set_routes([(LineKind.OUT, 0, Source.NEURON + 15), (LineKind.THR, 0, Source.NEURON + 15)])
    assert plant.lines[LineKind.OUT][:2].tolist() == [Source.NEURON + 15, Source.FLOAT]
    assert plant.lines[LineKind.THR][:2].tolist() == [Source.NEURON + 15, Source.FLOAT]
    assert not board.status().safe
    board.safe()
    assert (plant.lines[LineKind.OUT] == Source.FLOAT).all()
    assert (plant.lines[LineKind.THR] == Source.FLOAT).all()
    assert (plant.lines[LineKind.WL] == Source.GROUND).all()
    assert peer.machine.outputs.is_safe


@pytest.mark.parametrize(
    "route",
    [
        (LineKind.OUT, 0, Source.GROUND),
        (LineKind.THR, 0, Source.DAC + 3),
        (LineKind.OUT, 0, Source.NEURON + 32),
        (LineKind.OUT, 32, Source.NEURON),
        (LineKind.VDD, 0, Source.FLOAT),
        (LineKind.BL, 0, Source.NEURON + 1),
    ],
)
def test_what_cannot_be_connected_is_refused(
    bench: tuple[Board, SimBoard, ResistorPlant], route: tuple[int, int, int]
) -> None:
    board, peer, _ = bench
    with pytest.raises(InstrumentError, match="NO_SUCH_CHANNEL"):
        board.set_routes([(LineKind.OUT, 1, Source.NEURON + 2), route])
    assert (peer.machine.outputs.routes[LineKind.OUT] == Source.FLOAT).all()  # nothing of the request was applied


def test_levels_and_the_supply_are_read_by_a_program(bench: tuple[Board, SimBoard, ResistorPlant]) -> None:
    board, _, plant = bench
    plant.stuck_high = 1 << 31 | 1 << 4 | 1
    records = np.concatenate(list(board.run([Levels(0xFFFF_FFF0, 7), Read(LineKind.VDD, 0, 3, 10, 8, 0), End()])))
    assert records["kind"].tolist() == [Kind.LEVELS, Kind.SAMPLE]
    assert records["aux"][0] == 1 << 31 | 1 << 4
    assert records["tag"].tolist() == [7, 8]
    assert records["tick"][1] - records["tick"][0] == 10 * board.identity.sample_ticks
    [reading] = board.readings(records)
    assert reading.status == "ok"
    assert reading.current == pytest.approx(plant.supply, rel=1e-4)
