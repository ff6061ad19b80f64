"""Flow control of what a stream transport writes: sizes, limits, pause_writing, resume_writing.

Run on asyncio and on mioloop alike. Above the high mark the protocol is told to pause, at or
below the low mark to resume; the defaults are 64 KiB and a quarter of it.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import BIG, Recorder, a_while, connect, reports_of, until

Run = Callable[..., Any]


def test_limits(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        for keywords, limits in (
            ({"high": 100}, (25, 100)),
            ({"low": 10}, (10, 40)),
            ({"high": 30, "low": 20}, (20, 30)),
            ({"high": 5, "low": 5}, (5, 5)),
            ({"high": 0}, (0, 0)),
            ({"low": 0}, (0, 0)),
            ({"high": 3}, (0, 3)),
            ({}, (16384, 65536)),
            ({"high": None, "low": None}, (16384, 65536)),
        ):
            assert transport.set_write_buffer_limits(**keywords) is None
            assert transport.get_write_buffer_limits() == limits
        transport.set_write_buffer_limits(8, 4)
        for high, low in ((1, 2), (-1, None), (5, -1), (None, -4)):
            with pytest.raises(ValueError) as info:
                transport.set_write_buffer_limits(high=high, low=low)
            high = 4 * low if high is None else high
            low = high // 4 if low is None else low
            assert str(info.value) == f"high ({high!r}) must be >= low ({low!r}) must be >= 0"
            assert transport.get_write_buffer_limits() == (4, 8)
        peer.close()
        await protocol.ended()

    run(main())


def test_the_size_of_the_buffer(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            assert transport.get_write_buffer_size() == 0
            transport.write(b"x" * 100)
            assert transport.get_write_buffer_size() == 0  # it went to the kernel
            transport.write(BIG)
            size = transport.get_write_buffer_size()
            assert 0 < size < len(BIG)
            transport.write(bytes(1000))
            assert transport.get_write_buffer_size() == size + 1000
            transport.write(bytearray(500))
            transport.writelines([b"12", b"345"])
            assert transport.get_write_buffer_size() <= size + 1505
            await peer.read(100 + len(BIG) + 1505)
            await until(lambda: transport.get_write_buffer_size() == 0)
        await protocol.ended()

    run(main())


def test_pause_and_resume(run: Run) -> None:
    """Called once each time a mark is crossed: pause within write(), resume by the loop."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            for _ in range(3):
                protocol.calls.clear()
                transport.write(BIG)
                assert protocol.calls == ["pause"]
                transport.write(BIG)
                await a_while(0.002)
                assert protocol.calls == ["pause"]
                sizes: list[int] = []
                protocol.resume_writing = lambda: sizes.append(transport.get_write_buffer_size())  # noqa: B023
                assert await peer.read(2 * len(BIG)) == BIG + BIG
                await until(lambda: sizes)  # noqa: B023
                assert len(sizes) == 1 and sizes[0] <= 16384
                del protocol.resume_writing
            transport.close()
        await protocol.ended()

    run(main())


def test_the_marks_are_exact(run: Run) -> None:
    """More than the high mark pauses; as much as the high mark does not."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.set_write_buffer_limits(high=1 << 30)
            transport.write(BIG)
            size = transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=size)
            assert protocol.calls == ["made"]
            transport.write(b"x")
            assert protocol.calls == ["made", "pause"]
            transport.abort()
        await protocol.ended()

    run(main())


def test_lower_limits_pause_at_once(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.set_write_buffer_limits(high=1 << 30)
            transport.write(BIG)
            assert protocol.calls == ["made"]
            transport.set_write_buffer_limits(high=1000)
            assert protocol.calls == ["made", "pause"]
            # Higher ones do not resume: only a send does.
            transport.set_write_buffer_limits(high=1 << 30)
            assert protocol.calls == ["made", "pause"]
            await peer.read(len(BIG))
            await until(lambda: protocol.calls == ["made", "pause", "resume"])
        await protocol.ended()

    run(main())


def test_a_high_mark_of_zero(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.set_write_buffer_limits(high=0)
            transport.write(b"goes to the kernel")
            assert protocol.calls == ["made"]
            transport.write(BIG)
            assert protocol.calls == ["made", "pause"]
            await peer.read(18 + len(BIG))
            await until(lambda: protocol.calls == ["made", "pause", "resume"])
            assert transport.get_write_buffer_size() == 0
        await protocol.ended()

    run(main())


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 14), reason="writelines forgets to pause on 3.12 and 3.13"
)
def test_writelines_pauses(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.writelines([BIG, BIG])
            assert protocol.calls == ["made", "pause"]
            await peer.read(2 * len(BIG))
            await until(lambda: protocol.calls == ["made", "pause", "resume"])
        await protocol.ended()

    run(main())


def test_resume_writing_may_write(run: Run) -> None:
    """A producer that is driven by nothing but these two calls."""

    class Producer(Recorder):
        left = 40
        paused = False

        def pause_writing(self) -> None:
            self.paused = True

        def resume_writing(self) -> None:
            self.paused = False
            self.produce()

        def produce(self) -> None:
            while self.left and not self.paused:
                self.left -= 1
                self.transport.write(bytes([self.left]) * 100_000)
            if not self.left:
                self.transport.close()

    async def main() -> None:
        _, protocol, peer = await connect(Producer)
        with peer:
            protocol.produce()
            assert protocol.left > 0
            data = await peer.read()
            assert data == b"".join(bytes([n]) * 100_000 for n in reversed(range(40)))
        assert await protocol.ended() is None

    run(main())


def test_another_protocol_is_resumed(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.write(BIG)
            other = Recorder()
            transport.set_protocol(other)
            await peer.read(len(BIG))
            await until(lambda: other.calls == ["resume"])
        await other.ended()
        assert protocol.calls == ["made", "pause"]

    run(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
@pytest.mark.parametrize("error", [ValueError("reason"), OSError(5, "reason")], ids=repr)
def test_errors_in_the_callbacks(run: Run, method: str, error: Exception) -> None:
    """They are reported; the transport goes on."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        reports = reports_of(asyncio.get_running_loop())

        def fail() -> None:
            raise error

        setattr(protocol, method, fail)
        with peer:
            transport.write(BIG)
            assert await peer.read(len(BIG)) == BIG
            await until(lambda: transport.get_write_buffer_size() == 0)
            await until(lambda: reports)
            assert reports == [
                {
                    "message": f"protocol.{method}() failed",
                    "exception": error,
                    "transport": transport,
                    "protocol": protocol,
                }
            ]
            assert not transport.is_closing()
            transport.write(b"and on")
            assert await peer.read(6) == b"and on"
        assert await protocol.ended() is None

    run(main())


@pytest.mark.parametrize("method", ["close", "abort"])
def test_pause_writing_may_close(run: Run, method: str) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        protocol.pause_writing = lambda: getattr(transport, method)()
        with peer:
            transport.write(BIG)
            assert transport.is_closing() and protocol.calls == ["made"]
            data = await peer.read()
            assert (data == BIG) == (method == "close")
        assert await protocol.ended() is None

    run(main())


def test_a_peer_that_pauses_in_connection_made_stops_the_writer(run: Run) -> None:
    """16 MiB to another transport that does not read: the writer is paused, nothing arrives."""

    class Paused(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: reader, "127.0.0.1", 0)
        reader = Paused()
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        for _ in range(16):
            transport.write(bytes(1 << 20))
        await until(lambda: reader.transport)
        await a_while()
        assert protocol.calls == ["made", "pause"] and not reader.data
        reader.transport.resume_reading()
        await reader.got(16 << 20)
        await until(lambda: protocol.calls == ["made", "pause", "resume"])
        transport.close()
        await reader.ended()
        server.close()
        await server.wait_closed()

    if sys.version_info < (3, 11):
        pytest.skip("3.10 forgets the pause (gh-103607)")
    run(main())
