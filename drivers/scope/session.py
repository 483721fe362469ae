"""One client of a simulated SCPI instrument: its input buffer, the messages it still has to carry out, its output."""

from collections import deque
from collections.abc import Callable, Iterator

from labctl.wire import scpi
from labctl.wire.scpi import MessageDecoder, ScpiError, Status, Unit

Answer = str | bytes | None


class Session:
    """Bytes in, bytes out; a `labctl.transport.loop.Peer`.

    execute: carry out one command or query, told whether answers wait already in this message. stalled: whether the
    instrument holds up what follows. The answers of one message are joined by semicolons (IEEE 488.2 §8.3.2). A command
    error (-1xx) ends its message; any other error only skips what caused it.
    """

    def __init__(self, execute: Callable[[Unit, bool], Answer], stalled: Callable[[], bool], status: Status) -> None:
        self._execute, self._stalled, self._status = execute, stalled, status
        self._decoder = MessageDecoder()
        self._todo: deque[Iterator[Unit]] = deque()
        self._answers: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire and return the bytes to put on it."""
        self._todo.extend(_parse(message) for message in self._decoder.feed(data))
        out = b""
        while self._todo and not self._stalled():
            try:
                unit = next(self._todo[0], None)
                if unit is not None:
                    answer = self._execute(unit, bool(self._answers))
                    if answer is not None:
                        self._answers.append(answer.encode("ascii") if isinstance(answer, str) else answer)
                    continue
            except ScpiError as error:
                self._status.error(error)
                if error.number <= -200:
                    continue
            self._todo.popleft()
            if self._answers:
                out += b";".join(self._answers) + b"\n"
                self._answers.clear()
        return out


def _parse(message: str | ScpiError) -> Iterator[Unit]:
    if isinstance(message, ScpiError):
        raise message
    yield from scpi.units(message)
