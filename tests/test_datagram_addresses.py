"""Addresses of datagrams: whose object is shown, in which forms one may be given, many peers.

Run on asyncio and on mioloop alike, which keeps the addresses it has met. Also what a burst of
datagrams must respect, and the type of the transport.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from asyncio import selector_events
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from child_script import run_script
from datagram_peer import Datagrams, close, endpoint, name
from network_peer import a_while, reports_of, until

Run = Callable[..., Any]
V4 = ("127.0.0.1", 0)


class Acting(Datagrams):
    """One that knows its transport."""

    transport: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport = transport


def test_types(run: Run) -> None:
    """What asyncio's own is an instance of: DatagramTransport since 3.12."""

    async def main() -> None:
        transport, _ = await endpoint(local_addr=V4)
        model: Any = selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]
        for kind in (asyncio.Transport, asyncio.DatagramTransport):
            assert isinstance(transport, kind) == issubclass(model, kind)
        with pytest.raises(TypeError):
            type(transport)()
        transport.owner = "me"
        assert transport.owner == "me"
        await close(transport)

    run(main())


@pytest.mark.parametrize("count", [1, 2, 3, 300])
def test_every_peer_gets_its_own_answers(run: Run, count: int) -> None:
    """300 are more than mioloop keeps the addresses of."""

    class Echo(Acting):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, echo = await loop.create_datagram_endpoint(Echo, local_addr=V4)
        with contextlib.ExitStack() as stack:
            peers = []
            for _ in range(count):
                peer = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                peer.bind(V4)
                peer.setblocking(False)
                peers.append(peer)
            for turn in range(3):
                for first in range(0, count, 50):
                    some = peers[first : first + 50]
                    before = len(echo.got)
                    for peer in some:
                        peer.sendto(b"%d %d" % (turn, peer.fileno()), name(transport))
                    await until(lambda: len(echo.got) == before + len(some))  # noqa: B023
                    for peer, (data, address) in zip(some, echo.got[before:], strict=True):
                        assert address == peer.getsockname()
                        assert data == peer.recv(100) == b"%d %d" % (turn, peer.fileno())
            kept = [address for _, address in echo.got[:count]]
            for peer, address in zip(peers, kept, strict=True):
                transport.sendto(b"again", address)
                assert peer.recv(100) == b"again"
        await close(transport)

    run(main())


def test_forms_of_an_ipv4_address(run: Run) -> None:
    async def main() -> None:
        first, one = await endpoint(local_addr=V4)
        port = name(first)[1]

        class Text(str):
            pass

        forms: list[Any] = [
            ("127.0.0.1", port),
            (Text("127.0.0.1"), port),
            ("localhost", port),
            ("127.1", port),
        ]
        for form in forms * 2:
            first.sendto(b"x", form)
        await until(lambda: len(one.got) == len(forms) * 2)
        assert {address for _, address in one.got} == {name(first)}
        await close(first)

    run(main())


@pytest.mark.parametrize(
    "make",
    [
        lambda port: ("127.0.0.1", 1 << 16),
        lambda port: ("127.0.0.1", -1),
        lambda port: ("127.0.0.1", str(port)),
        lambda port: ("127.0.0.1",),
        lambda port: ("127.0.0.1", port, 0),
        lambda port: ["127.0.0.1", port],
        lambda port: None,
        lambda port: (None, port),
    ],
)
def test_addresses_that_are_none(run: Run, make: Callable[[int], Any]) -> None:
    """The exception of socket.sendto, to the exception handler and to connection_lost."""

    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())
        first, one = await endpoint(local_addr=V4)
        address = make(name(first)[1])
        with (
            socket.socket(type=socket.SOCK_DGRAM) as sock,
            pytest.raises((TypeError, OverflowError, ValueError)) as info,
        ):
            sock.sendto(b"x", address)
        first.sendto(b"x", address)
        await until(lambda: one.lost)
        assert (type(one.lost[0]), str(one.lost[0])) == (info.type, str(info.value))
        assert [report["message"] for report in reports] == [
            "Fatal write error on datagram transport"
        ]

    run(main())


def test_forms_of_an_ipv6_address(run: Run) -> None:
    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())
        first, one = await endpoint(local_addr=("::1", 0))
        port = name(first)[1]
        forms: list[Any] = [("::1", port), ("::1", port, 0), ("::1", port, 0, 0), ("0::1", port)]
        for form in forms * 2:
            first.sendto(b"x", form)
        await until(lambda: len(one.got) == len(forms) * 2)
        assert {address for _, address in one.got} == {("::1", port, 0, 0)}
        first.sendto(b"x", ("::1", port, 1 << 20))
        await until(lambda: one.lost)
        assert type(one.lost[0]) is OverflowError and len(reports) == 1

    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    run(main())


def test_a_fixed_address(run: Run) -> None:
    async def main() -> None:
        server, serving = await endpoint(local_addr=V4)
        client, _ = await endpoint(remote_addr=name(server))
        client.sendto(b"1")
        client.sendto(b"2", None)
        client.sendto(b"3", name(server))
        client.sendto(b"4", addr=("127.0.0.1", name(server)[1]))
        other = ("127.0.0.2", 9)
        with pytest.raises(ValueError) as info:
            client.sendto(b"x", other)
        assert str(info.value) == f"Invalid address: must be None or {name(server)}"
        await until(lambda: len(serving.got) == 4)
        assert [data for data, _ in serving.got] == [b"1", b"2", b"3", b"4"]
        await close(server, client)

    run(main())


def test_unix_names_of_every_kind(run: Run, tmp_path: Path) -> None:
    """Paths as text, abstract names as bytes, and no name at all; answers reach them."""

    async def main() -> None:
        here = str(tmp_path / "here")
        server, serving = await endpoint(local_addr=here, family=socket.AF_UNIX)
        abstract = b"\0mioloop-%d" % os.getpid()
        for bound in (str(tmp_path / "there"), abstract, str(tmp_path / "there"), None):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                if bound is not None:
                    Path(os.fsdecode(bound)).unlink(True) if isinstance(bound, str) else None
                    peer.bind(bound)
                peer.setblocking(False)
                peer.sendto(b"x", here)
                await until(lambda: serving.got)
                data, address = serving.got.pop()
                assert (data, address) == (b"x", bound)
                if bound is not None:
                    for answer in (address, bound):
                        server.sendto(b"y", answer)
                        assert peer.recv(10) == b"y"
        await close(server)

    if not sys.platform.startswith("linux"):
        pytest.skip("abstract names are Linux's")
    run(main())


def test_a_full_receiver_of_an_unconnected_socket(run: Run, tmp_path: Path) -> None:
    """The kernel says that the sender is writable all the while."""

    async def main() -> None:
        there = str(tmp_path / "there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(there)
            peer.setblocking(False)
            sender, protocol = await endpoint(
                local_addr=str(tmp_path / "here"), family=socket.AF_UNIX
            )
            count = 0
            while sender.get_write_buffer_size() < 100:
                sender.sendto(b"%04d" % count, there)
                count += 1
            got: list[bytes] = []

            def drain() -> bool:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        got.append(peer.recv(10))
                return len(got) == count

            await until(drain)
            assert got == [b"%04d" % number for number in range(count)]
            assert sender.get_write_buffer_size() == 0 and not protocol.errors
            await close(sender)

    if (3, 13) <= sys.version_info < (3, 14):
        pytest.skip("3.13 counts 8 bytes of a header when it queues, not when it sends")
    run(main())


@pytest.mark.parametrize("method", ["pause_reading", "close", "abort"])
def test_a_burst_ends_where_the_protocol_says_so(run: Run, method: str) -> None:
    class Stops(Acting):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) == 3:
                getattr(self.transport, method)()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, stops = await loop.create_datagram_endpoint(Stops, local_addr=V4)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            for number in range(10):
                peer.sendto(b"%d" % number, name(transport))
        await until(lambda: len(stops.got) >= 3)
        await a_while(0.002)
        assert len(stops.got) == 3
        if method == "pause_reading":
            transport.resume_reading()  # type: ignore[attr-defined]
            await until(lambda: len(stops.got) == 10)
            assert [data for data, _ in stops.got] == [b"%d" % number for number in range(10)]
            await close(transport)

    if method == "pause_reading" and sys.version_info < (3, 11):
        pytest.skip("datagram transports cannot pause in 3.10")
    run(main())


def test_a_burst_lets_others_have_their_turn(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await endpoint(local_addr=V4)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            for _ in range(150):
                peer.sendto(b"x", name(transport))
        seen: list[int] = []

        def look() -> None:
            seen.append(len(protocol.got))
            if seen[-1] < 150:
                loop.call_soon(look)

        look()
        await until(lambda: len(protocol.got) == 150)
        assert all(after - before <= 50 for before, after in itertools.pairwise(seen))
        await close(transport)

    run(main())


def test_an_audit_hook_sees_where_datagrams_go(loop_kind: str) -> None:
    script = """
        import socket
        seen = []
        def hook(event, args):
            if event == "socket.sendto":
                seen.append((type(args[0]).__name__, args[1]))
        async def main():
            loop = asyncio.get_running_loop()
            receiver = socket.socket(type=socket.SOCK_DGRAM)
            receiver.bind(("127.0.0.1", 0))
            peer = receiver.getsockname()
            local = ("127.0.0.1", 0)
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local)
            sys.addaudithook(hook)
            transport.sendto(b"one", peer)
            transport.sendto(b"two", peer)
            if hasattr(loop, "sock_sendto"):
                sender = socket.socket(type=socket.SOCK_DGRAM)
                sender.setblocking(False)
                await loop.sock_sendto(sender, b"three", peer)
                sender.close()
                assert receiver.recv(9) + receiver.recv(9) + receiver.recv(9) == b"onetwothree"
            else:
                seen.append(seen[0])
            assert seen == [("socket", peer)] * 3, seen
            transport.close()
            receiver.close()
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    assert run_script(loop_kind, script) == (0, [], "")


def test_an_audit_hook_may_refuse_a_datagram(loop_kind: str) -> None:
    """An exception that is no OSError ends the transport, as any other while sending does."""
    script = """
        class Protocol(asyncio.DatagramProtocol):
            def connection_lost(self, error):
                lost.set_result(error)
        def hook(event, args):
            if event == "socket.sendto":
                raise PermissionError("refused") if args[1][1] == 9 else RuntimeError("refused")
        async def main():
            loop.set_exception_handler(lambda loop, context: None)
            sys.addaudithook(hook)
            local = ("127.0.0.1", 0)
            transport, _ = await loop.create_datagram_endpoint(Protocol, local)
            transport.sendto(b"an OSError is one of the connection", ("127.0.0.1", 9))
            assert not lost.done() and not transport.is_closing()
            transport.sendto(b"others are not", ("127.0.0.1", 10))
            say(repr(await lost))
        loop = new_loop()
        lost = loop.create_future()
        loop.run_until_complete(main())
        loop.close()
        """
    assert run_script(loop_kind, script) == (0, ["RuntimeError('refused')"], "")
