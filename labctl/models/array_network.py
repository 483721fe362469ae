"""The nodal problem of an array's lines: wires are resistors, cells are any I–V curve; solved by damped Newton.

Unknown are the potentials of floating lines and of every cell's ends on resistive lines. Leaving a node, the currents
through wires and cells sum to zero. A floating line leaks `G_LEAK` to 0 V, which fixes an island that nothing drives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from labctl.errors import MeasurementError
from labctl.models.device import FloatArray

G_LEAK = 1e-15  # S, of a floating line: 1e-8 of a cell of 10 MΩ
TOLERANCE = 1e-7  # of the largest current at a node: float32 device models are not smoother than that
PROBE = 1e-4  # V, for the cells' slopes
STEP = 0.3  # V, about the most that one iteration moves a potential
SETTLED = 1e-9  # V, of a potential: 5e-9 of a read at 0.2 V, and as smooth as models solved by iteration are
FLOOR = 1e-13  # A, at a node: what the best ammeters of a bench see, and models solved by iteration give no better
STALLED = 1e-12  # A, at a node: what the iterations may end with where the noise of a model ends them
_DENSE = 32  # unknowns up to which a dense solution is quicker, and too small for BLAS to wake its threads
_ITERATIONS, _HALVINGS = 100, 20

Currents = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Network:
    """Wires between nodes, and for each cell its node on the bit line and on the source line (-1: a fixed voltage)."""

    nodes: tuple[NDArray[np.intp], NDArray[np.intp]]
    fixed: tuple[FloatArray, FloatArray]
    wires: sparse.csc_matrix
    """Conductances (S), nodes × nodes."""
    injected: FloatArray
    """Current (A) that the drivers would push into each node at 0 V."""
    guess: FloatArray
    bounds: tuple[float, float]
    floating_columns: NDArray[np.intp]
    floating_rows: NDArray[np.intp]

    @classmethod
    def build(
        cls,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        v_bl: FloatArray,
        v_sl: FloatArray,
        r_bl: float,
        r_sl: float,
    ) -> "Network":
        """Number the nodes of the cells at (rows, columns), in C order; v_bl, v_sl are the drivers', nan where none."""
        driven = np.concatenate([v_bl[~np.isnan(v_bl)], v_sl[~np.isnan(v_sl)], [0.0]])
        if not (np.isnan(v_bl).any() or np.isnan(v_sl).any()):
            driven = driven[:-1]
        bounds = (float(driven.min()), float(driven.max()))
        n, sides = 0, []
        edges: list[tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]] = []
        ground: list[tuple[NDArray[np.intp], FloatArray, FloatArray]] = []  # node, conductance, to which voltage
        for line, along, volts, r in ((columns, rows, v_bl, r_bl), (rows, columns, v_sl, r_sl)):
            floats = np.isnan(volts)
            node = np.full(line.size, -1, np.intp)
            if r > 0:
                node[:] = n + np.arange(line.size)
                n += line.size
                order = np.lexsort((along, line))
                first = np.diff(line[order], prepend=-1) != 0
                if order.size:
                    step = np.diff(along[order], prepend=0)
                    chained = order[1:][~first[1:]], order[:-1][~first[1:]]
                    edges.append((node[chained[0]], node[chained[1]], 1 / (r * step[1:][~first[1:]])))
                heads = order[first]
                heads = heads[~floats[heads]]
                ground.append((node[heads], 1 / (r * (along[heads] + 1)), volts[heads]))
            else:
                lines, place = np.unique(line[floats], return_inverse=True)
                node[floats] = n + place
                n += lines.size
            leaking = np.unique(node[floats])
            ground.append((leaking, np.full(leaking.size, G_LEAK), np.zeros(leaking.size)))
            sides.append((node, np.where(floats, 0.0, volts), np.unique(line[floats])))
        wires = np.zeros(0), np.zeros(0, np.intp), np.zeros(0, np.intp)
        for a, b, g in edges:
            wires = _append(wires, (g, a, a), (g, b, b), (-g, a, b), (-g, b, a))
        injected = np.zeros(n)
        for node, g, volts in ground:
            wires = _append(wires, (g, node, node))
            np.add.at(injected, node, g * volts)
        (n_bl, f_bl, free_bl), (n_sl, f_sl, free_sl) = sides
        guess = np.zeros(n)
        for node, own, other in ((n_bl, v_bl, v_sl), (n_sl, v_sl, v_bl)):
            # a driven wire starts at its driver; a floating one at the mean of what its cells lead to
            start = np.where(np.isnan(own), np.where(np.isnan(other), sum(bounds) / 2, other), own)
            inner = node >= 0
            count = np.bincount(node[inner], minlength=n)
            mean = np.bincount(node[inner], start[inner], n) / np.maximum(count, 1)
            guess = np.where(count > 0, mean, guess)
        matrix = sparse.csc_matrix((wires[0], (wires[1], wires[2])), shape=(n, n))
        return cls((n_bl, n_sl), (f_bl, f_sl), matrix, injected, guess, bounds, free_bl, free_sl)

    def ends(self, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The potentials that each cell sees, on its bit line and on its source line."""
        bl, sl = (np.where(node >= 0, v[node], fixed) for node, fixed in zip(self.nodes, self.fixed, strict=True))
        return bl, sl

    def residual(self, v: FloatArray, current: FloatArray) -> FloatArray:
        """Net current (A) that leaves each node."""
        net: FloatArray = self.wires @ v - self.injected
        for sign, node in ((1.0, self.nodes[0]), (-1.0, self.nodes[1])):
            inner = node >= 0
            net += sign * np.bincount(node[inner], current[inner], net.size)
        return net

    def load(self, current: FloatArray) -> float:
        """The largest current (A) that the cells together bring to one node."""
        size = np.abs(current)
        return max(float(np.bincount(node[node >= 0], size[node >= 0], 1).max()) for node in self.nodes)

    def newton_step(self, net: FloatArray, g_bl: FloatArray, g_sl: FloatArray, g_node: float = 0.0) -> FloatArray:
        """Potential differences that cancel `net` for cells of slopes dI/dV_BL = g_bl and dI/dV_SL = -g_sl (S).

        g_node (S): held back at every node as by a capacitance over a time step.
        """
        (a, b), n = self.nodes, net.size
        parts = [(g_bl, a, a), (-g_sl, a, b), (-g_bl, b, a), (g_sl, b, b)]
        kept = [(g[ok], i[ok], j[ok]) for g, i, j in parts for ok in [(i >= 0) & (j >= 0)]]
        g, i, j = (np.concatenate([part[k] for part in kept]) for k in range(3))
        g, i, j = np.append(g, np.full(n, g_node)), np.append(i, np.arange(n)), np.append(j, np.arange(n))
        if n <= _DENSE:
            dense = self.wires.toarray()
            np.add.at(dense, (i, j), g)
            return np.linalg.solve(dense, -net)
        return splu((self.wires + sparse.csc_matrix((g, (i, j)), shape=(n, n))).tocsc()).solve(-net)


def solve(
    network: Network, current: Currents, guess: tuple[FloatArray, FloatArray] | None = None
) -> tuple[FloatArray, FloatArray]:
    """The potentials at each cell's bit line and source line end (V), for cells of curve `current(v_bl, v_sl)` (A).

    Raises `MeasurementError` when Newton's iterations reach neither `TOLERANCE` of the largest current at a
    node nor `SETTLED`, nor end below `STALLED`.
    """
    v = network.guess.copy()
    if guess is not None:
        for node, volts in zip(network.nodes, guess, strict=True):
            v[node[node >= 0]] = volts[node >= 0]
    # below this is what the subtraction of two ends of a good wire leaves, and no current that anyone measures
    floor = 16 * np.finfo(float).eps * float(network.wires.diagonal().max()) * max(map(abs, network.bounds)) + FLOOR
    ends = network.ends(v)
    i = current(*ends)
    net = network.residual(v, i)
    for _ in range(_ITERATIONS):
        worst, limit = float(np.abs(net).max()), TOLERANCE * network.load(i) + floor
        if worst <= limit:
            return ends
        # probe towards less voltage: a model may refuse more than the drivers give
        probe = np.where(ends[0] > ends[1], -PROBE, PROBE)
        g_bl = np.maximum((current(ends[0] + probe, ends[1]) - i) / probe, 0.0)
        g_sl = np.maximum((current(ends[0], ends[1] - probe) - i) / probe, 0.0)
        step = network.newton_step(net, g_bl + G_LEAK, g_sl + G_LEAK)
        longest = float(np.abs(step).max())
        if longest <= SETTLED:
            return ends
        size, allowed = float(net @ net), 1.0
        for held_back in (0.0, worst / STEP):
            if held_back:
                # a saturated transistor has next to no slope and asks for megavolts; a capacitance at each node does
                # not. Its current stays as it is until the turn: go on, but not far beyond
                step, allowed = network.newton_step(net, g_bl + G_LEAK, g_sl + G_LEAK, held_back), 2.0
            elif longest > STEP:
                continue
            for halvings in range(_HALVINGS):
                trial = np.clip(v + step / 2**halvings, *network.bounds)  # no potential leaves the drivers' range
                trial_ends = network.ends(trial)
                trial_i = current(*trial_ends)
                trial_net = network.residual(trial, trial_i)
                found = float(trial_net @ trial_net)
                if found < allowed * size:
                    break
            if found < allowed * size:
                break
        v, ends, i, net = trial, trial_ends, trial_i, trial_net
    if worst <= STALLED:
        return ends
    raise MeasurementError(
        f"the line potentials do not settle: {worst:.3g} A is left at a node, the limit is {limit:.3g} A;"
        " lower the voltages or the line resistance"
    )


_Triples = tuple[FloatArray, NDArray[np.intp], NDArray[np.intp]]


def _append(wires: _Triples, *more: _Triples) -> _Triples:
    g, a, b = (np.concatenate([wires[k], *(part[k] for part in more)]) for k in range(3))
    return g, a, b
