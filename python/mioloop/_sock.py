"""The socket methods: `sock_recv()`, `sock_sendall()`, `sock_accept()` and their kin.

`_loop.Loop` takes the functions of this file as its methods. Each tries the system call
first and waits for the descriptor only if that would block; cancelling one loses no data.
The socket stays the caller's: nothing here closes it or changes its mode. In debug mode a
blocking socket is a ValueError, and so is an ssl.SSLSocket (TypeError) in any mode.
"""

from __future__ import annotations

from asyncio.selector_events import BaseSelectorEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from socket import socket
    from typing import Any

    from typing_extensions import Buffer

    from ._loop import Loop


async def sock_recv(loop: Loop, sock: socket, n: int) -> bytes:
    """Receive at most `n` bytes; b"" is the end of the stream.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recv.
    """
    received = loop._sock_recv(sock, n)
    if isinstance(received, bytes):
        return received
    try:
        return await received
    except BaseException:
        loop._sock_forget(sock, received)
        raise


async def sock_recv_into(loop: Loop, sock: socket, buf: Buffer) -> int:
    """Receive into `buf`; return the number of bytes.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recv_into.
    """
    received = loop._sock_recv_into(sock, buf)
    if isinstance(received, int):
        return received
    try:
        return await received
    except BaseException:
        loop._sock_forget(sock, received)
        raise


@borrowed(BaseSelectorEventLoop)
async def sock_recvfrom(loop: Loop, sock: socket, bufsize: int) -> tuple[bytes, Any]:
    """Receive a datagram of at most `bufsize` bytes; return (data, address). Since 3.11.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recvfrom.
    """


@borrowed(BaseSelectorEventLoop)
async def sock_recvfrom_into(
    loop: Loop, sock: socket, buf: Buffer, nbytes: int = 0
) -> tuple[int, Any]:
    """Receive a datagram into `buf`; return (number of bytes, address). Since 3.11.

    nbytes: at most so many; 0 means the size of `buf`.
    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recvfrom_into.
    """


async def sock_sendall(loop: Loop, sock: socket, data: Buffer) -> None:
    """Send all of `data` to a connected socket.

    Raises OSError; how much was sent is then unknown.
    Follows asyncio.selector_events.BaseSelectorEventLoop.sock_sendall.
    """
    sending = loop._sock_sendall(sock, data)
    if sending is None:
        return
    try:
        await sending
    except BaseException:
        loop._sock_forget(sock, sending)
        raise


@borrowed(BaseSelectorEventLoop)
async def sock_sendto(loop: Loop, sock: socket, data: Buffer, address: Any) -> int:
    """Send a datagram to `address`; return the number of bytes. Since 3.11.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_sendto.
    """


@borrowed(BaseSelectorEventLoop)
async def sock_connect(loop: Loop, sock: socket, address: Any) -> None:
    """Connect `sock` to `address`, whose host is looked up if it is no number.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_connect.
    """


@borrowed(BaseSelectorEventLoop)
async def sock_accept(loop: Loop, sock: socket) -> tuple[socket, Any]:
    """Accept a connection; return (its socket, which does not block, and its address).

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_accept.
    """
