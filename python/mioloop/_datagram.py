"""Datagrams: `create_datagram_endpoint()`.

`_loop.Loop` takes the function of this file as its method. Its code is asyncio's of the
running version; it asks the loop for a transport, which is native, UDP and Unix alike
(`_native.Loop._make_datagram_transport`).
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import socket
    from asyncio import DatagramProtocol, DatagramTransport
    from collections.abc import Callable
    from typing import TypeVar

    from ._loop import Loop

    _P = TypeVar("_P", bound=DatagramProtocol)


@borrowed(BaseEventLoop)
async def create_datagram_endpoint(
    loop: Loop,
    protocol_factory: Callable[[], _P],
    local_addr: tuple[str, int] | str | None = None,
    remote_addr: tuple[str, int] | str | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[DatagramTransport, _P]:
    """Make a UDP or Unix datagram endpoint; return (transport, protocol).

    local_addr: (host, port) to bind to, remote_addr: (host, port) to send to; with
    family=socket.AF_UNIX both are paths. `sock`, a datagram socket, instead of everything.
    allow_broadcast: SO_BROADCAST. (3.10 also takes reuse_address, which must be false.)

    Raises OSError if an address cannot be used, ValueError for arguments that exclude one
    another. Follows asyncio.base_events.BaseEventLoop.create_datagram_endpoint.
    """
