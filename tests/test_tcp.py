"""create_connection and connect_accepted_socket: how a TCP connection comes about, or does not.

Run on asyncio and on mioloop alike. What flows through a transport is in test_transport_*.py,
servers are in test_server.py, and cancelling at each await point in test_connection_leaks.py.
"""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import Peer, Recorder, check_and_close, tcp_pair, until

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


def test_connects_by_address_and_by_name(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        port = listener.getsockname()[1]
        for host, number in (("127.0.0.1", port), ("127.0.0.1", str(port)), ("localhost", port)):
            transport, protocol = await loop.create_connection(
                Recorder, host, number, family=socket.AF_INET
            )
            assert protocol.calls == ["made"] and protocol.transport is transport
            await check_and_close(transport, protocol, listener)
            assert protocol.calls == ["made", "data", "eof", "lost"]

    run(main())


def test_every_keyword(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        port = listener.getsockname()[1]
        keywords: dict[str, Any] = {
            "ssl": None,
            "family": socket.AF_INET,
            "proto": socket.IPPROTO_TCP,
            "flags": socket.AI_NUMERICHOST,
            "sock": None,
            "local_addr": ("127.0.0.1", 0),
            "server_hostname": None,
            "ssl_handshake_timeout": None,
            "happy_eyeballs_delay": 0.25,
            "interleave": 1,
        }
        if sys.version_info >= (3, 11):
            keywords["ssl_shutdown_timeout"] = None
        if sys.version_info >= (3, 12):
            keywords["all_errors"] = False
        loop = asyncio.get_running_loop()
        connection = await loop.create_connection(
            protocol_factory=Recorder, host="127.0.0.1", port=port, **keywords
        )
        await check_and_close(*connection, listener)
        with pytest.raises(TypeError, match="colour"):
            await loop.create_connection(Recorder, "127.0.0.1", port, colour="red")
        with pytest.raises(TypeError):
            await loop.create_connection(Recorder, "127.0.0.1", port, None)

    run(main())


def test_ipv6(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            port = listener.getsockname()[1]
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, "::1", port
            )
            assert transport.get_extra_info("peername") == ("::1", port, 0, 0)
            await check_and_close(transport, protocol, listener)

    run(main())


def test_extra_info(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        transport, protocol = await asyncio.get_running_loop().create_connection(
            Recorder, *listener.getsockname()
        )
        sock = transport.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket
        assert transport.get_extra_info("peername") == listener.getsockname()
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 7) == 7
        assert transport.get_extra_info("sslcontext") is None
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Another socket object on the same connection, as users make one from the number.
        with socket.socket(fileno=socket.dup(sock.fileno())) as second:
            assert second.getpeername() == listener.getsockname()
            assert not second.get_inheritable()
        await check_and_close(transport, protocol, listener)
        # The names are remembered; the socket says that it is closed.
        assert transport.get_extra_info("peername") == listener.getsockname()
        assert transport.get_extra_info("socket").fileno() == -1

    run(main())


def test_local_address(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            Recorder, *listener.getsockname(), local_addr=("127.0.0.2", 0)
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        await check_and_close(transport, protocol, listener)

    run(main())


def test_local_address_that_is_not_ours(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        address = ("203.0.113.7", 0)
        with pytest.raises(OSError) as info:
            await asyncio.get_running_loop().create_connection(
                Recorder, *listener.getsockname(), local_addr=address
            )
        assert info.value.errno == errno.EADDRNOTAVAIL
        reason = "cannot assign requested address"
        if sys.version_info >= (3, 13):
            reason = f"[errno {errno.EADDRNOTAVAIL}] {reason}"
        assert info.value.strerror == (
            f"error while attempting to bind on address {address!r}: {reason}"
        )

    run(main())


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="3.10 and 3.11 have it or not, by the patch release"
)
def test_local_address_of_another_family(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"^no matching local address with family=.* found$"):
            await asyncio.get_running_loop().create_connection(
                Recorder, *listener.getsockname(), local_addr=("::1", 0)
            )

    run(main())


def test_refused(run: Run, refused: int) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError) as info:
            await asyncio.get_running_loop().create_connection(Recorder, "127.0.0.1", refused)
        assert info.value.errno == errno.ECONNREFUSED
        assert info.value.strerror == f"Connect call failed ('127.0.0.1', {refused})"

    run(main())


def test_contradictory_arguments(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            cases: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
                ("host and port was not specified and no sock specified", (), {}),
                (
                    "host/port and sock can not be specified at the same time",
                    ("127.0.0.1", 1),
                    {"sock": stream},
                ),
                ("server_hostname is only meaningful with ssl", (), {"server_hostname": "a"}),
                (
                    "ssl_handshake_timeout is only meaningful with ssl",
                    ("127.0.0.1", 1),
                    {"ssl_handshake_timeout": 1},
                ),
                ("You must set server_hostname when using ssl without a host", (), {"ssl": True}),
                (f"A Stream Socket was expected, got {datagram!r}", (), {"sock": datagram}),
            ]
            if sys.version_info >= (3, 11):
                text = "ssl_shutdown_timeout is only meaningful with ssl"
                cases.append((text, ("127.0.0.1", 1), {"ssl_shutdown_timeout": 1}))
            for text, args, keywords in cases:
                with pytest.raises(ValueError) as info:
                    await asyncio.get_running_loop().create_connection(Recorder, *args, **keywords)
                assert str(info.value) == text

    run(main())


def test_a_socket_that_is_connected_already(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        ours.setblocking(True)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert transport.get_extra_info("socket").fileno() == ours.fileno()
        assert ours.gettimeout() == 0
        with Peer(theirs) as peer:
            peer.send(b"x")
            await protocol.got(1)
            transport.close()
            assert await peer.read() == b""
        assert await protocol.ended() is None
        # The transport owned the socket that it was given.
        assert ours.fileno() == -1

    run(main())


def test_connect_accepted_socket(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Peer(socket.create_connection(listener.getsockname())) as peer:
            accepted, address = listener.accept()
            transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
            assert protocol.calls == ["made"]
            assert transport.get_extra_info("peername") == address
            peer.send(b"abc")
            assert await protocol.got(3) == b"abc"
            transport.write(b"def")
            transport.close()
            assert await peer.read() == b"def"
        assert await protocol.ended() is None
        with socket.socket(type=socket.SOCK_DGRAM) as datagram:
            with pytest.raises(ValueError, match="^A Stream Socket was expected, got <socket"):
                await loop.connect_accepted_socket(Recorder, datagram)

    run(main())


def test_a_factory_that_raises(run: Run, listener: socket.socket) -> None:
    """create_connection raises it. Before 3.14 nobody closes the socket that was connected."""

    async def main() -> None:
        ours, theirs = tcp_pair()

        def fail() -> Any:
            raise LookupError("factory")

        with pytest.raises(LookupError, match="^factory$"):
            await asyncio.get_running_loop().create_connection(fail, sock=ours)
        if sys.version_info >= (3, 14):
            assert ours.fileno() == -1
        ours.close()
        theirs.close()

    run(main())


def test_connection_made_that_raises_leaves_the_connection(run: Run) -> None:
    """The exception handler is told; the waiter and the reading go on as usual."""

    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("made")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _loop, context: reports.append(context))
        ours, theirs = tcp_pair()
        transport, protocol = await loop.create_connection(Failing, sock=ours)
        with Peer(theirs) as peer:
            peer.send(b"x")
            assert await protocol.got(1) == b"x"
        assert await protocol.ended() is None
        assert [str(report["exception"]) for report in reports] == ["made"]
        assert reports[0]["message"].startswith("Exception in callback ")
        assert set(reports[0]) == {"message", "exception", "handle"}
        assert transport.is_closing()

    run(main())


def test_many_connections_at_once(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            connections = await asyncio.gather(
                *(loop.create_connection(Recorder, *listener.getsockname()) for _ in range(50))
            )
            assert len({one.get_extra_info("sockname") for one, _ in connections}) == 50
        for transport, _ in connections:
            transport.abort()
        await until(lambda: all(protocol.lost for _, protocol in connections))

    run(main())
