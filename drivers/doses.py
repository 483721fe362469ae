"""What a run knows of its cells' histories: doses given, cells begun and finished, and where a resumed run goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from drivers.ledger import Ledger
from labctl.errors import MeasurementError
from labctl.transport.tape import Recorder

if TYPE_CHECKING:
    from drivers.bench import Bench


class Begun(TypedDict):
    """A cell that a run began to pulse: the board's power-on and its count of the cell's pulses before."""

    row: int
    column: int
    boot: int
    pulses: int


class CellDoses:
    """The doses of a bench's cells: asks the board what it counted, keeps the ledger, consults it before each program.

    What is asked of the board never depends on the ledger, so that a run re-executes without it.
    """

    def __init__(self, bench: "Bench") -> None:
        self._bench = bench
        self._recorder: Recorder | None = None
        self._ledger = self._open(None)
        self._asked: set[int] = set()
        self._planned: dict[tuple[int, int], int] = {}
        self._finished: set[tuple[int, int]] = set()
        self._resumed: Begun | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger that is kept now."""
        return self._ledger

    def begin(self, recorder: Recorder | None, folder: Path | None) -> None:
        """A run begins.

        The ledger of a chip with an id is the nearest one in the run's folder or those above it, else a new one there.
        """
        self._recorder = recorder
        for what in (self._asked, self._planned, self._finished):
            what.clear()
        self._resumed = None
        chip = self._bench.station.chip
        path = None
        if folder is not None and chip.id:
            name, start = f"{_file_name(chip.id)}.doses.json", folder.resolve()
            found = (place / name for place in (start, *start.parents) if (place / name).exists())
            path = next(found, start / name)
        if path != self._ledger.path:
            self._ledger = self._open(path)

    def resume(self, finished: Sequence[tuple[int, int]], begun: Begun | None) -> None:
        """The run goes on where another was cut off: these cells are finished, that one was begun."""
        self._finished.update(finished)
        self._resumed = begun

    def end(self) -> None:
        """The run is over."""
        self._recorder = None

    def admit(self, row: int, column: int, pulses: int) -> None:
        """Up to so many pulses are about to be given to a cell; raises `LimitError` when its budget forbids."""
        if row not in self._asked:
            self._ask(row)
        planned = self._planned.get((row, column), 0) + pulses
        if pulses:
            self._ledger.check(row, column, planned)
            self._planned[row, column] = planned

    def settle(self, row: int) -> None:
        """Ask what the cells of a row were really given, when one of them was pulsed."""
        if any(cell[0] == row for cell in self._planned):
            self._ask(row)

    def close(self) -> None:
        """The chip loses its power: bring the ledger up to date, where cells were touched at all."""
        if self._asked:
            for row in range(self._bench.station.chip.rows):
                self._ask(row)
            self._ledger.save()
            self._asked.clear()

    def finish(self, row: int, column: int) -> None:
        """A cell is done: a resumed run leaves it out."""
        self._finished.add((row, column))
        self._tell("finished", row=row, column=column)

    def is_finished(self, row: int, column: int) -> bool:
        """Whether the run that is resumed, or this one, is done with a cell."""
        return (row, column) in self._finished

    def go_on(self, row: int, column: int) -> int:
        """See `CellPort.go_on`."""
        if self._resumed is not None and (self._resumed["row"], self._resumed["column"]) == (row, column):
            begun, answer = self._resumed, self._bench.board.doses(row)
            if answer is None or answer[0] != begun["boot"]:
                raise MeasurementError(
                    f"cell ({row}, {column}) was being pulsed when the run was cut off, and the board has lost its"
                    " power since: how many pulses the cell got is not known; start a new run"
                )
            return int(answer[1][0, column]) - begun["pulses"]
        answer = self._bench.board.doses(row)
        if answer is not None:
            self._tell("begun", row=row, column=column, boot=answer[0], pulses=int(answer[1][0, column]))
        return 0

    def _open(self, path: Path | None) -> Ledger:
        station = self._bench.station
        return Ledger(station.chip, path, station.limits.get("pulses"))

    def _ask(self, row: int) -> None:
        self._asked.add(row)
        answer = self._bench.board.doses(row)
        if answer is not None:
            self._ledger.add(row, *answer)
        for cell in [cell for cell in self._planned if cell[0] == row]:
            planned = self._planned.pop(cell)
            if answer is None:  # this board does not count: what was planned is the most that can have been given
                self._ledger.assume(*cell, planned)

    def _tell(self, name: str, **data: int) -> None:
        if self._recorder is not None:
            self._recorder.event(name, **data)


def _file_name(chip: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in chip)
