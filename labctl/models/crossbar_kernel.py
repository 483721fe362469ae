"""Conjugate gradients for a crossbar with resistive lines: rows eliminated exactly, columns as the preconditioner.

With u, w the potentials along rows and columns, D = diag(G), T and S the wires of rows and columns (tridiagonal, a line
each), Kirchhoff's law is (T + D)u − Dw = b_row and (S + D)w − Du = b_column. Without u: A w = b_column +
D(T + D)⁻¹b_row, A = S + D − D(T + D)⁻¹D, symmetric and positive. S + D, one tridiagonal a column, is nearly A as long
as a row's drop is small against its voltage: a few iterations. Method: Hestenes and Stiefel, J. Res. NBS 49:409, 1952,
with that preconditioner; tridiagonals by Cholesky's recurrence. All arrays are (rows, columns), float64. No
fastmath, and sums go column by column: the same input gives the same bits.
"""

import numpy as np
from numba import njit

from labctl.models.device import FloatArray


@njit(cache=True, nogil=True)
def factor(
    g: FloatArray, wire: float, first: FloatArray, last: FloatArray, leak: FloatArray, along_rows: bool
) -> FloatArray:
    """Inverse pivots of wire + diag(g), line by line; first, last, leak: conductance of each line's ends and nodes."""
    m, n = g.shape
    out = np.empty((m, n))
    if along_rows:
        for i in range(m):
            carried = 0.0
            for j in range(n):
                d = g[i, j] + leak[i] + (first[i] if j == 0 else wire) + (last[i] if j == n - 1 else wire)
                carried = 1.0 / (d - wire * wire * carried)
                out[i, j] = carried
    else:
        for i in range(m):
            for j in range(n):
                d = g[i, j] + leak[j] + (first[j] if i == 0 else wire) + (last[j] if i == m - 1 else wire)
                out[i, j] = 1.0 / (d if i == 0 else d - wire * wire * out[i - 1, j])
    return out


@njit(cache=True, nogil=True)
def solve_rows(f: FloatArray, pivots: FloatArray, wire: float, out: FloatArray) -> None:
    """out = (T + D)⁻¹ f, row by row."""
    m, n = f.shape
    for i in range(m):
        carried = 0.0
        for j in range(n):
            carried = pivots[i, j] * f[i, j] + wire * pivots[i, j] * carried
            out[i, j] = carried
        for j in range(n - 2, -1, -1):
            carried = out[i, j] + wire * pivots[i, j] * carried
            out[i, j] = carried


@njit(cache=True, nogil=True)
def solve_columns(f: FloatArray, pivots: FloatArray, wire: float, out: FloatArray) -> float:
    """out = (S + D)⁻¹ f, all columns side by side; returns f·out."""
    m, n = f.shape
    for j in range(n):
        out[0, j] = pivots[0, j] * f[0, j]
    for i in range(1, m):
        for j in range(n):
            out[i, j] = pivots[i, j] * (f[i, j] + wire * out[i - 1, j])
    sums = np.empty(n)
    for j in range(n):
        sums[j] = f[m - 1, j] * out[m - 1, j]
    for i in range(m - 2, -1, -1):
        for j in range(n):
            out[i, j] += wire * pivots[i, j] * out[i + 1, j]
            sums[j] += f[i, j] * out[i, j]
    return float(sums.sum())


@njit(cache=True, nogil=True)
def apply(
    p: FloatArray,
    g: FloatArray,
    row_pivots: FloatArray,
    row_wire: float,
    column_wire: float,
    top: FloatArray,
    bottom: FloatArray,
    leak: FloatArray,
    out: FloatArray,
) -> float:
    """out = A p; returns p·out."""
    m, n = p.shape
    y, sums = np.empty(n), np.zeros(n)
    for i in range(m):
        carried = 0.0
        for j in range(n):
            carried = row_pivots[i, j] * g[i, j] * p[i, j] + row_wire * row_pivots[i, j] * carried
            y[j] = carried
        for j in range(n - 2, -1, -1):
            carried = y[j] + row_wire * row_pivots[i, j] * carried
            y[j] = carried
        for j in range(n):
            q = g[i, j] * (p[i, j] - y[j]) + leak[j] * p[i, j]
            q += column_wire * (p[i, j] - p[i - 1, j]) if i > 0 else top[j] * p[i, j]
            q += column_wire * (p[i, j] - p[i + 1, j]) if i < m - 1 else bottom[j] * p[i, j]
            out[i, j] = q
            sums[j] += p[i, j] * q
    return float(sums.sum())


@njit(cache=True, nogil=True)
def conjugate_gradients(
    b: FloatArray,
    g: FloatArray,
    row_pivots: FloatArray,
    column_pivots: FloatArray,
    row_wire: float,
    column_wire: float,
    top: FloatArray,
    bottom: FloatArray,
    leak: FloatArray,
    tolerance: float,
    limit: int,
    w: FloatArray,
) -> tuple[int, float]:
    """w = A⁻¹ b; returns the iterations used and the estimated error in the energy norm, relative to the solution's."""
    m, n = b.shape
    r, z, p, q = b.copy(), np.empty((m, n)), np.empty((m, n)), np.empty((m, n))
    w[:] = 0.0
    rho = solve_columns(r, column_pivots, column_wire, z)
    p[:] = z
    energy, gain, error = 0.0, 0.0, 0.0
    ratio_before = 1.0
    for k in range(limit):
        if rho <= 0.0:
            return k, 0.0
        alpha = rho / apply(p, g, row_pivots, row_wire, column_wire, top, bottom, leak, q)
        for i in range(m):
            for j in range(n):
                w[i, j] += alpha * p[i, j]
                r[i, j] -= alpha * q[i, j]
        # the squared energy norm of w grows by alpha·rho a step (Hestenes and Stiefel, theorem 6:1); what is still
        # missing is the sum of the steps to come, a geometric series as long as they shrink at the present ratio
        ratio = alpha * rho / gain if gain > 0.0 else 1.0
        gain = alpha * rho
        energy += gain
        worse = max(ratio, ratio_before)
        ratio_before = ratio
        last = rho
        rho = solve_columns(r, column_pivots, column_wire, z)
        # and it is at least the residual's norm, A being below S + D: a single short step is not the end
        left = gain * worse / (1.0 - worse) if worse < 1.0 else np.inf
        error = np.sqrt(max(left, rho) / energy)
        if error <= tolerance:
            return k + 1, error
        beta = rho / last
        for i in range(m):
            for j in range(n):
                p[i, j] = z[i, j] + beta * p[i, j]
    return limit, error
