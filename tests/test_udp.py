"""Datagrams: create_datagram_endpoint over UDP and Unix sockets, sendto, and their errors.

Run on asyncio and on mioloop alike. Order is that of sending (the loopback keeps it); an error of
the kernel goes to error_received and the endpoint lives on.
"""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from datagram_peer import close, endpoint, name
from network_peer import reports_of, until

Run = Callable[..., Any]
V4 = ("127.0.0.1", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_two_endpoints(run: Run, host: str) -> None:
    async def main() -> None:
        first, one = await endpoint(local_addr=(host, 0))
        second, two = await endpoint(local_addr=(host, 0))
        assert one.calls == ["made"]
        if sys.version_info >= (3, 12):  # a plain _SelectorTransport before
            assert isinstance(first, asyncio.DatagramTransport)
        assert first.get_extra_info("peername") is None
        assert type(first.get_extra_info("socket")) is asyncio.trsock.TransportSocket
        first.sendto(b"ping", name(second))
        await until(lambda: two.got)
        assert two.got == [(b"ping", name(first))]
        second.sendto(b"pong", two.got[0][1])
        await until(lambda: one.got)
        assert one.got == [(b"pong", name(second))]
        assert not first.is_closing()
        await close(first, second)
        assert one.lost == two.lost == [None]

    run(main())


def test_connected(run: Run) -> None:
    async def main() -> None:
        server, serving = await endpoint(local_addr=V4)
        stranger, _ = await endpoint(local_addr=V4)
        client, protocol = await endpoint(remote_addr=name(server))
        assert client.get_extra_info("peername") == name(server)
        client.sendto(b"one")
        client.sendto(b"two", None)
        client.sendto(b"three", name(server))
        await until(lambda: len(serving.got) == 3)
        assert serving.got == [(text, name(client)) for text in (b"one", b"two", b"three")]
        with pytest.raises(ValueError) as info:
            client.sendto(b"x", name(stranger))
        assert str(info.value) == f"Invalid address: must be None or {name(server)}"
        stranger.sendto(b"ignored", name(client))
        server.sendto(b"answer", name(client))
        await until(lambda: protocol.got)
        assert protocol.got == [(b"answer", name(server))]
        await close(server, stranger, client)

    run(main())


def test_both_addresses_and_host_names(run: Run) -> None:
    async def main() -> None:
        server, serving = await endpoint(local_addr=V4)
        port = name(server)[1]
        client, _ = await endpoint(
            local_addr=("127.0.0.2", 0), remote_addr=("localhost", port), family=socket.AF_INET
        )
        assert name(client)[0] == "127.0.0.2"
        client.sendto(b"x")
        other, _ = await endpoint(family=socket.AF_INET)
        other.sendto(b"y", ("localhost", port))
        await until(lambda: len(serving.got) == 2)
        assert sorted(data for data, _ in serving.got) == [b"x", b"y"]
        await close(server, client, other)

    run(main())


def test_order_and_boundaries_of_a_burst(run: Run) -> None:
    async def main() -> None:
        first, _ = await endpoint(local_addr=V4)
        second, two = await endpoint(local_addr=V4)
        sent = [b"%d " % number * (number % 7 + 1) for number in range(150)]
        for data in sent:
            first.sendto(data, name(second))
        await until(lambda: len(two.got) == len(sent))
        assert [data for data, _ in two.got] == sent
        await close(first, second)

    run(main())


def test_the_largest_datagram(run: Run) -> None:
    async def main() -> None:
        first, one = await endpoint(local_addr=V4)
        second, two = await endpoint(local_addr=V4)
        first.sendto(bytes(65507), name(second))
        await until(lambda: two.got)
        assert two.got == [(bytes(65507), name(first))]
        first.sendto(bytes(65508), name(second))
        assert [error.errno for error in one.errors] == [errno.EMSGSIZE]
        first.sendto(b"fine", name(second))
        await until(lambda: len(two.got) == 2)
        await close(first, second)

    run(main())


def test_empty_datagrams(run: Run) -> None:
    """They are received on every version; sendto drops them before 3.13."""

    async def main() -> None:
        first, _ = await endpoint(local_addr=V4)
        second, two = await endpoint(local_addr=V4)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", name(second))
            await until(lambda: two.got)
            assert two.got == [(b"", ("127.0.0.1", sock.getsockname()[1]))]
        first.sendto(b"", name(second))
        first.sendto(b"end", name(second))
        await until(lambda: two.got[-1][0] == b"end")
        empty = [(b"", name(first))] if sys.version_info >= (3, 13) else []
        assert two.got[1:-1] == empty
        await close(first, second)

    run(main())


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")], ids=repr)
def test_other_buffers(run: Run, data: Any) -> None:
    async def main() -> None:
        first, one = await endpoint(local_addr=V4)
        first.sendto(data, name(first))
        await until(lambda: one.got)
        assert one.got[0][0] == b"abc"
        await close(first)

    run(main())


def test_errors_of_the_caller(run: Run) -> None:
    async def main() -> None:
        first, one = await endpoint(local_addr=V4)
        for data in ("text", None, 5, [b"x"]):
            with pytest.raises(TypeError) as info:
                first.sendto(data, name(first))
            kind = type(data).__name__
            assert str(info.value) == f"data argument must be a bytes-like object, not {kind!r}"
        first.sendto(b"fine", name(first))
        await until(lambda: one.got)
        await close(first)

    run(main())


def test_an_address_that_makes_no_sense_is_fatal(run: Run) -> None:
    """send() raises something that is no OSError: reported, and the endpoint is closed."""

    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())
        first, one = await endpoint(local_addr=V4)
        first.sendto(b"x", "nonsense")
        assert first.is_closing()
        await until(lambda: one.lost)
        assert type(one.lost[0]) is TypeError
        [report] = reports
        assert report["message"] == "Fatal write error on datagram transport"
        assert report["exception"] is one.lost[0] and report["transport"] is first

    run(main())


# Errors of the kernel


def test_nobody_listens(run: Run) -> None:
    """ICMP's answer comes as ConnectionRefusedError to error_received; all goes on."""

    async def main() -> None:
        server, serving = await endpoint(local_addr=V4)
        address = name(server)
        await close(server)
        client, protocol = await endpoint(remote_addr=address)
        client.sendto(b"lost")
        await until(lambda: protocol.errors)
        assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]
        assert not client.is_closing() and not protocol.lost
        server, serving = await endpoint(local_addr=address)
        client.sendto(b"found")
        await until(lambda: serving.got)
        await close(server, client)

    run(main())


def test_errors_of_sending(run: Run) -> None:
    async def main() -> None:
        first, one = await endpoint(local_addr=V4)
        first.sendto(b"x", ("255.255.255.255", 9))
        assert type(one.errors[0]) is PermissionError
        first.sendto(b"x", ("127.0.0.1", 0))
        assert one.errors[1].errno == errno.EINVAL
        assert len(one.errors) == 2 and not first.is_closing()
        await close(first)

    run(main())


def test_errors_of_the_protocol(run: Run) -> None:
    """They are those of a callback: reported, and the endpoint lives on."""

    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())
        first, one = await endpoint(local_addr=V4)
        seen: list[bytes] = []

        def fail(data: bytes, _: Any) -> None:
            seen.append(data)
            raise LookupError("reason")

        one.datagram_received = fail  # type: ignore[method-assign]
        first.sendto(b"1", name(first))
        first.sendto(b"2", name(first))
        await until(lambda: len(seen) == 2)
        await until(lambda: len(reports) == 2)
        assert [str(report["exception"]) for report in reports] == ["reason"] * 2
        assert reports[0]["message"].startswith("Exception in callback ")
        assert not first.is_closing()
        await close(first)

    run(main())


# Options and arguments


def test_options(run: Run) -> None:
    async def main() -> None:
        def option(transport: Any, number: int) -> int:
            return transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, number)

        plain, _ = await endpoint(local_addr=V4)
        assert option(plain, socket.SO_BROADCAST) == option(plain, socket.SO_REUSEPORT) == 0
        assert option(plain, socket.SO_REUSEADDR) == 0
        first, _ = await endpoint(local_addr=V4, reuse_port=True, allow_broadcast=True)
        assert option(first, socket.SO_BROADCAST) == option(first, socket.SO_REUSEPORT) == 1
        second, _ = await endpoint(local_addr=name(first), reuse_port=True)
        assert name(second) == name(first)
        with pytest.raises(OSError) as info:
            await endpoint(local_addr=name(first))
        assert info.value.errno == errno.EADDRINUSE
        await close(plain, first, second)
        # With broadcast the remote address is only the default one, the socket not connected.
        caster, _ = await endpoint(remote_addr=("127.255.255.255", 9), allow_broadcast=True)
        assert caster.get_extra_info("peername") is None
        with pytest.raises(ValueError, match=r"^Invalid address: must be None or \("):
            caster.sendto(b"x", ("127.0.0.1", 9))
        await close(caster)

    run(main())


def test_a_socket_of_ones_own(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(V4)
        transport, protocol = await endpoint(sock=sock)
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        assert sock.gettimeout() == 0
        transport.sendto(b"x", sock.getsockname())
        await until(lambda: protocol.got)
        await close(transport)
        assert sock.fileno() == -1

    run(main())


def test_contradictory_arguments(run: Run) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as datagram, socket.socket() as stream:
            kind = "A datagram socket" if sys.version_info >= (3, 13) else "A UDP Socket"
            no_pair = AssertionError if sys.version_info < (3, 11) else TypeError
            modifiers = "socket modifier keyword arguments can not be used when sock is specified. "
            cases: list[tuple[type, str, dict[str, Any]]] = [
                (ValueError, f"{kind} was expected, got {stream!r}", {"sock": stream}),
                (ValueError, "unexpected address family", {}),
                (no_pair, "2-tuple is expected", {"local_addr": "127.0.0.1"}),
                (no_pair, "2-tuple is expected", {"local_addr": ("127.0.0.1",)}),
                (ValueError, modifiers + "(family)", {"sock": datagram, "family": 2}),
                (
                    ValueError,
                    modifiers,
                    {"sock": datagram, "local_addr": V4, "reuse_port": True},
                ),
                (TypeError, "string is expected", {"local_addr": 5, "family": socket.AF_UNIX}),
                (
                    ValueError,
                    "can not get address information",
                    {"local_addr": V4, "remote_addr": ("::1", 9)},
                ),
            ]
            for error, text, keywords in cases:
                with pytest.raises(error) as info:
                    await endpoint(**keywords)
                if not text.startswith(modifiers):
                    assert str(info.value) == text
                else:
                    assert str(info.value).startswith(modifiers)
        if sys.version_info >= (3, 11):
            with pytest.raises(TypeError, match="reuse_address"):
                await endpoint(local_addr=V4, reuse_address=False)

    run(main())
