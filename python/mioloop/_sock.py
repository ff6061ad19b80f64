"""The socket methods: `sock_recv()`, `sock_sendall()`, `sock_accept()` and their kin.

`_loop.Loop` takes the functions of this file as its methods. Each tries the system call
first and waits for the descriptor only if that would block; cancelling one loses no data.
Where it would block, the native call gives an `Operation` instead of its result, a future
to be awaited at once; then it is called again, with an argument that says so. A socket of a
subclass has its own `recv()`, `send()`, `accept()` ... called.
The socket stays the caller's: nothing here closes it or changes its mode. In debug mode a
blocking socket is a ValueError, and so is an ssl.SSLSocket (TypeError) in any mode.
"""

from __future__ import annotations

import socket as _socket

from ._native import Operation

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from socket import socket
    from typing import Any

    from typing_extensions import Buffer

    from ._loop import Loop


_INTERNET = (_socket.AF_INET, _socket.AF_INET6)
"""The families whose addresses asyncio looks up before it connects."""


async def sock_recv(loop: Loop, sock: socket, n: int) -> bytes:
    """Receive at most `n` bytes; b"" is the end of the stream.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recv.
    """
    received = loop._sock_recv(sock, n)
    while type(received) is Operation:
        await received
        received = loop._sock_recv(sock, n, True)
    return received


async def sock_recv_into(loop: Loop, sock: socket, buf: Buffer) -> int:
    """Receive into `buf`; return the number of bytes.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recv_into.
    """
    received = loop._sock_recv_into(sock, buf)
    while type(received) is Operation:
        await received
        received = loop._sock_recv_into(sock, buf, True)
    return received


async def sock_recvfrom(loop: Loop, sock: socket, bufsize: int) -> tuple[bytes, Any]:
    """Receive a datagram of at most `bufsize` bytes; return (data, address). Since 3.11.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recvfrom.
    """
    received = loop._sock_recvfrom(sock, bufsize)
    while type(received) is Operation:
        await received
        received = loop._sock_recvfrom(sock, bufsize, True)
    return received


async def sock_recvfrom_into(
    loop: Loop, sock: socket, buf: Buffer, nbytes: int = 0
) -> tuple[int, Any]:
    """Receive a datagram into `buf`; return (number of bytes, address). Since 3.11.

    nbytes: at most so many; 0 means the size of `buf`.
    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_recvfrom_into.
    """
    received = loop._sock_recvfrom_into(sock, buf, nbytes)
    while type(received) is Operation:
        await received
        received = loop._sock_recvfrom_into(sock, buf, nbytes, True)
    return received


async def sock_sendall(loop: Loop, sock: socket, data: Buffer) -> None:
    """Send all of `data` to a connected socket.

    Raises OSError; how much was sent is then unknown.
    Follows asyncio.selector_events.BaseSelectorEventLoop.sock_sendall.
    """
    if (sent := loop._sock_send(sock, data)) is None:
        return
    rest = memoryview(data)  # what waits to be sent stays as large as it is
    while sent is not None:
        await loop._sock_writable(sock)
        sent = loop._sock_send(sock, rest, sent)


async def sock_sendto(loop: Loop, sock: socket, data: Buffer, address: Any) -> int:
    """Send a datagram to `address`; return the number of bytes. Since 3.11.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_sendto.
    """
    sent = loop._sock_sendto(sock, data, address)
    while type(sent) is Operation:
        await sent
        sent = loop._sock_sendto(sock, data, address, True)
    return sent


async def sock_connect(loop: Loop, sock: socket, address: Any) -> None:
    """Connect `sock` to `address`, whose host is looked up if it is no number.

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_connect.
    """
    loop._sock_check(sock)
    if sock.family in _INTERNET:
        resolved = await loop._ensure_resolved(
            address, family=sock.family, type=sock.type, proto=sock.proto, loop=loop
        )
        address = resolved[0][4]
    connecting = loop._sock_connect(sock, address)
    while connecting is not None:
        await connecting
        connecting = loop._sock_connected(sock, address)


async def sock_accept(loop: Loop, sock: socket) -> tuple[socket, Any]:
    """Accept a connection; return (its socket, which does not block, and its address).

    Raises OSError. Follows asyncio.selector_events.BaseSelectorEventLoop.sock_accept.
    """
    accepted = loop._sock_accept(sock)
    while type(accepted) is Operation:
        await accepted
        accepted = loop._sock_accept(sock, True)
    return accepted
