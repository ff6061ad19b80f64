"""TLS: what is refused, and what a handshake that fails or never ends leaves behind.

Run on asyncio and on mioloop alike. No connection ever comes of a failed check: neither side's
protocol hears of it. The time-out that is tested is a short one, on a peer that is silent.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from tls_peers import (
    PATIENCE,
    Serving,
    client_context,
    close,
    collected,  # noqa: F401 (a fixture)
    connect,
    leaves_no_warning,
    loop_kind,  # noqa: F401 (a fixture)
    server_context,
)

Run = Callable[..., Any]
pytestmark = leaves_no_warning


# Refusals: no connection ever comes of a failed check


def refused(run: Run, server: ssl.SSLContext, client: ssl.SSLContext, **options: Any) -> Any:
    """The client's error. Neither side's protocol may have been connected."""
    made: list[object] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)

    async def main() -> OSError:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        listening = await loop.create_server(Protocol, "127.0.0.1", 0, ssl=server)
        port = listening.sockets[0].getsockname()[1]
        keywords = {"server_hostname": "localhost", **options}
        with pytest.raises(OSError) as caught:
            await loop.create_connection(Protocol, "127.0.0.1", port, ssl=client, **keywords)
        listening.close()
        await listening.wait_closed()
        return caught.value

    error = run(main())
    assert made == []
    return error


def test_unknown_authority_is_refused(run: Run) -> None:
    error = refused(run, server_context(), client_context(trust=False))
    assert isinstance(error, ssl.SSLCertVerificationError)


def test_wrong_host_name_is_refused(run: Run) -> None:
    error = refused(run, server_context(), client_context(), server_hostname="example.org")
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert "example.org" in error.verify_message


def test_expired_certificate_is_refused(run: Run) -> None:
    error = refused(run, server_context("expired"), client_context())
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_message == "certificate has expired"


def test_no_common_version_is_refused(run: Run) -> None:
    server, client = server_context(), client_context()
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    # Whichever comes first: the alert, or the end of the connection.
    assert isinstance(refused(run, server, client), (ssl.SSLError, ConnectionResetError))


def test_arguments_that_exclude_one_another(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for options, text in [
            ({"server_hostname": "x"}, "server_hostname is only meaningful with ssl"),
            ({"ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        ]:
            with pytest.raises(ValueError, match=text):
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, **options)
        with socket.socket() as sock, pytest.raises(ValueError, match="must set server_hostname"):
            await loop.create_connection(asyncio.Protocol, ssl=client_context(), sock=sock)
        with pytest.raises(TypeError, match="must be an SSLContext or None"):
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=True)

    run(main())


def test_handshake_that_never_comes(run: Run) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with Serving(silent, None) as port:
            with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
                await connect(port, client_context(), ssl_handshake_timeout=0.01)

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_a_servers_failed_handshake_is_reported_in_debug_mode(run: Run, debug: bool) -> None:
    reports: list[dict[str, Any]] = []
    reported = asyncio.Event()
    made: list[asyncio.Protocol] = []

    def factory() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    def report(_: object, context: dict[str, Any]) -> None:
        reports.append(context)
        reported.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
        reader, writer = await connect(server.sockets[0].getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        try:
            await asyncio.wait_for(reader.read(), PATIENCE)  # an alert, and the end
        except ConnectionResetError:
            pass
        if debug:
            await asyncio.wait_for(reported.wait(), PATIENCE)
        await close(writer)
        server.close()
        await server.wait_closed()

    run(main(), debug=debug)
    if not debug:
        assert reports == []
        return
    [only] = reports
    assert only["message"] == "Error on transport creation for incoming connection"
    assert isinstance(only["exception"], ssl.SSLError)
    assert [only["protocol"]] == made
    assert only["transport"].is_closing()


def test_cancelled_handshake_closes_the_socket(run: Run) -> None:
    """The peer sees the end of the connection: nobody else holds the socket."""

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()
        started = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            started.set()
            try:
                ended.set_result(await reader.read())
            except ConnectionError:
                ended.set_result(b"reset")

        async with Serving(silent, None) as port:
            connecting = asyncio.create_task(connect(port, client_context()))
            await started.wait()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert await asyncio.wait_for(ended, PATIENCE) is not None

    run(main())
