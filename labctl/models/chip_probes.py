"""The watched nodes of a chip: what they were at, from when they were watched on."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from labctl.errors import UsageError
from labctl.models.device import FloatArray

if TYPE_CHECKING:
    from labctl.models.chip import Chip


class Probes:
    """Histories (s, V) of watched nodes, and the tracks that the chip's neurons keep of theirs (MEM, OUT)."""

    def __init__(self, chip: "Chip") -> None:
        self._chip = chip
        self.nodes: dict[str, list[tuple[float, float]]] = {}

    def watch(self, node: str) -> None:
        """See `Chip.watch`."""
        if node not in self.nodes:
            self.nodes[node] = []
            if (neuron := _neuron_of(node)) is not None:
                self._chip.neurons.watch(neuron)
            self.note()

    def unwatch(self, node: str) -> None:
        """See `Chip.unwatch`."""
        self.nodes.pop(node, None)
        neuron = _neuron_of(node)
        if neuron is not None and all(_neuron_of(other) != neuron for other in self.nodes):
            self._chip.neurons.unwatch(neuron)

    def forget(self, before: float) -> None:
        """See `Chip.forget`."""
        self._chip.neurons.forget(before)
        for node, history in self.nodes.items():
            old = sum(1 for t, _ in history if t <= before) - 1
            if old > 0:
                self.nodes[node] = history[old:]

    def restart(self) -> None:
        """Watch the same nodes anew from now on."""
        for history in self.nodes.values():
            history.clear()
        self.note()

    def note(self) -> None:
        """Tell the histories how things are now; nan: a gate follows its neuron."""
        for node, history in self.nodes.items():
            kind, k = node.rstrip("0123456789"), int(node.lstrip("INMEOUTWLSB"))
            if kind in ("MEM", "OUT"):
                continue
            value = self._chip.level(kind, k)
            if not history or not np.array_equal(value, history[-1][1], equal_nan=True):
                history.append((self._chip.time, value))

    def wave(self, node: str, t: ArrayLike) -> FloatArray:
        """See `Chip.wave`."""
        if node not in self.nodes:
            raise UsageError(f"node {node!r} is not watched; call watch({node!r}) before the time of interest")
        neurons, now = self._chip.neurons, self._chip.time
        if node.startswith("MEM"):
            return neurons.v_mem(int(node[3:]), t)
        if node.startswith("OUT"):
            return neurons.out_wave(int(node[3:]), t)
        wanted = np.asarray(t, np.float64)
        times, volts = np.array(self.nodes[node]).T
        slack = 1e-12 * max(1.0, now)
        if wanted.size and not (wanted.min() >= times[0] - slack and wanted.max() <= now + slack):
            raise UsageError(f"t = {wanted.min()} … {wanted.max()} s is outside what was watched, {times[0]} … {now} s")
        values = np.asarray(volts[np.maximum(np.searchsorted(times, wanted, side="right") - 1, 0)])
        if (driven := np.isnan(values)).any():  # a gate that follows its neuron
            values[driven] = neurons.out_wave(int(node[2:]), wanted[driven])
        return values


def _neuron_of(node: str) -> int | None:
    """The neuron whose past `node` needs."""
    if node.startswith(("MEM", "OUT")):
        return int(node[3:])
    return int(node[2:]) if node.startswith("WL") else None
