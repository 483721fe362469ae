"""A simulated oscilloscope that speaks Keysight InfiniiVision SCPI and looks at the nodes of a simulated chip.

It is sans-IO (`receive`: bytes in, bytes out), so that it runs in process, on a TCP socket or on a pty alike. Time is
the chip's: an acquisition is complete once the board has let enough time pass, and nothing sent here lets time pass.
`:DIGitize` stalls what is sent after it until the acquisition is complete, as the instrument does; while it stalls,
call `receive(b"")` now and then (`drivers.serve` does).

Commands and answers follow the "InfiniiVision 3000T X-Series Oscilloscopes Programmer's Guide"; unchecked against a
real oscilloscope. Not simulated: measurements, math, references, digital channels, other triggers than the edge.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from drivers.scope.acquisition import Acquisition
from drivers.scope.digitiser import LENGTHS, Digitiser, FrontEnd, Nodes, ProbePoint
from drivers.scope.panel import Handler, Panel, within
from drivers.scope.session import Answer, Session
from labctl.wire import scpi
from labctl.wire.scpi import Commands, ScpiError, Status, Unit, boolean, choice, nr3, number

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
        points = {n: ProbePoint(*probe) for n, probe in probes.items()}
        self.acquisition = Acquisition(
            FrontEnd(nodes, points, self.digitiser, seed),
            triggers if callable(triggers) else lambda: triggers,
            self.digitiser,
        )
        self._panel = Panel(self.digitiser, self._changed)
        self._mode: Literal["run", "single", "digitize"] = "run"
        self._digitizing = False
        self._message_available = False
        self._armed_event = False
        self._trigger_event = False
        self._operation_event = 0
        self._operation_enable = 0
        self._defaults()
        self.acquisition.close()  # switched on stopped: a chip that nobody looks at keeps no history
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
        self._panel.reset()
        self._wave_source, self._format, self._unsigned, self._msb_first = 1, "BYTE", True, True
        self._points, self._points_mode = 1000, "NORM"
        self._mode = "run"
        self._start()

    def _changed(self) -> None:
        """A setting has changed: what runs starts again with it; a finished record stays as it was taken."""
        if self.acquisition.state != "stop":
            self._start()

    def _start(self) -> None:
        setup = self._panel.setup()
        if self._mode == "single":  # :SINGle takes one acquisition, it does not average
            setup = replace(setup, average=1)
        self.acquisition.start("run" if self._mode == "run" else "single", setup)

    def _acquire(self, mode: Literal["run", "single", "digitize"]) -> None:
        self._mode = mode
        self._start()
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
            "*CLS": self._clear_status,
            "*IDN?": lambda: self.identity,
            "*RST": self._defaults,
            ":SYSTem:PRESet": self._defaults,
            "*OPC": self._set_operation_complete,
            "*OPC?": lambda: "1",
            "*WAI": lambda: None,
            "*TST?": lambda: "0",
            "*STB?": self._status_byte,
            "*OPT?": lambda: "0",
            "*TRG": self._digitize,
            ":SYSTem:ERRor[:NEXT]?": self._next_error,
            ":SYSTem:VERSion?": lambda: "1999.0",
            ":RUN": lambda: self._acquire("run"),
            ":SINGle": lambda: self._acquire("single"),
            ":DIGitize": self._digitize,
            ":STOP": self.acquisition.stop,
            ":TRIGger:FORCe": self._force,
            ":BLANk": self._blank,
            ":VIEW": lambda source: self._panel.show(self._panel.source(source), True),
            ":AER?": lambda: self._take("_armed_event"),
            ":TER?": lambda: self._take("_trigger_event"),
            ":OPERegister:CONDition?": lambda: f"{self._operation():+d}",
            ":OPERation:CONDition?": lambda: f"{self._operation():+d}",
            ":OPERegister[:EVENt]?": self._take_operation_event,
            ":OPEE": self._set_operation_enable,
            ":OPEE?": lambda: f"{self._operation_enable:+d}",
            ":RSTate?": lambda: {"stop": "STOP", "single": "SING", "run": "RUN"}[self.acquisition.state],
        }
        return table | self._panel.table() | self._waveform()

    def _waveform(self) -> dict[str, Handler]:
        def setter(name: str, read: Callable[[str], object]) -> Handler:
            return lambda text: setattr(self, name, read(text))

        return {
            ":WAVeform:SOURce": setter("_wave_source", self._panel.source),
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

    def _clear_status(self) -> None:
        self.status.clear()
        self._armed_event = self._trigger_event = False
        self._operation_event = 0

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
        self._operation_enable = round(within(number(text), 0, 32767))

    def _digitize(self, *sources: str) -> None:
        if sources:
            self._panel.show_only({self._panel.source(source) for source in sources})
        self._acquire("digitize")
        self._digitizing = self.acquisition.state != "stop"

    def _force(self) -> None:
        self.acquisition.force()
        self.update()

    def _blank(self, source: str | None = None) -> None:
        for n in range(1, self.digitiser.channels + 1) if source is None else (self._panel.source(source),):
            self._panel.show(n, False)

    def _set_points(self, text: str) -> None:
        if text.upper() in ("MAX", "MAXIMUM"):
            self._points = self.digitiser.memory
            return
        points = round(number(text))
        if points not in (*LENGTHS, 62_500, 8_000_000):  # which is more than there ever is
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


def _arity(handler: Handler) -> tuple[int, int]:
    """Fewest and most arguments."""
    parameters = inspect.signature(handler).parameters.values()
    many = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    least = sum(p.default is p.empty and p.kind != p.VAR_POSITIONAL for p in parameters)
    return least, 1000 if many else len(parameters)
