"""Serving a peer to other programs: on TCP and a pty, to several clients, with a clean end."""

import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from drivers.scope.sim import SimScope
from drivers.serve import Server, serve
from labctl.errors import LinkError, StationError
from labctl.link import ScpiLink
from labctl.transport import open_transport
from tests.scope.signals import Signals, scope_on, sine


class Upper:
    """Answers in capitals; says so when it is asked two things at once."""

    def __init__(self) -> None:
        self.busy = False
        self.idle = threading.Event()

    def receive(self, data: bytes) -> bytes:
        assert not self.busy, "two threads at once"
        self.busy = True
        if not data:
            self.idle.set()
        time.sleep(0.001)
        self.busy = False
        return data.upper()


def ask(server: Server, data: bytes) -> bytes:
    transport = open_transport(server.address)
    transport.write(data)
    got = b""
    while len(got) < len(data):
        got += transport.read(len(data) - len(got), 5.0)
    transport.close()
    return got


ADDRESSES = [
    "tcp://127.0.0.1:0",
    pytest.param("pty", marks=pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_peer_answers_and_clients_may_come_and_go(address: str) -> None:
    with serve(Upper(), address) as server:
        data = bytes(range(32, 127)) * 500
        assert [ask(server, data) for _ in range(3)] == [data.upper()] * 3
    server.stop()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_silent_line_lets_the_peer_speak(address: str) -> None:
    peer = Upper()
    with serve(peer, address) as server:
        transport = open_transport(server.address)
        assert peer.idle.wait(5)
        transport.close()


def test_one_lock_holds_all_peers_of_a_chip() -> None:
    peer, lock = Upper(), threading.RLock()
    with serve(peer, "tcp://127.0.0.1:0", lock) as one, serve(peer, "tcp://127.0.0.1:0", lock) as two:
        answers: list[bytes] = []
        threads = [threading.Thread(target=lambda s=s: answers.append(ask(s, b"abc" * 50))) for s in (one, two) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"ABC" * 50] * 8


def test_stopping_ends_threads_and_connections() -> None:
    before = set(threading.enumerate())
    server = serve(Upper(), "tcp://127.0.0.1:0")
    host, port = server.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"X"
        server.stop()
        assert client.recv(10) == b""
    assert set(threading.enumerate()) == before
    with pytest.raises(LinkError, match="cannot connect"):
        open_transport(server.address)


def test_addresses_that_cannot_be_served() -> None:
    with pytest.raises(StationError, match="cannot serve on 'COM3'"):
        serve(Upper(), "COM3")
    with pytest.raises(StationError, match="names no port"):
        serve(Upper(), "tcp://127.0.0.1")
    with serve(Upper(), "tcp://127.0.0.1:0") as server, pytest.raises(LinkError, match="choose another port"):
        serve(Upper(), server.address)


def test_a_client_that_leaves_in_the_middle_of_an_answer_hurts_nobody() -> None:
    nodes = Signals(a=sine(1e3))
    sim = SimScope(nodes, {1: ("a", 1.0)}, lambda: nodes.triggers)
    with serve(sim, "tcp://127.0.0.1:0") as server:
        scope = scope_on(open_transport(server.address))
        scope.reset()
        scope.channel(1, full_scale=4.0)
        scope.timebase(1e-3, points=1_000_000)
        scope.trigger("EXT", level=1.0)
        scope.arm()
        nodes.advance(2e-3, trigger=True)
        scope.wait()
        rude = open_transport(server.address)
        rude.write(b":WAV:SOUR CHAN1;DATA?\n:WAV:DATA?\n")
        rude.read(100, 20.0)
        rude.close()
        assert len(scope.fetch(1).codes) == 1_000_000
        scope.link.transport.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_scope_on_a_pty() -> None:
    with serve(SimScope(Signals(), {}), "pty") as server:
        assert Path(server.address.removeprefix("serial:")).exists()
        link = ScpiLink(open_transport(server.address), "scope", timeout=5.0)
        assert link.query("*IDN?").startswith("labctl,simulated InfiniiVision")
        link.transport.close()
