"""Writes of a crowd in one system call: MIOLOOP_IO_URING=1.

What a connection does is asyncio's either way, so these run on asyncio, on mioloop, and on mioloop
with a ring. How many sends went through the ring is what the kernel says of it in /proc. Skipped
where the kernel, or a container's filter, refuses io_uring.
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import factory_of, finish
from network_peer import Peer, Recorder, tcp_pair, until
from ring_probe import KINDS, needs_ring, requests, rings

Run = Callable[..., Any]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MIOLOOP_IO_URING", "1" if request.param == "ring" else "0")
    return str(request.param)


@pytest.fixture
def run(kind: str) -> Iterator[Run]:
    """Runs a coroutine on a loop of the kind, whose rings are its own and go with it."""
    before = rings()
    loop = factory_of("asyncio" if kind == "asyncio" else "mioloop")()

    def run_and_finish(main: Any) -> Any:
        try:
            result = loop.run_until_complete(main)
            assert len(rings() - before) == (kind == "ring")
            return result
        finally:
            finish(loop)

    yield run_and_finish
    assert rings() == before


class Crowd:
    """Connections whose writes wait in the same turn."""

    def __init__(self) -> None:
        self.transports: list[Any] = []
        self.protocols: list[Recorder] = []
        self.peers: list[Peer] = []

    async def join(self, count: int, pair: Callable[[], Any] = tcp_pair) -> "Crowd":
        for _ in range(count):
            ours, theirs = pair()
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, sock=ours
            )
            self.transports.append(transport)
            self.protocols.append(protocol)
            self.peers.append(Peer(theirs))
        return self

    def write(self, *pieces: bytes) -> None:
        """In the next turn each connection writes the pieces."""
        for transport in self.transports:
            asyncio.get_running_loop().call_soon(write_all, transport, pieces)

    async def read(self, data: bytes) -> None:
        """This is what each of the peers gets next."""
        for peer in self.peers:
            assert await peer.read(len(data)) == data

    async def leave(self) -> None:
        for transport in self.transports:
            transport.close()
        for peer, protocol in zip(self.peers, self.protocols, strict=True):
            peer.close()
            await protocol.ended()


def run_on_mioloop(main: Any) -> None:
    loop = factory_of("mioloop")()
    try:
        loop.run_until_complete(main)
    finally:
        finish(loop)


def write_all(transport: Any, pieces: tuple[bytes, ...]) -> None:
    for piece in pieces:
        transport.write(piece)


def small_pair() -> tuple[socket.socket, socket.socket]:
    """What holds only some kilobytes."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return ours, theirs


# What goes by the ring


@pytest.mark.parametrize("value", [None, "", "0", "yes"])
def test_nobody_gets_a_ring_who_has_not_asked_for_one(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIOLOOP_IO_URING", raising=False)
    if value is not None:
        monkeypatch.setenv("MIOLOOP_IO_URING", value)

    async def main() -> None:
        crowd = await Crowd().join(10)
        crowd.write(b"x")
        await crowd.read(b"x")
        assert rings() == before
        await crowd.leave()

    before = rings()
    run_on_mioloop(main())


@needs_ring
def test_a_crowd_writes_by_the_ring_and_two_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        crowd = await Crowd().join(2)
        crowd.write(b"two")
        await crowd.read(b"two")
        assert rings() == before
        await crowd.join(8)
        crowd.write(b"ten")
        await crowd.read(b"ten")
        (ring,) = rings() - before
        assert requests(ring) == 10
        crowd.write(b"several ", b"pieces")
        await crowd.read(b"several pieces")
        assert requests(ring) == 20
        # More than one call takes.
        crowd.write(*[b"x"] * 65)
        await crowd.read(b"x" * 65)
        assert requests(ring) == 20
        await crowd.leave()

    monkeypatch.setenv("MIOLOOP_IO_URING", "1")
    before = rings()
    run_on_mioloop(main())
    assert rings() == before


def test_more_than_one_call_takes(run: Run) -> None:
    """One callback writes for all, while others wait."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        crowd = await Crowd().join(150)
        for number in range(3):
            data = b"%d" % number * 100

            def write(data: bytes = data) -> None:
                for transport in crowd.transports:
                    transport.write(data)

            loop.call_soon(write)
            loop.call_soon(int)
            loop.call_soon(int)
            await crowd.read(data)
        await crowd.leave()

    run(main())


# What a connection does is the same


def test_bytes_arrive_once_and_in_order(run: Run) -> None:
    async def main() -> None:
        chance = random.Random(5)
        crowd = await Crowd().join(12, small_pair)
        written = [bytearray() for _ in crowd.transports]
        reading = [asyncio.ensure_future(peer.read()) for peer in crowd.peers]

        def write(index: int) -> None:
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                piece = chance.randbytes(chance.choice((1, 100, 1000, 5000, 30000)))
                piece = chance.choice((bytes, bytearray))(piece)
                written[index] += piece
                crowd.transports[index].write(piece)
                if chance.random() < 0.1:
                    crowd.transports[index].get_write_buffer_size()

        for _ in range(100):
            for index in chance.sample(range(12), chance.randrange(2, 12)):
                asyncio.get_running_loop().call_soon(write, index)
            await asyncio.sleep(0)
        for transport in crowd.transports:
            transport.close()
        assert await asyncio.gather(*reading) == written
        await crowd.leave()

    run(main())


def test_what_the_kernel_takes_in_part_or_not_at_all(run: Run) -> None:
    async def main() -> None:
        crowd = await Crowd().join(6, small_pair)
        full = crowd.transports[3].get_extra_info("socket").dup()
        filled = 0
        with full, contextlib.suppress(BlockingIOError):
            while True:
                filled += full.send(b"f")
        data = random.Random(6).randbytes(60_000)
        crowd.write(data)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sizes = [transport.get_write_buffer_size() for transport in crowd.transports]
        assert sizes[3] == len(data)
        assert all(0 < size < len(data) for size in sizes[:3] + sizes[4:]), sizes
        for number, peer in enumerate(crowd.peers):
            assert await peer.read(filled * (number == 3)) == b"f" * filled * (number == 3)
            assert await peer.read(len(data)) == data
        await crowd.leave()

    run(main())


def test_a_peer_that_has_gone_is_an_error_of_its_connection_alone(run: Run) -> None:
    """And the first error, not the one that a second send would have."""

    async def main() -> None:
        crowd = await Crowd().join(6)
        for index in (0, 3, 5):
            crowd.transports[index].pause_reading()
            crowd.peers[index].reset()
        crowd.write(b"data")
        for index in (0, 3, 5):
            assert type(await crowd.protocols[index].ended()) is ConnectionResetError
        for index in (1, 2, 4):
            assert await crowd.peers[index].read(4) == b"data"
            assert not crowd.protocols[index].lost
        await crowd.leave()

    run(main())


def test_protocols_are_paused_and_resumed(run: Run) -> None:
    async def main() -> None:
        crowd = await Crowd().join(5, small_pair)
        for transport in crowd.transports:
            transport.set_write_buffer_limits(high=50_000, low=10)
        crowd.write(bytes(49_000))
        await until(lambda: all(t.get_write_buffer_size() for t in crowd.transports))
        crowd.write(bytes(49_000))
        await until(lambda: all(p.calls == ["made", "pause"] for p in crowd.protocols))
        await crowd.read(bytes(98_000))
        await until(lambda: all(p.calls == ["made", "pause", "resume"] for p in crowd.protocols))
        await crowd.leave()

    run(main())


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_the_end_comes_behind_the_data(run: Run, end: str) -> None:
    async def main() -> None:
        crowd = await Crowd().join(6)
        crowd.write(b"last")
        for transport in crowd.transports[::2]:
            asyncio.get_running_loop().call_soon(getattr(transport, end))
        for index, peer in enumerate(crowd.peers):
            assert await peer.read(4) == b"last"
            if index % 2 == 0:
                assert await peer.read() == b""
        await crowd.leave()

    run(main())


def test_an_empty_waiter_hears_of_it(run: Run) -> None:
    """sendfile() waits for what was written before it."""

    async def main() -> None:
        crowd = await Crowd().join(5, small_pair)
        crowd.write(bytes(40_000))
        await until(lambda: all(t.get_write_buffer_size() for t in crowd.transports))
        waiters = [transport._make_empty_waiter() for transport in crowd.transports]
        await crowd.read(bytes(40_000))
        await asyncio.gather(*waiters)
        for transport in crowd.transports:
            transport._reset_empty_waiter()
        await crowd.leave()

    run(main())


class Meddler(logging.Handler):
    """Called in the middle of a crowd's writes: debug mode logs an error of a send."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self.meddle = meddle
        self.called = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "Fatal write error" in record.getMessage():
            self.called += 1
            self.meddle()


@pytest.mark.parametrize("kind", ["mioloop", pytest.param("ring", marks=needs_ring)], indirect=True)
def test_others_are_written_to_and_closed_in_between(run: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        crowd = await Crowd().join(9)
        writes, closes, aborts, asks, ends, fails, closes_failing = crowd.transports[1:8]
        for index in (0, 6, 7):
            crowd.transports[index].pause_reading()
            crowd.peers[index].reset()

        def meddle() -> None:
            if meddler.called == 1:
                writes.write(b"+")
                closes.close()
                aborts.abort()
                assert asks.get_write_buffer_size() == 0
                ends.write(b"+")
                ends.write_eof()
                fails.write(b"+")
                closes_failing.close()

        meddler = Meddler(meddle)
        logger = logging.getLogger("asyncio")
        level = logger.level
        logger.addHandler(meddler)
        logger.setLevel(logging.DEBUG)
        try:
            crowd.write(b"data")
            await crowd.protocols[0].ended()
        finally:
            logger.removeHandler(meddler)
            logger.setLevel(level)
        assert meddler.called >= 2  # 3 where a handler hears of what it causes itself
        assert await crowd.peers[1].read(5) == b"data+"
        assert await crowd.peers[2].read() == b"data"
        assert await crowd.peers[3].read() in (b"", b"data")
        assert await crowd.peers[4].read(4) == b"data"
        assert await crowd.peers[5].read() == b"data+"
        assert await crowd.peers[8].read(4) == b"data"
        errors = [type(await crowd.protocols[index].ended()) for index in (0, 6, 7)]
        assert errors == [ConnectionResetError] * 3
        assert await crowd.protocols[3].ended() is None
        await crowd.leave()

    run(main())


@pytest.mark.parametrize("kind", ["mioloop", pytest.param("ring", marks=needs_ring)], indirect=True)
def test_a_descriptor_that_was_closed_behind_our_back(run: Run) -> None:
    """It fails alone: what stands behind it goes all the same."""

    async def main() -> None:
        crowd = await Crowd().join(6)
        descriptor = crowd.transports[1].get_extra_info("socket").fileno()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: None)
        crowd.write(b"data")
        loop.call_soon(os.close, descriptor)
        error = await crowd.protocols[1].ended()
        assert isinstance(error, OSError)
        for index in (0, 2, 3, 4, 5):
            assert await crowd.peers[index].read(4) == b"data"
        await crowd.leave()

    run(main())
