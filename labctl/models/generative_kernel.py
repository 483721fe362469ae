"""Fused kernels of the generative model: draw a cycle, SET, RESET, read.

Cells live in blocks of `LANES`, so that the inner loops run over cells in SIMD registers. In a block a quantity is a
row of LANES. History and devices are larger than that and are stored by chunks of 16 lanes, quantity k (of R) of lane
16 q + c at 16 (R q + k) + c, so that memory is read strictly in order: twice as fast as R rows. Voltages have the sign
of the paper here: U = v_sl - v_bl, negative for a SET.

Only IEEE operations in a fixed order (see `generative_math`): a cell's result has the same bits on any machine, for any
number of threads and any selection of cells.
"""

from typing import Any

import numpy as np

from labctl.models.generative_math import (
    choose,
    exp2,
    f4,
    fetch,
    four_normals,
    horner,
    inline,
    jit,
    power,
    prefetch,
    sixteen,
    u4,
)
from labctl.models.generative_state import (
    BLOCK,
    CHUNK,
    CHUNKS,
    DRAW,
    IN_HRS,
    IN_LRS,
    LANES,
    LIMITED,
    ROW1,
    ROW2,
    ROW3,
    STUCK,
    Y_HRS,
    Y_LRS,
    Y_RESET,
    Y_SET,
    Scratch,
)


@jit
def total(mask: Any) -> Any:
    """How many lanes are masked."""
    n = np.int32(0)
    for lane in range(LANES):
        n = np.int32(n + np.int32(mask[lane]))
    return n


@inline
def mix(u: Any, r: Any, tables: Any) -> Any:
    """I(U) = (1 - r) I_LLRS(U) + r I_HHRS(U)."""
    return (f4(1.0) - r) * horner(tables.llrs, u) + r * horner(tables.hhrs, u)


@inline
def ratio_hrs(y: Any, tables: Any) -> Any:
    """Mixing r = (G_L - 1/R) / (G_L - G_H) of R = 10**y."""
    return (tables.g_l - exp2(f4(-3.321928094887362) * y)) / (tables.g_l - tables.g_h)


@jit
def features(x: Any, device: Any, gamma: Any, y: Any, mask: Any) -> None:
    """y = mu + sigma * Gamma(x) for the masked lanes."""
    for f in range(4):
        out = y[f]
        g0, g1, g2, g3, g4 = gamma[f, 0], gamma[f, 1], gamma[f, 2], gamma[f, 3], gamma[f, 4]
        for q in range(CHUNKS):
            at, mu = (4 * q + f) * CHUNK, (8 * q + f) * CHUNK
            sigma = mu + 4 * CHUNK
            for c in range(CHUNK):
                i = q * CHUNK + c
                v = x[at + c]
                v = (((g0 * v + g1) * v + g2) * v + g3) * v + g4
                out[i] = choose(mask[i], device[mu + c] + device[sigma + c] * v, out[i])


@jit
def _advance(n: Any, cell: Any, count: Any, hist: Any, oldest: Any, ahead: Any, tables: Any, e: Any, x: Any) -> None:
    """x_n = L e + sum A_i x_{n-i} of n lanes (rounded up to CHUNK); row `oldest` of hist is lag p, the next lag p - 1.

    `ahead` is the history that will be wanted next; it is prefetched in step, or memory and arithmetic take turns.
    The inner loops have a fixed length and an offset, the form that LLVM turns into vectors.
    """
    k0, k1 = tables.k0, tables.k1
    p = hist.shape[0]
    chunks = (n + CHUNK - 1) // CHUNK
    for q in range(chunks):
        z = q * 4 * CHUNK
        for c in range(CHUNK):
            i = q * CHUNK + c
            e[z + c], e[z + 16 + c], e[z + 32 + c], e[z + 48 + c] = four_normals(cell[i], count[i], DRAW, k0, k1)
    a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3 = sixteen(tables.innovation)
    for q in range(chunks):
        z = q * 4 * CHUNK
        for c in range(CHUNK):
            e0, e1, e2, e3 = e[z + c], e[z + 16 + c], e[z + 32 + c], e[z + 48 + c]
            x[z + c] = (a0 * e0 + a1 * e1) + (a2 * e2 + a3 * e3)
            x[z + 16 + c] = (b0 * e0 + b1 * e1) + (b2 * e2 + b3 * e3)
            x[z + 32 + c] = (c0 * e0 + c1 * e1) + (c2 * e2 + c3 * e3)
            x[z + 48 + c] = (d0 * e0 + d1 * e1) + (d2 * e2 + d3 * e3)
    for k in range(p):
        j = oldest + k if oldest + k < p else oldest + k - p
        h, following = hist[j], ahead[j]
        a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3 = sixteen(tables.lags[p - 1 - k])
        for q in range(chunks):
            z = q * 4 * CHUNK
            for line in range(z, z + 4 * CHUNK, CHUNK):
                prefetch(following, line)
            for c in range(CHUNK):
                e0, e1, e2, e3 = h[z + c], h[z + 16 + c], h[z + 32 + c], h[z + 48 + c]
                x[z + c] += (a0 * e0 + a1 * e1) + (a2 * e2 + a3 * e3)
                x[z + 16 + c] += (b0 * e0 + b1 * e1) + (b2 * e2 + b3 * e3)
                x[z + 32 + c] += (c0 * e0 + c1 * e1) + (c2 * e2 + c3 * e3)
                x[z + 48 + c] += (d0 * e0 + d1 * e1) + (d2 * e2 + d3 * e3)


@inline
def place(lane: Any) -> Any:
    """Where the first of a lane's four quantities lies."""
    return lane // CHUNK * (4 * CHUNK) + lane % CHUNK


@jit
def _draw_together(b: Any, s: Any, n: Any, mask: Any, state: Any, tables: Any, scratch: Any) -> None:
    """Draw the n masked lanes, all at ring position s; the other lanes are computed too, and left as they are."""
    new, oldest, cell = scratch.new, state.hist[b, s], scratch.cell
    ahead = state.hist[min(b + 1, state.hist.shape[0] - 1)]
    for i in range(LANES):
        cell[i] = u4(b * LANES + i)
    x = new if n == LANES else scratch.x
    _advance(LANES, cell, state.count[b], state.hist[b], s, ahead, tables, scratch.e, x)
    if n == LANES:
        for i in range(4 * LANES):
            oldest[i] = new[i]
    else:
        for i in range(LANES):
            if mask[i]:
                for k in range(place(i), place(i) + 4 * CHUNK, CHUNK):
                    new[k] = x[k]
                    oldest[k] = x[k]


@jit
def _draw_apart(b: Any, mask: Any, state: Any, tables: Any, scratch: Any) -> None:
    """Draw the masked lanes, each at a ring position of its own: gathered side by side, oldest vector in row 0."""
    hist, slot, count = state.hist[b], state.slot[b], state.count[b]
    p = hist.shape[0]
    x, lane, cell, at, gathered = scratch.x, scratch.lane, scratch.cell, scratch.count, scratch.hist.reshape(-1)
    get, put = scratch.get, scratch.put
    end = np.uintp(p * 4 * LANES)
    n: Any = 0
    for i in range(LANES):
        lane[n] = i  # overwritten by the next, unless this one counts
        n += np.intp(mask[i])
    for m in range(n):
        i = lane[m]
        age = -np.intp(slot[i])  # of slot 0, oldest first
        cell[m] = u4(b * LANES + i)
        at[m] = count[i]
        get[m] = place(i)
        put[m] = place(m) + 4 * LANES * (age if age >= 0 else age + p)
    for j in range(p):  # slot by slot, as they lie in memory
        h = hist[j]
        for m in range(n):  # unsigned indices need no test for negative ones
            i, k = get[m], put[m]
            gathered[k] = h[i]
            gathered[k + ROW1] = h[i + ROW1]
            gathered[k + ROW2] = h[i + ROW2]
            gathered[k + ROW3] = h[i + ROW3]
            k += BLOCK
            put[m] = k - end if k >= end else k
    _advance(n, cell, at, scratch.hist, 0, scratch.hist, tables, scratch.e, x)
    for m in range(n):
        k = place(m)
        oldest = hist[np.intp(slot[lane[m]])]
        for i in range(place(lane[m]), place(lane[m]) + 4 * CHUNK, CHUNK):
            scratch.new[i] = x[k]
            oldest[i] = x[k]
            k += CHUNK


@jit
def align(hist: Any, slot: Any, scratch: Any) -> None:
    """Turn the rings of all lanes so that each has its oldest vector in slot 0."""
    p = hist.shape[0]
    for j in range(p):
        h = hist[j]
        for i in range(LANES):
            age = j - np.intp(slot[i])
            to = scratch[age if age >= 0 else age + p]
            at = place(i)
            for k in range(at, at + 4 * CHUNK, CHUNK):
                to[k] = h[k]
    for j in range(p):
        h, turned = hist[j], scratch[j]
        for k in range(4 * LANES):
            h[k] = turned[k]
    for i in range(LANES):
        slot[i] = 0


@jit
def draw(b: Any, mask: Any, state: Any, tables: Any, scratch: Any) -> None:
    """Draw the next cycle of the masked lanes into `scratch.new` and, for their oldest vector, into the ring.

    Lanes at the same ring position are drawn together where they are many; where half of the lanes or more are drawn,
    all are first brought to one position. Every way does the same operations on a cell, in the same order.
    """
    slot, count, todo, same, apart = state.slot[b], state.count[b], scratch.todo, scratch.same, scratch.apart
    left, start, others = total(mask), 0, 0
    if 2 * left >= LANES:
        differ = np.uint8(0)
        for i in range(LANES):
            differ |= slot[i] ^ slot[0]
        if differ:
            align(state.hist[b], slot, scratch.hist)
    for i in range(LANES):
        todo[i] = mask[i]
    for i in range(LANES):
        apart[i] = 0
    while left > 0:
        while start < LANES - 1 and todo[start] == 0:
            start += 1
        s = slot[start]
        for i in range(LANES):
            same[i] = todo[i] & choose(slot[i] == s, np.uint8(1), np.uint8(0))
        for i in range(LANES):
            todo[i] = todo[i] ^ same[i]
        n = total(same)
        left -= n
        if 4 * n >= LANES:
            _draw_together(b, np.intp(s), n, same, state, tables, scratch)
        else:
            others += n
            for i in range(LANES):
                apart[i] = apart[i] | same[i]
    if others > 0:
        _draw_apart(b, apart, state, tables, scratch)
    last = np.uint8(state.hist.shape[1] - 1)
    for i in range(LANES):
        count[i] = u4(count[i] + u4(mask[i]))
    for i in range(LANES):
        following = choose(slot[i] == last, np.uint8(0), np.uint8(slot[i] + np.uint8(1)))
        slot[i] = choose(mask[i], following, slot[i])


@jit
def row_of(source: Any, t: Any, k: Any, out: Any) -> None:
    """One sample's values for the lanes of the k-th selected block; a single sample or value serves all."""
    row = source[t if source.shape[0] > 1 else 0]
    if row.size == 1:
        value = row[0]
        for i in range(LANES):
            out[i] = value
    else:
        for i in range(LANES):
            out[i] = row[k * LANES + i]


@jit
def _set(b: Any, u: Any, sat: Any, limited: Any, mask: Any, state: Any, tables: Any, target: Any) -> None:
    """SET the masked lanes: to the drawn LRS, or as far as the gate's current `sat` allows at u."""
    span = f4(1.0) / (tables.g_l - tables.g_h)
    y_lrs, y_reset = state.y[b, Y_LRS], state.y[b, Y_RESET]
    ratio, threshold, flags = state.ratio[b], state.threshold[b], state.flags[b]
    for i in range(LANES):
        target[i] = (tables.g_l - f4(1.0) / y_lrs[i]) * span
    for i in range(LANES):
        flags[i] = choose(mask[i], np.uint8(IN_LRS), flags[i])
    if limited:
        for i in range(LANES):
            low, high = horner(tables.llrs, u[i]), horner(tables.hhrs, u[i])
            stop = (-sat[i] - low) / (high - low)  # the mixing r that carries -sat
            if mask[i] and stop > target[i]:
                target[i] = stop
                flags[i] = IN_LRS | LIMITED
    for i in range(LANES):
        ratio[i] = choose(mask[i], target[i], ratio[i])
    for i in range(LANES):
        threshold[i] = choose(mask[i], y_reset[i], threshold[i])


@jit
def _reset(b: Any, u: Any, mask: Any, state: Any, tables: Any, scratch: Any) -> None:
    """RESET the masked lanes of block b; those that leave the LRS draw their next cycle first.

    Below U_max the current follows I(U) = a |U_max - U|**eta + c, from the threshold's current in the LRS to that of
    the new HRS at U_max; the mixing r is what gives this current.
    """
    y, ratio, threshold, slope, flags = state.y[b], state.ratio[b], state.threshold[b], state.slope[b], state.flags[b]
    u_max, eta, i_l, i_h = tables.u_max, tables.eta, tables.i_l, tables.i_h
    before, target, partial, drawing = scratch.work[0], scratch.work[1], scratch.masks[0], scratch.masks[1]
    for i in range(LANES):
        drawing[i] = mask[i] & flags[i] & np.uint8(IN_LRS)
    for i in range(LANES):
        partial[i] = mask[i] & choose(u[i] < u_max, np.uint8(1), np.uint8(0))
    draws, partials = total(drawing), total(partial)
    if partials > 0 and draws > 0:
        for i in range(LANES):
            before[i] = mix(threshold[i], ratio[i], tables)
    if draws > 0:
        draw(b, drawing, state, tables, scratch)
        features(scratch.new, state.device[b], tables.gamma, y, drawing)
    y_hrs = y[Y_HRS]
    for i in range(LANES):
        target[i] = ratio_hrs(y_hrs[i], tables)
    if partials > 0:
        if draws > 0:
            for i in range(LANES):
                end = (f4(1.0) - target[i]) * i_l + target[i] * i_h
                a = (before[i] - end) / power(max(abs(u_max - threshold[i]), f4(1e-6)), eta)
                slope[i] = choose(drawing[i] & partial[i], a, slope[i])
        for i in range(LANES):
            end = (f4(1.0) - target[i]) * i_l + target[i] * i_h
            now = slope[i] * power(max(abs(u_max - u[i]), f4(1e-6)), eta) + end
            low, high = horner(tables.llrs, u[i]), horner(tables.hhrs, u[i])
            target[i] = choose(partial[i], (now - low) / (high - low), target[i])
    for i in range(LANES):
        ratio[i] = choose(mask[i], target[i], ratio[i])
    for i in range(LANES):
        threshold[i] = choose(mask[i], u[i], threshold[i])
    for i in range(LANES):
        bits = choose(partial[i], np.uint8(0), np.uint8(IN_HRS))
        flags[i] = choose(mask[i], bits, flags[i])


@inline
def _fetch_rest(b: Any, state: Any) -> None:
    """Prefetch what a RESET needs of a block, apart from its history."""
    fetch(state.device[b], 16)
    for f in range(4):
        fetch(state.y[b, f], 16)
    fetch(state.threshold[b], 16)
    fetch(state.ratio[b], 16)
    fetch(state.count[b], 16)
    fetch(state.slot[b], 64)
    fetch(state.flags[b], 64)


@jit
def _masks(b: Any, drive: Any, state: Any, to_set: Any, to_reset: Any) -> None:
    """Which lanes' thresholds the drive passes."""
    y_set, threshold, flags = state.y[b, Y_SET], state.threshold[b], state.flags[b]
    for i in range(LANES):
        f = flags[i]
        free = ((f & np.uint8(STUCK)) == 0) & (((f & np.uint8(IN_LRS)) == 0) | ((f & np.uint8(LIMITED)) != 0))
        to_set[i] = choose(free & (drive[i] <= y_set[i]), np.uint8(1), np.uint8(0))
    for i in range(LANES):
        free = (flags[i] & np.uint8(STUCK | IN_HRS)) == 0
        to_reset[i] = choose(free & (drive[i] > threshold[i]), np.uint8(1), np.uint8(0))


@jit
def _gated(u: Any, sat: Any, ratio: Any, threshold: Any, tables: Any, to_set: Any, to_reset: Any) -> None:
    """Take out the lanes whose gate cannot carry the cell's current before switching."""
    for i in range(LANES):
        r, s = ratio[i], sat[i]
        to_set[i] &= choose(abs(mix(u[i], r, tables)) < s, np.uint8(1), np.uint8(0))
        to_reset[i] &= choose(abs(mix(threshold[i], r, tables)) < s, np.uint8(1), np.uint8(0))


@inline
def scratch_of(p: Any) -> Any:
    """Working memory for a VAR of order p; inlined, or LLVM would fear that it overlaps the state (3 times slower)."""
    work, masks, byte = np.empty((5, LANES), np.float32), np.empty((4, LANES), np.uint8), np.empty((3, LANES), np.uint8)
    e, x, new = np.empty(4 * LANES, np.float32), np.empty(4 * LANES, np.float32), np.zeros(4 * LANES, np.float32)
    cell, count = np.zeros(LANES, np.uint32), np.zeros(LANES, np.uint32)
    gathered, lane = np.zeros((p, 4 * LANES), np.float32), np.empty(LANES, np.intp)
    get, put = np.empty(LANES, np.uintp), np.empty(LANES, np.uintp)
    return Scratch(work, masks, e, x, new, gathered, cell, count, lane, get, put, byte[0], byte[1], byte[2])


@jit
def _age(b: Any, u: Any, width: Any, now: Any, state: Any, to_set: Any, to_reset: Any) -> None:
    """A cell that switched is born at the end of the hold; another that was held is older by the hold."""
    born, aged = state.born[b], state.aged[b]
    for i in range(LANES):
        if to_set[i] | to_reset[i]:
            born[i], aged[i] = now[0], now[1]
        elif not np.isnan(u[i]):
            born[i] -= width
            aged[i] -= width * now[2]


@jit
def pulse_blocks(
    lo: Any, hi: Any, blocks: Any, u: Any, drive: Any, sat: Any, widths: Any, now: Any, state: Any, tables: Any,
    out: Any,
) -> None:  # fmt: skip
    """Apply samples to the blocks blocks[lo:hi]; a block stays in cache for all samples.

    u, drive, sat: (samples or 1, 1) or (samples or 1, len(blocks) * LANES): voltage, equivalent voltage at the
    reference width, saturation current of the gate; NaN voltage means a cell that is not selected. widths (samples,)
    and now (time, retention time, seconds of the latter a second) are for the cells' ages. out: (samples,
    len(blocks) * LANES) takes the currents, BL to SL; (0, 0) takes none.
    """
    limited = False
    for value in sat.flat:
        limited |= value < np.inf
    scratch = scratch_of(tables.lags.shape[0])
    work, masks = scratch.work, scratch.masks
    uu, dd, ss = work[2], work[3], work[4]
    to_set, to_reset = masks[2], masks[3]
    for k in range(lo, hi):
        b = blocks[k]
        ratio = state.ratio[b]
        for t in range(drive.shape[0]):
            row_of(u, t, k, uu)
            row_of(drive, t, k, dd)
            row_of(sat, t, k, ss)
            _masks(b, dd, state, to_set, to_reset)
            if limited:
                _gated(uu, ss, ratio, state.threshold[b], tables, to_set, to_reset)
            if total(to_set) > 0:
                _set(b, uu, ss, limited, to_set, state, tables, work[0])
            if total(to_reset) > 0:
                if k + 1 < hi:
                    _fetch_rest(blocks[k + 1], state)
                _reset(b, dd, to_reset, state, tables, scratch)
            if state.born.shape[0] > 0:
                _age(b, uu, widths[t], now, state, to_set, to_reset)
            if out.shape[0] > 0:
                for i in range(LANES):
                    current = mix(uu[i], ratio[i], tables)
                    out[t, k * LANES + i] = -min(max(current, -ss[i]), ss[i])
