"""An offline bench: instruments that answer a new experiment from an old recording.

A `Tape` answers only the questions that were asked, in their order. `Recorded` answers any question whose answer the
recording holds: settings are accepted, measurements are looked up by what was asked in which state, sequence numbers
do not count. What was not recorded is refused in one line. `docs/decisions/0006-offline-bench.md` has the reasons.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

from labctl.errors import MeasurementError
from labctl.transport.tape import Tape, Transaction


class NotRecorded(MeasurementError):
    """An offline bench was asked for what its recording does not hold (exit 1)."""


class Question(NamedTuple):
    """One request, told apart from others.

    key: what is asked, with all of the instrument's own state that the answer depends on. what: for people.
    kind: "setting" changes the instrument and is always accepted; "fact" has the same answer at all times; "reading"
    is looked up by its key. memory: what keeps the effect of the request, such as the lines of one cell: on one
    memory, answers are given in the order they were recorded and once only. also: another key under which to look,
    less strict, or None.
    """

    kind: str
    key: Hashable
    what: str
    memory: Hashable | None = None
    also: Hashable | None = None


class Questions(Protocol):
    """How one instrument's requests are understood. One object follows the recording, another the experiment."""

    def ask(self, request: bytes, others: Mapping[str, Hashable]) -> Question:
        """What is asked; others: the states of the other instruments."""

    def done(self, request: bytes, reply: bytes) -> None:
        """The request was answered: follow what it changed."""

    @property
    def state(self) -> Hashable:
        """What other instruments' readings may depend on."""

    def fit(self, reply: bytes, request: bytes) -> bytes:
        """A recorded reply as the answer to this request (sequence numbers)."""

    def accept(self, request: bytes) -> bytes:
        """The answer to a setting that was never recorded like this."""


class Recorded(Tape):
    """A tape that answers in any order.

    questions: instrument → maker of its `Questions`. name: of the recording, for messages.
    """

    def __init__(
        self, transactions: Sequence[Transaction], questions: Mapping[str, Callable[[], Questions]], name: str
    ) -> None:
        super().__init__(transactions)
        self.name = name
        self.asked = self.jumps = self.repeats = self.loose = self.skipped = 0
        self._now = {instrument: make() for instrument, make in questions.items()}
        self._places: dict[Hashable, list[int]] = {}
        self._memory: dict[Hashable, list[int]] = {}
        self._reached: dict[Hashable, int] = {}
        self._used: set[int] = set()
        followed = {instrument: make() for instrument, make in questions.items()}
        for number, (instrument, request, reply) in enumerate(transactions):
            if instrument not in followed:
                continue
            question = followed[instrument].ask(request, _states(followed))
            for key in (question.key, question.also):
                if key is not None:
                    self._places.setdefault((instrument, key), []).append(number)
            if question.memory is not None:
                self._memory.setdefault(question.memory, []).append(number)
            followed[instrument].done(request, reply)

    def take(self, instrument: str, request: bytes) -> bytes:
        """The recorded answer to `request`; raises `NotRecorded`."""
        if instrument not in self._now:
            raise NotRecorded(f"{self.name} has no instrument {instrument!r}; it has {', '.join(self._now)}")
        now = self._now[instrument]
        question = now.ask(request, _states(self._now))
        self.asked += 1
        number = self._find(instrument, question)
        if number is not None:
            reply = now.fit(self._transactions[number].reply, request)
        elif question.kind == "setting":
            reply = now.accept(request)
        else:
            raise NotRecorded(
                f"{self.name} does not hold the answer: {question.what} was never recorded in this state of the bench;"
                " measure it on a bench, or ask for what was recorded (labctl show)"
            )
        now.done(request, reply)
        return reply

    def finish(self) -> None:
        """Nothing has to be left over or used up."""

    def summary(self) -> str:
        """How well the questions fitted the recording, in one line."""
        counts = {
            "out of recorded order": self.jumps,
            "answers given again": self.repeats,
            "measured in a slightly other state": self.loose,
            "recorded operations on the same cells left out": self.skipped,
        }
        seen = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{self.asked} questions answered from {self.name}" + (
            f": {seen}" if seen else ", all in recorded order"
        )

    def _find(self, instrument: str, question: Question) -> int | None:
        strict, loose = (self._places.get((instrument, key), []) for key in (question.key, question.also))
        places = strict or loose
        if not places:
            return None
        if question.kind != "reading":
            return places[min(bisect_left(places, self.position), len(places) - 1)]
        if question.memory is not None:
            number = self._remembered(strict, loose, question)
        else:
            at = bisect_left(places, self.position)
            number = places[at] if at < len(places) else places[0]
        self.jumps += number < self.position
        self.repeats += number in self._used
        self.loose += number not in strict
        self._used.add(number)
        self.position = number + 1
        return number

    def _remembered(self, strict: list[int], loose: list[int], question: Question) -> int:
        reached = self._reached.get(question.memory, 0)
        number = next(
            (places[at] for places in (strict, loose) if (at := bisect_left(places, reached)) < len(places)), -1
        )
        if number < 0:
            count = len(loose or strict)
            times = f"{count} time" + "s" * (count > 1)
            raise NotRecorded(
                f"{self.name} holds {question.what} {times}, before what was asked on the"
                " same cells last; a cell remembers, so its answers are given in recorded order and once"
            )
        history = self._memory[question.memory]
        self.skipped += bisect_left(history, number) - bisect_left(history, reached)
        self._reached[question.memory] = number + 1
        return number


class ScpiQuestions:
    """A SCPI instrument: commands set, queries read. Its readings may depend on the instruments in `sees` as well."""

    def __init__(self, sees: Sequence[str] = ()) -> None:
        self._sees = tuple(sees)
        self._settings: dict[str, str] = {}
        self._state: Hashable = frozenset()

    @property
    def state(self) -> Hashable:
        return self._state

    def ask(self, request: bytes, others: Mapping[str, Hashable]) -> Question:
        text = request.decode("ascii", "replace").strip()
        queries = [unit for unit in _units(text) if unit[0].endswith("?")]
        if not queries:
            return Question("setting", text, text)
        if all(header.startswith(("*", ":SYST")) for header, _ in queries):
            return Question("fact", tuple(queries), text)
        # what the same line sets counts already
        key: Hashable = (tuple(queries), frozenset(self._after(text).items()))
        # what the instrument sees counts for its data; its settings it can tell at any time
        if any(word in header for header, _ in queries for word in ("DATA", "WAV", "CURV", "MEAS")):
            key = (key, tuple(others.get(name) for name in self._sees))
        return Question("reading", key, text)

    def done(self, request: bytes, reply: bytes) -> None:
        self._settings = self._after(request.decode("ascii", "replace").strip())
        self._state = frozenset(self._settings.items())

    def _after(self, text: str) -> dict[str, str]:
        settings = dict(self._settings)
        for header, argument in _units(text):
            if header == "*RST":
                settings.clear()
            elif not header.endswith("?") and not header.startswith("*"):
                settings[header] = argument
        return settings

    def fit(self, reply: bytes, request: bytes) -> bytes:
        return reply

    def accept(self, request: bytes) -> bytes:
        return b""


def _states(questions: Mapping[str, Questions]) -> dict[str, Hashable]:
    return {name: item.state for name, item in questions.items()}


def _units(text: str) -> list[tuple[str, str]]:
    """The message units of a SCPI line as (absolute header, arguments); IEEE 488.2 §7.4, SCPI-99 vol. 1 §6.2.4."""
    units = []
    path = ""
    for part in text.upper().split(";"):
        header, _, argument = part.strip().partition(" ")
        if not header.startswith((":", "*")):
            header = f"{path}:{header}"
        if not header.startswith("*"):
            header = ":" + header.lstrip(":")
            path = header.rpartition(":")[0]
        units.append((header, argument.strip()))
    return units
