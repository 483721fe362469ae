"""Kernels of the generative model that do not switch: fresh cells, reads, and the way of voltages into lanes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.models.generative_kernel import feature, ratio_hrs, refill, refill_listed, row_of, rows, take
from labctl.models.generative_math import exp2, f4, four_normals, horner, ln, philox, u4
from labctl.models.generative_params import GenerativeParams
from labctl.models.generative_state import DEVICE, HISTORY, NOISE, Y_HRS, Y_RESET, Tables
from labctl.models.simd import (
    LANES,
    choose,
    counted,
    greater,
    inline,
    jit,
    lane_of,
    lesser,
    load,
    pointer,
    pointers,
    size,
    splat,
    spread,
    sqrt,
    store,
    to_floats,
)


@inline
def _lines(v: Any, part: Any, thermal: Any, shot: Any, tables: Any) -> Any:
    """Currents of LLRS and HHRS at v, times `part`, and the noise's variance a current."""
    v = choose(v == f4(0.0), f4(1e-12), v)
    return part * horner(tables.llrs, v), part * horner(tables.hhrs, v), thermal / size(v) + shot


@jit
def read_blocks(
    lo: Any, hi: Any, blocks: Any, u: Any, sat: Any, factor: Any, ratio: Any, thermal: Any, shot: Any, call: Any,
    tables: Any, z: Any, out: Any,
) -> None:  # fmt: skip
    """Currents at u (BL to SL, so of the sign of -u), with Gaussian noise of variance thermal |I/U| + shot |I|.

    factor: (1, 1), or one on the current of each lane. The normals belong to (cell, call); one counter serves the
    cells of a lane in four blocks. z: room for 4 * LANES float32.
    """
    u, sat, factor, ratio, blocks = rows(u), rows(sat), rows(factor), pointer(ratio), pointer(blocks)
    tables, z, out = pointers(tables), pointer(z), pointer(out)
    k0, k1 = tables.k0, tables.k1
    drawn, fixed = -1, u.shared and factor.shared
    i_low, i_high, inverse = _lines(row_of(u, 0, lo), row_of(factor, 0, lo), thermal, shot, tables)
    for k in range(lo, hi):
        b = blocks[k]
        if b >> 2 != drawn:
            drawn = b >> 2
            z0, z1, z2, z3 = four_normals(counted(u4(drawn * LANES)), call, NOISE, k0, k1)
            store(z, 0, z0)
            store(z, LANES, z1)
            store(z, 2 * LANES, z2)
            store(z, 3 * LANES, z3)
        if not fixed:
            i_low, i_high, inverse = _lines(row_of(u, 0, k), row_of(factor, 0, k), thermal, shot, tables)
        r, most = load(ratio, b * LANES), row_of(sat, 0, k)
        now = (f4(1.0) - r) * i_low + r * i_high
        now = lesser(greater(now, -most), most)
        noise = load(z, (b & 3) * LANES) * sqrt(size(now) * inverse)
        store(out, k * LANES, -(now + noise))


@jit
def fresh_blocks(
    lo: Any, hi: Any, state: Any, tables: Any, z: Any, root: Any, means: Any, spreads: Any, edges: Any
) -> None:
    """Stationary fresh cells in blocks lo … hi: devices from the mixture, history from the process, in the HRS.

    root (4p, 4p): Cholesky factor of the covariance of (x_n, x_n-1, …, x_n-p+1); means (K, 8), spreads (K, 8, 8)
    lower triangular; edges (K,): cumulative weights. z: room for 4 (p + 2) LANES float32.
    """
    p = tables.order
    state, tables, z = pointers(state), pointers(tables), pointer(z)
    k0, k1 = tables.k0, tables.k1
    for b in range(lo, hi):
        cell = counted(u4(b * LANES))
        for i in range(p + 2):  # p vectors of the history, two of the device
            index, purpose = (u4(i), u4(HISTORY)) if i < p else (u4(i - p), u4(DEVICE))
            n0, n1, n2, n3 = four_normals(cell, index, purpose, k0, k1)
            store(z, 4 * LANES * i, n0)
            store(z, 4 * LANES * i + LANES, n1)
            store(z, 4 * LANES * i + 2 * LANES, n2)
            store(z, 4 * LANES * i + 3 * LANES, n3)
        zero = splat(u4(0))
        word, _, _, _ = philox(cell, zero + u4(2), zero + u4(DEVICE), zero, k0, k1)
        uniform = to_floats(word >> u4(8)) * f4(5.9604644775390625e-08)
        for row in range(8):
            at = (8 * b + row) * LANES
            for k in range(edges.size):
                v = splat(means[k, row])
                for column in range(row + 1):
                    v += spreads[k, row, column] * load(z, (4 * p + column) * LANES)
                # a component takes the lanes that are beyond the edge of the one before
                store(state.device, at, choose(uniform >= edges[k - 1], v, load(state.device, at)) if k > 0 else v)
        for row in range(4 * p):
            v = splat(f4(0.0))
            for column in range(row + 1):
                v += root[row, column] * load(z, column * LANES)
            store(state.hist, ((b * p + p - 1 - row // 4) * 4 + row % 4) * LANES, v)  # newest in the last slot
        for f in range(4):
            x = load(state.hist, ((b * p + p - 1) * 4 + f) * LANES)
            store(state.y, (4 * b + f) * LANES, feature(f, x, b, state.device, tables.gamma))
        store(state.ratio, b * LANES, ratio_hrs(load(state.y, (4 * b + Y_HRS) * LANES), tables))
        store(state.threshold, b * LANES, load(state.y, (4 * b + Y_RESET) * LANES))


@jit
def cycle_blocks(lo: Any, hi: Any, state: Any, tables: Any, scratch: Any, out: Any) -> None:
    """Draw cycle after cycle of all lanes, without voltages; out (cycles, blocks, 4, LANES) takes y."""
    cycles, blocks = out.shape[0], out.shape[1]
    state, tables, scratch, out = pointers(state), pointers(tables), pointers(scratch), pointer(out)
    all_lanes = splat(u4(0)) == u4(0)
    for b in range(lo, hi):
        for t in range(cycles):
            refill(b, all_lanes, state, tables, scratch)
            refill_listed(state, tables, scratch)
            take(b, all_lanes, state, tables, scratch, out, (t * blocks + b) * 4 * LANES)


@jit
def place_volts(lo: Any, hi: Any, minus: Any, plus: Any, place: Any, limit: Any, out: Any) -> Any:
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
    """Voltage that does in the reference width what u does in scale times it (contiguous rows of whole blocks, or 1).

    |U_eq| = |U| + beta log10(s + (1 - s) 10**(-|U| / beta)).
    """
    count, u, to = u.size, pointer(u), pointer(out)
    for i in range(0, count, LANES):
        v = load(u, i) if count > 1 else spread(u, 0)
        beta = choose(v < f4(0.0), beta_set, splat(beta_reset))
        decay = exp2(greater(f4(-3.321928094887362) * size(v) / beta, f4(-120.0)))
        moved = greater(size(v) + beta * f4(0.4342944819032518) * ln(scale + (f4(1.0) - scale) * decay), f4(0.0))
        moved = choose(v < f4(0.0), -moved, moved)
        if count > 1:
            store(to, i, moved)
        else:
            to[0] = lane_of(moved, 0)


def tables(params: GenerativeParams, seed: int) -> Tables:
    """The parameters as the kernels take them."""
    eight = [tuple(np.float32(c) for c in np.pad(coef, (8 - coef.size, 0))) for coef in (params.llrs, params.hhrs)]
    at_read, at_max = (
        [np.float32(np.polyval(c, v)) for c in (params.llrs, params.hhrs)] for v in (params.u_read, params.u_max)
    )
    g_l, g_h = (np.float32(i / np.float32(params.u_read)) for i in at_read)
    return Tables(
        order=params.order,
        innovation=np.ascontiguousarray(params.innovation, np.float32),
        lags=np.ascontiguousarray(params.lags, np.float32),
        gamma=np.ascontiguousarray(params.gamma, np.float32),
        llrs=eight[0],
        hhrs=eight[1],
        g_l=g_l,
        g_h=g_h,
        span=g_l - g_h,
        u_max=np.float32(params.u_max),
        i_l=at_max[0],
        i_h=at_max[1],
        eta=np.float32(params.eta),
        k0=np.uint32(seed & 0xFFFFFFFF),
        k1=np.uint32(seed >> 32),
    )


def mixture(params: GenerativeParams) -> tuple[NDArray[np.float32], ...]:
    """What `fresh_blocks` takes: root, means, spreads, edges."""
    root = np.linalg.cholesky(params.covariance() + 1e-12 * np.eye(4 * params.order))
    edges = np.cumsum(params.weights) / params.weights.sum()
    return tuple(a.astype(np.float32) for a in (root, params.means, params.spreads, edges))
