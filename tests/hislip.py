"""A HiSLIP server, as small as PyVISA needs it: IVI-6.1, synchronous and asynchronous channel, one client."""

import socket
import struct
import threading

from labctl.transport.loop import Peer

_HEADER = struct.Struct("!2sBBIQ")
INITIALIZE, DATA, DATA_END, CLEAR_COMPLETE, MAX_SIZE, ASYNC_INITIALIZE, ASYNC_CLEAR = 0, 6, 7, 8, 15, 17, 19


class HislipServer:
    """Serves `peer`; `chunk`: most bytes of one data message."""

    def __init__(self, peer: Peer, chunk: int = 1 << 18) -> None:
        self._peer, self._chunk = peer, chunk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.address = f"TCPIP::127.0.0.1::hislip0,{self._listener.getsockname()[1]}::INSTR"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._talk, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        pending = b""
        try:
            while True:
                _, kind, _, parameter, length = _HEADER.unpack(_exactly(connection, _HEADER.size))
                payload = _exactly(connection, length)
                if kind == INITIALIZE:
                    connection.sendall(_HEADER.pack(b"HS", kind + 1, 0, 0x0100_0001, 0))
                elif kind == ASYNC_INITIALIZE:
                    connection.sendall(_HEADER.pack(b"HS", kind + 1, 0, 0, 0))
                elif kind == MAX_SIZE:
                    connection.sendall(_HEADER.pack(b"HS", kind + 1, 0, 0, 8) + struct.pack("!Q", 1 << 20))
                elif kind == ASYNC_CLEAR:
                    connection.sendall(_HEADER.pack(b"HS", 23, 0, 0, 0))
                elif kind == CLEAR_COMPLETE:
                    pending = b""
                    connection.sendall(_HEADER.pack(b"HS", 9, 0, 0, 0))
                elif kind in (DATA, DATA_END):
                    pending += payload
                    if kind == DATA_END:
                        reply, pending = self._peer.receive(pending), b""
                        for start in range(0, len(reply), self._chunk):
                            part = reply[start : start + self._chunk]
                            last = start + self._chunk >= len(reply)
                            connection.sendall(
                                _HEADER.pack(b"HS", DATA_END if last else DATA, 0, parameter, len(part)) + part
                            )
        except (OSError, EOFError):
            return
        finally:
            connection.close()

    def stop(self) -> None:
        for one in (self._listener, *self._connections):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._listener.close()
        for thread in self._threads:
            thread.join()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
