"""The simulated bench: board firmware and oscilloscope on the two sides of one simulated chip."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import TICK, LineKind, Source
from drivers.fpga.outputs import COUNTERS
from drivers.fpga.sim import SimBoard
from drivers.scope.sim import SimScope
from drivers.serve import Server, serve
from drivers.simulated_chip import Settings, SimulatedArray
from labctl.errors import StationError, UsageError
from labctl.models.chip import Chip, Lines
from labctl.station import Station
from labctl.transport import Transport, open_transport
from labctl.transport.loop import LoopTransport

DAC = int(Source.DAC)
PATTERNS = 4096
"""Line patterns that are remembered."""
LONGEST_LOOP = 1000
"""Holds in the body of a loop that is carried out as one."""


class Pads:
    """The chip as probes and counters see it: an output that is stuck stays where it is, whatever the neuron does."""

    def __init__(self, chip: Chip, settings: Settings) -> None:
        self._chip = chip
        self.low, self.high = settings.stuck_low, settings.stuck_high
        self._stuck = {f"OUT{k}": 0.0 for k in self.low} | {f"OUT{k}": 1.0 for k in self.high}
        chip.neurons.silence(settings.silent)

    @property
    def time(self) -> float:
        return self._chip.time

    def watch(self, node: str) -> None:
        self._chip.watch(node)

    def unwatch(self, node: str) -> None:
        self._chip.unwatch(node)

    def forget(self, before: float) -> None:
        self._chip.forget(before)

    def wave(self, node: str, t: NDArray[np.float64]) -> NDArray[np.float64]:
        if node in self._stuck:
            return np.full(len(t), self._stuck[node] * self._chip.volts("VDD"))
        return self._chip.wave(node, t)


class ChipPlant:
    """The chip in its socket: converters on its pins, the line matrix on its array, switches between its neurons."""

    def __init__(self, chip: Chip, station: Station, pads: Pads, settings: Settings) -> None:
        self._chip, self._pads, self._r_syn = chip, pads, station.chip.r_syn
        self._broken = tuple(
            np.array(lines, np.intp)
            for lines in (settings.open_word_lines, settings.open_bit_lines, settings.open_source_lines)
        )
        self._stuck = np.array(sorted({*pads.low, *pads.high}), np.int64)
        self._uncounted = chip.rows + chip.columns > COUNTERS  # a large array has neurons that no counter watches
        self._switches: dict[LineKind, list[int]] = {}
        self._energy, self._since = 0.0, 0
        self._pins = {channel: pin for pin, channel in station.converters.items() if pin in chip.pins}
        self._lines = tuple(np.full(n, Source.GROUND, np.intp) for n in (chip.rows, chip.columns, chip.rows))
        self._drives: list[int] = []  # converters that a line is connected to
        self._key = b""
        self._patterns: dict[tuple[object, ...], Lines] = {}
        self._pattern: Lines | None = None
        self._held: list[tuple[Lines, float]] | None = None  # since `mark`; None: more happened than holds
        self.trigger_times: list[float] = []

    def drive(
        self, volts: NDArray[np.float64], lines: dict[LineKind, NDArray[np.intp]], changed: Sequence[int], routed: bool
    ) -> None:
        for channel in changed:
            if channel in self._pins:
                self._held = None
                self._chip.drive(self._pins[channel], float(volts[channel]))
        if routed:
            self._route(lines)
        key = (self._key, *volts[self._drives].tolist())
        pattern = self._patterns.get(key)
        if pattern is None:
            level_of = np.concatenate([np.zeros(int(Source.DAC)), volts])
            level_of[Source.FLOAT] = np.nan  # ground and sense (a virtual ground) are at 0 V
            array_lines = [level_of[sources] for sources in self._lines]
            for volts_of, broken in zip(array_lines, self._broken, strict=True):
                volts_of[broken] = np.nan
            pattern = self._chip.pattern(*array_lines)
            if len(self._patterns) >= PATTERNS:
                self._patterns.clear()
            self._patterns[key] = pattern
        self._pattern = pattern
        self._chip.put(pattern)

    def _route(self, lines: dict[LineKind, NDArray[np.intp]]) -> None:
        self._lines = tuple(lines[kind].copy() for kind in (LineKind.WL, LineKind.BL, LineKind.SL))
        self._key = b"".join(sources.tobytes() for sources in self._lines)
        sources = {source for of in self._lines for source in of.tolist()}
        self._drives = sorted(source - DAC for source in sources if source >= DAC)
        for kind, connect in ((LineKind.OUT, self._join), (LineKind.THR, self._take_threshold)):
            wanted = lines[kind][: len(self._r_syn)].tolist()
            before = self._switches.get(kind, [Source.FLOAT] * len(wanted))
            if wanted != before:
                self._held = None
                for k, (now, new) in enumerate(zip(before, wanted, strict=True)):
                    if now != new:
                        connect(k, None if new == Source.FLOAT else new - Source.NEURON)
                self._switches[kind] = wanted

    def _join(self, neuron: int, to: int | None) -> None:
        self._chip.neurons.join_output(neuron, to, self._r_syn[to or 0])

    def _take_threshold(self, neuron: int, of: int | None) -> None:
        self._chip.neurons.take_threshold(neuron, of)

    def advance(self, ticks: int) -> None:
        self._since += ticks
        seconds = ticks * TICK
        self._chip.hold(seconds)
        if self._held is not None and self._pattern is not None:
            self._held.append((self._pattern, seconds))
            if len(self._held) > LONGEST_LOOP:
                self._held = None

    def spikes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        spikes = self._chip.take_spikes()
        at, who = (spikes.t / TICK).astype(np.int64), spikes.neuron
        if len(self._stuck) or self._uncounted:
            seen = ~np.isin(who, self._stuck) & (who < COUNTERS)
            at, who = at[seen], who[seen]
        return at, who.astype(np.uint8)

    def mark(self) -> None:
        self._held = []

    def repeat(self, times: int) -> bool:
        if not self._held or not self._chip.repeat(self._held, times):
            return False
        self._since += times * sum(round(seconds / TICK) for _, seconds in self._held)
        return True

    def _joules(self) -> float:
        return float(sum(part.sum() for part in self._chip.neurons.energy().values()))

    def current(self, kind: LineKind, line: int, bandwidth: float) -> float:
        if kind == LineKind.VDD:  # the mean over the time since the last look
            v_dd, joules = self._chip.volts("VDD"), self._joules()
            spent, seconds = joules - self._energy, self._since * TICK
            self._energy, self._since = joules, 0
            return spent / seconds / v_dd if v_dd > 0 and seconds else 0.0
        # the chip counts current into the line; the amplifier sees what comes out of it
        return -self._chip.read_current(kind.name.lower(), line, bandwidth)  # type: ignore[arg-type]

    def levels(self) -> int:
        high = {int(k) for k in np.flatnonzero(self._chip.neurons.out)} - {*self._pads.low}
        powered = self._chip.volts("VDD") > 0
        return sum(1 << k for k in high | ({*self._pads.high} if powered else set()))

    def trigger(self, tick: int) -> None:
        self.trigger_times.append(self._chip.time)


class Simulation:
    """One simulated chip with a simulated board and scope around it. Raises `StationError` for unknown settings.

    seed: of the scope's noise, and of the chip unless the station's state file keeps one with a seed of its own.
    """

    def __init__(self, station: Station, seed: int = 0) -> None:
        settings = Settings.of(station)
        wiring = station.chip
        if wiring.neurons > wiring.rows:
            raise StationError(
                f"station {station.name}: chip.neurons = {wiring.neurons}, more than its {wiring.rows} rows; each input"
                " neuron of the simulated chip drives one row"
            )
        self._array = SimulatedArray(station, settings, seed)
        self.chip = Chip(
            rows=wiring.rows,
            columns=wiring.columns,
            r_syn=np.pad(wiring.r_syn, (0, wiring.rows - wiring.neurons), "edge"),  # rows whose neuron has no pad
            array=self._array.array,
            mismatch=settings.mismatch,
            seed=self._array.seed,
            temperature=settings.temperature,
        )
        self._compile()
        self._station = station
        self._servers: list[Server] = []
        # one lock for everything that touches the chip: board and scope may be served to different clients at once
        self._lock = threading.RLock()
        pads = Pads(self.chip, settings)
        plant = ChipPlant(self.chip, station, pads, settings)
        self.board = SimBoard(
            plant,
            word_lines=wiring.rows,
            bit_lines=wiring.columns,
            pace=settings.pace,
            serial=f"SIM-{self._array.seed}",
        )
        probes = {channel: (node, station.attenuation.get(channel, 1.0)) for channel, node in station.probes.items()}
        self.scope = SimScope(pads, probes, plant.trigger_times, seed=seed)  # type: ignore[arg-type]  # time is only read

    def _compile(self) -> None:
        """Compile the models' kernels, on a new computer: now, and not while a lease runs."""
        self.chip.advance(0.0)
        for act in (self._array.array.device.pulse, self._array.array.device.read):
            act(0.0, 0.0, 0.0, 0.0, np.array([0]))

    def board_transport(self) -> Transport:
        """The wire to the board, in this process."""
        return LoopTransport(self.board)

    def scope_transport(self) -> Transport:
        """The wire to the scope: PyVISA and a loopback socket (link "sim"), or in this process (link "loop")."""
        if self._station.scope == "loop":
            return LoopTransport(self.scope, "loop")
        server = serve(self.scope, "tcp://127.0.0.1:0", self._lock)
        self._servers.append(server)
        host, port = server.address.removeprefix("tcp://").rsplit(":", 1)
        return open_transport(f"TCPIP::{host}::{port}::SOCKET")

    def serve(self, board: str | None, scope: str | None) -> dict[str, str]:
        """Serve the instruments to other programs; return instrument → address as a station file writes it."""
        found = {}
        if board:
            self._servers.append(serve(self.board, board, self._lock))
            found["board"] = self._servers[-1].address
        if scope:
            dialect, _, address = scope.partition(":")
            if dialect != self._station.dialect:
                raise UsageError(f"the simulated scope speaks {self._station.dialect}, not {dialect!r}")
            self._servers.append(serve(self.scope, address, self._lock))
            found["scope"] = self._servers[-1].address
        return found

    def wait(self) -> None:
        """Until Ctrl-C."""
        threading.Event().wait()

    def close(self) -> None:
        """Stop serving; keep the array where the station names a state file."""
        for server in self._servers:
            server.stop()
        self._servers.clear()
        self._array.keep()
