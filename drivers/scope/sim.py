"""A simulated oscilloscope that speaks Keysight InfiniiVision SCPI and looks at the nodes of a simulated chip.

It is sans-IO (`receive`: bytes in, bytes out), so that it runs in process, on a TCP socket or on a pty alike. Time is
the chip's: an acquisition is complete once the board has let enough time pass, and nothing sent here lets time pass.
`:DIGitize` stalls what is sent after it until the acquisition is complete, as the instrument does; while it stalls,
call `receive(b"")` now and then (`drivers.serve` does).

Commands and answers follow the "InfiniiVision 3000T X-Series Oscilloscopes Programmer's Guide"; unchecked against a
real oscilloscope. Not simulated: measurements, math, references, digital channels, other triggers than the edge.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from drivers.scope.digitiser import LENGTHS, Acquisition, Channel, Digitiser, Nodes, ProbePoint, Setup
from drivers.scope.session import Answer, Session
from labctl.wire import scpi
from labctl.wire.scpi import Commands, ScpiError, Status, Unit, boolean, choice, nr3, number

Handler = Callable[..., Answer]
WAIT_TRIGGER, RUN = 1 << 5, 1 << 3
"""Bits of the operation status condition register."""


class SimScope:
    """One oscilloscope; a `labctl.transport.loop.Peer`, and `session` for every further client.

    probes: channel → node and attenuation of the probe on it. triggers: ascending absolute times (s) of pulses at the
    external trigger input; a list that grows, or a function that returns one.
    """

    def __init__(
        self,
        nodes: Nodes,
        probes: Mapping[int, ProbePoint | tuple[str, float]],
        triggers: Sequence[float] | Callable[[], Sequence[float]] = (),
        *,
        seed: int = 0,
        digitiser: Digitiser | None = None,
        identity: str | None = None,
    ) -> None:
        self.digitiser = digitiser or Digitiser()
        self.identity = identity or f"labctl,simulated InfiniiVision,SIM-{seed},1.0"
        self.status = Status()
        self.acquisition = Acquisition(
            nodes,
            {n: ProbePoint(*probe) for n, probe in probes.items()},
            triggers if callable(triggers) else lambda: triggers,
            self.digitiser,
            seed,
        )
        self._digitizing = False
        self._message_available = False
        self._armed_event = False
        self._trigger_event = False
        self._operation_event = 0
        self._operation_enable = 0
        self._defaults()
        self._commands = Commands({header: (handler, *_arity(handler)) for header, handler in self._table().items()})
        self._first = self.session()

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire and return the bytes to put on it."""
        return self._first.receive(data)

    def session(self) -> Session:
        """The end of a further connection: a parser of its own, the same instrument."""
        return Session(self._execute, self._stalled, self.status)

    def _stalled(self) -> bool:
        """Whether :DIGitize is still waiting for its acquisition."""
        if self._digitizing:
            self.update()
            self._digitizing = self.acquisition.state != "stop"
        return self._digitizing

    def _execute(self, unit: Unit, more: bool) -> Answer:
        """Carry out one command or answer one query; `more`: whether answers wait already. Raises `ScpiError`."""
        self.update()
        (handler, least, most), suffixes = self._commands.find(unit.header, unit.query)
        self._message_available = more
        if any(not 1 <= suffix <= self.digitiser.channels for suffix in suffixes):
            raise ScpiError(-114, ":".join(unit.header))
        count = len(suffixes) + len(unit.arguments)
        if not least <= count <= most:
            raise ScpiError(-109 if count < least else -108, ":".join(unit.header))
        return handler(*suffixes, *unit.arguments)

    def update(self) -> None:
        """Do what has become possible since time last passed."""
        before = self.acquisition.triggered
        self.acquisition.update(self._points)
        self._trigger_event |= self.acquisition.triggered and not before

    # state -------------------------------------------------------------------------------------------------------

    def _defaults(self) -> None:
        """*RST: channel 1 on, 100 µs and 5 V a division, edge of channel 1 through 0 V, automatic sweep, running."""
        self._channels = [Channel(on=n == 1) for n in range(1, self.digitiser.channels + 1)]
        self._span, self._position, self._reference = 1e-3, 0.0, "CENT"
        self._source, self._slope, self._sweep = 1, "POS", "AUTO"
        self._levels = [0.0] * (self.digitiser.channels + 1)  # 0: external
        self._type, self._count = "NORM", 8
        self._wave_source, self._format, self._unsigned, self._msb_first = 1, "BYTE", True, True
        self._points, self._points_mode = 1000, "NORM"
        self.acquisition.close()
        self.acquisition.start("run", self._setup())

    def _setup(self) -> Setup:
        share = {"LEFT": 0.1, "CENT": 0.5, "RIGH": 0.9}[self._reference]
        return Setup(
            tuple(self._channels),
            span=self._span,
            left=self._position - share * self._span,
            source=self._source,
            level=self._levels[self._source],
            slope=self._slope,  # type: ignore[arg-type]
            auto=self._sweep == "AUTO",
            average=self._count if self._type == "AVER" else 1,
        )

    def _changed(self) -> None:
        """A setting has changed: what runs starts again with it; a finished record stays as it was taken."""
        if self.acquisition.state != "stop":
            self.acquisition.start(self.acquisition.state, self._setup())

    def _start(self, state: str) -> None:
        setup = self._setup()
        if state == "single":  # :SINGle takes one acquisition, it does not average
            setup = replace(setup, average=1)
        self.acquisition.start("run" if state == "run" else "single", setup)
        self._armed_event = True
        self._operation_event |= RUN
        self.update()

    def _operation(self) -> int:
        waits = self.acquisition.state != "stop" and not self.acquisition.triggered
        return RUN * (self.acquisition.state != "stop") | WAIT_TRIGGER * waits

    # commands ----------------------------------------------------------------------------------------------------

    def _table(self) -> dict[str, Handler]:
        table: dict[str, Handler] = dict(scpi.common_commands(self.status))
        table |= {
            "*IDN?": lambda: self.identity,
            "*RST": self._defaults,
            "*OPC": self._set_operation_complete,
            "*OPC?": lambda: "1",
            "*WAI": lambda: None,
            "*TST?": lambda: "0",
            "*STB?": self._status_byte,
            "*OPT?": lambda: "0",
            "*TRG": self._digitize,
            ":SYSTem:ERRor[:NEXT]?": self._next_error,
            ":SYSTem:VERSion?": lambda: "1999.0",
            ":RUN": lambda: self._start("run"),
            ":SINGle": lambda: self._start("single"),
            ":DIGitize": self._digitize,
            ":STOP": self.acquisition.stop,
            ":TRIGger:FORCe": self._force,
            ":BLANk": self._blank,
            ":VIEW": lambda source: self._set_channel(self._source_of(source), on=True),
            ":AER?": lambda: self._take("_armed_event"),
            ":TER?": lambda: self._take("_trigger_event"),
            ":OPERegister:CONDition?": lambda: f"{self._operation():+d}",
            ":OPERation:CONDition?": lambda: f"{self._operation():+d}",
            ":OPERegister[:EVENt]?": self._take_operation_event,
            ":OPEE": self._set_operation_enable,
            ":OPEE?": lambda: f"{self._operation_enable:+d}",
            ":RSTate?": lambda: {"stop": "STOP", "single": "SING", "run": "RUN"}[self.acquisition.state],
        }
        return table | self._vertical() | self._horizontal() | self._triggering() | self._acquiring() | self._waveform()

    def _vertical(self) -> dict[str, Handler]:
        def get(n: int) -> Channel:
            return self._channels[n - 1]

        def flag(name: str) -> Handler:
            return lambda n, text: self._set_channel(n, **{name: boolean(text)})

        return {
            ":CHANnel<n>:DISPlay": flag("on"),
            ":CHANnel<n>:DISPlay?": lambda n: str(int(get(n).on)),
            ":CHANnel<n>:BWLimit": flag("limited"),
            ":CHANnel<n>:BWLimit?": lambda n: str(int(get(n).limited)),
            ":CHANnel<n>:COUPling": lambda n, text: self._set_channel(n, coupling=choice(text, "DC", "AC")),
            ":CHANnel<n>:COUPling?": lambda n: get(n).coupling,
            ":CHANnel<n>:IMPedance": lambda n, text: _only(choice(text, "ONEMeg"), "ONEM"),
            ":CHANnel<n>:IMPedance?": lambda n: "ONEM",
            ":CHANnel<n>:INVert": lambda n, text: _only(boolean(text), False),
            ":CHANnel<n>:INVert?": lambda n: "0",
            ":CHANnel<n>:UNITs": lambda n, text: _only(choice(text, "VOLT"), "VOLT"),
            ":CHANnel<n>:UNITs?": lambda n: "VOLT",
            ":CHANnel<n>:PROBe": self._set_probe,
            ":CHANnel<n>:PROBe?": lambda n: nr3(get(n).probe),
            ":CHANnel<n>:RANGe": lambda n, text: self._set_range(n, number(text, "V")),
            ":CHANnel<n>:RANGe?": lambda n: nr3(get(n).full_scale),
            ":CHANnel<n>:SCALe": lambda n, text: self._set_range(n, 8 * number(text, "V")),
            ":CHANnel<n>:SCALe?": lambda n: nr3(get(n).full_scale / 8),
            ":CHANnel<n>:OFFSet": self._set_offset,
            ":CHANnel<n>:OFFSet?": lambda n: nr3(get(n).offset),
        }

    def _horizontal(self) -> dict[str, Handler]:
        def set_reference(text: str) -> None:
            self._reference = choice(text, "LEFT", "CENTer", "RIGHt")
            self._changed()

        def set_position(text: str) -> None:
            self._position = _within(number(text, "S"), -500, 500)
            self._changed()

        return {
            ":TIMebase:MODE": lambda text: _only(choice(text, "MAIN"), "MAIN"),
            ":TIMebase:MODE?": lambda: "MAIN",
            ":TIMebase:RANGe": lambda text: self._set_span(number(text, "S")),
            ":TIMebase:RANGe?": lambda: nr3(self._span),
            ":TIMebase:SCALe": lambda text: self._set_span(10 * number(text, "S")),
            ":TIMebase:SCALe?": lambda: nr3(self._span / 10),
            ":TIMebase:POSition": set_position,
            ":TIMebase:POSition?": lambda: f"{self._position:+.12E}",
            ":TIMebase:DELay": set_position,
            ":TIMebase:DELay?": lambda: f"{self._position:+.12E}",
            ":TIMebase:REFerence": set_reference,
            ":TIMebase:REFerence?": lambda: self._reference,
        }

    def _triggering(self) -> dict[str, Handler]:
        def set_sweep(text: str) -> None:
            self._sweep = choice(text, "AUTO", "NORMal", "TRIGgered").replace("TRIG", "NORM")
            self._changed()

        def set_slope(text: str) -> None:
            self._slope = choice(text, "POSitive", "NEGative", "EITHer")
            self._changed()

        def set_source(text: str) -> None:
            self._source = self._trigger_source(text)
            self._changed()

        def set_level(text: str, source: str | None = None) -> None:
            n = self._source if source is None else self._trigger_source(source)
            level = number(text, "V")
            if n:
                channel = self._channels[n - 1]
                reach = 0.75 * channel.full_scale
                _within(level, channel.offset - reach, channel.offset + reach)
            else:
                _within(level, -8, 8)
            self._levels[n] = level
            self._changed()

        def get_level(source: str | None = None) -> str:
            return nr3(self._levels[self._source if source is None else self._trigger_source(source)])

        return {
            ":TRIGger:MODE": lambda text: _only(choice(text, "EDGE"), "EDGE"),
            ":TRIGger:MODE?": lambda: "EDGE",
            ":TRIGger:SWEep": set_sweep,
            ":TRIGger:SWEep?": lambda: self._sweep,
            ":TRIGger[:EDGE]:SOURce": set_source,
            ":TRIGger[:EDGE]:SOURce?": lambda: f"CHAN{self._source}" if self._source else "EXT",
            ":TRIGger[:EDGE]:SLOPe": set_slope,
            ":TRIGger[:EDGE]:SLOPe?": lambda: self._slope,
            ":TRIGger[:EDGE]:LEVel": set_level,
            ":TRIGger[:EDGE]:LEVel?": get_level,
            ":TRIGger[:EDGE]:COUPling": lambda text: _only(choice(text, "DC"), "DC"),
            ":TRIGger[:EDGE]:COUPling?": lambda: "DC",
        }

    def _acquiring(self) -> dict[str, Handler]:
        def set_type(text: str) -> None:
            self._type = choice(text, "NORMal", "AVERage")
            self._changed()

        def set_count(text: str) -> None:
            self._count = round(_within(number(text), 2, 65536))
            self._changed()

        return {
            ":ACQuire:TYPE": set_type,
            ":ACQuire:TYPE?": lambda: self._type,
            ":ACQuire:COUNt": set_count,
            ":ACQuire:COUNt?": lambda: f"{self._count:+d}",
            ":ACQuire:MODE?": lambda: "RTIM",
            ":ACQuire:COMPlete?": lambda: "100",
            ":ACQuire:COMPlete": lambda text: _only(number(text), 100.0),
            ":ACQuire:POINts?": lambda: f"{self.digitiser.samples(self._span):+d}",
            ":ACQuire:SRATe?": lambda: nr3(self.digitiser.samples(self._span) / self._span),
        }

    def _waveform(self) -> dict[str, Handler]:
        def setter(name: str, read: Callable[[str], object]) -> Handler:
            return lambda text: setattr(self, name, read(text))

        return {
            ":WAVeform:SOURce": setter("_wave_source", self._source_of),
            ":WAVeform:SOURce?": lambda: f"CHAN{self._wave_source}",
            ":WAVeform:FORMat": setter("_format", lambda text: choice(text, "BYTE", "WORD", "ASCii")),
            ":WAVeform:FORMat?": lambda: self._format,
            ":WAVeform:UNSigned": setter("_unsigned", boolean),
            ":WAVeform:UNSigned?": lambda: str(int(self._unsigned)),
            ":WAVeform:BYTeorder": setter("_msb_first", lambda t: choice(t, "MSBFirst", "LSBFirst") == "MSBF"),
            ":WAVeform:BYTeorder?": lambda: "MSBF" if self._msb_first else "LSBF",
            ":WAVeform:POINts": self._set_points,
            ":WAVeform:POINts?": lambda: f"{self._available():+d}",
            ":WAVeform:POINts:MODE": setter("_points_mode", lambda t: choice(t, "NORMal", "MAXimum", "RAW")),
            ":WAVeform:POINts:MODE?": lambda: self._points_mode,
            ":WAVeform:TYPE?": lambda: "AVER" if self._scaling()[1] == 2 else "NORM",
            ":WAVeform:COUNt?": lambda: f"{self._scaling()[3]:+d}",
            ":WAVeform:XINCrement?": lambda: nr3(self._scaling()[4]),
            ":WAVeform:XORigin?": lambda: nr3(self._scaling()[5]),
            ":WAVeform:XREFerence?": lambda: "+0",
            ":WAVeform:YINCrement?": lambda: nr3(self._scaling()[7]),
            ":WAVeform:YORigin?": lambda: nr3(self._scaling()[8]),
            ":WAVeform:YREFerence?": lambda: f"{self._scaling()[9]:+d}",
            ":WAVeform:PREamble?": self._preamble,
            ":WAVeform:DATA?": self._data,
        }

    # what commands do --------------------------------------------------------------------------------------------

    def _set_operation_complete(self) -> None:
        self.status.event |= scpi.ESR_BITS["OPC"]

    def _status_byte(self) -> str:
        operation = bool(self._operation_event & self._operation_enable)
        return f"{self.status.byte(self._message_available, operation):+d}"

    def _next_error(self) -> str:
        code, text = self.status.next_error()
        return f'{code:+d},"{text}"'

    def _take(self, name: str) -> str:
        value = bool(getattr(self, name))
        setattr(self, name, False)
        return f"{int(value):+d}"

    def _take_operation_event(self) -> str:
        event, self._operation_event = self._operation_event | self._operation() & WAIT_TRIGGER, 0
        return f"{event:+d}"

    def _set_operation_enable(self, text: str) -> None:
        self._operation_enable = round(_within(number(text), 0, 32767))

    def _source_of(self, text: str) -> int:
        n = int(choice(text, "CHANnel<n>").removeprefix("CHAN"))
        if not 1 <= n <= self.digitiser.channels:
            raise ScpiError(-114, text[:20])
        return n

    def _trigger_source(self, text: str) -> int:
        return 0 if choice(text, "EXTernal", "CHANnel<n>") == "EXT" else self._source_of(text)

    def _digitize(self, *sources: str) -> None:
        if sources:
            chosen = {self._source_of(source) for source in sources}
            self._channels = [replace(c, on=n in chosen) for n, c in enumerate(self._channels, 1)]
        self._start("digitize")
        self._digitizing = self.acquisition.state != "stop"

    def _force(self) -> None:
        self.acquisition.force()
        self.update()

    def _blank(self, source: str | None = None) -> None:
        for n in range(1, self.digitiser.channels + 1) if source is None else (self._source_of(source),):
            self._set_channel(n, on=False)

    def _set_channel(self, n: int, **changes: object) -> None:
        self._channels[n - 1] = replace(self._channels[n - 1], **changes)  # type: ignore[arg-type]
        self._changed()

    def _set_probe(self, n: int, text: str) -> None:
        probe = _within(number(text.upper().removesuffix("X")), 0.1, 10_000)
        ratio = probe / self._channels[n - 1].probe
        channel = self._channels[n - 1]  # the screen stays where it is at the connector
        self._set_channel(n, probe=probe, full_scale=channel.full_scale * ratio, offset=channel.offset * ratio)

    def _set_range(self, n: int, full_scale: float) -> None:
        probe = self._channels[n - 1].probe
        self._set_channel(n, full_scale=_rounded(_within(full_scale, 8e-3 * probe, 40.0 * probe)))

    def _set_offset(self, n: int, text: str) -> None:
        channel = self._channels[n - 1]
        limit = (2.0 if channel.full_scale <= 1.6 * channel.probe * (1 + 1e-9) else 50.0) * channel.probe
        self._set_channel(n, offset=_within(number(text, "V"), -limit, limit))

    def _set_span(self, span: float) -> None:
        self._span = _rounded(_within(span, 20e-9, 500))
        self._changed()

    def _set_points(self, text: str) -> None:
        if text.upper() in ("MAX", "MAXIMUM"):
            self._points = self.digitiser.memory
            return
        points = round(number(text))
        if points not in LENGTHS:
            raise ScpiError(-222, f"{points} points")
        self._points = points

    def _available(self) -> int:
        return self.acquisition.points(self._wave_source, self._wanted())

    def _wanted(self) -> int:
        record = self.acquisition.record
        if record is not None and record.setup.average > 1:
            return min(self._points, self.digitiser.average_points)
        return self._points

    def _scaling(self) -> tuple[int, int, int, int, float, float, int, float, float, int]:
        """Format, type, points, count, x increment, origin, reference, y increment, origin, reference."""
        record = self.acquisition.record
        form = {"BYTE": 0, "WORD": 1, "ASC": 4}[self._format]
        steps = 65536 if self._format == "WORD" else 256
        points = self._available()
        if record is None or not points:
            return form, 0, 0, 1, 0.0, 0.0, 0, 0.0, 0.0, 0
        channel = record.setup.channels[self._wave_source - 1]
        return (
            form,
            2 if record.setup.average > 1 else 0,
            points,
            min(record.count, record.setup.average),
            record.setup.span / points,
            record.first - record.trigger,
            0,
            channel.full_scale / steps,
            channel.offset,
            steps // 2 if self._unsigned else 0,
        )

    def _preamble(self) -> str:
        form, kind, points, count, xinc, xorg, xref, yinc, yorg, yref = self._scaling()
        whole = f"{form:+d},{kind:+d},{points:+d},{count:+d}"
        return f"{whole},{nr3(xinc)},{nr3(xorg)},{xref:+d},{nr3(yinc)},{nr3(yorg)},{yref:+d}"

    def _data(self) -> bytes:
        codes = self.acquisition.codes(self._wave_source, self._wanted()) if self._available() else np.zeros(0)
        if self._format == "ASC":
            _, _, _, _, _, _, _, yinc, yorg, _ = self._scaling()
            text = ",".join(nr3(v) for v in (codes - 128) * yinc + yorg)
            return scpi.block(text.encode("ascii"))
        if self._format == "BYTE":  # finer codes of averages are cut off
            values = codes.astype(np.uint8)
            return scpi.block((values if self._unsigned else (values ^ 0x80).view(np.int8)).tobytes())
        # 8 bits are shifted to the left; averages have up to 12
        wide = np.where(codes >= 255, 65535, np.where(codes <= 1, 1, np.rint(codes * 16) * 16)).astype(np.uint16)
        wide = wide if self._unsigned else wide ^ np.uint16(0x8000)
        return scpi.block(wide.astype(">u2" if self._msb_first else "<u2").tobytes())


def _within(value: float, low: float, high: float) -> float:
    if not low * (1 - 1e-9 * math.copysign(1, low)) <= value <= high * (1 + 1e-9 * math.copysign(1, high)):
        raise ScpiError(-222, f"{value:g} is outside {low:g} to {high:g}")
    return value


def _arity(handler: Handler) -> tuple[int, int]:
    """Fewest and most arguments."""
    parameters = inspect.signature(handler).parameters.values()
    many = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    least = sum(p.default is p.empty and p.kind != p.VAR_POSITIONAL for p in parameters)
    return least, 1000 if many else len(parameters)


def _only(value: object, possible: object) -> None:
    """What the simulation does not have is refused, not ignored."""
    if value != possible:
        raise ScpiError(-224, f"only {possible} is simulated")


def _rounded(value: float) -> float:
    """Ranges have three digits."""
    return float(f"{value:.3g}")
