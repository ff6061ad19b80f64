"""loop.getaddrinfo and loop.getnameinfo answer what the socket module answers, to the letter.

Run on asyncio and on mioloop alike. Numeric hosts need no thread, so a loop may answer them by
itself: here each answer and each error is compared with that of `socket.getaddrinfo`, by repr.
Nothing is asked over the network.
"""

import asyncio
import concurrent.futures
import socket
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]

NUMERIC = socket.AI_NUMERICHOST
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW

# With AI_NUMERICHOST, so that none of them is looked up.
HOSTS: list[Any] = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "8.8.8.8",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "0x7f000001",
    "127.0.0.01",
    "127.0.0.08",
    "256.1.1.1",
    "1.2.3.4.5",
    "127.0.0.1.",
    " 127.0.0.1",
    "127.0.0.1 ",
    "127.0.0.1%lo",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "2001:db8::1",
    "2001:DB8:0:0::1",
    "2001:db8::1::2",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7",
    ":::",
    "[::1]",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "fe80::1%0",
    "fe80::1%4294967295",
    "fe80::1%nosuch",
    "fe80::1%",
    "::1%lo",
    "::1%1",
    "ff02::1%lo",
    "2001:db8::1%1",
    b"127.0.0.1",
    b"::1",
    b"fe80::1%lo",
    "localhost",
    "",
    None,
    "127.0.0.1\0",
    "\u0661.0.0.1",
    "a" * 70,
    "\udc80",
    bytearray(b"127.0.0.1"),
    5,
]
PORTS: list[Any] = [
    80,
    "80",
    b"80",
    0,
    None,
    "http",
    "domain",
    "",
    65535,
    65536,
    -1,
    "65536",
    "-1",
    "0x50",
    " 80",
    "80 ",
    "080",
    "no-such-service",
    1.5,
    1 << 70,
    True,
]
OPTIONS: list[dict[str, int]] = [
    {},
    {"type": STREAM},
    {"type": DGRAM},
    {"type": RAW},
    {"family": socket.AF_INET},
    {"family": socket.AF_INET6},
    {"family": socket.AF_INET, "type": STREAM},
    {"family": socket.AF_INET6, "type": DGRAM, "proto": socket.IPPROTO_UDP},
    {"type": STREAM, "proto": socket.IPPROTO_TCP},
    {"type": STREAM, "proto": socket.IPPROTO_UDP},
    {"proto": socket.IPPROTO_UDP},
    {"type": STREAM, "flags": socket.AI_PASSIVE},
    {"type": STREAM, "flags": socket.AI_CANONNAME},
    {"type": STREAM, "flags": socket.AI_NUMERICSERV},
    {"type": STREAM, "flags": socket.AI_V4MAPPED, "family": socket.AF_INET6},
    {"type": STREAM, "flags": socket.AI_ALL | socket.AI_V4MAPPED, "family": socket.AF_INET6},
    {"type": STREAM, "flags": socket.AI_ADDRCONFIG},
    {"family": socket.AF_UNIX},
    {"family": 9999},
    {"type": 9999},
    {"proto": 9999},
    {"flags": 1 << 20},
]


def described(error: Exception) -> tuple[Any, ...]:
    return type(error), getattr(error, "errno", None), str(error), error.args[:2]


def expected(function: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    try:
        return ("answer", repr(function(*args)))
    except Exception as error:
        return described(error)


async def outcome(coroutine: Any) -> tuple[Any, ...]:
    try:
        return ("answer", repr(await coroutine))
    except Exception as error:
        return described(error)


async def compare(host: Any, port: Any, options: dict[str, int]) -> None:
    flags = options.get("flags", 0) | NUMERIC
    family, type_, proto = (options.get(key, 0) for key in ("family", "type", "proto"))
    loop = asyncio.get_running_loop()
    want = expected(socket.getaddrinfo, host, port, family, type_, proto, flags)
    got = await outcome(loop.getaddrinfo(host, port, **{**options, "flags": flags}))
    assert got == want, (host, port, options)


def test_hosts(run: Run) -> None:
    async def main() -> None:
        for host in HOSTS:
            await compare(host, 80, {"type": STREAM})
            await compare(host, None, {})

    run(main())


def test_ports(run: Run) -> None:
    async def main() -> None:
        for port in PORTS:
            await compare("127.0.0.1", port, {})
            await compare("::1", port, {"type": STREAM})
            await compare(None, port, {"type": DGRAM, "flags": socket.AI_PASSIVE})

    run(main())


def test_options(run: Run) -> None:
    async def main() -> None:
        for options in OPTIONS:
            for host in ("127.0.0.1", "::1", "fe80::1%lo", None, "::ffff:1.2.3.4"):
                await compare(host, 443, options)

    run(main())


@pytest.mark.slow
def test_every_combination(run: Run) -> None:
    async def main() -> None:
        for host in HOSTS:
            for options in OPTIONS:
                for port in PORTS[:: 1 if host in ("127.0.0.1", "::1") else 4]:
                    await compare(host, port, options)

    run(main())


def test_without_the_flag(run: Run) -> None:
    """Numeric hosts as programs pass them; and names that are in the hosts file."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for host in ("127.0.0.1", "::1", "127.1", "fe80::1%lo", b"::1", "localhost", "", None):
            for keywords in ({}, {"type": STREAM}, {"type": STREAM, "flags": socket.AI_PASSIVE}):
                want = expected(
                    socket.getaddrinfo, host, 80, 0, keywords.get("type", 0), 0,
                    keywords.get("flags", 0),
                )  # fmt: skip
                assert await outcome(loop.getaddrinfo(host, 80, **keywords)) == want

    run(main())


def test_types_of_the_answer(run: Run) -> None:
    """A list of plain tuples that hold enums, as the socket module makes them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answer = await loop.getaddrinfo("127.0.0.1", 80, type=STREAM)
        assert type(answer) is list and type(answer[0]) is tuple
        assert [type(one) for one in answer[0]] == [
            socket.AddressFamily,
            socket.SocketKind,
            int,
            str,
            tuple,
        ]
        answer.append(1)
        assert len(await loop.getaddrinfo("127.0.0.1", 80, type=STREAM)) == 1
        with pytest.raises(TypeError):
            await loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET)
        with pytest.raises(TypeError):
            await loop.getaddrinfo("127.0.0.1")
        keywords = {"host": "127.0.0.1", "port": 80, "family": socket.AF_INET, "proto": 6}
        assert await loop.getaddrinfo(**keywords) == socket.getaddrinfo(**keywords)

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_a_replaced_socket_getaddrinfo(
    run: Run, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    """Libraries replace it to fake the DNS or to forbid the network: always honoured."""
    calls: list[Any] = []

    def fake(*args: Any) -> list[str]:
        calls.append(args)
        return ["fake"]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(socket, "getaddrinfo", fake)
        assert await loop.getaddrinfo("127.0.0.1", 80) == ["fake"]
        assert await loop.getaddrinfo("some.host", "http", type=STREAM, flags=3) == ["fake"]
        monkeypatch.undo()
        assert calls == [("127.0.0.1", 80, 0, 0, 0, 0), ("some.host", "http", 0, STREAM, 0, 3)]
        assert await loop.getaddrinfo("127.0.0.1", 80) == socket.getaddrinfo("127.0.0.1", 80)

    run(main(), debug=debug)


def test_names_are_resolved_in_the_default_executor(run: Run) -> None:
    class Counting(concurrent.futures.ThreadPoolExecutor):
        calls: list[Any] = []

        def submit(self, function: Any, *args: Any, **keywords: Any) -> Any:
            self.calls.append(args[:2])
            return super().submit(function, *args, **keywords)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with Counting(1) as executor:
            loop.set_default_executor(executor)
            await loop.getaddrinfo("localhost", 80)
            assert Counting.calls == [("localhost", 80)]

    run(main())


def test_many_at_once(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        hosts = [f"127.0.0.{number}" for number in range(100)]
        answers = await asyncio.gather(*(loop.getaddrinfo(h, 1, type=STREAM) for h in hosts))
        assert [one[0][4] for one in answers] == [(host, 1) for host in hosts]

    run(main())


# getnameinfo

ADDRESSES: list[Any] = [
    ("127.0.0.1", 80),
    ("127.0.0.1", 0),
    ("10.1.2.3", 53),
    ("::1", 80),
    ("::1", 80, 0, 0),
    ("fe80::1", 80, 0, 1),
    ("fe80::1%lo", 80),
    ("2001:db8::1", 443, 5, 0),
    ("nonsense.invalid", 80),
    ("127.0.0.1", 65536),
    ("127.0.0.1", -1),
    ("127.0.0.1", "80"),
    ("::1", 80, 1 << 20, 0),
    ("::1", 80, 0, 0, 0),
    ("127.0.0.1",),
    (),
    ["127.0.0.1", 80],
    "127.0.0.1",
    None,
]


def test_getnameinfo(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        for flags in (
            numeric,
            socket.NI_NUMERICHOST,
            socket.NI_NUMERICHOST | socket.NI_DGRAM,
            numeric | socket.NI_NAMEREQD,
        ):
            for address in ADDRESSES:
                if address == ("nonsense.invalid", 80) and flags != numeric:
                    continue  # that one would be looked up
                want = expected(socket.getnameinfo, address, flags)
                assert await outcome(loop.getnameinfo(address, flags)) == want, (address, flags)
        want = expected(socket.getnameinfo, ("127.0.0.1", 22), 0)
        assert await outcome(loop.getnameinfo(("127.0.0.1", 22))) == want
        assert await outcome(loop.getnameinfo(sockaddr=("127.0.0.1", 22), flags=0)) == want

    run(main())


def test_a_replaced_socket_getnameinfo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(socket, "getnameinfo", lambda *args: args)
        got = await asyncio.get_running_loop().getnameinfo(("127.0.0.1", 80), 3)
        assert got == (("127.0.0.1", 80), 3)

    run(main())
