"""asyncio's streams over our transports: StreamReader, StreamWriter, and the servers of streams.

Run on asyncio and on mioloop alike. Also what a fast path below them must not break: subclasses
of StreamReader and StreamReaderProtocol, and methods that are replaced on one instance.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_peer import BIG, Peer, a_while, reports_of, tcp_pair, until

Run = Callable[..., Any]


async def streams(**keywords: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Peer]:
    """A reader and a writer on a new connection, and its other end."""
    ours, theirs = tcp_pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    reader, writer = await asyncio.open_connection(sock=ours, **keywords)
    return reader, writer, Peer(theirs)


async def end(writer: asyncio.StreamWriter, peer: Peer) -> None:
    writer.close()
    await writer.wait_closed()
    peer.close()


# Reading


def test_reading_in_all_ways(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"line one\nline two\r\n1234567890key=value;rest")
        assert await reader.readline() == b"line one\n"
        assert await reader.readline() == b"line two\r\n"
        assert await reader.readexactly(10) == b"1234567890"
        assert await reader.readexactly(0) == b""
        assert await reader.readuntil(b"=") == b"key="
        assert await reader.readuntil(b"ue;") == b"value;"
        assert await reader.read(2) == b"re"
        assert await reader.read(0) == b""
        assert not reader.at_eof()
        peer.shutdown()
        assert await reader.read() == b"st"
        assert reader.at_eof()
        assert await reader.read() == await reader.read(5) == await reader.readline() == b""
        await end(writer, peer)

    run(main())


def test_reading_waits(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        task = asyncio.ensure_future(reader.readline())
        for piece in (b"a", b" line", b"\nmore"):
            await a_while(0.002)
            assert not task.done()
            peer.send(piece)
        assert await task == b"a line\n"
        task = asyncio.ensure_future(reader.readexactly(6))
        await a_while(0.002)
        with pytest.raises(RuntimeError, match="called while another coroutine is already waiting"):
            await reader.readexactly(50)
        peer.send(b"!!")
        assert await task == b"more!!"
        await end(writer, peer)

    run(main())


def test_a_stream_that_ends_too_early(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"short")
        peer.shutdown()
        with pytest.raises(asyncio.IncompleteReadError) as info:
            await reader.readexactly(10)
        assert (info.value.partial, info.value.expected) == (b"short", 10)
        assert str(info.value) == "5 bytes read on a total of 10 expected bytes"
        with pytest.raises(asyncio.IncompleteReadError) as info:
            await reader.readuntil(b"\n")
        assert (info.value.partial, info.value.expected) == (b"", None)
        with pytest.raises(ValueError, match="less than zero"):
            await reader.readexactly(-1)
        await end(writer, peer)
        reader, writer, peer = await streams()
        peer.send(b"no newline")
        peer.shutdown()
        assert await reader.readline() == b"no newline"
        await end(writer, peer)

    run(main())


def test_limits(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams(limit=10)
        peer.send(b"123456789012345\nnext\n")
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
            await reader.readline()
        assert await reader.readline() == b"next\n"
        peer.send(b"123456789012345")
        with pytest.raises(asyncio.LimitOverrunError) as info:
            await reader.readuntil(b";")
        text = "Separator is not found, and chunk exceed the limit"
        assert str(info.value) == text and info.value.consumed == 15
        assert await reader.readexactly(15) == b"123456789012345"
        with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
            await reader.readuntil(b"")
        await end(writer, peer)
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            asyncio.StreamReader(limit=0)

    run(main())


def test_a_reader_that_is_slow_pauses_the_transport(run: Run) -> None:
    """Twice the limit is buffered; then the transport pauses until half is read."""

    async def main() -> None:
        reader, writer, peer = await streams(limit=1000)
        sending = asyncio.ensure_future(peer.send_all(BIG))
        await until(lambda: not writer.transport.is_reading())
        assert await reader.readexactly(len(BIG)) == BIG
        await sending
        await until(writer.transport.is_reading)
        await end(writer, peer)

    run(main())


def test_iterating_over_lines(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"one\ntwo\nthree")
        peer.shutdown()
        assert [line async for line in reader] == [b"one\n", b"two\n", b"three"]
        await end(writer, peer)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="tuples of separators are new in 3.13")
def test_several_separators(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        peer.send(b"one;two\nthree")
        assert await reader.readuntil((b"\n", b";")) == b"one;"
        assert await reader.readuntil((b"\n", b";")) == b"two\n"
        await end(writer, peer)

    run(main())


def test_a_reset(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        task = asyncio.ensure_future(reader.read(10))
        await a_while(0.002)
        peer.reset()
        with pytest.raises(ConnectionResetError):
            await task
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()

    run(main())


def test_an_exception_that_is_set(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        task = asyncio.ensure_future(reader.readline())
        await a_while(0.002)
        assert reader.exception() is None
        reader.set_exception(LookupError("reason"))
        with pytest.raises(LookupError, match="reason"):
            await task
        with pytest.raises(LookupError, match="reason"):
            await reader.read(1)
        with pytest.raises(LookupError, match="reason"):
            await writer.drain()
        await end(writer, peer)

    run(main())


def test_a_cancelled_read_loses_nothing(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        for method, args in (("read", (10,)), ("readline", ()), ("readexactly", (3,))):
            task = asyncio.ensure_future(getattr(reader, method)(*args))
            await a_while(0.002)
            peer.send(b"ab\n")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await reader.readexactly(3) == b"ab\n"
        await end(writer, peer)

    run(main())


# Writing


def test_writing(run: Run) -> None:
    async def main() -> None:
        reader, writer, peer = await streams()
        writer.write(b"one ")
        writer.writelines([b"two ", bytearray(b"three")])
        await writer.drain()
        assert await peer.read(13) == b"one two three"
        assert writer.can_write_eof() and not writer.is_closing()
        assert writer.get_extra_info("peername") == peer.sock.getsockname()
        assert writer.transport.get_extra_info("socket") is writer.get_extra_info("socket")
        writer.write_eof()
        assert await peer.read() == b""
        peer.send(b"answer")
        assert await reader.read(10) == b"answer"
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        peer.close()

    run(main())


def test_drain_waits_for_the_peer(run: Run) -> None:
    async def main() -> None:
        _, writer, peer = await streams()
        await writer.drain()
        writer.write(BIG)
        tasks = [asyncio.ensure_future(writer.drain()) for _ in range(2)]
        await a_while()
        assert not any(task.done() for task in tasks)
        assert await peer.read(len(BIG)) == BIG
        await asyncio.gather(*tasks)
        await end(writer, peer)

    if sys.version_info < (3, 11):
        pytest.skip("3.10.0 to 3.10.5 allow one waiter only")
    run(main())


def test_drain_ends_with_the_connection(run: Run) -> None:
    async def main() -> None:
        _, writer, peer = await streams()
        writer.write(BIG)
        task = asyncio.ensure_future(writer.drain())
        await a_while(0.002)
        peer.reset()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await task
        writer.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await writer.wait_closed()

    run(main())


def test_drain_after_close(run: Run) -> None:
    async def main() -> None:
        _, writer, peer = await streams()
        await end(writer, peer)
        with pytest.raises(ConnectionResetError, match="^Connection lost$"):
            await writer.drain()

    run(main())


# Servers


def test_an_echo_server_with_many_clients(run: Run) -> None:
    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async for line in reader:
                writer.write(line)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def client(number: int) -> None:
            reader, writer = await asyncio.open_connection(*address)
            for turn in range(5):
                line = b"%d of %d\n" % (turn, number)
                writer.write(line)
                assert await reader.readline() == line
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await asyncio.gather(*map(client, range(100)))
        server.close()
        await server.wait_closed()

    run(main())


def test_unix_streams(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read())[::-1])
            writer.close()

        path = tmp_path / "socket"
        server = await asyncio.start_unix_server(reverse, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"drawer")
        writer.write_eof()
        assert await reader.read() == b"reward"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_plain_function_as_the_callback(run: Run) -> None:
    async def main() -> None:
        made: list[Any] = []
        server = await asyncio.start_server(lambda *pair: made.extend(pair), "127.0.0.1", 0)
        with Peer(socket.create_connection(server.sockets[0].getsockname())) as peer:
            await until(lambda: made)
            peer.send(b"x")
            assert await made[0].read(1) == b"x"
            made[1].close()
            await made[1].wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, only the task is told")
def test_a_callback_that_fails(run: Run) -> None:
    """Reported; the connection is closed."""

    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())

        async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise LookupError("reason")

        server = await asyncio.start_server(fail, "127.0.0.1", 0)
        with Peer(socket.create_connection(server.sockets[0].getsockname())) as peer:
            assert await peer.read() == b""
        assert [one["message"] for one in reports] == ["Unhandled exception in client_connected_cb"]
        assert str(reports[0]["exception"]) == "reason"
        server.close()
        await server.wait_closed()

    run(main())
