"""What host and board can say to each other, declared once for the driver and for the firmware.

A request's frame has the type declared here; its reply's frame has the type plus 0x80, or `Error.TYPE`.
`docs/board-protocol.md` is made from these declarations by `drivers.fpga.document`.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated as A
from typing import ClassVar, Generic, TypeVar

from labctl.quantity import Q
from labctl.wire.message import BOOL, F64, I32, REST, TEXT, U8, U16, U32, U64, Message, many

TICK = 10e-9
"""The board's clock period in seconds; every time on the wire is a whole number of these."""
NONE = 0xFF
"""A channel, line or range that is none (auto, for a range)."""
REPLY = 0x80
CACHED_REPLIES = 16

ReplyT = TypeVar("ReplyT", bound=Message, covariant=True)


class Request(Message, Generic[ReplyT]):
    """A message the host sends; `TYPE` is its frame type, `REPLY` the message that answers it."""

    TYPE: ClassVar[int]
    ANSWER: ClassVar[type[Message]]


class LineKind(IntEnum):
    """What can be connected or read: the array's lines; the switches of each neuron, numbered as the counters; and the
    monitor of the supply's current, which is always connected. OUT, the spike output: FLOAT leads to its counter alone,
    NEURON + j also to input IN of neuron j through that input's resistance. THR, the threshold: FLOAT leaves it on the
    bias V_thr, NEURON + j puts it on the buffered membrane of neuron j."""

    WL = 0
    BL = 1
    SL = 2
    OUT = 3
    THR = 4
    VDD = 5


class Source(IntEnum):
    """What a line is connected to; `DAC` + k is converter k, `NEURON` + k is neuron k (OUT and THR only)."""

    FLOAT = 0
    GROUND = 1
    SENSE = 2  # virtual ground of a transimpedance amplifier
    DAC = 16
    NEURON = 192


class ErrorCode(IntEnum):
    """Why the board refused."""

    UNKNOWN_REQUEST = 1
    BAD_MESSAGE = 2
    BAD_SEQUENCE = 3
    LIMIT = 4
    NO_SUCH_CHANNEL = 5
    NO_LEASE = 6
    BUSY = 7
    BAD_PROGRAM = 8
    NO_SESSION = 9


class State(IntEnum):
    """What the board is doing, and how the last program ended."""

    IDLE = 0
    RUNNING = 1
    DONE = 2
    ABORTED = 3
    FAULT = 4
    LEASE_EXPIRED = 5


class Capability(IntFlag):
    """What a board can do beyond the minimum."""

    AUTO_RANGE = 1
    BRANCH = 2
    SPIKE_FIFO = 4
    TRIGGER_OUT = 8
    SWITCHES = 16  # of OUT and THR
    SUPPLY_MONITOR = 32
    DOSES = 64  # counts pulses, reads and half-selects of each cell
    SIMULATED = 1 << 31


Channel = A[int, U8, Q("", 0, 254, "converter number")]
Code = A[int, U16, Q("code", 0, 65535, "converter code; 65535 is full scale")]
Ticks = A[int, U64, Q("tick", 0, meaning="time on the board's clock")]


@dataclass(frozen=True)
class Done(Message):
    """Carried out; when."""

    tick: Ticks


@dataclass(frozen=True)
class Error(Message):
    """Refused; nothing was applied. `value` and `limit` are NaN where they do not apply."""

    TYPE: ClassVar[int] = 0xFF
    code: A[int, U16]
    value: A[float, F64]
    limit: A[float, F64]
    detail: A[str, TEXT]


@dataclass(frozen=True)
class Identity(Message):
    """Who the board is and what it has. `text`: maker, model, serial, firmware, calibration id, calibration date."""

    tick: A[float, F64, Q("s", meaning="clock period")]
    dac_full_scale: A[float, F64, Q("V", meaning="output at code 65535")]
    dacs: A[int, U8]
    word_lines: A[int, U8]
    bit_lines: A[int, U8]
    source_lines: A[int, U8]
    counters: A[int, U8]
    fifo_depth: A[int, U32, Q("events", meaning="time stamps the spike FIFO holds")]
    program_bytes: A[int, U32]
    sample_ticks: A[int, U32, Q("tick", meaning="one analogue-to-digital conversion")]
    capabilities: A[int, U32]
    text: A[str, TEXT]


@dataclass(frozen=True)
class Hello(Request[Identity]):
    """Opens a session: sequence numbers start at 0 (this request), lines are made safe, replies are forgotten."""

    TYPE = 0x01
    ANSWER = Identity
    session: A[int, U32, Q("", meaning="any number; a repeat with the same one is the same request")]


@dataclass(frozen=True)
class Range(Message):
    """One transimpedance range: current = code·gain + offset for codes within ±32767."""

    full_scale: A[float, F64, Q("A")]
    gain: A[float, F64, Q("A/code")]
    offset: A[float, F64, Q("A")]


@dataclass(frozen=True)
class Ranges(Message):
    """The ranges, most sensitive first, with their calibration."""

    ranges: A[tuple[Range, ...], many(Range)]


@dataclass(frozen=True)
class GetRanges(Request[Ranges]):
    """Asks for the calibrated ranges."""

    TYPE = 0x02
    ANSWER = Ranges


@dataclass(frozen=True)
class Limit(Message):
    """Code of `channel` minus code of `reference` (0 when `reference` is NONE) stays within low … high."""

    channel: Channel
    reference: Channel
    low: A[int, I32, Q("code")]
    high: A[int, I32, Q("code")]


@dataclass(frozen=True)
class SetLimits(Request[Done]):
    """Replaces the clamp table. Refused, and the old table kept, while present outputs violate the new one."""

    TYPE = 0x03
    ANSWER = Done
    limits: A[tuple[Limit, ...], many(Limit)]


@dataclass(frozen=True)
class DacSetting(Message):
    """One converter's new code."""

    channel: Channel
    code: Code


@dataclass(frozen=True)
class SetDacs(Request[Done]):
    """Sets several converters at the same tick, all or none."""

    TYPE = 0x04
    ANSWER = Done
    settings: A[tuple[DacSetting, ...], many(DacSetting)]


@dataclass(frozen=True)
class Route(Message):
    """Connects one line to a source."""

    kind: A[int, U8, Q("", 0, 2, "LineKind")]
    line: A[int, U8]
    source: A[int, U8, Q("", meaning="Source, Source.DAC + converter or Source.NEURON + neuron")]


@dataclass(frozen=True)
class SetRoutes(Request[Done]):
    """Connects several lines at the same tick, all or none; lines not named keep their source."""

    TYPE = 0x05
    ANSWER = Done
    routes: A[tuple[Route, ...], many(Route)]


@dataclass(frozen=True)
class Load(Request[Done]):
    """Writes program bytes from `offset`; offset 0 discards the program before. Checked whole at `Start`."""

    TYPE = 0x06
    ANSWER = Done
    offset: A[int, U32, Q("byte")]
    code: A[bytes, REST]


@dataclass(frozen=True)
class Start(Request[Done]):
    """Checks the loaded program and starts it."""

    TYPE = 0x07
    ANSWER = Done


@dataclass(frozen=True)
class Chunk(Message):
    """Some of the program's records, in order, each given once; after the last of a faulted program, why it stopped."""

    state: A[int, U8, Q("", meaning="State; ended only when all records were given")]
    fault: A[int, U16, Q("", meaning="ErrorCode when state is FAULT, else 0")]
    position: A[int, U32, Q("byte", meaning="where the program stands")]
    value: A[float, F64, Q("", meaning="what a LIMIT fault refused, else NaN")]
    limit: A[float, F64]
    records: A[bytes, REST]


@dataclass(frozen=True)
class Fetch(Request[Chunk]):
    """Asks for up to `most` records. The program waits when the board's buffer is full: none is ever lost."""

    TYPE = 0x08
    ANSWER = Chunk
    most: A[int, U16, Q("records", 1, 800)]


@dataclass(frozen=True)
class Spikes(Message):
    """Time-stamped spikes, oldest first: `events` holds u64 tick + u8 counter each. `lost`: events that found the
    FIFO full since the last fetch; `left`: events still in it."""

    lost: A[int, U32, Q("events")]
    left: A[int, U32, Q("events")]
    events: A[bytes, REST]


@dataclass(frozen=True)
class FetchSpikes(Request[Spikes]):
    """Takes up to `most` events out of the spike FIFO."""

    TYPE = 0x09
    ANSWER = Spikes
    most: A[int, U16, Q("events", 1, 1800)]


@dataclass(frozen=True)
class Abort(Request[Done]):
    """Ends a running program within one instruction and makes the lines safe. Allowed at any time."""

    TYPE = 0x0A
    ANSWER = Done


@dataclass(frozen=True)
class Safe(Request[Done]):
    """Makes the lines safe: BL and SL drives to 0, then gates to 0, all lines to ground and all switches open, then
    converters to 0 from the highest number down (wire the supply to 0). Gives the lease back."""

    TYPE = 0x0B
    ANSWER = Done


@dataclass(frozen=True)
class Lease(Request[Done]):
    """Takes or renews the lease without which no output may leave 0. Every valid frame renews it. When it runs out
    (counted in real time, whatever the bench's time does) the board makes the lines safe by itself."""

    TYPE = 0x0C
    ANSWER = Done
    seconds: A[float, F64, Q("s", 0.05, 600)]


@dataclass(frozen=True)
class Status(Message):
    """How the board is."""

    tick: Ticks
    state: A[int, U8, Q("", meaning="State")]
    safe: A[bool, BOOL, Q("", meaning="all converters at 0, all lines grounded, all switches open")]
    leased: A[bool, BOOL]
    bad_frames: A[int, U32, Q("", meaning="frames dropped since power-on")]


@dataclass(frozen=True)
class GetStatus(Request[Status]):
    """Asks how the board is."""

    TYPE = 0x0D
    ANSWER = Status


@dataclass(frozen=True)
class TestResult(Message):
    """One line a test: ``name: ok`` or ``name: what is wrong``."""

    report: A[str, TEXT]


@dataclass(frozen=True)
class SelfTest(Request[TestResult]):
    """Checks converters, ranges, memory and clock against the board's own references; outputs stay at 0."""

    TYPE = 0x0E
    ANSWER = TestResult


DOSES = ("pulses", "reads", "half_selects")
"""What is counted for each cell, in the order it has on the wire."""


@dataclass(frozen=True)
class Doses(Message):
    """What a word line's cells were given since power-on: for each bit line three u64, pulses, reads, half-selects.
    A pulse counts for cells whose gate is driven and whose bit and source line are both connected, one of them to the
    pulse's converter; a half-select for the others that share its driven line or an open gate. Change the chip only
    while the board has no power."""

    boot: A[int, U32, Q("", meaning="drawn at power-on; another one: the counts have begun again at 0")]
    counts: A[bytes, REST]


@dataclass(frozen=True)
class GetDoses(Request[Doses]):
    """Asks for the counts of a word line's cells. Allowed at any time."""

    TYPE = 0x0F
    ANSWER = Doses
    word_line: A[int, U8]


AnyRequest = (
    Hello
    | GetRanges
    | SetLimits
    | SetDacs
    | SetRoutes
    | Load
    | Start
    | Fetch
    | FetchSpikes
    | Abort
    | Safe
    | Lease
    | GetStatus
    | SelfTest
    | GetDoses
)
REQUESTS: dict[int, type[AnyRequest]] = {
    request.TYPE: request
    for request in (
        Hello, GetRanges, SetLimits, SetDacs, SetRoutes, Load, Start,
        Fetch, FetchSpikes, Abort, Safe, Lease, GetStatus, SelfTest, GetDoses,
    )
}  # fmt: skip
