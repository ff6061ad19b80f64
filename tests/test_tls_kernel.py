"""`ssl.OP_ENABLE_KTLS`: the kernel encrypts, where it can.

Run on asyncio and on mioloop alike, on kernels with and without TLS: what a connection carries
is the same. That the kernel does it, and sends files without a copy, is for those that have it
(`scripts/kernel_tls` starts one); /proc/net/tls_stat counts its sockets.
"""

import asyncio
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tls_peers import (
    BOTH,
    PATIENCE,
    Serving,
    client_context,
    close,
    connect,
    echo,
    exchange,
    loop_kind,
    open_protocol,
    server_context,
    since_3_11,
)

__all__ = ["loop_kind"]
Run = Callable[..., Any]
pytestmark = since_3_11

KTLS = getattr(ssl, "OP_ENABLE_KTLS", ssl.Options(8))  # has a name since 3.12
STATISTICS = Path("/proc/net/tls_stat")
DATA = bytes(range(256)) * 8192  # 2 MiB
SIZES = [1, 100, 16 * 1024, 16 * 1024 + 1, 300_000]


def offers(context: ssl.SSLContext, version: Any = None, cipher: str = "") -> ssl.SSLContext:
    """The context with the option."""
    context.options |= KTLS
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if cipher:
        context.set_ciphers(cipher)
    return context


def counted(name: str) -> int:
    """A counter of the kernel's TLS."""
    lines = STATISTICS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == name)


def kernel_has_it() -> bool:
    """Can the kernel do it, and with this OpenSSL? Asked with blocking sockets."""
    if not STATISTICS.exists():
        return False
    before = counted("TlsTxSw")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            theirs = listener.accept()[0]
            thread = threading.Thread(target=greet, args=(theirs,))
            thread.start()
            with client_context().wrap_socket(client, server_hostname="localhost") as wrapped:
                assert wrapped.recv(10) == b"hello"
            thread.join(PATIENCE)
    return counted("TlsTxSw") > before


def greet(sock: socket.socket) -> None:
    with offers(server_context()).wrap_socket(sock, server_side=True) as wrapped:
        wrapped.send(b"hello")


HAS_IT = kernel_has_it()
needs_kernel = pytest.mark.skipif(
    not HAS_IT, reason="the kernel has no TLS, or OpenSSL no use of it"
)


@pytest.fixture
def encrypts(loop_kind: str, request: pytest.FixtureRequest) -> bool:
    """Is it the kernel that encrypts for the loop of this test?"""
    from mioloop._tls import Machine

    return HAS_IT and loop_kind == "mioloop" and Machine._direct


class Sockets:
    """`with Sockets(encrypts) as it`: so many sockets had the kernel encrypt for them."""

    def __init__(self, expected: int) -> None:
        self.expected = expected

    def __enter__(self) -> None:
        self.before = counted("TlsTxSw") if STATISTICS.exists() else 0

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and STATISTICS.exists():
            assert counted("TlsTxSw") - self.before == self.expected


# Data


@BOTH
def test_data_of_all_sizes(run: Run, encrypts: bool, version: Any) -> None:
    async def main() -> None:
        async with Serving(echo, offers(server_context(), version)) as port:
            for size in SIZES:
                context = offers(client_context())
                assert await exchange(port, context, DATA[:size]) == DATA[:size]

    with Sockets(2 * len(SIZES) * encrypts):
        run(main())


@pytest.mark.parametrize(
    "cipher",
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ],
)
def test_ciphers(run: Run, encrypts: bool, cipher: str) -> None:
    async def main() -> None:
        server = offers(server_context(), ssl.TLSVersion.TLSv1_2, cipher)
        async with Serving(echo, server) as port:
            assert await exchange(port, client_context(), DATA) == DATA

    with Sockets(int(encrypts)):
        run(main())


def test_a_cipher_that_the_kernel_does_not_know(run: Run) -> None:
    async def main() -> None:
        server = offers(server_context(), ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256")
        async with Serving(echo, server) as port:
            assert await exchange(port, client_context(), DATA) == DATA

    with Sockets(0):
        run(main())


def test_without_the_option_nothing_changes(run: Run) -> None:
    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            assert await exchange(port, client_context(), DATA) == DATA

    with Sockets(0):
        run(main())


def test_over_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        async with Serving(echo, offers(server_context()), path=path):
            reader, writer = await asyncio.open_unix_connection(
                path, ssl=offers(client_context()), server_hostname="localhost"
            )
            writer.write(DATA)
            assert await reader.readexactly(len(DATA)) == DATA
            await close(writer)

    with Sockets(0):
        run(main())


def test_start_tls(run: Run, encrypts: bool) -> None:
    """The plain text before it stays plain, and comes first."""
    size = 1 << 20

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(size))
        await reader.readexactly(1)
        writer.write(b"?")
        await writer.start_tls(offers(server_context()))
        await echo(reader, writer)

    async def main() -> None:
        async with Serving(handle, None) as port:
            reader, writer = await connect(port)
            assert await reader.readexactly(size) == bytes(size)
            writer.write(b"!")
            assert await reader.readexactly(1) == b"?"
            await writer.start_tls(offers(client_context()), server_hostname="localhost")
            writer.write(DATA)
            assert await reader.readexactly(len(DATA)) == DATA
            await close(writer)

    with Sockets(2 * encrypts):
        run(main())


def test_many_connections_at_once(run: Run, encrypts: bool) -> None:
    async def main() -> None:
        async with Serving(echo, offers(server_context())) as port:
            context = offers(client_context())
            pieces = [DATA[at : at + 50_000] for at in range(0, 1_000_000, 50_000)]
            assert (
                await asyncio.gather(*(exchange(port, context, piece) for piece in pieces))
                == pieces
            )

    with Sockets(40 * encrypts):
        run(main())


# Records that are no data


def test_session_tickets(run: Run, encrypts: bool) -> None:
    """They are messages of the handshake, sent after it: the next connection takes one up."""

    async def main() -> None:
        async with Serving(echo, offers(server_context(), ssl.TLSVersion.TLSv1_3)) as port:

            def talk(session: Any) -> Any:
                with socket.create_connection(("127.0.0.1", port)) as plain:
                    with context.wrap_socket(
                        plain, server_hostname="localhost", session=session
                    ) as sock:
                        sock.sendall(b"hello")
                        assert sock.recv(10) == b"hello"
                        return sock.session, sock.session_reused

            context = client_context()
            session, reused = await asyncio.to_thread(talk, None)
            assert session.has_ticket and not reused
            assert (await asyncio.to_thread(talk, session))[1]

    with Sockets(2 * encrypts):
        run(main())


@pytest.mark.parametrize("size", [0, 10, len(DATA)])
@BOTH
def test_the_close_notify_comes_behind_all_data(
    run: Run, encrypts: bool, version: Any, size: int
) -> None:
    """A peer that is slow, and takes a connection that ends without one for an error."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(DATA[:size])  # and closes at once

    def read(port: int) -> bytes:
        data = b""
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect(("127.0.0.1", port))
            plain.settimeout(PATIENCE)
            with client_context().wrap_socket(
                plain, server_hostname="localhost", suppress_ragged_eofs=False
            ) as sock:
                while piece := sock.recv(100_000):
                    data += piece
                sock.unwrap()
        return data

    async def main() -> None:
        async with Serving(handle, offers(server_context(), version)) as port:
            assert await asyncio.to_thread(read, port) == DATA[:size]

    with Sockets(int(encrypts)):
        run(main())


def test_a_refused_certificate(run: Run) -> None:
    """A handshake that fails after the server's keys have changed: nothing reaches its protocol."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("the handshake has failed")

    def read(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.settimeout(PATIENCE)
            # The client is done before the server has looked for its certificate.
            with client_context().wrap_socket(plain, server_hostname="localhost") as sock:
                try:
                    return sock.recv(1)
                except (ssl.SSLError, ConnectionError):
                    return b""

    async def main() -> None:
        context = offers(server_context(), ssl.TLSVersion.TLSv1_3)
        context.verify_mode = ssl.CERT_REQUIRED
        async with Serving(handle, context) as port:
            assert await asyncio.to_thread(read, port) == b""

    run(main())


@needs_kernel
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_peer_that_wants_new_keys(run: Run, encrypts: bool) -> None:
    """Older kernels cannot change them: the connection ends rather than send under the old ones."""
    if not encrypts:
        pytest.skip("for connections that the kernel encrypts")

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await echo(reader, writer)
            except ssl.SSLError as error:
                ended.set_result(error)
                raise ConnectionError from error

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with Serving(handle, offers(server_context(), ssl.TLSVersion.TLSv1_3)) as port:
            client = await asyncio.create_subprocess_exec(
                *("openssl", "s_client", "-connect", f"127.0.0.1:{port}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(b"hello\n")
            while b"hello" not in await asyncio.wait_for(client.stdout.readline(), PATIENCE):
                pass
            client.stdin.write(
                b"K\n"
            )  # an update of its keys, and of ours, with what it sends next
            while b"KEYUPDATE" not in await asyncio.wait_for(client.stdout.readline(), PATIENCE):
                pass
            client.stdin.write(b"more\n")
            rest = await asyncio.wait_for(client.stdout.read(), PATIENCE)
            assert b"bad record mac" not in rest.lower()
            await client.wait()
            assert isinstance(await asyncio.wait_for(ended, PATIENCE), ssl.SSLError)

    run(main())


# sendfile


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    (tmp_path / "data").write_bytes(DATA)
    with (tmp_path / "data").open("rb") as opened:
        yield opened


async def collect(port: int) -> bytes:
    reader, writer = await connect(port, client_context())
    data: bytes = await reader.read()
    await close(writer)
    return data


def test_sendfile(run: Run, encrypts: bool, file: BinaryIO) -> None:
    """Between what is written before and after; no copy exactly where the kernel encrypts."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        writer.write(DATA[:300_000])  # more than waits below
        assert await loop.sendfile(writer.transport, file, fallback=not encrypts) == len(DATA)
        assert file.tell() == len(DATA)
        writer.write(b"end")
        assert await loop.sendfile(writer.transport, file, 5, 10, fallback=not encrypts) == 10
        assert file.tell() == 15

    async def main() -> None:
        async with Serving(handle, offers(server_context())) as port:
            assert await collect(port) == DATA[:300_000] + DATA + b"end" + DATA[5:15]

    with Sockets(int(encrypts)):
        run(main())


def test_sendfile_without_the_kernel(run: Run, file: BinaryIO) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await asyncio.get_running_loop().sendfile(writer.transport, file, fallback=False)

    async def main() -> None:
        async with Serving(handle, server_context()) as port:
            assert await collect(port) == b""

    run(main())


@needs_kernel
def test_nobody_else_writes_during_sendfile(run: Run, encrypts: bool, file: BinaryIO) -> None:
    if not encrypts:
        pytest.skip("for connections that the kernel encrypts")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.ensure_future(
            asyncio.get_running_loop().sendfile(writer.transport, file, fallback=False)
        )
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
            writer.write(b"no")
        with pytest.raises(RuntimeError, match="unable to writelines; sendfile is in progress"):
            writer.transport.writelines([b"no"])
        assert await sending == len(DATA)
        writer.write(b"yes")

    async def main() -> None:
        async with Serving(handle, offers(server_context())) as port:
            assert await collect(port) == DATA + b"yes"

    run(main())


@needs_kernel
@pytest.mark.parametrize("way", ["abort", "close"])
def test_the_end_during_sendfile(run: Run, encrypts: bool, way: str, file: BinaryIO) -> None:
    if not encrypts:
        pytest.skip("for connections that the kernel encrypts")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stalled = asyncio.Event()
        with Path(file.name).open("ab") as more:
            more.truncate(1 << 28)  # more than waits anywhere

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sending = loop.create_task(loop.sendfile(writer.transport, file, fallback=False))
            await stalled.wait()
            getattr(writer.transport, way)()
            with pytest.raises(ConnectionError, match="^Connection is closed by peer$"):
                await asyncio.wait_for(sending, PATIENCE)

        async with Serving(handle, offers(server_context())) as port:
            transport, protocol = await open_protocol(port)
            await protocol.until(1)
            transport.pause_reading()
            stalled.set()
            await asyncio.sleep(0)
            transport.resume_reading()
            await asyncio.wait_for(protocol.lost, PATIENCE)
            assert 0 < len(protocol.data) < 1 << 28

    run(main())


if sys.version_info < (3, 12):
    # What has a name later is the same bit before.
    assert int(KTLS) == 8
