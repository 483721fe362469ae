"""A serial port (or pseudo-terminal), by pyserial."""

import serial

from labctl.errors import LinkError, StationError
from labctl.transport import LinkTimeout


class SerialTransport:
    """Opens ``serial:PORT@BAUD``, 8N1; raises `LinkError` when the port cannot be had."""

    def __init__(self, address: str) -> None:
        self.address = address
        port, _, baud = address.removeprefix("serial:").partition("@")
        if baud and not baud.isdigit():
            raise StationError(f"address {address!r}: {baud!r} is no baud rate; write serial:PORT@115200")
        try:
            self._port = serial.Serial(port, int(baud or 2_000_000), write_timeout=10.0)
        except (OSError, ValueError) as error:
            raise LinkError(f"{address}: cannot open ({error}); is it plugged in, and not in use elsewhere?") from error

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except OSError as error:
            raise LinkError(f"{self.address}: cannot send ({error}); unplugged?") from error

    def read(self, size: int, timeout: float) -> bytes:
        try:
            self._port.timeout = timeout
            data = self._port.read(1)
            if data and (more := min(self._port.in_waiting, size - 1)):
                data += self._port.read(more)
        except OSError as error:
            raise LinkError(f"{self.address}: cannot receive ({error}); unplugged?") from error
        if not data:
            raise LinkTimeout(f"{self.address}: no answer within {timeout:g} s")
        return bytes(data)

    def clear(self) -> None:
        try:
            self._port.reset_input_buffer()
        except OSError as error:
            raise LinkError(f"{self.address}: cannot clear ({error}); unplugged?") from error

    def close(self) -> None:
        self._port.close()
