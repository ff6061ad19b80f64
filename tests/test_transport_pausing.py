"""pause_reading and resume_reading of a stream transport, from anywhere and in any order.

Run on asyncio and on mioloop alike. A paused transport tells its protocol nothing and costs the
loop nothing, whatever its peer does.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import (
    KINDS,
    Peer,
    Recorder,
    a_while,
    connect,
    tcp_pair,
    until,
)

Run = Callable[..., Any]


# Pausing


@KINDS
def test_pause_and_resume(run: Run, kind: type[Recorder]) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect(kind)
        with peer:
            transport.pause_reading()
            assert not transport.is_reading()
            peer.send(b"data")
            peer.shutdown()
            await a_while()
            assert protocol.calls == ["made"]
            transport.resume_reading()
            assert transport.is_reading()
            assert protocol.calls == ["made"]  # never from within resume_reading
            await protocol.ended()
        assert protocol.calls == ["made", "data", "eof", "lost"]
        assert protocol.data == b"data"

    run(main())


def test_pausing_twice_is_harmless(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.resume_reading()
            transport.pause_reading()
            transport.pause_reading()
            transport.resume_reading()
            peer.send(b"x")
            await protocol.got(1)
            transport.resume_reading()
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()
        await protocol.ended()
        transport.pause_reading()
        transport.resume_reading()
        assert protocol.calls == ["made", "data", "lost"]

    run(main())


@KINDS
def test_pause_within_a_callback(run: Run, kind: type[Recorder]) -> None:
    """After pause_reading() in a callback there is no other, however much has arrived."""
    chunks: list[int] = []

    class Pausing(kind):  # type: ignore[misc,valid-type]
        def note(self, name: str) -> None:
            super().note(name)
            if name == "data":
                chunks.append(len(self.data))
                self.transport.pause_reading()

    async def main() -> None:
        transport, protocol, peer = await connect(Pausing)
        transport.max_size = 1000  # how much asyncio reads at once; for others just an attribute
        with peer:
            for number in range(1, 11):
                peer.send(bytes(1000))
                await until(lambda: len(chunks) == number)  # noqa: B023
                peer.send(bytes(1000))
                await a_while(0.002)
                assert len(chunks) == number
                transport.resume_reading()
                await protocol.got(2000 * number)
                assert not transport.is_reading()
                chunks[number:] = []
                transport.resume_reading()
            assert len(protocol.data) == 20_000
            transport.close()
            await protocol.ended()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 forgets the pause (gh-103607)")
@KINDS
def test_pause_in_connection_made(run: Run, kind: type[Recorder]) -> None:
    class Pausing(kind):  # type: ignore[misc,valid-type]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        ours, theirs = tcp_pair()
        with Peer(theirs) as peer:
            peer.send(b"early")
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Pausing, sock=ours
            )
            await a_while()
            assert protocol.calls == ["made"] and not transport.is_reading()
            transport.resume_reading()
            assert await protocol.got(5) == b"early"
        await protocol.ended()

    run(main())


def test_close_in_connection_made(run: Run) -> None:
    """The peer's data is never looked at; connection_lost comes later, by the loop."""

    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"no thanks")
            transport.close()
            self.note("closed")

    async def main() -> None:
        ours, theirs = tcp_pair()
        with Peer(theirs) as peer:
            peer.send(b"early")
            _, protocol = await asyncio.get_running_loop().create_connection(Closing, sock=ours)
            await protocol.ended()
            assert protocol.calls == ["made", "closed", "lost"]
            assert await peer.read(9) == b"no thanks"

    run(main())


def test_a_reset_while_paused_waits_and_costs_nothing(run: Run) -> None:
    """A paused transport does not look at its socket, nor does the loop spin for it."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        transport.pause_reading()
        peer.send(b"lost")
        peer.reset()
        before = time.process_time()
        await asyncio.sleep(0.1)
        assert time.process_time() - before < 0.05
        assert protocol.calls == ["made"]
        transport.resume_reading()
        assert isinstance(await protocol.ended(), ConnectionResetError)

    run(main())


def test_close_and_abort_while_paused(run: Run) -> None:
    async def main() -> None:
        for method in ("close", "abort"):
            transport, protocol, peer = await connect()
            with peer:
                transport.pause_reading()
                peer.send(b"x")
                getattr(transport, method)()
                assert await protocol.ended() is None
                assert protocol.calls == ["made", "lost"]

    run(main())
