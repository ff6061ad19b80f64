"""What a stream transport reads and tells its protocol: data, the end of the stream, and pauses.

Run on asyncio and on mioloop alike, with Protocol and BufferedProtocol. Also what happens when a
callback of the protocol fails: what the exception handler is told, and that the transport ends.
Writing is in test_transport_writing.py.
"""

import array
import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import (
    KINDS,
    BufferedRecorder,
    Peer,
    Recorder,
    a_while,
    connect,
    reports_of,
    tcp_pair,
    until,
)

Run = Callable[..., Any]


@KINDS
def test_data_and_end(run: Run, kind: type[Recorder]) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect(kind)
        with peer:
            peer.send(b"first ")
            await protocol.got(6)
            peer.send(b"second")
            await protocol.got(12)
            assert transport.is_reading() and not transport.is_closing()
            peer.shutdown()
            assert await protocol.ended() is None
            assert transport.is_closing() and not transport.is_reading()
            assert await peer.read() == b""
        assert protocol.data == b"first second"
        assert protocol.calls == ["made", "data", "eof", "lost"]

    run(main())


@KINDS
def test_what_was_there_before_the_transport(run: Run, kind: type[Recorder]) -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        with Peer(theirs) as peer:
            peer.send(b"early")
            peer.shutdown()
            _, protocol = await asyncio.get_running_loop().create_connection(kind, sock=ours)
            assert await protocol.ended() is None
        assert protocol.data == b"early"
        assert protocol.calls == ["made", "data", "eof", "lost"]

    run(main())


@KINDS
def test_one_byte_at_a_time(run: Run, kind: type[Recorder]) -> None:
    async def main() -> None:
        _, protocol, peer = await connect(kind)
        with peer:
            for number in range(100):
                peer.send(bytes([number]))
                await protocol.got(number + 1)
        assert await protocol.ended() is None
        assert protocol.data == bytes(range(100))

    run(main())


@pytest.mark.slow
@KINDS
def test_ten_mebibytes(run: Run, kind: type[Recorder]) -> None:
    async def main() -> None:
        pattern = b"".join(number.to_bytes(4, "big") for number in range(10 << 18))
        _, protocol, peer = await connect(kind)
        with peer:
            await peer.send_all(pattern)
        assert await protocol.ended() is None
        assert protocol.data == pattern

    run(main())


def test_any_object_with_the_methods_is_a_protocol(run: Run) -> None:
    class Duck:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def connection_made(self, transport: Any) -> None:
            self.calls.append("made")

        def data_received(self, data: bytes) -> None:
            self.calls.append(data)

        def eof_received(self) -> None:
            self.calls.append("eof")

        def connection_lost(self, exc: Any) -> None:
            self.calls.append(exc)

    async def main() -> None:
        _, duck, peer = await connect(Duck)
        with peer:
            peer.send(b"quack")
        await until(lambda: None in duck.calls)
        assert duck.calls == ["made", b"quack", "eof", None]

    run(main())


def test_callbacks_are_looked_up_each_time(run: Run) -> None:
    """A method that is replaced on the living protocol is called from then on."""

    async def main() -> None:
        _, protocol, peer = await connect()
        got: list[bytes] = []
        with peer:
            peer.send(b"one")
            await protocol.got(3)
            protocol.data_received = got.append
            peer.send(b"two")
            await until(lambda: got)
            del protocol.data_received
            peer.send(b"three")
            assert await protocol.got(8) == b"onethree"
            protocol.eof_received = lambda: got.append(b"eof")
        await protocol.ended()
        assert got == [b"two", b"eof"]

    run(main())


# Another protocol


@pytest.mark.parametrize("second", [Recorder, BufferedRecorder], ids=["to plain", "to buffered"])
@KINDS
def test_set_protocol(run: Run, kind: type[Recorder], second: type[Recorder]) -> None:
    """The new protocol gets what comes from now on, and no connection_made."""

    async def main() -> None:
        transport, protocol, peer = await connect(kind)
        assert transport.get_protocol() is protocol
        with peer:
            peer.send(b"old")
            await protocol.got(3)
            other = second()
            transport.set_protocol(other)
            assert transport.get_protocol() is other
            peer.send(b"new")
            await other.got(3)
        assert await other.ended() is None
        assert (protocol.calls, other.calls) == (["made", "data"], ["data", "eof", "lost"])
        assert (protocol.data, other.data) == (b"old", b"new")

    run(main())


def test_set_protocol_within_callbacks(run: Run) -> None:
    """Each byte is for another protocol, of the other kind, that the one before sets."""
    chain: list[Recorder] = []

    class Plain(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            follow(self)

    class Buffered(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            follow(self)

    def follow(link: Recorder) -> None:
        chain.append([Buffered, Plain][len(chain) % 2]())
        if isinstance(chain[-1], Buffered):
            chain[-1].buffer = bytearray(1)
        chain[-1].transport = link.transport
        link.transport.set_protocol(chain[-1])

    async def main() -> None:
        _, protocol, peer = await connect(Plain)
        with peer:
            for number in range(10):
                before = len(chain)
                peer.send(b"%d" % number)
                await until(lambda: len(chain) > before)  # noqa: B023
        await chain[-1].ended()
        assert [link.data for link in [protocol, *chain[:-1]]] == [b"%d" % n for n in range(10)]
        assert chain[-1].calls == ["eof", "lost"]

    run(main())


@pytest.mark.parametrize("second", [Recorder, BufferedRecorder], ids=["to plain", "to buffered"])
def test_set_protocol_within_get_buffer(run: Run, second: type[Recorder]) -> None:
    """The new protocol is told that the old one's buffer was filled, even one without buffers."""
    other = second()
    told: list[int] = []
    if second is BufferedRecorder:
        other.buffer_updated = told.append  # type: ignore[attr-defined]

    class Leaving(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.transport.set_protocol(other)
            return super().get_buffer(sizehint)

    async def main() -> None:
        _, protocol, peer = await connect(Leaving)
        reports = reports_of(asyncio.get_running_loop())
        with peer:
            peer.send(b"four")
            await until(lambda: told or other.lost)
            assert protocol.buffer[:5] == b"four\0"
        error = await other.ended()
        assert protocol.calls == ["made"]
        if second is BufferedRecorder:
            assert (told, error, reports) == ([4], None, [])
            return
        assert type(error) is AttributeError
        [report] = reports
        assert report["message"] == "Fatal error: protocol.buffer_updated() call failed."
        assert report["protocol"] is other

    run(main())


@pytest.mark.parametrize("method", ["close", "abort", "pause_reading"])
def test_get_buffer_that_ends_the_reading(run: Run, method: str) -> None:
    """What it gave the buffer for is read and told."""

    class Ending(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.note("get")
            getattr(self.transport, method)()
            return super().get_buffer(sizehint)

    async def main() -> None:
        transport, protocol, peer = await connect(Ending)
        with peer:
            peer.send(b"first")
            assert await protocol.got(5) == b"first"
            if method == "pause_reading":
                peer.send(b"second")
                await a_while()
                assert protocol.calls == ["made", "get", "data"]
                transport.abort()
            assert await protocol.ended() is None
        assert protocol.calls == ["made", "get", "data", "lost"]

    run(main())


def test_set_protocol_while_paused(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.pause_reading()
            peer.send(b"late")
            await a_while()
            other = BufferedRecorder()
            transport.set_protocol(other)
            await a_while()
            assert (protocol.calls, other.calls) == (["made"], [])
            transport.resume_reading()
            assert await other.got(4) == b"late"
            transport.close()
            await other.ended()

    run(main())


# The end of the stream


def test_a_half_closed_connection_still_writes(run: Run) -> None:
    class HalfOpen(Recorder):
        keep_open = True

    async def main() -> None:
        transport, protocol, peer = await connect(HalfOpen)
        with peer:
            peer.send(b"request")
            peer.shutdown()
            await until(lambda: "eof" in protocol.calls)
            before = time.process_time()
            await asyncio.sleep(0.05)
            assert time.process_time() - before < 0.03, "the end of the stream is polled"
            assert protocol.calls == ["made", "data", "eof"]
            assert not transport.is_closing()
            transport.write(b"the ")
            transport.write(b"answer")
            assert await peer.read(10) == b"the answer"
            transport.close()
            assert await peer.read() == b""
        assert await protocol.ended() is None
        assert protocol.calls == ["made", "data", "eof", "lost"]

    run(main())


def test_what_eof_received_writes_is_flushed(run: Run) -> None:
    """Returning false closes the transport, which sends its buffer first."""
    answer = bytes(range(256)) * 4096

    class Answering(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            self.transport.write(answer)
            return False

    async def main() -> None:
        _, protocol, peer = await connect(Answering)
        with peer:
            peer.shutdown()
            assert await peer.read() == answer
        assert await protocol.ended() is None

    run(main())


def test_after_write_eof_the_peer_is_still_heard(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.write(b"question")
            transport.write_eof()
            assert await peer.read() == b"question"
            peer.send(b"answer")
            assert await protocol.got(6) == b"answer"
            assert not transport.is_closing()
        assert await protocol.ended() is None

    run(main())


@pytest.mark.parametrize("method", ["close", "abort"])
@KINDS
def test_no_data_after_closing_in_a_callback(run: Run, kind: type[Recorder], method: str) -> None:
    class Closing(kind):  # type: ignore[misc,valid-type]
        def note(self, name: str) -> None:
            super().note(name)
            if name == "data":
                getattr(self.transport, method)()
                self.calls.append("closed")

    async def main() -> None:
        _, protocol, peer = await connect(Closing)
        with peer:
            peer.send(bytes(10_000))
            assert await protocol.ended() is None
            await a_while()
        assert protocol.calls == ["made", "data", "closed", "lost"]

    run(main())


def test_a_reset_is_reported(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        reports = reports_of(asyncio.get_running_loop())
        peer.reset()
        error = await protocol.ended()
        assert type(error) is ConnectionResetError and error.errno == 104
        assert protocol.calls == ["made", "lost"]
        assert transport.is_closing()
        assert reports == []

    run(main())


def test_buffers_of_other_types(run: Run) -> None:
    async def main() -> None:
        buffers = [memoryview(bytearray(10)), memoryview(bytearray(10))[3:4], array.array("B", [0])]
        for buffer in buffers:
            _, protocol, peer = await connect(BufferedRecorder)
            protocol.buffer = buffer
            with peer:
                peer.send(b"some text")
                await protocol.got(9)
            await protocol.ended()
            assert protocol.data == b"some text"

    run(main())
