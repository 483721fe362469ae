"""A recorded run as a bench: the drivers as they are, the instruments answered for by the recording."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.fpga.offline import BoardQuestions
from labctl.errors import StorageError
from labctl.offline import Questions, Recorded, ScpiQuestions
from labctl.reader import load
from labctl.station import parse_station

if TYPE_CHECKING:
    from drivers.bench import Bench


def recorded_bench(path: str | Path) -> "Bench":
    """The bench of a recorded run, offline. Its `offline` tells how well the questions fitted the recording.

    Raises `StorageError` when the file holds no transactions (an imported one); a question that the recording does
    not answer raises `NotRecorded` where it is asked.
    """
    from drivers.bench import tape_bench

    run = load(path)
    transactions = run.transactions()
    if not transactions:
        raise StorageError(f"{path} holds no transactions with a bench (protocol {run.protocol}); look at its tables")
    questions: dict[str, Callable[[], Questions]] = {
        "board": BoardQuestions,
        "scope": lambda: ScpiQuestions(sees=("board",)),
    }
    tape = Recorded(transactions, questions, Path(path).name)
    station = parse_station(run.header["station"]["text"], f"in {path}")
    # a file made from this one must not look as if it had been measured
    station = replace(station, name=f"{station.name} (offline: {tape.name})")
    bench = tape_bench(station, tape, seed=run.header["seed"])
    bench.offline = tape
    return bench
