"""The reference solution of a crossbar: every node written down, one sparse LU factorisation, reused.

It shares nothing with the conjugate gradients but the meaning of `Wires`, and it takes ideal lines (0 Ω) too: their
nodes merge. Method: modified nodal analysis with the drivers' potentials eliminated (Ho, Ruehli and Brennan,
IEEE Trans. Circuits Syst. 22:504, 1975), SuperLU.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from labctl.models.device import FloatArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """The lines of one direction: segments (Ω), the conductances at both ends (S, a line each), and which float."""

    segment: float
    first: FloatArray
    last: FloatArray
    leak: FloatArray
    floating: Bools


class DirectSolver:
    """LU of the nodal matrix for one state, one set of wires and one pattern of floating lines."""

    def __init__(self, g: FloatArray, rows: Side, columns: Side) -> None:
        m, n = g.shape
        at = np.arange(m * n).reshape(m, n)
        self._g = g
        # node numbers; drivers come after them: rows first, then columns
        row_node, size = _number(rows, at, 0)
        column_node, size = _number(columns, at.T, size)
        column_node = column_node.T
        driver = size + np.arange(m + n)
        for node, own in ((row_node, driver[:m]), (column_node.T, driver[m:])):
            node[:] = np.where(node < 0, own[:, None], node)
        edges = [(row_node.ravel(), column_node.ravel(), g.ravel())]
        for node, side, own in ((row_node, rows, driver[:m]), (column_node.T, columns, driver[m:])):
            if side.segment > 0:
                wire = np.full(node[:, 1:].size, 1 / side.segment)
                edges.append((node[:, 1:].ravel(), node[:, :-1].ravel(), wire))
            ends = np.isfinite(side.first)  # infinite: the line is its driver
            edges += [(node[ends, 0], own[ends], side.first[ends]), (node[ends, -1], own[ends], side.last[ends])]
        a, b, conductance = (np.concatenate([edge[k] for edge in edges]) for k in range(3))
        total = size + m + n
        off = sparse.coo_matrix((conductance, (a, b)), shape=(total, total)).tocsr()
        off = off + off.T
        nodal = sparse.diags_array(np.asarray(off.sum(1)).ravel()) - off
        leak = np.zeros(total)
        for node, side in ((row_node, rows), (column_node.T, columns)):
            np.add.at(leak, node, np.broadcast_to(side.leak[:, None], node.shape))
        inner = (nodal + sparse.diags_array(leak)).tocsc()[:size]
        self._to_drivers = inner[:, size:]
        self._lu = splu(inner[:, :size]) if size else None
        self._nodes = row_node, column_node

    def solve(self, v_rows: FloatArray, v_columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Potentials along rows and columns, each (m, n); floating lines' entries in the arguments must be 0."""
        drivers = np.concatenate([v_rows, v_columns])
        inner = self._lu.solve(-(self._to_drivers @ drivers)) if self._lu else np.zeros(0)
        v = np.concatenate([inner, drivers])
        return v[self._nodes[0]], v[self._nodes[1]]


def _number(side: Side, at: NDArray[np.intp], start: int) -> tuple[NDArray[np.intp], int]:
    """Node numbers, lines × positions: one a cell; one a line where wires are ideal; -1 where a line is its driver."""
    lines, length = at.shape
    if side.segment > 0:
        return start + np.arange(lines * length).reshape(lines, length), start + lines * length
    inner = np.isfinite(side.first)
    node = np.full(lines, -1)
    node[inner] = start + np.arange(inner.sum())
    return np.repeat(node[:, None], length, 1), start + int(inner.sum())
