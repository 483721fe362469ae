"""Links: one request, one reply, over a transport that may lose, corrupt, delay or repeat.

`FrameLink` speaks frames (the board), `ScpiLink` speaks IEEE 488.2 text and blocks (the oscilloscope). Each completed
exchange goes to the recorder as the bytes that were on the wire.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from labctl.errors import LinkError, VersionError
from labctl.transport import LinkTimeout, Transport
from labctl.transport.tape import Recorder, preview
from labctl.wire.frame import VERSION, BadFrame, Frame, FrameDecoder
from labctl.wire.message import Message

ReplyT = TypeVar("ReplyT", bound=Message)


class FrameLink:
    """Requests by sequence number. A request that is not answered in time is sent again with the same number, and
    the board answers a number it has seen from its cache: nothing is ever carried out twice.
    """

    def __init__(self, transport: Transport, instrument: str, timeout: float = 0.5, attempts: int = 6) -> None:
        self.transport = transport
        self.instrument = instrument
        self.recorder: Recorder | None = None
        self.timeout = timeout
        self.attempts = attempts
        self.retries = 0
        self._sequence = 0
        self._decoder = FrameDecoder()
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Number the next request 0, as a new session does, and forget what was still on the way."""
        self._sequence = 0
        self._decoder = FrameDecoder()
        with contextlib.suppress(LinkTimeout):
            self.transport.clear()

    def exchange(self, kind: int, payload: bytes) -> Frame:
        """Send one request and return its reply's frame.

        Raises `LinkError` when no attempt is answered and `VersionError` when the peer speaks another version.
        """
        with self._lock:
            request = Frame(kind, self._sequence, payload).encode()
            self._sequence = (self._sequence + 1) & 0xFFFF
            for attempt in range(self.attempts):
                if attempt:
                    self.retries += 1
                self.transport.write(request)
                reply = self._await(Frame(kind, (self._sequence - 1) & 0xFFFF, b""))
                if reply is not None:
                    if self.recorder:
                        self.recorder.transaction(self.instrument, request, reply.encode())
                    return reply
            raise LinkError(
                f"{self.instrument} at {self.transport.address} does not answer: {self.attempts} attempts of"
                f" {self.timeout:g} s; check power and cable, and that the address is the {self.instrument}'s"
            )

    def _await(self, request: Frame) -> Frame | None:
        junk = 0
        while junk < 1000:  # a babbling peer must not keep us for ever
            try:
                data = self.transport.read(65536, self.timeout)
            except LinkTimeout:
                return None
            reply = None
            for event in self._decoder.feed(data):
                if isinstance(event, BadFrame):
                    junk += 1
                elif event.version != VERSION:
                    raise VersionError(
                        f"{self.instrument} at {self.transport.address} speaks protocol version {event.version}, this"
                        f" labctl speaks {VERSION}; update the firmware or labctl"
                    )
                elif event.sequence == request.sequence:
                    reply = event
                else:
                    junk += 1  # the late answer to an earlier attempt
            if reply:
                return reply
        return None


class ScpiLink:
    """Text commands, text answers and definite-length blocks (IEEE 488.2 §8.7.9).

    One owner and one lock. After any failure the link is dirty: the next use clears it and proves, with values that
    only these questions can have as answers, that answers belong to questions again.
    """

    def __init__(self, transport: Transport, instrument: str, timeout: float = 5.0) -> None:
        self.transport = transport
        self.instrument = instrument
        self.recorder: Recorder | None = None
        self.timeout = timeout
        self._lock = threading.RLock()
        self._pending = bytearray()
        self._dirty = False
        self._nonce = 0

    def write(self, command: str) -> None:
        """Send a command (or several joined by ``;``) that has no answer; raises `LinkError`."""
        with self._lock:
            self._clean()
            self._exchange(command, tuple)

    def query(self, command: str, timeout: float | None = None) -> str:
        """Send a query and return its one-line answer, stripped; raises `LinkError`."""
        limit = self.timeout if timeout is None else timeout
        with self._lock:
            self._clean()
            (line,) = self._exchange(command, lambda: (self._until_newline(limit),))
            return line.decode("ascii").strip()

    def query_block(
        self, command: str, timeout: float | None = None, *, head: bytes = b"", tail: bytes = b"\n"
    ) -> bytes:
        """Send a query and return the data of its definite-length block, by exact length; raises `LinkError`.

        head, tail: what some instruments put before and after the block.
        """
        limit = self.timeout if timeout is None else timeout

        def receive() -> tuple[bytes, ...]:
            intro = self._exactly(len(head) + 2, limit)
            count = intro[len(head) + 1 :]
            if not intro.startswith(head + b"#") or not count.isdigit() or count == b"0":
                raise LinkError(f"{self._who()} answers {command} with {preview(intro)}, not with a block")
            digits = self._exactly(int(count), limit)
            if not digits.isdigit():
                raise LinkError(f"{self._who()} answers {command} with a block of length {preview(digits)}")
            data = self._exactly(int(digits), limit)
            end = self._exactly(len(tail), limit)
            if end != tail:
                raise LinkError(f"{self._who()} ends the block of {command} with {preview(end)}; are bytes missing?")
            return intro, digits, data, end

        with self._lock:
            self._clean()
            return self._exchange(command, receive)[2]

    def _exchange(self, command: str, receive: Callable[[], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """Send a command, receive the pieces of its answer, record both."""
        request = command.encode("ascii") + b"\n"
        try:
            self.transport.write(request)
            reply = receive()
        except BaseException:  # an interrupt in the middle of an answer leaves its rest on the wire
            self._dirty = True
            raise
        if self.recorder:
            self.recorder.transaction(self.instrument, request, b"".join(reply))
        return reply

    def _clean(self) -> None:
        if not (self._dirty or self._pending):  # bytes left over are nobody's answer
            return
        for _ in range(3):
            self._pending.clear()
            try:
                self.transport.clear()
                # late answers may look like the first value, hardly like both
                if self._proves(skip=True) and self._proves(skip=False):
                    self._dirty = False
                    return
            except LinkTimeout:
                continue
        raise LinkError(f"{self._who()} answers out of step; switch it off and on, then open the bench again")

    def _proves(self, skip: bool) -> bool:
        """Whether a value that was never asked before comes back; `skip`: after any number of late answers."""
        self._nonce = self._nonce % 254 + 1
        self.transport.write(b"*ESE %d;*ESE?\n" % self._nonce)
        seen = 0
        while seen < 1 << 28:
            line = self._line(min(self.timeout, 2.0), limit=1 << 28)
            seen += len(line)
            try:
                if int(line) == self._nonce:
                    return True
            except ValueError:
                pass
            if not skip:
                return False
        return False

    def _exactly(self, size: int, timeout: float) -> bytes:
        while len(self._pending) < size:
            self._pending += self.transport.read(size - len(self._pending), timeout)
        with memoryview(self._pending) as pending:
            data = bytes(pending[:size])
        del self._pending[:size]
        return data

    def _until_newline(self, timeout: float) -> bytes:
        line = self._line(timeout, limit=65536)
        if not line.isascii():
            raise LinkError(f"{self._who()} sends {preview(line)}, which is no text; is it the {self.instrument}?")
        return line

    def _line(self, timeout: float, limit: int) -> bytes:
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > limit:
                raise LinkError(
                    f"{self._who()} sends {limit} bytes without a line end: {preview(bytes(self._pending[:64]))}"
                )
            self._pending += self.transport.read(4096, timeout)
        line = bytes(self._pending[: end + 1])
        del self._pending[: end + 1]
        return line

    def _who(self) -> str:
        return f"{self.instrument} at {self.transport.address}"
