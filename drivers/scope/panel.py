"""The front panel of the simulated oscilloscope: the settings, and the commands that set and report them.

Spellings and limits as in the "InfiniiVision 3000T X-Series Oscilloscopes Programmer's Guide", chapters :CHANnel<n>,
:TIMebase, :TRIGger, :ACQuire. What is not simulated is refused with -224, never ignored.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from drivers.scope.digitiser import Channel, Digitiser, Setup
from labctl.wire.scpi import ScpiError, boolean, choice, nr3, number

Handler = Callable[..., str | bytes | None]


class Panel:
    """Settings as *RST leaves them, and `table` of commands. `changed` is called after each change."""

    def __init__(self, digitiser: Digitiser, changed: Callable[[], None]) -> None:
        self.digitiser = digitiser
        self._changed = changed
        self.reset()

    def reset(self) -> None:
        """*RST: channel 1 on, 100 µs and 5 V a division, edge of channel 1 through 0 V, automatic sweep."""
        self._channels = [Channel(on=n == 1) for n in range(1, self.digitiser.channels + 1)]
        self._span, self._position, self._reference = 1e-3, 0.0, "CENT"
        self._source, self._slope, self._sweep = 1, "POS", "AUTO"
        self._levels = [0.0] * (self.digitiser.channels + 1)  # 0: external
        self._type, self._count = "NORM", 8

    def setup(self) -> Setup:
        """What an acquisition that starts now takes with it."""
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

    def source(self, text: str) -> int:
        """The channel number in ``CHANnel<n>``; raises `ScpiError`."""
        n = int(choice(text, "CHANnel<n>").removeprefix("CHAN"))
        if not 1 <= n <= self.digitiser.channels:
            raise ScpiError(-114, text[:20])
        return n

    def show(self, n: int, on: bool) -> None:
        """Switch a channel on or off."""
        self._set_channel(n, on=on)

    def show_only(self, chosen: set[int]) -> None:
        """Switch these channels on, the others off."""
        self._channels = [replace(c, on=n in chosen) for n, c in enumerate(self._channels, 1)]

    def table(self) -> dict[str, Handler]:
        """Every command and query, by header."""
        return self._vertical() | self._horizontal() | self._triggering() | self._acquiring()

    def _vertical(self) -> dict[str, Handler]:
        def get(n: int) -> Channel:
            return self._channels[n - 1]

        def flag(name: str) -> Handler:
            return lambda n, text: self._set_channel(n, **{name: boolean(text)})

        return {
            ":CHANnel<n>?": self._report_channel,
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
            self._position = within(number(text, "S"), -500, 500)
            self._changed()

        return {
            ":TIMebase?": self._report_timebase,
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
                within(level, channel.offset - reach, channel.offset + reach)
            else:
                within(level, -8, 8)
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
            self._count = round(within(number(text), 2, 65536))
            self._changed()

        return {
            ":ACQuire:TYPE": set_type,
            ":ACQuire:TYPE?": lambda: self._type,
            ":ACQuire:COUNt": set_count,
            ":ACQuire:COUNt?": lambda: f"{self._count:+d}",
            ":ACQuire:MODE": lambda text: _only(choice(text, "RTIMe"), "RTIM"),
            ":ACQuire:MODE?": lambda: "RTIM",
            ":ACQuire:COMPlete?": lambda: "100",
            ":ACQuire:COMPlete": lambda text: _only(number(text), 100.0),
            ":ACQuire:POINts?": lambda: f"{self.digitiser.samples(self._span):+d}",
            ":ACQuire:SRATe?": lambda: nr3(self.digitiser.samples(self._span) / self._span),
        }

    # what commands do --------------------------------------------------------------------------------------------

    def _trigger_source(self, text: str) -> int:
        return 0 if choice(text, "EXTernal", "CHANnel<n>") == "EXT" else self.source(text)

    def _set_channel(self, n: int, **changes: object) -> None:
        self._channels[n - 1] = replace(self._channels[n - 1], **changes)  # type: ignore[arg-type]
        self._changed()

    def _set_probe(self, n: int, text: str) -> None:
        probe = within(number(text.upper().removesuffix("X")), 0.1, 10_000)
        ratio = probe / self._channels[n - 1].probe
        channel = self._channels[n - 1]  # screen and trigger stay where they are at the connector
        self._levels[n] *= ratio
        self._set_channel(n, probe=probe, full_scale=channel.full_scale * ratio, offset=channel.offset * ratio)

    def _report_channel(self, n: int) -> str:
        c = self._channels[n - 1]
        return (
            f":CHAN{n}:RANG {nr3(c.full_scale)};OFFS {nr3(c.offset)};COUP {c.coupling};IMP ONEM;DISP {c.on:d};"
            f'BWL {c.limited:d};INV 0;LAB "{n}";UNIT VOLT;PROB {nr3(c.probe)};PROB:SKEW {nr3(0.0)};STYP SING'
        )

    def _report_timebase(self) -> str:
        return f":TIM:MODE MAIN;REF {self._reference};MAIN:RANG {nr3(self._span)};POS {nr3(self._position)}"

    def _set_range(self, n: int, full_scale: float) -> None:
        probe = self._channels[n - 1].probe
        self._set_channel(n, full_scale=_rounded(within(full_scale, 8e-3 * probe, 40.0 * probe)))

    def _set_offset(self, n: int, text: str) -> None:
        channel = self._channels[n - 1]
        limit = (2.0 if channel.full_scale <= 1.6 * channel.probe * (1 + 1e-9) else 50.0) * channel.probe
        self._set_channel(n, offset=within(number(text, "V"), -limit, limit))

    def _set_span(self, span: float) -> None:
        self._span = _rounded(within(span, 20e-9, 500))
        self._changed()


def within(value: float, low: float, high: float) -> float:
    """`value`, or `ScpiError` -222 when it is out of the limits."""
    if not low * (1 - 1e-9 * math.copysign(1, low)) <= value <= high * (1 + 1e-9 * math.copysign(1, high)):
        raise ScpiError(-222, f"{value:g} is outside {low:g} to {high:g}")
    return value


def _only(value: object, possible: object) -> None:
    """What the simulation does not have is refused, not ignored."""
    if value != possible:
        raise ScpiError(-224, f"only {possible} is simulated")


def _rounded(value: float) -> float:
    """Ranges have three digits."""
    return float(f"{value:.3g}")
