"""Serve a simulated instrument to other programs, on a TCP socket or a pseudo-terminal (POSIX)."""

import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from labctl.errors import LinkError, StationError
from labctl.transport.loop import Peer
from labctl.transport.tcp import split_address

IDLE = 0.05
"""Seconds of silence after which a peer is asked whether it has something to say or to let expire."""


@runtime_checkable
class Sessions(Protocol):
    """A peer that tells its clients apart: each connection gets a parser of its own, all the same instrument."""

    def session(self) -> Peer:
        """The instrument's end of a new connection."""


class Server:
    """Serves in threads of its own until `stop`; `address` is what a station file writes to reach it."""

    def __init__(self, address: str, stop: Callable[[], None]) -> None:
        self.address = address
        self._stop = stop

    def stop(self) -> None:
        """Close the door and all connections, and wait until every thread has ended; twice is allowed."""
        self._stop()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def serve(peer: Peer, address: str, lock: "threading.RLock | None" = None) -> Server:
    """Serve `peer` on ``tcp://host:port`` (port 0: any free one) or ``pty``.

    lock: held while the peer works; give several peers the same one when they share a chip. Raises `LinkError` when
    the address cannot be had and `StationError` when it is none.
    """
    lock = lock or threading.RLock()
    if address == "pty":
        return _serve_pty(peer, lock)
    if address.startswith("tcp://"):
        return _serve_tcp(peer, address, lock)
    raise StationError(f"cannot serve on {address!r}; write tcp://127.0.0.1:5555 (port 0: any free one) or pty")


def _converse(
    line: "socket.socket | int",
    read: Callable[[], bytes],
    write: Callable[[bytes], int],
    end: Peer,
    lock: threading.RLock,
    ending: threading.Event,
) -> None:
    """Carry bytes both ways until the line ends. It goes on listening while it speaks: two that only speak block."""
    outgoing = bytearray()
    while not ending.is_set():
        readable, writable, _ = select.select([line], [line] if outgoing else [], [], IDLE)
        data = b""
        if readable and not (data := read()):
            return
        if data or not writable:
            with lock:
                outgoing += end.receive(data)
        if writable:
            del outgoing[: write(bytes(outgoing[: 1 << 16]))]


def _end(peer: Peer) -> Peer:
    return peer.session() if isinstance(peer, Sessions) else peer


def _serve_tcp(peer: Peer, address: str, lock: threading.RLock) -> Server:
    host, port = split_address(address)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise LinkError(f"cannot serve on {address} ({error}); choose another port, or 0 for any free one") from error
    ending = threading.Event()
    connections: dict[socket.socket, threading.Thread] = {}

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the client has gone, or stop() closed the door on it
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            _converse(connection, lambda: connection.recv(1 << 16), connection.send, _end(peer), lock, ending)
        connections.pop(connection, None)

    def accept() -> None:
        while not ending.is_set():
            if select.select([listener], [], [], IDLE)[0]:
                with contextlib.suppress(OSError):  # it left before it was let in
                    connection, _ = listener.accept()
                    thread = threading.Thread(target=talk, args=(connection,), name=f"serve {address}", daemon=True)
                    connections[connection] = thread
                    thread.start()

    acceptor = threading.Thread(target=accept, name=f"accept {address}", daemon=True)
    acceptor.start()

    def stop() -> None:
        ending.set()
        acceptor.join()
        listener.close()
        for thread in list(connections.values()):
            thread.join()

    return Server(f"tcp://{host}:{listener.getsockname()[1]}", stop)


def _serve_pty(peer: Peer, lock: threading.RLock) -> Server:
    if sys.platform == "win32":
        raise StationError("this system has no pseudo-terminals; serve on tcp://127.0.0.1:0 instead")
    import tty

    ours, theirs = os.openpty()
    tty.setraw(theirs)  # kept open, so that clients may come and go
    os.set_blocking(ours, False)
    ending = threading.Event()
    arguments = (ours, lambda: os.read(ours, 1 << 16), lambda data: os.write(ours, data), _end(peer), lock, ending)
    thread = threading.Thread(target=_converse, args=arguments, name="serve pty", daemon=True)
    thread.start()
    name = os.ttyname(theirs)

    def stop() -> None:
        if not ending.is_set():
            ending.set()
            thread.join()
            os.close(ours)
            os.close(theirs)

    return Server(f"serial:{name}", stop)
