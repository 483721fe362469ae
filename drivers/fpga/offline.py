"""What the board's requests mean to an offline bench: which of them set, which of them measure, and in which state."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

from drivers.fpga.messages import (
    DOSES,
    REPLY,
    REQUESTS,
    Abort,
    Chunk,
    Done,
    Doses,
    Error,
    Fetch,
    FetchSpikes,
    GetDoses,
    GetRanges,
    GetStatus,
    Hello,
    Identity,
    LineKind,
    Load,
    Safe,
    SelfTest,
    SetDacs,
    SetRoutes,
    Source,
    Start,
    State,
    Status,
)
from drivers.fpga.program import (
    REGISTER,
    Add,
    Branch,
    Commit,
    Connect,
    Dac,
    Delay,
    End,
    Instruction,
    Loop,
    Pulse,
    Set,
    Stamp,
    Trigger,
    disassemble,
)
from labctl.errors import LinkError
from labctl.offline import Question
from labctl.wire.frame import Frame, FrameDecoder
from labctl.wire.message import Message, WireError

_FACTS = (Hello.TYPE, GetRanges.TYPE, SelfTest.TYPE)
_REST = (Source.FLOAT, Source.GROUND)
_ARRAY = (LineKind.WL, LineKind.BL, LineKind.SL)
_QUIET = (Dac, Connect, Commit, Delay, Set, Add, Branch, Loop, Trigger, End)


class BoardQuestions:
    """Follows the outputs and the program. A run is told by outputs, routes and program; the fetches by the run.

    A program that neither measures nor touches array lines (a wait) is a setting. One that connects array lines, or
    starts with connected ones, acts on cells, which remember (see `offline.Question.memory`): the same lines are the
    same memory. Where a program was recorded only with other lines connected, or with other levels on converters that
    it sets itself, that is its less strict key.
    """

    def __init__(self) -> None:
        self._outputs: dict[Hashable, Hashable] = {}  # what is not at rest: converter → code, line → source
        self._state: Hashable = frozenset()
        self._code = bytearray()
        self._listing: list[Instruction] = []
        self._run: Hashable = None
        self._loose_run: Hashable = None
        self._quiet = True
        self._fetches = 0
        self._tick = 0
        self._bit_lines = 0

    @property
    def state(self) -> Hashable:
        return (self._converters(()), self._loose_run)

    def ask(self, request: bytes, others: Mapping[str, Hashable]) -> Question:
        frame = _frame(request)
        kind = REQUESTS.get(frame.type)
        name = kind.__name__ if kind else f"request 0x{frame.type:02x}"
        if frame.type in _FACTS:
            # a session's number says nothing about the bench
            return Question("fact", (frame.type, b"" if frame.type == Hello.TYPE else frame.payload), name)
        if frame.type == Start.TYPE:
            lines = self._lines()
            steps = ", ".join(dict.fromkeys(type(item).__name__ for item in self._listing)) or "none"
            what = f"this board program ({steps}) with these outputs"
            quiet = lines is None and self._is_quiet()
            return Question("setting" if quiet else "reading", self._program(), what, lines, self._loose_program())
        if frame.type in (Fetch.TYPE, FetchSpikes.TYPE):
            # how many records were asked for at most does not matter: they come as they were recorded
            key, loose = ((frame.type, run, self._fetches) for run in (self._run, self._loose_run))
            quiet = self._quiet and frame.type == Fetch.TYPE
            what = f"{name} number {self._fetches} of this board program"
            return Question("setting" if quiet else "reading", key, what, also=loose)
        if frame.type == GetDoses.TYPE:  # what a cell was given is asked, but decides nothing
            return Question("setting", (frame.type, frame.payload), name)
        return Question("setting", (frame.type, frame.payload, self._state), name)

    def done(self, request: bytes, reply: bytes) -> None:
        frame, answer = _frame(request), _frame(reply)
        if answer.type == Error.TYPE:
            return
        if answer.type == frame.type | REPLY and REQUESTS[frame.type].ANSWER is Done:
            self._tick = max(self._tick, Done.decode(answer.payload).tick)
        if frame.type == Hello.TYPE:
            self._bit_lines = Identity.decode(answer.payload).bit_lines
        if frame.type in (Hello.TYPE, Safe.TYPE, Abort.TYPE):
            self._outputs.clear()
            self._settle()
        elif frame.type == SetDacs.TYPE:
            self._apply((item.channel, item.code) for item in SetDacs.decode(frame.payload).settings)
        elif frame.type == SetRoutes.TYPE:
            self._apply(((item.kind, item.line), item.source) for item in SetRoutes.decode(frame.payload).routes)
        elif frame.type == Load.TYPE:
            load = Load.decode(frame.payload)
            if load.offset == 0:
                self._code.clear()
            self._code += load.code
            self._listing = _listing(bytes(self._code))
        elif frame.type == Start.TYPE:
            self._quiet = self._lines() is None and self._is_quiet()
            self._run, self._loose_run, self._fetches = self._program(), self._loose_program(), 0
            self._follow()
        elif frame.type in (Fetch.TYPE, FetchSpikes.TYPE):
            self._fetches += 1

    def fit(self, reply: bytes, request: bytes) -> bytes:
        recorded, asked = _frame(reply), _frame(request)
        if recorded.sequence == asked.sequence:
            return reply
        return Frame(recorded.type, asked.sequence, recorded.payload, recorded.version).encode()

    def accept(self, request: bytes) -> bytes:
        frame = _frame(request)
        done: Message = Done(self._tick)
        if frame.type == Fetch.TYPE:
            done = Chunk(State.DONE, 0, 0, math.nan, math.nan, b"")
        elif frame.type == GetStatus.TYPE:
            done = Status(self._tick, State.IDLE, not self._outputs, True, 0)
        elif frame.type == GetDoses.TYPE:
            done = Doses(0, bytes(8 * len(DOSES) * self._bit_lines))
        return Frame(frame.type | REPLY, frame.sequence, done.encode(), frame.version).encode()

    def _program(self) -> Hashable:
        return (self._state, self._steps())

    def _loose_program(self) -> Hashable:
        return (
            "loose",
            self._converters([item.channel for item in self._listing if isinstance(item, Dac)]),
            bytes(self._code),
        )

    def _steps(self) -> Hashable:
        """The program, without its trigger pulses, which only the oscilloscope sees."""
        if any(isinstance(item, Branch | Loop) for item in self._listing):
            return bytes(self._code)  # targets are bytes
        return tuple(item for item in self._listing if not isinstance(item, Trigger))

    def _converters(self, without: Sequence[int]) -> Hashable:
        return frozenset((k, code) for k, code in self._outputs.items() if isinstance(k, int) and k not in without)

    def _is_quiet(self) -> bool:
        return all(isinstance(i, _QUIET) or (isinstance(i, Stamp) and not i.mask) for i in self._listing)

    def _lines(self) -> Hashable | None:
        """The array lines that the program uses: its own, or, where it connects none, those that are connected."""
        named = [((i.kind, i.line), i.source) for i in self._listing if isinstance(i, Connect)]
        there = [(place, source) for place, source in self._outputs.items() if isinstance(place, tuple)]
        found = [
            {place for place, source in lines if place[0] in _ARRAY and source not in _REST} for lines in (named, there)
        ]
        return frozenset(found[0] or found[1]) or None

    def _follow(self) -> None:
        """The outputs that the program leaves; where only its registers know, outputs of their own."""
        listing = self._listing
        opaque = any(isinstance(i, Branch) or (isinstance(i, Dac) and i.level >= REGISTER) for i in listing)
        if opaque:
            self._apply([("after", self._program())])
        for item in listing:
            if isinstance(item, Dac) and item.level < REGISTER:
                self._apply([(item.channel, item.level)])
            elif isinstance(item, Connect):
                self._apply([((item.kind, item.line), item.source)])
            elif isinstance(item, Pulse):
                self._apply([(item.drive, 0), (item.gate, 0)])

    def _apply(self, changes: Iterable[tuple[Hashable, Hashable]]) -> None:
        for place, value in changes:
            array = isinstance(place, tuple) and place[0] in _ARRAY
            if value == (Source.GROUND if array else 0):  # 0: a converter at rest, a switch that is open
                self._outputs.pop(place, None)
            else:
                self._outputs[place] = value
        self._settle()

    def _settle(self) -> None:
        self._state = frozenset(self._outputs.items())


def _listing(code: bytes) -> list[Instruction]:
    try:
        return [item for item, _ in disassemble(code).values()]
    except WireError:
        return []  # not whole yet; or the board refuses it, and its refusal is what was recorded


def _frame(data: bytes) -> Frame:
    events = FrameDecoder().feed(data)
    if len(events) != 1 or not isinstance(events[0], Frame):
        raise LinkError(f"{len(data)} recorded bytes are no frame of the board")
    return events[0]
