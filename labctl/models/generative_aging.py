"""What time, wear and defects make of a generative cell's current, by the functions of `labctl.models.effects`.

The cell's state does not change: its current at any voltage is multiplied by one factor, so all of this costs nothing
until a cell is read.
"""

from math import exp, log
from typing import Any

import numpy as np

from labctl.models.counter_rng import normal
from labctl.models.effects import HEALTHY, SHORTED, STUCK, Effects, drift, rtn, window
from labctl.models.generative_math import f4
from labctl.models.generative_state import IN_LRS, Y_HRS, Y_LRS
from labctl.models.simd import LANES, jit

SHORT = 1 / 500.0
"""Conductance of a shorted cell, S."""
_LN10 = log(10.0)
_NOISE_STREAM = 900  # of `counter_rng`


def acts(effects: Effects) -> bool:
    """Whether any effect changes what is read, apart from white noise."""
    return bool(effects.relaxation or effects.retention or effects.rtn or effects.endurance_life < 1e18)


@jit
def factors(
    lo: Any, hi: Any, blocks: Any, u: Any, state: Any, tables: Any, seed: Any, clock: Any, e: Any, bandwidth: Any,
    reads: Any, out: Any,
) -> None:  # fmt: skip
    """Factor on the current of each selected lane: relaxation, retention, RTN, and the window that wear has left.

    Programming event 2 n is the RESET that drew cycle n, 2 n + 1 the SET in it. Wear pulls ln R to the middle between
    the device's typical LRS and HRS.
    """
    one = u.shape[1] == 1
    for k in range(lo, hi):
        b = blocks[k]
        for lane in range(LANES):
            out[k, lane] = f4(1.0)
            if not one and np.isnan(u[0, k * LANES + lane]):
                continue
            r = state.ratio[b, lane]
            g = float((f4(1.0) - r) * tables.g_l + r * tables.g_h)
            if g <= 0.0:  # far below any HRS: the effects' laws in ln G say nothing
                continue
            cell = b * LANES + lane
            count = int(state.count[b, lane])
            event = 2 * count + int(state.flags[b, lane] & IN_LRS)
            lrs = max(float(state.device[b, Y_LRS, lane]), 1.0)
            middle = -0.5 * (_LN10 * float(state.device[b, Y_HRS, lane]) + log(lrs))
            shift = (window(seed, cell, float(count), e) - 1.0) * (log(g) - middle)
            age, weighted = clock[0] - state.born[b, lane], clock[1] - float(state.aged[b, lane])
            shift += drift(seed, cell, event, age, max(weighted, 0.0), g, e)
            out[k, lane] = exp(shift) * rtn(seed, cell, clock[0], g * exp(shift), bandwidth, reads, e)


@jit
def broken(
    lo: Any, hi: Any, blocks: Any, u: Any, sat: Any, codes: Any, noise: Any, reads: Any, seed: Any, out: Any
) -> None:
    """Put in the currents of cells that are not a device at all: shorted, open, never formed."""
    for k in range(lo, hi):
        for lane in range(LANES):
            cell = blocks[k] * LANES + lane
            if cell >= codes.size or codes[cell] == HEALTHY or codes[cell] == STUCK:
                continue
            at = k * LANES + lane
            v = -float(u[0, at if u.shape[1] > 1 else 0])
            limit = float(sat[0, at if sat.shape[1] > 1 else 0])
            g = SHORT if codes[cell] == SHORTED else 0.0
            i = min(max(g * v, -limit), limit)
            sd = (noise[0] * g + noise[1] * abs(i)) ** 0.5
            out[at] = i + sd * normal(seed, cell, reads, _NOISE_STREAM)
