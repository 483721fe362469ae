"""Many cells to many levels: write-verify with learned starts, relaxation re-checks in rounds, re-reads over time.

Each cell is programmed by `drivers.verify` with the gate voltage of SET as the fine knob (the compliance: from any
higher resistance, the conductance follows the gate) and the source line voltage of RESET as the coarse one. What saves
pulses is where the ramps start: a curve from conductance to gate and to RESET voltage, measured on a few cells at the
beginning and moved by every cell that is done; a cell that is programmed again starts near where it ended before.

A round programs all cells that are not in their band; each is read again `relax` s after its last pulse, for which the
board does not wait but programs others meanwhile. What has moved out of the band goes into the next round. So a cell
counts as done only after a reading that long after its last pulse. Later re-reads show what relaxation does after that.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated as A
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.bench import Bench
from drivers.quantities import COLUMN, NUMBER, ROW, STATUS
from drivers.verify import OUTCOME, STILL, Band, Outcome, Pulse, Ramp, known, write_verify
from labctl.analysis.levels import effective_bits
from labctl.quantity import Q
from labctl.weights import LevelTable

LEVEL = Q("", meaning="number of the level, from 0")
TARGET = Q("S", meaning="conductance of the level")
FAULTY = ("shorted", "open", "stuck", "negative")
"""Cells that no further round can help; stuck only after pulses of both polarities did not move it."""
GIVE_UP = 3
"""Rounds in a row that may end without reaching the band before a cell is given up."""
COARSE = 0.05
"""Step of the gate voltage (V) when the curves are measured."""
RATE = 0.05
"""How far a cell that is done moves the curves towards what it needed."""


class Cell(NamedTuple):
    """One cell at the end of its last round."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    level: A[int, LEVEL]
    target: A[float, TARGET]
    g: A[float, Q("S", meaning="conductance right after programming; NaN where it could not be resolved")]
    g_relaxed: A[float, Q("S", meaning="conductance at the last re-check; NaN where it could not be resolved")]
    t_relaxed: A[float, Q("s", meaning="from the last pulse to that re-check; NaN where there was no pulse")]
    pulses: A[int, NUMBER]
    rounds: A[int, Q("", meaning="rounds that it took")]
    status: A[str, OUTCOME]


class Sample(NamedTuple):
    """One cell read some time after its last pulse; the re-checks of every round, then the re-reads."""

    row: A[int, ROW]
    column: A[int, COLUMN]
    level: A[int, LEVEL]
    requested: A[float, Q("s", meaning="when it was due, after the last pulse on it (the programming, if it got none)")]
    t: A[float, Q("s", meaning="when it was read, after the same")]
    g: A[float, Q("S", meaning="conductance; 0 where it is too small to resolve, NaN where it is none")]
    status: A[str, STATUS]
    read_as: A[int, Q("", meaning="the level nearest to it; −1: none")]


class Accuracy(NamedTuple):
    """All cells at one time after their last pulse; 0 s is the reading that ended the programming."""

    requested: A[float, Q("s", meaning="time after the last pulse")]
    cells: A[int, Q("", meaning="cells selected")]
    in_band: A[float, Q("", meaning="share of the cells within the band")]
    misread: A[float, Q("", meaning="share of the cells whose nearest level is another one, or that show none")]
    bias: A[float, Q("S", meaning="mean deviation from the target, faulty cells left out")]
    rms: A[float, Q("S", meaning="root mean square of the deviation, faulty cells left out")]
    bits: A[float, Q("", meaning="effective number of bits: log2 of (g_max − g_min) over rms·√12")]
    pulses: A[float, Q("", meaning="mean number of pulses a cell, those that measured the curves included")]
    rounds: A[int, Q("", meaning="rounds that it took")]


class Aim(NamedTuple):
    """A cell and the level that it is to hold."""

    row: int
    column: int
    level: int


@dataclass(frozen=True)
class Recipe:
    """How it is done. band: half-width around the level, S. `set` and `reset`: ramps as they may range; their starts
    are learned. margin: how far (V) below what the curves say the ramps begin."""

    table: LevelTable
    band: float
    set: Ramp
    reset: Ramp
    reading: Band
    relax: float = 1.0
    rounds: int = 12
    calibration: int = 8
    margin: tuple[float, float] = (0.02, 0.04)


def ramps(
    v_set: float, v_wl_set_start: float, v_wl_set: float, v_wl_step: float, v_reset_start: float, v_reset: float,
    v_step: float, v_wl_reset: float, width: float,
) -> tuple[Ramp, Ramp]:  # fmt: skip
    """The gate ramp of SET and the source line ramp of RESET; a turn of the polarity goes a step or two back."""
    rise = Ramp("v_wl", v_wl_set_start, v_wl_set, v_wl_step, v_set, v_wl_set, width, 2 * v_wl_step)
    return rise, Ramp("v", v_reset_start, v_reset, v_step, v_reset, v_wl_reset, width, v_step)


@dataclass
class _State:
    """What is known of one cell: its last pulse and reading, and where its ramps ended."""

    aim: Aim
    pulses: int = 0
    rounds: int = 0
    failures: int = 0
    status: str = ""
    g: float = float("nan")
    g_now: float = float("nan")
    t_last: float = 0.0  # of the last pulse, or of the first reading where there was none
    was_pulsed: bool = False
    age: float = float("nan")
    ends: dict[int, float] = field(default_factory=dict)
    seen: list[float] = field(default_factory=list)  # conductances before and after its pulses

    @property
    def responds(self) -> bool:
        """Whether pulses have ever moved it."""
        return bool(self.seen) and (min(self.seen) == 0.0 or max(self.seen) / min(self.seen) >= STILL)


class Curve:
    """The value of a ramp at which the chip's cells reach a conductance, a line through nodes that are learned."""

    def __init__(self, g: NDArray[np.float64], v: NDArray[np.float64]) -> None:
        self.g, self.v = g, v

    def __call__(self, g: float) -> float:
        return float(np.interp(g, self.g, self.v))

    def learn(self, g: float, v: float) -> None:
        """A cell was brought to `g` by a pulse at `v`: move the nodes beside it."""
        right = int(np.clip(np.searchsorted(self.g, g), 1, len(self.g) - 1))
        share = float(np.clip((g - self.g[right - 1]) / (self.g[right] - self.g[right - 1]), 0.0, 1.0))
        error = v - self(g)
        self.v[right - 1] += RATE * (1 - share) * error
        self.v[right] += RATE * share * error


class Programmer:
    """Programs the cells of `aims`; iterate over `run`."""

    def __init__(self, bench: Bench, recipe: Recipe, aims: Sequence[Aim]) -> None:
        self.bench, self.recipe = bench, recipe
        self.states = [_State(aim) for aim in aims]
        self.round = 0
        self._spent = 0
        self._now = 0.0  # time of the last reading, on the bench's clock
        levels = recipe.table.values
        coarse = recipe.reading._replace(
            set=recipe.set._replace(step=COARSE), reset=recipe.reset, attempts=200, confirm=0.0
        )
        self._up = coarse._replace(low=levels[-1], high=0.99 / coarse.r_short)
        self._down = coarse._replace(low=0.0, high=max(levels[0], levels[-1] / 50))
        self._nodes = np.linspace(levels[0], levels[-1], 17)
        self.rise = Curve(self._nodes, np.full(17, recipe.set.start))
        self.fall = Curve(self._nodes, np.full(17, recipe.reset.start))

    def run(self, times: Sequence[float]) -> Iterator[Pulse | Sample | Cell | Accuracy]:
        """Calibrate, program in rounds, read again at `times` (s after the last pulse on each cell)."""
        yield from self._calibrate()
        pending = self.states
        while pending and self.round < self.recipe.rounds:
            self.round += 1
            moved: list[_State] = []
            waiting: deque[_State] = deque()
            for state in pending:
                while waiting and waiting[0].t_last + self.recipe.relax <= self._now:
                    yield from self._recheck(waiting.popleft(), moved)
                yield from self._program(state)
                waiting.append(state)
            for state in waiting:
                yield from self._recheck(state, moved)
            pending = moved
        for state in pending:  # the rounds are over
            yield self._cell(state)
        yield self._accuracy(0.0, np.array([state.g for state in self.states]))
        yield self._accuracy(self.recipe.relax, np.array([state.g_now for state in self.states]))
        for time in sorted(times):
            for state in sorted(self.states, key=lambda state: state.t_last):
                yield self._read(state, time)
            yield self._accuracy(time, np.array([state.g_now for state in self.states]))

    # one cell ----------------------------------------------------------------------------------------------------

    def _program(self, state: _State) -> Iterator[Pulse]:
        recipe, aim = self.recipe, state.aim
        g, half = self.target(state), recipe.band
        start = [self.rise(g - half / 2) - recipe.margin[0], self.fall(g + half) - recipe.margin[1]]
        ramps = []
        for polarity, ramp in enumerate((recipe.set, recipe.reset)):
            first = state.ends[polarity] - (ramp.back or 0.0) if polarity in state.ends else start[polarity]
            ramps.append(ramp._replace(start=float(np.clip(first, ramp.start, ramp.stop)), floor=ramp.start))
        band = recipe.reading._replace(low=max(g - half, 0.0), high=g + half, set=ramps[0], reset=ramps[1])
        if state.failures:  # a turn of the polarity may change what a cell can reach, or show that it is stuck
            yield from self._keep(state, self._verify(aim, self._up if state.g > g else self._down))
        end = self._verify(aim, band)
        yield from self._keep(state, end)
        tried_both = state.failures > 0 and not state.responds
        state.status = "never" if end.status == "stuck" and not tried_both else end.status
        state.rounds, state.g, state.g_now = self.round, known(end.last), known(end.last)
        state.failures = 0 if end.status in ("done", "already") else state.failures + 1
        if end.pulses:
            last = end.pulses[-1]
            polarity = 0 if last.v > 0 else 1
            value = last.v_wl if polarity == 0 else -last.v
            if end.status == "done":
                state.ends = {polarity: value}
                (self.rise, self.fall)[polarity].learn(last.g_after, value)
        elif not state.was_pulsed:
            state.t_last = end.t

    def _recheck(self, state: _State, moved: list[_State]) -> Iterator[Sample | Cell]:
        """Read a cell when its time has come; it is done, faulty, given up, or has to be programmed again."""
        yield self._read(state, self.recipe.relax)
        fine = abs(state.g_now - self.target(state)) <= self.recipe.band and state.status in ("done", "already")
        if fine or state.status in FAULTY or state.failures >= GIVE_UP:
            if fine:
                state.status = "done" if state.pulses else "already"
            yield self._cell(state)
        else:
            state.status = "never"  # unless a further round makes it
            moved.append(state)

    def _read(self, state: _State, after: float) -> Sample:
        aim, reading = state.aim, self.recipe.reading
        self.bench.wait(max(0.0, state.t_last + after - self._now))
        with self.bench.cell(aim.row, aim.column) as cell:
            [seen] = cell.program().read(reading.v_read, reading.v_wl_read, reading.average).run()
        self._now = seen.tick * self.bench.board.identity.tick
        state.g_now, state.age = known(seen), self._now - state.t_last
        read_as = -1 if np.isnan(state.g_now) else int(self.recipe.table.nearest(state.g_now))
        return Sample(aim.row, aim.column, aim.level, after, state.age, state.g_now, seen.status, read_as)

    def _verify(self, aim: Aim, band: Band) -> Outcome:
        with self.bench.cell(aim.row, aim.column) as cell:
            end = write_verify(cell, band)
        self._now = end.t
        return end

    def _keep(self, state: _State, end: Outcome) -> Iterator[Pulse]:
        for pulse in end.pulses:
            yield pulse._replace(number=state.pulses + pulse.number)
        if end.pulses:
            state.t_last, state.was_pulsed = end.t_pulse, True
        state.pulses += len(end.pulses)
        state.seen += [g for pulse in end.pulses for g in (pulse.g_before, pulse.g_after) if np.isfinite(g)]
        self._spent += len(end.pulses)

    def target(self, state: _State) -> float:
        """The conductance of a cell's level, S."""
        return self.recipe.table.g[state.aim.level]

    # the curves --------------------------------------------------------------------------------------------------

    def _calibrate(self) -> Iterator[Pulse]:
        """Bring a few cells from g_min to g_max and back; the medians of what they needed are the curves."""
        recipe = self.recipe
        few = np.linspace(0, len(self.states) - 1, min(recipe.calibration, len(self.states))).round().astype(int)
        rises: list[list[tuple[float, float]]] = []
        falls: list[list[tuple[float, float]]] = []
        for number in dict.fromkeys(few.tolist()):
            state = self.states[number]
            for band, found in ((self._up, []), (self._down, falls), (self._up, rises)):
                end = self._verify(state.aim, band)
                yield from self._keep(state, end)
                if end.status in FAULTY:
                    break
                if band is self._down:
                    found.append([(-p.v, -p.g_after) for p in end.pulses if p.v < 0])
                else:
                    found.append([(p.v_wl, p.g_after) for p in end.pulses if p.v > 0])
        self.rise = self._curve(rises, 1, recipe.set)
        self.fall = self._curve(falls, -1, recipe.reset)

    def _curve(self, found: list[list[tuple[float, float]]], sign: int, ramp: Ramp) -> Curve:
        """Median over cells of the value at which each reached a node, from (value, ± conductance) rising."""
        crossings = []
        for points in found:
            v, g = np.array(points).reshape(-1, 2).T
            keep = np.isfinite(g)
            if keep.sum() > 1:
                crossings.append(np.interp(sign * self._nodes, np.maximum.accumulate(g[keep]), v[keep]))
        middle = np.median(crossings, axis=0) if crossings else np.full(len(self._nodes), ramp.start)
        return Curve(self._nodes, np.asarray(middle))

    # rows --------------------------------------------------------------------------------------------------------

    def _cell(self, state: _State) -> Cell:
        aim, age = state.aim, state.age if state.was_pulsed else float("nan")
        target = self.target(state)
        return Cell(*aim, target, state.g, state.g_now, age, state.pulses, state.rounds, state.status)

    def _accuracy(self, requested: float, g: NDArray[np.float64]) -> Accuracy:
        table, n = self.recipe.table, len(self.states)
        level = np.array([state.aim.level for state in self.states])
        error = g - table.values[level]
        seen = np.isfinite(g)
        taken = np.full(n, -1)
        taken[seen] = table.nearest(g[seen])
        sound = error[seen & np.array([state.status not in FAULTY for state in self.states])]
        bias, rms = (float(sound.mean()), float(np.sqrt(np.mean(sound**2)))) if len(sound) else (np.nan, np.nan)
        bits = effective_bits(sound, table.g[-1] - table.g[0]) if len(sound) else float("nan")
        inside = float(np.mean(np.abs(error[seen]) <= self.recipe.band) * seen.mean()) if seen.any() else 0.0
        return Accuracy(
            requested, n, inside, float(np.mean(taken != level)), bias, rms, bits, self._spent / n, self.round
        )
