"""Sockets that are closed while a sock_* coroutine waits, their numbers given to others.

What comes for a socket that is gone reaches nobody, and giving it up touches nobody else's
registration. asyncio's selector takes the new socket for the old one, or leaves the wait in place:
where it does, the test runs on mioloop alone.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import Recorder, a_while, cancelled, until, waiting

Run = Callable[..., Any]
Pair = tuple[socket.socket, socket.socket]


def with_the_number_of(sock: socket.socket) -> Pair:
    """Closes the socket; a new pair whose first end has its number."""
    number = sock.fileno()
    one, theirs = socket.socketpair()
    sock.close()
    ours = socket.socket(fileno=os.dup2(one.fileno(), number))
    one.close()
    ours.setblocking(False)
    theirs.setblocking(False)
    assert ours.fileno() == number
    return ours, theirs


@pytest.fixture
def ours_only(loop_kind: str) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio takes the new socket for the old one, or takes what nobody awaits")


@pytest.mark.usefixtures("ours_only")
def test_a_reader_of_the_new_socket_stays(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = await waiting(loop.sock_recv(pair[0], 10))
        ours, theirs = with_the_number_of(pair[0])
        with ours, theirs:
            seen: list[bytes] = []
            loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
            await cancelled(task)
            theirs.send(b"x")
            await until(lambda: seen == [b"x"])
            assert loop.remove_reader(ours) is True

    run(main())


@pytest.mark.usefixtures("ours_only")
@pytest.mark.parametrize("method", ["sock_recv", "sock_accept", "sock_sendall"])
def test_a_receiver_of_the_new_socket_stays(run: Run, pair: Pair, method: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock = pair[0]
        if method == "sock_accept":
            sock = socket.create_server(("127.0.0.1", 0))
            sock.setblocking(False)
            old = await waiting(loop.sock_accept(sock))
        elif method == "sock_recv":
            old = await waiting(loop.sock_recv(sock, 10))
        else:
            old = await waiting(loop.sock_sendall(sock, bytes(1 << 22)))
        ours, theirs = with_the_number_of(sock)
        with ours, theirs:
            new = await waiting(loop.sock_recv(ours, 10))
            await cancelled(old)
            await a_while(0.002)
            assert not new.done()
            theirs.send(b"x")
            assert await new == b"x"

    run(main())


@pytest.mark.usefixtures("ours_only")
def test_a_transport_of_the_new_socket_stays(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = await waiting(loop.sock_recv(pair[0], 10))
        ours, theirs = with_the_number_of(pair[0])
        with theirs:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            theirs.send(b"x")
            assert await protocol.got(1) == b"x"
            await cancelled(task)
            transport.close()
            await protocol.ended()

    run(main())


def test_data_for_a_copy_of_the_closed_socket(run: Run, pair: Pair) -> None:
    """The kernel goes on telling of the old connection, by the old number."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = await waiting(loop.sock_recv(pair[0], 10))
        with pair[0].dup() as copy:
            ours, theirs = with_the_number_of(pair[0])
            with ours, theirs:
                theirs.send(b"new")
                pair[1].send(b"old")
                with pytest.raises(OSError) as info:
                    await task
                assert info.value.errno == errno.EBADF
                assert ours.recv(10) == b"new"
                assert copy.recv(10) == b"old"
                loop.remove_reader(ours)

    run(main())


@pytest.mark.usefixtures("ours_only")
@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into", "sock_accept", "sock_sendall"])
def test_a_coroutine_that_is_closed_waits_no_more(
    run: Run, pair: Pair, nonblocking_listener: socket.socket, method: str
) -> None:
    """Nobody is there to take what comes, so it stays in the socket."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock = nonblocking_listener if method == "sock_accept" else pair[0]
        coroutine: Any = {
            "sock_recv": lambda: loop.sock_recv(sock, 10),
            "sock_recv_into": lambda: loop.sock_recv_into(sock, bytearray(10)),
            "sock_accept": lambda: loop.sock_accept(sock),
            "sock_sendall": lambda: loop.sock_sendall(sock, bytes(1 << 22)),
        }[method]()
        coroutine.send(None)
        coroutine.close()
        assert loop.remove_reader(sock) is False
        assert loop.remove_writer(sock) is False
        pair[1].send(b"kept")
        with socket.create_connection(nonblocking_listener.getsockname()) as client:
            await a_while(0.002)
            if method == "sock_accept":
                accepted, name = sock.accept()
                accepted.close()
                assert name == client.getsockname()
            else:
                assert sock.recv(10) == b"kept"

    run(main())


@pytest.mark.usefixtures("ours_only")
def test_cancelled_between_the_event_and_the_next_step(run: Run, pair: Pair) -> None:
    """The loop has seen the data, the coroutine has not gone on yet: the data stays."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        kept = 0
        for turns in range(6):
            task = await waiting(loop.sock_recv(ours, 10))
            theirs.send(b"kept")
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                assert task.result() == b"kept"
                continue
            await cancelled(task)
            assert ours.recv(10) == b"kept"
            kept += 1
        assert kept

    run(main())
