"""Datagrams that wait: Unix sockets with full queues, flow control, and closing with a queue.

Run on asyncio and on mioloop alike. On the loopback UDP never waits, Unix datagrams do. Sending
and receiving are in test_udp.py.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datagram_peer import Datagrams, close, endpoint, name
from network_peer import a_while, until

Run = Callable[..., Any]
V4 = ("127.0.0.1", 0)


# Unix datagrams


def test_unix_paths(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        here, there = str(tmp_path / "here"), str(tmp_path / "there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
            stale.bind(here)
        family = socket.AF_UNIX
        server, serving = await endpoint(local_addr=here, family=family)
        client, protocol = await endpoint(local_addr=there, remote_addr=here, family=family)
        assert (name(server), client.get_extra_info("peername")) == (here, here)
        client.sendto(b"ping")
        await until(lambda: serving.got)
        assert serving.got == [(b"ping", there)]
        server.sendto(b"pong", there)
        await until(lambda: protocol.got)
        assert protocol.got == [(b"pong", here)]
        nameless, _ = await endpoint(family=family)
        nameless.sendto(b"who", here)
        await until(lambda: len(serving.got) == 2)
        assert serving.got[1] == (b"who", None)
        await close(server, client, nameless)
        assert os.path.exists(here)

    run(main())


async def stuffed() -> tuple[Any, Datagrams, socket.socket, int]:
    """An endpoint with datagrams in its own queue: (transport, protocol, peer, how many sent)."""
    theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    theirs.bind("")  # the kernel picks an abstract address
    transport, protocol = await endpoint(
        remote_addr=theirs.getsockname().decode(), family=socket.AF_UNIX
    )
    count = 0
    while transport.get_write_buffer_size() < 4096:
        assert not transport.is_closing()
        transport.sendto(b"%05d" % count + bytes(1000))
        count += 1
    return transport, protocol, theirs, count


async def drain(sock: socket.socket, done: Callable[[], object]) -> list[int]:
    got = []

    def take() -> object:
        try:
            while True:
                got.append(int(sock.recv(2000)[:5]))
        except BlockingIOError:
            return done()

    await until(take)
    return got


def test_a_queue_is_sent_later_in_order(run: Run) -> None:
    async def main() -> None:
        transport, protocol, theirs, count = await stuffed()
        transport.set_write_buffer_limits(high=1000, low=100)
        assert protocol.calls == ["made", "pause"]
        got = await drain(theirs, lambda: transport.get_write_buffer_size() == 0)
        got += await drain(theirs, lambda: True)
        assert got == list(range(count))
        assert protocol.calls == ["made", "pause", "resume"]
        await close(transport)
        theirs.close()

    if (3, 13) <= sys.version_info < (3, 14):
        pytest.skip("3.13 counts 8 bytes of a header when it queues, not when it sends")
    run(main())


def test_close_sends_the_queue_and_abort_does_not(run: Run) -> None:
    async def main() -> None:
        for method in ("close", "abort"):
            transport, protocol, theirs, count = await stuffed()
            getattr(transport, method)()
            assert transport.is_closing() and not protocol.lost
            await a_while(0.002)
            assert len(protocol.lost) == (method == "abort")
            got = await drain(theirs, lambda: protocol.lost)  # noqa: B023
            assert protocol.lost == [None]
            got += await drain(theirs, lambda: True)
            assert got == list(range(count if method == "close" else len(got)))
            assert (len(got) == count) == (method == "close")
            theirs.close()

    run(main())


def test_limits_and_attributes(run: Run) -> None:
    async def main() -> None:
        transport, _ = await endpoint(local_addr=V4)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        assert transport.get_write_buffer_size() == 0
        number = transport.get_extra_info("socket").fileno()
        assert f"fd={number} read=polling write=<idle, bufsize=0>" in repr(transport)
        with pytest.raises(RuntimeError, match=f"^File descriptor {number} is used by transport"):
            asyncio.get_running_loop().add_reader(number, print)
        transport.close()
        transport.close()
        await close(transport)

    run(main())


def test_a_connected_endpoint_after_close(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """sendto is ignored; from the fifth time on it is logged."""

    async def main() -> None:
        transport, _ = await endpoint(remote_addr=("127.0.0.1", 9))
        await close(transport)
        for _ in range(6):
            transport.sendto(b"x")
        texts = [one.getMessage() for one in caplog.records]
        assert texts == ["socket.send() raised exception."] * 2

    run(main())
