"""What one turn sends, the next one receives, though other work is ready: as in asyncio.

asyncio asks the kernel in every turn; mioloop does so while there is work only if it may have been
told something new. Code that talks to itself through sockets (tests of network libraries above all)
counts on `await asyncio.sleep(0)` to let the other end see what was sent.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import Recorder

Run = Callable[..., Any]

# asyncio needs as many: one to see that there is input, one to run the callback, one to come back.
TURNS = 3


async def turns_until(condition: Callable[[], object]) -> int:
    """How many turns it takes, in a loop that never idles."""
    for turn in range(200):
        if condition():
            return turn
        await asyncio.sleep(0)
    raise AssertionError("waited in vain")


async def two_ends() -> tuple[Any, Recorder, Any, Recorder]:
    """Two transports that are connected with each other."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    first, first_protocol = await loop.create_connection(Recorder, sock=here)
    second, second_protocol = await loop.create_connection(Recorder, sock=there)
    await asyncio.sleep(0.001)
    return first, first_protocol, second, second_protocol


async def close_all(*transports: Any) -> None:
    for transport in transports:
        transport.close()
    await asyncio.sleep(0.001)


def test_data_of_a_stream(run: Run) -> None:
    async def main() -> None:
        first, mine, second, theirs = await two_ends()
        for _ in range(3):
            first.write(b"ping")
            assert await turns_until(lambda: theirs.data == b"ping") <= TURNS
            second.write(b"pong")
            second.write(b"pong")
            assert await turns_until(lambda: mine.data == b"pongpong") <= TURNS
            mine.data.clear()
            theirs.data.clear()
        await close_all(first, second)

    run(main())


@pytest.mark.parametrize("how", ["write_eof", "close", "abort"])
def test_the_end_of_a_stream(run: Run, how: str) -> None:
    async def main() -> None:
        first, _, second, theirs = await two_ends()
        getattr(first, how)()
        assert await turns_until(lambda: "eof" in theirs.calls) <= TURNS + 2
        await close_all(first, second)

    run(main())


def test_datagrams(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        got: list[bytes] = []

        class Keeper(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                got.append(data)

        second, _ = await loop.create_datagram_endpoint(Keeper, local_addr=("127.0.0.1", 0))
        address = second.get_extra_info("sockname")
        first, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=address
        )
        await asyncio.sleep(0.001)
        first.sendto(b"ping")
        assert await turns_until(lambda: got == [b"ping"]) <= TURNS
        await close_all(first, second)

    run(main())


def test_pipes(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        reading, theirs = await loop.connect_read_pipe(Recorder, os.fdopen(read, "rb", 0))
        writing, _ = await loop.connect_write_pipe(Recorder, os.fdopen(write, "wb", 0))
        await asyncio.sleep(0.001)
        writing.write(b"ping")
        assert await turns_until(lambda: theirs.data == b"ping") <= TURNS
        writing.close()
        assert await turns_until(lambda: "eof" in theirs.calls) <= TURNS + 2
        await close_all(reading)

    run(main())


def test_sock_sendall(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here:
            here.setblocking(False)
            transport, theirs = await loop.create_connection(Recorder, sock=there)
            await asyncio.sleep(0.001)
            await loop.sock_sendall(here, b"ping")
            assert await turns_until(lambda: theirs.data == b"ping") <= TURNS
            await close_all(transport)

    run(main())


def test_a_new_reader_and_a_new_writer(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there:
            there.send(b"ping")
            called: list[str] = []
            loop.add_reader(here, called.append, "read")
            assert await turns_until(lambda: called) <= TURNS
            loop.remove_reader(here)
            called.clear()
            loop.add_writer(here, called.append, "write")
            assert await turns_until(lambda: called) <= TURNS
            loop.remove_writer(here)

    run(main())
