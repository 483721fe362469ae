"""The driver's bytes, and what it does with answers that are wrong, missing or none.

Command spellings and answers as in the "InfiniiVision 3000T X-Series Oscilloscopes Programmer's Guide"; no answer here
was recorded on a real oscilloscope.
"""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.scope.dialects import KEYSIGHT_INFINIIVISION, Scaling, Setting
from drivers.scope.scope import Scope
from drivers.scope.sim import SimScope
from labctl.errors import Aborted, InstrumentError, LinkError, ParameterError, UsageError
from labctl.link import ScpiLink
from labctl.transport import LinkTimeout
from labctl.transport.loop import LoopTransport
from tests.scope.signals import Script, Signals, scope_on, sine

NO_ERROR = (":SYST:ERR?", '+0,"No error"')
CHANNEL = (
    ":CHAN1:DISP 1;PROB 10;COUP DC;RANG 3.2;OFFS 1.2;PROB?;COUP?;RANG?;OFFS?",
    "+1.0E+01;DC;+3.20E+00;+1.20000E+00",
)
TIMEBASE = (
    ":WAV:POIN:MODE RAW;:WAV:POIN 1000;:TIM:MODE MAIN;REF CENT;RANG 0.001;POS 0.0004;RANG?;POS?",
    "+1.000E-03;+4.000E-04",
)
TRIGGER = (":TRIG:MODE EDGE;SWE NORM;:TRIG:EDGE:SOUR EXT;SLOP NEG;LEV 1.5;LEV?", "+1.5E+00")
SELECT = ":WAV:SOUR CHAN1;FORM BYTE;UNS 1;BYT LSBF;:WAV:POIN:MODE RAW;:WAV:POIN 1000;PRE?"
PREAMBLE = "+0,+0,+5,+1,+1.00000000E-009,-4.00000000E-006,+0,+3.12500000E-002,+1.00000000E+000,+128"
BLOCK = b"#800000005" + bytes([128, 255, 1, 0, 160]) + b"\n"


def run(*exchanges: tuple[str, str | bytes | None]) -> tuple[Scope, Script]:
    script = Script(*exchanges)
    return scope_on(script), script


def configured(*more: tuple[str, str | bytes | None]) -> tuple[Scope, Script]:
    scope, script = run(CHANNEL, NO_ERROR, TIMEBASE, NO_ERROR, *more)
    scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    scope.timebase(1e-3, delay=-1e-4, points=1000)
    return scope, script


def test_the_bytes_of_a_measurement() -> None:
    scope, script = configured(
        TRIGGER,
        NO_ERROR,
        (":ACQ:TYPE NORM;COUN 2;TYPE?;COUN?", "NORM;+2"),
        NO_ERROR,
        ("*CLS;:SING", None),
        (":AER?", "+0"),
        (":AER?", "+1"),
        (":OPER:COND?", "+40"),
        (":OPER:COND?", "+32"),
        (SELECT, PREAMBLE),
        (":WAV:DATA?", BLOCK),
        (":TRIG:FORC", None),
        NO_ERROR,
        (":STOP", None),
    )
    assert scope.trigger("EXT", level=1.5, slope="falling") == 1.5
    assert scope.acquire_mode("normal") == 1
    scope.arm()
    scope.wait()
    trace = scope.fetch(1)
    # volts = (code − yreference)·yincrement + yorigin; seconds = xorigin + k·xincrement
    assert trace.values == pytest.approx([1.0, 1 + 127 / 32, 1 - 127 / 32, 1 - 4, 2.0], abs=1e-12)
    assert trace.t == pytest.approx(-4e-6 + 1e-9 * np.arange(5), abs=1e-15)
    assert trace.unit == "V"
    assert scope.clipped(trace) == 3  # 255 above, 1 below, 0 never taken
    scope.force()
    scope.stop()
    script.finish()


def test_the_bytes_of_an_average() -> None:
    scope, script = configured(
        (":ACQ:TYPE AVER;COUN 16;TYPE?;COUN?", "AVER;+16"),
        NO_ERROR,
        ("*CLS;:RUN", None),
        (":AER?", "+1"),
        (":WAV:SOUR CHAN1;COUN?", "+3"),
        (":WAV:SOUR CHAN1;COUN?", "+16"),
        (":STOP", None),
        (SELECT.replace("BYTE", "WORD"), PREAMBLE.replace("+128", "+32768").replace("+5", "+2")),
        (":WAV:DATA?", b"#14" + bytes([0x00, 0x80, 0xFF, 0xFF]) + b"\n"),
    )
    assert scope.acquire_mode("average", 16) == 16
    scope.arm()
    scope.wait()
    trace = scope.fetch(1)
    assert trace.codes.tolist() == [0x8000, 0xFFFF]
    assert trace.values[0] == 1.0
    assert scope.clipped(trace) == 1
    script.finish()


def test_identity_and_reset() -> None:
    known = "AGILENT TECHNOLOGIES,MSO-X 3054T,MY12345678,07.40.2021031200"
    scope, script = run(("*IDN?", known), ("*RST;*CLS;:STOP;:CHAN1:DISP 0;*OPC?", "1"), NO_ERROR)
    assert scope.identify() == known
    scope.reset()
    script.finish()


@pytest.mark.parametrize("answer", ["TEKTRONIX,MSO54,B012345,CF:91.1CT FV:1.2", "1", "", "hello world"])
def test_another_instrument_at_the_address_is_noticed(answer: str) -> None:
    scope, _ = run(("*IDN?", answer))
    with pytest.raises(InstrumentError, match="is no oscilloscope that speaks keysight-infiniivision"):
        scope.identify()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.channel(1, full_scale=0.0), "full_scale = 0 V is below the limit of 8 mV"),
        (lambda s: s.channel(1, full_scale=math.nan), "not a finite number"),
        (lambda s: s.channel(1, full_scale=41.0), "above the limit of 40 V"),
        (lambda s: s.channel(1, full_scale=410.0, probe=10), "above the limit of 400 V"),
        (lambda s: s.channel(1, full_scale=1.0, offset=2.1), "offset = 2.1 V is above the limit of 2 V"),
        (lambda s: s.channel(1, full_scale=1.0, offset=-51, probe=10), "offset = -51 V is below the limit of -20 V"),
        (lambda s: s.channel(1, full_scale=1.0, probe=0), "probe = 0 is below"),
        (lambda s: s.channel(5, full_scale=1.0), "there is no channel 5"),
        (lambda s: s.channel(1, full_scale=1.0, coupling="GND"), "'GND' is neither DC nor AC"),
        (lambda s: s.timebase(0.0), "span = 0 s is below the limit of 20 ns"),
        (lambda s: s.timebase(1.0, delay=math.inf), "delay = inf"),
        (lambda s: s.timebase(1.0, points=1234), "1234 is no record length"),
        (lambda s: s.trigger("EXT", level=9.0), "level = 9 V is above the limit of 8 V"),
        (lambda s: s.trigger("AUX", level=0.0), "there is no channel 'AUX'"),
        (lambda s: s.trigger(1, level=math.nan), "not a finite number"),
        (lambda s: s.trigger(1, level=0.0, slope="up"), "slope 'up' is none of rising, falling, either"),
        (lambda s: s.acquire_mode("average", 1), "count = 1 is below the limit of 2"),
        (lambda s: s.acquire_mode("peak"), "'peak' is neither normal nor average"),
        (lambda s: s.fetch(0), "there is no channel 0"),
        (lambda s: s.arm(), "nothing to look at"),
    ],
)
def test_what_cannot_be_is_refused_before_a_byte_is_sent(ask, words: str) -> None:  # type: ignore[no-untyped-def]
    scope, script = run()
    with pytest.raises((ParameterError, UsageError), match=re.escape(words)):
        ask(scope)
    assert script.sent == []


def test_a_trigger_level_off_the_screen_is_refused() -> None:
    scope, script = configured()
    with pytest.raises(ParameterError, match=re.escape("level = 3.61 V is above the limit of 3.6 V")):
        scope.trigger(1, level=3.61)
    assert len(script.sent) == 4


def test_a_setting_in_force_is_returned_and_one_that_is_not_given_is_an_error() -> None:
    scope, _ = run((CHANNEL[0], "+1.0E+01;DC;+3.22E+00;+1.21E+00"), NO_ERROR)
    got = scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    assert (got.full_scale, got.offset) == (3.22, 1.21)
    scope, _ = run((CHANNEL[0], "+1.0E+01;DC;+4.00E+00;+1.20E+00"), NO_ERROR)
    with pytest.raises(InstrumentError, match=re.escape("channel 1: full scale is 4 V, 3.2 V was asked")):
        scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    scope, _ = run((CHANNEL[0], "+1.0E+01;AC;+3.20E+00;+1.20E+00"), NO_ERROR)
    with pytest.raises(InstrumentError, match="coupling is AC, DC was asked"):
        scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    scope, _ = run((TIMEBASE[0], "+1.000E-03;+5.000E-04"), NO_ERROR)
    with pytest.raises(InstrumentError, match=re.escape("delay is 0 s, -100 µs was asked")):
        scope.timebase(1e-3, delay=-1e-4, points=1000)


def test_errors_of_the_instrument_are_reported_once() -> None:
    scope, script = run(
        (CHANNEL[0], CHANNEL[1]), (":SYST:ERR?", '-222,"Data out of range"'), (":SYST:ERR?", '-113,"x"'), NO_ERROR
    )
    with pytest.raises(InstrumentError, match=re.escape("-222 Data out of range (and 1 more)")):
        scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    script.finish()


def test_an_endless_error_queue_is_given_up() -> None:
    scope, script = run(*[(":SYST:ERR?", '-310,"System error"')] * 40)
    with pytest.raises(InstrumentError, match="39 more"):
        scope.check()
    script.finish()


def test_a_command_refused_together_with_its_question_says_why() -> None:
    """The answer never comes; the reason is in the error queue, behind the proof that the link is in step."""
    scope, script = run(
        (CHANNEL[0], None), ("*ESE 1;*ESE?", "+1"), ("*ESE 2;*ESE?", "+2"), (":SYST:ERR?", '-113,"Undefined header"'),
        NO_ERROR,
    )  # fmt: skip
    with pytest.raises(InstrumentError, match="-113 Undefined header"):
        scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    script.finish()


@pytest.mark.parametrize("answer", ["what?", "+1.0E+01;DC", "a;b;c;d", ";;;"])
def test_a_wrong_answer_to_settings_is_one_clear_line(answer: str) -> None:
    scope, _ = run((CHANNEL[0], answer))
    with pytest.raises(InstrumentError, match="which is no keysight-infiniivision") as caught:
        scope.channel(1, full_scale=3.2, offset=1.2, probe=10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preamble", "block", "words"),
    [
        ("1,2,3", b"", "3 fields instead of 10"),
        ("+0,+0,+0,+1,0,0,0,0,0,0", b"", "has nothing to fetch"),
        (PREAMBLE.replace("+3.125", "+0.000"), b"", "makes no sense"),
        (PREAMBLE, b"#800000004abcd\n", "4 bytes came instead of 5 samples"),
        (PREAMBLE, b"hello, world\n", "not with a block"),
        (PREAMBLE, b"#0abcde\n", "not with a block"),
        (PREAMBLE, b"#8abcdefghabcde\n", "a block of length"),
        (PREAMBLE, b"#15abcdefgh\n", "are bytes missing"),
    ],
)
def test_garbage_instead_of_a_waveform(preamble: str, block: bytes, words: str) -> None:
    scope, _ = configured((SELECT, preamble), *([NO_ERROR] if "+0,+0,+0" in preamble else [(":WAV:DATA?", block)]))
    with pytest.raises((InstrumentError, LinkError), match=words):
        scope.fetch(1)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_garbage_gives_one_line_or_a_plain_answer(garbage: bytes, call: int) -> None:
    class Babble:
        def receive(self, data: bytes) -> bytes:
            return garbage

    scope = Scope(ScpiLink(LoopTransport(Babble()), "scope"), KEYSIGHT_INFINIIVISION, sleep=lambda seconds: None)
    try:
        (scope.identify, scope.check, lambda: scope.fetch(1), lambda: scope.channel(1, full_scale=1.0))[call]()
    except (LinkError, InstrumentError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert call == 1  # an error queue that answers 0 is empty


def test_a_dead_scope_is_a_timeout() -> None:
    scope, _ = run(("*IDN?", None))
    with pytest.raises(LinkTimeout):
        scope.identify()


def test_waiting_in_vain_stops_the_scope() -> None:
    looks = [(":OPER:COND?", "+8")] * 10  # after 0, 1, 3, 7, 15, 31, 63, 113, 163, 213 ms
    for triggered, words in (("+0", "did not trigger within 0.2 s"), ("+1", "triggered, but its screen was not")):
        scope, script = run(*looks, (":TER?", triggered), (":STOP", None))
        with pytest.raises(InstrumentError, match=re.escape(words)):
            scope.wait(timeout=0.2)
        script.finish()


def test_an_abort_ends_the_wait_and_stops_the_scope() -> None:
    scope, script = run((":OPER:COND?", "+8"), (":OPER:COND?", "+8"), (":STOP", None))
    calls = 0

    def abort() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Aborted("stopped")

    with pytest.raises(Aborted):
        scope.wait(abort)
    script.finish()


def test_a_scope_that_does_not_arm() -> None:
    scope, script = configured(("*CLS;:SING", None), *[(":AER?", "+0")] * 4, NO_ERROR)
    with pytest.raises(InstrumentError, match="does not arm within"):
        scope.arm(timeout=6e-3)
    script.finish()


def test_a_vendor_is_a_value() -> None:
    """No compound messages, volts a division, a sign turned round, blocks in pieces with something around them."""

    def channel(n: int, on: bool, probe: float, coupling: str, full_scale: float, offset: float) -> str:
        return f"C{n}:VDIV {full_scale / 8:g}\nC{n}:OFST {-offset:g}\nC{n}:VDIV?\nC{n}:OFST?\nC{n}:ATTN?"

    def read(answers: str) -> dict[str, float | str]:
        scale, offset, probe = map(float, answers.split("\n"))
        return {"full_scale": 8 * scale, "offset": -offset, "probe": probe}

    dialect = replace(
        KEYSIGHT_INFINIIVISION,
        name="other",
        channel=Setting(channel, read),
        select="C{n}:SARA?\nC{n}:DESC?".format,
        scaling=lambda answers: Scaling(int(answers[0]), 0.5, 1.0, 0.0, 1e-9),
        scaling_is_block=True,
        data="C{n}:WF? {start},{stop}".format,
        most_points=2,
        data_head=b"DAT2,",
        data_tail=b"\n\n",
    )
    script = Script(
        ("C2:VDIV 0.5", None), ("C2:OFST -1", None), ("C2:VDIV?", "0.5"), ("C2:OFST?", "-1"), ("C2:ATTN?", "1"),
        NO_ERROR,
        ("C2:SARA?", "5"), ("C2:DESC?", b"#12\xff\x01\n"),
        ("C2:WF? 1,2", b"DAT2,#12ab\n\n"), ("C2:WF? 3,4", b"DAT2,#12cd\n\n"), ("C2:WF? 5,5", b"DAT2,#11e\n\n"),
    )  # fmt: skip
    scope = Scope(ScpiLink(script, "scope"), dialect)
    assert scope.channel(2, full_scale=4.0, offset=1.0).offset == 1.0
    assert scope.fetch(2).codes.tobytes() == b"abcde"
    script.finish()


def test_every_exchange_is_recorded() -> None:
    nodes = Signals(a=sine(1e3))
    scope = scope_on(LoopTransport(SimScope(nodes, {1: ("a", 1.0)}, lambda: nodes.triggers)))
    taken: list[tuple[bytes, bytes]] = []

    class Tape:
        def transaction(self, instrument: str, request: bytes, reply: bytes) -> None:
            assert instrument == "scope"
            taken.append((request, reply))

        def event(self, name: str, /, **data: object) -> None:
            raise AssertionError("nothing else happened")

    scope.link.recorder = Tape()
    scope.reset()
    scope.channel(1, full_scale=4.0)
    scope.timebase(1e-3)
    scope.trigger("EXT", level=1.0)
    scope.arm()
    nodes.advance(2e-3, trigger=True)
    scope.wait()
    trace = scope.fetch(1)
    assert [request for request, _ in taken][-2:] == [SELECT.replace("1000", "10000").encode() + b"\n", b":WAV:DATA?\n"]
    assert taken[-1][1] == b"#800010000" + trace.codes.astype("u1").tobytes() + b"\n"
    assert (b"*CLS;:SING\n", b"") in taken
