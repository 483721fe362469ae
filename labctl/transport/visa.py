"""VISA resources, by PyVISA with its pure-Python backend; no vendor's library is needed.

Raw sockets (``TCPIP::host::5025::SOCKET``), VXI-11 and HiSLIP (``…::INSTR``) and serial ports (``ASRL…``).
"""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.errors import LinkError, StationError
from labctl.transport import LinkTimeout
from labctl.transport.tcp import TcpTransport

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource

T = TypeVar("T")

BULK = 4096
"""Reads longer than this are of a known size: they wait for all of it, not for the end of a line."""
CHUNK = 1 << 20
SLICE = 0.25
"""Seconds after which a silent link is looked at: pyvisa-py spins on a closed socket until its timeout."""

_manager_lock = threading.Lock()
_managers: dict[str, Any] = {}


def _manager(backend: str) -> Any:
    """The one ResourceManager of this process: closing any of them would invalidate the others' sessions."""
    with _manager_lock:
        if backend not in _managers:
            import pyvisa

            _managers[backend] = pyvisa.ResourceManager(backend)
        return _managers[backend]


class VisaTransport:
    """Opens a VISA resource; raises `StationError` for a malformed address and `LinkError` when nobody answers.

    A read of up to `BULK` bytes returns at a line end at the latest, a longer one when all bytes are there: this is
    for text and blocks (SCPI), not for streams without structure.
    """

    def __init__(self, address: str, backend: str = "@py", connect_timeout: float = 3.0) -> None:
        self.address = address
        self._backend, self._connect_timeout = backend, connect_timeout
        self._resource: MessageBasedResource | None = None
        self._socket: socket.socket | None = None
        self._pending = bytearray()
        self._open()

    def _open(self) -> None:
        from pyvisa import rname
        from pyvisa.constants import ResourceAttribute as Attribute

        try:
            parsed = rname.parse_resource_name(self.address)
        except rname.InvalidResourceName as error:
            raise StationError(
                f"address {self.address!r} is no VISA resource; write for instance TCPIP::192.168.0.5::5025::SOCKET"
            ) from error
        self._by_message = parsed.resource_class == "INSTR" and parsed.interface_type != "ASRL"
        if self._by_message and parsed.interface_type == "TCPIP":
            self._probe(getattr(parsed, "host_address", ""), getattr(parsed, "lan_device_name", ""))
        try:
            resource = _manager(self._backend).open_resource(
                self.address, open_timeout=round(1000 * self._connect_timeout)
            )
        except Exception as error:  # of pyvisa, of the operating system, and bare Exception from pyvisa-py
            raise LinkError(
                f"{self.address}: cannot open ({_reason(error)}); is the instrument on and the address right?"
            ) from error
        self._resource = resource
        self._termination: bool | None = None
        self._timeout = -1
        carrier = getattr(getattr(resource.visalib, "sessions", {}).get(resource.session), "interface", None)
        self._socket = carrier if isinstance(carrier, socket.socket) else None
        if self._socket is not None:
            try:  # pyvisa-py takes a refused connection for a good one
                self._socket.getpeername()
            except OSError as error:
                reason = os.strerror(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) or str(error)
                self.close()
                raise LinkError(
                    f"{self.address}: cannot connect ({reason}); is the instrument on and the address right?"
                ) from error
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._by_message:
            # without this a read that times out throws away what it has
            self._call(lambda r: r.set_visa_attribute(Attribute.suppress_end_enabled, False))

    def _probe(self, host: str, device: str) -> None:
        """Look whether anybody listens: pyvisa-py waits its own time, and leaves sockets open when nobody does.

        HiSLIP listens on 4880, VXI-11's port is told by the port mapper on 111, if the address does not say.
        """
        name, _, port = device.partition(",")
        if not port and "," in host:
            host, _, port = host.partition(",")
        number = int(port) if port.isdigit() else 4880 if name.lower().startswith("hislip") else 111
        try:
            TcpTransport(f"tcp://{host}:{number}", self._connect_timeout).close()
        except LinkError as error:
            raise LinkError(
                f"{self.address}: cannot connect ({error.__cause__}); is the instrument on and the address right?"
            ) from error

    def _closed_by_peer(self) -> bool:
        if self._socket is None:
            return False
        try:
            return bool(select.select([self._socket], [], [], 0)[0]) and not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _call(self, use: "Callable[[MessageBasedResource], T]") -> T:
        """`use` the resource; whatever pyvisa, its backend or the carrier raises becomes `LinkError`."""
        from pyvisa import constants, errors

        if self._resource is None:
            raise LinkError(f"{self.address}: the link is closed")
        try:
            return use(self._resource)
        except errors.VisaIOError as error:
            if error.error_code == constants.StatusCode.error_timeout and not self._closed_by_peer():
                raise LinkTimeout(f"{self.address}: no answer in time") from error
            raise LinkError(f"{self.address}: {_reason(error)}; the other end closed the connection?") from error
        except Exception as error:  # OSError, EOFError, RuntimeError, struct.error, …: four kinds for a dead peer alone
            raise LinkError(f"{self.address}: the link failed ({_reason(error)})") from error

    def write(self, data: bytes) -> None:
        self._set_timeout(10.0)
        self._call(lambda resource: resource.write_raw(data))

    def read(self, size: int, timeout: float) -> bytes:
        if not self._pending:
            self._pending += self._receive(size, timeout)
        data = bytes(self._pending[:size])
        del self._pending[:size]
        return data

    def _receive(self, size: int, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 1e-3)
            try:
                # a message must not be cut by a timeout: HiSLIP would lose what it has of it
                return self._receive_slice(size, left if self._by_message else min(left, SLICE))
            except LinkTimeout:
                if time.monotonic() >= deadline:
                    raise LinkTimeout(f"{self.address}: no answer within {timeout:g} s") from None

    def _receive_slice(self, size: int, timeout: float) -> bytes:
        self._set_timeout(timeout)
        if not self._by_message:
            self._set_termination(size <= BULK)
        size = max(size, CHUNK) if self._by_message else min(size, CHUNK)
        data = self._call(lambda resource: _read(resource, size))
        if not data:  # the message has ended; pyvisa-py would say so again and again
            raise LinkError(f"{self.address}: the answer ends early")
        return data

    def _set_timeout(self, seconds: float) -> None:
        milliseconds = max(1, round(1000 * seconds))
        if milliseconds != self._timeout:
            self._call(lambda r: setattr(r, "timeout", milliseconds))
            self._timeout = milliseconds

    def _set_termination(self, on: bool) -> None:
        if on != self._termination:
            from pyvisa.constants import ResourceAttribute as Attribute

            self._call(lambda r: r.set_visa_attribute(Attribute.termchar_enabled, on))
            self._termination = on

    def clear(self) -> None:
        """Throw away pending input; a connection that has died is opened once more."""
        self._pending.clear()
        try:
            usable = self._drain()
        except LinkError:
            usable = False
        if not usable:
            self.close()
            self._open()

    def _drain(self) -> bool:
        """Empty the input; whether the session can be used on."""
        from pyvisa.constants import BufferOperation

        if self._socket is None:
            self._set_timeout(1.0)
            self._call(lambda resource: resource.clear())
            return not self._by_message  # a session that failed within a message does not find the next one
        # not by resource.clear(), which never comes back from a closed socket
        self._call(lambda resource: resource.flush(BufferOperation.discard_receive_buffer))
        try:
            while select.select([self._socket], [], [], 0)[0]:
                if not self._socket.recv(CHUNK):
                    return False
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._pending.clear()
        if self._resource is not None:
            with contextlib.suppress(Exception):  # a dead carrier may not want to be closed
                self._resource.close()
        self._resource = None
        self._socket = None


def _read(resource: "MessageBasedResource", size: int) -> bytes:
    from pyvisa.constants import StatusCode

    # that all bytes asked for came is a warning to pyvisa
    with resource.ignore_warning(StatusCode.success_max_count_read, StatusCode.success_device_not_present):
        return bytes(resource.visalib.read(resource.session, size)[0])


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
