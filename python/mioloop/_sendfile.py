"""Sending files: `sendfile()` over a transport, `sock_sendfile()` over a socket.

`_loop.Loop` takes the functions of this file as its methods. The kernel copies where it can
(os.sendfile); over TLS, and for files that are none, a thread reads and the loop writes,
unless fallback=False asks for an error instead. The file stays the caller's and is left at
the position behind what was sent.
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop
from asyncio.exceptions import CancelledError

from ._borrow import borrowed
from ._native import SSLTransport

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import WriteTransport
    from socket import socket
    from typing import IO, Any

    from ._loop import Loop
    from ._native import StreamTransport

_CLOSED = "Connection is closed by peer"  # asyncio's words


@borrowed(BaseEventLoop)
async def sendfile(
    loop: Loop,
    transport: WriteTransport,
    file: IO[bytes],
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool = True,
) -> int:
    """Send a file over a transport; return the number of bytes.

    offset: where to begin, in bytes; count: how many at most, None for all.
    Raises RuntimeError if the transport is closing or cannot do it, SendfileNotAvailableError
    if the kernel cannot and fallback is False, ConnectionError if the peer goes away.
    Follows asyncio.base_events.BaseEventLoop.sendfile.
    """


@borrowed(BaseEventLoop)
async def sock_sendfile(
    loop: Loop,
    sock: socket,
    file: IO[bytes],
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool | None = True,
) -> int:
    """Send a file over a connected, non-blocking socket; return the number of bytes.

    The arguments are those of `sendfile()`. Raises ValueError and TypeError for bad ones,
    SendfileNotAvailableError if the kernel cannot and fallback is False, OSError.
    Follows asyncio.base_events.BaseEventLoop.sock_sendfile.
    """


async def sendfile_native(
    loop: Loop,
    transport: StreamTransport | SSLTransport,
    file: IO[bytes],
    offset: int,
    count: int | None,
) -> int:
    """Let the kernel copy the file to the transport's socket, which nobody else writes to then.

    A TLS transport comes here only while the kernel encrypts. Raises SendfileNotAvailableError
    if the kernel cannot, ConnectionError if the transport is closed meanwhile.
    Follows asyncio.selector_events.BaseSelectorEventLoop._sendfile_native.
    """
    carrier = transport._carrier if isinstance(transport, SSLTransport) else transport
    if carrier is None:
        raise ConnectionError(_CLOSED)
    resumes = carrier.is_reading()
    carrier.pause_reading()
    await transport._make_empty_waiter()
    sock: Any = carrier._sock  # None only once closed, which the empty waiter tells
    carrier._release_fd()
    sending = loop.create_task(loop.sock_sendfile(sock, file, offset, count, fallback=False))
    carrier._set_sender(sending)
    try:
        return await sending
    except CancelledError:
        if carrier._sock is not None:
            raise
        raise ConnectionError(_CLOSED) from None
    finally:
        transport._reset_empty_waiter()
        if resumes:
            carrier.resume_reading()
