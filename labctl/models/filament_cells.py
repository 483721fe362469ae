"""Kernels over an array of filament cells: spread, forming, programming events, reads.

Rows of the state: `x` gap (nm), forming damage, time of the last programming event on the two clocks (s), the cell's
own time under pulses (s), movement since that event (nm), wear (cycles); `n` events, turns of direction, direction,
reads, formed.
"""

from math import exp, inf, log, nan, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.models.counter_rng import normal, normal_triple, uniform
from labctl.models.effects import HEALTHY, NEVER_FORMING, OPEN, SHORTED, drift, rtn, settled, white_noise, window
from labctl.models.filament_kernel import (
    NUMBERS,
    P_C2C_HRS,
    P_C2C_LRS,
    P_C2C_RATE,
    P_D2D_HRS,
    P_D2D_LRS,
    P_D2D_RATE,
    P_FORM_GAP,
    P_FORM_SHAPE,
    P_FORM_TAU,
    P_FORM_V,
    P_G0,
    P_GAP_MIN,
    P_GAP_RESET,
    P_HOP,
    P_I0,
    P_I_PRISTINE,
    P_R_SHORT,
    P_V0,
    P_V_PRISTINE,
    STEP,
    conductance,
    grow,
    static_current,
)

X_GAP, X_DOSE, X_TIME, X_RETENTION, X_OWN, X_MOVED, X_WEAR = range(7)
N_EVENTS, N_TURNS, N_DIRECTION, N_READS, N_FORMED = range(5)
D_HRS, D_LRS, D_RATE = range(3)

EVENT = 0.02
"""Movement of the gap (nm) that counts as programming: relaxation starts anew, a turn draws a new cycle."""

_S_CYCLE, _S_FORM, _S_FORM_TIME, _S_HOP = 0, 10, 11, 12


@njit(cache=True)
def limits(
    cell: int,
    turn: int,
    wear: float,
    d: NDArray[np.float32],
    p: NDArray[np.float64],
    e: NDArray[np.float64],
    seed: np.uint64,
) -> tuple[float, float, float]:
    """Speed factor, smallest gap and the gap where RESET ends (nm) of a cell in its half-cycle number `turn`."""
    z_hrs, z_lrs, z_rate = normal_triple(seed, cell, turn, _S_CYCLE)
    speed = exp(p[P_D2D_RATE] * d[D_RATE, cell] + p[P_C2C_RATE] * z_rate)
    low = max(p[P_GAP_MIN] + p[P_D2D_LRS] * d[D_LRS, cell] + p[P_C2C_LRS] * z_lrs, 0.0)
    high = p[P_GAP_RESET] + p[P_D2D_HRS] * d[D_HRS, cell] + p[P_C2C_HRS] * z_hrs
    left = window(seed, cell, wear, e)
    middle = 0.5 * (p[P_GAP_MIN] + p[P_GAP_RESET])
    low, high = middle + (low - middle) * left, middle + (high - middle) * left
    return speed, low, max(high, low + 0.05)


@njit(cache=True)
def _form(
    cell: int,
    v_bl: float,
    v_sl: float,
    v_wl: float,
    width: float,
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    kelvin: float,
    p: NDArray[np.float64],
    code: int,
    seed: np.uint64,
) -> tuple[float, float]:
    """Stress a pristine cell; the part of `width` (s) that is left after breakdown (0: none), and the current (A)."""
    i, v = static_current(v_bl, v_sl, v_wl, p[P_V_PRISTINE], p[P_I_PRISTINE], kelvin, nan, p)
    if code != HEALTHY or width == 0.0:
        return 0.0, i
    u = uniform(seed, cell, 0, _S_FORM)
    needed = (-log(1.0 - u)) ** (1.0 / p[P_FORM_SHAPE])
    speed = exp(abs(v) / p[P_FORM_V]) / p[P_FORM_TAU]
    if x[X_DOSE, cell] + speed * width < needed:
        x[X_DOSE, cell] += speed * width
        return 0.0, i
    left = width - (needed - x[X_DOSE, cell]) / speed
    x[X_DOSE, cell] = needed
    x[X_GAP, cell] = p[P_FORM_GAP]
    n[N_FORMED, cell] = 1
    return max(left, 1e-12), i


@njit(cache=True, nogil=True)
def form_all(
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    d: NDArray[np.float32],
    m: NDArray[np.float64],
    clock: NDArray[np.float64],
    codes: NDArray[np.int64],
    seed: np.uint64,
    volts: NDArray[np.float64],
    width: float,
) -> None:
    """Form every cell that can: breakdown somewhere in a pulse of `width` (s) at volts (BL, SL, WL), then its rest."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    for cell in range(codes.size):
        if codes[cell] == NEVER_FORMING:
            continue
        left = width * uniform(seed, cell, 0, _S_FORM_TIME)
        speed, low, high = limits(cell, 0, 0.0, d, p, e, seed)
        gap = p[P_FORM_GAP]
        x[X_GAP, cell] = grow(gap, volts[0], volts[1], volts[2], left, speed, low, high, clock[2], STEP, p)[0]
        n[N_FORMED, cell] = 1
        n[N_DIRECTION, cell] = -1


@njit(cache=True)
def present_gap(
    cell: int, x: NDArray[np.float64], n: NDArray[np.int64], clock: NDArray[np.float64], p: NDArray[np.float64],
    e: NDArray[np.float64], seed: np.uint64,
) -> float:  # fmt: skip
    """Gap (nm) of a formed cell now: as programmed, with relaxation and retention since."""
    own = x[X_OWN, cell]
    t, aged = clock[0] + own - x[X_TIME, cell], clock[1] + clock[3] * own - x[X_RETENTION, cell]
    if settled(t, aged, e):
        return float(x[X_GAP, cell])
    shift = drift(seed, cell, n[N_EVENTS, cell], t, aged, conductance(x[X_GAP, cell], p), e)
    return float(x[X_GAP, cell] - p[P_G0] * shift)


@njit(cache=True)
def settle(
    cell: int, gap: float, new: float, turn: int, direction: int, x: NDArray[np.float64], n: NDArray[np.int64],
    clock: NDArray[np.float64], p: NDArray[np.float64], seed: np.uint64,
) -> float:  # fmt: skip
    """Enter a movement from `gap` to `new` (nm) that ends now, with its noise and wear; the gap that it leaves."""
    moved = new - gap
    x[X_MOVED, cell] += moved
    x[X_WEAR, cell] += abs(moved) / (2.0 * (p[P_GAP_RESET] - p[P_GAP_MIN]))
    if abs(x[X_MOVED, cell]) <= EVENT:
        x[X_GAP, cell] += moved
        return new
    if p[P_HOP] > 0.0:  # shot noise of the ions that moved
        spread = sqrt(p[P_HOP] * abs(x[X_MOVED, cell]))
        new = max(new + spread * normal(seed, cell, n[N_EVENTS, cell], _S_HOP), 0.0)
    x[X_GAP, cell] = new
    x[X_MOVED, cell] = 0.0
    x[X_TIME, cell] = clock[0] + x[X_OWN, cell]
    x[X_RETENTION, cell] = clock[1] + clock[3] * x[X_OWN, cell]
    n[N_EVENTS, cell] += 1
    n[N_TURNS, cell] = turn
    n[N_DIRECTION, cell] = direction
    return new


@njit(cache=True)
def hold_cell(
    cell: int, v_bl: float, v_sl: float, v_wl: float, width: float, x: NDArray[np.float64], n: NDArray[np.int64],
    d: NDArray[np.float32], p: NDArray[np.float64], e: NDArray[np.float64], clock: NDArray[np.float64], code: int,
    seed: np.uint64,
) -> float:  # fmt: skip
    """Hold one cell's voltages for `width` s; its current at the end (A)."""
    kelvin = clock[2]
    gap = 0.0
    if n[N_FORMED, cell] > 0:
        gap = present_gap(cell, x, n, clock, p, e, seed)
    x[X_OWN, cell] += width
    if code == OPEN:
        return 0.0
    if code == SHORTED:
        return float(static_current(v_bl, v_sl, v_wl, p[P_R_SHORT], 1.0, kelvin, nan, p)[0])
    if n[N_FORMED, cell] == 0:
        width, i = _form(cell, v_bl, v_sl, v_wl, width, x, n, kelvin, p, code, seed)
        if width == 0.0:
            return float(i)
        gap = x[X_GAP, cell]
    direction = -1 if v_bl >= v_sl else 1
    u = nan
    if code == HEALTHY and v_bl != v_sl and width > 0.0:
        turn = n[N_TURNS, cell] + (1 if direction != n[N_DIRECTION, cell] else 0)
        speed, low, high = limits(cell, turn, x[X_WEAR, cell], d, p, e, seed)
        grown, u, _ = grow(gap, v_bl, v_sl, v_wl, width, speed, low, high, kelvin, STEP, p)
        gap = settle(cell, gap, grown, turn, direction, x, n, clock, p, seed)
    factor = rtn(seed, cell, clock[0] + x[X_OWN, cell], conductance(gap, p), inf, 0, e)
    i_a = p[P_I0] * exp(-gap / p[P_G0]) * factor
    return float(static_current(v_bl, v_sl, v_wl, p[P_V0], i_a, kelvin, u, p)[0])


@njit(cache=True, nogil=True)
def hold(
    cells: NDArray[np.intp], volts: NDArray[np.float64], widths: NDArray[np.float64], x: NDArray[np.float64],
    n: NDArray[np.int64], d: NDArray[np.float32], m: NDArray[np.float64], clock: NDArray[np.float64],
    codes: NDArray[np.int64], seed: np.uint64, out: NDArray[np.float64],
) -> None:  # fmt: skip
    """Hold volts (3, samples, 1 or cells) for widths (samples,) s, one sample after the other; currents into `out`."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    for j in range(cells.size):
        cell = cells[j]
        k = j if volts.shape[2] > 1 else 0
        for s in range(widths.size):
            out[s, j] = hold_cell(
                cell, volts[0, s, k], volts[1, s, k], volts[2, s, k], widths[s], x, n, d, p, e, clock, codes[cell], seed
            )


@njit(cache=True, nogil=True)
def repeat(
    cell: int, volts: NDArray[np.float64], widths: NDArray[np.float64], waits: NDArray[np.float64], times: int,
    x: NDArray[np.float64], n: NDArray[np.int64], d: NDArray[np.float32], m: NDArray[np.float64],
    clock: NDArray[np.float64], codes: NDArray[np.int64], seed: np.uint64,
) -> None:  # fmt: skip
    """Hold volts (samples, 3) on one cell for widths (samples,) s, after waits (samples + 1,) s; all that `times`."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    for _ in range(times):
        for s in range(widths.size):
            clock[0] += waits[s]
            clock[1] += waits[s] * clock[3]
            hold_cell(cell, volts[s, 0], volts[s, 1], volts[s, 2], widths[s], x, n, d, p, e, clock, codes[cell], seed)
        clock[0] += waits[-1]
        clock[1] += waits[-1] * clock[3]


@njit(cache=True, nogil=True)
def read(
    cells: NDArray[np.intp],
    volts: NDArray[np.float64],
    bandwidth: float,
    x: NDArray[np.float64],
    n: NDArray[np.int64],
    d: NDArray[np.float32],
    m: NDArray[np.float64],
    clock: NDArray[np.float64],
    codes: NDArray[np.int64],
    seed: np.uint64,
    out: NDArray[np.float64],
) -> None:
    """Currents (A) with the noise of `bandwidth` (Hz); only the count of reads moves."""
    p, e = m[:NUMBERS], m[NUMBERS:]
    kelvin = clock[2]
    for j in range(cells.size):
        cell = cells[j]
        k = j if volts.shape[2] > 1 else 0
        v_bl, v_sl, v_wl = volts[0, 0, k], volts[1, 0, k], volts[2, 0, k]
        count = n[N_READS, cell]
        n[N_READS, cell] = count + 1
        if codes[cell] == OPEN:
            i = 0.0
        elif codes[cell] == SHORTED:
            i = static_current(v_bl, v_sl, v_wl, p[P_R_SHORT], 1.0, kelvin, nan, p)[0]
        elif n[N_FORMED, cell] == 0:
            i = static_current(v_bl, v_sl, v_wl, p[P_V_PRISTINE], p[P_I_PRISTINE], kelvin, nan, p)[0]
        else:
            gap = present_gap(cell, x, n, clock, p, e, seed)
            g = conductance(gap, p)
            i_a = p[P_I0] * exp(-gap / p[P_G0]) * rtn(seed, cell, clock[0] + x[X_OWN, cell], g, bandwidth, count, e)
            i = static_current(v_bl, v_sl, v_wl, p[P_V0], i_a, kelvin, nan, p)[0]
        out[0, j] = i + white_noise(seed, cell, count, i, v_bl - v_sl, bandwidth, kelvin, e)
