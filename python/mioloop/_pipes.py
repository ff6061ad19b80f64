"""Pipes: `connect_read_pipe()` and `connect_write_pipe()`.

`_loop.Loop` takes the functions of this file as its methods; the pipes of child processes
come through here as well. A pipe is anything that select() can wait for: pipes, FIFOs,
sockets, terminals. The code is asyncio's of the running version; it asks the loop for
transports, which are native (`_native.Loop._make_read_pipe_transport` and its counterpart).
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import BaseProtocol, ReadTransport, WriteTransport
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
