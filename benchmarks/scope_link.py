"""What a query and a waveform cost on each way to an oscilloscope, on loopback, side by side in one run.

    python -m benchmarks.scope_link

The other end answers from memory, so that only the way is measured; the last rows add the simulated oscilloscope, which
computes its samples. Ratios are to the plain socket.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from drivers.scope.dialects import DIALECTS
from drivers.scope.scope import Scope
from drivers.scope.sim import SimScope
from drivers.serve import serve
from labctl.link import ScpiLink
from labctl.transport import open_transport
from labctl.transport.loop import LoopTransport, Peer
from labctl.wire.scpi import block
from tests.hislip import HislipServer
from tests.scope.signals import Signals, sine
from tests.vxi11 import Vxi11Server

SIZE = 10_000_000
QUERIES, FETCHES = 1000, 5


class Memory:
    """Answers every line with a number, or with a block of `SIZE` bytes."""

    def __init__(self) -> None:
        self._block = block(np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8).tobytes()) + b"\n"

    def receive(self, data: bytes) -> bytes:
        return (self._block if b"DATA" in data else b"+1\n") * data.count(b"\n")


@contextmanager
def link_to(peer: Peer, way: str) -> Iterator[ScpiLink]:
    """A link to `peer` on one of `WAYS`."""
    if way == "in process":
        yield ScpiLink(LoopTransport(peer), "scope", 60.0)
        return
    kinds = {"PyVISA HiSLIP": HislipServer, "PyVISA VXI-11": Vxi11Server}
    server = kinds[way](peer) if way in kinds else serve(peer, "tcp://127.0.0.1:0")
    address = server.address
    if way == "PyVISA SOCKET":
        host, port = address.removeprefix("tcp://").split(":")
        address = f"TCPIP::{host}::{port}::SOCKET"
    transport = open_transport(address)
    try:
        yield ScpiLink(transport, "scope", 60.0)
    finally:
        transport.close()
        server.stop()


WAYS = ("plain socket", "in process", "PyVISA SOCKET", "PyVISA HiSLIP", "PyVISA VXI-11")


def seconds(action: Callable[[], object], times: int) -> float:
    """The median time of one."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    print(f"{'way':<28}{'query µs':>10}{'ratio':>8}{'MB/s':>10}{'ratio':>8}")
    first: tuple[float, float] | None = None
    for way in WAYS:
        with link_to(Memory(), way) as link:
            query = seconds(lambda link=link: link.query("ASK?"), QUERIES) * 1e6  # type: ignore[misc]
            rate = SIZE / seconds(lambda link=link: link.query_block("DATA?"), FETCHES) / 1e6  # type: ignore[misc]
        first = first or (query, rate)
        print(f"{way:<28}{query:>10.0f}{query / first[0]:>8.2f}{rate:>10.0f}{rate / first[1]:>8.2f}")
    for points in (10_000, 1_000_000):
        for way in ("in process", "PyVISA SOCKET"):
            nodes = Signals(a=sine(1e3))
            with link_to(SimScope(nodes, {1: ("a", 10.0)}, lambda nodes=nodes: nodes.triggers), way) as link:  # type: ignore[misc]
                scope = Scope(link, DIALECTS["keysight-infiniivision"])
                scope.reset()

                def picture(scope: Scope = scope, nodes: Signals = nodes, points: int = points) -> None:
                    scope.channel(1, full_scale=4.0, probe=10.0)
                    scope.timebase(5e-3, points=points)
                    scope.trigger("EXT", level=1.0)
                    scope.arm()
                    nodes.advance(6e-3, trigger=True)
                    scope.wait()
                    scope.fetch(1)

                taken = seconds(picture, 10)
            print(f"simulated, {points} points, {way}: {taken * 1e3:.1f} ms from setting it up to having the trace")


if __name__ == "__main__":
    main()
