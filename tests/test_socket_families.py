"""Sockets beyond IPv4: IPv6, Unix, netlink and MPTCP, through transports and through sock_*.

Run on asyncio and on mioloop alike. Addresses have the form that the socket module gives those of
the family, also where native code does not know it.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import DATAGRAMS, Peer, Recorder, check_and_close, until, waiting

Run = Callable[..., Any]

RTM_GETLINK, NLM_F_REQUEST, NLM_F_DUMP = 18, 1, 0x300
RTM_NEWLINK, NLMSG_DONE = 16, 3
LINKS = struct.pack(
    "=IHHIIBxHiII", 32, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0, 0, 0, 0, 0, 0
)


def made(*arguments: int) -> socket.socket:
    """A socket that does not block; a skip where the system has none of that kind."""
    try:
        sock = socket.socket(*arguments)
    except OSError as error:
        pytest.skip(f"this system makes no such socket: {error}")
    sock.setblocking(False)
    return sock


def netlink() -> socket.socket:
    sock = made(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    sock.bind((0, 0))
    return sock


def kinds(data: bytes) -> set[int]:
    """The kinds of the messages of an answer to LINKS."""
    found = set()
    while data:
        length, kind, _, number = struct.unpack_from("=IHHI", data)
        assert number == 7
        found.add(kind)
        data = data[length + 3 & ~3 :]
    return found


def is_answer(data: bytes) -> bool:
    return kinds(data) >= {RTM_NEWLINK}


def test_a_netlink_endpoint(run: Run) -> None:
    class Received(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: list[Any] = []

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got.append((is_answer(data), addr))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Received, sock=netlink())
        transport.sendto(LINKS, (0, 0))
        await until(lambda: protocol.got)
        assert protocol.got[0] == (True, (0, 0))
        assert transport.get_extra_info("sockname")[1] == 0
        transport.close()

    run(main())


@DATAGRAMS
def test_a_netlink_socket(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with netlink() as sock:
            assert await loop.sock_sendto(sock, LINKS, (0, 0)) == len(LINKS)
            data, address = await loop.sock_recvfrom(sock, 1 << 16)
            assert is_answer(data) and address == (0, 0)
            buffer = bytearray(1 << 16)
            while NLMSG_DONE not in kinds(data):
                count, _ = await loop.sock_recvfrom_into(sock, buffer)
                data = bytes(buffer[:count])
            task = await waiting(loop.sock_recvfrom_into(sock, buffer))
            await loop.sock_sendto(sock, LINKS, (0, 0))
            count, address = await task
            assert is_answer(buffer[:count]) and address == (0, 0)

    run(main())


@DATAGRAMS
@pytest.mark.parametrize("name", ["::1", "abstract", "path", "unnamed"])
def test_datagrams_of_a_family(run: Run, tmp_path: Any, name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in name else socket.AF_UNIX
        with made(family, socket.SOCK_DGRAM) as one, made(family, socket.SOCK_DGRAM) as two:
            names: list[Any] = {
                "::1": [("::1", 0), ("::1", 0)],
                "abstract": [b"\0mioloop-one", b"\0mioloop-two"],
                "path": [str(tmp_path / "one"), bytes(tmp_path / "two")],
                "unnamed": [None, b"\0mioloop-two"],
            }[name]
            for sock, address in zip((one, two), names, strict=True):
                if address is not None:
                    sock.bind(address)
            target = two.getsockname()
            sender = None if name == "unnamed" else one.getsockname()
            assert await loop.sock_sendto(one, b"hello", target) == 5
            assert await loop.sock_recvfrom(two, 10) == (b"hello", sender)
            task = await waiting(loop.sock_recvfrom_into(two, bytearray(10)))
            assert await loop.sock_sendto(one, b"again!", target) == 6
            assert await task == (6, sender)
            if name == "::1":
                assert await loop.sock_sendto(one, b"x", ("::1", target[1])) == 1
                with pytest.raises(OverflowError):
                    await loop.sock_sendto(one, b"x", ("::1", target[1], 1 << 20))

    run(main())


@DATAGRAMS
def test_recvfrom_of_a_stream(run: Run, pair: tuple[socket.socket, socket.socket]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        pair[1].send(b"hello")
        assert await loop.sock_recvfrom(pair[0], 10) == pair_of(b"hello")
        pair[1].close()
        assert await loop.sock_recvfrom(pair[0], 10) == pair_of(b"")

    def pair_of(data: bytes) -> tuple[bytes, Any]:
        """What the socket module says of a stream socket's sender."""
        one, two = socket.socketpair()
        with one, two:
            two.send(b"x")
            return data, one.recvfrom(1)[1]

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="MPTCP is Linux's")
def test_mptcp(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        mptcp = (socket.AF_INET, socket.SOCK_STREAM, 262)
        with made(*mptcp) as server, made(*mptcp) as client:
            server.bind(("127.0.0.1", 0))
            server.listen()
            task = await waiting(loop.sock_accept(server))
            # Not by sock_connect(), which looks the address up: the resolver has no MPTCP.
            client.connect_ex(server.getsockname())
            accepted, name = await task
            assert name == client.getsockname()
            assert accepted.proto == 262
            with Peer(accepted) as peer:
                transport, protocol = await loop.create_connection(Recorder, sock=client)
                peer.send(b"hello")
                assert await protocol.got(5) == b"hello"
                transport.write(b"good bye")
                assert await peer.read(8) == b"good bye"
            assert await protocol.ended() is None

    run(main())


def test_a_connection_by_ipv6_with_a_scope(run: Run) -> None:
    """A number after the percent sign is the scope, in whatever form the address comes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with made(socket.AF_INET6) as server:
            server.setblocking(True)
            server.bind(("::1", 0))
            server.listen()
            transport, protocol = await loop.create_connection(
                Recorder, "::1%1", server.getsockname()[1]
            )
            assert transport.get_extra_info("peername")[:2] == server.getsockname()[:2]
            await check_and_close(transport, protocol, server)

    run(main())
