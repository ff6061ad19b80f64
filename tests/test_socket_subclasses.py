"""Sockets with methods of their own: what a subclass overrides is called, as asyncio calls it.

Run on asyncio and on mioloop alike. The subclass counts its calls and turns every byte around,
so that data which passed it by would be wrong.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import (
    BIG,
    DATAGRAMS,
    BufferedRecorder,
    Peer,
    Recorder,
    a_while,
    cancelled,
    until,
    waiting,
)

Run = Callable[..., Any]
Pair = tuple[socket.socket, socket.socket]

TABLE = bytes(range(255, -1, -1))


def turned(data: Any) -> bytes:
    return bytes(data).translate(TABLE)


class Turning(socket.socket):
    """Turns the bits of what it sends and receives."""

    calls: list[str]

    @classmethod
    def of(cls, sock: socket.socket) -> "Turning":
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.setblocking(False)
        made.calls = []
        return made

    def recv(self, *args: Any) -> bytes:
        self.calls.append("recv")
        return turned(super().recv(*args))

    def recv_into(self, buffer: Any, *args: Any) -> int:
        self.calls.append("recv_into")
        count = super().recv_into(buffer, *args)
        memoryview(buffer)[:count] = turned(memoryview(buffer)[:count])
        return count

    def recvfrom(self, *args: Any) -> tuple[bytes, Any]:
        self.calls.append("recvfrom")
        data, address = super().recvfrom(*args)
        return turned(data), address

    def recvfrom_into(self, buffer: Any, *args: Any) -> tuple[int, Any]:
        self.calls.append("recvfrom_into")
        count, address = super().recvfrom_into(buffer, *args)
        memoryview(buffer)[:count] = turned(memoryview(buffer)[:count])
        return count, address

    def send(self, data: Any, *args: Any) -> int:
        self.calls.append("send")
        return super().send(turned(data), *args)

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        self.calls.append("sendmsg")
        return super().sendmsg([turned(data) for data in buffers], *args)

    def sendto(self, data: Any, *args: Any) -> int:  # type: ignore[override]
        self.calls.append("sendto")
        return super().sendto(turned(data), *args)

    def connect(self, address: Any) -> None:
        self.calls.append("connect")
        super().connect(address)

    def accept(self) -> tuple[Any, Any]:
        self.calls.append("accept")
        sock, address = super().accept()
        return Turning.of(sock), address


# sock_*


def test_receiving(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = Turning.of(pair[0]), pair[1]
        with ours:
            for size in (10, 2):
                task = await waiting(loop.sock_recv(ours, size))
                theirs.send(turned(b"some"))
                assert await task == b"some"[:size]
            assert await loop.sock_recv(ours, 10) == b"me"
            assert ours.calls == ["recv"] * 5
            buffer = bytearray(10)
            task = await waiting(loop.sock_recv_into(ours, buffer))
            theirs.send(turned(b"into"))
            assert (await task, buffer[:4]) == (4, b"into")
            assert ours.calls[5:] == ["recv_into"] * 2
            await cancelled(await waiting(loop.sock_recv(ours, 10)))
            assert loop.remove_reader(ours) is False

    run(main())


def test_sending(run: Run, pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = Turning.of(pair[0]), pair[1]
        with ours:
            assert await loop.sock_sendall(ours, b"small") is None
            assert ours.calls == ["send"]
            task = await waiting(loop.sock_sendall(ours, BIG))
            assert await Peer(theirs).read(5 + len(BIG)) == turned(b"small" + BIG)
            assert await task is None
            assert set(ours.calls) == {"send"} and len(ours.calls) > 3

    run(main())


@DATAGRAMS
def test_datagrams(run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, two = map(Turning.of, datagrams)
        with one, two:
            address = two.getsockname()
            assert await loop.sock_sendto(one, b"hello", address) == 5
            assert await loop.sock_recvfrom(two, 10) == (b"hello", one.getsockname())
            task = await waiting(loop.sock_recvfrom_into(two, buffer := bytearray(10)))
            await loop.sock_sendto(one, b"again", address)
            assert await task == (5, one.getsockname())
            assert buffer[:5] == b"again"
            assert one.calls == ["sendto"] * 2
            assert two.calls == ["recvfrom"] + ["recvfrom_into"] * 2

    run(main())


def test_connecting_and_accepting(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Turning.of(listener) as server, Turning.of(socket.socket()) as client:
            task = await waiting(loop.sock_accept(server))
            await loop.sock_connect(client, server.getsockname())
            accepted, name = await task
            with accepted:
                assert type(accepted) is Turning and accepted.gettimeout() == 0
                assert name == client.getsockname()
            assert server.calls == ["accept"] * 2
            assert client.calls == ["connect"]

    run(main())


def test_an_error_of_its_own(run: Run, pair: Pair) -> None:
    class Failing(Turning):
        def recv(self, *args: Any) -> bytes:
            if super().recv(*args):
                raise LookupError("mine")
            return b""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Failing.of(pair[0]) as ours:
            task = await waiting(loop.sock_recv(ours, 10))
            pair[1].send(b"x")
            with pytest.raises(LookupError, match="^mine$"):
                await task
            pair[1].send(b"x")
            with pytest.raises(LookupError, match="^mine$"):
                await loop.sock_recv(ours, 10)

    run(main())


def test_a_subclass_that_overrides_nothing(run: Run, pair: Pair) -> None:
    class Plain(socket.socket):
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Plain(fileno=pair[0].detach()) as ours:
            ours.setblocking(False)
            task = await waiting(loop.sock_recv(ours, 10))
            pair[1].send(b"x")
            assert await task == b"x"
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            pair[1].send(b"y")
            assert await protocol.got(1) == b"y"
            transport.close()
            await protocol.ended()

    run(main())


def test_an_object_that_is_no_socket(run: Run, pair: Pair) -> None:
    class Like:
        __slots__ = ()

        def fileno(self) -> int:
            return pair[0].fileno()

        def recv(self, size: int) -> bytes:
            return pair[0].recv(size)[::-1]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for _ in range(2):
            task = await waiting(loop.sock_recv(Like(), 10))
            pair[1].send(b"abc")
            assert await task == b"cba"

    run(main())


def test_a_method_that_is_replaced_for_all(
    run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        theirs.send(b"data")
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "recv", lambda self, size: b"patched", raising=False)
            assert await loop.sock_recv(ours, 10) == b"patched"
        assert await loop.sock_recv(ours, 10) == b"data"

    run(main())


# Transports


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_a_connection(run: Run, pair: Pair, kind: Callable[[], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, peer = Turning.of(pair[0]), Peer(pair[1])
        transport, protocol = await loop.create_connection(kind, sock=ours)
        assert repr(transport).startswith(f"<{type(transport).__name__} fd={ours.fileno()} read=")
        peer.send(turned(b"hello"))
        assert await protocol.got(5) == b"hello"
        transport.write(b"small")
        transport.writelines([b"two ", b"parts"])
        transport.write(BIG)
        assert await peer.read(14 + len(BIG)) == turned(b"smalltwo parts" + BIG)
        assert ours.calls.count("recv" if kind is Recorder else "recv_into") >= 1
        assert "send" in ours.calls
        with pytest.raises(RuntimeError, match=f"is used by transport <{type(transport).__name__}"):
            loop.remove_reader(ours)
        transport.close()
        assert await protocol.ended() is None
        assert ours.fileno() == -1
        assert repr(transport).startswith(f"<{type(transport).__name__} closed fd=")

    run(main())


def test_a_server(run: Run, listener: socket.socket) -> None:
    """Its connections are of the class that its `accept()` gives."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        sock = Turning.of(listener)
        server = await loop.create_server(factory, sock=sock)
        with Peer(socket.create_connection(sock.getsockname())) as peer:
            peer.send(turned(b"hello"))
            await until(lambda: made and made[0].data == b"hello")
            made[0].transport.write(b"good bye")
            assert await peer.read(8) == turned(b"good bye")
        await made[0].ended()
        assert "accept" in sock.calls
        server.close()
        await server.wait_closed()

    run(main())


def test_a_datagram_endpoint(run: Run, datagrams: Pair) -> None:
    class Received(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: list[Any] = []

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got.append((data, addr))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours = Turning.of(datagrams[0])
        address = ours.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(Received, sock=ours)
        datagrams[1].sendto(turned(b"hello"), address)
        await until(lambda: protocol.got == [(b"hello", datagrams[1].getsockname())])
        transport.sendto(b"good bye", datagrams[1].getsockname())
        await until(lambda: "sendto" in ours.calls)
        assert datagrams[1].recvfrom(10) == (turned(b"good bye"), address)
        transport.close()

    run(main())


def test_sending_a_file(run: Run, pair: Pair, tmp_path: Any) -> None:
    """The kernel copies; no method is called for that on asyncio either."""
    path = tmp_path / "file"
    path.write_bytes(b"contents")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, sock=Turning.of(pair[0]))
        with path.open("rb") as file:
            assert await loop.sendfile(transport, file) == 8
        assert await Peer(pair[1]).read(8) == b"contents"
        pair[1].send(turned(b"reads on"))
        assert await protocol.got(8) == b"reads on"
        transport.close()
        await protocol.ended()

    run(main())


def test_closed_while_it_sends_a_file(run: Run, loop_kind: str, pair: Pair, tmp_path: Any) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio waits for ever")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Recorder, sock=Turning.of(pair[0]))
        with (tmp_path / "file").open("w+b") as file:
            file.truncate(1 << 24)
            task = asyncio.ensure_future(loop.sendfile(transport, file))
            await a_while()
            assert not task.done()
            transport.abort()
            with pytest.raises(ConnectionError, match="^Connection is closed by peer$"):
                await task
        assert await protocol.ended() is None

    run(main())


def test_an_attribute_of_the_instance(run: Run, pair: Pair) -> None:
    class Plain(socket.socket):
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours: Any = Plain(fileno=pair[0].detach())
        ours.setblocking(False)
        ours.recv = lambda size: turned(socket.socket.recv(ours, size))
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        pair[1].send(turned(b"hello"))
        assert await protocol.got(5) == b"hello"
        transport.close()
        await protocol.ended()

    run(main())
