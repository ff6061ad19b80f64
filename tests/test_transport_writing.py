"""What a stream transport sends: write, writelines, write_eof, close and abort.

Run on asyncio and on mioloop alike. What arrives, in which order, and what is an error. Flow
control, the limits and the callbacks that go with them are in test_flow_control.py.
"""

import array
import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import BIG, Peer, Recorder, connect, reports_of, until

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


class Bytes(bytes):
    """A subclass."""


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        Bytes(b"subclass"),
        bytearray(b"array"),
        memoryview(b"view"),
        memoryview(b"a slice of it")[2:7],
        memoryview(bytearray(b"writable")),
        memoryview(array.array("I", [1, 2, 3])),
        memoryview(b"\x00\xff").cast("b"),
    ],
    ids=repr,
)
def test_bytes_like_objects(run: Run, data: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            assert transport.write(data) is None
            transport.close()
            assert await peer.read() == bytes(data)
        await protocol.ended()

    run(main())


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"], array.array("B", [1])], ids=repr)
def test_other_types_are_refused(run: Run, data: Any) -> None:
    """A TypeError for the caller; the connection does not suffer."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            with pytest.raises(TypeError) as info:
                transport.write(data)
            wanted = "a bytes-like object"
            if sys.version_info >= (3, 14):
                wanted = "a bytes, bytearray, or memoryview object"
            name = type(data).__name__
            assert str(info.value) == f"data argument must be {wanted}, not {name!r}"
            transport.write(b"fine")
            assert await peer.read(4) == b"fine"
            transport.close()
            await protocol.ended()
            with pytest.raises(TypeError):
                transport.write(data)

    run(main())


def test_a_view_with_gaps_ends_the_connection(run: Run) -> None:
    """send() refuses it with a BufferError, and every error of send() is fatal."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        reports = reports_of(asyncio.get_running_loop())
        with peer:
            transport.write(memoryview(b"abcdef")[::2])
            error = await protocol.ended()
            assert type(error) is BufferError
            assert await peer.read() == b""
        assert reports == [
            {
                "message": "Fatal write error on socket transport",
                "exception": error,
                "transport": transport,
                "protocol": protocol,
            }
        ]

    run(main())


def test_nothing_to_write(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            for nothing in (b"", bytearray(), memoryview(b"")):
                transport.write(nothing)
            transport.writelines([])
            assert transport.get_write_buffer_size() == 0
            transport.close()
            assert await peer.read() == b""
        await protocol.ended()

    run(main())


def test_a_bytearray_may_change_after_write(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            data = bytearray(b"written")
            transport.write(data)
            data[:] = b"changed"
            data.clear()
            assert await peer.read(7) == b"written"
        await protocol.ended()

    run(main())


def test_a_bytearray_may_change_while_it_waits(run: Run, loop_kind: str) -> None:
    if loop_kind == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps a view since 3.12: it sends what is there later")

    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            data = bytearray(BIG)
            transport.write(data)
            tail = bytearray(b"tail")
            transport.write(tail)
            data[:] = bytes(len(data))
            tail[:] = b"gone"
            tail.clear()
            transport.close()
            assert await peer.read() == BIG + b"tail"
        await protocol.ended()

    run(main())


# Several pieces


def test_many_small_writes_in_one_callback(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        pieces = [b"%d," % number for number in range(20_000)]
        with peer:
            for piece in pieces:
                transport.write(piece)
            transport.close()
            assert await peer.read() == b"".join(pieces)
        await protocol.ended()

    run(main())


def test_large_and_small_writes_keep_their_order(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        expected = b""
        with peer:
            for number in range(1, 40):
                piece = bytes([number]) * (number * number * 50)
                expected += piece + b"<" + piece + b">"
                transport.write(piece)
                transport.writelines([b"<", bytearray(piece), memoryview(b">")])
            transport.close()
            assert await peer.read() == expected
        assert await protocol.ended() is None

    run(main())


def test_two_writes_have_arrived_by_the_next_callback(run: Run) -> None:
    """However a loop gathers writes, it sends them before the turn after."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await connect()
        got: list[bytes] = []
        with peer:
            transport.write(b"one ")
            transport.write(b"two")
            loop.call_soon(lambda: got.append(peer.sock.recv(100)))
            await asyncio.sleep(0)
            assert got == [b"one two"]
        await protocol.ended()

    run(main())


def test_a_crowd_writes_together_at_the_end_of_its_turn(run: Run, loop_kind: str) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio sends each write at once")

    def has_come(peer: Peer) -> bool:
        try:
            return bool(peer.sock.recv(100))
        except BlockingIOError:
            return False

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections = [await connect() for _ in range(3)]
        peers = [peer for _, _, peer in connections]
        came: list[list[bool]] = []
        for transport, _, _ in connections:
            loop.call_soon(transport.write, b"x")
        loop.call_soon(lambda: came.append([has_come(peer) for peer in peers]))
        await asyncio.sleep(0)  # this turn's last
        await asyncio.sleep(0)
        came.append([has_come(peer) for peer in peers])
        assert came == [[False] * 3, [True] * 3]
        for transport, protocol, peer in connections:
            transport.close()
            await protocol.ended()
            peer.close()

    run(main())


def test_an_exit_in_the_midst_of_a_crowd_loses_no_write(
    loop: Loop, loop_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only Python code that runs there is the log's, of a connection that has failed."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio sends each write at once")

    def leave(text: str, *args: object, **options: object) -> None:
        if "Fatal write error" in text:
            raise SystemExit

    async def main() -> Any:
        return [await connect() for _ in range(4)]

    connections = loop.run_until_complete(main())
    connections[0][0].get_extra_info("socket").shutdown(socket.SHUT_WR)
    loop.set_debug(True)
    monkeypatch.setattr(logging.getLogger("asyncio"), "debug", leave)
    for transport, _, _ in connections:
        loop.call_soon(transport.write, b"x")
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert [peer.sock.recv(100) for _, _, peer in connections] == [b"", b"x", b"x", b"x"]
    monkeypatch.undo()
    for transport, protocol, peer in connections:
        peer.close()
        transport.abort()
        loop.run_until_complete(protocol.ended())


def test_what_was_written_last_is_sent_before_the_loop_stops(loop: Loop) -> None:
    async def main() -> Any:
        transport, protocol, peer = await connect()
        transport.write(b"one ")
        transport.write(b"two")
        return transport, protocol, peer

    transport, protocol, peer = loop.run_until_complete(main())
    assert peer.sock.recv(100) == b"one two"
    transport.write(b"without a loop")
    assert peer.sock.recv(100) == b"without a loop"
    peer.close()
    loop.run_until_complete(protocol.ended())


def test_writelines(run: Run) -> None:
    async def main() -> None:
        for pieces in (
            [b"one"],
            [b"one ", bytearray(b"two "), memoryview(b"three")],
            (b"a", b"tuple"),
            [b"%d;" % number for number in range(3000)],  # more than IOV_MAX
            [BIG, b"between", BIG],
        ):
            transport, protocol, peer = await connect()
            with peer:
                assert transport.writelines(pieces) is None
                transport.close()
                assert await peer.read() == b"".join(pieces)
            await protocol.ended()
        transport, protocol, peer = await connect()
        with peer:
            transport.writelines(b"%d;" % number for number in range(5))
            assert await peer.read(10) == b"0;1;2;3;4;"
            transport.close()
        await protocol.ended()

    run(main())


def test_writelines_with_empty_pieces(run: Run, loop_kind: str) -> None:
    if loop_kind == "asyncio" and (3, 12) <= sys.version_info < (3, 14):
        pytest.skip("an empty piece is never sent and the loop spins (gh-155888)")

    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            transport.writelines([b""])
            transport.writelines([b"", b"one", b"", bytearray(), b"two", b""])
            assert transport.get_write_buffer_size() == 0
            transport.close()
            assert await peer.read() == b"onetwo"
        await protocol.ended()

    run(main())


def test_writelines_refuses_text(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        with peer:
            with pytest.raises(TypeError):
                transport.writelines(["text"])
            with pytest.raises(TypeError):
                transport.writelines(5)
            transport.abort()
        await protocol.ended()

    run(main())


def test_writing_within_connection_made(run: Run) -> None:
    class Greeting(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"hello ")
            transport.writelines([b"and ", b"welcome"])

    async def main() -> None:
        _, protocol, peer = await connect(Greeting)
        with peer:
            assert await peer.read(17) == b"hello and welcome"
        await protocol.ended()

    run(main())


def test_echo_of_everything(run: Run) -> None:
    """Both directions at once, from within data_received, with back pressure by the kernel."""

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        transport, protocol, peer = await connect(Echo)
        with peer:
            sending = asyncio.ensure_future(peer.send_all(BIG))
            assert await peer.read(len(BIG)) == BIG
            await sending
            await until(lambda: transport.get_write_buffer_size() == 0)
        assert await protocol.ended() is None

    run(main())
