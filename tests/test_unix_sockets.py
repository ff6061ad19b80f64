"""Unix stream sockets: create_unix_connection, create_unix_server, and the files they leave.

Run on asyncio and on mioloop alike. Paths may be str, bytes or pathlib; an address that begins
with NUL is abstract and has no file. From 3.13 on a server removes its file when it closes.
"""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_peer import Peer, Recorder, until

Run = Callable[..., Any]

CLEANS_UP = sys.version_info >= (3, 13)


def abstract_name() -> str:
    """An abstract address that nobody has: the kernel picks one for an empty name."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("")
        return str(sock.getsockname().decode())


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


async def exchange(server: Any, made: list[Recorder], path: Any) -> tuple[Any, Recorder]:
    """A connection to the server and a message each way; closed; both transports' protocols."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    await until(lambda: made and made[-1].transport)
    transport.write(b"question")
    assert await made[-1].got(8) == b"question"
    made[-1].transport.write(b"answer")
    assert await protocol.got(6) == b"answer"
    transport.close()
    await protocol.ended()
    await made[-1].ended()
    return transport, made[-1]


def keeping(made: list[Recorder]) -> Callable[[], Recorder]:
    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    return factory


@pytest.mark.parametrize("form", [str, Path, os.fsencode], ids=["str", "pathlib", "bytes"])
def test_server_and_client(run: Run, path: str, form: Callable[[str], Any]) -> None:
    async def main() -> None:
        made: list[Recorder] = []
        server = await asyncio.get_running_loop().create_unix_server(keeping(made), form(path))
        assert [one.getsockname() for one in server.sockets] == [path]
        assert server.sockets[0].family == socket.AF_UNIX
        transport, accepted = await exchange(server, made, form(path))
        assert transport.get_extra_info("peername") == path
        assert transport.get_extra_info("sockname") == ""
        assert accepted.transport.get_extra_info("peername") == ""
        assert accepted.transport.get_extra_info("sockname") == path
        assert made[0].calls == ["made", "data", "eof", "lost"]
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("form", [str, str.encode], ids=["str", "bytes"])
def test_abstract_addresses(run: Run, form: Callable[[str], Any]) -> None:
    async def main() -> None:
        made: list[Recorder] = []
        name = abstract_name()
        server = await asyncio.get_running_loop().create_unix_server(keeping(made), form(name))
        assert server.sockets[0].getsockname() == name.encode()
        transport, accepted = await exchange(server, made, form(name))
        assert transport.get_extra_info("peername") == name.encode()
        assert accepted.transport.get_extra_info("sockname") == name.encode()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_stale_socket_file_is_replaced(run: Run, path: str) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
        before = os.stat(path).st_ino
        made: list[Recorder] = []
        server = await asyncio.get_running_loop().create_unix_server(keeping(made), path)
        await exchange(server, made, path)
        assert os.path.exists(path) and before > 0
        server.close()
        await server.wait_closed()

    run(main())


def test_a_file_that_is_no_socket_stays(run: Run, path: str) -> None:
    async def main() -> None:
        Path(path).write_text("precious")
        with pytest.raises(OSError) as info:
            await asyncio.get_running_loop().create_unix_server(Recorder, path)
        assert info.value.errno == errno.EADDRINUSE
        assert info.value.strerror == f"Address {path!r} is already in use"
        assert Path(path).read_text() == "precious"

    run(main())


def test_what_is_left_after_close(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(Recorder, path)
        server.close()
        assert os.path.exists(path) is not CLEANS_UP
        await server.wait_closed()

    run(main())


@pytest.mark.skipif(not CLEANS_UP, reason="cleanup_socket is new in 3.13")
def test_cleanup_socket(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for keyword, left in ((False, True), (True, False)):
            server = await loop.create_unix_server(Recorder, path, cleanup_socket=keyword)
            server.close()
            assert os.path.exists(path) is left
        # A file that somebody else has put there is not ours to remove.
        server = await loop.create_unix_server(Recorder, path)
        os.remove(path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
        server.close()
        assert os.path.exists(path)
        # Nor is it an error that the file is gone.
        server = await loop.create_unix_server(Recorder, path)
        os.remove(path)
        server.close()
        # A socket of one's own is cleaned up alike.
        own = socket.socket(socket.AF_UNIX)
        own.bind(path)
        server = await loop.create_unix_server(Recorder, sock=own)
        server.close()
        assert not os.path.exists(path)
        server = await loop.create_unix_server(Recorder, abstract_name(), cleanup_socket=True)
        server.close()

    run(main())


def test_sockets_of_ones_own(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        made: list[Recorder] = []
        server = await loop.create_unix_server(keeping(made), sock=listener)
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=client)
        assert client.gettimeout() == 0
        transport.write(b"x")
        await until(lambda: made and made[0].data == b"x")
        transport.close()
        await protocol.ended()
        assert client.fileno() == -1
        server.close()
        await made[0].ended()
        await server.wait_closed()

    run(main())


def test_both_ends_of_a_socketpair(run: Run) -> None:
    """create_connection takes Unix sockets too; what one end writes the other reads."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert transport.get_extra_info("peername") == ""
        big = bytes(range(256)) * 8192
        with Peer(theirs) as peer:
            transport.write(big)
            transport.write_eof()
            assert await peer.read() == big
            sending = asyncio.ensure_future(peer.send_all(big))
            assert await protocol.got(len(big)) == big
            await sending
        assert await protocol.ended() is None

    run(main())


def test_errors_of_connecting(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            with pytest.raises(ConnectionRefusedError):
                await loop.create_unix_connection(Recorder, path)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, abstract_name())
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            await loop.create_unix_connection(Recorder, "x" * 200)

    run(main())


def test_errors_of_serving(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_server(Recorder, path + "/no/such/folder")
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            await loop.create_unix_server(Recorder, "x" * 200)
        name = abstract_name()
        server = await loop.create_unix_server(Recorder, name)
        with pytest.raises(OSError) as info:
            await loop.create_unix_server(Recorder, name)
        assert info.value.errno == errno.EADDRINUSE
        server.close()

    run(main())


def test_contradictory_arguments(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connect, serve = loop.create_unix_connection, loop.create_unix_server
        both = "path and sock can not be specified at the same time"
        tcp = socket.socket()
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        unix = socket.socket(socket.AF_UNIX)
        wrong = "A UNIX Domain Stream Socket was expected, got {!r}"
        cases: list[tuple[Any, type, str, tuple[Any, ...], dict[str, Any]]] = [
            (connect, ValueError, "no path and sock were specified", (), {}),
            (connect, ValueError, both, (path,), {"sock": unix}),
            (connect, ValueError, wrong.format(tcp), (), {"sock": tcp}),
            (connect, ValueError, wrong.format(datagram), (), {"sock": datagram}),
            (
                connect,
                ValueError,
                "server_hostname is only meaningful with ssl",
                (path,),
                {"server_hostname": "a"},
            ),
            (serve, ValueError, "path was not specified, and no sock specified", (), {}),
            (serve, ValueError, both, (path,), {"sock": unix}),
            (serve, ValueError, wrong.format(tcp), (), {"sock": tcp}),
            (serve, ValueError, wrong.format(datagram), (), {"sock": datagram}),
            (
                serve,
                TypeError,
                "ssl argument must be an SSLContext or None",
                (path,),
                {"ssl": True},
            ),
        ]
        with tcp, datagram, unix:
            for function, error, text, args, keywords in cases:
                with pytest.raises(error) as info:
                    await function(Recorder, *args, **keywords)
                assert str(info.value) == text
        assert not os.path.exists(path)

    run(main())


def test_start_serving_false(run: Run, path: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Recorder] = []
        server = await loop.create_unix_server(keeping(made), path, start_serving=False, backlog=3)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)
        await server.start_serving()
        await exchange(server, made, path)
        server.close()
        await server.wait_closed()

    run(main())


def test_a_peer_that_closes_with_data_unread(run: Run) -> None:
    """On Unix sockets that is a reset."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        _, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        protocol.transport.write(b"never read")
        theirs.close()
        assert type(await protocol.ended()) is ConnectionResetError

    run(main())
