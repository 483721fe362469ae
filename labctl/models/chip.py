"""The simulated chip seen at its pins: input LIF neurons, a 1T1R array, output LIF neurons.

Sixteen input neurons (0 …) each drive the gates of one row of the array at V_dd; every column ends in its own LDO,
attenuator and output neuron (rows …): N. Garg et al., Fig. 2. Word and source lines run along the rows, bit lines along
the columns. Two uses: characterisation, where IN pads and lines are driven from outside; and network mode (`couple`).
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal, NamedTuple, Protocol, get_args, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.chip_probes import Probes
from labctl.models.device import FloatArray, Hold
from labctl.models.neuron import Neurons, Spikes
from labctl.models.neuron_params import I_MAX, Biases, LifParams, ldo_current
from labctl.models.neuron_steps import check_duration
from labctl.quantity import Q

_BIASES = {f.name.replace("_", "").upper(): f.name for f in fields(Biases)}
_LIMITS: dict[str, Q] = {name: get_args(hint)[1] for name, hint in get_type_hints(Biases, include_extras=True).items()}
_PAD = Q("V", -5, 5, "an input pad")
Kind = Literal["wl", "bl", "sl"]


LONGEST_LAG = 0.1
"""Seconds that the neurons may be left behind: the spikes of a longer time need not fit into the memory."""


class ArrayOnLines(Protocol):
    """What the chip needs of an array; `labctl.models.array.Array1T1R` is one. Lines in V, nan floats; currents in A,
    into the array, per line."""

    def hold(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Hold the lines for some time; currents into BL and SL at the end."""

    def repeat(self, holds: Sequence[Hold], times: int) -> bool:
        """Carry out all of these holds so many times, if that can be done faster than one by one; else do nothing."""

    def read(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, bandwidth: float) -> tuple[FloatArray, FloatArray]:
        """Measure the currents into BL and SL."""

    def potentials(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Potentials of BL and SL at the cells that conduct, each (rows, columns), V; nan elsewhere."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `restore` needs."""

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave."""


class Lines(NamedTuple):
    """Voltages of word, bit and source lines, (rows,), (columns,), (rows,), V; nan floats."""

    wl: FloatArray
    bl: FloatArray
    sl: FloatArray


class Chip:
    """The whole chip; off at first, `time` is in s since then.

    r_syn: Ω in front of each IN pad, the on-chip 10 kΩ included; a number or (rows,). mismatch: relative standard
    deviation from neuron to neuron (`LifParams.sample`), frozen by the seed. temperature in K.
    Raises `UsageError` for names, shapes and impossible compositions, `ParameterError` for voltages; then nothing has
    changed.
    """

    def __init__(
        self,
        *,
        rows: int = 16,
        columns: int = 4,
        r_syn: ArrayLike = 10e3,
        array: ArrayOnLines,
        mismatch: float = 0.0,
        seed: int = 0,
        temperature: float = 300.0,
    ) -> None:
        if rows < 1 or columns < 1:
            raise UsageError(f"a chip of {rows} rows and {columns} columns; give at least 1 of each")
        self.rows, self.columns, self.array = rows, columns, array
        n = rows + columns
        resistance = np.asarray(r_syn, np.float64)
        if resistance.shape not in ((), (rows,)):
            raise UsageError(f"r_syn has shape {resistance.shape}; give a number or ({rows},), Ω in front of each pad")
        ldo_current(0.0, 0.0, resistance)  # checks
        self._r_syn = np.broadcast_to(resistance, (rows,)).copy()
        self.bias_pins = tuple(_BIASES)
        self.pins = (*_BIASES, *(f"IN{k}" for k in range(rows)))
        self.nodes = (
            *(f"{kind}{k}" for kind in ("IN", "MEM", "OUT") for k in range(n)),
            *(f"{kind}{k}" for kind in ("WL", "SL") for k in range(rows)),
            *(f"BL{k}" for k in range(columns)),
        )
        self._volts = dict.fromkeys(self.pins, 0.0)
        params = LifParams().sample(n, seed, mismatch) if mismatch else LifParams()
        off = Biases(**dict.fromkeys(_BIASES.values(), 0.0))
        self._neurons = Neurons(n, params, off, seed=seed, temperature=temperature)
        self._lag = 0.0  # how far the neurons are behind: nothing that they do moves the array
        self._found: list[Spikes] = []
        self._before = self._taken = 0.0
        self._biases_changed = False
        self._inputs: FloatArray | None = None
        self._lines = Lines(np.zeros(rows), np.zeros(columns), np.zeros(rows))
        self._currents: tuple[FloatArray, FloatArray] | None = None
        self._v_read: float | None = None
        self._probes = Probes(self)
        self._is_output = np.arange(n) >= rows

    @property
    def time(self) -> float:
        """Seconds since power-on."""
        return self._neurons.time + self._lag

    @property
    def neurons(self) -> Neurons:
        """All neurons, 0 … rows − 1 inputs, then outputs, now and under the present biases."""
        self._catch_up()
        return self._biased()

    def _biased(self) -> Neurons:
        if self._biases_changed:
            self._biases_changed = False
            self._neurons.biases = Biases(**{name: self._volts[pin] for pin, name in _BIASES.items()})
        return self._neurons

    def volts(self, pin: str) -> float:
        """What a pin is driven to, V."""
        if pin not in self._volts:
            raise UsageError(f"there is no pin {pin!r}; the chip has {', '.join(self.pins)}")
        return self._volts[pin]

    def drive(self, pin: str, volts: float) -> None:
        """Put a pin at `volts`, from now on."""
        if self.volts(pin) == volts:
            return
        (_LIMITS[_BIASES[pin]] if pin in _BIASES else _PAD).check(pin, volts)
        self._catch_up()
        self._biases_changed = self._biases_changed or pin in _BIASES
        self._volts[pin] = float(volts)
        self._inputs = None
        if self._v_read is not None and pin in ("VDD", "VREF"):
            self._currents = None
        self._probes.note()

    def lines(self, wl: FloatArray, bl: FloatArray, sl: FloatArray) -> None:
        """Put the lines at these voltages, from now on: (rows,), (columns,), (rows,), V; nan floats. Without effect on
        the array in network mode."""
        self.put(self.pattern(wl, bl, sl))

    def pattern(self, wl: FloatArray, bl: FloatArray, sl: FloatArray) -> Lines:
        """Line voltages checked once, to be `put` often; they cannot be written into."""
        new = Lines(*(np.array(volts, np.float64) for volts in (wl, bl, sl)))
        for name, volts, old in zip(Lines._fields, new, self._lines, strict=True):
            if volts.shape != old.shape:
                raise UsageError(f"{name} has shape {volts.shape}; this chip needs {old.shape}, one voltage a line")
            if np.isinf(volts).any():
                raise UsageError(f"{name} has an infinite voltage; give volts, or nan for a floating line")
            volts.flags.writeable = False
        return new

    def put(self, pattern: Lines) -> None:
        """As `lines`, with what `pattern` made."""
        if pattern is not self._lines:
            self._lines = pattern
            self._currents = None
            self._probes.note()

    # composition -------------------------------------------------------------------------------------------------

    def couple(self, v_read: float | None) -> None:
        """Network mode: input spikes open rows, source lines are at V_ref + v_read, bit lines clamped at V_ref by the
        LDOs of the output neurons, which integrate the columns' currents. None: characterisation again.

        Conductances are taken at the start of each `advance`; reading does not move them.
        """
        if v_read is not None and not 0.0 <= v_read <= 3.6:
            raise UsageError(f"v_read = {v_read} V is outside 0 V … 3.6 V")
        if v_read is not None and self.rows > 62:
            raise UsageError(f"network mode works up to 62 rows; this chip has {self.rows}")
        self._v_read = v_read
        self._currents = None
        self._probes.note()

    def pair(self, primary: int, regulator: int, r_syn: float | None = None) -> None:
        """Make an adaptive neuron (Garg et al., Fig. 7B): see `share`."""
        self.share([primary], regulator, r_syn)

    def share(self, primaries: list[int], regulator: int, r_syn: float | None = None) -> None:
        """One regulator for several neurons (Fig. 7C): it integrates their spikes, its membrane is their threshold.

        r_syn: Ω in front of the regulator's pad (None: its own). The regulator needs a pad, so it is an input neuron.
        """
        if not 0 <= regulator < self.rows:
            raise UsageError(f"neuron {regulator} has no input pad; a regulator is one of 0 … {self.rows - 1}")
        resistance = float(self._r_syn[regulator]) if r_syn is None else r_syn
        self.neurons.regulate(primaries, regulator, resistance)

    def unpair(self, primary: int) -> None:
        """Give a neuron its own threshold back and its output to nobody else."""
        self.neurons.take_threshold(primary, None)
        self.neurons.join_output(primary, None)

    # time --------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> Spikes:
        """Let time pass; spikes of neurons 0 … rows − 1 (inputs) and rows … (outputs), times relative to the call.

        With those of earlier `hold`s that nobody took (at negative times).
        """
        start = self.time
        self.hold(seconds)
        spikes = self.take_spikes()
        return spikes if start == self._before else spikes._replace(t=spikes.t - (start - self._before))

    def hold(self, seconds: float) -> None:
        """Let time pass. In characterisation the neurons follow when somebody looks at them, or at their pins."""
        check_duration(seconds)
        if self._v_read is None:
            self._currents = self.array.hold(*self._lines, seconds)
            self._lag += seconds
            if self._probes.nodes and any(np.isnan(volts).any() for volts in self._lines):
                self._probes.note()  # floating lines move with the cells
            if self._lag >= LONGEST_LAG:
                self._catch_up()
            return
        start = self.neurons.time
        self._keep(self._network(seconds), start)
        self.array.hold(np.zeros(self.rows), *self._network_lines(0)[1:], seconds)

    def repeat(self, holds: Sequence[tuple[Lines, float]], times: int) -> bool:
        """Carry out these holds (lines, seconds), all of them so many times, if there is a faster way; else nothing."""
        if self._v_read is not None or self._probes.nodes:
            return False
        if not self.array.repeat([(*lines, seconds) for lines, seconds in holds], times):
            return False
        self._currents = None
        self._lag += times * sum(seconds for _, seconds in holds)
        if self._lag >= LONGEST_LAG:
            self._catch_up()
        return True

    def take_spikes(self) -> Spikes:
        """The spikes since the last call; times (s) relative to that."""
        self._catch_up()
        found, self._found = self._found, []
        self._before, self._taken = self._taken, self._neurons.time
        if len(found) == 1:
            return found[0]
        if not found:
            return Spikes(np.empty(0), np.empty(0, np.int32))
        return Spikes(np.concatenate([part.t for part in found]), np.concatenate([part.neuron for part in found]))

    def _catch_up(self) -> None:
        if self._lag > 0.0:
            seconds, self._lag = self._lag, 0.0
            neurons = self._biased()
            start = neurons.time
            self._keep(neurons.advance(seconds, self._inputs_now()), start)

    def _keep(self, spikes: Spikes, start: float) -> None:
        if len(spikes.t):
            since = start - self._taken
            self._found.append(spikes._replace(t=spikes.t + since) if since else spikes)

    def _network(self, seconds: float) -> Spikes:
        neurons, rows = self._neurons, self.rows
        table: dict[int, FloatArray] = {}
        inputs = self._inputs_now()
        if not neurons.connects(self._is_output):
            start, held, widths = self._mask(), neurons.hold_left[:rows], neurons.pulse_widths

            def columns(found: Spikes) -> tuple[FloatArray, FloatArray]:
                times, masks = open_rows(start, held, widths, found, seconds)
                distinct, which = np.unique(masks, return_inverse=True)
                return times, np.array([self._columns(int(mask), table) for mask in distinct])[which]

            return neurons.advance_in_turn(seconds, inputs, self._is_output, columns)
        # a switch leads from an output neuron back to an input neuron: go from edge to edge of the rows
        parts: list[Spikes] = []
        passed, inputs = 0.0, inputs.copy()
        while passed < seconds:
            inputs[rows:] = self._columns(self._mask(), table)
            step, found = neurons.advance_to_edge(seconds - passed, inputs, ~self._is_output)
            parts.append(Spikes(found.t + passed, found.neuron))
            passed = passed + step if step < seconds - passed else seconds
        if not parts:
            return Spikes(np.empty(0), np.empty(0, np.int32))
        return Spikes(np.concatenate([part.t for part in parts]), np.concatenate([part.neuron for part in parts]))

    def _inputs_now(self) -> FloatArray:
        if self._inputs is None:
            pads = np.array([self._volts[f"IN{k}"] for k in range(self.rows)])
            self._inputs = np.zeros(self.rows + self.columns)
            self._inputs[: self.rows] = ldo_current(pads, self._volts["VREF"], self._r_syn)
        return self._inputs

    def _network_lines(self, gates: int) -> Lines:
        """Lines in network mode with the rows in the bit mask open."""
        v_ref = self._volts["VREF"]
        is_open = (gates >> np.arange(self.rows)) & 1
        sl = np.full(self.rows, v_ref + (self._v_read or 0.0))
        return Lines(np.where(is_open, self._volts["VDD"], 0.0), np.full(self.columns, v_ref), sl)

    def _columns(self, gates: int, table: dict[int, FloatArray]) -> FloatArray:
        """Currents of the columns into their LDOs (A) with these rows open."""
        if gates not in table:
            into_bl, _ = self.array.read(*self._network_lines(gates), 0.0) if gates else (np.zeros(self.columns), None)
            table[gates] = np.clip(-into_bl, 0.0, I_MAX)
        return table[gates]

    def _mask(self) -> int:
        return sum(1 << int(k) for k in np.flatnonzero(self._neurons.out[: self.rows]))

    # looking -----------------------------------------------------------------------------------------------------

    def line_current(self, kind: Kind, line: int) -> float:
        """Current out of the driver into a line (A), at the present bias; a word line has none."""
        if self._currents is None:
            if self._v_read is None:
                self._currents = self.array.hold(*self._lines, 0.0)
            else:
                self._currents = self.array.read(*self._network_lines(self._mask()), 0.0)
        return self._of_line(kind, line, self._currents)

    def read_current(self, kind: Kind, line: int, bandwidth: float) -> float:
        """As `line_current`, measured with the cells' noise in `bandwidth` (Hz)."""
        if kind == "wl":
            return self._of_line(kind, line, (np.empty(0), np.empty(0)))
        lines = self._lines if self._v_read is None else self._network_lines(self._mask())
        return self._of_line(kind, line, self.array.read(*lines, bandwidth))

    def _of_line(self, kind: Kind, line: int, currents: tuple[FloatArray, FloatArray]) -> float:
        count = {"wl": self.rows, "bl": self.columns, "sl": self.rows}.get(kind)
        if count is None or not 0 <= line < count:
            raise UsageError(f"there is no line {kind}{line}; there are {self.rows} wl and sl, {self.columns} bl")
        return 0.0 if kind == "wl" else float(currents[0 if kind == "bl" else 1][line])

    def watch(self, node: str) -> None:
        """Keep the history of a node from now on, until `unwatch`."""
        if node not in self.nodes:
            raise UsageError(f"there is no node {node!r}; the chip has IN, MEM, OUT, WL, SL and BL with a number")
        self._probes.watch(node)

    def unwatch(self, node: str) -> None:
        """Drop the history of a node and keep no more of it."""
        self._probes.unwatch(node)

    def forget(self, before: float) -> None:
        """Drop what was watched before the absolute time `before` (s)."""
        self._probes.forget(before)

    def wave(self, node: str, t: ArrayLike) -> FloatArray:
        """Volts at absolute times within the watched span, in any shape: exact, no samples. IN of an output neuron is
        its column's clamp, V_ref. Raises `UsageError` for a node or a time that was not watched."""
        return self._probes.wave(node, t)

    def level(self, kind: str, k: int) -> float:
        """Volts of IN, WL, BL or SL number k now; nan: a gate that follows its neuron (network mode)."""
        if kind == "IN":
            return self._volts[f"IN{k}"] if k < self.rows else self._volts["VREF"]
        if self._v_read is not None:
            return np.nan if kind == "WL" else float(getattr(self._network_lines(0), kind.lower())[k])
        value = float(getattr(self._lines, kind.lower())[k])
        if not np.isnan(value):
            return value
        if kind == "WL":
            return 0.0  # a floating gate is discharged
        # a floating line is where its conducting cells put it, else at 0 V
        on_bl, on_sl = self.array.potentials(*self._lines)
        at = on_bl[:, k] if kind == "BL" else on_sl[k]
        at = at[np.isfinite(at)]
        return float(at[0]) if at.size else 0.0

    # state -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `restore` needs, as arrays (copies); watches are not in it."""
        state: dict[str, NDArray[np.generic]] = {f"neurons.{k}": v for k, v in self.neurons.state().items()}
        state |= {f"array.{k}": v for k, v in self.array.state().items()}
        return state | {
            "chip.pins": np.array([self._volts[pin] for pin in self.pins]),
            "chip.lines": np.concatenate(self._lines),
            "chip.v_read": np.array(np.nan if self._v_read is None else self._v_read),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave, on a chip made alike; watched nodes are watched anew from there."""
        shapes = {"chip.pins": (len(self.pins),), "chip.lines": (2 * self.rows + self.columns,), "chip.v_read": ()}
        if any(name not in state or np.shape(state[name]) != shape for name, shape in shapes.items()):
            raise UsageError(f"this is no state of a chip of {self.rows} × {self.columns}; give what state() returned")
        neurons = {k.removeprefix("neurons."): v for k, v in state.items() if k.startswith("neurons.")}
        before = self.neurons.state()
        self.neurons.restore(neurons)
        try:
            self.array.restore({k.removeprefix("array."): v for k, v in state.items() if k.startswith("array.")})
        except UsageError:
            self.neurons.restore(before)
            raise
        pins, lines, v_read = (np.array(state[name], np.float64) for name in shapes)
        self._volts = dict(zip(self.pins, pins.tolist(), strict=True))
        self._lines = Lines(*np.split(lines, [self.rows, self.rows + self.columns]))
        self._v_read = None if np.isnan(v_read) else float(v_read)
        self._biases_changed, self._inputs, self._currents = False, None, None
        self._found, self._before, self._taken = [], self.time, self.time
        self._probes.restart()


def open_rows(
    start: int, held: FloatArray, widths: FloatArray, spikes: Spikes, seconds: float
) -> tuple[FloatArray, NDArray[np.int64]]:
    """(times, bit masks of the rows open from then on): a row opens at a spike and closes a pulse width later.

    start: mask at time 0; held: what is left of the pulses that last already, (rows,), s; widths: (n,), s.
    """
    still = np.flatnonzero(held > 0)
    times = np.concatenate((spikes.t, spikes.t + widths[spikes.neuron], held[still]))
    bits = np.left_shift(np.int64(1), np.concatenate((spikes.neuron, spikes.neuron, still)).astype(np.int64))
    signs = np.where(np.arange(len(times)) < len(spikes.t), 1, -1)
    order = np.argsort(times, kind="stable")
    order = order[times[order] < seconds]
    masks = start + np.cumsum(np.concatenate(([0], (bits * signs)[order])))
    return np.concatenate(([0.0], times[order])), masks
