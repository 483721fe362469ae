"""One pulse on very many filament cells: the circuit is solved once a gap, not once a cell.

With the voltages given, the rate of a cell depends on its gap, on its own `gap_reset` (RESET only) and, as a factor,
on its speed. So the node and the temperature are solved on a grid of gaps, the rate follows on gaps × gap_reset, and
the time of the movement is a table in which each cell finds where its pulse ends. Between nodes ln(rate) is linear, as
in `filament_kernel.grow`; between columns of gap_reset the end is interpolated.

Error against the exact path, default technology with its spread, in ln R: rms ≤ 0.002, 99 % of the cells ≤ 0.01, the
largest ≤ 0.06 (a cell that switches abruptly just as the pulse ends), `tests/models/test_filament_table.py`. State,
spread, noise and wear are those of the exact path.
"""

from math import exp, inf, log, log1p

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.errors import UsageError
from labctl.models import filament_cells as cells_kernel
from labctl.models import filament_kernel as kernel
from labctl.models.device import Cells, FloatArray
from labctl.models.effects import EFFECTS, HEALTHY
from labctl.models.filament import FilamentArray
from labctl.models.filament_cells import N_DIRECTION, N_FORMED, N_TURNS, X_OWN, X_WEAR
from labctl.models.transistor import BOLTZMANN, charge, pinch_off, specific_current

_TOP = 3.5  # nm, end of the grid of gaps
_SPACING_SET, _SPACING_RESET, _COLUMN = 0.005, 0.02, 0.04  # nm, of the nodes and of the columns
_FIRST, _COLUMNS = 0.05, 101  # gap_reset 0.05 … 4.05 nm
_KEPT = 32  # tables kept for other voltages


@njit(cache=True)
def _build(
    v_bl: float, v_sl: float, v_wl: float, kelvin: float, p: NDArray[np.float64], columns: int, d: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Time since the fastest node (columns, nodes); table (columns, nodes, 3); ln|I| (nodes,).

    The table holds the rate, the slope of ln(rate), and the factor exp(-slope · d) over one spacing. Nodes lie `d` nm
    apart and run along the movement: gap falling for SET, rising for RESET. A rate of 0 marks where movement ends.
    """
    reset = v_sl > v_bl
    u_t = BOLTZMANN * kelvin
    v_p = pinch_off(v_wl, p[kernel.P_V_T0], p[kernel.P_N], kelvin)
    i_spec = specific_current(p[kernel.P_I_SPEC], kelvin)
    q_sl = charge(v_p, v_sl, u_t)
    lo, hi = min(v_bl, v_sl) - 1e-3, max(v_bl, v_sl) + 1e-3
    nodes = round(_TOP / d) + 1
    times, table, ln_i = np.zeros((columns, nodes)), np.zeros((columns, nodes, 3)), np.empty(nodes)
    u = 0.5 * (v_bl + v_sl)
    for k in range(nodes):
        gap = d * (k if reset else nodes - 1 - k)
        i_a = p[kernel.P_I0] * exp(-gap / p[kernel.P_G0])
        u, i = kernel.circuit(v_bl, q_sl, v_p, u_t, i_spec, p[kernel.P_V0], i_a, lo, hi, u, kernel.FINE)
        ln_i[k] = log(max(abs(i), 1e-300))
        for c in range(columns):
            f = kernel.gap_rate(gap, v_bl - u, i, 1.0, _FIRST + _COLUMN * c, kelvin, p)
            table[c, k, 0] = max(f if reset else -f, 0.0)
    for c in range(columns):
        fastest = 0
        for k in range(nodes - 1):
            f, f1 = table[c, k, 0], table[c, k + 1, 0]
            if f1 > table[c, fastest, 0]:
                fastest = k + 1
            table[c, k, 1] = log(f1 / f) / d if f > 0.0 and f1 > 0.0 else -inf
            table[c, k, 2] = f / f1 if f1 > 0.0 else inf
        for k in range(fastest, nodes - 1):
            times[c, k + 1] = times[c, k] + _crossing(table[c, k, 0], table[c, k, 1], d)
        for k in range(fastest - 1, -1, -1):
            times[c, k] = times[c, k + 1] - _crossing(table[c, k, 0], table[c, k, 1], d)
    return times, table, ln_i


@njit(cache=True)
def _crossing(f: float, slope: float, d: float) -> float:
    """Time (s) to move `d` nm from where the rate is `f` nm/s and ln(rate) has `slope` a nm."""
    if f == 0.0 or slope == -inf:
        return inf
    z = slope * d
    return d / f if abs(z) < 1e-9 else (1.0 - exp(-z)) / (slope * f)


@njit(cache=True, error_model="numpy")
def _moved(f: float, slope: float, t: float) -> float:
    """Way (nm) in `t` s from where the rate is `f` and ln(rate) has `slope`."""
    z = slope * f * t
    return f * t if abs(z) < 1e-9 else -log1p(-z) / slope


@njit(cache=True, error_model="numpy")
def _end(
    y: float, t: float, times: NDArray[np.float64], column: NDArray[np.float64], near: int, reach: int
) -> tuple[float, int]:
    """Place (nm along the movement) `t` s after `y`, and the node before it.

    It is sought among the `reach` nodes (a power of two) from the later of `near` and the one after y, and if it is not
    among these, among all.
    """
    last = times.size - 1
    d = _TOP / last
    k = int(y / d)
    slope = column[k, 1]
    if k >= last or slope == -inf:
        return y, k
    x = y - k * d
    grown = exp(slope * x)
    f = column[k, 0] * grown
    z = slope * (d - x)
    first = (d - x) / f if abs(z) < 1e-6 else (1.0 - column[k, 2] * grown) / (slope * f)
    if t <= first:
        return y + float(_moved(f, slope, t)), k
    goal = times[k + 1] + (t - first)
    if times[last] <= goal:
        return float(last * d), last
    low = max(k + 1, near)
    if times[low] > goal or (low + reach <= last and times[low + reach] <= goal):
        low, reach = k + 1, 1024
    while reach > 1:
        reach >>= 1
        middle = min(low + reach, last)
        low = middle if times[middle] <= goal else low
    slope = column[low, 1]
    if slope == -inf:
        return float(low * d), low
    return float(low * d + _moved(column[low, 0], slope, goal - times[low])), low


@njit(cache=True, nogil=True, error_model="numpy")
def _pulse(
    cells: NDArray[np.intp], volts: NDArray[np.float64],
    given: tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], x: NDArray[np.float64],
    n: NDArray[np.int64], d: NDArray[np.float32], m: NDArray[np.float64], clock: NDArray[np.float64],
    codes: NDArray[np.int64], seed: np.uint64, out: NDArray[np.float64],
) -> None:  # fmt: skip
    """One sample as in `filament_cells.hold`; `given` is the width (s) and the three parts of the table."""
    width, times, table, ln_i = given
    p, e = m[: kernel.NUMBERS], m[kernel.NUMBERS :]
    v_bl, v_sl, v_wl = volts[0, 0, 0], volts[1, 0, 0], volts[2, 0, 0]
    direction, last = (-1 if v_bl >= v_sl else 1), ln_i.size - 1
    for j in range(cells.size):
        cell = cells[j]
        if codes[cell] != HEALTHY or n[N_FORMED, cell] == 0:
            out[0, j] = cells_kernel.hold_cell(cell, v_bl, v_sl, v_wl, width, x, n, d, p, e, clock, codes[cell], seed)
            continue
        gap = cells_kernel.present_gap(cell, x, n, clock, p, e, seed)
        x[X_OWN, cell] += width
        turn = n[N_TURNS, cell] + (1 if direction != n[N_DIRECTION, cell] else 0)
        speed, low, high = cells_kernel.limits(cell, turn, x[X_WEAR, cell], d, p, e, seed)
        t = speed * width
        if direction > 0:
            start = min(max(gap, 0.0), _TOP)
            place = min(max((high - _FIRST) / _COLUMN, 0.0), _COLUMNS - 1.001)
            c = int(place)
            a = place - c
            end, k = _end(start, t, times[c], table[c], 0, 256)
            next_end, _ = _end(start, t, times[c + 1], table[c + 1], k - 2, 4)
            new = (1.0 - a) * end + a * next_end
            new = min(new + gap - start, max(kernel.GAP_CAP, gap))
        else:
            start = min(max(_TOP - gap, 0.0), _TOP)
            new = min(gap, max(_TOP - _end(start, t, times[0], table[0], 0, 1024)[0], low))
        new = cells_kernel.settle(cell, gap, new, turn, direction, x, n, clock, p, seed)
        place = min(max((new if direction > 0 else _TOP - new) * last / _TOP, 0.0), last - 1e-3)
        k = int(place)
        i = exp(ln_i[k] + (place - k) * (ln_i[k + 1] - ln_i[k]))
        out[0, j] = i if v_bl > v_sl else -i


class FastPulses:
    """Pulses of the same voltages on many cells of a `FilamentArray`; keeps the tables of the voltages used last.

    A table costs about a millisecond and pays from about a thousand cells. The state moves as `FilamentArray.pulse`
    would move it, within the error stated above; the currents that come back are without RTN.
    """

    def __init__(self, array: FilamentArray) -> None:
        self.array = array
        self._tables: dict[tuple[float, float, float], tuple[FloatArray, FloatArray, FloatArray]] = {}

    def pulse(self, v_bl: float, v_sl: float, v_wl: float, width: float, cells: Cells = None) -> FloatArray:
        """Hold the voltages (V) for `width` s; the currents at the end (A), (cells,).

        Raises `UsageError`, and moves nothing, as `FilamentArray.pulse` does, and for a voltage that is not one number.
        """
        array = self.array
        if not all(isinstance(v, (int, float)) for v in (v_bl, v_sl, v_wl)):
            raise UsageError("a pulse table needs one voltage for all cells; use FilamentArray.pulse for one each")
        index = array._index(cells)
        volts = array._volts(index.size, v_bl, v_sl, v_wl)
        seconds = array._seconds("width", width)
        if v_bl == v_sl or seconds == 0.0:
            return array.pulse(v_bl, v_sl, v_wl, width, cells)
        key = (float(v_bl), float(v_sl), float(v_wl))
        if key not in self._tables:
            if len(self._tables) >= _KEPT:
                del self._tables[next(iter(self._tables))]
            numbers = array._m[: array._m.size - EFFECTS]
            grid = (_COLUMNS, _SPACING_RESET) if v_sl > v_bl else (1, _SPACING_SET)
            self._tables[key] = _build(*key, array.temperature, numbers, *grid)
        out = np.empty((1, index.size))
        array._shared(_pulse, index, volts, (seconds, *self._tables[key]), out)
        return np.asarray(out[0])
