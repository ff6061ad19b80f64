"""What users put in place of parts of asyncio's streams, and expect to be called.

Run on asyncio and on mioloop alike. A fast path may skip asyncio's own Python code only where
nobody can tell: a subclass, a replaced method or a wrapped protocol is honoured from the next
chunk of data on.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import Peer, tcp_pair, until
from test_streams import end, streams

Run = Callable[..., Any]


class UpperReader(asyncio.StreamReader):
    """Changes the data on its way in."""

    def feed_data(self, data: bytes) -> None:
        super().feed_data(data.upper())

    ends = 0

    def feed_eof(self) -> None:
        self.ends += 1  # at the end of the stream and again when the connection is lost
        if self.ends == 1:
            super().feed_data(b"<end>")
        super().feed_eof()


class TaggingProtocol(asyncio.StreamReaderProtocol):
    """Changes the data before the reader sees it."""

    def data_received(self, data: bytes) -> None:
        super().data_received(b"[" + data + b"]")

    def eof_received(self) -> Any:
        super().data_received(b"<eof>")
        return super().eof_received()


async def connected(
    reader: asyncio.StreamReader, kind: type[asyncio.StreamReaderProtocol]
) -> tuple[asyncio.StreamWriter, Peer]:
    """As open_connection does it, with parts of one's own."""
    loop = asyncio.get_running_loop()
    ours, theirs = tcp_pair()
    protocol = kind(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return asyncio.StreamWriter(transport, protocol, reader, loop), Peer(theirs)


def test_a_subclass_of_the_reader(run: Run) -> None:
    async def main() -> None:
        reader = UpperReader(loop=asyncio.get_running_loop())
        writer, peer = await connected(reader, asyncio.StreamReaderProtocol)
        peer.send(b"some text\n")
        assert await reader.readline() == b"SOME TEXT\n"
        peer.shutdown()
        assert await reader.read() == b"<end>"
        await end(writer, peer)

    run(main())


def test_a_subclass_of_the_protocol(run: Run) -> None:
    async def main() -> None:
        reader = asyncio.StreamReader(loop=asyncio.get_running_loop())
        writer, peer = await connected(reader, TaggingProtocol)
        peer.send(b"text")
        assert await reader.readexactly(6) == b"[text]"
        peer.shutdown()
        assert await reader.read() == b"<eof>"
        await end(writer, peer)

    run(main())


def test_feed_data_replaced_on_the_instance(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"before ")
        assert await reader.read(7) == b"before "
        original, seen = reader.feed_data, []

        def feed_data(data: bytes) -> None:
            seen.append(data)
            original(data[::-1])

        reader.feed_data = feed_data  # type: ignore[method-assign]
        peer.send(b"abc")
        assert await reader.readexactly(3) == b"cba"
        assert seen == [b"abc"]
        del reader.feed_data
        peer.send(b"abc")
        assert await reader.readexactly(3) == b"abc"
        await end(writer, peer)

    run(main())


@pytest.mark.parametrize("change", ["add", "add and delete", "look", "replace"])
def test_feed_data_replaced_on_an_instance_with_other_attributes(run: Run, change: str) -> None:
    """The reader's attributes are ours to read, wherever the interpreter keeps them."""

    async def main() -> None:
        reader, writer, peer = await streams()
        private: Any = reader
        if change == "look":
            assert "_buffer" in private.__dict__
        elif change == "replace":
            private.__dict__ = dict(reversed(private.__dict__.items()))
        else:
            private.name = "of the user's own"
        peer.send(b"before ")
        assert await reader.read(7) == b"before "
        if change == "add and delete":
            del private.name
        original, seen = reader.feed_data, []

        def feed_data(data: bytes) -> None:
            seen.append(data)
            original(data)

        private.feed_data = feed_data
        peer.send(b"abc")
        assert await reader.readexactly(3) == b"abc"
        assert seen == [b"abc"]
        private._buffer = bytearray(b"left ")
        peer.send(b"def")
        assert await reader.readexactly(8) == b"left def"
        await end(writer, peer)

    run(main())


@pytest.mark.parametrize("change", ["nothing", "add", "add and delete", "look", "replace", "wait"])
def test_data_received_replaced_on_the_instance(run: Run, change: str) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        protocol: Any = writer.transport.get_protocol()
        if change == "look":
            assert "_paused" in protocol.__dict__
        elif change == "replace":
            protocol.__dict__ = dict(reversed(protocol.__dict__.items()))
        elif change != "nothing":
            protocol.name = "of the user's own"
        if change != "wait":
            peer.send(b"before ")
            assert await reader.read(7) == b"before "
        if change == "add and delete":
            del protocol.name
        original = protocol.data_received
        protocol.data_received = lambda data: original(data * 2)
        peer.send(b"ab")
        assert await reader.readexactly(4) == b"abab"
        del protocol.data_received
        peer.send(b"cd")
        assert await reader.readexactly(2) == b"cd"
        await end(writer, peer)

    run(main())


@pytest.mark.parametrize("change", ["nothing", "add", "look", "replace"])
def test_a_reader_that_is_woken_has_no_waiter(run: Run, change: str) -> None:
    """It is taken away when the data comes, before whoever waits goes on."""

    async def main() -> None:
        reader, writer, peer = await streams()
        private: Any = reader
        seen: dict[str, Any] = {}
        if change == "look":
            seen = private.__dict__
        elif change == "replace":
            seen = private.__dict__ = dict(reversed(private.__dict__.items()))
        elif change == "add":
            private.name = "of the user's own"
        for _ in range(3):
            private._waiter = asyncio.get_running_loop().create_future()
            peer.send(b"data")
            await private._waiter
            assert (private._waiter, seen.get("_waiter")) == (None, None)
            assert await reader.read(10) == b"data"
        await end(writer, peer)

    run(main())


def test_a_method_replaced_on_the_class(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        original = asyncio.StreamReader.feed_data
        monkeypatch.setattr(
            asyncio.StreamReader, "feed_data", lambda self, data: original(self, data + b"!")
        )
        peer.send(b"x")
        assert await reader.readexactly(2) == b"x!"
        await end(writer, peer)

    run(main())


def test_another_protocol_on_the_transport(run: Run) -> None:
    """As websocket libraries do it: the stream's protocol is replaced after the handshake."""

    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"handshake\n")
        assert await reader.readline() == b"handshake\n"

        class Plain(asyncio.Protocol):
            data = b""

            def data_received(self, data: bytes) -> None:
                self.data += data

        plain, before = Plain(), writer.transport.get_protocol()
        writer.transport.set_protocol(plain)
        peer.send(b"frames")
        await until(lambda: plain.data == b"frames")
        writer.transport.set_protocol(before)
        peer.send(b"back")
        assert await reader.readexactly(4) == b"back"
        await end(writer, peer)

    run(main())


def test_feeding_a_reader_by_hand(run: Run) -> None:
    """Its buffer holds what was fed and what came, in order."""

    async def main() -> None:
        reader, writer, peer = await streams()
        reader.feed_data(b"fed ")
        peer.send(b"came ")
        await until(lambda: len(reader._buffer) == 9)
        reader.feed_data(b"fed again")
        assert bytes(reader._buffer) == b"fed came fed again"
        assert await reader.read(100) == b"fed came fed again"
        reader.feed_eof()
        assert await reader.read() == b"" and reader.at_eof()
        await end(writer, peer)

    run(main())


def test_a_server_with_a_protocol_of_ones_own(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        got: list[bytes] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.append(await reader.read())
            writer.close()

        def factory() -> asyncio.StreamReaderProtocol:
            return TaggingProtocol(UpperReader(loop=loop), handle, loop=loop)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"text")
        writer.write_eof()
        assert await reader.read() == b""
        assert got == [b"[TEXT]<EOF><end>"]
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_reprs(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"abc")
        await until(lambda: len(reader._buffer) == 3)
        assert repr(reader).startswith("<StreamReader 3 bytes transport=<")
        assert repr(writer).startswith("<StreamWriter transport=<")
        await end(writer, peer)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="reported since 3.13")
def test_an_unclosed_writer_is_reported(run: Run) -> None:
    import gc

    async def main() -> None:
        reader, writer, peer = await streams()
        writer.transport.pause_reading()
        with pytest.warns(ResourceWarning) as warned:
            del reader, writer
            gc.collect()
        assert any("unclosed" in str(one.message) for one in warned)
        peer.close()

    run(main())
