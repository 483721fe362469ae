"""A bench small enough to know every answer: a resistor between each BL and SL, neurons that fire like clocks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import LineKind, Source
from drivers.fpga.outputs import DACS

OHMS = 10e3
PERIODS = (1000, 2500)
"""Ticks between spikes of counters 0 and 1."""


class ResistorPlant:
    """Four bit lines, sixteen rows; the resistor at (row, column) conducts while its word line is above 1 V."""

    def __init__(self) -> None:
        self.tick = 0
        self.told = 0
        self.volts: NDArray[np.float64] = np.zeros(DACS)
        self.lines: dict[LineKind, NDArray[np.intp]] = {}
        self.history: list[tuple[int, NDArray[np.float64]]] = []
        self.triggers: list[int] = []
        self.stuck_high = 0
        self.supply = 123e-6

    def drive(
        self, volts: NDArray[np.float64], lines: dict[LineKind, NDArray[np.intp]], changed: Sequence[int], routed: bool
    ) -> None:
        self.volts, self.lines = volts.copy(), {kind: sources.copy() for kind, sources in lines.items()}
        self.history.append((self.tick, self.volts))

    def advance(self, ticks: int) -> None:
        self.tick += ticks

    def mark(self) -> None:
        """Loops are carried out step by step."""

    def repeat(self, times: int) -> bool:
        return False

    def spikes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        at, who = [], []
        for counter, period in enumerate(PERIODS):
            first = -(-(self.told + 1) // period) * period
            times = np.arange(first, self.tick + 1, period) - self.told - 1
            at.append(times)
            who.append(np.full(len(times), counter, np.uint8))
        self.told = self.tick
        t, n = np.concatenate(at), np.concatenate(who)
        order = np.argsort(t, kind="stable")
        return t[order].astype(np.int64), n[order]

    def current(self, kind: LineKind, line: int, bandwidth: float) -> float:
        if kind == LineKind.VDD:
            return self.supply
        wl, bl, sl = (self._levels(k) for k in (LineKind.WL, LineKind.BL, LineKind.SL))
        g = np.where(wl[:, None] > 1.0, 1 / OHMS, 0.0) * np.isfinite(bl)[None, :] * np.isfinite(sl)[:, None]
        i = np.nan_to_num(bl)[None, :] - np.nan_to_num(sl)[:, None]
        into_sl = (g * i).sum(axis=1)
        return float(into_sl[line]) if kind == LineKind.SL else -float((g * i)[:, line].sum())

    def levels(self) -> int:
        return self.stuck_high

    def trigger(self, tick: int) -> None:
        self.triggers.append(tick)

    def _levels(self, kind: LineKind) -> NDArray[np.float64]:
        levels = [
            np.nan if s == Source.FLOAT else self.volts[s - Source.DAC] if s >= Source.DAC else 0.0
            for s in self.lines.get(kind, [])
        ]
        return np.array(levels, float)
