"""sock_recv, sock_sendall, sock_accept and their kin: coroutines on sockets of one's own.

Run on asyncio and on mioloop alike. They try at once and wait only if they must; cancelled while
they wait they leave nothing behind, neither a registration nor lost data.
"""

import asyncio
import inspect
import socket
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import BIG, DATAGRAMS, Peer, cancelled, waiting

Run = Callable[..., Any]
Pair = tuple[socket.socket, socket.socket]


def test_they_are_coroutines(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        coroutine = loop.sock_recv(ours, 10)
        assert inspect.iscoroutine(coroutine)
        theirs.send(b"x")
        assert await coroutine == b"x"
        tasks = [
            loop.create_task(loop.sock_recv(ours, 10)),
            asyncio.ensure_future(loop.sock_sendall(theirs, b"y")),
        ]
        assert await asyncio.gather(*tasks) == [b"y", None]
        assert await asyncio.wait_for(loop.sock_sendall(theirs, b"z"), 10) is None
        assert await asyncio.wait_for(loop.sock_recv(ours, 1), 10) == b"z"

    run(main())


# Receiving


def test_recv(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        theirs.send(b"there already")
        assert await loop.sock_recv(ours, 5) == b"there"
        assert await loop.sock_recv(ours, 100) == b" already"
        task = await waiting(loop.sock_recv(ours, 100))
        theirs.send(b"later")
        assert await task == b"later"
        task = await waiting(loop.sock_recv(ours, 100))
        theirs.shutdown(socket.SHUT_WR)
        assert await task == b""
        assert await loop.sock_recv(ours, 100) == b""

    run(main())


def test_received_bytes_that_are_kept_stay_what_they_are(run: Run, pair: Pair) -> None:
    """Those that nobody keeps may be used again for the next message of the size."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        kept: list[Any] = []
        for number in range(30):
            message = bytes([number]) * 1024
            theirs.send(message)
            received = await loop.sock_recv(ours, 4096)
            assert (received, hash(received)) == (message, hash(message))
            kept.append([received, memoryview(received), None][number % 3])
        for number, it in enumerate(kept):
            assert it is None or bytes(it) == bytes([number]) * 1024

    run(main())


def test_recv_into(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        buffer = bytearray(b"..........")
        theirs.send(b"now")
        assert await loop.sock_recv_into(ours, buffer) == 3
        assert buffer == b"now......."
        task = await waiting(loop.sock_recv_into(ours, memoryview(buffer)[3:5]))
        theirs.send(b"later")
        assert await task == 2
        assert buffer == b"nowla....."
        with pytest.raises(TypeError):
            await loop.sock_recv_into(ours, b"read-only")
        assert await loop.sock_recv(ours, 10) == b"ter"

    run(main())


@DATAGRAMS
def test_recvfrom_and_sendto(run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = datagrams
        address = theirs.getsockname()
        for data in (b"one", b"", bytearray(b"three")):
            assert await loop.sock_sendto(theirs, data, ours.getsockname()) == len(data)
            assert await loop.sock_recvfrom(ours, 100) == (data, address)
        task = await waiting(loop.sock_recvfrom(ours, 2))
        theirs.sendto(b"later", ours.getsockname())
        assert await task == (b"la", address)
        with pytest.raises(TypeError):
            await loop.sock_sendto(theirs, b"x", "nonsense")

    run(main())


@DATAGRAMS
def test_recvfrom_into(run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = datagrams
        buffer = bytearray(10)
        theirs.sendto(b"now", ours.getsockname())
        assert await loop.sock_recvfrom_into(ours, buffer) == (3, theirs.getsockname())
        task = await waiting(loop.sock_recvfrom_into(ours, buffer, 2))
        theirs.sendto(b"later", ours.getsockname())
        assert await task == (2, theirs.getsockname())
        assert buffer[:3] == b"law"

    run(main())


# Sending


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendall_of_more_than_fits(run: Run, pair: Pair, kind: Callable[[bytes], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        assert await loop.sock_sendall(ours, kind(b"small")) is None
        assert await loop.sock_sendall(ours, b"") is None
        task = await waiting(loop.sock_sendall(ours, kind(BIG)))
        peer = Peer(theirs)
        assert await peer.read(5 + len(BIG)) == b"small" + BIG
        assert await task is None
        with pytest.raises(TypeError):
            await loop.sock_sendall(ours, "text")

    run(main())


def test_a_peer_that_goes_away(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        task = await waiting(loop.sock_sendall(ours, BIG))
        theirs.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(ours, b"x")

    run(main())


def test_a_reader_and_a_writer_on_one_socket(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        reader = await waiting(loop.sock_recv(ours, 100))
        writer = await waiting(loop.sock_sendall(ours, BIG))
        theirs.send(b"meanwhile")
        assert await reader == b"meanwhile"
        assert not writer.done()
        reader = await waiting(loop.sock_recv(ours, 100))
        assert await Peer(theirs).read(len(BIG)) == BIG
        await writer
        assert not reader.done()
        theirs.send(b"afterwards")
        assert await reader == b"afterwards"

    run(main())


@pytest.mark.slow
def test_ping_pong(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def player(sock: socket.socket) -> None:
            for _ in range(1000):
                await loop.sock_sendall(sock, await loop.sock_recv(sock, 100))

        pair[0].send(b"ball")
        await asyncio.gather(*map(player, pair))
        assert await loop.sock_recv(pair[1], 100) == b"ball"

    run(main())


# Connecting


def test_connect_and_accept(run: Run, nonblocking_listener: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = await waiting(loop.sock_accept(nonblocking_listener))
        for address in (
            nonblocking_listener.getsockname(),
            ("localhost", nonblocking_listener.getsockname()[1]),
        ):
            with socket.socket() as client:
                client.setblocking(False)
                assert await loop.sock_connect(client, address) is None
                accepted, name = await task
                with accepted:
                    assert name == client.getsockname()
                    assert accepted.gettimeout() == 0
                    assert not accepted.get_inheritable()
                    await loop.sock_sendall(client, b"hello")
                    assert await loop.sock_recv(accepted, 10) == b"hello"
                # The next is there already when it is asked for.
                task = loop.create_task(loop.sock_accept(nonblocking_listener))
        await cancelled(task)

    run(main())


def test_connecting_to_unix_sockets(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, path)
            server.bind(path)
            server.listen()
            server.setblocking(False)
            await loop.sock_connect(client, path)
            accepted, name = await loop.sock_accept(server)
            assert name == ""
            accepted.close()

    run(main())


def test_connection_refused(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as taken, socket.socket() as client:
            taken.bind(("127.0.0.1", 0))
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as info:
                await asyncio.get_running_loop().sock_connect(client, taken.getsockname())
            assert info.value.strerror == f"Connect call failed {taken.getsockname()}"

    run(main())


def test_a_connection_that_is_not_answered(run: Run, stalled: tuple[str, int]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            task = await waiting(loop.sock_connect(sock, stalled))
            await cancelled(task)
            assert loop.remove_writer(sock) is False

    run(main())
