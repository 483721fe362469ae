"""The in-process wire: what one end writes the other end answers at once, in real bytes."""

from typing import Protocol

from labctl.errors import LinkError
from labctl.transport import LinkTimeout


class Peer(Protocol):
    """The other end of a wire: bytes in, bytes out, no waiting."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire and return the bytes to put on it."""


class LoopTransport:
    """A wire to a peer in this process. Nothing can come later, so an empty wire times out at once."""

    def __init__(self, peer: Peer, address: str = "loop") -> None:
        self.address = address
        self._peer: Peer | None = peer
        self._incoming = bytearray()

    def write(self, data: bytes) -> None:
        if self._peer is None:
            raise LinkError(f"{self.address}: the link is closed")
        self._incoming += self._peer.receive(data)

    def read(self, size: int, timeout: float) -> bytes:
        if not self._incoming:
            raise LinkTimeout(f"{self.address}: no answer within {timeout:g} s")
        data = bytes(self._incoming[:size])
        del self._incoming[:size]
        return data

    def clear(self) -> None:
        self._incoming.clear()

    def close(self) -> None:
        self._peer = None
