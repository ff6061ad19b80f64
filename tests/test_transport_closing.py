"""How a stream transport ends: write_eof, close, abort, and writes that come too late.

Run on asyncio and on mioloop alike. close() sends what waits, abort() drops it; neither calls
connection_lost itself. After the end, writes are ignored and soon logged.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import BIG, Recorder, a_while, connect, reports_of

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


# The end of what is written


def test_write_eof(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            assert transport.can_write_eof() is True
            transport.write(b"last words")
            transport.write_eof()
            transport.write_eof()
            assert await peer.read() == b"last words"
            assert not transport.is_closing()
            text = r"^Cannot call write\(\) after write_eof\(\)$"
            for data in (b"more", b""):
                with pytest.raises(RuntimeError, match=text):
                    transport.write(data)
            if sys.version_info >= (3, 12):
                text = text.replace("write\\(\\) a", "writelines\\(\\) a")
            with pytest.raises(RuntimeError, match=text):
                transport.writelines([b"more"])
        await protocol.ended()

    run(main())


def test_write_eof_sends_what_waits_first(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.write(BIG)
            transport.write_eof()
            assert transport.get_write_buffer_size() > 0
            assert await peer.read() == BIG
            peer.send(b"thanks")
            assert await protocol.got(6) == b"thanks"
        assert await protocol.ended() is None

    run(main())


def test_close_sends_what_waits(run: Run) -> None:
    """connection_lost comes when the last byte is with the kernel."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.write(BIG)
            transport.close()
            assert transport.is_closing()
            assert transport.get_write_buffer_size() > 0
            await a_while()
            assert protocol.calls == ["made", "pause"]
            assert len(await peer.read(len(BIG))) == len(BIG)
            assert await protocol.ended() is None
        assert protocol.calls in (["made", "pause", "lost"], ["made", "pause", "resume", "lost"])
        assert transport.get_write_buffer_size() == 0

    run(main())


def test_who_is_resumed_writes_all_before_the_end(run: Run) -> None:
    """A TLS connection below its last records does so."""

    class Writer(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            for letter in (b"x", b"y", b"z"):
                self.transport.write(letter * 100)

    async def main() -> None:
        transport, protocol, peer = await connect(Writer)
        with peer:
            transport.set_write_buffer_limits(high=10, low=0)
            transport.write(BIG)
            transport.close()
            expected = BIG + b"x" * 100 + b"y" * 100 + b"z" * 100
            assert await peer.read(len(expected)) == expected
            assert await protocol.ended() is None

    run(main())


def test_write_eof_then_close_sends_what_waits(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.write(BIG)
            transport.write_eof()
            transport.close()
            assert await peer.read() == BIG
        assert await protocol.ended() is None

    run(main())


def test_write_after_close_while_data_waits_is_sent_too(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.write(BIG)
            transport.close()
            transport.write(b"tail")
            transport.write_eof()
            assert await peer.read() == BIG + b"tail"
        assert await protocol.ended() is None

    run(main())


def test_close_never_calls_connection_lost_itself(run: Run) -> None:
    async def main() -> None:
        for method in ("close", "abort"):
            transport, protocol, peer = await connect()
            with peer:
                getattr(transport, method)()
                assert transport.is_closing()
                assert protocol.calls == ["made"]
                await asyncio.sleep(0)
                assert protocol.calls == ["made", "lost"]
                getattr(transport, method)()
                await a_while(0.002)
            assert protocol.lost == [None]

    run(main())


def test_abort_drops_what_waits(run: Run) -> None:
    async def main() -> None:
        for before in ("nothing", "write_eof", "close"):
            transport, protocol, peer = await connect()
            with peer:
                transport.write(BIG)
                getattr(transport, before, lambda: None)()
                transport.abort()
                assert transport.get_write_buffer_size() == 0
                assert await protocol.ended() is None
                assert len(await peer.read()) < len(BIG)
            assert protocol.lost == [None]

    run(main())


def test_write_after_the_connection_is_lost(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Quietly ignored four times; then each write is logged."""

    async def main() -> None:
        for how in ("close", "reset", "eof"):
            transport, protocol, peer = await connect()
            with peer:
                if how == "close":
                    transport.close()
                elif how == "reset":
                    peer.reset()
                else:
                    peer.close()
                if how != "close":
                    await protocol.ended()
                caplog.clear()
                for _ in range(4):
                    transport.write(b"x")
                    transport.write(b"")
                assert caplog.records == []
                for _ in range(3):
                    transport.write(b"x")
            logged = [(one.name, one.levelname, one.getMessage()) for one in caplog.records]
            assert logged == [("asyncio", "WARNING", "socket.send() raised exception.")] * 3
            await protocol.ended()
            transport.write_eof()
            assert transport.get_write_buffer_size() == 0

    run(main())


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 14), reason="TypeError or AttributeError on 3.12 and 3.13"
)
def test_writelines_after_the_connection_is_lost(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.close()
            await protocol.ended()
            for _ in range(5):
                transport.writelines([b"x", b"y"])
        assert [one.getMessage() for one in caplog.records] == ["socket.send() raised exception."]

    run(main())


def test_a_write_that_fails(run: Run) -> None:
    """The peer has reset: write() itself raises nothing, connection_lost tells."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        reports = reports_of(asyncio.get_running_loop())
        transport.pause_reading()
        peer.reset()
        transport.write(b"x")
        transport.write(b"y")
        assert protocol.calls == ["made"]
        error = await protocol.ended()
        assert type(error) is ConnectionResetError
        assert transport.is_closing() and reports == []

    run(main())


def test_a_reset_while_data_waits(run: Run) -> None:
    async def main() -> None:
        for close in (False, True):
            transport, protocol, peer = await connect()
            transport.pause_reading()
            transport.write(BIG)
            if close:
                transport.close()
            await a_while(0.002)
            peer.reset()
            error = await protocol.ended()
            assert isinstance(error, (ConnectionResetError, BrokenPipeError))
            assert transport.get_write_buffer_size() == 0
            assert protocol.lost == [error]

    run(main())
