"""The servers that are put under load: `start()` starts one of `SERVERS` on the running loop.

Run by `worker.py`. They use asyncio's interfaces as programs do; nothing here knows which loop it
runs on. What they return is kept alive, and the port is told to the load generator.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

HOST = "127.0.0.1"
BACKLOG = 4096
CHUNK = 256 * 1024
PAGE = b"Hello world\n"


class Options(NamedTuple):
    """What a server may need."""

    path: str  # of a Unix socket
    certificate: str  # and its key, in one file


class Running(NamedTuple):
    """A server that listens."""

    port: int  # 0 for a Unix socket
    keep: Any


# Protocols


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Sends back what comes, from a buffer of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport
        self.buffer = bytearray(CHUNK)

    def get_buffer(self, sizehint: int) -> bytearray:
        """The buffer to read into."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send it back."""
        self.transport.write(self.buffer[:nbytes])


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends back each datagram."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self.transport.sendto(data, addr)


async def stream_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, with streams."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


# Servers


def server_context(options: Options) -> ssl.SSLContext:
    """TLS 1.3 with the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(options.certificate)
    return context


def listening(server: asyncio.Server) -> Running:
    """A server and its port."""
    return Running(server.sockets[0].getsockname()[1], server)


async def tcp_protocol(options: Options) -> Running:
    """`create_server` with a Protocol."""
    loop = asyncio.get_running_loop()
    return listening(await loop.create_server(Echo, HOST, 0, backlog=BACKLOG))


async def tcp_buffered(options: Options) -> Running:
    """`create_server` with a BufferedProtocol."""
    loop = asyncio.get_running_loop()
    return listening(await loop.create_server(BufferedEcho, HOST, 0, backlog=BACKLOG))


async def tcp_streams(options: Options) -> Running:
    """`start_server`."""
    return listening(await asyncio.start_server(stream_echo, HOST, 0, backlog=BACKLOG))


async def tls_protocol(options: Options) -> Running:
    """`create_server` with TLS."""
    loop = asyncio.get_running_loop()
    context = server_context(options)
    return listening(await loop.create_server(Echo, HOST, 0, ssl=context, backlog=BACKLOG))


async def tls_streams(options: Options) -> Running:
    """`start_server` with TLS."""
    context = server_context(options)
    return listening(await asyncio.start_server(stream_echo, HOST, 0, ssl=context, backlog=BACKLOG))


async def unix_protocol(options: Options) -> Running:
    """`create_unix_server`."""
    loop = asyncio.get_running_loop()
    return Running(0, await loop.create_unix_server(Echo, options.path, backlog=BACKLOG))


async def unix_streams(options: Options) -> Running:
    """`start_unix_server`."""
    server = await asyncio.start_unix_server(stream_echo, options.path, backlog=BACKLOG)
    return Running(0, server)


async def udp(options: Options) -> Running:
    """`create_datagram_endpoint`."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=(HOST, 0))
    return Running(transport.get_extra_info("sockname")[1], transport)


async def tcp_sock(options: Options) -> Running:
    """`sock_accept`, `sock_recv` and `sock_sendall`."""
    loop = asyncio.get_running_loop()
    sock = socket.create_server((HOST, 0), backlog=BACKLOG)
    sock.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := await loop.sock_recv(connection, CHUNK):
                    await loop.sock_sendall(connection, data)
            except ConnectionError:
                pass

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(sock)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(serve(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return Running(sock.getsockname()[1], (sock, loop.create_task(accept())))


async def uvicorn(options: Options) -> Running:
    """uvicorn with httptools and an ASGI application that answers a page."""
    import uvicorn

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"12")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE})

    config = uvicorn.Config(
        application,
        host=HOST,
        port=0,
        http="httptools",
        ws="none",
        lifespan="off",
        loop="none",
        log_level="critical",
        access_log=False,
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    task = asyncio.get_running_loop().create_task(server.serve())
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    if task.done():
        task.result()
        raise RuntimeError("uvicorn ended")
    return Running(server.servers[0].sockets[0].getsockname()[1], (server, task))


async def aiohttp(options: Options) -> Running:
    """aiohttp's server with a handler that answers a page."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=PAGE)

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=BACKLOG).start()
    return Running(runner.addresses[0][1], runner)


SERVERS: dict[str, Callable[[Options], Awaitable[Running]]] = {
    start.__name__: start
    for start in (
        tcp_protocol,
        tcp_buffered,
        tcp_streams,
        tcp_sock,
        tls_protocol,
        tls_streams,
        unix_protocol,
        unix_streams,
        udp,
        uvicorn,
        aiohttp,
    )
}
