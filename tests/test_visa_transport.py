"""PyVISA against peers of every manner, on loopback: text, blocks, silence, late answers, a peer that dies."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from drivers.serve import Server, serve
from labctl.errors import LinkError, StationError
from labctl.link import ScpiLink
from labctl.transport import LinkTimeout, open_transport
from labctl.transport.visa import VisaTransport
from labctl.wire.scpi import block
from tests.hislip import HislipServer
from tests.vxi11 import Vxi11Server

DATA = bytes(range(256)) * 4096  # 1 MiB with every byte, newlines among them


class Echo:
    """Answers `NUM? x` with x, `BLOCK?` with `DATA`, `*ESE n;*ESE?` with n and leaves everything else unanswered."""

    def __init__(self) -> None:
        self._pending = b""

    def receive(self, data: bytes) -> bytes:
        *lines, self._pending = (self._pending + data).split(b"\n")
        return b"".join(self.answer(line.decode("ascii")) for line in lines)

    def answer(self, line: str) -> bytes:
        if line.startswith("NUM? "):
            return line[5:].encode() + b"\n"
        if line == "BLOCK?":
            return block(DATA) + b"\n"
        if line.startswith("*ESE "):
            return line.split("?")[0].removeprefix("*ESE ").split(";")[0].encode() + b"\n"
        return b""


def visa_address(server: Server) -> str:
    host, port = server.address.removeprefix("tcp://").split(":")
    return f"TCPIP::{host}::{port}::SOCKET"


@pytest.fixture(params=["socket", "hislip", "vxi11"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != "socket":
        by_message = {"hislip": HislipServer, "vxi11": Vxi11Server}[request.param](Echo())
        yield by_message.address
        by_message.stop()
    else:
        with serve(Echo(), "tcp://127.0.0.1:0") as server:
            yield visa_address(server)


@pytest.fixture
def link(address: str) -> Iterator[ScpiLink]:
    transport = open_transport(address)
    assert isinstance(transport, VisaTransport)
    yield ScpiLink(transport, "scope", timeout=20.0)
    transport.close()
    transport.close()


def test_text_and_blocks(link: ScpiLink) -> None:
    assert [link.query(f"NUM? {i}") for i in range(20)] == [str(i) for i in range(20)]
    assert link.query_block("BLOCK?") == DATA
    assert link.query("NUM? 7") == "7"


def test_silence_is_a_timeout_and_the_next_answer_is_the_right_one(link: ScpiLink) -> None:
    for i in range(3):
        with pytest.raises(LinkTimeout):
            link.query("SILENCE?", 0.3)
        assert link.query(f"NUM? {i}") == str(i)


def test_a_block_of_another_length_than_it_says_is_noticed(link: ScpiLink) -> None:
    with pytest.raises(LinkError, match="not with a block"):
        link.query_block("NUM? 123")
    with pytest.raises(LinkError, match=r"no answer within|ends early"):
        link.query_block("NUM? #3100abc", 0.3)
    with pytest.raises(LinkError, match="are bytes missing"):
        link.query_block("NUM? #12abcdef")
    assert link.query("NUM? 5") == "5"


def test_two_links_do_not_disturb_each_other(address: str) -> None:
    """Closing one of several ResourceManagers would invalidate the sessions of the others."""
    first, second = VisaTransport(address), VisaTransport(address)
    first.close()
    assert ScpiLink(second, "scope").query("NUM? 1") == "1"
    second.close()
    with pytest.raises(LinkError, match="the link is closed"):
        first.write(b"x")


class Scripted:
    """A TCP server that does with each connection what the next function of `manners` does."""

    def __init__(self, *manners: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"TCPIP::127.0.0.1::{self._listener.getsockname()[1]}::SOCKET"
        self._connection = self._listener
        self._thread = threading.Thread(target=self._run, args=(manners,), daemon=True)
        self._thread.start()

    def _run(self, manners: tuple[Callable[[socket.socket], None], ...]) -> None:
        with contextlib.suppress(OSError):  # the client has gone, or the test is over
            for manner in manners:
                self._connection, _ = self._listener.accept()
                with self._connection:
                    manner(self._connection)

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *exc: object) -> None:
        for one in (self._listener, self._connection):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


def answer_nonces(connection: socket.socket) -> None:
    echo = Echo()
    while data := connection.recv(4096):
        connection.sendall(echo.receive(data))


def test_a_late_answer_is_never_taken_for_another() -> None:
    """The classic of raw sockets: after a timeout every answer belongs to the question before."""

    def answers_late(connection: socket.socket) -> None:
        echo, held = Echo(), b""
        while data := connection.recv(4096):
            if b"NUM? 1\n" in data:
                held = b"1\n"  # comes only with the next exchange
                continue
            connection.sendall(held + echo.receive(data))
            held = b""

    with Scripted(answers_late) as server:
        transport = VisaTransport(server.address)
        link = ScpiLink(transport, "scope", timeout=20.0)
        with pytest.raises(LinkTimeout):
            link.query("NUM? 1", 0.3)
        assert [link.query(f"NUM? {i}") for i in (2, 3)] == ["2", "3"]
        transport.close()


def test_an_answer_late_by_half_a_block_is_thrown_away() -> None:
    def stops_in_the_middle(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"#6100000" + DATA[:40_000])
        rest = DATA[40_000:100_000] + b"\n"
        echo = Echo()
        while data := connection.recv(4096):
            connection.sendall(rest + echo.receive(data))
            rest = b""

    with Scripted(stops_in_the_middle) as server:
        transport = VisaTransport(server.address)
        link = ScpiLink(transport, "scope", timeout=20.0)
        with pytest.raises(LinkTimeout):
            link.query_block("BLOCK?", 0.5)
        assert link.query("NUM? 2") == "2"
        transport.close()


def closes(connection: socket.socket) -> None:
    connection.recv(100)


def resets(connection: socket.socket) -> None:
    import struct

    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("manner", [closes, resets])
def test_a_peer_that_dies_is_a_link_error_and_the_link_recovers(manner: Callable[[socket.socket], None]) -> None:
    with Scripted(manner, answer_nonces) as server:
        transport = VisaTransport(server.address)
        link = ScpiLink(transport, "scope", timeout=20.0)
        with pytest.raises(LinkError, match="TCPIP::127") as caught:
            link.query("NUM? 1")
        assert not isinstance(caught.value, LinkTimeout)  # the closed socket is noticed, not waited for
        assert link.query("NUM? 2") == "2"  # over a new connection
        transport.close()


def test_a_hislip_instrument_that_dies_is_a_link_error() -> None:
    """With VXI-11 it is one too, but pyvisa-py spins on the dead socket for the 10 s that a write may take."""
    server = HislipServer(Echo())
    transport = VisaTransport(server.address)
    link = ScpiLink(transport, "scope", timeout=20.0)
    assert link.query("NUM? 1") == "1"
    server.stop()
    for _ in range(2):
        with pytest.raises(LinkError, match="TCPIP::127") as caught:
            link.query("NUM? 2")
        assert not isinstance(caught.value, LinkTimeout)
    transport.close()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    with pytest.raises(LinkError, match="is the instrument on and the address right"):
        VisaTransport(f"TCPIP::127.0.0.1::{port}::SOCKET")
    with pytest.raises(LinkError, match="cannot open"):
        VisaTransport("ASRL/dev/nothing-there::INSTR")
    with pytest.raises(LinkError, match="cannot connect"):
        VisaTransport(f"TCPIP::127.0.0.1::hislip0,{port}::INSTR")


@pytest.mark.parametrize("address", ["TCPIP::host::5025::SOKKET", "no such::thing", "::"])
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(StationError, match="is no VISA resource"):
        open_transport(address)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_serial_port() -> None:
    with serve(Echo(), "pty") as server:
        transport = VisaTransport(f"ASRL{server.address.removeprefix('serial:')}::INSTR")
        link = ScpiLink(transport, "scope", timeout=20.0)
        assert [link.query(f"NUM? {i}") for i in range(3)] == ["0", "1", "2"]
        assert link.query_block(f"NUM? {block(DATA[32:127] * 60, 6).decode()}") == DATA[32:127] * 60
        transport.close()


def test_pyvisa_is_imported_only_when_an_address_needs_it() -> None:
    code = "import sys, labctl, labctl.transport.visa, drivers.scope.scope; sys.exit('pyvisa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
