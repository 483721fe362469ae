"""Transports: a byte stream to one instrument, whatever carries it.

`open_transport` makes one from an address; nothing above this package knows which it got.
"""

from typing import Protocol

from labctl.errors import LinkError, StationError


class LinkTimeout(LinkError):
    """Nothing came within the time allowed; the request may or may not have arrived."""


class Transport(Protocol):
    """A byte stream. Every failure of the carrier is raised as `LinkError` (or `LinkTimeout`)."""

    @property
    def address(self) -> str:
        """Where it leads, as written in the station file."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def read(self, size: int, timeout: float) -> bytes:
        """Return 1 … `size` bytes as soon as any are there; raise `LinkTimeout` after `timeout` seconds."""

    def clear(self) -> None:
        """Throw away whatever input is pending."""

    def close(self) -> None:
        """Release the carrier; closing twice is allowed."""


def open_transport(address: str) -> Transport:
    """Open ``tcp://host:port``, ``serial:PORT[@BAUD]`` or a VISA resource string such as ``TCPIP::host::5025::SOCKET``.

    Raises `StationError` for an address of no known form and `LinkError` when it cannot be opened.
    """
    if address.startswith("tcp://"):
        from labctl.transport.tcp import TcpTransport

        return TcpTransport(address)
    if address.startswith("serial:"):
        from labctl.transport.serialport import SerialTransport

        return SerialTransport(address)
    if "::" in address:
        from labctl.transport.visa import VisaTransport

        return VisaTransport(address)
    raise StationError(
        f"address {address!r} is of no known form; write tcp://host:port, serial:PORT@BAUD or a VISA resource string"
    )
