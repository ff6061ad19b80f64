"""sock_* coroutines that are cancelled, and sockets that they refuse.

Run on asyncio and on mioloop alike. Cancelled while they wait they leave nothing behind: no
registration, no lost data, and a socket that works on.
"""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import BIG, DATAGRAMS, Peer, a_while, cancelled, until, waiting

Run = Callable[..., Any]
Pair = tuple[socket.socket, socket.socket]


def fill(sock: socket.socket) -> int:
    """Sends until the buffer is full; how much."""
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(1 << 16))
    except BlockingIOError:
        return sent


# Cancelling


def test_cancelled_receivers_lose_nothing(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        for receive in (
            lambda: loop.sock_recv(ours, 100),
            lambda: loop.sock_recv_into(ours, bytearray(100)),
        ):
            await cancelled(await waiting(receive()))
            assert loop.remove_reader(ours) is False
            # Cancelled in the turn in which data comes, before the loop has seen it.
            task = await waiting(receive())
            theirs.send(b"kept")
            await cancelled(task)
            await a_while(0.002)
            assert await loop.sock_recv(ours, 100) == b"kept"

    run(main())


@pytest.mark.parametrize("name", ["_CTask", "_PyTask"])
def test_tasks_of_other_kinds_that_are_cancelled(run: Run, pair: Pair, name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        kind = getattr(asyncio.tasks, name)
        loop.set_task_factory(lambda loop, coro, **more: kind(coro, loop=loop, **more))
        ours, theirs = pair
        await cancelled(await waiting(loop.sock_recv(ours, 10)))
        assert loop.remove_reader(ours) is False
        task = await waiting(loop.sock_recv(ours, 10))
        assert type(task) is kind
        theirs.send(b"kept")
        assert await task == b"kept"
        fill(ours)
        await cancelled(await waiting(loop.sock_sendall(ours, b"x")))
        assert loop.remove_writer(ours) is False

    run(main())


@DATAGRAMS
def test_cancelled_receivers_lose_no_datagram(run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = datagrams
        for receive in (
            lambda: loop.sock_recvfrom(ours, 100),
            lambda: loop.sock_recvfrom_into(ours, bytearray(100)),
        ):
            task = await waiting(receive())
            theirs.sendto(b"kept", ours.getsockname())
            await cancelled(task)
            assert await loop.sock_recvfrom(ours, 100) == (b"kept", theirs.getsockname())

    run(main())


def test_a_cancelled_accept_loses_no_connection(
    run: Run, nonblocking_listener: socket.socket
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await cancelled(await waiting(loop.sock_accept(nonblocking_listener)))
        assert loop.remove_reader(nonblocking_listener) is False
        with socket.create_connection(nonblocking_listener.getsockname()) as client:
            accepted, name = await loop.sock_accept(nonblocking_listener)
            accepted.close()
            assert name == client.getsockname()

    run(main())


def test_a_cancelled_sender_can_be_followed_by_another(run: Run, pair: Pair) -> None:
    """What was sent before is a beginning of the data; no byte comes afterwards."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        await cancelled(await waiting(loop.sock_sendall(ours, BIG)))
        assert loop.remove_writer(ours) is False
        ours.shutdown(socket.SHUT_WR)
        data = await Peer(theirs).read()
        assert 0 < len(data) < len(BIG) and BIG.startswith(data)

    run(main())


def test_a_socket_with_the_same_number(run: Run) -> None:
    """Closed after a cancel, its number goes to another socket, which works like new."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        numbers = set()
        for round_ in range(6):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                numbers.add(ours.fileno())
                if round_ % 2:
                    fill(ours)
                    await cancelled(await waiting(loop.sock_sendall(ours, b"x")))
                task = await waiting(loop.sock_recv(ours, 100))
                theirs.send(b"%d" % round_)
                assert await task == b"%d" % round_
                await cancelled(await waiting(loop.sock_recv(ours, 100)))
        assert len(numbers) == 1

    run(main())


def test_waits_without_a_timeout_of_its_own(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(pair[0], 10), 0.01)
        pair[1].send(b"x")
        assert await loop.sock_recv(pair[0], 10) == b"x"

    run(main())


# What is refused


def calls_of(loop: asyncio.AbstractEventLoop, sock: Any) -> list[Callable[[], Any]]:
    calls: list[Callable[[], Any]] = [
        lambda: loop.sock_recv(sock, 10),
        lambda: loop.sock_recv_into(sock, bytearray(10)),
        lambda: loop.sock_sendall(sock, b"x"),
        lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
        lambda: loop.sock_accept(sock),
    ]
    if sys.version_info >= (3, 11):
        calls += [
            lambda: loop.sock_recvfrom(sock, 10),
            lambda: loop.sock_recvfrom_into(sock, bytearray(10)),
            lambda: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
        ]
    return calls


def test_blocking_sockets_in_debug_mode(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as blocking, socket.socket() as timed:
            timed.settimeout(5)
            for sock in (blocking, timed):
                for call in calls_of(asyncio.get_running_loop(), sock):
                    with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                        await call()

    run(main(), debug=True)


@DATAGRAMS
def test_a_socket_that_is_made_blocking_while_it_waits(run: Run, datagrams: Pair) -> None:
    """Debug mode looks at it once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = datagrams
        for receive in (
            lambda: loop.sock_recv(ours, 10),
            lambda: loop.sock_recv_into(ours, bytearray(10)),
            lambda: loop.sock_recvfrom(ours, 10),
            lambda: loop.sock_recvfrom_into(ours, bytearray(10)),
        ):
            ours.setblocking(False)
            task = await waiting(receive())
            ours.setblocking(True)
            theirs.sendto(b"x", ours.getsockname())
            received = await task
            assert received in (b"x", 1, (b"x", theirs.getsockname()), (1, theirs.getsockname()))

    run(main(), debug=True)


def test_ssl_sockets(run: Run) -> None:
    async def main() -> None:
        context = ssl.create_default_context()
        with context.wrap_socket(socket.socket(), server_hostname="test") as sock:
            for call in calls_of(asyncio.get_running_loop(), sock):
                with pytest.raises(TypeError, match="^Socket cannot be of type SSLSocket$"):
                    await call()

    run(main())


def test_closed_sockets(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.close()
        for call in calls_of(asyncio.get_running_loop(), sock):
            with pytest.raises(OSError):
                await call()

    run(main())


def test_a_blocking_socket_with_data_works(run: Run, pair: Pair) -> None:
    """Outside debug mode nobody looks at the flag, and nobody changes it."""

    async def main() -> None:
        ours, theirs = pair
        ours.setblocking(True)
        theirs.send(b"x")
        assert await asyncio.get_running_loop().sock_recv(ours, 10) == b"x"
        assert ours.gettimeout() is None and os.get_blocking(ours.fileno())
        await until(lambda: True)

    run(main())


def test_a_blocking_socket_does_not_stop_the_loop(run: Run, loop_kind: str, pair: Pair) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio waits in the system call")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        ours.setblocking(True)
        task = await waiting(loop.sock_recv(ours, 10))
        theirs.send(b"data")
        assert await task == b"data"
        task = await waiting(loop.sock_recv_into(ours, bytearray(10)))
        theirs.send(b"more!")
        assert await task == 5
        task = await waiting(loop.sock_sendall(ours, BIG))
        assert await Peer(theirs).read(len(BIG)) == BIG
        await task
        assert ours.gettimeout() is None and os.get_blocking(ours.fileno())

    run(main())
