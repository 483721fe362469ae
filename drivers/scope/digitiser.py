"""The analogue half of the simulated oscilloscope: probes, amplifier, trigger, sample clock, converter, noise.

Time is the virtual time of the simulated chip. Nothing here waits: `Acquisition.update` does what has become possible
since the board last let time pass, and a window that reaches beyond `Nodes.time` is complete only once time is there.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Nodes(Protocol):
    """The simulated chip, as far as probes can see it."""

    time: float
    """Seconds since power-on; grows when the board runs programs."""

    def watch(self, node: str) -> None:
        """Keep the history of `node` from now on."""

    def unwatch(self, node: str) -> None:
        """Stop keeping it, and drop what was kept."""

    def wave(self, node: str, t: FloatArray) -> FloatArray:
        """(n,) volts at (n,) absolute times within the watched span."""


class ProbePoint(NamedTuple):
    """What a channel's probe touches, and by what factor the probe divides."""

    node: str
    attenuation: float = 1.0


@dataclass(frozen=True)
class Digitiser:
    """The numbers of the simulated oscilloscope. They are typical of the class of a DSO-X 3000, of no real specimen."""

    channels: int = 4
    max_rate: float = 5e9  # Sa/s
    memory: int = 4_000_000  # samples a channel
    bandwidth: float = 200e6  # Hz, single pole
    bandwidth_limit: float = 20e6  # Hz, single pole, with :BWLimit on
    ac_corner: float = 3.5  # Hz, single pole
    noise: float = 0.002  # V rms of full scale: half a step of the converter
    clock_error: float = 1.6e-6  # the sample clock is slow by this
    hysteresis: float = 0.04  # of full scale: the input must first be this far on the other side of the level
    trigger_step: float = 100e-9  # s: pulses shorter than this may be missed by the trigger on sweeps above 100 µs
    auto_wait: float = 20e-3  # s without a trigger before an automatic sweep runs free
    rearm: float = 1e-6  # s between the end of a window and the next trigger that counts
    external_high: float = 3.3  # V, height of the pulse at the external trigger input
    external_width: float = 1e-6  # s, its width
    average_points: int = 1000  # most points of an averaged record
    first_read: int = 20_000  # points kept at the first read of a channel, if fewer are asked

    def samples(self, span: float) -> int:
        """Samples on a screen of `span` seconds, as clock and memory allow."""
        most = max(100, min(self.memory, int(span * self.max_rate * (1 + 1e-9))))
        return max(n for n in LENGTHS if n <= most)


LENGTHS = (100, 250, 500, *(m * 10**e for e in (3, 4, 5) for m in (1, 2, 5)), 1_000_000, 2_000_000, 4_000_000)
"""Record lengths, in samples or points."""


@dataclass(frozen=True)
class Channel:
    """Settings of a channel; volts at the probe's tip, `probe` as the user told the oscilloscope."""

    on: bool = False
    full_scale: float = 40.0
    offset: float = 0.0
    coupling: Literal["DC", "AC"] = "DC"
    probe: float = 1.0
    limited: bool = False


@dataclass(frozen=True)
class Setup:
    """Settings that an acquisition takes with it when it starts."""

    channels: tuple[Channel, ...]
    span: float = 1e-3
    left: float = -0.5e-3  # time of the screen's left edge after the trigger
    source: int = 1  # channel of the trigger, 0: external input
    level: float = 0.0
    slope: Literal["POS", "NEG", "EITH"] = "POS"
    auto: bool = True
    average: int = 1


def noise(seed: int, acquisition: int, channel: int, index: NDArray[np.int64]) -> FloatArray:
    """(n,) standard normals that depend on nothing but the arguments, so that any subset of samples can be read.

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) as a hash, then Box and Muller (1958).
    """
    key = _mix(np.array([seed * 0x9E3779B97F4A7C15 + (acquisition << 8) + channel & 0xFFFFFFFFFFFFFFFF], np.uint64))
    bits = _mix(_mix(index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key))
    radius = np.sqrt(-2 * np.log(((bits >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32))
    return np.asarray(radius * np.cos((bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * math.pi * 2.0**-32)))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass
class Record:
    """One acquisition: when its samples were taken, and the codes of the channels that were looked at."""

    setup: Setup
    number: int
    trigger: float  # absolute time
    first: float  # absolute time of sample 0
    samples: int
    count: int = 1  # acquisitions averaged
    codes: dict[int, FloatArray] = field(default_factory=dict)  # channel → codes of 8 bits, fractions from averaging

    @property
    def dt(self) -> float:
        """Time between samples as the oscilloscope believes it to be."""
        return self.setup.span / self.samples


class Acquisition:
    """Arms, finds triggers in the watched history, and digitises.

    History is kept from the moment of arming; what the screen shows of the time before it is the level at arming.
    """

    def __init__(
        self,
        nodes: Nodes,
        probes: dict[int, ProbePoint],
        triggers: Callable[[], Sequence[float]],
        digitiser: Digitiser,
        seed: int,
    ) -> None:
        self.digitiser = digitiser
        self.state: Literal["stop", "single", "run"] = "stop"
        self.record: Record | None = None
        self.triggered = False
        self._nodes, self._probes, self._triggers, self._seed = nodes, probes, triggers, seed
        self._watched: set[str] = set()
        self._number = 0
        self._setup = Setup(())
        self._armed_at = 0.0
        self._from = 0.0  # triggers before this do not count
        self._searched = 0.0
        self._ready: dict[float, bool] = {}  # slope → the input was beyond the hysteresis, where an edge can start
        self._pending: float | None = None

    def start(self, state: Literal["single", "run"], setup: Setup) -> None:
        """Arm with `setup`; the record before is gone."""
        self.close()
        self.triggered = False
        self.state, self._setup = state, setup
        wanted = {n for n, channel in enumerate(setup.channels, 1) if channel.on} | {setup.source}
        self._watch({self._probes[n].node for n in wanted if n in self._probes})
        self._armed_at = self._nodes.time
        self._rearm(self._nodes.time)

    def stop(self) -> None:
        """Disarm; a record that is there stays, as far as it was read or can still be."""
        self.state = "stop"
        self._pending = None
        self._release()

    def force(self) -> None:
        """Trigger now, if armed."""
        if self.state != "stop" and self._pending is None:
            self._pending = self._nodes.time

    def update(self, points: int) -> None:
        """Complete what has become complete; `points`: how many a free-running screen keeps of each record."""
        latest = None
        while self.state != "stop":
            if self._pending is None:
                self._pending = self._find_trigger()
            if self._pending is None:
                break
            self.triggered = True
            end = self._pending + self._setup.left + self._setup.span
            if end > self._nodes.time:
                break
            latest = self._complete(self._pending)
            self._pending = None
            if self.state == "single" and latest.count >= self._setup.average:
                self.state = "stop"
                self._release()
            else:
                self._rearm(max(end, latest.trigger) + self.digitiser.rearm)
        if latest is not None and self.state == "run":
            if self._setup.average == 1:
                for n, channel in enumerate(self._setup.channels, 1):
                    if channel.on:
                        self.codes(n, points)
            if self._pending is None:  # nothing of the history is needed any more: start a new one
                watched = self._watched
                self._watch(set())
                self._watch(watched)
                self._armed_at = self._nodes.time
                self._searched = self._from = max(self._from, self._nodes.time)

    def codes(self, channel: int, points: int) -> FloatArray:
        """(n,) codes 1 … 255 of `channel`, at most `points` of them, evenly spread over the record.

        The first read decides how many are kept (at least `Digitiser.first_read`); then the history is dropped.
        """
        record = self.record
        if record is None:
            return np.zeros(0)
        if channel not in record.codes:
            keep = max(points, min(record.samples, self.digitiser.first_read))
            record.codes[channel] = self._digitise(record, channel, self._fit(record.samples, keep))
            self._release()
        kept = record.codes[channel]
        return np.asarray(kept[:: len(kept) // self._fit(len(kept), points)], np.float64)

    def points(self, channel: int, points: int) -> int:
        """How many points `codes` would return."""
        record = self.record
        if record is None or not record.setup.channels[channel - 1].on:
            return 0
        return self._fit(len(record.codes[channel]) if channel in record.codes else record.samples, points)

    def close(self) -> None:
        """Stop and drop everything."""
        self.record = None
        self.stop()

    def _fit(self, samples: int, points: int) -> int:
        """The most points up to `points` that take every k-th of `samples`."""
        return max((n for n in LENGTHS if n <= points and samples % n == 0), default=LENGTHS[0])

    def _watch(self, nodes: set[str]) -> None:
        for node in self._watched - nodes:
            self._nodes.unwatch(node)
        for node in nodes - self._watched:
            self._nodes.watch(node)
        self._watched = set(nodes)

    def _release(self) -> None:
        """Once stopped, drop all history but that of channels which can still be read for the first time."""
        if self.state == "stop":
            record = self.record
            unread = (
                {n for n, c in enumerate(record.setup.channels, 1) if c.on} - set(record.codes) if record else set()
            )
            self._watch({self._probes[n].node for n in unread if n in self._probes})

    # trigger -----------------------------------------------------------------------------------------------------

    def _rearm(self, t: float) -> None:
        self._from = self._searched = t
        slopes = {"POS": (1.0,), "NEG": (-1.0,), "EITH": (1.0, -1.0)}[self._setup.slope]
        self._ready = dict.fromkeys(slopes, False)

    def _find_trigger(self) -> float | None:
        """Absolute time of the next edge in the history, or None."""
        now, setup = self._nodes.time, self._setup
        found = self._find_external(now) if setup.source == 0 else self._find_edge(now)
        free = self._from + max(self.digitiser.auto_wait, setup.span)
        if setup.auto and now >= free and (found is None or found > free):
            return free
        return found

    def _find_external(self, now: float) -> float | None:
        times, setup = self._triggers(), self._setup
        late = self.digitiser.external_width if setup.slope == "NEG" else 0.0
        i = bisect_left(times, self._from - late)
        if i == len(times) or times[i] + late > now or not 0 < setup.level < self.digitiser.external_high:
            return None
        return times[i] + late

    def _find_edge(self, now: float) -> float | None:
        setup, step = self._setup, self._search_step()
        band = self.digitiser.hysteresis * setup.channels[setup.source - 1].full_scale
        while self._searched < now:
            n = min(65536, math.ceil((now - self._searched) / step))
            t = np.minimum(self._searched + step * np.arange(n + 1), now)
            y = self._analogue(setup, setup.source, t) - setup.level
            edges = []
            for slope in self._ready:
                i, self._ready[slope] = _edge(slope * y, band, self._ready[slope])
                edges += [] if i is None else [(i, slope)]
            if edges:
                i, slope = min(edges)
                return self._refine(float(t[max(i - 1, 0)]), float(t[i]), slope)
            self._searched = float(t[-1])
        return None

    def _search_step(self) -> float:
        span = self._setup.span
        return min(self.digitiser.trigger_step, max(span / 1000, span / self.digitiser.samples(span)))

    def _refine(self, low: float, high: float, slope: float) -> float:
        """The crossing between two times, by bisection to a hundredth of a sample."""
        setup, small = self._setup, self._setup.span / self.digitiser.samples(self._setup.span) / 100
        while high - low > small and low < (middle := (low + high) / 2) < high:
            above = slope * (self._analogue(setup, setup.source, np.array([middle]))[0] - setup.level) > 0
            low, high = (low, middle) if above else (middle, high)
        return high

    # digitising --------------------------------------------------------------------------------------------------

    def _complete(self, trigger: float) -> Record:
        setup, samples = self._setup, self.digitiser.samples(self._setup.span)
        dt = setup.span / samples
        first = math.ceil((trigger + setup.left) / dt) * dt  # the sample clock runs on its own
        self._number += 1
        record = Record(setup, self._number, trigger, first, samples)
        if setup.average > 1:
            before = self.record
            record.count = 1 if before is None else before.count + 1
            weight = 1 / min(record.count, setup.average)
            for n, channel in enumerate(setup.channels, 1):
                if channel.on:
                    new = self._digitise(record, n, self._fit(samples, self.digitiser.average_points))
                    record.codes[n] = new if before is None else before.codes[n] * (1 - weight) + new * weight
        self.record = record
        return record

    def _digitise(self, record: Record, channel: int, points: int) -> FloatArray:
        setting = record.setup.channels[channel - 1]
        index = np.arange(points, dtype=np.int64) * (record.samples // points)
        t = record.first + index * (record.dt * (1 + self.digitiser.clock_error))
        volts = self._analogue(record.setup, channel, np.minimum(t, self._nodes.time))
        volts += self.digitiser.noise * setting.full_scale * noise(self._seed, record.number, channel, index)
        codes = np.rint((volts - setting.offset) * (256 / setting.full_scale)) + 128
        return np.asarray(np.clip(codes, 1, 255), np.float64)

    def _analogue(self, setup: Setup, channel: int, t: FloatArray) -> FloatArray:
        """(n,) volts that the converter sees at ascending absolute times, referred to the tip as the scope knows it."""
        setting, probe = setup.channels[channel - 1], self._probes.get(channel)
        if probe is None:
            return np.zeros(len(t))
        tau = 1 / (2 * math.pi * (self.digitiser.bandwidth_limit if setting.limited else self.digitiser.bandwidth))
        volts = self._low_pass(probe.node, t, tau)
        if setting.coupling == "AC":
            volts = volts - self._slow(probe.node, t, 1 / (2 * math.pi * self.digitiser.ac_corner))
        return volts * (setting.probe / probe.attenuation)

    def _wave(self, node: str, t: FloatArray) -> FloatArray:
        return self._nodes.wave(node, np.clip(t, self._armed_at, self._nodes.time))

    def _low_pass(self, node: str, t: FloatArray, tau: float) -> FloatArray:
        """A single pole of time constant `tau`; where the times are far apart only its delay is left of it."""
        step = float(t[1] - t[0]) if len(t) > 1 else math.inf
        if step > 20 * tau:
            return self._wave(node, t - tau)
        fine = max(1, math.ceil(step / (2 * tau)))  # edges are placed to within 2 tau
        h = step / fine
        lead = math.ceil(20 * tau / h)
        grid = t[0] + h * np.arange(-lead, (len(t) - 1) * fine + 1)
        return _pole(self._wave(node, grid), h / tau)[lead::fine]

    def _slow(self, node: str, t: FloatArray, tau: float) -> FloatArray:
        """The same for a time constant far longer than the screen; settled at the level of the moment of arming."""
        n = min(1_000_000, max(1000, math.ceil((t[-1] - self._armed_at) / 1e-6)))
        grid = np.linspace(self._armed_at, max(float(t[-1]), self._armed_at + 1e-12), n)
        return np.interp(t, grid, _pole(self._wave(node, grid), float(grid[1] - grid[0]) / tau))


def _pole(x: FloatArray, ratio: float) -> FloatArray:
    """A single pole, settled at x[0], behind straight lines between the samples of x; ratio: step / time constant.

    y[k] = a·y[k−1] + u[k], a = exp(−ratio), summed in blocks of 30 time constants: what comes from before the block
    before is below 1e-13 of itself. `ratio` is at most a few.
    """
    a = math.exp(-ratio)
    b = (1 - a) / ratio
    u = (1 - b) * x[1:] + (b - a) * x[:-1]
    length = max(1, min(len(u), math.ceil(30 / ratio)))
    blocks = np.pad(u, (0, -len(u) % length)).reshape(-1, length)
    decay = np.exp(-ratio * np.arange(1, length + 1))
    inside = np.cumsum(blocks / decay, axis=1) * decay
    start = np.concatenate(([x[0]], inside[:-1, -1]))
    return np.concatenate(([x[0]], (inside + start[:, None] * decay).ravel()[: len(u)]))


def _edge(y: FloatArray, band: float, ready: bool) -> tuple[int | None, bool]:
    """First index where y is above 0 after having been at or below −band, and whether it has been there at the end."""
    above, below = np.flatnonzero(y > 0), np.flatnonzero(y <= -band)
    if not ready and len(below):
        above = above[np.searchsorted(above, below[0]) :]
    if len(above) and (ready or len(below)):
        return int(above[0]), False
    return None, ready or len(below) > 0
