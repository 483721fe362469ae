"""A TCP socket, without Nagle's delay (which costs 45 ms on each pair of small writes)."""

import socket

from labctl.errors import LinkError, StationError
from labctl.transport import LinkTimeout


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``tcp://host:port``; raises `StationError` when it is none."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise StationError(f"address {address!r} names no port; write tcp://host:port with a port of 0 … 65535")
    return host.strip("[]"), int(port)


class TcpTransport:
    """Connects at once; raises `LinkError` when nobody listens."""

    def __init__(self, address: str, connect_timeout: float = 3.0) -> None:
        self.address = address
        try:
            self._socket = socket.create_connection(split_address(address), timeout=connect_timeout)
        except OSError as error:
            raise LinkError(
                f"{address}: cannot connect ({error}); is the instrument on and the address right?"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(10.0)
            self._socket.sendall(data)
        except OSError as error:
            raise LinkError(f"{self.address}: cannot send ({error}); the other end closed the connection?") from error

    def read(self, size: int, timeout: float) -> bytes:
        try:
            self._socket.settimeout(max(timeout, 1e-6))  # 0 would mean: do not block at all
            data = self._socket.recv(size)
        except TimeoutError:
            raise LinkTimeout(f"{self.address}: no answer within {timeout:g} s") from None
        except OSError as error:
            raise LinkError(f"{self.address}: cannot receive ({error})") from error
        if not data:
            raise LinkError(f"{self.address}: the other end closed the connection")
        return data

    def clear(self) -> None:
        try:
            while self.read(65536, 0.0):
                continue
        except LinkTimeout:
            return

    def close(self) -> None:
        self._socket.close()
