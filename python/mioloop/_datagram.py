"""Datagrams: `create_datagram_endpoint()`, and the transport that an endpoint gets.

`_loop.Loop` takes the functions of this file as its methods. The set-up is asyncio's code of
the running version; `make_datagram_transport()` is the one place where datagram transports
are made, UDP and Unix alike.
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop
from asyncio.selector_events import BaseSelectorEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import socket
    from asyncio import DatagramProtocol, DatagramTransport, Future
    from collections.abc import Callable
    from typing import Any, TypeVar

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


def make_datagram_transport(
    loop: Loop,
    sock: socket.socket,
    protocol: DatagramProtocol,
    address: Any = None,
    waiter: Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> DatagramTransport:
    """Make the transport of a non-blocking datagram socket, which it will own.

    address: where it sends to if it is not told. waiter: gets None once the protocol's
    connection_made() has been called. extra: what get_extra_info() knows already.
    Raises RuntimeError if an open transport has the descriptor (since 3.12).
    Follows asyncio.selector_events.BaseSelectorEventLoop._make_datagram_transport.
    """
    make: Any = BaseSelectorEventLoop._make_datagram_transport  # type: ignore[attr-defined]
    transport: DatagramTransport = make(loop, sock, protocol, address, waiter, extra)
    return transport
