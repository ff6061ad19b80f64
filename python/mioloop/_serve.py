"""Serving: `create_server()`, `create_unix_server()`, and how their connections are accepted.

`_loop.Loop` takes the functions of this file as its methods. A server is asyncio's own
`Server` object, which tells the loop to listen by `_start_serving()` and to stop by
`_stop_serving()`; the loop accepts, and makes each connection's transport and protocol; that
of a TLS connection is a machine of `_tls`, with the user's protocol above.
"""

from __future__ import annotations

import functools
import os
import socket
from asyncio.base_events import BaseEventLoop
from asyncio.log import logger
from asyncio.unix_events import _UnixSelectorEventLoop

from . import _compat, _tls
from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import BaseProtocol, Server
    from collections.abc import Awaitable, Callable, Sequence
    from contextvars import Context
    from ssl import SSLContext
    from typing import Any, TypeVar

    from ._loop import Loop

    _F = TypeVar("_F", bound=Callable[..., Awaitable[Server]])


def _starting_last(create: _F) -> _F:
    """Make a server first and start it then, so that one that is cancelled is closed.

    asyncio's functions wait one turn after they have started the server; cancelled there, they
    leave it listening with nobody to know of it.
    """

    @functools.wraps(create)
    async def create_and_start(*args: Any, start_serving: bool = True, **kwargs: Any) -> Server:
        server: Any = await create(*args, start_serving=False, **kwargs)
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:
                server.close()
                raise
        return server  # type: ignore[no-any-return]

    return create_and_start  # type: ignore[return-value]


@_starting_last
@borrowed(BaseEventLoop)
async def create_server(
    loop: Loop,
    protocol_factory: Callable[[], BaseProtocol],
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: SSLContext | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen on a TCP port; return the server.

    host: a name, an address, several of them, or None for every interface. port: 0 or None
    lets the system choose one. `sock`, already bound, instead of both.
    backlog: connections that may wait to be accepted. reuse_address: True if None.
    keep_alive: SO_KEEPALIVE (since 3.13). start_serving: False leaves that to the server.
    ssl: the SSLContext of the server; the timeouts are seconds, as in `create_connection()`.

    Raises OSError if an address cannot be bound, TypeError and ValueError for bad arguments.
    Follows asyncio.base_events.BaseEventLoop.create_server.
    """


@_starting_last
@borrowed(_UnixSelectorEventLoop)
async def create_unix_server(
    loop: Loop,
    protocol_factory: Callable[[], BaseProtocol],
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: SSLContext | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
    cleanup_socket: bool = True,
) -> Server:
    """Listen on a Unix stream socket; return the server.

    path: a file, which replaces a socket left there, or an abstract address that begins with
    a null; `sock`, already bound, instead. cleanup_socket: remove the file when the server
    closes (since 3.13). The others are those of `create_server()`, as are the errors.
    Follows asyncio.unix_events._UnixSelectorEventLoop.create_unix_server.
    """


def start_serving(
    loop: Loop,
    protocol_factory: Callable[[], BaseProtocol],
    sock: socket.socket,
    sslcontext: SSLContext | None = None,
    server: Server | None = None,
    backlog: int = 100,
    *timeouts: float | None,
    context: Context | None = None,
    **tls: Any,
) -> None:
    """Begin to accept the connections of a listening socket.

    timeouts, tls: the TLS handshake's and shutdown's, seconds, as the running version gives
    them. context: what each connection gets a copy of; only 3.15 and later give one.
    Called by the server. Connections of a socket that has an `accept()` of its own come about as
    in asyncio.
    Follows asyncio.selector_events.BaseSelectorEventLoop._start_serving.
    """
    if loop._has_own_methods(sock):
        tls.update(_compat.transport_context(context))
        loop._start_serving_by_method(
            protocol_factory, sock, sslcontext, server, backlog, *timeouts, **tls
        )
        return
    if sslcontext is not None:
        protocol_factory = _tls.wrap_factory(loop, protocol_factory, sslcontext, *timeouts, **tls)
    loop._accept_connections(protocol_factory, sock, server, backlog, context)


def stop_serving(loop: Loop, sock: socket.socket) -> None:
    """Close a listening socket; remove the file of a Unix one, unless another took its place.

    Called by the server. Follows asyncio.unix_events._UnixSelectorEventLoop._stop_serving
    (3.13), whose code cannot be borrowed since it calls `super()`. Versions before never put
    a socket into `_unix_server_sockets`.
    """
    inode = loop._unix_server_sockets.pop(sock, None)
    path = sock.getsockname() if inode is not None else None
    loop._remove_reader(sock.fileno())
    sock.close()
    if path is None:
        return
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
