"""Write-verify: pulses until a cell's conductance lies in a band, as one board program a cell or as a loop on the host.

After each reading, the next pulse follows from register values alone, so that board and host decide alike:

- too high: RESET, too low: SET, each along its own `Ramp`. The first pulse of a polarity is the ramp's start, each
  further one a step more. When the polarity turns (over- or undershoot), the ramp of the other is taken up `back`
  before the place where it was left.
- in the band: read again after `confirm` s; only a second reading in the band ends it (a single one may be noise).
- negative: stop; over the range or below `r_short`: RESET, but at most `SHORT_PULSES` of them.
- below the range is high resistance, since auto-range ends at the most sensitive range.
- It ends when the attempts are used or a ramp is at its end. A cell that is in its band from the start gets no pulse.

The algorithm is that of the public 1T1R testers (ESCIM, NI-RRAM: ramps of V_WL or V_BL with flips at over- and
undershoot); the confirmation follows NIST's finding that fluctuations defeat a single verify.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import pairwise
from typing import Annotated as A
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.cell import END, CellPort, CellProgram
from drivers.fpga import program as fpga
from drivers.fpga.board import Reading
from drivers.fpga.program import OVERRANGE_REGISTER, SAMPLE_UNIT, Condition, Kind, reg
from drivers.quantities import COLUMN, ROW, STATUS, WIDTH
from labctl.errors import ParameterError
from labctl.quantity import Q, si

Where = Literal["board", "host"]
SHORT_PULSES = 5
"""RESET pulses that may try to bring a shorted cell back."""
UNRESOLVED = 8
"""Codes of the most sensitive range from which on a current is one (`SampleFlag.BELOW`)."""
STILL, FAR = 1.2, 1.5
"""A cell whose conductance stayed within the factor STILL while the band is further away than FAR does not respond."""


class Ramp(NamedTuple):
    """The pulses of one polarity: `sweep` names what rises from `start` to `stop` (V or s, both included).

    step 0 repeats the same pulse. back: how far the ramp goes back when the polarity comes again, not below `floor`;
    None begins at the start again.
    """

    sweep: Literal["v", "v_wl", "width"]
    start: float
    stop: float
    step: float
    v: float
    v_wl: float
    width: float
    back: float | None = None
    floor: float | None = None


class Band(NamedTuple):
    """What to reach and how: conductance `low` … `high` (S), the ramps, the readings."""

    low: float
    high: float
    set: Ramp
    reset: Ramp
    attempts: int = 25
    v_read: float = 0.2
    v_wl_read: float = 2.5
    average: int = 16
    confirm: float = 1e-3
    r_short: float = 2e3


class Pulse(NamedTuple):
    """One pulse of a write-verify."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    number: A[int, Q("", meaning="number of the pulse on this cell, from 0")]
    v: A[float, Q("V", meaning="voltage of the pulse, V_BL − V_SL: SET above 0, RESET below")]
    v_wl: A[float, Q("V", meaning="gate voltage of the pulse")]
    width: A[float, WIDTH]
    g_before: A[float, Q("S", meaning="conductance read before it; NaN where it could not be resolved")]
    g_after: A[float, Q("S", meaning="conductance read after it; NaN where it could not be resolved")]
    status: A[str, STATUS]
    t: A[float, Q("s", meaning="when it ended, on the bench's clock")]


OUTCOME = Q(
    "",
    meaning="done, already (in the band from the start: no pulse), never (attempts used or ramp ended), stuck (pulses"
    " do not move it), shorted, open (nothing flows, whatever is applied) or negative (current against the voltage)",
)


class Outcome(NamedTuple):
    """How a write-verify ended. t: of the last reading, `last`; t_pulse: end of the last pulse, NaN where none was."""

    status: str
    last: Reading
    pulses: tuple[Pulse, ...]
    t: float
    t_pulse: float


class End(IntEnum):
    """Why the loop ended."""

    IN_BAND = 0
    ATTEMPTS = 1
    RAMP = 2
    SHORTED = 3
    NEGATIVE = 4


_VALUE, _LAST, _LEFT, _SHORT = (1, 2), 3, 4, 5
"""Registers: value of the SET and of the RESET ramp, last polarity + 1, attempts left, pulses left on a short."""
_GATE, _END = 0, 1
"""Tags of the VALUE records: the gate's code of the pulse before; why it ended."""


class _Steps:
    """A ramp in the board's units; polarity 0 is SET, 1 RESET."""

    def __init__(self, cell: CellPort, polarity: int, ramp: Ramp) -> None:
        bench = cell.bench
        drive = bench.station.converter("SL_DRIVE" if polarity else "BL_DRIVE")
        floor = ramp.start if ramp.floor is None else min(ramp.floor, ramp.start)
        back = ramp.stop - floor if ramp.back is None else ramp.back
        if not (0 <= floor <= ramp.start <= ramp.stop and ramp.step >= 0 and back >= 0):
            raise ParameterError(
                f"a ramp of {ramp.sweep} from {ramp.start:g} to {ramp.stop:g}, step {ramp.step:g}, back {back:g}, not"
                f" below {floor:g}: give 0 ≤ floor ≤ start ≤ stop, and a step and a way back that are not negative"
            )

        def units(value: float) -> int:
            return bench.ticks(value) if ramp.sweep == "width" else bench.board.code(drive, value)

        self.start, self.stop, self.floor = units(ramp.start), units(ramp.stop), units(floor)
        self.step, self.back = max(units(ramp.step), ramp.step > 0), units(back)
        self.repeats = ramp.step == 0
        highest = {"v": ramp.v, "v_wl": ramp.v_wl, "width": ramp.width, ramp.sweep: ramp.stop}
        self._sign = -1 if polarity else 1
        program = CellProgram(cell, attached=True, polarity=self._sign)
        program.pulse(self._sign * highest["v"], highest["v_wl"], highest["width"])  # checks the limits
        [pulse] = program.instructions
        assert isinstance(pulse, fpga.Pulse)
        self._pulse = replace(pulse, log=True, tag=polarity)
        self._field = {"v": "level", "v_wl": "gate_level", "width": "width"}[ramp.sweep]

    def add_pulse(self, program: CellProgram, value: int) -> None:
        """One pulse with the ramp at `value` (number or register), and the record of its gate."""
        pulse = replace(self._pulse, **{self._field: value})  # type: ignore[arg-type]
        program.route(self._sign)
        program.instructions.append(pulse)
        program.route(1)
        program.instructions.append(fpga.Emit(_GATE, pulse.gate_level))


class _Plan:
    """A band in the board's units, for one cell."""

    def __init__(self, cell: CellPort, band: Band) -> None:
        if not 0 <= band.low <= band.high:
            raise ParameterError(f"no conductance lies in a band from {band.low:g} S to {band.high:g} S")
        if band.high > 1 / band.r_short:
            raise ParameterError(
                f"a band up to {si(band.high, 'S')} reaches into what r_short = {si(band.r_short, 'Ω')} calls shorted;"
                " lower one of them"
            )
        self.cell, self.band = cell, band
        current = [round(g * band.v_read / SAMPLE_UNIT) for g in (band.low, band.high, 1 / band.r_short)]
        self.low, self.high, self.short = current
        self.negative = -round((UNRESOLVED - 0.5) * cell.bench.board.ranges.ranges[0].gain / SAMPLE_UNIT)
        self.steps = (_Steps(cell, 0, band.set), _Steps(cell, 1, band.reset))

    def read(self, program: CellProgram, delay: float = 0.0) -> CellProgram:
        return program.wait(delay).read(self.band.v_read, self.band.v_wl_read, self.band.average)


def write_verify(cell: CellPort, band: Band, where: Where = "board") -> Outcome:
    """Bring a cell into a band; see the module's text.

    Raises `LimitError` before anything is applied when a pulse of its ramps would leave the limits, `ParameterError`
    for ramps that are none.
    """
    plan = _Plan(cell, band)
    return _outcome(cell, band, *(_on_board(plan) if where == "board" else _on_host(plan)))


def pulse_and_read(
    cell: CellPort, v: float, v_wl: float, width: float, v_read: float, v_wl_read: float, average: int = 16
) -> tuple[Pulse, Reading]:
    """One logged pulse and the reading after it, for loops that the board cannot run. Raises `LimitError`."""
    program = cell.program().pulse(v, v_wl, width)
    pulse = program.instructions[-1]
    assert isinstance(pulse, fpga.Pulse)
    program.instructions[-1:] = [replace(pulse, log=True, tag=int(v < 0)), fpga.Emit(_GATE, pulse.gate_level)]
    row, reading = _run(cell, program.read(v_read, v_wl_read, average))
    assert isinstance(row, Pulse)
    assert isinstance(reading, Reading)
    return row._replace(g_after=known(reading), status=reading.status), reading


def known(reading: Reading) -> float:
    """The conductance (S) that a reading tells: 0 where it is below the most sensitive range, NaN where it is none."""
    return 0.0 if reading.status == "below" and reading.range == 0 else reading.g


# the board's program -----------------------------------------------------------------------------------------------

Event = Reading | Pulse


def _on_board(plan: _Plan) -> tuple[list[Event], End]:
    program = plan.cell.program()
    program.route(1)
    program.pulses = plan.band.attempts
    start = [fpga.Set(_LEFT, plan.band.attempts), fpga.Set(_SHORT, SHORT_PULSES)]
    program.instructions += start + [
        fpga.Set(register, steps.start + steps.back) for register, steps in zip(_VALUE, plan.steps, strict=True)
    ]
    _decide(plan.read(program.label("read")), plan)
    if plan.band.confirm:
        _decide(plan.read(program, plan.band.confirm), plan)
    _end(program, End.IN_BAND)
    program.label("short").instructions.append(fpga.Add(_SHORT, -1))
    program.branch(Condition.LT, reg(_SHORT), 0, End.SHORTED.name)
    for polarity, label in ((1, "reset"), (0, "set")):
        _advance(program.label(label), polarity, plan.steps[polarity])
    for end in list(End)[1:]:
        _end(program.label(end.name), end)
    records = np.concatenate([*program.records(), np.zeros(0, fpga.RECORD)])
    [last] = records["value"][(records["kind"] == Kind.VALUE) & (records["tag"] == _END)]
    return _decode(plan.cell, program, records), End(last)


def _decide(program: CellProgram, plan: _Plan) -> None:
    """Go where the last reading says; stay where it is in the band."""
    program.branch(Condition.GE, reg(0), plan.short, "short").branch(Condition.GT, reg(0), plan.high, "reset")
    program.branch(Condition.LT, reg(0), plan.negative, End.NEGATIVE.name)
    program.branch(Condition.LT, reg(0), plan.low, "set")


def _advance(program: CellProgram, polarity: int, steps: _Steps) -> None:
    """The next pulse of a polarity, and back to the reading."""
    value, more, fire = _VALUE[polarity], f"more {polarity}", f"fire {polarity}"
    program.branch(Condition.LE, reg(_LEFT), 0, End.ATTEMPTS.name)
    program.branch(Condition.EQ, reg(_LAST), polarity + 1, more)
    program.instructions.append(fpga.Add(value, -steps.back))
    program.branch(Condition.GE, reg(value), steps.floor, fire)
    program.instructions.append(fpga.Set(value, steps.floor))
    program.branch(Condition.ALWAYS, 0, 0, fire).label(more)
    if not steps.repeats:
        program.branch(Condition.GE, reg(value), steps.stop, End.RAMP.name)
        program.instructions.append(fpga.Add(value, steps.step))
        program.branch(Condition.LE, reg(value), steps.stop, fire)
        program.instructions.append(fpga.Set(value, steps.stop))
    program.label(fire).instructions += [fpga.Add(_LEFT, -1), fpga.Set(_LAST, polarity + 1)]
    steps.add_pulse(program, reg(value))
    program.branch(Condition.ALWAYS, 0, 0, "read")


def _end(program: CellProgram, end: End) -> None:
    program.instructions.append(fpga.Emit(_END, end))
    program.branch(Condition.ALWAYS, 0, 0, END)


# the same on the host ----------------------------------------------------------------------------------------------


def _on_host(plan: _Plan) -> tuple[list[Event], End]:
    cell, band = plan.cell, plan.band
    values = [steps.start + steps.back for steps in plan.steps]
    left, short, last, confirming = band.attempts, SHORT_PULSES, -1, False
    entry = cell.program()
    entry.route(1)
    events = _run(cell, plan.read(entry))
    while True:
        current = _register(events[-1])
        if current < plan.negative:
            return events, End.NEGATIVE
        if plan.low <= current <= plan.high and current < plan.short:
            if confirming or not band.confirm:
                return events, End.IN_BAND
            confirming = True
            events += _run(cell, plan.read(_attached(cell), band.confirm))
            continue
        confirming = False
        if current >= plan.short:
            short -= 1
            if short < 0:
                return events, End.SHORTED
        polarity = 0 if current < plan.low else 1
        steps = plan.steps[polarity]
        if left <= 0:
            return events, End.ATTEMPTS
        if last != polarity:
            values[polarity] = max(values[polarity] - steps.back, steps.floor)
        elif not steps.repeats:
            if values[polarity] >= steps.stop:
                return events, End.RAMP
            values[polarity] = min(values[polarity] + steps.step, steps.stop)
        left, last = left - 1, polarity
        program = _attached(cell)
        program.pulses = 1
        steps.add_pulse(program, values[polarity])
        events += _run(cell, plan.read(program))


def _attached(cell: CellPort) -> CellProgram:
    """A program that goes on where one before has left the lines, routed for positive voltages."""
    return CellProgram(cell, attached=True, polarity=1)


def _register(event: Event) -> int:
    """What the board's register would hold after a reading."""
    assert isinstance(event, Reading)
    if event.status == "over":
        return OVERRANGE_REGISTER if event.current > 0 else -OVERRANGE_REGISTER
    return 0 if event.status == "open" else round(event.current / SAMPLE_UNIT)


# what happened -----------------------------------------------------------------------------------------------------


def _run(cell: CellPort, program: CellProgram) -> list[Event]:
    """Run a program; its readings and logged pulses in order."""
    return _decode(cell, program, np.concatenate([*program.records(), np.zeros(0, fpga.RECORD)]))


def _decode(cell: CellPort, program: CellProgram, records: NDArray[np.void]) -> list[Event]:
    board = cell.bench.board
    volts = board.identity.dac_full_scale / 65535
    readings = program.readings(records)
    gates = iter(records["value"][(records["kind"] == Kind.VALUE) & (records["tag"] == _GATE)].tolist())
    events: list[Event] = []
    for record in records:
        if record["kind"] == Kind.SAMPLE:
            events.append(next(readings))
        elif record["kind"] == Kind.PULSE:
            v = float(record["aux"]) * volts * (-1 if record["tag"] else 1)
            t, width = float(record["tick"]) * board.identity.tick, float(record["value"]) * board.identity.tick
            nan = float("nan")
            events.append(Pulse(cell.row, cell.column, 0, v, next(gates) * volts, width, nan, nan, "", t))
    return events


def _outcome(cell: CellPort, band: Band, events: list[Event], end: End) -> Outcome:
    pulses: list[Pulse] = []
    for before, event, after in zip(events, events[1:], events[2:], strict=False):
        if isinstance(event, Pulse) and isinstance(before, Reading) and isinstance(after, Reading):
            pulses.append(
                event._replace(number=len(pulses), g_before=known(before), g_after=known(after), status=after.status)
            )
    readings = [event for event in events if isinstance(event, Reading)]
    last = readings[-1]._replace(tag=0)
    t_pulse = pulses[-1].t if pulses else float("nan")
    tick = cell.bench.board.identity.tick
    return Outcome(_status(band, readings, pulses, end), last, tuple(pulses), last.tick * tick, t_pulse)


def _status(band: Band, readings: list[Reading], pulses: list[Pulse], end: End) -> str:
    if end == End.IN_BAND:
        return "done" if pulses else "already"
    named = {End.NEGATIVE: "negative", End.SHORTED: "shorted"}
    return named.get(end) or why_not(readings, band.low, band.high, band.r_short)


def why_not(readings: Sequence[Reading], low: float, high: float, r_short: float) -> str:
    """The status of a cell that did not get into the band `low` … `high` (S), from all its readings in order."""
    g = np.array([known(reading) for reading in readings])
    if readings[-1].status == "negative":
        return "negative"
    if readings[-1].status == "over" or g[-1] >= 1 / r_short:
        return "shorted"
    if all(reading.status in ("below", "open") for reading in readings):
        return "open"
    if not (np.isfinite(g).all() and g.min() > 0):
        return "never"
    away = max(low / g[0], g[0] / high if high else np.inf)
    return "stuck" if g.max() / g.min() < STILL and away > FAR else "never"


def flips(pulses: tuple[Pulse, ...]) -> int:
    """How often the polarity turned."""
    return sum((a.v > 0) != (b.v > 0) for a, b in pairwise(pulses))
