"""create_connection with several addresses: their order, happy eyeballs, and who resolves them.

Run on asyncio and on mioloop alike. Names are resolved by the loop's own `getaddrinfo`, which a
subclass or a test may replace; here it answers with lists that no resolver would give.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from network_peer import Recorder, a_while, check_and_close

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]


def addresses(*pairs: tuple[str, int]) -> list[Any]:
    """What getaddrinfo would answer for a host with these addresses."""
    return [
        (
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (host, port, 0, 0) if ":" in host else (host, port),
        )
        for host, port in pairs
    ]


def resolve_to(loop: Loop, *pairs: tuple[str, int]) -> list[Any]:
    """The loop's own getaddrinfo answers with these addresses; its calls are listed."""
    calls: list[Any] = []

    async def getaddrinfo(*args: Any, **keywords: Any) -> list[Any]:
        calls.append((args, keywords))
        return addresses(*pairs)

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    return calls


def test_refused_at_several_addresses(run: Run, refused: int) -> None:
    """The errors are joined; if all say the same, one of them is raised."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolve_to(loop, ("127.0.0.1", refused), ("127.0.0.2", refused))
        text = "Connect call failed"
        with pytest.raises(OSError) as info:
            await loop.create_connection(Recorder, "both.test", 80)
        assert str(info.value) == (
            f"Multiple exceptions: [Errno 111] {text} ('127.0.0.1', {refused}), "
            f"[Errno 111] {text} ('127.0.0.2', {refused})"
        )
        assert info.value.errno is None
        resolve_to(loop, ("127.0.0.1", refused), ("127.0.0.1", refused))
        with pytest.raises(ConnectionRefusedError, match=rf"{text} \('127.0.0.1', {refused}\)$"):
            await loop.create_connection(Recorder, "both.test", 80)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors is new in 3.12")
@pytest.mark.parametrize("delay", [None, 0.01])
def test_all_errors(run: Run, refused: int, delay: float | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolve_to(loop, ("127.0.0.1", refused), ("127.0.0.2", refused))
        with pytest.raises(BaseException) as info:
            await loop.create_connection(
                Recorder, "both.test", 80, all_errors=True, happy_eyeballs_delay=delay
            )
        group: Any = info.value
        assert type(group).__name__ == "ExceptionGroup"
        assert group.message == "create_connection failed"
        assert [type(one) for one in group.exceptions] == [ConnectionRefusedError] * 2

    run(main())


def test_the_next_address_is_tried(run: Run, listener: socket.socket, refused: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolve_to(loop, ("127.0.0.1", refused), ("::1", refused), listener.getsockname())
        await check_and_close(*await loop.create_connection(Recorder, "many.test", 80), listener)

    run(main())


def test_happy_eyeballs(run: Run, listener: socket.socket, stalled: tuple[str, int]) -> None:
    """The first address does not answer; the second is tried without giving up the first."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolve_to(loop, stalled, listener.getsockname())
        connection = await asyncio.wait_for(
            loop.create_connection(Recorder, "slow.test", 80, happy_eyeballs_delay=0.01), 10
        )
        assert connection[0].get_extra_info("peername") == listener.getsockname()
        await check_and_close(*connection, listener)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_happy_eyeballs_does_not_wait_after_a_failure(
    run: Run, listener: socket.socket, refused: int
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolve_to(loop, ("127.0.0.1", refused), listener.getsockname())
        connection = await asyncio.wait_for(
            loop.create_connection(Recorder, "slow.test", 80, happy_eyeballs_delay=1000), 10
        )
        await check_and_close(*connection, listener)

    run(main())


@pytest.mark.parametrize(
    ("keywords", "order"),
    [
        ({}, "1 2 3 4 6 7"),
        ({"interleave": 1}, "1 6 2 7 3 4"),
        ({"interleave": 2}, "1 2 6 3 7 4"),
        ({"happy_eyeballs_delay": 10}, "1 6 2 7 3 4"),
        ({"happy_eyeballs_delay": 10, "interleave": 0}, "1 2 3 4 6 7"),
    ],
)
def test_interleave(run: Run, keywords: dict[str, Any], order: str) -> None:
    """In which order the addresses are tried, as the joined error tells."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        hosts = [("127.0.0.1", port) for port in (1, 2, 3, 4)] + [("::1", 6), ("::1", 7)]
        resolve_to(loop, *hosts)
        with pytest.raises(OSError) as info:
            await loop.create_connection(Recorder, "many.test", 80, **keywords)
        text = str(info.value)
        places = sorted((text.index(f"'{host}', {port}"), str(port)) for host, port in hosts)
        assert [port for _, port in places] == order.split()

    run(main())


def test_getaddrinfo_of_a_subclass_is_honoured(loop_kind: str, listener: socket.socket) -> None:
    if loop_kind == "asyncio":
        base: Any = asyncio.SelectorEventLoop
    else:
        import mioloop

        base = mioloop.Loop
    calls: list[Any] = []

    class Resolver(base):  # type: ignore[misc]
        async def getaddrinfo(self, host: Any, port: Any, **keywords: Any) -> list[Any]:
            calls.append((host, port, keywords))
            return addresses(listener.getsockname())

    async def main() -> None:
        connection = await loop.create_connection(Recorder, "no.such.host", "http", family=0)
        await check_and_close(*connection, listener)

    loop = Resolver()
    loop.run_until_complete(main())
    loop.close()
    keywords = {"family": 0, "type": socket.SOCK_STREAM, "proto": 0, "flags": 0}
    assert calls == [("no.such.host", "http", keywords)]


def test_getaddrinfo_is_not_asked_for_addresses(run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls = resolve_to(loop)
        connection = await loop.create_connection(Recorder, *listener.getsockname())
        await check_and_close(*connection, listener)
        assert calls == []
        with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
            await loop.create_connection(Recorder, "nowhere.test", 80)
        assert len(calls) == 1

    run(main())


def test_cancelled_while_connecting(run: Run, stalled: tuple[str, int]) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(Recorder, *stalled)
        )
        await a_while()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
