"""Nothing is left behind: descriptors and registrations after cancels, churn and foul play.

Run on asyncio and on mioloop alike. Every coroutine of the network is cancelled after 0, 1, 2, ...
turns of the loop until one run completes; when all is closed, the process must have the
descriptors it had before, and its epoll instances must watch what they watched before.
"""

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_peer import Peer, Recorder, a_while, connect, tcp_pair, until

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]
Case = Callable[["Scene"], Any]


def footprint() -> tuple[int, int]:
    """(descriptors of the process, those that its epoll instances watch)."""
    count = watched = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # it was the listing's own
        count += 1
        if target == "anon_inode:[eventpoll]":
            watched += Path(f"/proc/self/fdinfo/{name}").read_text().count("tfd:")
    return count, watched


class Scene:
    """What the coroutines work on: made anew for each attempt, and closed after it."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.folder = folder
        self.closing: list[Any] = []

    def keep(self, thing: Any) -> Any:
        self.closing.append(thing)
        return thing

    def listener(self) -> socket.socket:
        return self.keep(socket.create_server(("127.0.0.1", 0)))

    def quiet_listener(self) -> socket.socket:
        sock = self.listener()
        sock.setblocking(False)
        return sock

    def sockets(self, family: int = socket.AF_UNIX, kind: int = socket.SOCK_STREAM) -> Any:
        pair = tcp_pair() if family == socket.AF_INET else socket.socketpair(family, kind)
        for sock in pair:
            sock.setblocking(False)
            self.keep(sock)
        return pair

    def unconnected(self) -> socket.socket:
        return self.keep(socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK))

    def stalled(self) -> Any:
        """The address of a listener whose queue is full."""
        sock = self.keep(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        self.keep(socket.create_connection(sock.getsockname()))
        return sock.getsockname()

    def full(self) -> socket.socket:
        ours, _ = self.sockets()
        try:
            while True:
                ours.send(bytes(1 << 16))
        except BlockingIOError:
            return ours

    def file(self) -> Any:
        (self.folder / "data").write_bytes(bytes(1 << 22))
        return self.keep((self.folder / "data").open("rb"))

    def pipe(self) -> list[Any]:
        read, write = os.pipe()
        return [self.keep(open(read, "rb", 0)), self.keep(open(write, "wb", 0))]

    def unix_path(self) -> str:
        sock = self.keep(socket.socket(socket.AF_UNIX))
        path = str(self.folder / f"socket{len(os.listdir(self.folder))}")
        sock.bind(path)
        sock.listen()
        return path

    def name(self) -> str:
        return str(self.folder / f"server{len(os.listdir(self.folder))}")

    async def close(self) -> None:
        for thing in self.closing:
            thing.close()
        await a_while(0.001)


CASES: dict[str, Case] = {
    "create_connection": lambda s: s.loop.create_connection(Recorder, *s.listener().getsockname()),
    "create_connection by name": lambda s: s.loop.create_connection(
        Recorder, "localhost", s.listener().getsockname()[1], family=socket.AF_INET
    ),
    "create_connection from an address": lambda s: s.loop.create_connection(
        Recorder, *s.listener().getsockname(), local_addr=("127.0.0.1", 0)
    ),
    "create_connection with a socket": lambda s: s.loop.create_connection(
        Recorder, sock=s.sockets(socket.AF_INET)[0]
    ),
    "connect_accepted_socket": lambda s: s.loop.connect_accepted_socket(Recorder, s.sockets()[0]),
    "create_unix_connection": lambda s: s.loop.create_unix_connection(Recorder, s.unix_path()),
    "create_datagram_endpoint": lambda s: s.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), remote_addr=("127.0.0.1", 9)
    ),
    "connect_read_pipe": lambda s: s.loop.connect_read_pipe(Recorder, s.pipe()[0]),
    "connect_write_pipe": lambda s: s.loop.connect_write_pipe(Recorder, s.pipe()[1]),
    "open_connection": lambda s: asyncio.open_connection(*s.listener().getsockname()),
    "sock_connect": lambda s: s.loop.sock_connect(s.unconnected(), s.listener().getsockname()),
    "getaddrinfo": lambda s: s.loop.getaddrinfo("localhost", 80),
}
# These wait until they are cancelled.
ENDLESS: dict[str, Case] = {
    "sock_recv": lambda s: s.loop.sock_recv(s.sockets()[0], 10),
    "sock_recv_into": lambda s: s.loop.sock_recv_into(s.sockets()[0], bytearray(10)),
    "sock_accept": lambda s: s.loop.sock_accept(s.quiet_listener()),
    "sock_connect": lambda s: s.loop.sock_connect(s.unconnected(), s.stalled()),
    "sock_sendall": lambda s: s.loop.sock_sendall(s.full(), b"x"),
    "sock_sendfile": lambda s: s.loop.sock_sendfile(s.full(), s.file()),
}
if sys.version_info >= (3, 11):
    ENDLESS |= {
        "sock_recvfrom": lambda s: s.loop.sock_recvfrom(s.sockets(kind=socket.SOCK_DGRAM)[0], 10),
        "sock_recvfrom_into": lambda s: s.loop.sock_recvfrom_into(
            s.sockets(kind=socket.SOCK_DGRAM)[0], bytearray(10)
        ),
    }
# Cancelled in their last await, asyncio's leave a listening server behind, or the socket that has
# won the race of happy eyeballs to the garbage collector.
LEAKING: dict[str, Case] = {
    "happy eyeballs": lambda s: s.loop.create_connection(
        Recorder,
        "localhost",
        s.listener().getsockname()[1],
        family=socket.AF_INET,
        happy_eyeballs_delay=0.01,
    ),
    "create_server": lambda s: s.loop.create_server(Recorder, "127.0.0.1", 0),
    "create_unix_server": lambda s: s.loop.create_unix_server(Recorder, s.name()),
    "start_server": lambda s: asyncio.start_server(print, "127.0.0.1", 0),
}


async def dispose(result: Any) -> None:
    """Closes what a coroutine has made."""
    for thing in result if isinstance(result, tuple) else (result,):
        if isinstance(thing, (asyncio.BaseTransport, asyncio.StreamWriter)):
            thing.close()
        elif isinstance(thing, asyncio.AbstractServer):
            thing.close()
            await thing.wait_closed()


async def attempt(case: Case, turns: int, folder: Path) -> bool:
    """Cancels the case's coroutine after so many turns; whether it was done before."""
    scene = Scene(folder)
    task = asyncio.ensure_future(case(scene))
    for _ in range(turns):
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    try:
        result = await task
    except asyncio.CancelledError:
        result = None
    await dispose(result)
    await scene.close()
    return done


async def cancel_everywhere(case: Case, folder: Path, most: int) -> int:
    await attempt(case, 1000, folder)  # threads and the like are made the first time
    gc.collect()  # what other tests have left
    before = footprint()
    for turns in range(most):
        done = await attempt(case, turns, folder)
        for _ in range(1000):  # a thread of the resolver may still have a file open
            if footprint() == before:
                break
            await asyncio.sleep(0.001)
        assert footprint() == before, f"left behind when cancelled after {turns} turns"
        if done:
            return turns
    return most


@pytest.mark.parametrize("name", CASES)
def test_cancelled_everywhere(run: Run, name: str, tmp_path: Path) -> None:
    turns = run(cancel_everywhere(CASES[name], tmp_path, 10_000))
    assert turns > 0


@pytest.mark.parametrize("name", ENDLESS)
def test_cancelled_while_waiting(run: Run, name: str, tmp_path: Path) -> None:
    assert run(cancel_everywhere_but_wait(ENDLESS[name], tmp_path)) == 8


async def cancel_everywhere_but_wait(case: Case, folder: Path) -> int:
    gc.collect()  # what other tests have left
    before = footprint()
    for turns in range(8):
        assert not await attempt(case, turns, folder)
        assert footprint() == before, f"left behind when cancelled after {turns} turns"
    return turns + 1


@pytest.mark.parametrize("name", LEAKING)
def test_cancelled_where_others_leak(run: Run, loop_kind: str, name: str, tmp_path: Path) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio leaves a server or a socket behind")
    run(cancel_everywhere(LEAKING[name], tmp_path, 10_000))


def test_server_cancelled_while_serving(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = footprint()
        for turns in range(5):
            server = await loop.create_server(Recorder, "127.0.0.1", 0)
            task = asyncio.ensure_future(server.serve_forever())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.close()
            await server.wait_closed()
            assert footprint() == before

    run(main())


def test_a_failed_connection_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            before = footprint()
            for _ in range(10):
                with pytest.raises(ConnectionRefusedError):
                    await loop.create_connection(Recorder, *taken.getsockname())
                with pytest.raises(OSError):
                    await loop.create_server(Recorder, "203.0.113.7", 0)
                with pytest.raises(OSError):
                    await loop.create_connection(
                        Recorder, *taken.getsockname(), local_addr=("203.0.113.7", 0)
                    )
            assert footprint() == before

    run(main())


@pytest.mark.slow
def test_a_thousand_connections_one_after_the_other(run: Run, loop_kind: str) -> None:
    thousand = 1000 if loop_kind == "mioloop" else 100  # asyncio takes long

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        before = footprint()
        for number in range(thousand):
            transport, protocol = await loop.create_connection(Recorder, *address)
            transport.write(b"%d" % number)
            await protocol.got(len(str(number)))
            if number % 3 == 0:
                transport.abort()
            else:
                transport.close()
            await protocol.ended()
            if number % 50 == 0:
                assert footprint()[0] <= before[0] + 4
        await until(lambda: footprint() == before)
        server.close()
        await server.wait_closed()

    run(main())


def test_a_descriptor_that_is_closed_behind_the_transports_back(run: Run) -> None:
    """Its number goes to another socket: what comes there is nobody else's, the loop lives."""

    async def main() -> None:
        _, good, good_peer = await connect()
        transport, protocol, peer = await connect()
        number = transport.get_extra_info("socket").fileno()
        other, theirs = socket.socketpair()
        os.close(number)
        os.dup2(other.fileno(), number, inheritable=False)
        other.close()
        ours = socket.socket(fileno=number)
        ours.setblocking(False)
        theirs.send(b"not for the transport")
        peer.close()
        await a_while()
        assert protocol.calls == ["made"]
        assert ours.recv(100) == b"not for the transport"
        good_peer.send(b"fine")
        assert await good.got(4) == b"fine"
        # The transport will close its number; our socket lives on under another.
        with Peer(ours.dup()) as kept, theirs:
            ours.detach()
            transport.abort()
            await protocol.ended()
            theirs.send(b"still there")
            assert await kept.read(11) == b"still there"
        good_peer.close()
        await good.ended()

    run(main())


def test_a_cancelled_connection_closes_its_socket_once(run: Run) -> None:
    """The number goes to another connection at once: nothing may touch that one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for turns in range(1, 6):
            ours, theirs = tcp_pair()
            number = ours.fileno()
            task = asyncio.ensure_future(loop.create_connection(Recorder, sock=ours))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                transport, _ = await task
                transport.close()
            except asyncio.CancelledError:
                pass
            await until(lambda: ours.fileno() == -1)  # noqa: B023
            theirs.close()
            transport, protocol, peer = await connect()
            del task
            gc.collect()
            await a_while(0.002)
            assert number >= 0
            with peer:
                transport.write(b"mine")
                assert await peer.read(4) == b"mine"
                assert protocol.calls == ["made"]
            await protocol.ended()

    run(main())


def test_a_watched_descriptor_that_is_closed_before_the_loop_looks(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for add, remove in (
            (loop.add_reader, loop.remove_reader),
            (loop.add_writer, loop.remove_writer),
        ):
            ours, theirs = socket.socketpair()
            number = ours.fileno()
            add(number, print)
            ours.close()
            await a_while(0.002)
            remove(number)
            theirs.close()
        transport, protocol, peer = await connect()
        peer.send(b"fine")
        assert await protocol.got(4) == b"fine"
        transport.abort()
        await protocol.ended()
        peer.close()

    run(main())


def test_a_number_that_was_closed_and_given_to_another_connection(run: Run, loop_kind: str) -> None:
    """The transport that had it ends; nothing of what it writes goes to its successor."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio writes to whoever has the number")

    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        old, old_protocol, old_peer = await connect()
        number = old.get_extra_info("socket").fileno()
        with Peer(socket.create_connection(server.sockets[0].getsockname())) as peer:
            os.close(number)
            lower = [os.dup(0)]
            while lower[-1] < number:
                lower.append(os.dup(0))
            for filler in lower:
                if filler >= number:
                    os.close(filler)
            await until(lambda: bool(made))  # accepted, with the lowest number that is free
            await until(lambda: made[0].calls == ["made"])
            new = made[0].transport
            assert new._sock_fd == number
            old.write(b"to nobody")
            assert isinstance(await old_protocol.ended(), OSError)
            new.write(b"mine")
            assert await peer.read(4) == b"mine"
            peer.send(b"yours")
            assert await made[0].got(5) == b"yours"
            for filler in lower:
                if filler < number:
                    os.close(filler)
        await made[0].ended()
        old_peer.close()
        server.close()
        await server.wait_closed()

    run(main())
