"""TLS: connections and servers, with the user's own SSLContext, from beginning to end.

Run on asyncio and on mioloop alike, over real sockets on the loopback interface. Each test
waits for what the peer does, never for time. What is refused is in test_tls_refusals, TLS on
a connection that is open already in test_start_tls.
"""

import asyncio
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tls_peers import (
    BOTH,
    CERTS,
    PATIENCE,
    Serving,
    client_context,
    close,
    collected,  # noqa: F401 (a fixture)
    connect,
    echo,
    exchange,
    leaves_no_warning,
    loop_kind,  # noqa: F401 (a fixture)
    server_context,
)

Run = Callable[..., Any]
pytestmark = leaves_no_warning


# Connections and servers


@BOTH
def test_echo(run: Run, version: ssl.TLSVersion) -> None:
    context = client_context()
    context.minimum_version = context.maximum_version = version

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            reader, writer = await connect(port, context)
            assert writer.get_extra_info("ssl_object").version() == version.name.replace(
                "v1_", "v1."
            )
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await close(writer)

    run(main())


@BOTH
def test_kernel_tls_is_asked_for(run: Run, version: ssl.TLSVersion) -> None:
    """It is not to be had over memory, and nobody minds."""
    client, server = client_context(), server_context()
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
        context.options |= getattr(ssl, "OP_ENABLE_KTLS", 8)  # 8: before 3.12
    data = bytes(range(256)) * 1000

    async def main() -> None:
        async with Serving(echo, server) as port:
            assert await exchange(port, client, data) == data

    run(main())


def test_much_data_both_ways(run: Run) -> None:
    data = bytes(range(256)) * 8 * 1024

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            assert await exchange(port, client_context(), data) == data

    run(main())


def test_unix_sockets(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with Serving(echo, server_context(), path=path):
            reader, writer = await asyncio.open_unix_connection(
                path, ssl=client_context(), server_hostname="localhost"
            )
            writer.write(b"unix")
            assert await reader.readexactly(4) == b"unix"
            await close(writer)

    run(main())


def test_connect_accepted_socket(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()

        async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            await close(writer)

        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), echo_once)
        _, client = await asyncio.gather(
            loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context()),
            asyncio.open_connection(sock=theirs, ssl=client_context(), server_hostname="localhost"),
        )
        client[1].write(b"accepted")
        assert await client[0].readexactly(8) == b"accepted"
        await close(client[1])
        while ours.fileno() >= 0:
            await asyncio.sleep(0)

    run(main())


def test_extra_info(run: Run) -> None:
    server, client = server_context(), client_context()
    server.set_alpn_protocols(["h2", "http/1.1"])
    client.set_alpn_protocols(["http/1.1"])

    async def main() -> None:
        async with Serving(echo, server) as port:
            _, writer = await connect(port, client)
            subject = writer.get_extra_info("peercert")["subject"]
            assert (("commonName", "server"),) in subject
            assert writer.get_extra_info("sslcontext") is client
            assert writer.get_extra_info("cipher") == writer.get_extra_info("ssl_object").cipher()
            assert writer.get_extra_info("compression") is None
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            assert writer.get_extra_info("peername") == ("127.0.0.1", port)
            assert writer.get_extra_info("socket").type == socket.SOCK_STREAM
            assert writer.transport.get_extra_info("no such thing", "nothing") == "nothing"
            await close(writer)

    run(main())


def test_server_name_chooses_the_certificate(run: Run) -> None:
    server, other = server_context("expired"), server_context()
    asked: list[str | None] = []

    def choose(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        asked.append(name)
        connection.context = other

    server.sni_callback = choose

    async def main() -> None:
        async with Serving(echo, server) as port:
            assert await exchange(port, client_context(), b"sni") == b"sni"

    run(main())
    assert asked == ["localhost"]


def test_client_certificate(run: Run) -> None:
    server = server_context()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(CERTS / "ca.pem")
    client = client_context()
    client.load_cert_chain(CERTS / "client.pem")
    names: list[Any] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(writer.get_extra_info("peercert")["subject"][-1])
        await echo(reader, writer)

    async def main() -> None:
        async with Serving(handler, server) as port:
            assert await exchange(port, client, b"known") == b"known"

    run(main())
    assert names == [(("commonName", "client"),)]


# Ends


def test_end_of_the_stream(run: Run) -> None:
    """close() of one side is the other's EOF, after everything that was sent before."""
    data = b"x" * 300_000

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async def main() -> None:
        async with Serving(handler, server_context()) as port:
            reader, writer = await connect(port, client_context())
            assert await asyncio.wait_for(reader.read(), PATIENCE) == data
            assert reader.at_eof()
            await close(writer)

    run(main())


def test_abort(run: Run) -> None:
    lost: list[Exception | None] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)
            self.lost.set_result(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Serving(echo, server_context()) as port:
            transport, protocol = await loop.create_connection(
                Protocol, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
            )
            transport.abort()
            assert lost == []
            await protocol.lost

    run(main())
    assert lost == [None]


def test_half_close_is_not_possible(run: Run) -> None:
    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            _, writer = await connect(port, client_context())
            assert not writer.can_write_eof()
            with pytest.raises(NotImplementedError):
                writer.write_eof()
            await close(writer)

    run(main())


def test_writing_pauses_and_resumes(run: Run) -> None:
    calls: list[str] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.resumed = asyncio.get_running_loop().create_future()
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(None)

        def pause_writing(self) -> None:
            calls.append("pause")

        def resume_writing(self) -> None:
            calls.append("resume")
            if not self.resumed.done():
                self.resumed.set_result(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_now = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_now.wait()
            while await reader.read(65536):
                pass

        async with Serving(handler, server_context(), limit=1024) as port:
            transport, protocol = await loop.create_connection(
                Protocol, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
            )
            while "pause" not in calls:
                transport.write(b"x" * 1_000_000)
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() > 0
            read_now.set()
            await asyncio.wait_for(protocol.resumed, PATIENCE)
            transport.close()
            await asyncio.wait_for(protocol.lost, PATIENCE)

    run(main())
    assert calls[:2] == ["pause", "resume"]


def test_sendfile_falls_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 10_000)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Serving(echo, server_context()) as port:
            reader, writer = await connect(port, client_context())
            with open(tmp_path / "file", "rb") as file:
                with pytest.raises(RuntimeError, match="fallback is disabled"):
                    await loop.sendfile(writer.transport, file, fallback=False)
                assert await loop.sendfile(writer.transport, file, 7, 700) == 700
            assert await reader.readexactly(700) == b"content" * 100
            await close(writer)

    run(main())


# An outside peer: Python's blocking ssl module


def test_blocking_client(run: Run) -> None:
    answers: list[bytes] = []

    def talk(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            client_context().wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"outside")
            answers.append(tls.recv(100))
            if sys.version_info >= (3, 11):
                tls.unwrap()  # waits for the server's close_notify

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            await asyncio.get_running_loop().run_in_executor(None, talk, port)

    run(main())
    assert answers == [b"outside"]


def test_blocking_server(run: Run) -> None:
    def serve(listening: socket.socket) -> None:
        plain, _ = listening.accept()
        plain.settimeout(PATIENCE)
        with server_context().wrap_socket(plain, server_side=True) as tls:
            tls.sendall(tls.recv(100).upper())
            assert tls.recv(100) == b""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=serve, args=(listening,))
            thread.start()
            port = listening.getsockname()[1]
            assert await exchange(port, client_context(), b"shout") == b"SHOUT"
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    run(main())
