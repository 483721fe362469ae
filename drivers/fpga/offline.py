"""What the board's requests mean to an offline bench: which of them set, which of them measure, and in which state."""

from collections.abc import Hashable, Iterable, Mapping

from drivers.fpga.messages import (
    REPLY,
    REQUESTS,
    Abort,
    Done,
    Error,
    Fetch,
    FetchSpikes,
    GetRanges,
    GetStatus,
    Hello,
    Load,
    Safe,
    SelfTest,
    SetDacs,
    SetRoutes,
    Source,
    Start,
)
from drivers.fpga.program import REGISTER, Branch, Connect, Dac, Instruction, Pulse, disassemble
from labctl.errors import LinkError
from labctl.offline import Question
from labctl.wire.frame import Frame, FrameDecoder
from labctl.wire.message import WireError

_FACTS = (Hello.TYPE, GetRanges.TYPE, GetStatus.TYPE, SelfTest.TYPE)
_REST = (Source.FLOAT, Source.GROUND)


class BoardQuestions:
    """Follows the outputs and the program. A run is told by outputs, routes and program; the fetches by the run.

    A program that connects array lines, or starts with connected ones, acts on cells, which remember (see
    `offline.Question.memory`): the same lines are the same memory.
    """

    def __init__(self) -> None:
        self._outputs: dict[Hashable, Hashable] = {}  # what is not at rest: converter → code, line → source
        self._state: Hashable = frozenset()
        self._code = bytearray()
        self._run: Hashable = None
        self._fetches = 0
        self._tick = 0

    @property
    def state(self) -> Hashable:
        return (self._state, self._run)

    def ask(self, request: bytes, others: Mapping[str, Hashable]) -> Question:
        frame = _frame(request)
        kind = REQUESTS.get(frame.type)
        name = kind.__name__ if kind else f"request 0x{frame.type:02x}"
        if frame.type in _FACTS:
            # a session's number says nothing about the bench
            return Question("fact", (frame.type, b"" if frame.type == Hello.TYPE else frame.payload), name)
        if frame.type == Start.TYPE:
            steps = ", ".join(dict.fromkeys(type(item).__name__ for item in self._listing())) or "none"
            what = f"this board program ({steps}) with these outputs"
            return Question("reading", self._program(), what, memory=self._lines())
        if frame.type in (Fetch.TYPE, FetchSpikes.TYPE):
            key = (frame.type, frame.payload, self._run, self._fetches)
            return Question("reading", key, f"{name} number {self._fetches} of this board program")
        return Question("setting", (frame.type, frame.payload, self._state), name)

    def done(self, request: bytes, reply: bytes) -> None:
        frame, answer = _frame(request), _frame(reply)
        if answer.type == Error.TYPE:
            return
        if answer.type in (SetDacs.TYPE | REPLY, SetRoutes.TYPE | REPLY):
            self._tick = Done.decode(answer.payload).tick
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
        elif frame.type == Start.TYPE:
            self._run, self._fetches = self._program(), 0
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
        return Frame(frame.type | REPLY, frame.sequence, Done(self._tick).encode(), frame.version).encode()

    def _program(self) -> Hashable:
        return (self._state, bytes(self._code))

    def _listing(self) -> list[Instruction]:
        try:
            return [item for item, _ in disassemble(bytes(self._code)).values()]
        except WireError:
            return []  # the board refuses it, and its refusal is what was recorded

    def _lines(self) -> Hashable | None:
        lines = {place for place, source in self._outputs.items() if isinstance(place, tuple) and source not in _REST}
        lines |= {(i.kind, i.line) for i in self._listing() if isinstance(i, Connect) and i.source not in _REST}
        return frozenset(lines) or None

    def _follow(self) -> None:
        """The outputs that the program leaves; where only its registers know, outputs of their own."""
        listing = self._listing()
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
            if value == (Source.GROUND if isinstance(place, tuple) else 0):
                self._outputs.pop(place, None)
            else:
                self._outputs[place] = value
        self._settle()

    def _settle(self) -> None:
        self._state = frozenset(self._outputs.items())


def _frame(data: bytes) -> Frame:
    events = FrameDecoder().feed(data)
    if len(events) != 1 or not isinstance(events[0], Frame):
        raise LinkError(f"{len(data)} recorded bytes are no frame of the board")
    return events[0]
