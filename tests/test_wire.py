"""Frames and messages: the bytes, at every split, with every kind of damage."""

import zlib
from dataclasses import dataclass
from typing import Annotated as A

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from drivers.fpga import messages, program
from drivers.fpga.document import document
from labctl.wire.frame import MAX_PAYLOAD, VERSION, BadFrame, Frame, FrameDecoder
from labctl.wire.message import I32, REST, TEXT, U8, U16, Message, WireError, many

frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=600), st.integers(0, 255))


def test_bytes_of_a_frame() -> None:
    """The layout of docs/board-protocol.md, computed by hand."""
    body = bytes([VERSION, 0x0C, 0x34, 0x12, 2, 0, 0xAA, 0x00])
    expected = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"
    assert Frame(0x0C, 0x1234, b"\xaa\x00").encode() == expected
    assert 0 not in expected[:-1]


@given(st.lists(frames, max_size=4), st.data())
def test_frames_survive_every_way_of_splitting(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(frame.encode() for frame in sent) + b"\x05trailer"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder, got = FrameDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == sent


def test_byte_by_byte() -> None:
    sent = [Frame(1, 7, bytes(range(256))), Frame(2, 8, b"")]
    decoder = FrameDecoder()
    got = [event for frame in sent for byte in frame.encode() for event in decoder.feed(bytes([byte]))]
    assert got == sent


@given(frames, st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_passes_for_a_frame(frame: Frame, position: int, flip: int) -> None:
    raw = bytearray(frame.encode())
    raw[position % len(raw)] ^= flip
    neighbour = Frame(9, 9, b"next")
    events = FrameDecoder().feed(bytes(raw) + b"\0" + neighbour.encode())
    assert [event for event in events if isinstance(event, Frame)] in ([neighbour], [frame, neighbour])
    assert frame not in events or bytes(raw)[:-1].count(0) == 0


@given(st.binary(max_size=3000))
def test_garbage_is_only_ever_bad(data: bytes) -> None:
    good = Frame(3, 4, b"x")
    events = FrameDecoder().feed(data + b"\0" + good.encode())
    assert events[-1] == good
    assert all(isinstance(event, BadFrame) for event in events[:-1])


def test_an_endless_frame_is_given_up() -> None:
    decoder = FrameDecoder()
    assert any(decoder.feed(b"\x01" * 5000) for _ in range(5))
    with pytest.raises(ValueError, match=str(MAX_PAYLOAD)):
        Frame(1, 1, bytes(MAX_PAYLOAD + 1)).encode()


@dataclass(frozen=True)
class Pair(Message):
    a: A[int, U8]
    b: A[int, I32]


@dataclass(frozen=True)
class Several(Message):
    n: A[int, U16]
    pairs: A[tuple[Pair, ...], many(Pair)]


@dataclass(frozen=True)
class Named(Message):
    n: A[int, U8]
    text: A[str, TEXT]


@dataclass(frozen=True)
class Raw(Message):
    data: A[bytes, REST]


def test_bytes_of_messages() -> None:
    assert Several(0x1234, (Pair(1, -2), Pair(3, 4))).encode().hex() == "341201feffffff0304000000"
    assert Named(1, "Ω").encode() == b"\x01\xce\xa9"
    assert Raw(b"abc").encode() == b"abc"


@given(st.integers(0, 65535), st.lists(st.tuples(st.integers(0, 255), st.integers(-(2**31), 2**31 - 1)), max_size=9))
def test_messages_round_trip(n: int, pairs: list[tuple[int, int]]) -> None:
    message = Several(n, tuple(Pair(*pair) for pair in pairs))
    assert Several.decode(message.encode()) == message


@pytest.mark.parametrize(
    ("cls", "data"), [(Pair, b"\x00"), (Pair, bytes(6)), (Several, bytes(4)), (Named, b"\x00\xff\xfe"), (Several, b"")]
)
def test_what_is_no_message_is_refused(cls: type[Message], data: bytes) -> None:
    with pytest.raises(WireError, match=cls.__name__):
        cls.decode(data)


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(WireError, match="256"):
        Pair(256, 0).encode()


def test_every_instruction_and_request_is_declared_once() -> None:
    assert len(program.INSTRUCTIONS) == len(program.Instruction.__subclasses__())
    assert {cls.TYPE for cls in messages.REQUESTS.values()} == set(messages.REQUESTS)
    assert all(cls.__doc__ for cls in (*program.INSTRUCTIONS.values(), *messages.REQUESTS.values()))


def test_programs_round_trip() -> None:
    items = [program.Set(1, 3), program.Delay(program.reg(1)), program.Loop(1, 6), program.End()]
    code = program.assemble(items)
    listing = program.disassemble(code)
    assert [item for item, _ in listing.values()] == items
    assert sorted(listing) == [0, 6, 11, 15]  # Set, Delay, Loop, End: 1 + 5, 1 + 4, 1 + 3 bytes before each


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([program.Delay(5)], "leads to byte 5"),
        ([program.Loop(0, 3), program.End()], "leads to byte 3"),
        ([program.Delay(5), program.Loop(0, 0)], "leads to byte 9"),
        ([program.Set(16, 0), program.End()], "no register 16"),
        ([program.Branch(9, 0, 0, 0), program.End()], "no condition 9"),
    ],
)
def test_programs_that_lead_nowhere_are_refused(items: list[program.Instruction], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        program.disassemble(program.assemble(items))


def test_unknown_opcodes_are_refused() -> None:
    with pytest.raises(WireError, match="0xee is no instruction"):
        program.disassemble(b"\xee")


def test_the_document_says_what_the_code_does(pytestconfig: pytest.Config) -> None:
    page = pytestconfig.rootpath / "docs" / "board-protocol.md"
    assert page.read_text(encoding="utf-8") == document(), "python -m drivers.fpga.document > docs/board-protocol.md"
