"""Servers in trouble: factories that fail, clients that vanish, no descriptors left.

Run on asyncio and on mioloop alike. Whatever happens to one connection, the others and the
server go on. What a server does in good times is in test_server.py.
"""

import asyncio
import gc
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from network_peer import Peer, Recorder, Serving, a_while, until

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


# Trouble


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("debug", [False, True])
def test_a_factory_that_raises(run: Run, debug: bool) -> None:
    """That connection is dropped, others work; only debug mode reports it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        # Kept as text: the exception's traceback would keep the accepted socket.
        reports: list[tuple[str, str]] = []
        loop.set_exception_handler(
            lambda _, told: reports.append((told["message"], str(told["exception"])))
        )
        made: list[Recorder] = []
        failures: list[int] = []

        def factory() -> Recorder:
            if len(failures) < 2:
                failures.append(1)
                raise LookupError("factory")
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for number in range(2):
            with Peer(socket.create_connection(address)) as peer:
                await until(lambda: len(failures) > number)  # noqa: B023
                await a_while(0.002)
                gc.collect()  # asyncio leaves the socket to the collector in debug mode
                assert await peer.read() == b""
        with Peer(socket.create_connection(address)) as peer:
            peer.send(b"fine")
            await until(lambda: made)
            assert await made[0].got(4) == b"fine"
        await made[0].ended()
        server.close()
        text = "Error on transport creation for incoming connection"
        assert reports == ([(text, "factory")] * 2 if debug else [])

    run(main(), debug=debug)


def test_many_connections_at_once(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start(backlog=200)
        sockets = [socket.socket() for _ in range(100)]
        for sock in sockets:
            sock.connect(serving.address)
            sock.send(b"%d" % sock.fileno())
        await until(lambda: len([one for one in serving.protocols if one.data]) == 100)
        numbers = sorted(int(one.data) for one in serving.protocols)
        assert numbers == sorted(sock.fileno() for sock in sockets)
        for sock in sockets:
            sock.close()
        await serving.stop()

    run(main())


def test_a_client_that_is_gone_before_accept(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start()
        for _ in range(5):
            Peer(socket.create_connection(serving.address)).reset()
            socket.create_connection(serving.address).close()
        _, peer = await serving.client()
        peer.send(b"x")
        await until(lambda: any(one.data == b"x" for one in serving.protocols))
        await serving.stop()

    run(main())


def test_the_peers_name_is_known_though_it_is_gone(run: Run) -> None:
    """It comes from accept(), not from asking the socket afterwards."""

    async def main() -> None:
        serving = await Serving().start()
        names = []
        for method in ("close", "reset"):
            peer = Peer(socket.create_connection(serving.address))
            names.append(peer.sock.getsockname())
            getattr(peer, method)()
        await until(lambda: [one for one in serving.protocols if one.lost][1:])
        transports = [one.transport for one in serving.protocols]
        assert sorted(one.get_extra_info("peername") for one in transports) == sorted(names)
        await serving.stop()

    run(main())


def test_debug_mode(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The same works, and the log says so."""

    async def main() -> None:
        serving = await Serving().start()
        transport, protocol = await asyncio.get_running_loop().create_connection(
            Recorder, *serving.address
        )
        await until(lambda: serving.protocols and serving.protocols[0].transport)
        accepted = serving.protocols[0]
        transport.write(b"question")
        assert await accepted.got(8) == b"question"
        accepted.transport.pause_reading()
        accepted.transport.resume_reading()
        transport.write_eof()
        await accepted.ended()
        assert await protocol.ended() is None
        await serving.stop()
        texts = [one.getMessage() for one in caplog.records if one.name == "asyncio"]
        for part in (
            "<Server sockets=.*> is serving",
            f" connected to 127.0.0.1:{serving.address[1]}: ",
            "<.*> pauses reading",
            "<.*> resumes reading",
            "<.*> received EOF",
        ):
            assert any(re.search(part, text) for text in texts), part

    with caplog.at_level("DEBUG", logger="asyncio"):
        run(main(), debug=True)


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


OUT_OF_DESCRIPTORS = """
    import resource

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    def report(loop, context):
        assert context["message"] == "socket.accept() out of system resource", context
        assert context["exception"].errno == 24
        assert type(context["socket"]) is asyncio.trsock.TransportSocket
        say("exhausted")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 6, highest + 6))
        say(server.sockets[0].getsockname()[1])
        say("ready")
        await asyncio.sleep(3600)

    new_loop().run_until_complete(main())
"""


@pytest.mark.slow
def test_out_of_descriptors(loop_kind: str, clients: list[socket.socket]) -> None:
    """accept() fails: reported, serving pauses for a second, no connection is lost."""
    from child_script import ChildScript

    script = ChildScript(loop_kind, OUT_OF_DESCRIPTORS)

    def echo(sock: socket.socket) -> None:
        sock.send(b"ping")
        assert sock.recv(4) == b"ping"

    try:
        script.expect("ready")
        port = int(script.lines[0])
        for _ in range(12):
            clients.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        script.expect("exhausted")
        echo(clients[0])
        for sock in clients[:6]:
            sock.close()
        for sock in clients[6:]:
            echo(sock)
    finally:
        script.process.kill()
        script.finish()
