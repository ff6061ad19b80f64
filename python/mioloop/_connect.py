"""Connecting: `create_connection()`, `create_unix_connection()`, `connect_accepted_socket()`.

`_loop.Loop` takes the functions of this file as its methods. Their code is asyncio's of the
running version; it asks the loop for transports, which are native
(`_native.Loop._make_socket_transport`).
"""

from __future__ import annotations

import types
from asyncio import staggered
from asyncio.base_events import BaseEventLoop
from asyncio.unix_events import _UnixSelectorEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import os
    import socket
    from asyncio import BaseProtocol, Transport
    from collections.abc import Awaitable, Callable, Iterable
    from ssl import SSLContext
    from typing import Any, TypeVar

    from ._loop import Loop

    _Connect = Callable[[], Awaitable[socket.socket]]
    _P = TypeVar("_P", bound=BaseProtocol)


async def _race(
    connects: Iterable[_Connect], delay: float | None, *, loop: Loop | None = None
) -> tuple[Any, ...]:
    """Happy eyeballs: connect to one address after the other, until a socket is connected.

    One that is connected in vain, because the caller was cancelled at that moment or another one
    was as fast, is closed; asyncio leaves it to the garbage collector.
    Follows asyncio.staggered.staggered_race.
    """
    connected: list[socket.socket] = []

    def keeping(connect: _Connect) -> _Connect:
        async def connect_and_keep() -> socket.socket:
            connected.append(await connect())
            return connected[-1]

        return connect_and_keep

    winner = None
    try:
        result = await staggered.staggered_race(map(keeping, connects), delay, loop=loop)
        winner = result[0]
        return result
    finally:
        for sock in connected:
            if sock is not winner:
                sock.close()


@borrowed(BaseEventLoop, staggered=types.SimpleNamespace(staggered_race=_race))
async def create_connection(
    loop: Loop,
    protocol_factory: Callable[[], _P],
    host: str | None = None,
    port: int | str | None = None,
    *,
    ssl: SSLContext | bool | None = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> tuple[Transport, _P]:
    """Connect to a TCP server, or take over a stream socket; return (transport, protocol).

    host, port: where to connect to; addresses are tried one after the other. `sock`, already
    connected, instead of both. local_addr: (host, port) to bind to before connecting.
    ssl: an SSLContext, or True for a default one. server_hostname: what the certificate is
    checked against, `host` if it is None. ssl_handshake_timeout, ssl_shutdown_timeout:
    seconds, 60 and 30 if None (the latter since 3.11).
    happy_eyeballs_delay: seconds until the next address is tried beside the one in progress
    (None: never). interleave: how many addresses of the first family come before the
    families take turns. all_errors: raise an ExceptionGroup (since 3.12).

    Raises OSError if no address works, ssl.SSLError if the handshake fails, ValueError for
    arguments that exclude one another. Follows BaseEventLoop.create_connection.
    """


@borrowed(_UnixSelectorEventLoop)
async def create_unix_connection(
    loop: Loop,
    protocol_factory: Callable[[], _P],
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    ssl: SSLContext | bool | None = None,
    sock: socket.socket | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> tuple[Transport, _P]:
    """Connect to a Unix stream socket; return (transport, protocol).

    path: a file, or an abstract address that begins with a null; `sock`, already connected,
    instead. The TLS arguments are those of `create_connection()`; with ssl, server_hostname
    must be given. Raises OSError, ssl.SSLError and ValueError as that does.
    Follows asyncio.unix_events._UnixSelectorEventLoop.create_unix_connection.
    """


@borrowed(BaseEventLoop)
async def connect_accepted_socket(
    loop: Loop,
    protocol_factory: Callable[[], _P],
    sock: socket.socket,
    *,
    ssl: SSLContext | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> tuple[Transport, _P]:
    """Take over a socket that was accepted outside asyncio; return (transport, protocol).

    With ssl, this side is the server. The timeouts are seconds, as in `create_connection()`.
    Raises ValueError if `sock` is no stream socket, ssl.SSLError if the handshake fails.
    Follows asyncio.base_events.BaseEventLoop.connect_accepted_socket.
    """
