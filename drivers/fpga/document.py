"""Makes docs/board-protocol.md from the declarations, so that the document cannot say anything else than the code.

python -m drivers.fpga.document > docs/board-protocol.md
"""

import inspect
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from drivers.fpga import messages, program
from labctl.wire.frame import MAX_PAYLOAD, VERSION
from labctl.wire.message import Message

_TYPES = {
    "B": "u8", "H": "u16", "I": "u32", "Q": "u64", "h": "i16", "i": "i32", "q": "i64", "d": "f64", "?": "bool (u8)",
    "rest": "bytes to the end", "text": "UTF-8 to the end",
}  # fmt: skip

_INTRODUCTION = f"""# The board's protocol, version {VERSION}

One who builds the firmware needs nothing else. Numbers are little-endian; `f64` is IEEE 754; the clock ticks every
{messages.TICK * 1e9:g} ns. This page is made from the code's declarations (`python -m drivers.fpga.document`).
It has been exercised against the simulated firmware only, not yet against real hardware.

## Frames

    COBS( version u8 | type u8 | sequence u16 | length u16 | payload | CRC-32 u32 ) 0x00

- The CRC-32 is that of IEEE 802.3 (as in zlib) over header and payload. A payload has at most {MAX_PAYLOAD} bytes.
- A frame that is broken in any way is counted and dropped without an answer; the host sends it again.
- The host sends one request at a time. The reply carries the request's sequence number and its type plus
  0x{messages.REPLY:02x}, or type 0x{messages.Error.TYPE:02x} (Error). An error reply means that nothing was applied.
- Sequence numbers start at 0 with Hello and count up by 1, modulo 65536. The board keeps its last
  {messages.CACHED_REPLIES} replies and answers a number it finds there from the cache, **without carrying the request
  out again**: a pulse is never applied twice. Any other number than the next one is refused (BAD_SEQUENCE).
- A frame of another version is answered by an Error in a frame of the board's own version.

## Safe state, lease and limits

- After power-on, Hello, Safe, Abort, a program's fault, and at the end of the lease the board makes its lines safe, in
  this order, 1 µs apart: the converters that drive bit and source lines to 0; the converters that drive word lines to
  0; all lines to ground and all switches (OUT, THR) open; the remaining converters to 0 from the highest number down.
- Outputs move only while the host holds a lease. Each valid frame renews it. It is counted in real time.
- The clamp table (SetLimits) is checked before each change of a converter, those inside programs included. A change
  that would leave the limits is refused as a whole; nothing is ever clamped.

## Programs

A program is a sequence of instructions: opcode u8, then the fields. It is loaded in pieces, checked whole at Start
(opcodes, registers, targets, an end on every path), and run with hardware timing. Its records are fetched in chunks;
while the board's buffer is full the program waits before the instruction that would add to it, so none is lost. An
*operand* is an i32: values from 0x{program.REGISTER:08x} to 0x{program.REGISTER + program.REGISTERS - 1:08x} name
register 0 … {program.REGISTERS - 1}, all others are numbers.

An output change (Commit, and each SetDacs or SetRoutes) takes {program.SETTLE} ticks until the next instruction; a read
takes `average` times the conversion time of Identity, and again as long for each change of range. A register that a
read has filled holds the current in units of {program.SAMPLE_UNIT * 1e12:g} pA, or
±0x{program.OVERRANGE_REGISTER:08x} when it is beyond the range. All other instructions take no time on the clock.

A record has {program.RECORD.itemsize} bytes: tick u64, value i32, aux u32, tag u16, kind u8, flags u8.

| kind | number | value | aux |
|---|---|---|---|
| SAMPLE | 1 | code; current = code·gain + offset of its range | range |
| VALUE | 2 | operand of Emit | 0 |
| COUNT | 3 | spikes counted (Count: within its gate; Tally: since power-on, modulo 2^31) | counter |
| PULSE | 4 | width in ticks | level code |
| LEVELS | 5 | 0 | bit k: spike output k is high now |
"""


def document() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Instructions\n"]
    for opcode, instruction in program.INSTRUCTIONS.items():
        parts.append(_message(f"0x{opcode:02x} {instruction.__name__}", instruction))
    parts.append("## Requests and replies\n")
    for kind, request in messages.REQUESTS.items():
        parts.append(_message(f"0x{kind:02x} {request.__name__} → {request.ANSWER.__name__}", request))
    parts.append("## Replies and items of lists\n")
    replies = {request.ANSWER for request in messages.REQUESTS.values()} | {messages.Error}
    items = {field.wire.item for cls in (*replies, *messages.REQUESTS.values()) for field in cls.fields()} - {None}
    for cls in sorted(replies | items, key=lambda cls: cls.__name__):  # type: ignore[union-attr]
        assert cls is not None
        frame = f"0x{messages.Error.TYPE:02x} " if cls is messages.Error else ""
        parts.append(_message(f"{frame}{cls.__name__}", cls))
    parts.append("## Numbers with names\n")
    for enum in (
        messages.LineKind, messages.Source, messages.State, messages.ErrorCode, messages.Capability,
        program.SampleFlag, program.Condition,
    ):  # fmt: skip
        parts.append(_enum(enum))
    return "\n".join(parts).rstrip() + "\n"


def _message(title: str, cls: type[Message]) -> str:
    lines = [f"### {title}\n", " ".join((inspect.getdoc(cls) or "").split()) + "\n"]
    if cls.fields():
        lines += ["| field | type | unit | meaning |", "|---|---|---|---|"]
    for field in cls.fields():
        kind = f"{field.wire.item.__name__}, repeated to the end" if field.wire.item else _TYPES[field.wire.code]
        unit, meaning = (field.q.unit, field.q.meaning) if field.q else ("", "")
        lines.append(f"| {field.name} | {kind} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"


def _enum(enum: type[IntEnum] | type[IntFlag]) -> str:
    members: Iterable[IntEnum | IntFlag] = enum
    names = ", ".join(f"{member.name} = {member.value}" for member in members)
    return f"- **{enum.__name__}** ({' '.join((inspect.getdoc(enum) or '').rstrip('.').split())}): {names}\n"


if __name__ == "__main__":
    print(document(), end="")
