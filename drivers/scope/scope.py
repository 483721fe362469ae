"""Driver of an oscilloscope: volts and seconds over a `ScpiLink`, in whichever dialect the instrument speaks.

A setting that cannot be is refused before a byte is sent. What is in force afterwards is read back and returned; an
oscilloscope may round it within `Dialect.rounding`, more is an `InstrumentError`. No command blocks the instrument.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from drivers.scope.dialects import Dialect, Reply, Scaling, Setting
from labctl.errors import InstrumentError, LinkError, UsageError
from labctl.link import ScpiLink
from labctl.protocol import Trace
from labctl.quantity import Q, si
from labctl.transport import LinkTimeout

T = TypeVar("T")

EXTERNAL = "EXT"
Coupling = Literal["DC", "AC"]
Slope = Literal["rising", "falling", "either"]

ERRORS_READ = 40
"""Most errors that `check` takes off the queue; no instrument keeps more than 30."""
RESET_TIME = 10.0
"""Seconds that a reset may take."""


@dataclass(frozen=True)
class ChannelSetting:
    """A channel as it is in force: screen height and centre (V at the probe's tip), coupling, probe factor."""

    full_scale: float
    offset: float
    coupling: str
    probe: float


@dataclass(frozen=True)
class Timebase:
    """The screen as it is in force: width and time of the left edge after the trigger (s), most points of a record."""

    span: float
    delay: float
    points: int


class Scope:
    """An oscilloscope. Nothing is sent before the first method is called."""

    def __init__(self, link: ScpiLink, dialect: Dialect, sleep: Callable[[float], None] = time.sleep) -> None:
        self.link = link
        self.dialect = dialect
        self._sleep = sleep
        self._channels: dict[int, ChannelSetting] = {}
        self._timebase: Timebase | None = None
        self._averages = 1

    # identity ----------------------------------------------------------------------------------------------------

    def identify(self) -> str:
        """Maker, model, serial number, firmware; raises `InstrumentError` when it is no oscilloscope of the dialect."""
        answer = self.link.query("*IDN?")
        if len(answer.split(",")) < 4 or not re.match(self.dialect.identity, answer):
            raise InstrumentError(
                f"{answer[:60]!r} at {self.link.transport.address} is no oscilloscope that speaks {self.dialect.name};"
                " check address and dialect in the station file"
            )
        return answer

    def reset(self) -> None:
        """Back to defaults, stopped, all channels off, errors forgotten."""
        self._channels, self._timebase, self._averages = {}, None, 1
        self.link.query(self.dialect.reset, RESET_TIME)
        self.check()

    def check(self) -> None:
        """Empty the error queue; raises `InstrumentError` with what was in it."""
        query, read = self.dialect.error
        found = []
        for _ in range(ERRORS_READ):
            error = self._read(query, read)
            if not error:
                break
            found.append(error)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise InstrumentError(f"the oscilloscope reports: {found[0]}{more}")

    # settings ----------------------------------------------------------------------------------------------------

    def channel(
        self,
        n: int,
        *,
        full_scale: float,
        offset: float = 0.0,
        coupling: Coupling = "DC",
        probe: float = 1.0,
        on: bool = True,
    ) -> ChannelSetting:
        """Set channel `n`: `full_scale` V over the screen's height, `offset` V in its middle, both at the probe's tip.

        Returns what is in force. Raises `ParameterError` or `UsageError` before sending.
        """
        self._known(n)
        d = self.dialect
        d.probe.check("probe", probe)
        _scaled(d.full_scale, probe).check("full_scale", full_scale)
        limit = probe * next(most for up_to, most in d.offsets if full_scale <= up_to * probe * (1 + 1e-9))
        Q("V", -limit, limit, f"screen centre at {si(full_scale, 'V')} full scale").check("offset", offset)
        if coupling not in ("DC", "AC"):
            raise UsageError(f"coupling {coupling!r} is neither DC nor AC")
        self._channels.pop(n, None)  # until it is known again
        values = {"probe": probe, "full_scale": full_scale, "offset": offset}
        got = self._set(d.channel, values | {"n": n, "on": on, "coupling": coupling})
        self._compare(f"channel {n}: full scale", full_scale, got["full_scale"], "V", full_scale)
        self._compare(f"channel {n}: offset", offset, got["offset"], "V", full_scale)
        self._compare(f"channel {n}: probe", probe, got["probe"], "", probe)
        in_force = ChannelSetting(
            float(got["full_scale"]), float(got["offset"]), str(got.get("COUPLING", coupling)), float(got["probe"])
        )
        if in_force.coupling != coupling:
            raise InstrumentError(f"channel {n}: coupling is {in_force.coupling}, {coupling} was asked")
        if on:
            self._channels[n] = in_force
        return in_force

    def timebase(self, span: float, delay: float = 0.0, points: int = 10_000) -> Timebase:
        """Show `span` s, from `delay` s after the trigger on (negative: before it); at most `points` points a record.

        Returns what is in force. Raises `ParameterError` or `UsageError` before sending.
        """
        d = self.dialect
        d.span.check("span", span)
        d.delay.check("delay", delay)
        if points not in d.points:
            shown = ", ".join(map(str, d.points))
            raise UsageError(f"points = {points} is no record length of this oscilloscope; it has {shown}")
        self._timebase = None  # until it is known again
        got = self._set(d.timebase, {"span": span, "left": delay, "centre": delay + span / 2, "points": points})
        self._compare("span", span, got["span"], "s", span)
        left = float(got["centre"]) - float(got["span"]) / 2 if "centre" in got else float(got["left"])
        self._compare("delay", delay, left, "s", max(span, abs(delay)))
        self._timebase = Timebase(float(got["span"]), left, points)
        return self._timebase

    def trigger(self, source: int | str, *, level: float, slope: Slope = "rising") -> float:
        """Trigger on an edge of a channel, or of the external input ("EXT"), through `level` V.

        Returns the level in force. Raises `ParameterError` or `UsageError` before sending.
        """
        d = self.dialect
        if source == EXTERNAL:
            number, full = 0, d.external.high - d.external.low
            d.external.check("level", level)
        else:
            number = self._known(source)
            full = 1.0 if number not in self._channels else self._channels[number].full_scale
            if number in self._channels:
                centre, reach = self._channels[number].offset, d.level * full
                Q("V", centre - reach, centre + reach, f"trigger level on channel {number}").check("level", level)
            else:
                Q("V", meaning="trigger level").check("level", level)
        if slope not in d.slopes:
            raise UsageError(f"slope {slope!r} is none of {', '.join(d.slopes)}")
        got = self._set(d.trigger, {"source": d.sources(number), "level": level, "slope": d.slopes[slope]})
        self._compare("trigger level", level, got["level"], "V", full)
        return float(got["level"])

    def acquire_mode(self, mode: Literal["normal", "average"], count: int = 1) -> int:
        """Keep each acquisition as it is, or average `count` of them; returns the count in force.

        Raises `ParameterError` or `UsageError` before sending.
        """
        if mode not in ("normal", "average"):
            raise UsageError(f"acquire mode {mode!r} is neither normal nor average")
        if mode == "average":
            self.dialect.averages.check("count", count)
        wanted = count if mode == "average" else int(self.dialect.averages.low)
        got = self._set(self.dialect.mode, {"mode": self.dialect.modes[mode == "average"], "count": wanted})
        if got.get("MODE", self.dialect.modes[mode == "average"]) != self.dialect.modes[mode == "average"]:
            raise InstrumentError(f"the acquire mode is {got['MODE']}, {mode} was asked")
        self._compare("averages", wanted, got["count"], "", wanted)
        self._averages = int(got["count"]) if mode == "average" else 1
        return self._averages

    # acquiring ---------------------------------------------------------------------------------------------------

    def arm(self, timeout: float = 5.0) -> None:
        """Arm for one acquisition (or one average) and return once the trigger is armed.

        Raises `UsageError` without a channel or time base, `InstrumentError` when it does not arm within `timeout` s.
        """
        if not self._channels or self._timebase is None:
            raise UsageError("nothing to look at: set a channel and the time base before arming")
        self.link.write(self.dialect.arm if self._averages == 1 else self.dialect.arm_average)
        query, read = self.dialect.armed
        if not self._poll(lambda: self._read(query, read), timeout, None):
            self.check()
            raise InstrumentError(f"the oscilloscope does not arm within {timeout:g} s; look at its screen")

    def wait(self, abort: Callable[[], None] | None = None, timeout: float = 10.0) -> None:
        """Until the acquisition is complete. `abort` is called at each look and may raise.

        Raises `InstrumentError`, leaving the oscilloscope stopped, when that takes longer than `timeout` s.
        """
        try:
            complete = self._poll(self._complete, timeout, abort)
            triggered = complete or self._read(*self.dialect.triggered)
        except BaseException:
            self._stop_quietly()
            raise
        if self._averages > 1 or not complete:
            self.stop()
        if not triggered:
            raise InstrumentError(
                f"the oscilloscope did not trigger within {timeout:g} s; check trigger source, level and cable"
            )
        if not complete:
            what = "its screen" if self._averages == 1 else f"its average of {self._averages}"
            raise InstrumentError(
                f"the oscilloscope triggered, but {what} was not complete within {timeout:g} s; wait longer (on a"
                " simulated bench: let the board run longer), or choose a shorter time base or fewer averages"
            )

    def force(self) -> None:
        """Trigger now, whatever the input does."""
        self.link.write(self.dialect.force)
        self.check()

    def stop(self) -> None:
        """Stop acquiring; what was acquired stays."""
        self.link.write(self.dialect.stop)

    def fetch(self, n: int, *, word: bool | None = None) -> Trace:
        """The last acquisition of channel `n`: codes as the converter gave them, with scale; t = 0 is the trigger.

        word: 16 bits a sample; left out, averages come so and everything else in 8 bits. Raises `InstrumentError`
        when there is nothing to fetch.
        """
        self._known(n)
        word = self._averages > 1 if word is None else word
        points = self._timebase.points if self._timebase else self.dialect.points[-1]
        if self._averages > 1:
            points = min(points, self.dialect.average_points)
        d = self.dialect
        select = d.select(n=n, points=points, format=d.formats[word])
        scaling = self._ask(select, d.scaling, last_is_block=d.scaling_is_block)
        self._plausible(scaling, n)
        block = b"".join(
            self.link.query_block(
                d.data(n=n, start=start, stop=min(start + d.most_points - 1, scaling.points)),
                head=d.data_head,
                tail=d.data_tail,
            )
            for start in range(1, scaling.points + 1, d.most_points)
        )
        if len(block) != scaling.points * (1 + word):
            raise LinkError(
                f"channel {n}: {len(block)} bytes came instead of {scaling.points} samples of {1 + word} byte(s);"
                " fetch it again"
            )
        codes = d.codes(block, word)
        return Trace(f"ch{n}", codes, scaling.scale, scaling.offset, "V", scaling.t0, scaling.dt)

    def clipped(self, trace: Trace) -> int:
        """How many samples of a trace lie beyond the screen (or were never taken): not values to compute with."""
        return int(np.count_nonzero(self.dialect.clipped(trace.codes)))

    # inside ------------------------------------------------------------------------------------------------------

    def _complete(self) -> bool:
        if self._averages == 1:
            return self._read(*self.dialect.done)
        query, read = self.dialect.averaged
        return self._read(query(n=min(self._channels)), read) >= self._averages

    def _poll(self, done: Callable[[], bool], timeout: float, abort: Callable[[], None] | None) -> bool:
        """Look again and again; the looks are counted, not timed, so that a recorded run asks the same again."""
        waited, pause = 0.0, 1e-3
        while True:
            if abort is not None:
                abort()
            if done():
                return True
            if waited >= timeout:
                return False
            self._sleep(pause)
            waited += pause
            pause = min(2 * pause, 0.05)

    def _stop_quietly(self) -> None:
        try:
            self.stop()
        except LinkError:  # the error on its way says more
            return

    def _set(self, setting: Setting, values: dict[str, object]) -> Reply:
        got = self._ask(setting.send(**values), setting.read)
        self.check()
        return got

    def _ask(self, messages: str, read: Callable[[str], T], last_is_block: bool = False) -> T:
        """Send messages, a line each; `read` what comes back. One refused may have kept an answer back: say so."""
        answers = []
        *lines, last = messages.split("\n")
        try:
            for line in lines:
                if "?" in line:
                    answers.append(self.link.query(line))
                else:
                    self.link.write(line)
            answers.append(self.link.query_block(last).decode("latin-1") if last_is_block else self.link.query(last))
        except LinkTimeout:
            self.check()
            raise
        return self._understand(messages, "\n".join(answers), read)

    def _read(self, query: str, read: Callable[[str], T]) -> T:
        return self._understand(query, self.link.query(query), read)

    def _understand(self, query: str, answer: str, read: Callable[[str], T]) -> T:
        try:
            return read(answer)
        except (ValueError, KeyError) as error:
            raise InstrumentError(
                f"the oscilloscope answers {query!r} with {answer[:60]!r}, which is no {self.dialect.name} ({error})"
            ) from error

    def _plausible(self, scaling: Scaling, n: int) -> None:
        if scaling.points <= 0:
            self.check()
            raise InstrumentError(f"channel {n} has nothing to fetch: not on, or nothing acquired since it was set")
        if not (scaling.dt > 0 and scaling.scale > 0 and np.isfinite([scaling.t0, scaling.offset]).all()):
            raise InstrumentError(f"channel {n}: the oscilloscope's scaling makes no sense: {scaling}")

    def _known(self, n: int | str) -> int:
        if not isinstance(n, int) or not 1 <= n <= self.dialect.channels:
            raise UsageError(f"there is no channel {n!r}; the oscilloscope has 1 … {self.dialect.channels} and EXT")
        return n

    def _compare(self, what: str, asked: float, got: float | str, unit: str, scale: float) -> None:
        if not abs(float(got) - asked) <= self.dialect.rounding * abs(scale):
            raise InstrumentError(
                f"{what} is {si(float(got), unit)}, {si(asked, unit)} was asked; ask for what the oscilloscope can"
            )


def _scaled(q: Q, factor: float) -> Q:
    return Q(q.unit, q.low * factor, q.high * factor, q.meaning)
