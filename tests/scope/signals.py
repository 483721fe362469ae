"""Signals with known values at every instant, in place of a chip, and peers with known manners, in place of a scope."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.scope.dialects import KEYSIGHT_INFINIIVISION
from drivers.scope.scope import Scope
from labctl.link import ScpiLink
from labctl.transport import LinkTimeout, Transport

FloatArray = NDArray[np.float64]
Wave = Callable[[FloatArray], FloatArray]


class Signals:
    """A `Nodes` whose nodes are functions of absolute time; it refuses to look outside of what was watched."""

    def __init__(self, **waves: Wave) -> None:
        self.time = 0.0
        self.waves = waves
        self.watched: dict[str, float] = {}
        self.triggers: list[float] = []

    def watch(self, node: str) -> None:
        assert node not in self.watched, f"{node} is watched twice"
        self.watched[node] = self.time

    def unwatch(self, node: str) -> None:
        del self.watched[node]

    def forget(self, before: float) -> None:
        for node, since in self.watched.items():
            self.watched[node] = max(since, before)

    def wave(self, node: str, t: FloatArray) -> FloatArray:
        assert t.min() >= self.watched[node], "looks at what was before the watch began"
        assert t.max() <= self.time, "looks into the future"
        return self.waves[node](t)

    def advance(self, seconds: float, trigger: bool = False) -> None:
        """Let time pass; `trigger`: after a pulse of the board's trigger output."""
        if trigger:
            self.triggers.append(self.time)
        self.time += seconds


def sine(frequency: float, amplitude: float = 1.0, mean: float = 0.0, phase: float = 0.0) -> Wave:
    return lambda t: mean + amplitude * np.sin(2 * np.pi * frequency * t + phase)


def step(at: float, low: float = 0.0, high: float = 1.0) -> Wave:
    return lambda t: np.where(t < at, low, high)


class Script:
    """A transport that answers as told: each request must be the next one of the script, byte for byte."""

    def __init__(self, *exchanges: tuple[str, str | bytes | None]) -> None:
        self.address = "script"
        self.sent: list[str] = []
        self._exchanges = list(exchanges)
        self._incoming = bytearray()

    def write(self, data: bytes) -> None:
        self.sent.append(data.decode("ascii"))
        assert self._exchanges, f"nothing expected, {data!r} sent"
        request, answer = self._exchanges.pop(0)
        assert data == request.encode("ascii") + b"\n"
        if answer is not None:
            self._incoming += answer if isinstance(answer, bytes) else answer.encode("ascii") + b"\n"

    def read(self, size: int, timeout: float) -> bytes:
        if not self._incoming:
            raise LinkTimeout(f"script: no answer within {timeout:g} s")
        data = bytes(self._incoming[:size])
        del self._incoming[:size]
        return data

    def clear(self) -> None:
        self._incoming.clear()

    def close(self) -> None:
        self.clear()

    def finish(self) -> None:
        assert not self._exchanges, f"never asked: {self._exchanges[0][0]}"


def scope_on(transport: Transport) -> Scope:
    """The driver on a transport; it does not sleep between looks."""
    return Scope(ScpiLink(transport, "scope"), KEYSIGHT_INFINIIVISION, sleep=lambda seconds: None)
