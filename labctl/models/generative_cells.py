"""Kernels of the generative model that do not switch: fresh cells, reads, and the way of voltages into lanes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.models.generative_kernel import align, draw, features, place, ratio_hrs, row_of, scratch_of
from labctl.models.generative_math import choose, exp2, f4, four_normals, horner, jit, ln, philox, u4
from labctl.models.generative_params import GenerativeParams
from labctl.models.generative_state import CHUNK, DEVICE, HISTORY, IN_HRS, LANES, NOISE, Y_HRS, Y_RESET, Tables

GROUP = LANES // 4  # one counter of the read noise serves four lanes


@jit
def read_blocks(
    lo: Any, hi: Any, blocks: Any, u: Any, sat: Any, factor: Any, ratio: Any, thermal: Any, shot: Any, call: Any,
    tables: Any, out: Any,
) -> None:  # fmt: skip
    """Currents at u (BL to SL, so of the sign of -u), with Gaussian noise of variance thermal |I/U| + shot |I|.

    factor: (1, 1), or one on the current of each lane. The normals belong to (cell, call).
    """
    rows = np.empty((6, LANES), np.float32)
    uu, ss, ff, i_low, i_high, inverse = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    fixed = u.shape[1] == 1 and sat.shape[1] == 1 and factor.shape[1] == 1
    k0, k1 = tables.k0, tables.k1
    for k in range(lo, hi):
        b = blocks[k]
        if not fixed or k == lo:
            row_of(u, 0, k, uu)
            row_of(sat, 0, k, ss)
            row_of(factor, k, 0, ff)
            for i in range(LANES):
                v = choose(uu[i] == f4(0.0), f4(1e-12), uu[i])
                i_low[i], i_high[i] = ff[i] * horner(tables.llrs, v), ff[i] * horner(tables.hhrs, v)
                inverse[i] = thermal / abs(v) + shot
        r = ratio[b]
        o = out[k * LANES : (k + 1) * LANES]
        for j in range(GROUP):
            o[j], o[GROUP + j], o[2 * GROUP + j], o[3 * GROUP + j] = four_normals(b * GROUP + j, call, NOISE, k0, k1)
        for i in range(LANES):
            now = (f4(1.0) - r[i]) * i_low[i] + r[i] * i_high[i]
            now = min(max(now, -ss[i]), ss[i])
            o[i] = -(now + f4(o[i]) * np.sqrt(abs(now) * inverse[i]))


@jit
def fresh_blocks(lo: Any, hi: Any, state: Any, tables: Any, root: Any, means: Any, spreads: Any, edges: Any) -> None:
    """Stationary fresh cells in blocks lo … hi: devices from the mixture, history from the process, in the HRS.

    root (4p, 4p): Cholesky factor of the covariance of (x_n, x_n-1, …, x_n-p+1); means (K, 8), spreads (K, 8, 8)
    lower triangular; edges (K,): cumulative weights.
    """
    p = tables.lags.shape[0]
    z = np.empty((4 * p, LANES), np.float32)
    acc = np.empty(LANES, np.float32)
    x = np.empty(4 * LANES, np.float32)
    every = np.ones(LANES, np.uint8)
    k0, k1 = tables.k0, tables.k1
    for b in range(lo, hi):
        device, y = state.device[b], state.y[b]
        for lane in range(LANES):
            cell = b * LANES + lane
            w, _, _, _ = philox(u4(cell), u4(2), u4(DEVICE), u4(0), k0, k1)
            uniform = f4(np.int32(w >> u4(8))) * f4(5.9604644775390625e-08)
            k = 0
            while k < edges.size - 1 and uniform >= edges[k]:
                k += 1
            z[0, lane], z[1, lane], z[2, lane], z[3, lane] = four_normals(cell, 0, DEVICE, k0, k1)
            n4, n5, n6, n7 = four_normals(cell, 1, DEVICE, k0, k1)
            e = (z[0, lane], z[1, lane], z[2, lane], z[3, lane], n4, n5, n6, n7)
            for row in range(8):
                v = means[k, row]
                for column in range(row + 1):
                    v += spreads[k, row, column] * e[column]
                device[(8 * (lane // CHUNK) + row) * CHUNK + lane % CHUNK] = v
        for i in range(p):
            for lane in range(LANES):
                z[4 * i, lane], z[4 * i + 1, lane], z[4 * i + 2, lane], z[4 * i + 3, lane] = four_normals(
                    b * LANES + lane, i, HISTORY, k0, k1
                )
        for row in range(4 * p):
            for lane in range(LANES):
                acc[lane] = f4(0.0)
            for column in range(row + 1):
                c = root[row, column]
                for lane in range(LANES):
                    acc[lane] += c * z[column, lane]
            h = state.hist[b, p - 1 - row // 4]  # newest vector in the last slot, oldest in slot 0
            for lane in range(LANES):
                at = place(lane) + row % 4 * CHUNK
                h[at] = acc[lane]
                if row < 4:
                    x[at] = acc[lane]
        features(x, device, tables.gamma, y, every)
        for lane in range(LANES):
            state.ratio[b, lane] = ratio_hrs(y[Y_HRS, lane], tables)
            state.threshold[b, lane] = y[Y_RESET, lane]
            state.slope[b, lane] = f4(0.0)
            state.flags[b, lane] = IN_HRS


@jit
def align_blocks(lo: Any, hi: Any, state: Any) -> None:
    """Bring all lanes of the blocks to ring position 0, which changes how they lie and nothing else."""
    scratch = np.empty(state.hist.shape[1:], np.float32)
    for b in range(lo, hi):
        align(state.hist[b], state.slot[b], scratch)


@jit
def cycle_blocks(lo: Any, hi: Any, state: Any, tables: Any, out: Any) -> None:
    """Draw cycle after cycle of all lanes, without voltages; out (cycles, blocks, 4, LANES) takes y."""
    scratch = scratch_of(tables.lags.shape[0])
    every = np.ones(LANES, np.uint8)
    for b in range(lo, hi):
        for t in range(out.shape[0]):
            draw(b, every, state, tables, scratch)
            features(scratch.new, state.device[b], tables.gamma, out[t, b], every)


@jit
def spread(lo: Any, hi: Any, minus: Any, plus: Any, place: Any, limit: Any, out: Any) -> Any:
    """out = plus - minus of one sample, for the cells lo … hi, into lanes; the first cell out of bounds, or -1.

    minus, plus: one value or one a cell (float64). place: lane position of each cell; empty: cell i takes lane i.
    """
    same_minus, same_plus = minus.size == 1, plus.size == 1
    bad = False
    if place.size == 0:
        for i in range(lo, hi):
            v = plus[0 if same_plus else i] - minus[0 if same_minus else i]
            bad |= not abs(v) <= limit
            out[i] = v
    else:
        for i in range(lo, hi):
            v = plus[0 if same_plus else i] - minus[0 if same_minus else i]
            bad |= not abs(v) <= limit
            out[place[i]] = v
    if bad:
        for i in range(lo, hi):
            if not abs(plus[0 if same_plus else i] - minus[0 if same_minus else i]) <= limit:
                return i
    return -1


@jit
def equivalent(u: Any, scale: Any, beta_set: Any, beta_reset: Any, out: Any) -> None:
    """Voltage that does in the reference width what u does in scale times it (float32 arrays of one dimension).

    |U_eq| = |U| + beta log10(s + (1 - s) 10**(-|U| / beta)).
    """
    for i in range(u.size):
        beta = beta_set if u[i] < 0 else beta_reset
        size = abs(u[i])
        decay = exp2(max(f4(-3.321928094887362) * size / beta, f4(-120.0)))
        moved = max(size + beta * f4(0.4342944819032518) * ln(scale + (f4(1.0) - scale) * decay), f4(0.0))
        out[i] = -moved if u[i] < 0 else moved


def tables(params: GenerativeParams, seed: int) -> Tables:
    """The parameters as the kernels take them."""
    eight = [tuple(np.float32(c) for c in np.pad(coef, (8 - coef.size, 0))) for coef in (params.llrs, params.hhrs)]
    at_read, at_max = (
        [np.float32(np.polyval(c, v)) for c in (params.llrs, params.hhrs)] for v in (params.u_read, params.u_max)
    )
    return Tables(
        innovation=params.innovation.astype(np.float32),
        lags=params.lags.astype(np.float32),
        gamma=params.gamma.astype(np.float32),
        llrs=eight[0],
        hhrs=eight[1],
        g_l=at_read[0] / np.float32(params.u_read),
        g_h=at_read[1] / np.float32(params.u_read),
        u_max=np.float32(params.u_max),
        i_l=at_max[0],
        i_h=at_max[1],
        eta=np.float32(params.eta),
        k0=seed & 0xFFFFFFFF,
        k1=seed >> 32,
    )


def mixture(params: GenerativeParams) -> tuple[NDArray[np.float32], ...]:
    """What `fresh_blocks` takes: root, means, spreads, edges."""
    root = np.linalg.cholesky(params.covariance() + 1e-12 * np.eye(4 * params.order))
    edges = np.cumsum(params.weights) / params.weights.sum()
    return tuple(a.astype(np.float32) for a in (root, params.means, params.spreads, edges))
