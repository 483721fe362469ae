"""What the simulated firmware counts for each cell: pulses, reads and half-selects, by how the lines are connected."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import DOSES, LineKind, Source

Routes = Mapping[LineKind, NDArray[np.intp]]
_Flat = NDArray[np.intp]
_DAC = int(Source.DAC)
_REMEMBERED = 2000


class DoseCounters:
    """Counts since power-on, `counts` of shape (len(DOSES), word lines, bit lines)."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self.counts = np.zeros((len(DOSES), len(routes[LineKind.WL]), len(routes[LineKind.BL])), np.int64)
        self._pulses, self._reads, self._halves = self.counts.reshape(len(DOSES), -1)
        self._selected: dict[tuple[object, ...], tuple[_Flat, _Flat]] = {}
        self._read: dict[tuple[object, ...], _Flat] = {}
        self.rerouted()

    def rerouted(self) -> None:
        """Lines were connected otherwise."""
        self._key = b"".join(self._routes[kind].tobytes() for kind in (LineKind.WL, LineKind.BL, LineKind.SL))
        self._gates = sorted({source for source in self._routes[LineKind.WL].tolist() if source >= _DAC})
        if len(self._selected) + len(self._read) > _REMEMBERED:
            self._selected.clear()
            self._read.clear()

    def pulse(self, drive: int, gate: int, codes: Sequence[int], times: int = 1) -> None:
        """Converter `drive` gave so many pulses, with converter `gate` up meanwhile (or NONE)."""
        high = tuple(source for source in self._gates if source == _DAC + gate or codes[source - _DAC])
        key = (self._key, drive, high)
        if key not in self._selected:
            self._selected[key] = self._select(_DAC + drive, high)
        full, half = self._selected[key]
        self._pulses[full] += times
        self._halves[half] += times

    def read(self, kind: LineKind, line: int, codes: Sequence[int]) -> None:
        """A line was sampled once."""
        high = tuple(source for source in self._gates if codes[source - _DAC])
        key = (self._key, kind, line, high)
        if key not in self._read:
            self._read[key] = self._sampled(kind, line, high)
        self._reads[self._read[key]] += 1

    def _select(self, source: int, high: tuple[int, ...]) -> tuple[_Flat, _Flat]:
        bl, sl = self._routes[LineKind.BL][None, :], self._routes[LineKind.SL][:, None]
        is_open = np.isin(self._routes[LineKind.WL], high)[:, None]
        full = is_open & (bl != Source.FLOAT) & (sl != Source.FLOAT) & ((bl == source) != (sl == source))
        half = ~full & (is_open | (bl == source) | (sl == source))
        return np.flatnonzero(full), np.flatnonzero(half)

    def _sampled(self, kind: LineKind, line: int, high: tuple[int, ...]) -> _Flat:
        bl, sl = self._routes[LineKind.BL][None, :], self._routes[LineKind.SL][:, None]
        is_open = np.isin(self._routes[LineKind.WL], high)[:, None]
        on_line = np.zeros(self.counts.shape[1:], bool)
        if kind == LineKind.SL:
            on_line[line] = True
        elif kind == LineKind.BL:
            on_line[:, line] = True
        return np.flatnonzero(on_line & is_open & (bl != Source.FLOAT) & (sl != Source.FLOAT))
