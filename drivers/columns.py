"""Many rows driven at once, columns sensed: the array as a matrix, through the line matrix of the board.

Word and source lines run along the rows, bit lines along the columns. A driven row has its source line at the read
voltage; its word line opens its transistors. A sensed column ends in the virtual ground of its amplifier, so that its
current is Σ_i v_i·G_ij over the rows that are open.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from drivers.fpga.board import Reading
from drivers.fpga.messages import NONE, LineKind, Source
from drivers.fpga.program import Commit, Connect, Dac, Delay, End, Instruction, Loop, Read, Set, length
from labctl.errors import UsageError

if TYPE_CHECKING:
    from drivers.bench import Bench

SHARED = "SL_DRIVE"
"""The converter that drives source lines without a converter of their own."""


class ColumnProgram:
    """Builds a board program for a selection of rows and columns. All other rows are off, all other bit lines float.

    The gates of all rows are down and no column is sensed at first. Nothing is sent before the program is run, and each
    voltage is checked against the limits as it is added (`LimitError`). Raises `UsageError` for lines that are not
    there.
    """

    def __init__(self, bench: "Bench", rows: Sequence[int], columns: Sequence[int]) -> None:
        chip = bench.station.chip
        for what, lines, n in (("row", rows, chip.rows), ("column", columns, chip.columns)):
            if wrong := [line for line in lines if not 0 <= line < n]:
                raise UsageError(f"there is no {what} {wrong[0]}; {chip.name} has {what}s 0 … {n - 1}")
            if twice := [line for line in lines if lines.count(line) > 1]:
                raise UsageError(f"{what} {twice[0]} is named twice; give each {what} of the matrix once")
        self._bench, self._rows = bench, tuple(rows)
        self._wl = bench.station.converter("WL_DRIVE")
        self._open: frozenset[int] = frozenset()
        self._sensed: tuple[int, ...] = ()
        self._samples: list[float] = []  # the voltage that each sample in the program was taken at
        self.instructions: list[Instruction] = [
            Connect(LineKind.BL, column, Source.FLOAT) for column in range(chip.columns)
        ]

    def drive(self, v: float, v_wl: float) -> "ColumnProgram":
        """All rows' source lines at `v` (V) from one converter; open gates at `v_wl` (V)."""
        return self._drive(dict.fromkeys(self._rows, SHARED), {SHARED: v}, v, v_wl)

    def drive_each(self, volts: Mapping[int, float], v: float, v_wl: float) -> "ColumnProgram":
        """Each row's source line at its own voltage (V; 0 where nothing is said), of which `v` is the full scale.

        Raises `StationError` unless the station wires a converter to the source line of each row: SL0, SL1, …
        """
        return self._drive(
            {row: f"SL{row}" for row in self._rows}, {f"SL{row}": volts.get(row, 0.0) for row in self._rows}, v, v_wl
        )

    def gates(self, rows: Iterable[int]) -> "ColumnProgram":
        """Open these rows and close the others."""
        wanted = frozenset(rows)
        for row in sorted(wanted ^ self._open):
            source = Source.DAC + self._wl if row in wanted else Source.GROUND
            self.instructions.append(Connect(LineKind.WL, row, source))
        if wanted != self._open:
            self.instructions.append(Commit())
        self._open = wanted
        return self

    def sense(self, columns: Sequence[int]) -> "ColumnProgram":
        """Put these bit lines on their virtual grounds and let go of the others."""
        for column in sorted({*columns} ^ {*self._sensed}):
            source = Source.SENSE if column in columns else Source.FLOAT
            self.instructions.append(Connect(LineKind.BL, column, source))
        self.instructions.append(Commit())
        self._sensed = tuple(columns)
        return self

    def wait(self, seconds: float) -> "ColumnProgram":
        """Let time pass."""
        self.instructions += [Delay(ticks) for ticks in self._bench.pieces(seconds)]
        return self

    def sample(self, average: int = 16) -> "ColumnProgram":
        """One reading a sensed column, one after the other with auto-range, while all of them stay on their grounds."""
        for column in self._sensed:
            tag = len(self._samples)
            self.instructions.append(Read(LineKind.BL, column, range=NONE, average=average, tag=tag, register=0))
            self._samples.append(self._v)
        return self

    def repeat(self, times: int) -> "ColumnProgram":
        """Carry out all that was said so far `times` times. Uses register 15."""
        self.gates(())  # as it began
        self.instructions = [Set(15, times), *self.instructions, Loop(15, length([Set(15, times)]))]
        return self

    def run(self) -> Iterator[Reading]:
        """Run the program and let go of the array; the readings in order, positive out of the column.

        A current into the column is no product: its status is "negative".
        """
        for row in self._rows:
            self._bench.doses.admit(row, 0, 0)  # the ledger is to know of the reads
        for reading in self._bench.readings([*self.instructions, *self._rest(), End()]):
            status = "negative" if reading.status == "ok" and reading.current < 0 else reading.status
            yield reading._replace(status=status, v=self._samples[reading.tag])

    def _drive(self, pins: Mapping[int, str], volts: Mapping[str, float], v: float, v_wl: float) -> "ColumnProgram":
        bench = self._bench
        bench.check({**volts, "WL_DRIVE": v_wl})
        converters = {pin: bench.station.converter(pin) for pin in volts}
        self.instructions += [Connect(LineKind.SL, row, Source.DAC + converters[pin]) for row, pin in pins.items()]
        levels = {**{converters[pin]: level for pin, level in volts.items()}, self._wl: v_wl}
        self.instructions += [Dac(channel, bench.board.code(channel, level)) for channel, level in levels.items()]
        self.instructions.append(Commit())
        self._v = v
        return self

    def _rest(self) -> list[Instruction]:
        """Gates down first, then everything grounded."""
        columns = range(self._bench.station.chip.columns)
        return [
            *(Connect(LineKind.WL, row, Source.GROUND) for row in self._rows),
            Commit(),
            *(Connect(LineKind.SL, row, Source.GROUND) for row in self._rows),
            *(Connect(LineKind.BL, column, Source.GROUND) for column in columns),
            Commit(),
        ]
