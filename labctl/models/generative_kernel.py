"""Fused kernels of the generative model: draw a cycle, SET, RESET.

Cells live in blocks of LANES, one vector of `simd` a quantity. Voltages have the sign of the paper here:
U = v_sl - v_bl, negative for a SET.

A history is a ring of p latent vectors, and x_n takes the place of x_{n-p}, which is no longer needed. So a cell that
draws computes its next p vectors at once, each in the place of the one that is p older, and then takes one a cycle: the
history moves through memory once in p cycles instead of at each. The normals belong to (cell, cycle), so the values are
those that would have been drawn one by one. Block b is due where the slot is b modulo p, or all would be due at once.

Only IEEE operations in a fixed order (see `simd`): a cell's result has the same bits on any machine, for any number of
threads and any selection of cells.
"""

from typing import Any, NamedTuple

import numpy as np

from labctl.models.generative_math import exp2, f4, four_normals, horner, power, u4
from labctl.models.generative_state import (
    DRAW,
    IN_HRS,
    IN_LRS,
    LIMITED,
    STUCK,
    TILE,
    Y_HRS,
    Y_LRS,
    Y_RESET,
    Y_SET,
)
from labctl.models.simd import (
    LANES,
    choose,
    counted,
    every,
    greater,
    inline,
    jit,
    lesser,
    load,
    lowest,
    pack,
    pointer,
    pointers,
    prefetch,
    put,
    size,
    some,
    splat,
    spread,
    store,
    unpack,
)

AHEAD = 8
"""Blocks from a prefetch to its use."""


@inline
def mix(u: Any, r: Any, tables: Any) -> Any:
    """I(U) = (1 - r) I_LLRS(U) + r I_HHRS(U)."""
    return (f4(1.0) - r) * horner(tables.llrs, u) + r * horner(tables.hhrs, u)


@inline
def ratio_hrs(y: Any, tables: Any) -> Any:
    """Mixing r = (G_L - 1/R) / (G_L - G_H) of R = 10**y."""
    return (tables.g_l - exp2(y * f4(-3.321928094887362))) / tables.span


@inline
def feature(f: Any, x: Any, b: Any, device: Any, gamma: Any) -> Any:
    """Feature f of block b: y = mu + sigma Gamma(x)."""
    at = (8 * b + f) * LANES
    v = spread(gamma, 5 * f) * x + spread(gamma, 5 * f + 1)
    v = v * x + spread(gamma, 5 * f + 2)
    v = v * x + spread(gamma, 5 * f + 3)
    v = v * x + spread(gamma, 5 * f + 4)
    return load(device, at) + load(device, at + 4 * LANES) * v


@inline
def apply_matrix(m: Any, at: Any, x0: Any, x1: Any, x2: Any, x3: Any, e: Any, i: Any) -> Any:
    """x + M e, with the (4, 4) matrix M at `at` and the four vectors of e at `i`."""
    for k in range(4):  # e by e, or there are more vectors at a time than registers
        v = load(e, i + k * LANES)
        x0 += spread(m, at + k) * v
        x1 += spread(m, at + 4 + k) * v
        x2 += spread(m, at + 8 + k) * v
        x3 += spread(m, at + 12 + k) * v
    return x0, x1, x2, x3


@jit
def run_ahead(
    ring: Any, at: Any, slot: Any, n: Any, cell: Any, count: Any, p: Any, innovation: Any, lags: Any, k0: Any, k1: Any,
    e: Any,
) -> None:  # fmt: skip
    """The next n latent vectors x = L e + sum A_i x_{-i} of 16 lanes, into the ring (p vectors from `at`) from `slot`.

    cell, count: words; count is that of the first of the n cycles.
    """
    for j in range(n):
        z0, z1, z2, z3 = four_normals(cell, count + u4(j), DRAW, k0, k1)
        store(e, 4 * LANES * j, z0)
        store(e, 4 * LANES * j + LANES, z1)
        store(e, 4 * LANES * j + 2 * LANES, z2)
        store(e, 4 * LANES * j + 3 * LANES, z3)
    for j in range(n):
        zero = splat(f4(0.0))
        x0, x1, x2, x3 = zero, zero, zero, zero
        to = slot + j if slot + j < p else slot + j - p
        h = to
        for i in range(p):  # oldest first: small terms before large ones lose less to rounding
            x0, x1, x2, x3 = apply_matrix(lags, 16 * (p - 1 - i), x0, x1, x2, x3, ring, at + 4 * LANES * h)
            h = h + 1 if h + 1 < p else 0
        x0, x1, x2, x3 = apply_matrix(innovation, 0, x0, x1, x2, x3, e, 4 * LANES * j)
        to = at + 4 * LANES * to
        store(ring, to, x0)
        store(ring, to + LANES, x1)
        store(ring, to + 2 * LANES, x2)
        store(ring, to + 3 * LANES, x3)


@inline
def ahead(b: Any, slot: Any, p: Any) -> Any:
    """How many cycles a cell of block b computes when it is due at `slot`."""
    n = b % p - slot
    return n if n > 0 else n + p


@inline
def due(b: Any, slot: Any, count: Any, p: Any) -> Any:
    """The lanes whose next vector is not yet in the ring: at the block's slot, or fresh."""
    return (slot == u4(b % p)) | (count == u4(0))


@inline
def _fetch(at: Any, first: Any, lines: Any) -> None:
    """Prefetch so many rows of LANES float32, a cache line each."""
    for i in range(lines):
        prefetch(at, first + i * LANES)


@inline
def refill(b: Any, lanes: Any, state: Any, tables: Any, scratch: Any) -> None:
    """Compute ahead for the marked lanes of block b that are due: now if all 16 are, else put them on the list."""
    p = tables.order
    slot, count = load(state.slot, b * LANES), load(state.count, b * LANES)
    marked = lanes & due(b, slot, count, p)
    if some(marked):
        s = np.intp(state.slot[b * LANES])
        if every(marked & (slot == u4(s))):
            first = counted(u4(b * LANES))
            given = (p, tables.innovation, tables.lags, tables.k0, tables.k1, scratch.e)
            run_ahead(state.hist, b * p * 4 * LANES, s, ahead(b, s, p), first, count, *given)
            _fetch(state.hist, (b + p) * p * 4 * LANES, 4 * p)  # the block that is due next, if cells go together
        else:
            _fetch(state.hist, b * p * 4 * LANES, 4 * p)
            left, n = pack(marked), scratch.listed[0]
            while left:
                scratch.lane[n] = b * LANES + lowest(left)
                left &= left - 1
                n += 1
            scratch.listed[0] = n


@jit
def refill_listed(state: Any, tables: Any, scratch: Any) -> None:
    """Compute ahead for the listed cells, 16 side by side, their histories oldest first."""
    p = tables.order
    hist, slot, count = state.hist, state.slot, state.count
    ring, total = scratch.hist, scratch.listed[0]
    step = 4 * LANES
    for first in range(0, total, LANES):
        m = min(LANES, total - first)
        longest = 0
        for k in range(m):
            i = scratch.lane[first + k]
            b, s = i // LANES, np.intp(slot[i])
            scratch.cell[k], scratch.count[k] = u4(i), count[i]
            longest = max(longest, ahead(b, s, p))
            at = b * p * step + i % LANES
            for j in range(p):
                put = (j - s if j >= s else j - s + p) * step + k
                for f in range(0, step, LANES):
                    ring[put + f] = hist[at + j * step + f]
        cell, past = load(scratch.cell, 0), load(scratch.count, 0)
        given = (p, tables.innovation, tables.lags, tables.k0, tables.k1, scratch.e)
        run_ahead(ring, 0, 0, longest, cell, past, *given)
        for k in range(m):
            i = scratch.lane[first + k]
            b, s = i // LANES, np.intp(slot[i])
            at = b * p * step + i % LANES
            for j in range(ahead(b, s, p)):
                put = (s + j if s + j < p else s + j - p) * step + at
                for f in range(0, step, LANES):
                    hist[put + f] = ring[j * step + f + k]
    scratch.listed[0] = 0


@inline
def take(b: Any, lanes: Any, state: Any, tables: Any, scratch: Any, out: Any, to: Any) -> None:
    """Go to the next cycle in the marked lanes of block b: its features into out, from flat index `to`."""
    p = tables.order
    at, ring = b * LANES, b * p * 4 * LANES
    slot = load(state.slot, at)
    s = np.intp(state.slot[b * LANES])
    x, i = state.hist, ring + s * 4 * LANES
    if not every(slot == u4(s)):
        left = pack(lanes)
        while left:
            lane = lowest(left)
            left &= left - 1
            h = ring + np.intp(state.slot[at + lane]) * 4 * LANES + lane
            for f in range(0, 4 * LANES, LANES):
                scratch.x[f + lane] = state.hist[h + f]
        x, i = scratch.x, 0
    for f in range(4):
        y = feature(f, load(x, i + f * LANES), b, state.device, tables.gamma)
        put(out, to + f * LANES, lanes, y)
    put(state.count, at, lanes, load(state.count, at) + u4(1))
    put(state.slot, at, lanes, choose(slot == u4(p - 1), u4(0), slot + u4(1)))


class Rows(NamedTuple):
    """Voltages or currents of samples: (samples or 1, 1), or (samples or 1, selected blocks * LANES)."""

    at: Any
    step: Any  # from sample to sample
    shared: Any  # whether all lanes share one value


@inline
def rows(source: Any) -> Any:
    """`source` as `Rows`."""
    return Rows(pointer(source), source.shape[1] if source.shape[0] > 1 else 0, source.shape[1] == 1)


@inline
def row_of(source: Any, t: Any, k: Any) -> Any:
    """One sample's values for the k-th selected block."""
    at = t * source.step
    return spread(source.at, at) if source.shared else load(source.at, at + k * LANES)


@inline
def _set(b: Any, u: Any, sat: Any, limited: Any, lanes: Any, state: Any, tables: Any) -> None:
    """SET the marked lanes: to the drawn LRS, or as far as the gate's current `sat` allows at u."""
    at, y = b * LANES, 4 * b * LANES
    target = (tables.g_l - f4(1.0) / load(state.y, y + Y_LRS * LANES)) / tables.span
    bits = splat(u4(IN_LRS))
    if limited:
        low, high = horner(tables.llrs, u), horner(tables.hhrs, u)
        stop = (-sat - low) / (high - low)  # the mixing r that carries -sat
        stopped = stop > target
        target = choose(stopped, stop, target)
        bits = choose(stopped, u4(IN_LRS | LIMITED), bits)
    put(state.flags, at, lanes, bits)
    put(state.ratio, at, lanes, target)
    put(state.threshold, at, lanes, load(state.y, y + Y_RESET * LANES))


@inline
def _reset(b: Any, u: Any, lanes: Any, state: Any, tables: Any, scratch: Any) -> None:
    """RESET the marked lanes of block b; those that leave the LRS take their next cycle, which lies in the ring.

    Below U_max the current follows I(U) = a |U_max - U|**eta + c, from the threshold's current in the LRS to that of
    the new HRS at U_max; the mixing r is what gives this current.
    """
    at, y = b * LANES, 4 * b * LANES
    u_max, eta, i_l, i_h = tables.u_max, tables.eta, tables.i_l, tables.i_h
    flags, ratio, threshold = load(state.flags, at), load(state.ratio, at), load(state.threshold, at)
    drawing = lanes & ((flags & u4(IN_LRS)) != u4(0))
    partial = lanes & (u < u_max)
    if some(drawing):
        take(b, drawing, state, tables, scratch, state.y, y)
    target = ratio_hrs(load(state.y, y + Y_HRS * LANES), tables)
    if some(partial):
        end = (f4(1.0) - target) * i_l + target * i_h
        slope = load(state.slope, at)
        if some(partial & drawing):
            a = (mix(threshold, ratio, tables) - end) / power(greater(size(u_max - threshold), f4(1e-6)), eta)
            slope = choose(partial & drawing, a, slope)
            put(state.slope, at, partial & drawing, a)
        now = slope * power(greater(size(u_max - u), f4(1e-6)), eta) + end
        low, high = horner(tables.llrs, u), horner(tables.hhrs, u)
        target = choose(partial, (now - low) / (high - low), target)
    put(state.ratio, at, lanes, target)
    put(state.threshold, at, lanes, u)
    put(state.flags, at, lanes, choose(partial, u4(0), splat(u4(IN_HRS))))


@inline
def _fetch_next(b: Any, lanes: Any, state: Any, p: Any) -> None:
    """Prefetch the latent vectors that `take` will read."""
    slot = load(state.slot, b * LANES)
    if every(slot == u4(state.slot[b * LANES])):
        _fetch(state.hist, (b * p + np.intp(state.slot[b * LANES])) * 4 * LANES, 4)
    else:
        left = pack(lanes)
        while left:
            _fetch(state.hist, (b * p + np.intp(state.slot[b * LANES + lowest(left)])) * 4 * LANES, 4)
            left &= left - 1


@inline
def _switch(b: Any, k: Any, u: Any, v: Any, sat: Any, limited: Any, state: Any, tables: Any, scratch: Any) -> None:
    """Find the lanes of block b, k-th of its tile, whose thresholds the drive v passes; SET those, note the RESETs."""
    at = b * LANES
    flags, threshold = load(state.flags, at), load(state.threshold, at)
    low, high = (flags & u4(IN_LRS | LIMITED)) != u4(IN_LRS), (flags & u4(IN_HRS)) == u4(0)
    free = (flags & u4(STUCK)) == u4(0)
    to_set = free & low & (v <= load(state.y, (4 * b + Y_SET) * LANES))
    to_reset = free & high & (v > threshold)
    if limited:  # the gate must carry the cell's current before switching
        ratio = load(state.ratio, at)
        to_set &= size(mix(u, ratio, tables)) < sat
        to_reset &= size(mix(threshold, ratio, tables)) < sat
    if some(to_set):
        _set(b, u, sat, limited, to_set, state, tables)
    scratch.sets[k], scratch.resets[k] = pack(to_set), pack(to_reset)
    drawing = to_reset & ((flags & u4(IN_LRS)) != u4(0))
    if some(drawing):
        _fetch_next(b, drawing, state, tables.order)
        _fetch(state.device, b * 8 * LANES, 8)
        refill(b, drawing, state, tables, scratch)


@jit
def _age(b: Any, u: Any, t: Any, k: Any, switched: Any, width: Any, now: Any, state: Any) -> None:
    """A cell that switched is born at the end of the hold; another that was held is older by the hold."""
    for i in range(LANES):
        at = b * LANES + i
        if (switched >> i) & 1:
            state.born[at], state.aged[at] = now[0], f4(now[1])
        elif u.shared or not np.isnan(u.at[t * u.step + k * LANES + i]):
            state.born[at] -= width
            state.aged[at] = f4(state.aged[at] - width * now[2])


@jit
def pulse_blocks(
    lo: Any, hi: Any, blocks: Any, u: Any, drive: Any, sat: Any, widths: Any, now: Any, state: Any, tables: Any,
    scratch: Any, out: Any,
) -> None:  # fmt: skip
    """Apply samples to the blocks blocks[lo:hi]; a tile of blocks stays in cache for all samples.

    u, drive, sat: (samples or 1, 1) or (samples or 1, len(blocks) * LANES): voltage, equivalent voltage at the
    reference width, saturation current of the gate; NaN voltage means a cell that is not selected. widths (samples,)
    and now (time, retention time, seconds of the latter a second) are for the cells' ages. out: (samples,
    len(blocks) * LANES) takes the currents, BL to SL; (0, 0) takes none.
    """
    limited = False
    for value in sat.flat:
        limited |= value < np.inf
    samples, ages, wanted, width = drive.shape[0], state.born.shape[0] > 0, out.shape[0] > 0, out.shape[1]
    u, drive, sat, out, blocks = rows(u), rows(drive), rows(sat), pointer(out), pointer(blocks)
    now, widths = pointer(now), pointer(widths)
    state, tables, scratch = pointers(state), pointers(tables), pointers(scratch)
    for first in range(lo, hi, TILE):
        last = min(first + TILE, hi)
        for t in range(samples):
            for k in range(first, last):
                if k + AHEAD < hi:
                    _fetch(state.y, blocks[k + AHEAD] * 4 * LANES, 4)
                    _fetch(state.threshold, blocks[k + AHEAD] * LANES, 1)
                _switch(
                    blocks[k],
                    k - first,
                    row_of(u, t, k),
                    row_of(drive, t, k),
                    row_of(sat, t, k),
                    limited,
                    state,
                    tables,
                    scratch,
                )
            refill_listed(state, tables, scratch)
            low, high = horner(tables.llrs, row_of(u, t, first)), horner(tables.hhrs, row_of(u, t, first))
            for k in range(first, last):
                b = blocks[k]
                switched = scratch.resets[k - first]
                if switched != 0:
                    _reset(b, row_of(drive, t, k), unpack(switched), state, tables, scratch)
                if ages:
                    _age(b, u, t, k, switched | scratch.sets[k - first], widths[t], now, state)
                if wanted:
                    if not u.shared:
                        low, high = horner(tables.llrs, row_of(u, t, k)), horner(tables.hhrs, row_of(u, t, k))
                    most, r = row_of(sat, t, k), load(state.ratio, b * LANES)
                    current = (f4(1.0) - r) * low + r * high
                    store(out, t * width + k * LANES, -lesser(greater(current, -most), most))
