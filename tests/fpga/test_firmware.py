"""The firmware at the wire: sequence numbers, lease, limits, safe state; and a link that misbehaves."""

import math

import numpy as np
import pytest

from drivers.fpga import messages as msg
from drivers.fpga.board import Board
from drivers.fpga.messages import NONE, LineKind, Source
from drivers.fpga.program import Add, Commit, Dac, Delay, Emit, End, Kind, Loop, Pulse, Read, Set, reg
from drivers.fpga.sim import SimBoard
from labctl.errors import InstrumentError, LimitError, LinkError, VersionError
from labctl.link import FrameLink
from labctl.transport.loop import LoopTransport
from labctl.wire.frame import Frame, FrameDecoder
from tests.faults import FaultyTransport
from tests.fpga.plant import ResistorPlant


class Clock:
    """Real time under the test's control."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def firmware(**settings: object) -> tuple[SimBoard, ResistorPlant]:
    plant = ResistorPlant()
    return SimBoard(plant, word_lines=16, bit_lines=4, **settings), plant  # type: ignore[arg-type]


def connected(**settings: object) -> tuple[Board, SimBoard, ResistorPlant]:
    peer, plant = firmware(**settings)
    board = Board(FrameLink(LoopTransport(peer), "board"))
    board.connect(1)
    board.lease()
    return board, peer, plant


def ask(peer: SimBoard, sequence: int, request: msg.AnyRequest) -> Frame:
    [reply] = FrameDecoder().feed(peer.receive(Frame(request.TYPE, sequence, request.encode()).encode()))
    assert isinstance(reply, Frame)
    return reply


def test_a_repeated_request_is_answered_but_not_carried_out_again() -> None:
    peer, plant = firmware()
    ask(peer, 0, msg.Hello(5))
    ask(peer, 1, msg.Lease(10))
    request = Frame(msg.SetDacs.TYPE, 2, msg.SetDacs((msg.DacSetting(3, 1000),)).encode()).encode()
    first = peer.receive(request)
    moves, tick = len(plant.history), plant.tick
    assert peer.receive(request) == first
    assert peer.receive(request + request) == first + first
    assert (len(plant.history), plant.tick) == (moves, tick)


def test_a_number_out_of_order_is_refused() -> None:
    peer, _ = firmware()
    ask(peer, 0, msg.Hello(5))
    reply = ask(peer, 7, msg.GetStatus())
    assert reply.type == msg.Error.TYPE
    assert msg.Error.decode(reply.payload).code == msg.ErrorCode.BAD_SEQUENCE


def test_nothing_is_done_before_hello() -> None:
    peer, _ = firmware()
    error = msg.Error.decode(ask(peer, 0, msg.GetStatus()).payload)
    assert error.code == msg.ErrorCode.NO_SESSION


def test_unknown_requests_and_broken_payloads_get_an_answer() -> None:
    peer, _ = firmware()
    ask(peer, 0, msg.Hello(5))
    for sequence, raw in ((1, Frame(0x55, 1, b"")), (2, Frame(msg.Lease.TYPE, 2, b"abc"))):
        [reply] = FrameDecoder().feed(peer.receive(raw.encode()))
        assert isinstance(reply, Frame)
        assert (reply.type, reply.sequence) == (msg.Error.TYPE, sequence)


def test_another_version_is_told_apart() -> None:
    peer, _ = firmware(version=2)
    board = Board(FrameLink(LoopTransport(peer), "board"))
    with pytest.raises(VersionError, match="speaks protocol version 2, this labctl speaks 1"):
        board.connect(1)


def test_no_answer_is_one_clear_error() -> None:
    class Silent:
        def receive(self, data: bytes) -> bytes:
            return b""

    link = FrameLink(LoopTransport(Silent()), "board")
    with pytest.raises(LinkError, match=r"board at loop does not answer: 6 attempts"):
        Board(link).connect(1)
    assert link.retries == 5


def test_outputs_stay_at_zero_without_a_lease() -> None:
    peer, _ = firmware()
    board = Board(FrameLink(LoopTransport(peer), "board"))
    board.connect(1)
    with pytest.raises(InstrumentError, match="NO_LEASE"):
        board.set_dacs({0: 1.0})
    assert peer.machine.outputs.is_safe


def test_the_lease_runs_out_in_silence_and_any_request_renews_it() -> None:
    clock = Clock()
    board, peer, _ = connected(now=clock)
    board.lease(2.0)
    board.set_dacs({4: 1.0})
    for _ in range(3):
        clock.now += 1.9
        assert not board.status().safe
    clock.now += 2.1
    peer.receive(b"")  # the board's own timer
    assert peer.machine.outputs.is_safe
    with pytest.raises(InstrumentError, match="lease ran out"):
        board.set_dacs({4: 1.0})
    board.lease()
    board.set_dacs({4: 1.0})


def test_what_the_simulation_takes_to_compute_is_no_silence() -> None:
    clock = Clock()
    board, peer, plant = connected(now=clock)
    board.lease(2.0)
    advance = plant.advance

    def slowly(ticks: int) -> None:
        clock.now += 5.0
        advance(ticks)

    plant.advance = slowly  # type: ignore[method-assign]
    board.set_dacs({4: 1.0})
    assert not board.status().safe
    clock.now += 2.1
    peer.receive(b"")
    assert peer.machine.outputs.is_safe


def test_lines_go_safe_in_the_documented_order() -> None:
    board, _, plant = connected()
    board.set_routes([(LineKind.WL, 2, Source.DAC + 10), (LineKind.BL, 1, Source.DAC + 11)])
    board.set_dacs({0: 3.3, 7: 1.2, 10: 2.0, 11: 1.0})
    start = len(plant.history)
    board.safe()
    order = []
    before = plant.history[start - 1][1]
    for _, volts in plant.history[start:]:
        order += [int(k) for k in np.flatnonzero((before != 0) & (volts == 0))]
        before = volts
    assert order == [11, 10, 7, 0]
    assert board.status().safe


@pytest.mark.parametrize("damage", ["abort", "stop iterating"])
def test_ending_a_program_early_leaves_the_lines_safe(damage: str) -> None:
    board, peer, _ = connected()
    program = [Dac(3, 1000), Commit(), Set(0, 100_000), Emit(1, 7), Loop(0, 13), End()]
    listing_start = 6 + 1 + 6  # Dac, Commit, Set
    assert listing_start == 13

    class Stop(Exception):
        pass

    def check() -> None:
        if damage == "abort":
            raise Stop

    records = board.run(program, check)
    next(records)
    assert not peer.machine.outputs.is_safe
    if damage == "abort":
        with pytest.raises(Stop):
            next(records)
    else:
        records.close()
    assert board.status().safe
    assert board.status().state == msg.State.ABORTED


def test_limits_are_enforced_for_single_settings_pairs_pulses_and_programs() -> None:
    board, peer, _ = connected()
    board.set_limits([(0, None, 0.0, 3.6), (5, 0, -math.inf, 0.0)])  # converter 5 never above converter 0
    board.set_dacs({0: 3.3, 5: 3.0})
    before = list(peer.machine.outputs.codes)
    with pytest.raises(LimitError, match=r"LIMIT DAC 5 minus DAC 0.*nothing was applied"):
        board.set_dacs({6: 1.0, 5: 3.4})
    with pytest.raises(LimitError, match="DAC 5 minus DAC 0"):
        board.set_dacs({0: 2.9})
    assert peer.machine.outputs.codes == before
    assert board.code(5, 3.3) == board.code(0, 3.3)
    with pytest.raises(LimitError, match=r"program at byte \d+ \(Commit\)"):
        list(board.run([Dac(5, 65535), Commit(), End()]))
    assert peer.machine.outputs.is_safe
    board.lease()
    board.set_dacs({0: 3.3})
    pulse = Pulse(5, 50_000, 100, NONE, 0, 0, 0, log=True, tag=1)
    with pytest.raises(LimitError, match="Pulse"):
        list(board.run([pulse, End()]))


def test_a_refused_clamp_table_leaves_the_old_one() -> None:
    board, _, _ = connected()
    board.set_limits([(0, None, 0.0, 2.0)])
    board.set_dacs({0: 1.5})
    with pytest.raises(LimitError):
        board.set_limits([(0, None, 0.0, 1.0)])
    board.set_dacs({0: 1.9})
    with pytest.raises(LimitError):
        board.set_dacs({0: 2.1})


def test_an_overflowing_register_is_a_fault_not_a_wrap() -> None:
    board, peer, _ = connected()
    with pytest.raises(LimitError, match="Add"):
        list(board.run([Set(0, 2_000_000_000), Add(0, reg(0)), End()]))
    assert peer.machine.outputs.is_safe


@pytest.mark.parametrize("seed", range(12))
def test_a_bad_link_changes_nothing(seed: int) -> None:
    """10 % of frames lost, repeated, corrupted or late: same records, each pulse applied exactly once."""

    def measure(transport: LoopTransport | FaultyTransport, plant: ResistorPlant) -> tuple[bytes, int, int]:
        board = Board(FrameLink(transport, "board", timeout=0.0, attempts=20))
        board.connect(99)
        board.lease()
        board.set_routes(
            [(LineKind.WL, 0, Source.DAC + 10), (LineKind.BL, 0, Source.DAC + 11), (LineKind.SL, 0, Source.SENSE)]
        )
        read = Read(LineKind.SL, 0, NONE, 1, 5, 0)
        got = b""
        for level in range(1000, 1030):
            program = [Pulse(11, level, 50, 10, 40_000, 5, 5, log=True, tag=3), read, Delay(10), End()]
            got += b"".join(block.tobytes() for block in board.run(program))
        pulses = sum(1 for _, volts in plant.history if volts[11] > 0)
        return got, pulses, board.link.retries

    peer, plant = firmware()
    clean, pulses, _ = measure(LoopTransport(peer), plant)
    assert pulses == 30
    peer, plant = firmware()
    faulty = FaultyTransport(peer, 0.1, seed)
    assert measure(faulty, plant)[:2] == (clean, pulses)
    assert faulty.hits > 5


def test_every_record_of_a_long_program_arrives_once_and_in_order() -> None:
    board, _, _ = connected()
    program = [Set(0, 5000), Emit(1, reg(0)), Delay(3), Loop(0, 6), End()]
    records = np.concatenate(list(board.run(program)))
    assert records["kind"].tolist() == [Kind.VALUE] * 5000
    assert records["value"].tolist() == list(range(5000, 0, -1))
    assert (np.diff(records["tick"].astype(np.int64)) == 3).all()


def test_real_pace_keeps_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pace "real" the firmware sleeps as long as the program lasts; with "virtual" it never sleeps."""
    for pace, expected in (("real", 0.5), ("virtual", 0.0)):
        clock = Clock()
        monkeypatch.setattr(
            "drivers.fpga.sim.time.sleep", lambda seconds, clock=clock: setattr(clock, "now", clock.now + seconds)
        )
        board, _, _ = connected(now=clock, pace=pace)
        list(board.run([Delay(50_000_000), End()]))
        assert clock.now == pytest.approx(expected, abs=1e-6)
