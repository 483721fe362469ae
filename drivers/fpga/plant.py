"""What the simulated firmware needs of the world behind the board's connectors."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import LineKind


class Plant(Protocol):
    """What the board's connectors lead to. Voltages in V, currents in A, times in ticks."""

    def drive(
        self, volts: NDArray[np.float64], lines: dict[LineKind, NDArray[np.intp]], changed: Sequence[int], routed: bool
    ) -> None:
        """Converter outputs (DACS,) and, per kind, each line's source (Source, or Source.DAC + converter); changed: the
        converters that moved, routed: whether lines were connected otherwise."""

    def advance(self, ticks: int) -> None:
        """Let time pass."""

    def spikes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The spikes since the last call as (ticks since then, counter), in order of time."""

    def mark(self) -> None:
        """Here the body of a loop begins."""

    def repeat(self, times: int) -> bool:
        """Do again, so many times, all that was driven and advanced since `mark`; False, and nothing done, where that
        cannot be had faster than step by step."""

    def current(self, kind: LineKind, line: int, bandwidth: float) -> float:
        """Current out of a line into its amplifier, with the chip's noise in `bandwidth` (Hz); out of the supply's
        monitor the mean since it was last asked."""

    def levels(self) -> int:
        """Which spike outputs are high now: bit k is counter k."""

    def trigger(self, tick: int) -> None:
        """The trigger output rises."""
