"""Servers: create_server and the Server object, from listening to wait_closed.

Run on asyncio and on mioloop alike. What wait_closed and the cancelling of serve_forever wait for
has changed between versions; the tests say which. Unix servers are in test_unix_sockets.py.
"""

import asyncio
import errno
import functools
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import Recorder, Serving, a_while, refuses, until

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


def test_a_connection_from_accept_to_the_end(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start()
        assert serving.server.is_serving()
        protocol, peer = await serving.client()
        transport = protocol.transport
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert transport.get_extra_info("sockname") == serving.address
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert os.get_inheritable(sock.fileno()) is False
        assert os.get_blocking(sock.fileno()) is False
        peer.send(b"question")
        assert await protocol.got(8) == b"question"
        transport.write(b"answer")
        transport.close()
        assert await peer.read() == b"answer"
        assert await protocol.ended() is None
        await serving.stop()

    run(main())


def test_the_server_object(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        serving = await Serving().start()
        server = serving.server
        assert isinstance(server, asyncio.AbstractServer)
        assert server.get_loop() is loop
        assert type(server.sockets) is tuple
        [sock] = server.sockets
        assert type(sock) is asyncio.trsock.TransportSocket
        assert os.get_inheritable(sock.fileno()) is False
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert repr(server).startswith("<Server sockets=(<")
        server.close()
        assert server.sockets == () and not server.is_serving()
        assert repr(server) == "<Server sockets=()>"
        server.close()
        await server.wait_closed()
        assert refuses(serving.address)

    run(main())


# Where it listens


def test_several_hosts(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for hosts in (["127.0.0.1", "127.0.0.2", "::1", "127.0.0.1"], ("127.0.0.2",), {"::1"}):
            server = await loop.create_server(Recorder, hosts, 0)
            assert {one.getsockname()[0] for one in server.sockets} == set(hosts)
            assert len(server.sockets) == len(set(hosts))
            server.close()
            await server.wait_closed()

    run(main())


@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces(run: Run, host: str | None) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Recorder, host, 0)
        families = {one.family: one for one in server.sockets}
        assert set(families) == {socket.AF_INET, socket.AF_INET6}
        assert families[socket.AF_INET].getsockname()[0] == "0.0.0.0"
        only = families[socket.AF_INET6].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        assert only == 1
        server.close()
        await server.wait_closed()

    run(main())


def test_family_and_names(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "localhost", 0, family=socket.AF_INET)
        assert [one.family for one in server.sockets] == [socket.AF_INET]
        server.close()
        server = await loop.create_server(Recorder, None, 0, family=socket.AF_INET6)
        assert [one.family for one in server.sockets] == [socket.AF_INET6]
        server.close()

    run(main())


def test_options_of_the_socket(run: Run) -> None:
    async def main() -> None:
        def option(serving: Serving, name: int) -> int:
            return serving.server.sockets[0].getsockopt(socket.SOL_SOCKET, name)

        for keywords, reuse, port in (
            ({}, 1, 0),
            ({"reuse_address": False}, 0, 0),
            ({"reuse_address": True}, 1, 0),
            ({"reuse_port": True}, 1, 1),
            ({"reuse_port": False}, 1, 0),
        ):
            serving = await Serving().start(**keywords)
            assert option(serving, socket.SO_REUSEADDR) == reuse
            assert option(serving, socket.SO_REUSEPORT) == port
            assert option(serving, socket.SO_KEEPALIVE) == 0
            await serving.stop()
        if sys.version_info >= (3, 13):
            serving = await Serving().start(keep_alive=True)
            assert option(serving, socket.SO_KEEPALIVE) == 1
            await serving.stop()

    run(main())


@pytest.mark.parametrize("backlog", [100, 7])
def test_backlog(run: Run, backlog: int) -> None:
    """The kernel tells the length of a listener's queue in TCP_INFO, as the ss command shows."""

    async def main() -> None:
        serving = await Serving().start(**({} if backlog == 100 else {"backlog": backlog}))
        info = serving.server.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        assert struct.unpack_from("I", info, 28) == (backlog,)
        await serving.stop()

    run(main())


def test_reuse_port_lets_two_servers_share_a_port(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
        address = first.sockets[0].getsockname()
        second = await loop.create_server(Recorder, *address, reuse_port=True)
        assert second.sockets[0].getsockname() == address
        for server in (first, second):
            server.close()
            await server.wait_closed()

    run(main())


def test_a_socket_of_ones_own(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = await loop.create_server(Recorder, sock=sock)
        assert server.sockets[0].fileno() == sock.fileno()
        assert sock.gettimeout() == 0
        address = sock.getsockname()
        with socket.create_connection(address):
            server.close()
        assert sock.fileno() == -1
        await a_while(0.002)

    run(main())


def test_an_address_in_use(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = taken.getsockname()
            with pytest.raises(OSError) as info:
                await loop.create_server(Recorder, *address)
        reason = "address already in use"
        if sys.version_info >= (3, 13):
            reason = f"[errno {errno.EADDRINUSE}] {reason}"
        assert info.value.errno == errno.EADDRINUSE
        assert info.value.strerror == (
            f"error while attempting to bind on address {address!r}: {reason}"
        )

    run(main())


def test_an_address_that_is_not_ours(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(OSError) as info:
            await asyncio.get_running_loop().create_server(Recorder, "203.0.113.7", 0)
        address = ("203.0.113.7", 0)
        if sys.version_info >= (3, 13):
            assert str(info.value) == f"could not bind on any address out of [{address!r}]"
        else:
            assert info.value.errno == errno.EADDRNOTAVAIL
            assert info.value.strerror == (
                f"error while attempting to bind on address {address!r}: "
                "cannot assign requested address"
            )

    run(main())


def test_contradictory_arguments(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            cases: list[tuple[type, str, tuple[Any, ...], dict[str, Any]]] = [
                (ValueError, "Neither host/port nor sock were specified", (), {}),
                (
                    ValueError,
                    "host/port and sock can not be specified at the same time",
                    ("127.0.0.1", 0),
                    {"sock": stream},
                ),
                (
                    ValueError,
                    f"A Stream Socket was expected, got {datagram!r}",
                    (),
                    {"sock": datagram},
                ),
                (TypeError, "ssl argument must be an SSLContext or None", (), {"ssl": True}),
                (
                    ValueError,
                    "ssl_handshake_timeout is only meaningful with ssl",
                    ("127.0.0.1", 0),
                    {"ssl_handshake_timeout": 1},
                ),
            ]
            for error, text, args, keywords in cases:
                with pytest.raises(error) as info:
                    await loop.create_server(Recorder, *args, **keywords)
                assert str(info.value) == text

    run(main())


# Serving


def test_start_serving_false(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start(start_serving=False)
        server = serving.server
        assert not server.is_serving() and len(server.sockets) == 1
        assert refuses(serving.address)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        await serving.client()
        await serving.stop()

    run(main())


def test_serve_forever(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start(start_serving=False)
        server = serving.server
        task = asyncio.ensure_future(server.serve_forever())
        await until(server.is_serving)
        _, peer = await serving.client()
        with pytest.raises(RuntimeError) as info:
            await server.serve_forever()
        assert str(info.value) == (f"server {server!r} is already being awaited on serve_forever()")
        peer.close()
        await serving.protocols[0].ended()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving() and server.sockets == ()
        with pytest.raises(RuntimeError, match="^server <Server sockets=.*> is closed$"):
            await server.serve_forever()

    run(main())


def test_close_ends_serve_forever(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start()
        task = asyncio.ensure_future(serving.server.serve_forever())
        await a_while(0.002)
        serving.server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 14), reason="3.12 and 3.13 wait there for the clients"
)
def test_cancelling_serve_forever_with_clients(run: Run) -> None:
    """Until 3.11 it leaves the clients alone, from 3.14 on it closes them."""

    async def main() -> None:
        serving = await Serving().start()
        task = asyncio.ensure_future(serving.server.serve_forever())
        protocol, _ = await serving.client()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert protocol.transport.is_closing() == (sys.version_info >= (3, 14))
        await serving.stop()

    run(main())


def test_async_with(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start()
        async with serving.server as server:
            assert server is serving.server and server.is_serving()
        assert not server.is_serving()
        assert refuses(serving.address)

    run(main())


def test_close_leaves_the_connections(run: Run) -> None:
    async def main() -> None:
        serving = await Serving().start()
        protocol, peer = await serving.client()
        serving.server.close()
        assert refuses(serving.address)
        peer.send(b"still here")
        assert await protocol.got(10) == b"still here"
        assert not protocol.transport.is_closing()
        await serving.stop()

    run(main())


def test_wait_closed(run: Run) -> None:
    """From 3.12.1 on it waits for the server's end and the last client's, in either order."""

    async def main() -> None:
        serving = await Serving().start()
        protocol, peer = await serving.client()
        waiting = asyncio.ensure_future(serving.server.wait_closed())
        await a_while(0.002)
        assert not waiting.done()
        serving.server.close()
        if sys.version_info >= (3, 12):
            await a_while(0.002)
            assert not waiting.done()
            again = asyncio.ensure_future(serving.server.wait_closed())
        else:
            # Until 3.11 it returns at once when the server is closed already.
            again = asyncio.ensure_future(serving.server.wait_closed())
            await asyncio.wait_for(again, 10)
        peer.close()
        await protocol.ended()
        await asyncio.wait_for(asyncio.gather(waiting, again), 10)
        await serving.stop()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_closing_the_clients(run: Run, method: str) -> None:
    async def main() -> None:
        serving = await Serving().start()
        protocols = [(await serving.client())[0] for _ in range(3)]
        big = bytes(8 << 20)
        protocols[0].transport.write(big)
        assert protocols[0].transport.get_write_buffer_size() > 0
        assert getattr(serving.server, method)() is None
        assert all(one.transport.is_closing() for one in protocols)
        assert serving.server.is_serving()
        data = await serving.peers[0].read()
        assert (len(data) == len(big)) == (method == "close_clients")
        for protocol in protocols:
            assert await protocol.ended() is None
        await serving.client()
        await serving.stop()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a set of transports is new in 3.13")
@pytest.mark.parametrize("change", ["nothing", "on the server", "on the class"])
def test_the_servers_set_of_transports(
    run: Run, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak set, which methods of asyncio's server fill and empty: replaced ones are called."""

    async def main() -> None:
        serving = await Serving().start()
        server: Any = serving.server
        calls: list[str] = []

        def spy(name: str) -> None:
            original = getattr(type(server), name)

            def method(self: Any, transport: Any) -> None:
                calls.append(name)
                original(self, transport)

            if change == "on the server":
                monkeypatch.setattr(server, name, functools.partial(method, server))
            else:
                monkeypatch.setattr(type(server), name, method)

        if change != "nothing":
            spy("_attach")
            spy("_detach")
        protocols = [(await serving.client())[0] for _ in range(3)]
        transports = {protocol.transport for protocol in protocols}
        assert set(server._clients) == transports and len(server._clients) == 3
        for protocol in protocols:
            protocol.transport.abort()
            assert await protocol.ended() is None
        assert len(server._clients) == 0
        expected = [] if change == "nothing" else ["_attach"] * 3 + ["_detach"] * 3
        assert calls == expected
        await serving.client()
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        await a_while()
        assert not waiting.done()
        serving.protocols[-1].transport.abort()
        await waiting
        await serving.stop()

    run(main())
