"""Frames on a byte stream: COBS between zero bytes, a header, a CRC-32.

    0x00-terminated COBS( version u8 | type u8 | sequence u16 | length u16 | payload | crc32 u32 ), little-endian

COBS: Cheshire & Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM ToN 7:159 (1999). CRC-32: IEEE 802.3, as in zlib,
over header and payload.
"""

import struct
import zlib
from dataclasses import dataclass

from cobs import cobs

VERSION = 1
MAX_PAYLOAD = 16384
_HEADER = struct.Struct("<BBHH")
_CRC = struct.Struct("<I")
_MAX_ENCODED = (_HEADER.size + MAX_PAYLOAD + _CRC.size) * 255 // 254 + 2


@dataclass(frozen=True)
class Frame:
    """One frame: message type, sequence number (0 … 65535), payload, and the protocol version of its sender."""

    type: int
    sequence: int
    payload: bytes
    version: int = VERSION

    def encode(self) -> bytes:
        """The frame's bytes on the wire, the closing zero included."""
        if len(self.payload) > MAX_PAYLOAD:
            raise ValueError(f"payload of {len(self.payload)} bytes; a frame holds {MAX_PAYLOAD}")
        body = _HEADER.pack(self.version, self.type, self.sequence, len(self.payload)) + self.payload
        encoded: bytes = cobs.encode(body + _CRC.pack(zlib.crc32(body)))
        return encoded + b"\0"


@dataclass(frozen=True)
class BadFrame:
    """Bytes between two zeros that are no frame; receivers count and drop them."""

    reason: str
    raw: bytes


class FrameDecoder:
    """Bytes in, frames out; one bad frame never hurts its neighbours."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame | BadFrame]:
        """Take bytes as they come, split anywhere, and return what they complete."""
        if b"\0" not in data:
            self._pending += data
            if len(self._pending) <= _MAX_ENCODED:
                return []
            raw = bytes(self._pending)
            self._pending.clear()
            return [BadFrame("longer than any frame", raw)]
        *complete, rest = (bytes(self._pending) + data).split(b"\0")
        self._pending[:] = rest
        return [_decode(raw) for raw in complete if raw]


def _decode(raw: bytes) -> Frame | BadFrame:
    try:
        body: bytes = cobs.decode(raw)
    except cobs.DecodeError:
        return BadFrame("COBS", raw)
    if len(body) < _HEADER.size + _CRC.size:
        return BadFrame("too short", raw)
    if zlib.crc32(body[: -_CRC.size]) != _CRC.unpack(body[-_CRC.size :])[0]:
        return BadFrame("CRC", raw)
    version, kind, sequence, length = _HEADER.unpack_from(body)
    payload = body[_HEADER.size : -_CRC.size]
    if length != len(payload):
        return BadFrame("length", raw)
    return Frame(kind, sequence, payload, version)
