"""Pipes: `connect_read_pipe()` and `connect_write_pipe()`, and the transports that pipes get.

`_loop.Loop` takes the functions of this file as its methods; the pipes of child processes
come through here as well. A pipe is anything that select() can wait for: pipes, FIFOs,
sockets, terminals. The pipe object stays the owner of its descriptor, and the transport
closes it through the object's own close().
"""

from __future__ import annotations

from asyncio import unix_events
from asyncio.base_events import BaseEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import BaseProtocol, Future, ReadTransport, WriteTransport
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ._loop import Loop

    _P = TypeVar("_P", bound=BaseProtocol)


@borrowed(BaseEventLoop)
async def connect_read_pipe(
    loop: Loop, protocol_factory: Callable[[], _P], pipe: Any
) -> tuple[ReadTransport, _P]:
    """Read from a pipe; return (transport, protocol).

    pipe: a file object, which becomes non-blocking and is closed with the transport.
    Raises ValueError for a regular file. Follows BaseEventLoop.connect_read_pipe.
    """


@borrowed(BaseEventLoop)
async def connect_write_pipe(
    loop: Loop, protocol_factory: Callable[[], _P], pipe: Any
) -> tuple[WriteTransport, _P]:
    """Write to a pipe; return (transport, protocol).

    pipe: a file object, which becomes non-blocking and is closed with the transport.
    Raises ValueError for a regular file. Follows BaseEventLoop.connect_write_pipe.
    """


def make_read_pipe_transport(
    loop: Loop,
    pipe: Any,
    protocol: BaseProtocol,
    waiter: Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> ReadTransport:
    """Make the transport that reads from `pipe`.

    waiter: gets None once the protocol's connection_made() has been called.
    Follows asyncio.unix_events._UnixSelectorEventLoop._make_read_pipe_transport.
    """
    make: Any = unix_events._UnixReadPipeTransport  # type: ignore[attr-defined]
    transport: ReadTransport = make(loop, pipe, protocol, waiter, extra)
    return transport


def make_write_pipe_transport(
    loop: Loop,
    pipe: Any,
    protocol: BaseProtocol,
    waiter: Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> WriteTransport:
    """Make the transport that writes to `pipe`.

    waiter: gets None once the protocol's connection_made() has been called.
    Follows asyncio.unix_events._UnixSelectorEventLoop._make_write_pipe_transport.
    """
    make: Any = unix_events._UnixWritePipeTransport  # type: ignore[attr-defined]
    transport: WriteTransport = make(loop, pipe, protocol, waiter, extra)
    return transport
