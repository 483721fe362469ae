"""What every memristor model promises: the state of an array of 1T1R cells, and how voltages move it.

Terminals of a cell: BL – memristor – access transistor – SL, gate WL, bulk at 0 V. All voltages are absolute, in volts.
A SET drives BL above SL, a RESET drives SL above BL. Two-terminal models use ``v_bl - v_sl`` and take the gate as
their current compliance.
"""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Hold = tuple[FloatArray, FloatArray, FloatArray, float]
"""Voltages of word, bit and source lines (V), and for how long (s)."""
Cells = NDArray[np.intp] | None
"""Flat (C-order) indices of the cells concerned, each at most once; None means all of them."""


class DeviceModel(Protocol):
    """An array of cells of one technology.

    Voltages broadcast against the selected cells (scalar, or one value a selected cell in the order of `cells`).
    Every method refuses bad input (NaN, negative time, wrong shape, cell outside the array) with
    `labctl.errors.UsageError` and leaves the state as it was. The same seed and the same calls give the same result,
    for any number of threads.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, usually (rows, columns)."""

    def pulse(self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, width: float, cells: Cells = None) -> FloatArray:
        """Hold the three voltages for `width` seconds; return each selected cell's current at the end (A).

        The current is positive from BL to SL. Time passes by `width` for the selected cells.
        """

    def waveform(
        self, t: ArrayLike, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, cells: Cells = None
    ) -> FloatArray:
        """Apply sampled voltages, held from t[i] to t[i+1]; return the currents, (len(t), cells), in A.

        Each voltage is a scalar, (len(t),) or (len(t), cells).
        """

    def read(
        self, v_bl: ArrayLike, v_sl: ArrayLike, v_wl: ArrayLike, bandwidth: float, cells: Cells = None
    ) -> FloatArray:
        """Measure each selected cell's current (A) with the noise of `bandwidth` (Hz).

        The stored state does not move.
        """

    def wait(self, seconds: float, temperature: float | None = None) -> None:
        """Let time pass without bias: relaxation, retention, RTN; `temperature` in kelvin (None: the model's own)."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `restore` needs, as arrays (copies)."""

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `state` gave; raises `UsageError` for another model, shape or version."""
