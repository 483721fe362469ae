"""A wire that loses, repeats, corrupts and delays, with a seed."""

import random

from labctl.transport import LinkTimeout
from labctl.transport.loop import Peer


class FaultyTransport:
    """Between a driver and a peer; each write and each reply meets one of four fates with probability `rate` in all."""

    def __init__(self, peer: Peer, rate: float, seed: int) -> None:
        self.address = "faulty"
        self.hits = 0
        self._peer, self._rate, self._random = peer, rate, random.Random(seed)
        self._incoming = bytearray()
        self._late_requests, self._late_replies = bytearray(), bytearray()

    def _fate(self, data: bytes, late: bytearray) -> bytes:
        if not data or self._random.random() >= self._rate:
            return data
        self.hits += 1
        match self._random.randrange(4):
            case 0:
                return b""
            case 1:
                return data + data
            case 2:
                broken = bytearray(data)
                broken[self._random.randrange(len(broken))] ^= 1 << self._random.randrange(8)
                return bytes(broken)
            case _:
                late += data
                return b""

    def write(self, data: bytes) -> None:
        held = bytes(self._late_requests)
        self._late_requests.clear()
        reply = self._peer.receive(held + self._fate(data, self._late_requests))
        self._incoming += self._late_replies
        self._late_replies.clear()
        self._incoming += self._fate(reply, self._late_replies)

    def read(self, size: int, timeout: float) -> bytes:
        if not self._incoming:
            raise LinkTimeout("nothing there")
        data = bytes(self._incoming[:size])
        del self._incoming[:size]
        return data

    def clear(self) -> None:
        self._incoming.clear()

    def close(self) -> None:
        self.clear()
