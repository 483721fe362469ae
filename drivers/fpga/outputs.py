"""Converters and lines of the simulated board: what is set, what may be set, and the order in which it is made safe."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.dose_counters import DoseCounters
from drivers.fpga.messages import NONE, ErrorCode, Limit, LineKind, Source

DACS, COUNTERS = 64, 32
DAC_FULL_SCALE = 5.0
Route = tuple[int, int, int]
"""Line kind, line, source."""


class Fault(Exception):
    """A request or an instruction that the board refuses."""

    def __init__(self, code: ErrorCode, detail: str, value: float = np.nan, limit: float = np.nan) -> None:
        super().__init__(detail)
        self.code, self.detail, self.value, self.limit = code, detail, value, limit


class Outputs:
    """Codes of the converters (and their `volts`), sources of the lines, the clamp table, the doses of the cells."""

    def __init__(self, lines: Mapping[LineKind, int]) -> None:
        self.codes = [0] * DACS
        self.volts: NDArray[np.float64] = np.zeros(DACS)
        self.routes = {kind: np.full(n, _rest(kind), np.intp) for kind, n in lines.items()}
        self.doses = DoseCounters(self.routes)
        self._limits: dict[int, list[Limit]] = {}

    def set_limits(self, limits: Iterable[Limit]) -> None:
        """Replace the clamp table, unless present outputs violate it."""
        table: dict[int, list[Limit]] = {}
        for limit in limits:
            for channel in (limit.channel, limit.reference):
                if channel != NONE or channel == limit.channel:
                    _channel(channel)
                    table.setdefault(channel, []).append(limit)
        old, self._limits = self._limits, table
        try:
            self._check(self.codes, range(DACS))
        except Fault:
            self._limits = old
            raise

    def accept(self, dacs: Mapping[int, int], routes: Sequence[Route] = ()) -> None:
        """Raise `Fault` unless all of this may be set."""
        codes = self.codes.copy()
        for channel, code in dacs.items():
            _channel(channel)
            if not 0 <= code <= 65535:
                raise Fault(ErrorCode.LIMIT, f"DAC {channel}", code, 0 if code < 0 else 65535)
            codes[channel] = code
        self._check(codes, dacs)
        for kind, line, source in routes:
            self.line(kind, line)
            _source(LineKind(kind), source)

    def set(self, dacs: Mapping[int, int], routes: Sequence[Route] = ()) -> None:
        """Set what was accepted."""
        for channel, code in dacs.items():
            self.codes[channel] = code
            self.volts[channel] = code * (DAC_FULL_SCALE / 65535)
        for kind, line, source in routes:
            self.routes[LineKind(kind)][line] = source
        if routes:
            self.doses.rerouted()

    def line(self, kind: int, line: int) -> None:
        """Raise `Fault` unless there is such a line."""
        if kind not in self.routes or line >= len(self.routes[LineKind(kind)]):
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"line kind {kind}, line {line}", line)

    def to_safety(self) -> Iterator[tuple[dict[int, int], list[Route]]]:
        """What to set to be safe, step by step: BL and SL drives, gates, lines to rest, converters downwards."""
        for kinds in ((LineKind.BL, LineKind.SL), (LineKind.WL,)):
            driven = {int(s) - Source.DAC for kind in kinds for s in self.routes[kind] if s >= Source.DAC}
            if any(self.codes[channel] for channel in driven):
                yield dict.fromkeys(driven, 0), []
        if not self._is_at_rest:
            yield {}, [(kind, line, _rest(kind)) for kind, of in self.routes.items() for line in range(len(of))]
        for channel in reversed(range(DACS)):
            if self.codes[channel]:
                yield {channel: 0}, []

    @property
    def is_safe(self) -> bool:
        """All converters at 0, all lines grounded, all switches open."""
        return not any(self.codes) and self._is_at_rest

    @property
    def _is_at_rest(self) -> bool:
        return all((routes == _rest(kind)).all() for kind, routes in self.routes.items())

    def _check(self, codes: Sequence[int], changed: Iterable[int]) -> None:
        """Raise LIMIT unless `codes` obeys every limit that names a changed converter."""
        for channel in changed:
            for limit in self._limits.get(channel, ()):
                value = codes[limit.channel] - (codes[limit.reference] if limit.reference != NONE else 0)
                if not limit.low <= value <= limit.high:
                    bound = limit.low if value < limit.low else limit.high
                    against = f" minus DAC {limit.reference}" if limit.reference != NONE else ""
                    raise Fault(ErrorCode.LIMIT, f"DAC {limit.channel}{against}", value, bound)


def _source(kind: LineKind, source: int) -> None:
    if kind == LineKind.VDD:
        raise Fault(ErrorCode.NO_SUCH_CHANNEL, "the supply's monitor is always connected", source)
    if kind in (LineKind.OUT, LineKind.THR):
        if source != Source.FLOAT and not 0 <= source - Source.NEURON < COUNTERS:
            raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"{kind.name} cannot be connected to source", source)
    elif source not in (Source.FLOAT, Source.GROUND, Source.SENSE):
        _channel(source - Source.DAC)


def _channel(channel: int) -> None:
    if not 0 <= channel < DACS:
        raise Fault(ErrorCode.NO_SUCH_CHANNEL, f"converter {channel}; there are 0 … {DACS - 1}", channel, DACS - 1)


def _rest(kind: LineKind) -> Source:
    """What a line is connected to in the safe state."""
    return {LineKind.OUT: Source.FLOAT, LineKind.THR: Source.FLOAT, LineKind.VDD: Source.SENSE}.get(kind, Source.GROUND)
