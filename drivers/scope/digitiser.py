"""The numbers and the analogue half of the simulated oscilloscope: probes, amplifier, noise, converter.

Time is the virtual time of the simulated chip. What happens when is `drivers.scope.acquisition`'s business.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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

    def forget(self, before: float) -> None:
        """Drop the kept history of all nodes before the absolute time `before` (s)."""

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


class FrontEnd:
    """Probes and amplifiers. What they saw before `watch` is the level at `watch`."""

    def __init__(self, nodes: Nodes, probes: Mapping[int, ProbePoint], digitiser: Digitiser, seed: int) -> None:
        self.nodes = nodes
        self._probes, self._digitiser, self._seed = dict(probes), digitiser, seed
        self._watched: set[str] = set()
        self._since = 0.0

    def watch(self, channels: Iterable[int]) -> None:
        """Keep history for these channels from now on, and for no others; what was kept is dropped."""
        self.keep(())
        self._since = self.nodes.time
        self._watched = self._nodes_of(channels)
        for node in self._watched:
            self.nodes.watch(node)

    def keep(self, channels: Iterable[int]) -> None:
        """Drop the history of all channels but these."""
        wanted = self._nodes_of(channels)
        for node in self._watched - wanted:
            self.nodes.unwatch(node)
        self._watched &= wanted

    def forget(self, before: float) -> None:
        """Drop history before an absolute time."""
        if before > self._since and self._watched:
            self.nodes.forget(before)
            self._since = before

    def _nodes_of(self, channels: Iterable[int]) -> set[str]:
        return {self._probes[n].node for n in channels if n in self._probes}

    def digitise(self, setup: Setup, channel: int, number: int, index: NDArray[np.int64], t: FloatArray) -> FloatArray:
        """(n,) codes 1 … 255 of samples `index` of acquisition `number`, taken at absolute times t (n,)."""
        setting = setup.channels[channel - 1]
        volts = self.analogue(setup, channel, np.minimum(t, self.nodes.time))
        volts += self._digitiser.noise * setting.full_scale * noise(self._seed, number, channel, index)
        codes = np.rint((volts - setting.offset) * (256 / setting.full_scale)) + 128
        return np.asarray(np.clip(codes, 1, 255), np.float64)

    def analogue(self, setup: Setup, channel: int, t: FloatArray) -> FloatArray:
        """(n,) volts that the converter sees at ascending absolute times, referred to the tip as the scope knows it."""
        setting, probe = setup.channels[channel - 1], self._probes.get(channel)
        if probe is None:
            return np.zeros(len(t))
        tau = 1 / (2 * math.pi * (self._digitiser.bandwidth_limit if setting.limited else self._digitiser.bandwidth))
        volts = self._low_pass(probe.node, t, tau)
        if setting.coupling == "AC":
            volts = volts - self._slow(probe.node, t, 1 / (2 * math.pi * self._digitiser.ac_corner))
        return volts * (setting.probe / probe.attenuation)

    def _wave(self, node: str, t: FloatArray) -> FloatArray:
        return self.nodes.wave(node, np.clip(t, self._since, self.nodes.time))

    def _low_pass(self, node: str, t: FloatArray, tau: float) -> FloatArray:
        """A single pole of time constant `tau` at evenly spaced times; where they are far apart, only its delay."""
        step = float(t[1] - t[0]) if len(t) > 1 else math.inf
        if step > 20 * tau:
            return self._wave(node, t - tau)
        h = max(step / max(1, math.ceil(step / (2 * tau))), tau / 64)  # edges are placed to within 2 tau
        lead = math.ceil(20 * tau / h)
        grid = t[0] + h * np.arange(-lead, math.ceil((t[-1] - t[0]) / h - 1e-9) + 1)
        return np.interp(t, grid, _pole(self._wave(node, grid), h / tau))

    def _slow(self, node: str, t: FloatArray, tau: float) -> FloatArray:
        """The same for a time constant far longer than the screen; settled at the level of the moment of arming."""
        n = min(1_000_000, max(1000, math.ceil((t[-1] - self._since) / 1e-6)))
        grid = np.linspace(self._since, max(float(t[-1]), self._since + 1e-12), n)
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
