"""Typed messages: a frozen dataclass whose fields say how they stand on the wire.

``width: Annotated[int, U32, Q("tick", 4, …)]``. Fixed fields are little-endian in the order of declaration; the last
field may be open: the rest as bytes (`REST`), as UTF-8 text (`TEXT`), or a list of other messages (`many(cls)`).
"""

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints

from labctl.quantity import Q


class WireError(ValueError):
    """Bytes that are not the message they claim to be."""


@dataclass(frozen=True)
class Wire:
    """How a field stands on the wire: a struct code, or one of the open endings."""

    code: str
    item: "type[Message] | None" = None


U8, U16, U32, U64 = Wire("B"), Wire("H"), Wire("I"), Wire("Q")
I16, I32, I64, F64, BOOL = Wire("h"), Wire("i"), Wire("q"), Wire("d"), Wire("?")
REST, TEXT = Wire("rest"), Wire("text")


def many(item: "type[Message]") -> Wire:
    """A list of messages up to the end of the payload; `item` must have fixed size."""
    return Wire("many", item)


@dataclass(frozen=True)
class Field:
    """One declared field: name, wire form, quantity (None where it has no unit)."""

    name: str
    wire: Wire
    q: Q | None


@dataclass(frozen=True)
class Message:
    """Base of every message; subclasses are frozen dataclasses with annotated fields."""

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """The declared fields in wire order (the document of the protocol is made from them)."""
        return _layout(cls).fields

    @classmethod
    def size(cls) -> int:
        """Bytes of the fixed part."""
        return _layout(cls).fixed.size

    def encode(self) -> bytes:
        """The payload's bytes; raises `WireError` when a value does not fit its field."""
        return _layout(type(self)).pack(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message in `data`, all of it; raises `WireError` when it is not one."""
        return cls(*_layout(cls).unpack(data))


@dataclass(frozen=True)
class _Layout:
    fields: tuple[Field, ...]
    fixed: struct.Struct
    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], list[Any]]


_layouts: dict[type[Message], _Layout] = {}


def _layout(cls: type[Message]) -> _Layout:
    if cls not in _layouts:
        _layouts[cls] = _make_layout(cls)
    return _layouts[cls]


def _make_layout(cls: type[Message]) -> _Layout:
    hints = get_type_hints(cls, include_extras=True)
    fields: list[Field] = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        wire = next((extra for extra in extras if isinstance(extra, Wire)), None)
        if wire is None:
            raise TypeError(f"{cls.__name__}.{field.name} does not say how it stands on the wire")
        fields.append(Field(field.name, wire, next((extra for extra in extras if isinstance(extra, Q)), None)))
    open_end = fields[-1] if fields and fields[-1].wire.code in ("rest", "text", "many") else None
    closed = fields[:-1] if open_end else fields
    fixed = struct.Struct("<" + "".join(field.wire.code for field in closed))
    names = [field.name for field in closed]

    def pack(message: Any) -> bytes:
        try:
            head = fixed.pack(*[getattr(message, name) for name in names])
        except struct.error as error:
            raise WireError(f"{message!r}: {error}") from None
        if open_end is None:
            return head
        value = getattr(message, open_end.name)
        if open_end.wire.code == "text":
            value = value.encode()
        elif open_end.wire.code == "many":
            value = b"".join(item.encode() for item in value)
        return head + bytes(value)

    def unpack(data: bytes) -> list[Any]:
        if len(data) < fixed.size or (open_end is None and len(data) > fixed.size):
            raise WireError(f"{cls.__name__}: {len(data)} bytes, expected {fixed.size}{'+' if open_end else ''}")
        values: list[Any] = list(fixed.unpack_from(data))
        if open_end is None:
            return values
        rest = data[fixed.size :]
        if open_end.wire.code == "text":
            try:
                values.append(rest.decode())
            except UnicodeDecodeError:
                raise WireError(f"{cls.__name__}.{open_end.name} is not UTF-8") from None
        elif open_end.wire.item is not None:
            item, size = open_end.wire.item, open_end.wire.item.size()
            if len(rest) % size:
                raise WireError(f"{cls.__name__}.{open_end.name}: {len(rest)} bytes, not a multiple of {size}")
            values.append(tuple(item.decode(rest[i : i + size]) for i in range(0, len(rest), size)))
        else:
            values.append(rest)
        return values

    return _Layout(tuple(fields), fixed, pack, unpack)
