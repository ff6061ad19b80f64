"""Transports for sockets that have `recv()`, `send()` or the like of their own.

asyncio's transports call the methods of their socket, so a subclass of `socket.socket` that
counts or changes what passes through has its say. Native transports make system calls
instead. So such a socket is given asyncio's own transport, which watches the descriptor through
the loop. Called by the native `_make_socket_transport()` and `_make_datagram_transport()`; plain
sockets never come here.
"""

from __future__ import annotations

from asyncio import selector_events

from . import _compat

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import socket
    from asyncio import AbstractServer, BaseProtocol, Future
    from contextvars import Context
    from typing import Any

    from ._loop import Loop

_Events: Any = selector_events


class _Shown:
    """`repr()` without asking a selector, which the loop has not."""

    _sock: Any
    _sock_fd: int
    _closing: bool

    def __repr__(self) -> str:
        transport: Any = self
        parts = [type(self).__name__]
        if self._sock is None:
            parts.append("closed")
        elif self._closing:
            parts.append("closing")
        parts.append(f"fd={self._sock_fd}")
        if transport._loop is not None and not transport._loop.is_closed():
            reads = transport._sock is not None and transport.is_reading()
            bufsize = transport.get_write_buffer_size()
            parts.append("read=polling" if reads else "read=idle")
            parts.append(f"write=<{'polling' if bufsize else 'idle'}, bufsize={bufsize}>")
        return f"<{' '.join(parts)}>"


class SelectorSocketTransport(_Shown, _Events._SelectorSocketTransport):  # type: ignore[misc]
    """asyncio's transport of a stream socket."""

    _sender: Any = None

    def _release_fd(self) -> None:
        """For `sendfile()`, which watches the descriptor itself."""
        self._loop._transports.pop(self._sock_fd, None)

    def _set_sender(self, task: Future[int]) -> None:
        """The task of `sendfile()`, which ends with the connection."""
        self._sender = task

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        if self._sender is not None:
            self._sender.cancel()
            self._empty_waiter = None  # nobody waits for it any more
        super()._call_connection_lost(exc)

    def _reset_empty_waiter(self) -> None:
        """`sendfile()` is over."""
        super()._reset_empty_waiter()
        self._sender = None
        if self._loop is not None:  # else the connection was lost meanwhile
            self._loop._transports[self._sock_fd] = self


class SelectorDatagramTransport(_Shown, _Events._SelectorDatagramTransport):  # type: ignore[misc]
    """asyncio's transport of a datagram socket."""


def make_stream_transport(
    loop: Loop,
    sock: socket.socket,
    protocol: BaseProtocol,
    waiter: Future[None] | None,
    extra: dict[str, Any] | None,
    server: AbstractServer | None,
    context: Context | None,
) -> SelectorSocketTransport:
    """Follows asyncio.selector_events.BaseSelectorEventLoop._make_socket_transport."""
    keywords = _compat.transport_context(context)
    return SelectorSocketTransport(loop, sock, protocol, waiter, extra, server, **keywords)


def make_datagram_transport(
    loop: Loop,
    sock: socket.socket,
    protocol: BaseProtocol,
    address: Any,
    waiter: Future[None] | None,
    extra: dict[str, Any] | None,
) -> SelectorDatagramTransport:
    """Follows asyncio.selector_events.BaseSelectorEventLoop._make_datagram_transport."""
    return SelectorDatagramTransport(loop, sock, protocol, address, waiter, extra)
