"""connect_read_pipe and connect_write_pipe: pipes, FIFOs, sockets and pseudo-terminals.

Run on asyncio and on mioloop alike. The transport owns the file object that it is given: it makes
it non-blocking and closes it, once. A write transport notices that the reader has gone.
"""

import asyncio
import errno
import gc
import os
import socket
import sys
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_peer import Recorder, a_while, reports_of, until

Run = Callable[..., Any]

BIG = bytes(range(256)) * 4096  # 1 MiB


async def reading(file: Any) -> tuple[Any, Recorder]:
    return await asyncio.get_running_loop().connect_read_pipe(Recorder, file)


async def writing(file: Any) -> tuple[Any, Recorder]:
    return await asyncio.get_running_loop().connect_write_pipe(Recorder, file)


def pipe() -> tuple[Any, Any]:
    """Both ends of a pipe as unbuffered files."""
    read, write = os.pipe()
    return open(read, "rb", 0), open(write, "wb", 0)


def test_reading_a_pipe(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await reading(read)
        assert isinstance(transport, asyncio.ReadTransport)
        assert transport.get_extra_info("pipe") is read
        assert os.get_blocking(read.fileno()) is False
        assert protocol.calls == ["made"] and protocol.transport is transport
        write.write(b"first ")
        await protocol.got(6)
        write.write(b"second")
        write.close()
        assert await protocol.ended() is None
        assert protocol.data == b"first second"
        assert protocol.calls == ["made", "data", "eof", "lost"]
        assert read.closed and transport.is_closing()

    run(main())


def test_writing_a_pipe(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await writing(write)
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is write
        assert os.get_blocking(write.fileno()) is False
        assert transport.can_write_eof() is True
        transport.write(b"one ")
        transport.writelines([b"two ", bytearray(b"three "), memoryview(b"four")])
        transport.write(b"")
        assert os.read(read.fileno(), 100) == b"one two three four"
        assert transport.get_write_buffer_size() == 0
        transport.close()
        assert transport.is_closing() and protocol.calls == ["made"]
        assert await protocol.ended() is None
        assert write.closed
        assert read.read() == b""
        read.close()

    run(main())


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_a_megabyte_through_a_pipe(run: Run, method: str) -> None:
    """Both ends on the loop: the writer is paused and resumed, and closing flushes."""

    async def main() -> None:
        read, write = pipe()
        sender, sending = await writing(write)
        receiver, receiving = await reading(read)
        receiver.pause_reading()
        sender.write(BIG)
        assert sender.get_write_buffer_size() > 65536
        assert sending.calls == ["made", "pause"]
        getattr(sender, method)()
        assert sender.is_closing()
        await a_while(0.002)
        assert receiving.calls == ["made"] and not sending.lost
        receiver.resume_reading()
        assert await receiving.ended() is None
        assert await sending.ended() is None
        assert receiving.data == BIG
        assert sending.calls[:2] == ["made", "pause"] and sending.calls[-1] == "lost"

    run(main())


def test_pausing(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await reading(read)
        transport.pause_reading()
        transport.pause_reading()
        write.write(b"later")
        await a_while()
        assert protocol.calls == ["made"]
        transport.resume_reading()
        transport.resume_reading()
        await protocol.got(5)
        transport.pause_reading()
        transport.close()
        transport.resume_reading()
        assert await protocol.ended() is None
        assert protocol.calls == ["made", "data", "lost"]
        assert read.closed
        write.close()

    run(main())


def test_limits(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await writing(write)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1 << 20)
        transport.write(bytes(1 << 19))
        assert protocol.calls == ["made"]
        size = transport.get_write_buffer_size()
        transport.write(b"123")
        assert transport.get_write_buffer_size() == size + 3
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.ended() is None
        assert write.closed
        read.close()

    run(main())


def test_other_protocols(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await reading(read)
        other = Recorder()
        assert transport.get_protocol() is protocol
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        write.write(b"x")
        write.close()
        await other.ended()
        assert (protocol.calls, other.calls) == (["made"], ["data", "eof", "lost"])

    run(main())


# The other end goes away


def test_the_reader_goes_away(run: Run) -> None:
    """Noticed without a write: connection_lost(None)."""

    async def main() -> None:
        read, write = pipe()
        _, protocol = await writing(write)
        read.close()
        assert await protocol.ended() is None
        assert protocol.calls == ["made", "lost"]
        assert write.closed

    run(main())


def test_the_reader_goes_away_while_data_waits(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await writing(write)
        reports = reports_of(asyncio.get_running_loop())
        transport.write(BIG)
        assert transport.get_write_buffer_size() > 0
        read.close()
        assert type(await protocol.ended()) is BrokenPipeError
        assert reports == []

    run(main())


def test_a_write_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await writing(write)
        reports = reports_of(asyncio.get_running_loop())
        read.close()
        transport.write(b"x")
        assert type(await protocol.ended()) is BrokenPipeError
        assert reports == []
        for _ in range(10):
            transport.write(b"x")
        texts = {one.getMessage() for one in caplog.records}
        assert texts == {"pipe closed by peer or os.write(pipe, data) raised exception."}

    run(main())


def test_errors_in_data_received(run: Run) -> None:
    """For pipes it is an error of the loop's callback; the transport lives on."""

    async def main() -> None:
        read, write = pipe()
        _, protocol = await reading(read)
        reports = reports_of(asyncio.get_running_loop())

        def fail(data: bytes) -> None:
            raise LookupError("reason")

        protocol.data_received = fail  # type: ignore[method-assign]
        write.write(b"x")
        await until(lambda: reports)
        assert str(reports[0]["exception"]) == "reason"
        assert reports[0]["message"].startswith("Exception in callback ")
        del protocol.data_received
        write.write(b"y")
        assert await protocol.got(1) == b"y"
        write.close()
        await protocol.ended()

    run(main())


# Other files


def test_a_fifo_opened_twice(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        read = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
        first, second = open(path, "wb", 0), open(path, "wb", 0)
        _, protocol = await reading(read)
        one, _ = await writing(first)
        two, _ = await writing(second)
        one.write(b"one ")
        two.write(b"two")
        assert await protocol.got(7) == b"one two"
        one.close()
        await a_while(0.002)
        assert "eof" not in protocol.calls
        two.close()
        assert await protocol.ended() is None

    run(main())


def test_sockets_as_pipes(run: Run) -> None:
    async def main() -> None:
        (ours, theirs), (sink, source) = socket.socketpair(), socket.socketpair()
        reader, protocol = await reading(ours)
        writer, sending = await writing(sink)
        theirs.send(b"in")
        assert await protocol.got(2) == b"in"
        writer.write(b"out")
        assert source.recv(10) == b"out"
        theirs.close()
        source.close()
        assert await protocol.ended() is None
        assert await sending.ended() is None
        assert ours.fileno() == sink.fileno() == -1
        assert reader.is_closing() and writer.is_closing()

    run(main())


def test_the_same_end_twice(run: Run) -> None:
    """Two descriptors of one open file, each with a transport of its own."""

    async def main() -> None:
        read, write = pipe()
        _, protocol = await reading(read)
        first, one = await writing(open(os.dup(write.fileno()), "wb", 0))
        second, two = await writing(write)
        first.write(b"one ")
        second.write(b"two ")
        first.close()
        await one.ended()
        second.write(b"three")
        assert await protocol.got(13) == b"one two three"
        second.close()
        await two.ended()
        assert await protocol.ended() is None

    run(main())


def test_a_pseudo_terminal(run: Run) -> None:
    """Its master is read and written; EIO tells that the other side is closed."""

    async def main() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        reader, protocol = await reading(open(os.dup(master), "rb", 0))
        writer, sending = await writing(open(master, "wb", 0))
        reports = reports_of(asyncio.get_running_loop())
        writer.write(b"typed")
        assert os.read(slave, 10) == b"typed"
        os.write(slave, b"shown")
        assert await protocol.got(5) == b"shown"
        os.close(slave)
        error = await protocol.ended()
        assert isinstance(error, OSError) and error.errno == errno.EIO
        assert reports == []
        writer.close()
        assert await sending.ended() is None
        assert reader.is_closing()

    run(main())


def test_one_descriptor_for_both_directions(run: Run) -> None:
    """Two transports of one terminal: pausing one leaves the other alone."""

    async def main() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        source = open(master, "rb", 0)
        reader, protocol = await reading(source)
        writer, sending = await writing(open(master, "wb", 0, closefd=False))
        os.write(slave, b"one")
        assert await protocol.got(3) == b"one"
        writer.write(bytes(1 << 16))
        assert "polling" in repr(writer)
        reader.pause_reading()
        left = 1 << 16
        while left:
            left -= len(os.read(slave, 1 << 16))
            await a_while(0.0005)
        reader.resume_reading()
        os.write(slave, b"two")
        assert await protocol.got(6) == b"onetwo"
        writer.close()
        await sending.ended()
        reader.close()
        await protocol.ended()
        os.close(slave)

    run(main())


def test_nothing_is_resumed_when_the_reader_goes_away(run: Run) -> None:
    """The descriptor is then readable and writable at once."""

    async def main() -> None:
        read, write = pipe()
        transport, protocol = await writing(write)
        transport.write(BIG)
        read.close()
        assert type(await protocol.ended()) is BrokenPipeError
        await a_while(0.002)
        assert protocol.calls == ["made", "pause", "lost"]

    run(main())


def test_regular_files_are_refused(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with (tmp_path / "file").open("w+b") as file:
            with pytest.raises(ValueError) as info:
                await reading(file)
            assert str(info.value) == "Pipe transport is for pipes/sockets only."
            with pytest.raises(ValueError) as info:
                await writing(file)
            assert str(info.value) == (
                "Pipe transport is only for pipes, sockets and character devices"
            )
            assert not file.closed

    run(main())


@pytest.mark.parametrize("data", ["text", 5, [b"x"]], ids=repr)
def test_other_types_are_refused(run: Run, data: Any) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await writing(write)
        with pytest.raises(AssertionError):
            transport.write(data)
        transport.close()
        await protocol.ended()
        read.close()

    run(main())


# The descriptor


def test_the_file_is_closed_once(run: Run) -> None:
    """Its number, which goes to another file meanwhile, is not closed a second time."""

    async def main() -> None:
        for open_end in (0, 1):
            ends = pipe()
            number = ends[open_end].fileno()
            transport, protocol = await (reading, writing)[open_end](ends[open_end])
            transport.close()
            await protocol.ended()
            ends[1 - open_end].close()
            other, peer = socket.socketpair()
            assert number in (other.fileno(), peer.fileno())
            transport.close()
            del transport, protocol, ends
            gc.collect()
            await a_while(0.002)
            other.send(b"alive")
            assert peer.recv(10) == b"alive"
            other.close()
            peer.close()

    run(main())


def test_an_unclosed_transport_is_reported(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await reading(read)
        transport.pause_reading()
        del read
        with pytest.warns(ResourceWarning) as warned:
            del transport, protocol
            await asyncio.sleep(0)
            gc.collect()
        assert any(str(one.message).startswith("unclosed transport <") for one in warned)
        write.close()

    run(main())


def test_repr(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        reader, receiving = await reading(read)
        writer, sending = await writing(write)
        assert f"fd={read.fileno()} polling" in repr(reader)
        assert f"fd={write.fileno()} idle bufsize=0" in repr(writer)
        reader.pause_reading()
        assert f"fd={read.fileno()} idle" in repr(reader)
        writer.close()
        assert " closing " in repr(writer)
        reader.close()
        await receiving.ended()
        await sending.ended()
        assert " closed" in repr(reader) and " closed" in repr(writer)

    run(main())


def test_repr_when_the_loop_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    read, write = pipe()
    transport, protocol = loop.run_until_complete(reading(read))
    loop.close()
    assert f"fd={read.fileno()} open" in repr(transport)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, protocol
        gc.collect()
    write.close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pipe transports lack is_reading in 3.10")
def test_is_reading(run: Run) -> None:
    async def main() -> None:
        read, write = pipe()
        transport, protocol = await reading(read)
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert not transport.is_reading()
        await protocol.ended()
        write.close()

    run(main())
