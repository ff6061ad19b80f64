"""TLS: the data itself, in every size, shape and direction, and what holds it back.

Run on asyncio, and on mioloop with both of its engines, over real sockets on the loopback
interface. What TLS connections are otherwise is in test_tls, peers that misbehave are in
test_tls_trouble.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from tls_peers import (
    BOTH,
    PATIENCE,
    Buffered,
    Receiver,
    Serving,
    client_context,
    close,
    collected,  # noqa: F401 (a fixture)
    connect,
    echo,
    handshake,
    leaves_no_warning,
    loop_kind,  # noqa: F401 (a fixture)
    open_protocol,
    server_context,
    since_3_11,
)

Run = Callable[..., Any]
pytestmark = leaves_no_warning


# Sizes and shapes


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 163_840, 1_000_003])
@pytest.mark.parametrize("kind", [Receiver, Buffered])
def test_sizes(run: Run, size: int, kind: type[Receiver]) -> None:
    data = bytes(i * 7 % 251 for i in range(1009)) * (size // 1009 + 1)

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port, kind)
            transport.write(data[:size])
            await protocol.until(size)
            assert protocol.data == data[:size]
            transport.close()
            assert await protocol.lost is None

    run(main())


@BOTH
def test_many_small_writes(run: Run, version: ssl.TLSVersion) -> None:
    context = client_context()
    context.minimum_version = context.maximum_version = version

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port, ssl=context)
            for i in range(2000):
                transport.write(b"%05d" % i)
            await protocol.until(10_000)
            assert protocol.data == b"".join(b"%05d" % i for i in range(2000))
            transport.close()
            assert await protocol.lost is None

    run(main())


def test_every_kind_of_data(run: Run) -> None:
    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port)
            mutable = bytearray(b"bytearray ")
            transport.write(b"bytes ")
            transport.write(mutable)
            mutable[:] = b"xxxxxxxxxx"
            transport.write(memoryview(b"-memoryview ")[1:])
            transport.write(b"")
            transport.writelines([b"a ", b"", bytearray(b"list"), memoryview(b".")])
            text = b"bytes bytearray memoryview a list."
            await protocol.until(len(text))
            assert protocol.data == text
            for wrong in ("text", 1, None):
                with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got"):
                    transport.write(wrong)
            transport.close()
            await protocol.lost

    run(main())


@since_3_11
def test_what_came_together_is_delivered_together(run: Run) -> None:
    """Records that arrive in one piece are one data_received()."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = server_context().wrap_bio(incoming, outgoing, server_side=True)
        with theirs:
            connecting = loop.create_task(
                loop.create_connection(
                    Receiver, sock=ours, ssl=client_context(), server_hostname="localhost"
                )
            )
            await handshake(peer, incoming, outgoing, theirs)
            transport, protocol = await connecting
            for i in range(10):
                peer.write(b"%d" % i * 1000)
            await loop.sock_sendall(theirs, outgoing.read())
            await protocol.until(10_000)
            assert protocol.calls == 1
            transport.abort()
            await protocol.lost

    run(main())


# Flow control


def test_reading_is_paused(run: Run) -> None:
    """Nothing is delivered while reading is paused, and all of it afterwards."""
    data = b"0123456789" * 50_000

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port)
            transport.pause_reading()
            assert not transport.is_reading()
            transport.write(data)
            transport.write(data)
            await asyncio.sleep(0.05)
            assert protocol.calls == 0
            transport.resume_reading()
            await protocol.until(len(data) * 2)
            assert protocol.data == data + data
            transport.close()
            await protocol.lost

    run(main())


@since_3_11
@pytest.mark.parametrize("kind", [Receiver, Buffered])
def test_pausing_in_the_middle(run: Run, kind: type[Receiver]) -> None:
    """A protocol that pauses after each piece gets them all, one by one, in order."""
    data = b"".join(b"%07d" % i for i in range(60_000))

    class Pausing(kind):  # type: ignore[misc, valid-type]
        def data_received(self, data: bytes) -> None:
            assert not self.transport_is_paused
            super().data_received(data)
            self.transport.pause_reading()
            self.transport_is_paused = True
            asyncio.get_running_loop().call_soon(self.go_on)

        def go_on(self) -> None:
            self.transport_is_paused = False
            self.transport.resume_reading()

        transport_is_paused = False

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port, Pausing)
            transport.write(data)
            await protocol.until(len(data))
            assert protocol.data == data
            transport.close()
            await protocol.lost

    run(main())


@since_3_11
def test_what_waits_is_counted(run: Run) -> None:
    """The limits hold for what is not encrypted yet, too; close() sends all of it."""
    calls: list[str] = []

    class Writer(Receiver):
        def pause_writing(self) -> None:
            calls.append("pause")

        def resume_writing(self) -> None:
            calls.append("resume")

    received = bytearray()

    async def main() -> None:
        go_on = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            while data := await reader.read(65536):
                received.extend(data)

        async with Serving(handler, server_context(), limit=1024) as port:
            transport, protocol = await open_protocol(port, Writer)
            transport.set_write_buffer_limits(high=100_000, low=1000)
            assert transport.get_write_buffer_limits() == (1000, 100_000)
            written = 0
            while not calls:
                transport.write(b"%08d" % written * 1024)
                written += 1
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() >= 100_000
            for _ in range(20):
                transport.write(b"%08d" % written * 1024)
                written += 1
            transport.close()
            go_on.set()
            assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
            assert received == b"".join(b"%08d" % i * 1024 for i in range(written))

    run(main())
    assert calls[0] == "pause"


@since_3_11
def test_streams_beyond_their_limit(run: Run) -> None:
    """A reader that is slow holds the peer back, and loses nothing."""
    data = bytes(range(256)) * 10_000

    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()

        async with Serving(handler, server_context()) as port:
            reader, writer = await connect(port, client_context(), limit=2000)
            received = bytearray()
            while piece := await reader.read(999):
                received += piece
                if len(received) % 7 == 0:
                    await asyncio.sleep(0)
            assert received == data
            await close(writer)

    run(main())


# The protocol changes its mind while data is delivered


def test_close_while_data_is_delivered(run: Run) -> None:
    class Closing(Receiver):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"last words")
            self.transport.close()

    async def main() -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"a question")
            heard.set_result(await reader.read())

        async with Serving(handler, server_context()) as port:
            transport, protocol = await open_protocol(port, Closing)
            assert await protocol.lost is None
            assert await heard == b"last words"
            assert protocol.data == b"a question"
            assert transport.is_closing()

    run(main())


def test_another_protocol_takes_over(run: Run) -> None:
    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, first = await open_protocol(port)
            transport.write(b"one")
            await first.until(3)
            second = Buffered()
            second.connection_made(transport)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            transport.write(b"two" * 1000)
            await second.until(3000)
            assert (first.data, second.data) == (b"one", b"two" * 1000)
            transport.close()
            await second.lost
            assert not first.lost.done()

    run(main())


def test_an_error_of_the_protocol_ends_the_connection(run: Run) -> None:
    reports: list[dict[str, Any]] = []

    class Failing(Receiver):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError("in data_received")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port, Failing)
            transport.write(b"x")
            assert isinstance(await protocol.lost, ZeroDivisionError)

    run(main())
    [report] = reports
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["message"] in (
        "Fatal error on SSL protocol",
        "application protocol failed to receive SSL data",
    )


@since_3_11
def test_writing_after_the_end_is_warned_of(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port)
            transport.abort()
            await protocol.lost
            for _ in range(10):
                transport.write(b"into the void")

    run(main())
    assert {record.getMessage() for record in caplog.records} == {"SSL connection is closed"}
    assert len(caplog.records) == 6
