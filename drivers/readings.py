"""What the readings of one cell, taken together, say about it; and times at which to take them."""

from collections.abc import Sequence

import numpy as np

from drivers.fpga.board import Reading


def ended(readings: Sequence[Reading], r_short: float) -> str:
    """The status of a cell after its last reading (`drivers.quantities.ENDED`): "done" where some are values.

    A cell is shorted when most of its readings are; one that is so for a moment has noise.
    """
    short = sum(reading.status == "over" or reading.r < r_short for reading in readings)
    if 2 * short > len(readings):
        return "shorted"
    if any(reading.status == "ok" for reading in readings):
        return "done"
    return "negative" if any(reading.status == "negative" for reading in readings) else "open"


def log_spaced(first: float, last: float, per_decade: int) -> list[float]:
    """From `first` to `last`, both included, about so many a decade in even steps of the logarithm."""
    if not 0 < first < last:
        return [last]
    decades = float(np.log10(last / first))
    inner = np.geomspace(first, last, max(2, round(decades * per_decade) + 1))
    return [first, *inner[1:-1].tolist(), last]
