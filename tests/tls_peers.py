"""What the tests of TLS share: contexts, a server, and clients that talk to it.

Certificates and keys are in tests/certs, with the script that makes them. Everything runs on
the loopback interface. Used by the tests of TLS; it has no test of its own.
"""

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CERTS = Path(__file__).parent / "certs"
PATIENCE = 30  # seconds; a test that needs them fails

BOTH = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has another TLS")


@pytest.fixture(params=["asyncio", "mioloop", "mioloop-portable"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which loop a test is on; ours twice, since TLS has two engines."""
    kind = str(request.param)
    if kind == "mioloop-portable":
        monkeypatch.setattr("mioloop._tls.Machine._direct", False)
    return kind.partition("-")[0]


@pytest.fixture
def collected() -> Iterator[None]:
    """Whatever the test has left as garbage is gone before the next test."""
    yield
    gc.collect()


leaves_no_warning: Any = (
    [
        # 3.10 does not take the transport of a handshake that failed for closed.
        pytest.mark.filterwarnings("ignore:unclosed transport <asyncio.sslproto:ResourceWarning"),
        pytest.mark.usefixtures("collected"),
    ]
    if sys.version_info < (3, 11)
    else []
)


def server_context(name: str = "server") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / f"{name}.pem")
    return context


def client_context(*, trust: bool = True) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTS / "ca.pem" if trust else None)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back until the peer has no more to say."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


class Serving:
    """`async with Serving(handler, context) as port`: a server on the loopback interface.

    With a path, a Unix server there, and `port` is of no use.

    Leaving it waits until every connection has been handled and closed.
    """

    def __init__(self, handler: Handler, context: ssl.SSLContext | None, **options: Any) -> None:
        self.handler = handler
        self.options = {"ssl": context, **options}
        self.tasks: list[Any] = []

    async def __aenter__(self) -> int:
        if "path" in self.options:
            self.server = await asyncio.start_unix_server(self.handle, **self.options)
            return 0
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0, **self.options)
        return int(self.server.sockets[0].getsockname()[1])

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            await self.handler(reader, writer)
            await close(writer)
        except ConnectionError:
            pass  # the peer has aborted

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await asyncio.wait_for(asyncio.gather(*self.tasks), PATIENCE)
        await asyncio.wait_for(self.server.wait_closed(), PATIENCE)


async def connect(port: int, context: ssl.SSLContext | None = None, **options: Any) -> Any:
    if context is not None:
        options = {"ssl": context, "server_hostname": "localhost", **options}
    return await asyncio.open_connection("127.0.0.1", port, **options)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), PATIENCE)


async def exchange(port: int, context: ssl.SSLContext, data: bytes, **options: Any) -> bytes:
    """What the server sends back for `data`."""
    reader, writer = await connect(port, context, **options)
    writer.write(data)
    received = await reader.readexactly(len(data))
    await close(writer)
    return bytes(received)


async def handshake(
    peer: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    sock: socket.socket,
    data: bytes = b"",
) -> None:
    """The peer's side of a handshake; `data` goes together with the end of it."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    while True:
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(sock, outgoing.read())
            incoming.write(await loop.sock_recv(sock, 65536))
        else:
            if data:
                peer.write(data)
            await loop.sock_sendall(sock, outgoing.read())
            return


class Receiver(asyncio.Protocol):
    """Counts calls and keeps what comes."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.data = bytearray()
        self.calls = 0
        self.ended = 0
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self.change = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.calls += 1
        self.change.set()

    def eof_received(self) -> None:
        self.ended += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self.change.set()

    async def until(self, count: int) -> None:
        while len(self.data) < count:
            self.change.clear()
            await asyncio.wait_for(self.change.wait(), PATIENCE)
            assert not self.lost.done()


class Buffered(Receiver, asyncio.BufferedProtocol):
    """The same, through a buffer of a few bytes."""

    SIZE = 1000

    def get_buffer(self, sizehint: int) -> memoryview:
        self.buffer = memoryview(bytearray(self.SIZE))  # asyncio slices it: no copies, please
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= self.SIZE
        self.data_received(bytes(self.buffer[:nbytes]))


async def open_protocol(port: int, kind: type[Receiver] = Receiver, **options: Any) -> Any:
    options = {"ssl": client_context(), "server_hostname": "localhost", **options}
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(kind, "127.0.0.1", port, **options)
    return transport, protocol
