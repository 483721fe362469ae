"""One 1T1R cell through the line matrix: which line is driven, which is sensed, and what the others do meanwhile."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from drivers.fpga.board import Reading
from drivers.fpga.messages import NONE, LineKind, Source
from drivers.fpga.program import Commit, Connect, Dac, Delay, End, Instruction, Read
from labctl.errors import UsageError

if TYPE_CHECKING:
    from drivers.bench import Bench

POINTS_A_PROGRAM = 2000
"""Points that fit into the board's program memory at once."""


class Bias(NamedTuple):
    """One point of a sweep: v = V_BL − V_SL in V (one of the two is at 0), and the gate voltage in V."""

    v: float
    v_wl: float


class CellPort:
    """The cell at (row, column). Its word and source line run along the row, its bit line along the column.

    Positive v drives BL and senses SL; negative v drives SL and senses BL, with the other bit lines floating, because
    the cells of the same row share gate and source line and would be RESET too if their bit lines were grounded.
    """

    def __init__(self, bench: "Bench", row: int, column: int) -> None:
        chip = bench.station.chip
        if not (0 <= row < chip.rows and 0 <= column < chip.columns):
            raise UsageError(
                f"there is no cell ({row}, {column}); {chip.name} has {chip.rows} rows and {chip.columns} columns"
            )
        self._bench, self.row, self.column = bench, row, column

    def sweep(self, points: Sequence[Bias], dwell: float, average: int = 16) -> Iterator[Reading]:
        """Step through `points` with the board's timing: settle `dwell` s, then sample; one typed reading a point.

        The current is positive from BL to SL. Raises `LimitError` before anything is applied.
        """
        self._bench.check(
            {
                "BL_DRIVE": max([0.0, *(point.v for point in points)]),
                "SL_DRIVE": max([0.0, *(-point.v for point in points)]),
                "WL_DRIVE": max([0.0, *(point.v_wl for point in points)]),
            }
        )
        for start in range(0, len(points), POINTS_A_PROGRAM):
            part = points[start : start + POINTS_A_PROGRAM]
            readings = self._bench.readings(self._program(part, dwell, average))
            for point, reading in zip(part, readings, strict=True):
                yield reading if point.v >= 0 else reading._replace(current=-reading.current)

    def _program(self, points: Sequence[Bias], dwell: float, average: int) -> list[Instruction]:
        board, converter = self._bench.board, self._bench.station.converter
        wl, bl, sl = converter("WL_DRIVE"), converter("BL_DRIVE"), converter("SL_DRIVE")
        settle = Delay(self._bench.ticks(dwell))
        program: list[Instruction] = []
        polarity = 0
        for tag, (v, v_wl) in enumerate(points):
            if polarity != (polarity := 1 if v >= 0 else -1):
                program += [Dac(bl, 0), Dac(sl, 0), Commit(), *self._connect(polarity), Commit()]
            drive = bl if polarity > 0 else sl
            program += [Dac(drive, board.code(drive, abs(v))), Dac(wl, board.code(wl, v_wl)), Commit(), settle]
            sensed = (LineKind.SL, self.row) if polarity > 0 else (LineKind.BL, self.column)
            program.append(Read(*sensed, range=NONE, average=average, tag=tag, register=0))
        return [*program, End()]

    def _connect(self, polarity: int) -> list[Instruction]:
        converter = self._bench.station.converter
        others = Source.GROUND if polarity > 0 else Source.FLOAT
        bl = Source.DAC + converter("BL_DRIVE") if polarity > 0 else Source.SENSE
        sl = Source.SENSE if polarity > 0 else Source.DAC + converter("SL_DRIVE")
        return [
            Connect(LineKind.WL, self.row, Source.DAC + converter("WL_DRIVE")),
            Connect(LineKind.SL, self.row, sl),
            *(
                Connect(LineKind.BL, column, bl if column == self.column else others)
                for column in range(self._bench.station.chip.columns)
            ),
        ]
