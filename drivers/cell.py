"""One 1T1R cell through the line matrix: which line is driven, which is sensed, and what the others do meanwhile."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.board import Reading
from drivers.fpga.messages import NONE, LineKind, Source
from drivers.fpga.program import (
    SAMPLE_UNIT,
    SETTLE,
    Branch,
    Commit,
    Condition,
    Connect,
    Dac,
    Delay,
    End,
    Instruction,
    Loop,
    Pulse,
    Read,
    Set,
    length,
    reg,
)
from labctl.errors import UsageError
from labctl.quantity import si

if TYPE_CHECKING:
    from drivers.bench import Bench

POINTS_A_PROGRAM = 2000
"""Points that fit into the board's program memory at once."""
END = "end"
"""Label of a program's end."""
CUT_OFF_POINTS = 1000
"""Points of a sweep that fit with a current cut-off."""
BOTH = 2
"""Polarity while both lines of the cell are driven, see `CellProgram.levels`."""
LEAD = 50e-9
"""Seconds that the gate is up before and after a pulse."""


class Bias(NamedTuple):
    """One point of a sweep: v = V_BL − V_SL in V (one of the two is at 0), and the gate voltage in V."""

    v: float
    v_wl: float


class CellProgram:
    """Builds a board program for one cell. Voltages are V_BL − V_SL; lines are re-routed only where their sign turns.

    Nothing is sent before the program is run, and each voltage is checked against the limits as it is added
    (`LimitError`). attached, polarity: the lines are the cell's already, routed for this sign (0: for none).
    """

    def __init__(self, cell: "CellPort", attached: bool = False, polarity: int = 0) -> None:
        self._cell, self._bench = cell, cell.bench
        self._attached = attached
        converter = self._bench.station.converter
        self._wl, self._bl, self._sl = converter("WL_DRIVE"), converter("BL_DRIVE"), converter("SL_DRIVE")
        self._polarity, self._v = polarity, 0.0
        self._labels: dict[str, int] = {}  # name → instruction
        self._branches: dict[int, str] = {}  # instruction → where it leads
        self._sampled: list[tuple[int, float]] = []  # polarity and voltage of each sample
        self._others = False  # whether the other lines are biased
        self.pulses = 0  # that it applies at most
        self.instructions: list[Instruction] = []

    def hold(self, v: float, v_wl: float) -> "CellProgram":
        """Put the cell at `v` with its gate at `v_wl`, until something else is said."""
        drive = self._turn(v)
        self._bench.check({"BL_DRIVE" if v >= 0 else "SL_DRIVE": abs(v), "WL_DRIVE": v_wl})
        code = self._bench.board.code
        self.instructions += [Dac(drive, code(drive, abs(v))), Dac(self._wl, code(self._wl, v_wl)), Commit()]
        self._v = v
        return self

    def rest(self) -> "CellProgram":
        """Put the cell at 0 V with its gate closed; the lines stay routed as they are."""
        self.instructions += [*(Dac(drive, 0) for drive in (self._bl, self._sl, self._wl)), Commit()]
        self._v = 0.0
        return self

    def wait(self, seconds: float) -> "CellProgram":
        """Let time pass."""
        self.instructions += [Delay(ticks) for ticks in self._bench.pieces(seconds)]
        return self

    def levels(self, v_bl: float, v_sl: float, v_wl: float, seconds: float) -> "CellProgram":
        """Drive both lines of the cell and its gate (V) for `seconds` in all, and go on; nothing can be sampled then.

        Raises `UsageError` for less than what an output change takes.
        """
        bench = self._bench
        rest = bench.ticks(seconds) - SETTLE
        if rest < 0:
            least = si(SETTLE * bench.board.identity.tick, "s")
            raise UsageError(f"a level of {si(seconds, 's')} is too short; an output change takes {least}")
        bench.check({"BL_DRIVE": v_bl, "SL_DRIVE": v_sl, "WL_DRIVE": v_wl})
        if self._polarity != BOTH:
            self._turn(1.0)
            self.instructions.append(Connect(LineKind.SL, self._cell.row, Source.DAC + self._sl))
            self._polarity = BOTH
        volts = {self._bl: v_bl, self._sl: v_sl, self._wl: v_wl}
        self.instructions += [Dac(channel, bench.board.code(channel, v)) for channel, v in volts.items()]
        self.instructions += [Commit(), *(Delay(ticks) for ticks in [rest] * (rest > 0))]
        self._v = v_bl - v_sl
        return self

    def others(self, v: float, v_bl: float, v_sl: float, all_gates: bool = False) -> "CellProgram":
        """Put the other bit and source lines at these voltages (V) while the cell gets voltages of the sign of `v`.

        They stay there until the sign turns, or the program ends. all_gates: the gates of the other rows move with the
        cell's; else they stay at 0 V. The drive that this sign leaves free serves one kind of lines, BIAS_DRIVE the
        other: raises `StationError` where the station wires no converter to it.
        """
        bench, cell, chip = self._bench, self._cell, self._bench.station.chip
        pins = {LineKind.BL: "BIAS_DRIVE", LineKind.SL: "SL_DRIVE"}
        if v < 0:
            pins = {LineKind.BL: "BL_DRIVE", LineKind.SL: "BIAS_DRIVE"}
        volts = {pins[LineKind.BL]: v_bl, pins[LineKind.SL]: v_sl}
        converters = {pin: bench.station.converter(pin) for pin in volts}
        bench.check(volts)
        self._turn(v)
        columns = (column for column in range(chip.columns) if column != cell.column)
        rows = [row for row in range(chip.rows) if row != cell.row]
        to = {kind: Source.DAC + converters[pin] for kind, pin in pins.items()}
        self.instructions += [Connect(LineKind.BL, column, to[LineKind.BL]) for column in columns]
        self.instructions += [Connect(LineKind.SL, row, to[LineKind.SL]) for row in rows]
        self.instructions += [Connect(LineKind.WL, row, Source.DAC + self._wl) for row in rows if all_gates]
        self.instructions += [
            Dac(converters[pin], bench.board.code(converters[pin], level)) for pin, level in volts.items()
        ]
        self.instructions.append(Commit())
        self._others = True
        return self

    def sample(self, average: int = 16, range: int = NONE) -> "CellProgram":
        """Sample the current at the present voltage; one reading, whose tag counts the samples.

        range: of the amplifier, so that every sample takes equally long; NONE: auto-range.
        """
        cell = self._cell
        line = (LineKind.BL, cell.column) if self._polarity < 0 else (LineKind.SL, cell.row)
        self.instructions.append(Read(*line, range=range, average=average, tag=len(self._sampled), register=0))
        self._sampled.append((self._polarity, self._v))
        return self

    def read(self, v_read: float, v_wl: float, average: int = 16) -> "CellProgram":
        """Sample the current at `v_read` and let go of the cell; one reading."""
        return self.hold(v_read, v_wl).sample(average).hold(0.0, 0.0)

    def stop_at(self, current: float, label: str = END) -> "CellProgram":
        """Go on at `label` when the last sample (A, as the amplifier sees it) reached `current`; by default, end."""
        return self.branch(Condition.GE, reg(0), round(current / SAMPLE_UNIT), label)

    def branch(self, condition: Condition, a: int, b: int, label: str) -> "CellProgram":
        """Go on at `label` if the condition holds between two operands; `END` is the end of the program.

        The lines must be routed alike wherever one can come from: `route` says how.
        """
        self._branches[len(self.instructions)] = label
        self.instructions.append(Branch(condition, a, b, 0))
        return self

    def label(self, name: str) -> "CellProgram":
        """Give the next instruction a name."""
        self._labels[name] = len(self.instructions)
        return self

    def route(self, polarity: int) -> int:
        """Route the lines for positive (1) or negative (−1) voltages; returns the converter that drives."""
        return self._turn(float(polarity))

    def pulse(self, v: float, v_wl: float, width: float, log: bool = False) -> "CellProgram":
        """One pulse, the gate up `LEAD` before and after it: SET for v > 0, RESET for v < 0.

        log: keep a record of it, whose tick is when its gate fell.
        """
        drive = self._turn(v)
        self._bench.check({"BL_DRIVE" if v >= 0 else "SL_DRIVE": abs(v), "WL_DRIVE": v_wl})
        board, ticks = self._bench.board, self._bench.ticks
        level, gate_level = board.code(drive, abs(v)), board.code(self._wl, v_wl)
        lead = ticks(LEAD)
        self.instructions.append(Pulse(drive, level, ticks(width), self._wl, gate_level, lead, lead, log=log, tag=0))
        self._v = 0.0
        self.pulses += 1
        return self

    def body(self, held: bool = False) -> "CellProgram":
        """A new, empty program to be repeated within this one.

        held: it begins with the lines as they are now, and must end with them so.
        """
        if not self._attached:
            self.hold(0.0, 0.0)
        body = CellProgram(self._cell, attached=True)
        body._sampled = self._sampled
        if held:
            body._polarity, body._v, body._others = self._polarity, self._v, self._others
        else:
            self._let_go()
        return body

    def repeat(self, body: "CellProgram", times: int) -> "CellProgram":
        """Carry out `body` (see there) `times` times. Uses register 15."""
        if times > 0:
            self.instructions.append(Set(15, times))
            start = length(self.instructions)
            self.instructions += [*body.instructions, Loop(15, start)]
            self.pulses += times * body.pulses
            self._polarity, self._v, self._others = body._polarity, body._v, body._others
        return self

    def run(self) -> Iterator[Reading]:
        """Run the program; one typed reading for each sample that was taken, positive from BL to SL.

        A current against the voltage that was held is no resistance: its status is "negative". Raises `LimitError`,
        before anything is sent, when the budget of the cell does not allow its pulses.
        """
        for block in self.records():
            yield from self.readings(block)

    def records(self) -> Iterator[NDArray[np.void]]:
        """Run the program; its records in blocks as they come. Raises `LimitError` as `run` does."""
        self._cell.admit(self.pulses)
        program = [*self.instructions, *self._release(), End()]
        labels = {END: len(self.instructions), **self._labels}
        at = {name: length(self.instructions[: labels[name]]) for name in set(self._branches.values())}
        for index, name in self._branches.items():
            program[index] = replace(self.instructions[index], target=at[name])  # type: ignore[call-arg]
        return self._bench.records(program)

    def readings(self, records: NDArray[np.void]) -> Iterator[Reading]:
        """The typed readings among this program's records."""
        for reading in self._bench.board.readings(records):
            polarity, v = self._sampled[reading.tag]
            current = -reading.current if polarity < 0 else reading.current
            status = "negative" if reading.status == "ok" and current * v < 0 else reading.status
            yield reading._replace(current=current, status=status, v=v)

    def _turn(self, v: float) -> int:
        """Route the lines for the sign of `v`; returns the converter that drives."""
        polarity = 1 if v >= 0 else -1
        if polarity != self._polarity:
            self._let_go()
            if self._polarity:
                self.instructions += [Dac(self._bl, 0), Dac(self._sl, 0), Commit()]
            self.instructions += [*self._routes(polarity), Commit()]
            self._polarity = polarity
        return self._bl if polarity > 0 else self._sl

    def _let_go(self) -> None:
        self.instructions += self._release()
        self._others = False

    def _release(self) -> list[Instruction]:
        """Take the bias off the other lines: bit lines float, source lines and gates are grounded."""
        if not self._others:
            return []
        cell, chip = self._cell, self._bench.station.chip
        drives = [self._bench.station.converter("BIAS_DRIVE"), self._bl if self._polarity < 0 else self._sl]
        rows = [row for row in range(chip.rows) if row != cell.row]
        return [
            *(Dac(drive, 0) for drive in drives),
            *(Connect(LineKind.WL, row, Source.GROUND) for row in rows),
            Commit(),
            *(Connect(LineKind.BL, column, Source.FLOAT) for column in range(chip.columns) if column != cell.column),
            *(Connect(LineKind.SL, row, Source.GROUND) for row in rows),
            Commit(),
        ]

    def _routes(self, polarity: int) -> list[Instruction]:
        cell = self._cell
        bl = Source.DAC + self._bl if polarity > 0 else Source.SENSE
        sl = Source.SENSE if polarity > 0 else Source.DAC + self._sl
        routes: list[Instruction] = [Connect(LineKind.SL, cell.row, sl), Connect(LineKind.BL, cell.column, bl)]
        if not self._attached:  # the others stay as they are when the sign turns
            self._attached = True
            others = [column for column in range(self._bench.station.chip.columns) if column != cell.column]
            routes += [Connect(LineKind.BL, column, Source.FLOAT) for column in others]
            routes.append(Connect(LineKind.WL, cell.row, Source.DAC + self._wl))
        return routes


class CellPort:
    """The cell at (row, column). Its word and source line run along the row, its bit line along the column.

    Positive v drives BL and senses SL; negative v drives SL and senses BL. The other bit lines float, because the cells
    of the same row share gate and source line and would be RESET too if their bit lines were grounded.
    """

    def __init__(self, bench: "Bench", row: int, column: int) -> None:
        chip = bench.station.chip
        if not (0 <= row < chip.rows and 0 <= column < chip.columns):
            raise UsageError(
                f"there is no cell ({row}, {column}); {chip.name} has {chip.rows} rows and {chip.columns} columns"
            )
        self.bench, self.row, self.column = bench, row, column

    def program(self) -> CellProgram:
        """A new, empty program for this cell."""
        return CellProgram(self)

    def go_on(self) -> int:
        """Pulses that the cell was given by the run that is resumed, since that run called this; 0 in a new run.

        For protocols that continue within a cell: the board's count is on the disk before the first pulse. Raises
        `MeasurementError` when nobody knows, because the board lost its power in between.
        """
        return self.bench.doses.go_on(self.row, self.column)

    def admit(self, pulses: int) -> None:
        """Ask the dose ledger, before a program that gives the cell up to so many pulses; raises `LimitError`."""
        self.bench.doses.admit(self.row, self.column, pulses)

    def sweep(
        self,
        points: Sequence[Bias],
        dwell: float,
        average: int = 16,
        *,
        gap: float | None = None,
        most: tuple[float, float] = (math.inf, math.inf),
    ) -> Iterator[Reading]:
        """Step through `points` with the board's timing: settle `dwell` s, then sample; one typed reading a point.

        gap: go back to 0 V for so many seconds after each point (None: staircase). most: currents (A) at positive and
        at negative voltages; where one is reached on the way out, the sweep goes on at the same voltage on the way
        back, and the points in between are left out. The current is positive from BL to SL; `Reading.v` is the
        voltage. Raises `LimitError` before anything is applied, `UsageError` for more points than fit a cut-off.
        """
        cut_off = not all(math.isinf(current) for current in most)
        if cut_off and len(points) > CUT_OFF_POINTS:
            raise UsageError(
                f"a sweep of {len(points)} points does not fit the board's memory with a current cut-off; choose up to"
                f" {CUT_OFF_POINTS} points a loop"
            )
        programs = []
        for start in range(0, len(points), POINTS_A_PROGRAM):
            program = self.program()
            part = points[start : start + POINTS_A_PROGRAM]
            for k, point in enumerate(part):
                program.label(f"point {k}").hold(point.v, point.v_wl).wait(dwell).sample(average)
                limit = most[point.v < 0]
                if cut_off and not math.isinf(limit) and (back := _way_back(part, k)) is not None:
                    program.branch(Condition.GE, reg(0), round(limit / SAMPLE_UNIT), f"point {back}")
                if gap is not None:
                    program.rest().wait(gap)
            programs.append(program)
        for program in programs:
            yield from program.run()

    def __enter__(self) -> "CellPort":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Leave the cell alone: its lines grounded, so that another can be chosen."""
        if kind is None:  # after an error the board is safe already, or will be made so
            lines = [(line, self.row, Source.GROUND) for line in (LineKind.SL, LineKind.WL)]
            columns = range(self.bench.station.chip.columns)
            self.bench.board.set_routes([*((LineKind.BL, c, Source.GROUND) for c in columns), *lines])
            self.bench.doses.settle(self.row)


def _way_back(points: Sequence[Bias], k: int) -> int | None:
    """Where a sweep comes back to the voltage of point `k` before it changes its sign; None on the way back."""
    v = points[k].v
    for later in range(k + 2, len(points)):
        if points[later].v * v < 0:
            return None
        if points[later].v == v:
            return later if abs(points[k + 1].v) > abs(v) else None
    return None


class CellLoop:
    """The cells of a selection, one after the other, each let go of at its end. Made by `Bench.cells`.

    ``for cell in bench.cells(rows, columns)``: a resumed run leaves out the cells that the first one finished; a cell
    is finished when the loop asks for the next one. With `revisit`, for loops that come back to the same cells, none is
    finished and none left out.
    """

    def __init__(self, bench: "Bench", rows: Sequence[int], columns: Sequence[int], revisit: bool) -> None:
        self._bench, self._revisit = bench, revisit
        self._cells = [CellPort(bench, row, column) for row in rows for column in columns]

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[CellPort]:
        for cell in self._cells:
            if self._revisit:
                with cell:
                    yield cell
            elif not self._bench.doses.is_finished(cell.row, cell.column):
                with cell:
                    yield cell
                self._bench.doses.finish(cell.row, cell.column)
