"""loop.sendfile on a transport and loop.sock_sendfile on a socket: a file, without reading it.

Run on asyncio and on mioloop alike. The system call takes regular files; anything else is read
and written by the loop unless `fallback=False`. TLS is not tested here.
"""

import asyncio
import io
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from network_peer import Peer, Recorder, a_while, connect, until

Run = Callable[..., Any]

DATA = bytes(range(256)) * 16384  # 4 MiB


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    (tmp_path / "data").write_bytes(DATA)
    with (tmp_path / "data").open("rb") as opened:
        yield opened


@pytest.fixture(params=["transport", "socket"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Sender:
    """Sends files over a transport or over a socket, and says what the peer got."""

    def __init__(self, way: str) -> None:
        self.way = way

    async def __aenter__(self) -> "Sender":
        self.loop = asyncio.get_running_loop()
        if self.way == "transport":
            self.transport, self.protocol, self.peer = await connect()
        else:
            self.sock, theirs = socket.socketpair()
            self.sock.setblocking(False)
            self.peer = Peer(theirs)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.peer.close()
        if self.way == "transport":
            self.transport.abort()
            await self.protocol.ended()
        else:
            self.sock.close()

    def send(self, file: Any, *args: Any, **keywords: Any) -> Any:
        if self.way == "transport":
            return self.loop.sendfile(self.transport, file, *args, **keywords)
        return self.loop.sock_sendfile(self.sock, file, *args, **keywords)

    async def sent(self, expect: int, file: Any, *args: Any, **keywords: Any) -> tuple[int, bytes]:
        """(what sendfile answers, the `expect` bytes that the peer gets)."""
        task = asyncio.ensure_future(self.send(file, *args, **keywords))
        data = await self.peer.read(expect)
        return await task, data


def test_a_whole_file(run: Run, way: str, file: BinaryIO) -> None:
    async def main() -> None:
        async with Sender(way) as sender:
            assert await sender.sent(len(DATA), file, fallback=False) == (len(DATA), DATA)
            assert file.tell() == len(DATA)
            # The position of the file does not matter, the offset does.
            assert await sender.sent(len(DATA), file) == (len(DATA), DATA)

    run(main())


@pytest.mark.parametrize("fallback", [False, True], ids=["native", "fallback"])
def test_offset_and_count(run: Run, way: str, file: BinaryIO, fallback: bool) -> None:
    async def main() -> None:
        source: Any = io.BytesIO(DATA) if fallback else file
        size = len(DATA)
        async with Sender(way) as sender:
            for offset, count in ((100, 50), (size - 10, None), (5, size - 5), (size - 3, 100)):
                end = size if count is None else min(size, offset + count)
                expected = end - offset, DATA[offset:end]
                got = await sender.sent(
                    end - offset, source, offset=offset, count=count, fallback=fallback
                )
                assert got == expected
                assert source.tell() == end

    run(main())


def test_an_empty_file(run: Run, way: str, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "empty").touch()
        async with Sender(way) as sender:
            with (tmp_path / "empty").open("rb") as empty:
                assert await sender.send(empty, fallback=False) == 0
            assert await sender.send(io.BytesIO()) == 0

    run(main())


def test_beyond_the_end(run: Run, way: str, file: BinaryIO) -> None:
    async def main() -> None:
        async with Sender(way) as sender:
            assert await sender.send(file, len(DATA) + 10) == 0

    run(main())


def test_what_is_no_regular_file(run: Run, way: str) -> None:
    async def main() -> None:
        async with Sender(way) as sender:
            source = io.BytesIO(DATA)
            with pytest.raises(asyncio.SendfileNotAvailableError, match="^not a regular file$"):
                await sender.send(source, fallback=False)
            assert source.tell() == 0
            assert await sender.sent(len(DATA), source) == (len(DATA), DATA)

    run(main())


def test_bad_arguments(run: Run, way: str, file: BinaryIO, tmp_path: Path) -> None:
    async def main() -> None:
        async with Sender(way) as sender:
            count = "count must be a positive integer (got {!r})"
            offset = "offset must be a non-negative integer (got {!r})"
            for error, text, args in (
                (TypeError, count.format("10"), (0, "10")),
                (TypeError, count.format(1.5), (0, 1.5)),
                (ValueError, count.format(0), (0, 0)),
                (ValueError, count.format(-1), (0, -1)),
                (TypeError, offset.format("10"), ("10",)),
                (ValueError, offset.format(-1), (-1,)),
            ):
                with pytest.raises(error) as info:
                    await sender.send(file, *args)
                assert str(info.value) == text
            with (tmp_path / "data").open() as text_file:
                with pytest.raises(ValueError, match="^file should be opened in binary mode$"):
                    await sender.send(text_file)
            assert await sender.sent(3, file, 0, 3) == (3, DATA[:3])

    run(main())


def test_datagram_sockets_are_refused(run: Run, file: BinaryIO) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with pytest.raises(ValueError, match="^only SOCK_STREAM type sockets are supported$"):
                await asyncio.get_running_loop().sock_sendfile(sock, file)

    run(main())


def test_blocking_sockets_in_debug_mode(run: Run, file: BinaryIO) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                await asyncio.get_running_loop().sock_sendfile(sock, file)

    run(main(), debug=True)


def test_cancelled(run: Run, way: str, file: BinaryIO) -> None:
    """The file's position tells how much was sent, and the connection works on."""

    async def main() -> None:
        async with Sender(way) as sender:
            task = asyncio.ensure_future(sender.send(file))
            await a_while()
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await a_while(0.002)
            if way == "socket":
                assert sender.loop.remove_writer(sender.sock) is False
            got = await sender.peer.read(1)
            assert got == DATA[:1]

    run(main())


def test_the_peer_goes_away(run: Run, way: str, file: BinaryIO) -> None:
    async def main() -> None:
        async with Sender(way) as sender:
            task = asyncio.ensure_future(sender.send(file, fallback=False))
            await a_while()
            assert not task.done()
            sender.peer.close()
            with pytest.raises(OSError):
                await task

    run(main())


# Transports


def test_what_was_written_before_goes_first(run: Run, file: BinaryIO) -> None:
    async def main() -> None:
        async with Sender("transport") as sender:
            sender.transport.write(DATA)
            sender.transport.write(b"between")
            expected = DATA + b"between" + DATA
            got = await sender.sent(len(expected), file)
            assert got == (len(DATA), expected)
            sender.transport.write(b"after")
            assert await sender.peer.read(5) == b"after"

    run(main())


def test_reading_and_writing_meanwhile(run: Run, file: BinaryIO) -> None:
    """write() is refused, reading is paused and goes on afterwards."""

    async def main() -> None:
        async with Sender("transport") as sender:
            task = asyncio.ensure_future(sender.send(file))
            await a_while(0.002)
            for method, data in (("write", b"x"), ("writelines", [b"x"])):
                text = "unable to {}; sendfile is in progress"
                name = method if sys.version_info >= (3, 12) else "write"
                with pytest.raises(RuntimeError) as info:
                    getattr(sender.transport, method)(data)
                assert str(info.value) == text.format(name)
            assert not sender.transport.is_reading()
            sender.peer.send(b"meanwhile")
            await a_while(0.002)
            assert not sender.protocol.data
            assert await sender.peer.read(len(DATA)) == DATA
            assert await task == len(DATA)
            assert sender.transport.is_reading()
            assert await sender.protocol.got(9) == b"meanwhile"

    run(main())


def test_a_paused_transport_stays_paused(run: Run, file: BinaryIO) -> None:
    async def main() -> None:
        async with Sender("transport") as sender:
            sender.transport.pause_reading()
            await sender.sent(10, file, 0, 10)
            assert not sender.transport.is_reading()

    run(main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_the_transport_is_closed_meanwhile(
    run: Run, ending: str, loop_kind: str, file: BinaryIO
) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio waits for ever")

    async def main() -> None:
        async with Sender("transport") as sender:
            task = asyncio.ensure_future(sender.send(file))
            await a_while()
            assert not task.done()
            getattr(sender.transport, ending)()
            with pytest.raises(ConnectionError, match="^Connection is closed by peer$"):
                await task
            assert await sender.protocol.ended() is None

    run(main())


def test_a_closing_transport(run: Run, file: BinaryIO) -> None:
    async def main() -> None:
        async with Sender("transport") as sender:
            sender.transport.close()
            with pytest.raises(RuntimeError, match="^Transport is closing$"):
                await sender.send(file)

    run(main())


def test_a_transport_that_cannot(run: Run, file: BinaryIO) -> None:
    async def main() -> None:
        class Own(asyncio.Transport):
            def is_closing(self) -> bool:
                return False

        transport = Own()
        with pytest.raises(RuntimeError) as info:
            await asyncio.get_running_loop().sendfile(transport, file)
        assert str(info.value) == f"sendfile is not supported for transport {transport!r}"

    run(main())


def test_the_fallback_minds_back_pressure(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            task = asyncio.ensure_future(
                asyncio.get_running_loop().sendfile(transport, io.BytesIO(DATA))
            )
            await until(lambda: transport.get_write_buffer_size() > 65536)
            await a_while()
            assert transport.get_write_buffer_size() < 1 << 17
            assert not task.done()
            assert await peer.read(len(DATA)) == DATA
            assert await task == len(DATA)
            assert transport.get_protocol() is protocol
            assert type(protocol) is Recorder
        await protocol.ended()

    run(main())
