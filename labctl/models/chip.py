"""The simulated chip seen at its pins: input LIF neurons beside a 1T1R array whose lines are reached from outside."""

from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.device import FloatArray
from labctl.models.neuron import Neurons, Spikes
from labctl.models.neuron_params import Biases, LifParams, ldo_current

_BIASES = {
    "VDD": "v_dd", "VREF": "v_ref", "VOPA": "v_opa", "VGAIN": "v_gain", "VTAUN": "v_taun", "VTAUP": "v_taup",
    "VREST": "v_rest", "VTHR": "v_thr", "VBCOMP": "v_bcomp", "VPW": "v_pw",
}  # fmt: skip


class ArrayOnLines(Protocol):
    """What the chip needs of an array; `labctl.models.array.Array1T1R` is one."""

    def hold(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Hold the lines for some time; currents into BL and SL at the end."""

    def read(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, bandwidth: float) -> tuple[FloatArray, FloatArray]:
        """Measure the currents into BL and SL."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `restore` needs."""

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave."""


class Chip:
    """Input neurons at their IN pads and an array at its lines; `time` is in s since power-on.

    r_syn: Ω in front of each IN pad, the on-chip 10 kΩ included; a number or (rows,). mismatch: relative standard
    deviation from neuron to neuron (`LifParams.sample`). Raises `UsageError` for unknown pins and nodes.
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
        self.time = 0.0
        self.array = array
        self.bias_pins = tuple(_BIASES)
        self.pins = (*_BIASES, *(f"IN{k}" for k in range(rows)))
        kinds = ("IN", "MEM", "OUT", "WL", "SL")
        self.nodes = (*(f"{kind}{k}" for kind in kinds for k in range(rows)), *(f"BL{k}" for k in range(columns)))
        self._r_syn = np.broadcast_to(np.asarray(r_syn, np.float64), (rows,))
        self._volts = dict.fromkeys(self.pins, 0.0)
        params = LifParams().sample(rows, seed, mismatch) if mismatch else LifParams()
        off = Biases(**dict.fromkeys(_BIASES.values(), 0.0))
        self.neurons = Neurons(rows, params, off, seed=seed, temperature=temperature)
        self._lines = (np.zeros(rows), np.zeros(columns), np.zeros(rows))
        self._history: dict[str, list[tuple[float, float]]] = {}
        self._looked_at: set[str] = set()

    def drive(self, pin: str, volts: float) -> None:
        """Put a pin at `volts`, from now on."""
        if pin not in self._volts:
            raise UsageError(f"there is no pin {pin!r}; the chip has {', '.join(self.pins)}")
        if pin in _BIASES:
            changed: dict[str, float] = {_BIASES[pin]: volts}
            self.neurons.biases = replace(self.neurons.biases, **changed)
        self._volts[pin] = volts
        self._note(pin, volts)

    def volts(self, pin: str) -> float:
        """What a pin is driven to now, V."""
        return self._volts[pin]

    def lines(self, wl: FloatArray, bl: FloatArray, sl: FloatArray) -> None:
        """Put the lines at these voltages, from now on; nan floats."""
        self._lines = (wl, bl, sl)
        for kind, volts in (("WL", wl), ("BL", bl), ("SL", sl)):
            for k, v in enumerate(volts) if self._history else ():
                self._note(f"{kind}{k}", float(v))

    def advance(self, seconds: float) -> Spikes:
        """Let time pass; the spikes of the neurons, with times relative to the call."""
        self.array.hold(*self._lines, seconds)
        inputs = np.array([self._volts[f"IN{k}"] for k in range(len(self._r_syn))])
        spikes = self.neurons.advance(seconds, ldo_current(inputs, self._volts["VREF"], self._r_syn))
        self.time += seconds
        return spikes

    def read_current(self, kind: Literal["bl", "sl"], line: int, bandwidth: float) -> float:
        """Current out of the driver into a line (A), with the noise of `bandwidth` (Hz)."""
        into_bl, into_sl = self.array.read(*self._lines, bandwidth)
        return float((into_bl if kind == "bl" else into_sl)[line])

    def watch(self, node: str) -> None:
        """Keep the history of a node from now on."""
        if node not in self.nodes:
            raise UsageError(f"there is no node {node!r}; the chip has IN, MEM, OUT, WL, SL and BL with a number")
        if node.startswith(("MEM", "OUT")):
            self.neurons.watch(int(node[3:]))
            self._looked_at.add(node)
        else:
            self._history[node] = [(self.time, self._now(node))]

    def unwatch(self, node: str) -> None:
        """Stop keeping it."""
        if node.startswith(("MEM", "OUT")):
            self._looked_at.discard(node)
            if not self._looked_at & {f"MEM{node[3:]}", f"OUT{node[3:]}"}:
                self.neurons.unwatch(int(node[3:]))
        else:
            self._history.pop(node, None)

    def wave(self, node: str, t: FloatArray) -> FloatArray:
        """(n,) volts at (n,) absolute times within the watched span; a floating line reads 0 V."""
        if node.startswith("MEM"):
            return self.neurons.v_mem(int(node[3:]), t)
        if node.startswith("OUT"):
            return self.neurons.out_wave(int(node[3:]), t)
        times, volts = np.array(self._history[node]).T
        return np.asarray(volts[np.maximum(np.searchsorted(times, t, side="right") - 1, 0)])

    def _now(self, node: str) -> float:
        if node.startswith("IN"):
            return self._volts[node]
        wl, bl, sl = self._lines
        return float(np.nan_to_num({"WL": wl, "BL": bl, "SL": sl}[node[:2]][int(node[2:])]))

    def _note(self, node: str, volts: float) -> None:
        if node in self._history:
            self._history[node].append((self.time, float(np.nan_to_num(volts))))
