"""The simulated oscilloscope as another program sees it: any spelling, compound messages, status, errors, stalling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.scope.digitiser import Digitiser
from drivers.scope.sim import SimScope
from tests.scope.signals import Signals, sine

QUIET = Digitiser(noise=0.0, clock_error=0.0)


class Client:
    """A program of somebody else's: lines out, bytes in."""

    def __init__(self, **options: object) -> None:
        self.nodes = Signals(a=sine(1e3))
        self.scope = SimScope(
            self.nodes,
            {1: ("a", 1.0)},
            lambda: self.nodes.triggers,
            digitiser=QUIET,
            **options,  # type: ignore[arg-type]
        )

    def raw(self, text: str) -> bytes:
        return self.scope.receive(text.encode("ascii") + b"\n")

    def ask(self, text: str) -> str:
        answer = self.raw(text)
        assert answer.endswith(b"\n")
        return answer.decode("ascii").strip()

    def errors(self) -> list[int]:
        found = []
        while (code := int(self.ask(":SYST:ERR?").split(",")[0])) != 0:
            found.append(code)
        return found


@pytest.fixture
def client() -> Client:
    return Client()


def test_identity_has_four_fields(client: Client) -> None:
    assert client.ask("*IDN?") == "labctl,simulated InfiniiVision,SIM-0,1.0"
    other = Client(identity="KEYSIGHT TECHNOLOGIES,DSO-X 3024T,MY0,07.30.2019051434")
    assert other.ask("*idn?").split(",")[1] == "DSO-X 3024T"


@pytest.mark.parametrize(
    "spelling",
    [":CHANNEL1:RANGE 2.4", ":CHAN1:RANG 2.4", "chan1:rang 2.4V", ":Channel1:Range 2400 mV", "CHAN:SCALE 300E-3"],
)
def test_every_spelling_of_a_setting(client: Client, spelling: str) -> None:
    client.raw(spelling)
    assert float(client.ask(":channel1:RANGE?")) == 2.4
    assert client.ask(":CHAN1:RANG?") == "+2.40000000E+000"
    assert client.errors() == []


def test_a_compound_message_is_answered_in_one_line(client: Client) -> None:
    assert client.ask(":TIM:RANG 2E-3;POS 1E-3;RANG?;*OPC?;POS?;:ACQ:TYPE?") == (
        "+2.00000000E-003;1;+1.000000000000E-03;NORM"
    )


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=8))
def test_messages_may_come_in_any_pieces(cuts: list[int]) -> None:
    stream = b":TIM:RANG 2E-3;:TIM:RANG?\n*IDN?\n:SYST:ERR?\n"
    whole = Client().scope.receive(stream)
    client, got, rest = Client(), b"", stream
    for cut in cuts:
        got += client.scope.receive(rest[:cut])
        rest = rest[cut:]
    assert got + client.scope.receive(rest) == whole
    assert whole.count(b"\n") == 3


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":NONSENSE 1", -113),
        (":CHAN1:RANG", -109),
        (":CHAN1:RANG 1,2", -108),
        (":CHAN1:RANG abc", -104),
        (":CHAN1:RANG 5S", -131),
        (":CHAN1:RANG 50", -222),
        (":CHAN1:RANG 0", -222),
        (":CHAN1:OFFS 60", -222),
        (":CHAN5:RANG 1", -114),
        (":CHAN1:COUP GND", -224),
        (":CHAN1:IMP FIFTy", -224),
        (":TIM:RANG 1E-9", -222),
        (":TIM:MODE XY", -224),
        (":TRIG:MODE PULSE", -224),
        (":TRIG:LEV 31", -222),
        (":TRIG:SOUR LINE", -224),
        (":TRIG:SOUR CHAN7", -114),
        (":ACQ:COUN 1", -222),
        (":ACQ:TYPE PEAK", -224),
        (":WAV:POIN 1234", -222),
        (":WAV:POIN:MODE RAW;PRE?", -113),
        ("::", -102),
        (":CHAN1:LAB 'x", -151),
        ("\x7f", -102),
    ],
)
def test_what_is_refused_changes_nothing_and_is_in_the_error_queue(client: Client, message: str, code: int) -> None:
    def settings() -> list[str]:
        asks = ("CHAN1:RANG", "CHAN1:OFFS", "CHAN1:COUP", "TIM:RANG", "TRIG:LEV", "TRIG:SOUR", "ACQ:COUN", "ACQ:TYPE")
        return [client.ask(f":{ask}?") for ask in asks]

    before = settings()
    assert client.raw(message) == b""
    assert client.errors() == [code]
    assert settings() == before


def test_a_command_error_ends_its_message_and_a_wrong_value_does_not(client: Client) -> None:
    """IEEE 488.2 §7.1.2: a parser that has lost the thread drops the rest."""
    assert client.raw(":TIM:RANG 1E-9;RANG?") == b"+1.00000000E-003\n"
    assert client.raw(":TIM:NONSENSE 1;RANG?") == b""
    assert client.errors() == [-222, -113]


def test_the_status_registers(client: Client) -> None:
    assert client.ask("*ESR?") == "128"  # power on
    client.raw("*OPC")
    assert client.ask("*ESR?;*ESR?") == "1;0"
    client.raw("*ESE 32;*SRE 32;:NONSENSE")
    assert client.ask("*STB?") == "+100"  # 4 errors, 32 event, 64 summary
    assert client.ask("*OPC?;*STB?") == "1;+116"  # and 16: an answer is waiting
    assert client.ask("*ESE?;*SRE?") == "32;32"
    client.raw("*CLS")
    assert client.ask("*STB?") == "+0"
    assert client.errors() == []
    client.raw("*ESE 256")
    assert client.errors() == [-222]


def test_reset_is_what_the_manual_says(client: Client) -> None:
    client.raw(":CHAN1:RANG 1;:CHAN2:DISP 1;:TIM:RANG 1;:TRIG:SOUR EXT;:ACQ:TYPE AVER;:WAV:FORM WORD;*RST")
    assert client.ask(":CHAN1:DISP?;RANG?;OFFS?;PROB?;COUP?;BWL?;IMP?") == (
        "1;+4.00000000E+001;+0.00000000E+000;+1.00000000E+000;DC;0;ONEM"
    )
    assert client.ask(":CHAN2:DISP?") == "0"
    assert client.ask(":TIM:RANG?;SCAL?;POS?;REF?") == "+1.00000000E-003;+1.00000000E-004;+0.000000000000E+00;CENT"
    assert client.ask(":TRIG:SOUR?;SLOP?;LEV?;SWE?") == "CHAN1;POS;+0.00000000E+000;AUTO"
    assert client.ask(":ACQ:TYPE?;COUN?;:RST?") == "NORM;+8;RUN"
    assert client.ask(":WAV:FORM?;SOUR?;UNS?;BYT?") == "BYTE;CHAN1;1;MSBF"


def test_digitize_stalls_until_the_acquisition_is_complete(client: Client) -> None:
    client.raw("*RST;:STOP;:TRIG:SOUR EXT;LEV 1;SWE NORM")
    assert client.raw(":DIG CHAN1;*OPC?\n*IDN?") == b""
    client.nodes.advance(1e-3)
    assert client.scope.receive(b"") == b""
    client.nodes.advance(0.4e-3, trigger=True)  # half a screen more is needed
    assert client.scope.receive(b":WAV:POIN?\n") == b""
    client.nodes.advance(0.2e-3)
    assert client.scope.receive(b"") == b"1\nlabctl,simulated InfiniiVision,SIM-0,1.0\n+1000\n"


def test_another_client_can_stop_a_stalled_one(client: Client) -> None:
    client.raw("*RST;:STOP;:TRIG:SOUR EXT;LEV 1;SWE NORM")
    assert client.raw(":DIG;*OPC?") == b""
    other = client.scope.session()
    assert other.receive(b":OPER:COND?\n") == b""  # the instrument is busy for everybody …
    client.scope.acquisition.stop()  # … until someone presses Stop on its front panel
    assert client.scope.receive(b"") == b"1\n"
    assert other.receive(b"") == b"+0\n"


def test_sessions_have_parsers_of_their_own(client: Client) -> None:
    other = client.scope.session()
    assert client.scope.receive(b":TIM:RANG 5E") == b""
    assert other.receive(b"*OPC?\n") == b"1\n"
    assert client.scope.receive(b"-3;RANG?\n") == b"+5.00000000E-003\n"
    assert other.receive(b":TIM:RANG?\n") == b"+5.00000000E-003\n"


def test_events_of_an_acquisition(client: Client) -> None:
    client.raw("*RST;:STOP;:TRIG:SOUR EXT;LEV 1;SWE NORM")
    assert client.ask(":AER?;TER?;:OPER:COND?") == "+0;+0;+0"
    client.raw(":SINGLE")
    assert client.ask(":OPER:COND?;:RST?;:AER?;:AER?;:TER?") == "+40;SING;+1;+0;+0"
    client.nodes.advance(0.1e-3, trigger=True)
    assert client.ask(":OPER:COND?;:TER?;:TER?") == "+8;+1;+0"
    client.nodes.advance(1e-3)
    assert client.ask(":OPER:COND?;:RST?") == "+0;STOP"
    assert client.ask(":OPER?;:OPER?") == "+8;+0"
    client.raw(":SING")
    client.nodes.advance(2e-3, trigger=True)
    assert client.ask("*CLS;:TER?;:AER?;:OPER?") == "+0;+0;+0"


def fetched(client: Client, form: str, extra: str = "") -> bytes:
    client.raw(f":WAV:FORM {form};UNS 1;BYT LSBF;POIN 500{extra}")
    raw = client.raw(":WAV:DATA?")
    assert raw[:2] == b"#8"
    assert raw[-1:] == b"\n"
    assert int(raw[2:10]) == len(raw) - 11
    return raw[10:-1]


def test_formats_agree(client: Client) -> None:
    client.raw("*RST;:STOP;:CHAN1:RANG 2;:TRIG:SOUR EXT;LEV 1;SWE NORM;:SING")
    client.nodes.advance(1e-3)
    client.nodes.advance(2e-3, trigger=True)
    codes = np.frombuffer(fetched(client, "BYTE"), "u1")
    assert len(codes) == 500
    assert (codes.min(), codes.max()) == (1, 255)  # the sine fills the screen
    signed = np.frombuffer(fetched(client, "BYTE", ";UNS 0"), "i1")
    assert np.array_equal(signed.astype(int), codes.astype(int) - 128)
    words = np.frombuffer(fetched(client, "WORD"), "<u2")
    expected = np.where(codes == 255, 65535, np.where(codes == 1, 1, codes.astype(int) << 8))
    assert np.array_equal(words, expected)
    assert np.array_equal(np.frombuffer(fetched(client, "WORD", ";BYT MSBF"), ">u2"), words)
    preamble = client.ask(":WAV:UNS 1;FORM BYTE;PRE?").split(",")
    assert preamble[:4] == ["+0", "+0", "+500", "+1"]
    xinc, xorg, xref, yinc, yorg, yref = map(float, preamble[4:])
    assert (xinc, xref, yinc, yorg, yref) == (2e-6, 0.0, 2 / 256, 0.0, 128.0)
    assert xorg == pytest.approx(-0.5e-3, abs=1e-9)
    text = np.array([float(word) for word in fetched(client, "ASC").split(b",")])
    assert np.allclose(text, (codes - yref) * yinc + yorg, atol=1e-8)
    singles = client.ask(":WAV:FORM BYTE;XINC?;XOR?;XREF?;YINC?;YOR?;YREF?;TYPE?;COUN?;POIN?").split(";")
    assert [float(one) for one in singles[:6]] == [xinc, xorg, xref, yinc, yorg, yref]
    assert singles[6:] == ["NORM", "+1", "+500"]


def test_reports_of_the_setup(client: Client) -> None:
    client.raw("*RST")
    assert client.ask(":CHANNEL2?").startswith(
        ":CHAN2:RANG +4.00000000E+001;OFFS +0.00000000E+000;COUP DC;IMP ONEM;DISP 0"
    )
    assert client.ask(":tim?").startswith(":TIM:MODE MAIN;REF CENT;MAIN:RANG +1.00000000E-003;POS")


def test_without_an_acquisition_there_is_nothing_to_read(client: Client) -> None:
    client.raw("*RST;:STOP")
    assert client.ask(":WAV:POIN?;PRE?").startswith("+0;+0,+0,+0,+1,")
    assert client.raw(":WAV:DATA?") == b"#800000000\n"


def test_a_finished_record_keeps_the_settings_it_was_taken_with(client: Client) -> None:
    client.raw("*RST;:STOP;:CHAN1:RANG 2;:TRIG:SOUR EXT;LEV 1;SWE NORM;:SING")
    client.nodes.advance(2e-3, trigger=True)
    before = client.ask(":WAV:PRE?")
    client.raw(":CHAN1:RANG 4;OFFS 1;:TIM:RANG 1E-2")
    assert client.ask(":WAV:PRE?") == before


@pytest.mark.parametrize(("reference", "left"), [("LEFT", -1e-4), ("CENT", -5e-4), ("RIGHT", -9e-4)])
def test_references_of_the_time_base(client: Client, reference: str, left: float) -> None:
    """One division from the left, the centre, one division from the right of ten."""
    client.raw(f"*RST;:STOP;:TIM:REF {reference};:TRIG:SOUR EXT;LEV 1;SWE NORM;:SING")
    client.nodes.advance(2e-3, trigger=True)
    assert float(client.ask(":WAV:XOR?")) == pytest.approx(left, abs=1e-9)


def test_changing_the_probe_keeps_the_screen_at_the_connector(client: Client) -> None:
    client.raw("*RST;:CHAN1:RANG 2;OFFS 0.5;:TRIG:LEV 0.3;:CHAN1:PROB 10")
    assert client.ask(":CHAN1:RANG?;OFFS?;:TRIG:LEV?") == "+2.00000000E+001;+5.00000000E+000;+3.00000000E+000"
    client.raw(":CHAN1:PROB 1X")
    assert client.ask(":CHAN1:RANG?;OFFS?;PROB?") == "+2.00000000E+000;+5.00000000E-001;+1.00000000E+000"


def test_a_chip_that_nobody_looks_at_keeps_no_history(client: Client) -> None:
    assert client.nodes.watched == {}
    assert client.ask(":RST?;:CHAN1:DISP?") == "STOP;1"
    client.raw("*RST")
    assert set(client.nodes.watched) == {"a"}
    client.raw(":STOP")
    assert client.nodes.watched == {}


@pytest.mark.parametrize("source", ["CHAN1", "EXT"])
@pytest.mark.parametrize(("mode", "sweep"), [("RUN", "AUTO"), ("RUN", "NORM"), ("SING", "NORM")])
def test_history_does_not_grow_while_nothing_happens(client: Client, source: str, mode: str, sweep: str) -> None:
    client.raw(f"*RST;:STOP;:CHAN1:OFFS 20;:TRIG:SOUR {source};LEV 2;SWE {sweep};:{mode}")
    for _ in range(30):
        client.nodes.advance(0.01)
        client.raw("*OPC?")
    kept = client.nodes.time - client.nodes.watched.get("a", client.nodes.time)
    assert kept < 0.035  # a screen, and the time an automatic sweep waits


def test_averages_grow_while_time_passes(client: Client) -> None:
    client.raw("*RST;:STOP;:TRIG:SOUR EXT;LEV 1;SWE NORM;:ACQ:TYPE AVER;COUN 4;:RUN")
    counts = []
    for _ in range(6):
        client.nodes.advance(2e-3, trigger=True)
        counts.append(int(client.ask(":WAV:COUN?")))
    assert counts == [1, 2, 3, 4, 4, 4]
    assert client.ask(":WAV:TYPE?;PRE?").startswith("AVER;+0,+2,+1000,+4,")
    client.raw(":WAV:POIN 10000")
    assert client.ask(":WAV:POIN?") == "+1000"  # the most of an averaged record
    client.raw(":SING")
    client.nodes.advance(2e-3, trigger=True)
    assert client.ask(":WAV:TYPE?;COUN?") == "NORM;+1"  # :SINGle does not average
    client.raw(":DIG CHAN1")
    for _ in range(4):
        assert client.raw(":WAV:COUN?") == b""
        client.nodes.advance(2e-3, trigger=True)
    assert client.scope.receive(b"").splitlines() == [b"+4"] * 4


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_leave_the_scope_usable(junk: bytes) -> None:
    client = Client()
    client.raw("*RST;:STOP;:TRIG:SWE NORM")
    client.scope.receive(junk.replace(b"DIG", b"dog").replace(b"TRG", b"trg") + b"\n")
    assert client.scope.receive(b"*ESE 7;*ESE?\n") == b"7\n"
