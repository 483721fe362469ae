"""What every board does for the driver: simulated in process, behind TCP, on a pty, and the one on the bench.

``pytest --bench FILE.toml`` runs it on the board of that station. Take the chip out of its socket first: outputs move.
"""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.fpga.board import Board
from drivers.fpga.messages import NONE, LineKind, Source, State
from drivers.fpga.program import (
    Add,
    Branch,
    Commit,
    Condition,
    Count,
    Dac,
    Delay,
    Emit,
    End,
    Kind,
    Loop,
    Pulse,
    Read,
    Set,
    Stamp,
    Tally,
    reg,
)
from drivers.fpga.sim import SimBoard
from drivers.serve import serve
from labctl.errors import InstrumentError, LimitError
from labctl.link import FrameLink
from labctl.station import load_station
from labctl.transport import Transport, open_transport
from labctl.transport.loop import LoopTransport
from tests.fpga.plant import OHMS, PERIODS, ResistorPlant


class BoardContract:
    """Each backend brings a `wire`."""

    simulated = True

    @pytest.fixture
    def board(self, wire: Transport) -> Iterator[Board]:
        board = Board(FrameLink(wire, "board"))
        board.connect(123)
        board.lease()
        yield board
        board.safe()
        board.close()

    def test_it_says_who_it_is(self, board: Board) -> None:
        assert board.identity.text.count(",") == 5
        assert board.identity.tick > 0
        scales = [item.full_scale for item in board.ranges.ranges]
        assert len(scales) >= 3
        assert scales == sorted(scales)

    def test_it_tests_itself(self, board: Board) -> None:
        board.safe()
        assert {name: found for name, found in board.self_test().items() if found != "ok"}.keys() <= {"clock"}

    def test_outputs_move_and_go_safe(self, board: Board) -> None:
        board.set_dacs({0: 1.0, 1: 0.5})
        assert not board.status().safe
        board.safe()
        assert board.status().safe
        with pytest.raises(InstrumentError, match="NO_LEASE"):
            board.set_dacs({0: 1.0})
        board.lease()

    def test_limits_are_the_boards_too(self, board: Board) -> None:
        board.set_limits([(0, None, 0.0, 1.0), (1, 0, -5.0, 0.0)])
        board.set_dacs({0: 1.0, 1: 1.0})
        for beyond in ({0: 1.1}, {0: 0.9}, {1: 1.1}):
            with pytest.raises(LimitError, match="nothing was applied"):
                board.set_dacs(beyond)
        board.safe()
        board.set_limits([])
        board.lease()

    def test_a_program_computes_loops_and_branches(self, board: Board) -> None:
        """The sum of 1 … 10, with a branch that leaves at 6."""
        head = [Set(0, 0), Set(1, 0)]
        body = [Add(1, 1), Add(0, reg(1)), Emit(7, reg(0)), Branch(Condition.EQ, reg(1), 6, 0), Branch(0, 0, 0, 12)]
        size = 12 + 6 + 6 + 7 + 12 + 12
        body[3] = Branch(Condition.EQ, reg(1), 6, size)
        records = np.concatenate(list(board.run([*head, *body, End()])))
        assert records["value"].tolist() == [1, 3, 6, 10, 15, 21]
        assert set(records["tag"]) == {7}

    def test_delays_take_their_ticks(self, board: Board) -> None:
        program = [Set(0, 3), Emit(1, 0), Delay(1234), Loop(0, 6), End()]
        ticks = np.concatenate(list(board.run(program)))["tick"].astype(np.int64)
        assert np.diff(ticks).tolist() == [1234, 1234]

    def test_programs_that_are_none_are_refused(self, board: Board) -> None:
        with pytest.raises(InstrumentError, match="BAD_PROGRAM"):
            list(board.run([Delay(1)]))
        assert board.status().state != State.RUNNING

    def test_an_abort_ends_an_endless_program(self, board: Board) -> None:
        records = board.run([Emit(1, 1), Delay(100), Branch(Condition.ALWAYS, 0, 0, 0), End()])
        next(records)
        records.close()
        status = board.status()
        assert (status.state, status.safe) == (State.ABORTED, True)
        board.lease()

    def test_a_line_without_amplifier_reads_open(self, board: Board) -> None:
        [block] = board.run([Read(LineKind.SL, 0, NONE, 1, 3, 0), End()])
        [reading] = board.readings(block)
        assert (reading.status, reading.tag) == ("open", 3)

    def test_counters_count_within_their_gate(self, board: Board) -> None:
        """Without a chip both counts are 0; the simulated bench's neurons fire like clocks."""
        program = [Tally(3, 1), Stamp(3), Count(100_000, 3, 2), Stamp(0), Tally(3, 3), End()]
        records = np.concatenate(list(board.run(program)))
        counts = records[records["kind"] == Kind.COUNT]
        before, within, after = (counts["value"][counts["tag"] == tag] for tag in (1, 2, 3))
        assert (after - before).tolist() == within.tolist()
        train = board.spikes()
        assert [int((train.counter == k).sum()) for k in (0, 1)] == within.tolist()
        assert (np.diff(train.t) >= 0).all()
        if self.simulated:
            assert within.tolist() == [100_000 // period for period in PERIODS]


class SimulatedBoardContract(BoardContract):
    """With a resistor of known value in the socket."""

    @pytest.mark.parametrize(("volts", "status"), [(0.2, "ok"), (4.0, "ok"), (0.0, "below")])
    def test_readings_are_typed(self, board: Board, volts: float, status: str) -> None:
        gate, drive = Source.DAC + 2, Source.DAC + 3
        board.set_routes([(LineKind.WL, 1, gate), (LineKind.BL, 0, drive), (LineKind.SL, 1, Source.SENSE)])
        program = [
            Dac(2, board.code(2, 2.0)),
            Dac(3, board.code(3, volts)),
            Commit(),
            Read(LineKind.SL, 1, NONE, 4, 9, 0),
        ]
        [block] = board.run([*program, End()])
        [reading] = board.readings(block)
        assert reading.status == status
        if status == "ok":
            assert reading.current == pytest.approx(volts / OHMS, rel=2e-3)

    def test_a_chosen_range_that_is_too_small_says_so(self, board: Board) -> None:
        gate, drive = Source.DAC + 2, Source.DAC + 3
        board.set_routes([(LineKind.WL, 1, gate), (LineKind.BL, 0, drive), (LineKind.SL, 1, Source.SENSE)])
        program = [Dac(2, board.code(2, 2.0)), Dac(3, board.code(3, 1.0)), Commit(), Read(LineKind.SL, 1, 0, 4, 9, 0)]
        [block] = board.run([*program, End()])
        assert board.readings(block)[0].status == "over"

    def test_a_logged_pulse_leaves_a_record(self, board: Board) -> None:
        pulse = Pulse(3, 1000, 30, 2, 2000, 5, 7, log=True, tag=4)
        [block] = board.run([pulse, Emit(1, 0), End()])
        assert block["kind"].tolist() == [Kind.PULSE, Kind.VALUE]
        assert (block["value"][0], block["aux"][0], block["tag"][0]) == (30, 1000, 4)


def simulated_board() -> SimBoard:
    return SimBoard(ResistorPlant(), word_lines=16, bit_lines=4)


class TestInProcess(SimulatedBoardContract):
    @pytest.fixture
    def wire(self) -> Transport:
        return LoopTransport(simulated_board())


class TestTcp(SimulatedBoardContract):
    @pytest.fixture
    def wire(self) -> Iterator[Transport]:
        with serve(simulated_board(), "tcp://127.0.0.1:0") as server:
            yield open_transport(server.address)


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")
class TestPty(SimulatedBoardContract):
    @pytest.fixture
    def wire(self) -> Iterator[Transport]:
        with serve(simulated_board(), "pty") as server:
            yield open_transport(server.address)


class TestReal(BoardContract):
    simulated = False

    @pytest.fixture
    def wire(self, request: pytest.FixtureRequest) -> Transport:
        station = request.config.getoption("--bench")
        if not station:
            pytest.skip("needs a board: pytest --bench FILE.toml")
        return open_transport(load_station(station).board)
