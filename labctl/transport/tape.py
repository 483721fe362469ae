"""Tape: every transaction with an instrument as bytes, recorded below the codecs and played back in their place.

A transaction is one complete request as sent and its complete reply as received (empty where none is due). Retries
are not transactions: what counts is the exchange that succeeded.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from labctl.errors import DivergenceError


class Transaction(NamedTuple):
    """One exchange: which instrument, the request's bytes, the reply's bytes."""

    instrument: str
    request: bytes
    reply: bytes


class Recorder(Protocol):
    """Takes each transaction as it is completed, and what else is worth knowing."""

    def transaction(self, instrument: str, request: bytes, reply: bytes) -> None:
        """Record one exchange."""

    def event(self, name: str, /, **data: Any) -> object:
        """Record that something happened; data: JSON."""


class Tape:
    """Plays recorded transactions back, in the order they were recorded across all instruments."""

    def __init__(self, transactions: Sequence[Transaction]) -> None:
        self._transactions = transactions
        self.position = 0

    def take(self, instrument: str, request: bytes) -> bytes:
        """The recorded reply to `request`; raises `DivergenceError` at the first request that differs."""
        index = self.position
        if index >= len(self._transactions):
            raise DivergenceError(
                f"transaction {index} ({instrument}) was never recorded: the recording ends after {index} transactions;"
                f" asked {preview(request)}"
            )
        expected = self._transactions[index]
        if (expected.instrument, expected.request) != (instrument, request):
            at = next(
                (i for i, (a, b) in enumerate(zip(expected.request, request, strict=False)) if a != b),
                min(len(expected.request), len(request)),
            )
            raise DivergenceError(
                f"transaction {index} ({expected.instrument}) differs at byte {at}:"
                f" recorded {preview(expected.request)}, now {instrument} is asked {preview(request)}"
            )
        self.position += 1
        return expected.reply

    def finish(self) -> None:
        """Raise `DivergenceError` unless the whole tape was played."""
        if self.position < len(self._transactions):
            next_one = self._transactions[self.position]
            raise DivergenceError(
                f"transaction {self.position} ({next_one.instrument}) was recorded but not asked again:"
                f" {preview(next_one.request)}; {len(self._transactions) - self.position} are left over"
            )


class TapeTransport:
    """Stands where an instrument's transport stood and answers from the tape."""

    def __init__(self, tape: Tape, instrument: str) -> None:
        self.address = f"tape:{instrument}"
        self._tape = tape
        self._instrument = instrument
        self._reply = b""

    def write(self, data: bytes) -> None:
        self._reply = self._tape.take(self._instrument, data)

    def read(self, size: int, timeout: float) -> bytes:
        if not self._reply:
            raise DivergenceError(
                f"transaction {self._tape.position - 1} ({self._instrument}): more of a reply was asked than recorded"
            )
        data, self._reply = self._reply[:size], self._reply[size:]
        return data

    def clear(self) -> None:
        self._reply = b""

    def close(self) -> None:
        self._reply = b""


def preview(data: bytes, limit: int = 48) -> str:
    """Bytes as a person can read them: text where it is text, hexadecimal otherwise."""
    head = data[:limit]
    printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return (repr(head.decode("ascii")) if printable else head.hex(" ")) + ("…" if len(data) > limit else "")
