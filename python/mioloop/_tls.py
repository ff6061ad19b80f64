"""TLS: `start_tls()`, and the transport of a connection that is encrypted from its start.

`_loop.Loop` takes the functions of this file as its methods. TLS is asyncio's `SSLProtocol`
of the running version, a protocol below and a transport above, with the user's SSLContext;
below it is the same transport that a plain connection has. Nothing reaches the user's
protocol before the handshake has succeeded.
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop
from asyncio.sslproto import SSLProtocol

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import socket
    from asyncio import BaseProtocol, Future, Server, Transport, WriteTransport
    from contextvars import Context
    from ssl import SSLContext
    from typing import Any

    from ._loop import Loop


@borrowed(BaseEventLoop)
async def start_tls(
    loop: Loop,
    transport: WriteTransport,
    protocol: BaseProtocol,
    sslcontext: SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> Transport | None:
    """Encrypt an open connection; return the transport that the protocol uses from now on.

    ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 if None (the latter since
    3.11). Raises ssl.SSLError if the handshake fails, ConnectionError if it takes too long,
    TypeError for another kind of transport or context; the connection is then closed.
    Follows asyncio.base_events.BaseEventLoop.start_tls.
    """


def make_ssl_transport(
    loop: Loop,
    rawsock: socket.socket,
    protocol: BaseProtocol,
    sslcontext: SSLContext | None,
    waiter: Future[None] | None = None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    extra: dict[str, Any] | None = None,
    server: Server | None = None,
    context: Context | None = None,
    **timeouts: float | None,
) -> Transport:
    """Make the TLS transport of a connected, non-blocking stream socket, which it will own.

    sslcontext: None makes a default one for a client. waiter: gets None once the handshake
    is done and the protocol's connection_made() called, or the handshake's exception.
    timeouts: ssl_handshake_timeout and, since 3.11, ssl_shutdown_timeout, in seconds.
    The others are those of `_connect.make_socket_transport()`.
    Follows asyncio.selector_events.BaseSelectorEventLoop._make_ssl_transport.
    """
    below: Any = SSLProtocol(
        loop,
        protocol,
        sslcontext,  # type: ignore[arg-type]
        waiter,  # type: ignore[arg-type]
        server_side,
        server_hostname,
        **timeouts,  # type: ignore[arg-type]
    )
    loop._make_socket_transport(rawsock, below, extra=extra, server=server, context=context)
    transport: Transport = below._app_transport
    return transport
