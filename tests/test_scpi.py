"""SCPI: what is and what is no program message, at every split; numbers, blocks, the status model."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.wire import scpi
from labctl.wire.scpi import Commands, MessageDecoder, Mnemonic, ScpiError, Status, Unit, units


def error_of(text: str) -> int:
    with pytest.raises(ScpiError) as caught:
        list(units(text))
    return caught.value.number


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5", "", 5.0),
        ("-.5E-3", "", -0.5e-3),
        ("+1.5e+6", "", 1.5e6),
        ("5mV", "V", 5e-3),
        ("5 MV", "V", 5e-3),
        ("2.5US", "S", 2.5e-6),
        ("100NS", "s", 100e-9),
        ("1.6V", "V", 1.6),
        ("20MHZ", "HZ", 20e6),
        ("20MAHZ", "HZ", 20e6),
        ("3K", "OHM", 3e3),
        ("#HfF", "", 255.0),
        ("#Q17", "", 15.0),
        ("#B101", "", 5.0),
        ("1E 3", "", 1000.0),
    ],
)
def test_numbers(text: str, unit: str, value: float) -> None:
    assert scpi.number(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(("text", "code"), [("", -104), ("abc", -104), ("1.2.3", -104), ("5V", -131), ("#HXY", -104)])
def test_what_is_no_number(text: str, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        scpi.number(text)
    assert caught.value.number == code


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_exactly(value: float) -> None:
    assert scpi.number(repr(value)) == value
    assert scpi.number(scpi.nr3(value)) == pytest.approx(value, rel=1e-8)


def test_numbers_are_written_as_instruments_do() -> None:
    assert scpi.nr3(1e-9) == "+1.00000000E-009"
    assert scpi.nr3(-12.5) == "-1.25000000E+001"


def test_booleans_and_choices() -> None:
    assert [scpi.boolean(text) for text in ("ON", "off", "1", "0", "2.6", "0.4")] == [
        True, False, True, False, True, False,
    ]  # fmt: skip
    assert scpi.choice("channel3", "CHANnel<n>", "EXTernal") == "CHAN3"
    assert scpi.choice("ext", "CHANnel<n>", "EXTernal") == "EXT"
    with pytest.raises(ScpiError) as caught:
        scpi.choice("EXTE", "CHANnel<n>", "EXTernal")
    assert caught.value.number == -224


@settings(deadline=None)
@given(st.sampled_from(["CHANnel<n>", "SCALe", "OPERegister", "DISPlay", "TIMebase"]), st.data())
def test_headers_are_short_or_long_in_any_case_and_nothing_between(pattern: str, data: st.DataObject) -> None:
    word = Mnemonic(pattern)
    form = data.draw(st.sampled_from([word.short, word.long]))
    mixed = "".join(data.draw(st.sampled_from([c.upper(), c.lower()])) for c in form)
    if word.numbered:
        suffix = data.draw(st.integers(1, 99))
        assert word.match(f"{mixed}{suffix}") == suffix
        assert word.match(mixed) == 1
    else:
        assert word.match(mixed) == -1
    cut = data.draw(st.integers(0, len(word.long) - 1))
    if word.long[:cut] not in (word.short, word.long):
        assert word.match(word.long[:cut]) is None
    assert word.match(mixed + "X") is None


def test_compound_messages_follow_the_path() -> None:
    """SCPI-1999 vol. 1 §6.2.4: a header continues in the node of the last one; common commands leave it alone."""
    message = ':WAV:POIN:MODE RAW;:WAV:SOUR CHAN1;FORM BYTE;*CLS;PRE?;;:TRIG:EDGE:SOUR EXT;LEV 1.5,"a;b,c"'
    assert list(units(message)) == [
        Unit(("WAV", "POIN", "MODE"), False, ("RAW",)),
        Unit(("WAV", "SOUR"), False, ("CHAN1",)),
        Unit(("WAV", "FORM"), False, ("BYTE",)),
        Unit(("*CLS",), False, ()),
        Unit(("WAV", "PRE"), True, ()),
        Unit(("TRIG", "EDGE", "SOUR"), False, ("EXT",)),
        Unit(("TRIG", "EDGE", "LEV"), False, ("1.5", '"a;b,c"')),
    ]
    # the trap: after :WAV:POIN:MODE the path is :WAV:POIN, where there is no PRE?
    assert list(units(":WAV:POIN:MODE RAW;PRE?"))[1].header == ("WAV", "POIN", "PRE")


@pytest.mark.parametrize(
    ("text", "code"), [(":A::B", -102), ("1ABC", -102), (':A "x', -151), ("::A", -102), ("?", -102)]
)
def test_what_is_no_message(text: str, code: int) -> None:
    assert error_of(text) == code


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127, exclude_characters="\n"), max_size=80))
def test_any_text_gives_units_or_a_scpi_error(text: str) -> None:
    with contextlib.suppress(ScpiError):
        for unit in units(text):
            assert all(unit.header)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ABC:?; 1.*,", min_size=1, max_size=12), max_size=5), st.data())
def test_messages_survive_every_way_of_splitting(messages: list[str], data: st.DataObject) -> None:
    stream = "".join(message + "\n" for message in messages).encode("ascii") + b"REST"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder, got = MessageDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == [message.strip() for message in messages if message.strip()]
    assert decoder.feed(b"\r\n") == ["REST"]


def test_messages_that_are_none_do_not_hurt_the_next_one() -> None:
    decoder = MessageDecoder(limit=100)
    found = decoder.feed(b"\xff\xfe\nA?\n")
    assert [found[0].number if isinstance(found[0], ScpiError) else 0, found[1]] == [-101, "A?"]
    found = [event for _ in range(5) for event in decoder.feed(b"x" * 60)] + decoder.feed(b"\nB?\n")
    assert [event.number if isinstance(event, ScpiError) else event for event in found] == [-363, "B?"]


def test_blocks() -> None:
    assert scpi.block(b"abc") == b"#800000003abc"
    assert scpi.block(b"", digits=1) == b"#10"


def test_commands_are_found_by_pattern() -> None:
    table = Commands({":CHANnel<n>:SCALe?": "scale", ":TRIGger[:EDGE]:LEVel": "level", "*IDN?": "identity"})
    assert table.find(("CHAN2", "SCALE"), True) == ("scale", (2,))
    assert table.find(("TRIGGER", "LEV"), False) == table.find(("TRIG", "EDGE", "LEVEL"), False) == ("level", ())
    assert table.find(("*IDN",), True) == ("identity", ())
    for header, query in ((("CHAN2", "SCALE"), False), (("CHAN2",), True), (("CHANN2", "SCAL"), True)):
        with pytest.raises(ScpiError) as caught:
            table.find(header, query)
        assert caught.value.number == -113


@pytest.mark.parametrize(("code", "bit"), [(-113, 32), (-222, 16), (-310, 8), (-410, 4)])
def test_errors_set_the_bit_of_their_class(code: int, bit: int) -> None:
    status = Status()
    assert status.take_event() == 128  # power on
    status.error(ScpiError(code))
    assert status.take_event() == bit
    assert status.take_event() == 0
    assert status.next_error() == (code, scpi.ERRORS[code])
    assert status.next_error() == (0, "No error")


def test_a_full_error_queue_keeps_the_oldest_and_says_so() -> None:
    status = Status(queue=3)
    for code in (-101, -102, -103, -104):
        status.error(ScpiError(code))
    assert [status.next_error()[0] for _ in range(4)] == [-101, -102, -350, 0]


def test_the_status_byte_sums_up() -> None:
    """IEEE 488.2 §11.2, §11.3: ESB is any enabled event, MSS any enabled bit but itself."""
    status = Status()
    status.take_event()
    assert status.byte(False, False) == 0
    assert status.byte(True, True) == 16 + 128
    status.error(ScpiError(-113))
    assert status.byte(False, False) == 4
    status.event_enable = 32
    assert status.byte(False, False) == 4 + 32
    status.service_enable = 32
    assert status.byte(False, False) == 4 + 32 + 64
    status.clear()
    assert status.byte(False, False) == 0
    assert (status.event_enable, status.service_enable) == (32, 32)
