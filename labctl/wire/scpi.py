"""SCPI text and blocks, both ends: headers, compound messages, numbers, blocks and the IEEE 488.2 status model.

Sources: IEEE 488.2-1992 §7 (program messages), §8.7.9 (definite-length blocks), §11 (status); SCPI-1999 vol. 1
§6 (headers, the path of compound messages), vol. 2 §21 (error numbers).
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from labctl.errors import LabctlError

T = TypeVar("T")

ERRORS = {
    0: "No error", -101: "Invalid character", -102: "Syntax error", -103: "Invalid separator", -104: "Data type error",
    -108: "Parameter not allowed", -109: "Missing parameter", -113: "Undefined header",
    -114: "Header suffix out of range", -131: "Invalid suffix", -141: "Invalid character data",
    -151: "Invalid string data", -161: "Invalid block data", -200: "Execution error", -221: "Settings conflict",
    -222: "Data out of range", -224: "Illegal parameter value", -230: "Data corrupt or stale", -310: "System error",
    -350: "Queue overflow", -363: "Input buffer overrun", -410: "Query INTERRUPTED", -420: "Query UNTERMINATED",
}  # fmt: skip
"""SCPI-1999 vol. 2 §21.8: number → text."""

_MULTIPLIERS = {
    "EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3, "": 1.0,
    "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18,
}  # fmt: skip
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:\s*[eE]\s*[+-]?\d+)?)\s*([A-Za-z]*)")
_BASED = {"H": 16, "Q": 8, "B": 2}
_UNIT = re.compile(r"\s*(\*?[A-Za-z:][A-Za-z0-9:_]*)(\?)?(?:\s+(.*?))?\s*", re.DOTALL)


class ScpiError(LabctlError):
    """A program message that an instrument refuses: SCPI error number and what was wrong."""

    def __init__(self, number: int, detail: str = "") -> None:
        self.number = number
        self.text = ERRORS[number] + (f"; {detail}" if detail else "")
        super().__init__(f'{number},"{self.text}"')


# numbers and blocks ----------------------------------------------------------------------------------------------


def number(text: str, unit: str = "") -> float:
    """A decimal number with an optional SI multiplier and unit (``5mV``, ``1E-3``), or ``#H1F``; raises `ScpiError`.

    ``M`` is milli, except in MHZ and MOHM where it is mega (IEEE 488.2 §7.7.3).
    """
    text = text.strip()
    if text[:1] == "#" and text[1:2].upper() in _BASED:
        try:
            return float(int(text[2:], _BASED[text[1].upper()]))
        except ValueError:
            raise ScpiError(-104, text) from None
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ScpiError(-104, f"{text[:20]} is no number")
    suffix = match[2].upper()
    if suffix and unit:
        suffix = suffix.removesuffix(unit.upper())
        if suffix == "M" and unit.upper() in ("HZ", "OHM"):
            suffix = "MA"
    if suffix not in _MULTIPLIERS or (suffix and not unit):
        raise ScpiError(-131, match[2])
    return float(match[1].replace(" ", "")) * _MULTIPLIERS[suffix]


def boolean(text: str) -> bool:
    """``ON``, ``OFF`` or a number that rounds to zero or not; raises `ScpiError`."""
    word = text.strip().upper()
    return word == "ON" if word in ("ON", "OFF") else round(number(text)) != 0


def choice(text: str, *patterns: str) -> str:
    """Which of the mnemonics (``NORMal``, ``CHANnel<n>``) `text` is, in its short form; raises `ScpiError`."""
    for pattern in patterns:
        found = Mnemonic(pattern).match(text.strip())
        if found is not None:
            return Mnemonic(pattern).short + ("" if found < 0 else str(found))
    raise ScpiError(-224, f"{text[:20]} is none of {', '.join(patterns)}")


def nr3(value: float) -> str:
    """A number as instruments write it: sign, one digit, eight decimals, exponent of three digits."""
    mantissa, exponent = f"{value:+.8E}".split("E")
    return f"{mantissa}E{int(exponent):+04d}"


def block(data: bytes, digits: int = 8) -> bytes:
    """`data` as a definite-length block: ``#``, the number of digits, the length, the data."""
    length = str(len(data)).zfill(digits)
    return f"#{len(length)}{length}".encode("ascii") + data


# headers ---------------------------------------------------------------------------------------------------------


class Mnemonic:
    """One word of a header, such as ``CHANnel<n>``: the capitals are its short form, ``<n>`` a numeric suffix."""

    def __init__(self, pattern: str) -> None:
        self.numbered = pattern.endswith("<n>")
        word = pattern.removesuffix("<n>")
        self.long = word.upper()
        self.short = "".join(c for c in word if not c.islower())

    def match(self, text: str) -> int | None:
        """The suffix (1 where none is written, -1 where none is due), or None when `text` is another word."""
        word = text.upper()
        if not self.numbered:
            return -1 if word in (self.long, self.short) else None
        for form in (self.long, self.short):
            rest = word.removeprefix(form)
            if rest != word and (not rest or rest.isdecimal()):
                return int(rest or 1)
            if word == form:
                return 1
        return None


class Commands(Generic[T]):
    """A table of commands by header pattern: ``:CHANnel<n>:SCALe``; ``[:STATe]`` may be left out; ``?`` is a query."""

    def __init__(self, table: Mapping[str, T]) -> None:
        self._table: list[tuple[tuple[Mnemonic, ...], bool, T]] = []
        for pattern, item in table.items():
            query = pattern.endswith("?")
            for variant in _variants(pattern.rstrip("?")):
                words = tuple(Mnemonic(word) for word in variant.strip(":").split(":"))
                self._table.append((words, query, item))
        self._known: dict[tuple[tuple[str, ...], bool], tuple[T, tuple[int, ...]]] = {}

    def find(self, header: tuple[str, ...], query: bool) -> tuple[T, tuple[int, ...]]:
        """The command of a header and the numeric suffixes in it; raises `ScpiError` -113."""
        key = (header, query)
        if key not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            self._known[key] = self._search(header, query)
        return self._known[key]

    def _search(self, header: tuple[str, ...], query: bool) -> tuple[T, tuple[int, ...]]:
        for words, is_query, item in self._table:
            if is_query == query and len(words) == len(header):
                found = [word.match(text) for word, text in zip(words, header, strict=True)]
                if None not in found:
                    return item, tuple(suffix for suffix in found if suffix is not None and suffix >= 0)
        raise ScpiError(-113, ":".join(header)[:40] + "?" * query)


def _variants(pattern: str) -> list[str]:
    match = re.search(r"\[([^\]]*)\]", pattern)
    if not match:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return _variants(before + match[1] + after) + _variants(before + after)


# program messages ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """One command or query of a program message; `header` is its whole path from the root."""

    header: tuple[str, ...]
    query: bool
    arguments: tuple[str, ...]


def units(message: str) -> Iterator[Unit]:
    """The commands and queries of one program message, in order; raises `ScpiError` where it stops being one.

    A header without a leading colon continues in the node of the one before it; common commands (``*…``) leave that
    node alone (SCPI-1999 vol. 1 §6.2.4).
    """
    path: tuple[str, ...] = ()
    for part in _split(message, ";"):
        if not part.strip():
            continue
        match = _UNIT.fullmatch(part)
        if not match:
            raise ScpiError(-102, part.strip()[:40])
        text, query, rest = match[1], match[2] is not None, match[3]
        arguments = tuple(item.strip() for item in _split(rest, ",")) if rest else ()
        if text.startswith("*"):
            header: tuple[str, ...] = (text.upper(),)
        else:
            words = tuple(text.lstrip(":").upper().split(":"))
            if not all(words) or text.startswith("::"):
                raise ScpiError(-102, text[:40])
            header = words if text.startswith(":") else path + words
            path = header[:-1]
        yield Unit(header, query, arguments)


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quoted strings; raises `ScpiError` for a string without an end."""
    parts, start, quote = [], 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c == separator:
            parts.append(text[start:i])
            start = i + 1
    if quote:
        raise ScpiError(-151)
    return [*parts, text[start:]]


class MessageDecoder:
    """Bytes in, program messages (text without the closing newline) out; a message may be split anywhere."""

    def __init__(self, limit: int = 65536) -> None:
        self.limit = limit
        self._pending = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[str | ScpiError]:
        """Take bytes as they come and return what they complete; too long or not ASCII gives an error instead."""
        found: list[str | ScpiError] = []
        *complete, rest = (bytes(self._pending) + data).split(b"\n")
        for raw in complete:
            if self._skipping:
                self._skipping = False
            elif not raw.isascii():
                found.append(ScpiError(-101))
            elif raw.strip():
                found.append(raw.decode("ascii").strip())
        if self._skipping:
            rest = b""
        elif len(rest) > self.limit:
            found.append(ScpiError(-363))
            rest, self._skipping = b"", True
        self._pending[:] = rest
        return found


# status ----------------------------------------------------------------------------------------------------------

ESR_BITS = {"OPC": 1, "QYE": 4, "DDE": 8, "EXE": 16, "CME": 32, "URQ": 64, "PON": 128}
"""Standard event status register, IEEE 488.2 §11.5.1."""
STB_BITS = {"EAV": 4, "MAV": 16, "ESB": 32, "MSS": 64, "OPER": 128}
"""Status byte, IEEE 488.2 §11.2 and SCPI-1999 vol. 1 §5.6."""


class Status:
    """Standard event register, its enable mask, service request mask, and the error queue."""

    def __init__(self, queue: int = 30) -> None:
        self.event = ESR_BITS["PON"]
        self.event_enable = 0
        self.service_enable = 0
        self.errors: deque[tuple[int, str]] = deque()
        self._queue = queue

    def error(self, error: ScpiError) -> None:
        """Queue an error and set the bit of its class; a full queue ends with -350."""
        bit = {1: "CME", 2: "EXE", 3: "DDE", 4: "QYE"}[-error.number // 100]
        self.event |= ESR_BITS[bit]
        if len(self.errors) == self._queue:
            self.errors[-1] = (-350, ERRORS[-350])
        else:
            self.errors.append((error.number, error.text))

    def next_error(self) -> tuple[int, str]:
        """Take the oldest error off the queue; (0, "No error") when it is empty."""
        return self.errors.popleft() if self.errors else (0, ERRORS[0])

    def take_event(self) -> int:
        """Read the event register, which clears it."""
        event, self.event = self.event, 0
        return event

    def clear(self) -> None:
        """``*CLS``: events and errors go, masks stay."""
        self.event = 0
        self.errors.clear()

    def byte(self, message_available: bool, operation: bool) -> int:
        """The status byte as ``*STB?`` reports it, master summary included."""
        value = STB_BITS["EAV"] * bool(self.errors) | STB_BITS["MAV"] * message_available
        value |= STB_BITS["ESB"] * bool(self.event & self.event_enable) | STB_BITS["OPER"] * operation
        return value | STB_BITS["MSS"] * bool(value & self.service_enable & ~STB_BITS["MSS"])


def common_commands(status: Status) -> dict[str, Callable[..., str | None]]:
    """The common commands that concern the status alone, for a `Commands` table; each takes its arguments' text."""

    def enable(attribute: str) -> Callable[..., None]:
        def set_mask(text: str) -> None:
            value = number(text)
            if not 0 <= round(value) <= 255:
                raise ScpiError(-222, f"{text} is outside 0 … 255".replace("…", "to"))
            setattr(status, attribute, round(value))

        return set_mask

    return {
        "*CLS": status.clear,
        "*ESE": enable("event_enable"),
        "*ESE?": lambda: str(status.event_enable),
        "*ESR?": lambda: str(status.take_event()),
        "*SRE": enable("service_enable"),
        "*SRE?": lambda: str(status.service_enable),
    }
