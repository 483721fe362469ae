"""A VXI-11 server, as small as PyVISA needs it: ONC RPC (RFC 5531) over TCP, core channel of VXI-11.1, one client."""

import socket
import struct
import threading

from labctl.transport.loop import Peer

CREATE_LINK, WRITE, READ, CLEAR, DESTROY_LINK = 10, 11, 12, 15, 23
TIMEOUT, REQUEST_COUNT, END = 15, 1, 4


class Vxi11Server:
    """Serves `peer`; a read that finds nothing is answered with an I/O time-out at once."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.address = f"TCPIP::127.0.0.1,{self._listener.getsockname()[1]}::inst0::INSTR"

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
        with connection:
            try:
                while True:
                    call, last = b"", False
                    while not last:  # record marking: a length, whose highest bit says that it is the last fragment
                        (mark,) = struct.unpack("!I", _exactly(connection, 4))
                        call, last = call + _exactly(connection, mark & 0x7FFFFFFF), bool(mark >> 31)
                    xid, _, _, _, _, procedure = struct.unpack_from("!6I", call)
                    credentials = struct.unpack_from("!I", call, 28)[0]
                    verifier = struct.unpack_from("!I", call, 36 + credentials)[0]
                    results = self._call(procedure, call[40 + credentials + verifier :])
                    reply = struct.pack("!6I", xid, 1, 0, 0, 0, 0) + results
                    connection.sendall(struct.pack("!I", 1 << 31 | len(reply)) + reply)
            except (OSError, EOFError):
                return

    def _call(self, procedure: int, arguments: bytes) -> bytes:
        if procedure == CREATE_LINK:
            return struct.pack("!4I", 0, 1, 0, 1 << 20)
        if procedure == WRITE:
            size = struct.unpack_from("!I", arguments, 16)[0]
            self._answer += self._peer.receive(arguments[20 : 20 + size])
            return struct.pack("!2I", 0, size)
        if procedure == READ:
            wanted = struct.unpack_from("!I", arguments, 4)[0]
            data, self._answer = self._answer[:wanted], self._answer[wanted:]
            if not data:
                return struct.pack("!3I", TIMEOUT, 0, 0)
            reason = REQUEST_COUNT if self._answer else END
            return struct.pack("!3I", 0, reason, len(data)) + data + bytes(-len(data) % 4)
        if procedure == CLEAR:
            self._answer = b""
        return struct.pack("!I", 0)

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
