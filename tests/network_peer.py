"""The two ends of a connection for the network tests: a protocol with a diary, a plain socket.

Used by the tests of transports. `connect()` makes a TCP connection whose one end is a transport
of the loop under test with a `Recorder` as its protocol; the other end is a `Peer`, a bare
non-blocking socket that asks nothing of the loop except `asyncio.sleep`. `Serving` is a server
whose protocols are kept.
"""

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest

TIME_LIMIT = 10
BIG = bytes(range(256)) * 8192  # 2 MiB: more than the kernel takes at once


async def until(condition: Callable[[], object]) -> None:
    """Lets the loop run until `condition()` is true; an AssertionError after 10 s."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIME_LIMIT
    while not condition():
        assert loop.time() < deadline, "waited in vain"
        await asyncio.sleep(0.0005)


async def a_while(seconds: float = 0.01) -> None:
    """Time enough for what must *not* happen to happen."""
    deadline = asyncio.get_running_loop().time() + seconds
    for _ in range(20):
        await asyncio.sleep(0)
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.001)


def reports_of(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """From now on the contexts of the exception handler are kept in the list."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    return reports


class Recorder(asyncio.Protocol):
    """Notes the names of its callbacks (`data` once in a row), the data, and how it ended."""

    keep_open = False

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.lost: list[BaseException | None] = []
        self.transport: Any = None

    def note(self, name: str) -> None:
        if name != "data" or self.calls[-1:] != ["data"]:
            self.calls.append(name)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes and data
        self.data += data
        self.note("data")

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("lost")
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    async def ended(self) -> BaseException | None:
        """Waits for connection_lost; what it was told."""
        await until(lambda: self.lost)
        return self.lost[0]

    async def got(self, count: int) -> bytes:
        """Waits for `count` bytes in all; what has come."""
        await until(lambda: len(self.data) >= count)
        return bytes(self.data)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same diary, its data through a buffer of 1000 bytes. It must never see data_received."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: Any = bytearray(1000)

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert nbytes > 0
        self.data += memoryview(self.buffer).cast("B")[:nbytes]
        self.note("data")

    def data_received(self, data: bytes) -> None:
        raise AssertionError("data_received of a BufferedProtocol")


DATAGRAMS = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")
"""sock_recvfrom, sock_recvfrom_into and sock_sendto."""

KINDS = pytest.mark.parametrize("kind", [Recorder, BufferedRecorder], ids=["plain", "buffered"])


class Peer:
    """The other end: a plain socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    def send(self, data: bytes) -> None:
        """Sends what surely fits into the socket's buffer."""
        assert self.sock.send(data) == len(data)

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await asyncio.sleep(0)

    async def read(self, count: int = -1) -> bytes:
        """Exactly `count` bytes, or all up to the end of the stream; less if it ends early."""
        got = bytearray()
        deadline = asyncio.get_running_loop().time() + TIME_LIMIT
        while count < 0 or len(got) < count:
            try:
                data = self.sock.recv(1 << 20 if count < 0 else min(1 << 20, count - len(got)))
            except BlockingIOError:
                assert asyncio.get_running_loop().time() < deadline, f"only {len(got)} bytes"
                await asyncio.sleep(0.0005)
                continue
            if not data:
                break
            got += data
        return bytes(got)

    def shutdown(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with a RST: the transport's next read or write fails."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tcp_pair(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking TCP sockets."""
    with socket.create_server((host, 0)) as listener:
        ours = socket.create_connection(listener.getsockname()[:2])
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def connect(factory: Callable[[], Any] = Recorder) -> tuple[Any, Any, Peer]:
    """(transport, protocol, peer) of a new TCP connection.

    The kernel's buffers have a fixed size, so a megabyte never fits and is queued.
    """
    ours, theirs = tcp_pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(factory, sock=ours)
    return transport, protocol, Peer(theirs)


class Serving:
    """A server on 127.0.0.1 whose protocols are kept, and plain clients of it."""

    def __init__(self) -> None:
        self.protocols: list[Recorder] = []
        self.peers: list[Peer] = []

    def factory(self) -> Recorder:
        self.protocols.append(Recorder())
        return self.protocols[-1]

    async def start(self, **keywords: Any) -> "Serving":
        self.server = await asyncio.get_running_loop().create_server(
            self.factory, "127.0.0.1", 0, **keywords
        )
        self.address = self.server.sockets[0].getsockname()
        return self

    async def client(self) -> tuple[Recorder, Peer]:
        """A new connection: the server's protocol and the client's socket."""
        count = len(self.protocols)
        self.peers.append(Peer(socket.create_connection(self.address)))
        await until(lambda: len(self.protocols) > count and self.protocols[-1].transport)
        return self.protocols[-1], self.peers[-1]

    async def stop(self) -> None:
        self.server.close()
        for peer in self.peers:
            peer.close()
        for protocol in self.protocols:
            await protocol.ended()
        await self.server.wait_closed()


async def check_and_close(transport: Any, protocol: Recorder, listener: socket.socket) -> None:
    """The connection has arrived at the listener and carries data both ways."""
    with Peer(listener.accept()[0]) as peer:
        peer.send(b"hello")
        assert await protocol.got(5) == b"hello"
        transport.write(b"good bye")
        assert await peer.read(8) == b"good bye"
    assert await protocol.ended() is None


def refuses(address: Any) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) == errno.ECONNREFUSED


async def waiting(coroutine: Any) -> "asyncio.Task[Any]":
    """A task that has got as far as its await."""
    task = asyncio.get_running_loop().create_task(coroutine)
    await a_while(0.002)
    assert not task.done()
    return task


async def cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
