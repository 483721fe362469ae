"""Batch programs: instructions that the board runs with hardware timing, and the records they produce.

A program is the concatenation of instructions, each its opcode (u8) and then its fields. An *operand* is an i32: a
number, or, from `REGISTER` up, one of the 16 registers (i32, all 0 at the start). A target is the byte where an
instruction begins.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Annotated as A
from typing import ClassVar

import numpy as np

from labctl.quantity import Q
from labctl.wire.message import BOOL, I32, U8, U16, U32, Message, WireError

REGISTERS = 16
REGISTER = 0x7FFF_FF00
"""Operands REGISTER … REGISTER + 15 name a register."""
SETTLE = 100
"""Ticks that an output change takes before the next instruction."""
SAMPLE_UNIT = 10e-12
"""What 1 means in a register that a read has filled, in amperes."""
OVERRANGE_REGISTER = 0x7FFF_FE00
"""What a read leaves in its register when no range can hold the current: larger than any valid current."""

RECORD = np.dtype([("tick", "<u8"), ("value", "<i4"), ("aux", "<u4"), ("tag", "<u2"), ("kind", "u1"), ("flags", "u1")])
"""One record of a program, 20 bytes. What `value` and `aux` mean depends on `kind`."""


class Kind(IntEnum):
    """Kinds of records: (value, aux) is …"""

    SAMPLE = 1  # (code, range); flags: SampleFlag
    VALUE = 2  # (operand of EMIT, 0)
    COUNT = 3  # (spikes counted, counter); COUNT: within its gate, TALLY: since power-on
    PULSE = 4  # (width in ticks, level code); one record a pulse where asked
    LEVELS = 5  # (0, bit k: spike output k is high now)


class SampleFlag(IntEnum):
    """Bits that type a sample; a sample with any of them is not a current to compute with."""

    OVER = 1  # beyond the largest (or the chosen) range
    BELOW = 2  # too small to resolve in the most sensitive (or the chosen) range
    FLOATING = 4  # the line read is not connected to an amplifier


class Condition(IntEnum):
    """When a branch is taken, comparing a with b as signed numbers."""

    ALWAYS = 0
    EQ = 1
    NE = 2
    LT = 3
    LE = 4
    GT = 5
    GE = 6


Operand = A[int, I32, Q("", meaning="number or register")]
Register = A[int, U8, Q("", 0, REGISTERS - 1, "register")]
Target = A[int, U16, Q("byte", meaning="where to go on")]


def reg(number: int) -> int:
    """The operand that names register `number`."""
    if not 0 <= number < REGISTERS:
        raise ValueError(f"register {number}; the board has 0 … {REGISTERS - 1}")
    return REGISTER + number


@dataclass(frozen=True)
class Instruction(Message):
    """Base of the instructions."""

    OPCODE: ClassVar[int]


@dataclass(frozen=True)
class Dac(Instruction):
    """Stage a converter's code for the next COMMIT."""

    OPCODE = 0x01
    channel: A[int, U8]
    level: Operand


@dataclass(frozen=True)
class Connect(Instruction):
    """Stage a line's source for the next COMMIT."""

    OPCODE = 0x02
    kind: A[int, U8, Q("", meaning="LineKind")]
    line: A[int, U8]
    source: A[int, U8, Q("", meaning="Source, Source.DAC + converter or Source.NEURON + neuron")]


@dataclass(frozen=True)
class Commit(Instruction):
    """Apply everything staged at the same tick, after checking it against the clamp table."""

    OPCODE = 0x03


@dataclass(frozen=True)
class Delay(Instruction):
    """Let time pass."""

    OPCODE = 0x04
    ticks: Operand


@dataclass(frozen=True)
class Pulse(Instruction):
    """One pulse: the gate converter goes to `gate_level`; `lead` later the drive converter goes to `level` for
    `width`, then to 0; `lag` later the gate goes to 0. `gate` NONE: the gate does not move. With `log`, one PULSE
    record is kept. Both levels are checked against the clamp table before anything moves."""

    OPCODE = 0x05
    drive: A[int, U8, Q("", meaning="converter")]
    level: Operand
    width: Operand
    gate: A[int, U8, Q("", meaning="converter or NONE")]
    gate_level: Operand
    lead: Operand
    lag: Operand
    log: A[bool, BOOL]
    tag: A[int, U16]


@dataclass(frozen=True)
class Read(Instruction):
    """Sample the current that flows out of a line into its amplifier: the mean of `average` conversions, one SAMPLE
    record. `range` NONE: auto-range. `register` receives the current in units of 10 pA."""

    OPCODE = 0x06
    kind: A[int, U8, Q("", meaning="LineKind")]
    line: A[int, U8]
    range: A[int, U8, Q("", meaning="range or NONE")]
    average: A[int, U16, Q("conversions", 1, 65535)]
    tag: A[int, U16]
    register: Register


@dataclass(frozen=True)
class Set(Instruction):
    """register = value"""

    OPCODE = 0x07
    register: Register
    value: Operand


@dataclass(frozen=True)
class Add(Instruction):
    """register = register + value; leaving i32 is a fault."""

    OPCODE = 0x08
    register: Register
    value: Operand


@dataclass(frozen=True)
class Branch(Instruction):
    """Go on at `target` if the condition holds."""

    OPCODE = 0x09
    condition: A[int, U8, Q("", meaning="Condition")]
    a: Operand
    b: Operand
    target: Target


@dataclass(frozen=True)
class Loop(Instruction):
    """register = register − 1; go on at `target` while it is above 0."""

    OPCODE = 0x0A
    register: Register
    target: Target


@dataclass(frozen=True)
class Emit(Instruction):
    """Keep one VALUE record."""

    OPCODE = 0x0B
    tag: A[int, U16]
    value: Operand


@dataclass(frozen=True)
class Trigger(Instruction):
    """Raise the trigger output now, for `width`; the program goes on at once."""

    OPCODE = 0x0C
    width: Operand


@dataclass(frozen=True)
class Count(Instruction):
    """Open the counters' gate for `gate` ticks, then keep one COUNT record for each counter in `mask`."""

    OPCODE = 0x0D
    gate: Operand
    mask: A[int, U32, Q("", meaning="bit k: counter k")]
    tag: A[int, U16]


@dataclass(frozen=True)
class Stamp(Instruction):
    """From now on put the spikes of the counters in `mask` into the FIFO with their ticks (0: none)."""

    OPCODE = 0x0E
    mask: A[int, U32, Q("", meaning="bit k: counter k")]


@dataclass(frozen=True)
class Tally(Instruction):
    """Keep one COUNT record for each counter in `mask`: its spikes since power-on, modulo 2^31. The difference of two
    tallies counts over any stretch of a program."""

    OPCODE = 0x10
    mask: A[int, U32, Q("", meaning="bit k: counter k")]
    tag: A[int, U16]


@dataclass(frozen=True)
class Levels(Instruction):
    """Keep one LEVELS record: which of the spike outputs in `mask` are high now. Finds an output that is stuck."""

    OPCODE = 0x11
    mask: A[int, U32, Q("", meaning="bit k: counter k")]
    tag: A[int, U16]


@dataclass(frozen=True)
class End(Instruction):
    """The program is done; outputs stay as they are."""

    OPCODE = 0x0F


INSTRUCTIONS: dict[int, type[Instruction]] = {
    item.OPCODE: item
    for item in (
        Dac, Connect, Commit, Delay, Pulse, Read, Set, Add, Branch, Loop, Emit, Trigger, Count, Stamp, Tally, Levels,
        End,
    )
}  # fmt: skip


def assemble(instructions: list[Instruction]) -> bytes:
    """The program's bytes."""
    return b"".join(map(_encoded, instructions))


@lru_cache(4096)  # programs for many cells differ in few instructions
def _encoded(item: Instruction) -> bytes:
    return bytes([item.OPCODE]) + item.encode()


@lru_cache(4096)
def _decoded(opcode: int, data: bytes) -> Instruction:
    return INSTRUCTIONS[opcode].decode(data)


_CONDITIONS = frozenset(Condition)


def length(instructions: Iterable[Instruction]) -> int:
    """Bytes that `assemble` makes of them."""
    return sum(1 + item.size() for item in instructions)


def disassemble(code: bytes) -> dict[int, tuple[Instruction, int]]:
    """Byte offset → (instruction, offset of the next). Raises `WireError` for bytes that are no program."""
    listing: dict[int, tuple[Instruction, int]] = {}
    at = 0
    while at < len(code):
        cls = INSTRUCTIONS.get(code[at])
        if cls is None:
            raise WireError(f"byte {at}: 0x{code[at]:02x} is no instruction")
        end = at + 1 + cls.size()
        listing[at] = (_decoded(code[at], code[at + 1 : end]), end)
        at = end
    for offset, (item, following) in listing.items():
        ways = [] if isinstance(item, End) else [following]
        if isinstance(item, Branch | Loop):
            ways = sorted({following, item.target})
        for way in ways:
            if way not in listing:
                raise WireError(
                    f"byte {offset}: {type(item).__name__} leads to byte {way}, where no instruction begins"
                )
        if getattr(item, "register", 0) >= REGISTERS:
            raise WireError(f"byte {offset}: there is no register {item.register}")  # type: ignore[attr-defined]
        if isinstance(item, Branch) and item.condition not in _CONDITIONS:
            raise WireError(f"byte {offset}: there is no condition {item.condition}")
    return listing
