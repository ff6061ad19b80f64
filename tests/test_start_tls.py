"""start_tls: from a plain connection to TLS, and to TLS in TLS.

Run on asyncio and on mioloop alike, over socket pairs. What TLS connections do once they are
there is in test_tls.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tls_peers import (
    PATIENCE,
    client_context,
    collected,  # noqa: F401 (a fixture)
    leaves_no_warning,
    loop_kind,  # noqa: F401 (a fixture)
    server_context,
)

Run = Callable[..., Any]
pytestmark = leaves_no_warning
since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has no TLS in TLS")


async def upgrade_both(client: Any, server: Any, context: ssl.SSLContext | None = None) -> Any:
    """The transports after a handshake between two (transport, protocol) pairs."""
    loop = asyncio.get_running_loop()
    return await asyncio.gather(
        loop.start_tls(*client, context or client_context(), server_hostname="localhost"),
        loop.start_tls(*server, server_context(), server_side=True),
    )


class Collector(asyncio.Protocol):
    """Keeps what it gets until there is enough of it."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.data = b""
        self.wanted: tuple[int, asyncio.Future[bytes]] | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._answer()

    def _answer(self) -> None:
        if self.wanted and len(self.data) >= self.wanted[0]:
            self.wanted[1].set_result(self.data)
            self.wanted, self.data = None, b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)

    async def get(self, count: int) -> bytes:
        future = asyncio.get_running_loop().create_future()
        self.wanted = (count, future)
        self._answer()
        return await asyncio.wait_for(future, PATIENCE)


async def connected_pair() -> Any:
    """Two (transport, protocol) pairs over a socket pair."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    return await asyncio.gather(
        loop.create_connection(Collector, sock=ours),
        loop.create_connection(Collector, sock=theirs),
    )


async def abort_both(*ends: tuple[Any, Any]) -> None:
    """End both (transport, protocol) pairs and wait until their protocols know."""
    for transport, _ in ends:
        transport.abort()
    await asyncio.wait_for(asyncio.gather(*(end[1].lost for end in ends)), PATIENCE)


@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=since_3_11)])
def test_start_tls(run: Run, layers: int) -> None:
    """From plain to TLS, and to TLS in TLS."""

    async def main() -> None:
        client, server = await connected_pair()
        client[0].write(b"plain")
        assert await server[1].get(5) == b"plain"
        ends = [client[0], server[0]]
        for _ in range(layers):
            ends = await upgrade_both((ends[0], client[1]), (ends[1], server[1]))
            ends[0].write(b"secret")
            assert await server[1].get(6) == b"secret"
            ends[1].write(b"answer")
            assert await client[1].get(6) == b"answer"
        assert ends[0].get_extra_info("ssl_object").version().startswith("TLS")
        await abort_both((ends[0], client[1]), (ends[1], server[1]))

    run(main())


def test_start_tls_that_fails_closes_the_connection(run: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        client, server = await connected_pair()
        results = await asyncio.gather(
            upgrade_both(client, server, client_context(trust=False)), return_exceptions=True
        )
        assert isinstance(results[0], ssl.SSLCertVerificationError)
        assert client[0].is_closing()
        server[0].abort()
        for transport, _ in (client, server):
            while transport.get_extra_info("socket").fileno() >= 0:
                await asyncio.sleep(0)

    run(main())


def test_start_tls_checks_its_arguments(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        client, server = await connected_pair()
        with pytest.raises(TypeError, match=r"is expected to be an instance of ssl\.SSLContext"):
            await loop.start_tls(*client, True)
        with pytest.raises(TypeError, match=r"is not supported by start_tls"):
            await loop.start_tls(asyncio.Transport(), client[1], client_context())
        await abort_both(client, server)

    run(main())
