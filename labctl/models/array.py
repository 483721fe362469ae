"""A 1T1R array: cells of any device model on word, bit and source lines, with line resistance and floating lines.

Word lines (gates) and source lines run along the rows, bit lines along the columns. A bit line is driven beside row 0,
a source line beside column 0; one segment lies between a driver and the first cell. Word lines carry no direct current
and have no drop. The potentials of floating lines and of resistive lines are one nodal problem with the cells' present
I–V curves (Chua and Lin, Computer-Aided Analysis of Electronic Circuits, 1975, ch. 5: Newton on Kirchhoff's current
law); a node between two cells that are off is a plain series resistance and is left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.array_network import Network, solve
from labctl.models.device import Cells, DeviceModel, FloatArray, Hold

DOSES = ("pulses", "reads", "half_selects")
FULL_SELECT = 2 / 3  # V/2 and V/3 schemes leave at most half of the voltage on cells that are not meant
_FIRST_STEP, _STEPS = 1 / 64, (1 / 256, 1 / 8)  # parts of a hold
_CACHED_PLANS, _CACHED_CELLS = 128, 4096


@dataclass(slots=True)
class _Plan:
    """One pattern of line voltages, decoded: the cells it touches and what they see (nan: a floating line)."""

    cells: NDArray[np.intp]
    device_cells: Cells
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    v_bl: FloatArray
    v_sl: FloatArray
    v_wl: FloatArray
    volts: tuple[ArrayLike, ArrayLike, ArrayLike]
    """The same three for a device; plain floats where all cells see alike, which models take quickest."""
    network: Network | None
    full: NDArray[np.intp]
    half: NDArray[np.intp]


class Array1T1R:
    """Cells of any `DeviceModel` on word lines (gates, along rows), source lines (rows) and bit lines (columns).

    device: the cells, of shape (rows, columns). Its `read` at bandwidth 0 must be free of measurement noise.
    line_resistance: ohm a segment, of bit and source lines, or a pair (bit line, source line).
    gate_off: a word line at or below this voltage (V) turns its row off. At the default of 0.2 V a transistor with a
        threshold of 0.52 V and n = 1.3 carries below 1e-4 of its specific current. ``-math.inf`` turns no row off:
        a passive crossbar of two-terminal devices.
    resolution: where line drops or floating lines couple the cells, a hold is cut into steps in which no potential
        moves by much more than this (V), from 1/64 to 1/8 of it (at least 1/256 when things move fast); a step takes
        the potentials at its middle, extrapolated. At 5 mV and a drop of 70 mV the resistance after a pulse that
        stops in mid-switching is within 1 % (see the tests). ``math.inf`` makes it one step at the potentials of its
        start: for models in which successive pulses do not add up to a longer one.

    `doses` counts per cell, for its life: pulses, reads, and half_selects (holds in which the cell saw less than 2/3 of
    the largest cell voltage). A cell whose gate is off is neither moved nor counted: the transistor takes the voltage.

    Every method refuses bad input with `UsageError` and then leaves the state as it was.
    """

    def __init__(
        self,
        device: DeviceModel,
        *,
        line_resistance: float | tuple[float, float] = 0.0,
        gate_off: float = 0.2,
        resolution: float = 5e-3,
    ) -> None:
        if len(device.shape) != 2 or 0 in device.shape:
            raise UsageError(
                f"a device of shape {device.shape} is no array; give it rows and columns, such as (64, 64)"
            )
        pair = line_resistance if isinstance(line_resistance, tuple) else (line_resistance, line_resistance)
        if len(pair) != 2 or not all(math.isfinite(r) and r >= 0 for r in pair):
            raise UsageError(f"line_resistance = {line_resistance} Ω a segment must be finite and not negative")
        if math.isnan(gate_off) or gate_off == math.inf:
            raise UsageError(f"gate_off = {gate_off} V is no threshold; give a voltage, or -inf for a passive crossbar")
        if not resolution > 0:
            raise UsageError(f"resolution = {resolution} V must be positive, such as 5e-3, or inf for a single step")
        self.device = device
        self.rows, self.columns = device.shape
        self._r_bl, self._r_sl = float(pair[0]), float(pair[1])
        self._gate_off = gate_off
        self._resolution = resolution
        self._counts = np.zeros((len(DOSES), self.rows * self.columns), np.int64)
        self._plans: dict[bytes, _Plan | None] = {}
        self._constant: dict[tuple[int, int, int], tuple[object, _Plan | None]] = {}
        self._owed = 0.0
        self._nothing = np.zeros(self.columns), np.zeros(self.rows)
        for currents in self._nothing:
            currents.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    @property
    def doses(self) -> dict[str, NDArray[np.int64]]:
        """Counts per cell since the chip was made: pulses, reads, half_selects, each (rows, columns); copies."""
        return {name: row.reshape(self.shape).copy() for name, row in zip(DOSES, self._counts, strict=True)}

    def hold(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, seconds: float) -> tuple[FloatArray, FloatArray]:
        """Hold the line voltages for `seconds`; return the driver currents at the end, per bit line and source line.

        wl, sl: (rows,), bl: (columns,), absolute volts; nan floats a line (a floating gate counts as discharged, 0 V).
        Currents (A) count into the array, from the bit lines' drivers and from the source lines' drivers; a floating
        line has none. `seconds` = 0 tells the present currents and moves nothing. A line that floats together with
        everything it is joined to is taken to be at 0 V.

        Raises `MeasurementError` when the potentials cannot be solved.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"seconds = {seconds} s must be finite and not negative")
        plan = self._plan(wl, bl, sl)
        if plan is None:
            if seconds:
                self.wait(seconds)
            return self._nothing
        if not seconds:
            return self._per_line(plan, self.device.read(*self._volts(plan), 0.0, plan.device_cells))
        full, half = plan.full, plan.half
        if plan.network is None:
            current = self.device.pulse(*plan.volts, seconds, plan.device_cells)
        else:
            v_bl, v_sl = self._potentials(plan)
            full, half = _split(plan.cells, v_bl - v_sl)
            v_bl, v_sl = self._follow(plan, plan.network, v_bl, v_sl, seconds)
            current = self.device.read(v_bl, v_sl, plan.v_wl, 0.0, plan.device_cells)
        self._counts[0, full] += 1
        if half.size:
            self._counts[2, half] += 1
        if plan.device_cells is not None:
            self._owed += seconds
        return self._per_line(plan, current)

    def repeat(self, holds: Sequence[Hold], times: int) -> bool:
        """Carry out these holds one after the other, all of them `times` times; False, and nothing done, where the
        device has no faster way (`repeat`) or they touch more than one cell.

        The same as that many calls of `hold`, up to rounding.
        """
        faster = getattr(self.device, "repeat", None)
        plans = [(self._plan(wl, bl, sl), seconds) for wl, bl, sl, seconds in holds]
        touched = {plan.cells.tobytes() for plan, _ in plans if plan is not None}
        if faster is None or len(touched) != 1 or any(plan and plan.network for plan, _ in plans):
            return False
        cells = next(plan.cells for plan, _ in plans if plan is not None)
        if cells.size != 1:
            return False
        volts, widths, waits = [], [], [0.0]
        owed, first_wait = 0.0, -1  # what the other cells wait while this one is pulsed is caught up in the next wait
        for plan, seconds in plans:
            if plan is None:
                first_wait = len(waits) - 1 if first_wait < 0 else first_wait
                waits[-1] += seconds + owed
                owed = 0.0
            elif seconds:
                volts.append(plan.volts)
                widths.append(seconds)
                waits.append(0.0)
                owed += seconds if plan.device_cells is not None else 0.0
        if first_wait >= 0:
            waits[first_wait] += owed
        else:
            self._owed += times * owed
        faster(int(cells[0]), np.array(volts, np.float64), np.array(widths), np.array(waits), times)
        self._counts[0, cells] += times * len(widths)
        return True

    def read(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike, bandwidth: float) -> tuple[FloatArray, FloatArray]:
        """Measure the driver currents as `hold` counts them, with the cells' noise in `bandwidth` (Hz).

        The stored state does not move; the cells' noise is added at the potentials of the noise-free array.
        """
        if not (math.isfinite(bandwidth) and bandwidth >= 0):
            raise UsageError(f"bandwidth = {bandwidth} Hz must be finite and not negative")
        plan = self._plan(wl, bl, sl)
        if plan is None:
            return np.zeros(self.columns), np.zeros(self.rows)
        current = self.device.read(*self._volts(plan), bandwidth, plan.device_cells)
        self._counts[1, plan.cells] += 1
        return self._per_line(plan, current)

    def wait(self, seconds: float, temperature: float | None = None) -> None:
        """Let time pass without bias (see `DeviceModel.wait`); `temperature` in kelvin.

        The time that cells spent while others were pulsed is caught up here. `DeviceModel.wait` takes all cells at
        once, so a cell that was pulsed meanwhile ages by the widths of its own pulses twice.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"seconds = {seconds} s must be finite and not negative")
        self.device.wait(seconds + self._owed, temperature)
        self._owed = 0.0

    def potentials(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Bit and source line potentials at the cells that carry current, each (rows, columns), V; nan elsewhere."""
        maps = np.full((2, self.rows * self.columns), np.nan)
        if (plan := self._plan(wl, bl, sl)) is not None:
            maps[0, plan.cells], maps[1, plan.cells] = self._potentials(plan)
        return maps[0].reshape(self.shape), maps[1].reshape(self.shape)

    def ohmic(self, v_read: float, v_wl: float) -> FloatArray:
        """Each cell's conductance (S), (rows, columns): current over voltage at `v_read` on its bit line, SL at 0 V.

        What `crossbar.Crossbar` takes (rows are source lines, columns bit lines, sensed at the top): exact for ohmic
        cells; the physical cell at 0.2 V is within 2 % of the exact `read` (see the tests) in a hundredth of its time.
        """
        if not (math.isfinite(v_read) and v_read != 0):
            raise UsageError(f"v_read = {v_read} V must be finite and not 0")
        return self.device.read(v_read, 0.0, v_wl, 0.0).reshape(self.shape) / v_read

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `restore` needs: the device's arrays (``device.`` before each name) and the doses."""
        state: dict[str, NDArray[np.generic]] = {f"device.{k}": v for k, v in self.device.state().items()}
        state["array.doses"] = self._counts.copy()
        state["array.owed"] = np.array(self._owed)
        return state

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave; raises `UsageError` for another model, shape or version."""
        try:
            counts, owed = np.asarray(state["array.doses"]), float(np.asarray(state["array.owed"], np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is no state of an array ({error}); give what Array1T1R.state() returned") from None
        if counts.shape != self._counts.shape or counts.dtype != np.int64:
            raise UsageError(
                f"the state has doses of shape {counts.shape}, {counts.dtype}; this array of"
                f" {self.rows} × {self.columns} needs {self._counts.shape}, int64"
            )
        self.device.restore({k.removeprefix("device."): v for k, v in state.items() if k.startswith("device.")})
        self._counts, self._owed = counts.copy(), owed

    def _per_line(self, plan: _Plan, current: FloatArray) -> tuple[FloatArray, FloatArray]:
        if current.size == 1 and plan.network is None:
            i_bl, i_sl = np.zeros(self.columns), np.zeros(self.rows)
            i_bl[plan.columns], i_sl[plan.rows] = current, -current
            return i_bl, i_sl
        i_bl = np.bincount(plan.columns, current, self.columns).astype(np.float64, copy=False)
        i_sl = -np.bincount(plan.rows, current, self.rows).astype(np.float64, copy=False)
        if plan.network is not None:  # what noise leaves on a floating line is no driver's current
            i_bl[plan.network.floating_columns] = 0.0
            i_sl[plan.network.floating_rows] = 0.0
        return i_bl, i_sl

    def _volts(self, plan: _Plan) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        return plan.volts if plan.network is None else (*self._potentials(plan), plan.v_wl)

    def _potentials(
        self, plan: _Plan, guess: tuple[FloatArray, FloatArray] | None = None
    ) -> tuple[FloatArray, FloatArray]:
        if plan.network is None:
            return plan.v_bl, plan.v_sl

        def current(v_bl: FloatArray, v_sl: FloatArray) -> FloatArray:
            # nothing drives a current between equal ends; a model solved by iteration may give 1e-11 A there
            return np.where(v_bl == v_sl, 0.0, self.device.read(v_bl, v_sl, plan.v_wl, 0.0, plan.device_cells))

        return solve(plan.network, current, guess)

    def _follow(
        self, plan: _Plan, network: Network, v_bl: FloatArray, v_sl: FloatArray, seconds: float
    ) -> tuple[FloatArray, FloatArray]:
        """Hold while the potentials move with the cells; they start at v_bl, v_sl; returns where they end."""
        v = np.stack([v_bl, v_sl])
        slope = np.zeros_like(v)
        left, step = 1.0, _FIRST_STEP if math.isfinite(self._resolution) else 1.0
        while left > 0:
            step = left if step > 0.999 * left else step
            middle = np.clip(v + slope * (step / 2), *network.bounds)
            self.device.pulse(middle[0], middle[1], plan.v_wl, seconds * step, plan.device_cells)
            after = np.stack(self._potentials(plan, (v[0], v[1])))
            slope, left = (after - v) / step, left - step
            moved = float(np.abs(after - v).max())
            v = after
            step = min(max(step * min(max(self._resolution / (moved + 1e-12), 0.2), 2.0), _STEPS[0]), _STEPS[1])
        return v[0], v[1]

    def _plan(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike) -> _Plan | None:
        """The decoded pattern; None when no cell can carry a current."""
        if (known := self._constant.get((id(wl), id(bl), id(sl)))) is not None:
            return known[1]
        plan = self._checked_plan(wl, bl, sl)
        constant = all(isinstance(volts, np.ndarray) and not volts.flags.writeable for volts in (wl, bl, sl))
        if constant and (plan is None or plan.cells.size <= _CACHED_CELLS):
            if len(self._constant) >= _CACHED_PLANS:
                self._constant.clear()
            self._constant[id(wl), id(bl), id(sl)] = (wl, bl, sl), plan  # held, so that the ids stay theirs
        return plan

    def _checked_plan(self, wl: ArrayLike, bl: ArrayLike, sl: ArrayLike) -> _Plan | None:
        wl, bl, sl = np.asarray(wl, np.float64), np.asarray(bl, np.float64), np.asarray(sl, np.float64)
        for name, volts, n in (("wl", wl, self.rows), ("bl", bl, self.columns), ("sl", sl, self.rows)):
            if volts.shape != (n,):
                raise UsageError(f"{name} has shape {volts.shape}; this array needs ({n},), one voltage a line")
        levels = np.concatenate((wl, bl, sl))
        key = levels.tobytes()
        if key in self._plans:
            return self._plans[key]
        if np.isinf(levels).any():
            raise UsageError("a line has an infinite voltage; give volts, or nan for a floating line")
        plan = self._decode(wl, bl, sl)
        if plan is None or plan.cells.size <= _CACHED_CELLS:
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _decode(self, wl: FloatArray, bl: FloatArray, sl: FloatArray) -> _Plan | None:
        if self._gate_off < 0:
            wl = np.nan_to_num(wl)
        on = np.flatnonzero(wl > self._gate_off)
        resistive = self._r_bl > 0 or self._r_sl > 0
        if on.size == 1 and not resistive and not math.isnan(sl[on[0]]):
            return self._decode_row(int(on[0]), wl, bl, sl)
        across = bl - sl[on, None]
        active = across != 0  # true where a line floats
        if resistive:  # drops put a voltage on cells between lines that are driven alike
            active = np.full(across.shape, bool(active.any()))
        floating = np.isnan(across)
        if any_floating := bool(floating.any()):
            free_columns, free_rows = np.isnan(bl), np.isnan(sl[on])
            # a floating line with one way out carries nothing, and so neither does that way
            while True:
                lone = (free_columns & (active.sum(0) == 1)) | (free_rows & (active.sum(1) == 1))[:, None]
                if not (lone & active).any():
                    break
                active &= ~lone
        at, columns = np.nonzero(active)
        if not at.size:
            return None
        rows = on[at]
        cells = rows * self.columns + columns
        v_bl, v_sl, v_wl = bl[columns], sl[rows], wl[rows]
        alike = all(v.size == 1 or v.min() == v.max() for v in (v_bl, v_sl, v_wl))  # false where one floats
        volts = tuple(float(v[0]) if alike else v for v in (v_bl, v_sl, v_wl))
        network = None
        if resistive or (any_floating and bool(floating[active].any())):
            network = Network.build(rows, columns, v_bl, v_sl, self._r_bl, self._r_sl)
        full, half = _split(cells, across[active]) if network is None else (cells[:0], cells[:0])
        whole = cells.size == self.rows * self.columns
        at_cells = None if whole else cells
        return _Plan(
            cells, at_cells, rows, columns, v_bl, v_sl, v_wl, (volts[0], volts[1], volts[2]), network, full, half
        )

    def _decode_row(self, row: int, wl: FloatArray, bl: FloatArray, sl: FloatArray) -> _Plan | None:
        """One open row of ideal lines, the commonest pattern: a bit line that floats there has nowhere to go."""
        with np.errstate(invalid="ignore"):
            columns = np.flatnonzero(np.abs(bl - sl[row]) > 0)  # false where one floats
        if not columns.size:
            return None
        rows = np.full(columns.size, row)
        cells = row * self.columns + columns
        v_bl, v_sl, v_wl = bl[columns], sl[rows], wl[rows]
        alike = columns.size == 1 or v_bl.min() == v_bl.max()
        volts = (float(v_bl[0]) if alike else v_bl, float(sl[row]), float(wl[row]))
        full, half = _split(cells, v_bl - v_sl)
        at_cells = None if cells.size == self.rows * self.columns else cells
        return _Plan(cells, at_cells, rows, columns, v_bl, v_sl, v_wl, volts, None, full, half)


def _split(cells: NDArray[np.intp], across: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cells that see the (nearly) full voltage of this pattern, and those that see part of it."""
    if cells.size == 1:
        return cells, cells[:0]
    size = np.abs(across)
    full = size > FULL_SELECT * size.max()
    return cells[full], cells[~full & (size > 0)]
