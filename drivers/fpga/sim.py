"""The simulated firmware: the board's end of the wire, with physics behind its connectors.

It is sans-IO (`receive`: bytes in, bytes out), so it runs in process, behind a TCP socket or on a pty alike. Time is
virtual: it passes only where instructions let it pass, and a program advances while its records are fetched.
"""

import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Literal, assert_never

import numpy as np

from drivers.fpga import machine as m
from drivers.fpga import outputs
from drivers.fpga.machine import Machine
from drivers.fpga.messages import (
    CACHED_REPLIES,
    REPLY,
    REQUESTS,
    TICK,
    Abort,
    AnyRequest,
    Capability,
    Chunk,
    Done,
    Doses,
    Error,
    ErrorCode,
    Fetch,
    FetchSpikes,
    GetDoses,
    GetRanges,
    GetStatus,
    Hello,
    Identity,
    Lease,
    LineKind,
    Load,
    Range,
    Ranges,
    Safe,
    SelfTest,
    SetDacs,
    SetLimits,
    SetRoutes,
    Spikes,
    Start,
    State,
    Status,
    TestResult,
)
from drivers.fpga.outputs import Fault
from drivers.fpga.plant import Plant
from drivers.fpga.program import disassemble
from labctl.wire.frame import VERSION, BadFrame, Frame, FrameDecoder
from labctl.wire.message import Message, WireError

PROGRAM_BYTES = 65536
FETCH_COST = 2000
"""What one fetch executes at most, in units of some 0.1 ms of computing: a fixed number of steps, so that what is
recorded does not depend on the computer."""

EVENT = np.dtype([("tick", "<u8"), ("counter", "u1")])


class SimBoard:
    """Firmware of the simulated board; a `labctl.transport.loop.Peer`.

    plant: what the connectors lead to. pace: "real" keeps real time (for demonstrations). now: the real-time clock of
    the lease, replaceable in tests.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        word_lines: int,
        bit_lines: int,
        pace: Literal["virtual", "real"] = "virtual",
        serial: str = "SIM-0",
        version: int = VERSION,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        array = {LineKind.WL: word_lines, LineKind.BL: bit_lines, LineKind.SL: word_lines}
        self.machine = Machine(
            plant, array | {LineKind.OUT: outputs.COUNTERS, LineKind.THR: outputs.COUNTERS, LineKind.VDD: 1}
        )
        self.bad_frames = 0
        self._identity = Identity(
            tick=TICK,
            dac_full_scale=outputs.DAC_FULL_SCALE,
            dacs=outputs.DACS,
            word_lines=word_lines,
            bit_lines=bit_lines,
            source_lines=word_lines,
            counters=outputs.COUNTERS,
            fifo_depth=m.FIFO_DEPTH,
            program_bytes=PROGRAM_BYTES,
            sample_ticks=m.SAMPLE_TICKS,
            capabilities=int(
                Capability.AUTO_RANGE
                | Capability.BRANCH
                | Capability.SPIKE_FIFO
                | Capability.TRIGGER_OUT
                | Capability.SWITCHES
                | Capability.SUPPLY_MONITOR
                | Capability.DOSES
                | Capability.SIMULATED
            ),
            text=f"labctl,simulated board,{serial},1.0,ideal,2026-11-23",
        )
        self._version = version
        self._now = now
        self._pace = pace
        self._started = (0.0, 0)
        self._decoder = FrameDecoder()
        self._boot = secrets.randbelow(2**32)
        self._session: int | None = None
        self._expected = 0
        self._replies: OrderedDict[int, bytes] = OrderedDict()
        self._lease = 0.0
        self._lease_until: float | None = None
        self._code = bytearray()
        self._program: Iterator[int] | None = None
        self._state = State.IDLE
        self._fault = Fault(ErrorCode.UNKNOWN_REQUEST, "none")

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire, return the bytes of the replies; call with b"" to let the lease run out."""
        if self._lease_until is not None and self._now() > self._lease_until:
            self._go_safe(State.LEASE_EXPIRED)
        out = b""
        for event in self._decoder.feed(data) if data else ():
            if isinstance(event, BadFrame):
                self.bad_frames += 1
            else:
                out += self._answer(event)
        return out

    def _answer(self, frame: Frame) -> bytes:
        if frame.version != self._version:
            return self._frame(frame, Error(ErrorCode.BAD_MESSAGE, frame.version, self._version, "protocol version"))
        opening = frame.type == Hello.TYPE and frame.sequence == 0
        if opening and frame.payload != (self._session or 0).to_bytes(4, "little"):
            self._replies.clear()
            self._expected = 0
        if frame.sequence in self._replies:
            return self._replies[frame.sequence]
        if self._session is None and not opening:
            return self._frame(frame, Error(ErrorCode.NO_SESSION, np.nan, np.nan, "say hello first"))
        if frame.sequence != self._expected:
            return self._frame(frame, Error(ErrorCode.BAD_SEQUENCE, frame.sequence, self._expected, "sequence number"))
        try:
            request = REQUESTS[frame.type].decode(frame.payload)
            reply: Message = self._carry_out(request)
        except KeyError:
            reply = Error(ErrorCode.UNKNOWN_REQUEST, frame.type, np.nan, "request type")
        except WireError as error:
            reply = Error(ErrorCode.BAD_MESSAGE, np.nan, np.nan, str(error))
        except Fault as fault:
            reply = Error(fault.code, fault.value, fault.limit, fault.detail)
        if self._lease_until is not None:  # only now: what the simulation took to compute is no silence of the host
            self._lease_until = self._now() + self._lease
        encoded = self._frame(frame, reply)
        self._replies[frame.sequence] = encoded
        if len(self._replies) > CACHED_REPLIES:
            self._replies.popitem(last=False)
        self._expected = (frame.sequence + 1) & 0xFFFF
        return encoded

    def _frame(self, request: Frame, reply: Message) -> bytes:
        kind = Error.TYPE if isinstance(reply, Error) else request.type | REPLY
        return Frame(kind, request.sequence, reply.encode(), self._version).encode()

    def _carry_out(self, request: AnyRequest) -> Message:
        machine = self.machine
        match request:
            case Hello():
                self._session = request.session
                self._go_safe(State.IDLE)
                machine.records.clear()
                machine.collect()
                machine.fifo.clear()
                machine.lost = 0
                return self._identity
            case GetRanges():
                return Ranges(tuple(Range(full, full / 32767, 0.0) for full in m.RANGES))
            case SetLimits():
                machine.outputs.set_limits(request.limits)
            case SetDacs():
                self._may_act()
                machine.apply({item.channel: item.code for item in request.settings}, [])
            case SetRoutes():
                self._may_act()
                machine.apply({}, [(item.kind, item.line, item.source) for item in request.routes])
            case Load():
                self._load(request)
            case Start():
                self._start()
            case Fetch():
                return self._fetch(request.most)
            case FetchSpikes():
                return self._fetch_spikes(request.most)
            case Abort():
                self._go_safe(State.ABORTED if self._program is not None else self._state)
            case Safe():
                self._go_safe(State.IDLE)
            case Lease():
                if not 0.05 <= request.seconds <= 600:
                    raise Fault(ErrorCode.LIMIT, "lease in s", request.seconds, 0.05 if request.seconds < 1 else 600)
                self._lease = request.seconds
                self._lease_until = self._now() + request.seconds
                if self._state == State.LEASE_EXPIRED:
                    self._state = State.IDLE
            case GetStatus():
                return Status(
                    machine.tick, self._state, machine.outputs.is_safe, self._lease_until is not None, self.bad_frames
                )
            case SelfTest():
                return TestResult(self._self_test())
            case GetDoses():
                return self._doses(request.word_line)
            case _:
                assert_never(request)
        return Done(machine.tick)

    def _may_act(self) -> None:
        if self._state == State.RUNNING:
            raise Fault(ErrorCode.BUSY, "a program is running; abort it or fetch its records to the end")
        if self._lease_until is None:
            why = "the lease ran out and the lines were made safe" if self._state == State.LEASE_EXPIRED else "no lease"
            raise Fault(ErrorCode.NO_LEASE, f"{why}; take a lease first")

    def _go_safe(self, state: State) -> None:
        self._program = None
        self._state = state
        self._lease_until = None
        self.machine.safe()

    def _load(self, request: Load) -> None:
        if self._state == State.RUNNING:
            raise Fault(ErrorCode.BUSY, "a program is running")
        if request.offset == 0:
            self._code.clear()
        if request.offset != len(self._code):
            raise Fault(ErrorCode.BAD_PROGRAM, "program bytes must follow each other", request.offset, len(self._code))
        if request.offset + len(request.code) > PROGRAM_BYTES:
            raise Fault(ErrorCode.BAD_PROGRAM, "program bytes", request.offset + len(request.code), PROGRAM_BYTES)
        self._code += request.code

    def _start(self) -> None:
        self._may_act()
        try:
            listing = disassemble(bytes(self._code))
        except WireError as error:
            raise Fault(ErrorCode.BAD_PROGRAM, str(error)) from None
        if not listing:
            raise Fault(ErrorCode.BAD_PROGRAM, "no program is loaded")
        self.machine.records.clear()
        self._program = self.machine.run(listing)
        self._state = State.RUNNING
        self._started = (self._now(), self.machine.tick)

    def _fetch(self, most: int) -> Chunk:
        if not 1 <= most <= 800:
            raise Fault(ErrorCode.LIMIT, "records", most, 1 if most < 1 else 800)
        records = self.machine.records
        cost = 0
        while self._program is not None and len(records) < most and cost < FETCH_COST:
            try:
                step = next(self._program)
                cost += step
                if self._pace == "real" and self._keep_pace():
                    break
            except StopIteration:
                self._program, self._state = None, State.DONE
            except Fault as fault:
                self._go_safe(State.FAULT)
                self._fault = fault
        chunk = b"".join(records.popleft() for _ in range(min(most, len(records))))
        state = State.RUNNING if records else self._state
        code, value, limit = (
            (self._fault.code, self._fault.value, self._fault.limit) if state == State.FAULT else (0, np.nan, np.nan)
        )
        return Chunk(state, code, self.machine.position, value, limit, chunk)

    def _keep_pace(self) -> bool:
        """Sleep while the program is ahead of real time; whether it was."""
        real, tick = self._started
        ahead = (self.machine.tick - tick) * TICK - (self._now() - real)
        if ahead > 1e-3:
            time.sleep(min(ahead, 1.0))
        return ahead > 1e-3

    def _fetch_spikes(self, most: int) -> Spikes:
        if not 1 <= most <= 1800:
            raise Fault(ErrorCode.LIMIT, "events", most, 1 if most < 1 else 1800)
        self.machine.collect()
        fifo = self.machine.fifo
        events = np.array([fifo.popleft() for _ in range(min(most, len(fifo)))], EVENT)
        lost, self.machine.lost = self.machine.lost, 0
        return Spikes(lost, len(fifo), events.tobytes())

    def _doses(self, word_line: int) -> Doses:
        counts = self.machine.doses.counts
        if word_line >= counts.shape[1]:
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, "word line", word_line, counts.shape[1] - 1)
        return Doses(self._boot, counts[:, word_line].T.astype("<u8").tobytes())

    def _self_test(self) -> str:
        idle = "ok" if self.machine.outputs.is_safe else "not tested, outputs are in use"
        memory = bytearray(range(256)) * (PROGRAM_BYTES // 256)
        kept = "ok" if all(memory[i] == i & 255 for i in range(0, PROGRAM_BYTES, 257)) else "pattern lost"
        ranges = "ok" if all(low < high for low, high in itertools.pairwise(m.RANGES)) else "out of order"
        return f"converters: {idle}\nranges: {ranges}\nprogram memory: {kept}\nclock: {self._pace}"
