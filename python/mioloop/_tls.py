"""TLS: `start_tls()`, and the transport of a connection that is encrypted from its start.

`_loop.Loop` takes the functions of this file as its methods. What happens once per
connection (handshake, shutdown, timeouts, errors) is asyncio's `SSLProtocol` of the running
version, with the user's SSLContext; `Machine` is that class with its hot half taken out and
made native, together with the transport above. Nothing reaches the user's protocol before
the handshake has succeeded.
"""

from __future__ import annotations

import types
from asyncio import sslproto
from asyncio.base_events import BaseEventLoop

from . import _compat
from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import socket
    from asyncio import BaseProtocol, Future, Server, Transport, WriteTransport
    from collections.abc import Callable
    from contextvars import Context
    from ssl import SSLContext
    from typing import Any

    from ._loop import Loop

_Base: Any = sslproto.SSLProtocol
_BUFFER = 64 * 1024  # bytes, for a transport below that is not native


def _on_native(name: str) -> Any:
    """Make an attribute that asyncio's code uses and the native half keeps."""

    def get(machine: Machine) -> Any:
        return getattr(machine._app_transport, name, False)

    def put(machine: Machine, value: Any) -> None:
        if machine._app_transport is not None:
            setattr(machine._app_transport, name, value)

    return property(get, put)


class Machine(_Base):  # type: ignore[misc]
    """asyncio's `SSLProtocol` without what runs per message.

    Its native half is the transport that the user's protocol sees. It delivers and encrypts
    while the state is WRAPPED, keeps what waits to be written, and calls back here when a
    limit is crossed, when the peer has closed, and with every error; all else is asyncio's.
    """

    max_size = 0  # asyncio allocates a buffer so large for each connection
    _direct = True  # libssl is called where it can be; tests turn it off
    _app_transport: Any = None  # the native half, until the connection has ended
    _app_transport_created: bool
    _ssl_buffer: bytearray

    _app_reading_paused = _on_native("_app_reading_paused")
    _app_writing_paused = _on_native("_app_writing_paused")
    _ssl_reading_paused = _on_native("_ssl_reading_paused")
    _ssl_writing_paused = _on_native("_ssl_writing_paused")
    _conn_lost = _on_native("_conn_lost")

    @property
    def _write_backlog(self) -> list[bytes]:
        """A copy: what waits is the native half's."""
        return [] if self._app_transport is None else self._app_transport._write_backlog

    @_write_backlog.setter
    def _write_backlog(self, value: object) -> None:
        pass

    def _get_app_transport(self) -> Any:
        if self._app_transport is None:
            if self._app_transport_created:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
            self._app_transport = self._loop._make_tls_transport(
                self,
                self._app_protocol,
                self._sslobj,
                self._incoming,
                self._outgoing,
                self._direct,
            )
            self._app_transport_created = True
            # As they are already, but now every instance has the same attributes, less than 30:
            # else its dictionary would not share their keys, and take 1.5 KiB more.
            self._handshake_start_time = None
            self._handshake_timeout_handle = self._shutdown_timeout_handle = None
            self._tell_limits()
        return self._app_transport

    def _set_app_protocol(self, app_protocol: BaseProtocol) -> None:
        # The native half finds out by itself how it takes data.
        self._app_protocol = app_protocol
        if self._app_transport is not None:
            self._app_transport._set_app_protocol(app_protocol)

    def _set_state(self, new_state: Any) -> None:
        super()._set_state(new_state)
        if self._app_transport is not None:
            self._app_transport._phase = _PHASES[new_state._value_]

    # The transport below

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake. Called by the transport below, as the others of this kind."""
        if self._app_transport is not None:
            self._app_transport._attach(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything up."""
        native = self._app_transport
        super().connection_lost(exc)
        if native is not None:
            native._end()

    def get_buffer(self, n: int) -> Any:
        """Only for a transport that is not native: others give the bytes to the native half."""
        if not self._ssl_buffer:
            self._ssl_buffer = bytearray(_BUFFER)
            self._ssl_buffer_view = memoryview(self._ssl_buffer)
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the transport below has received into the buffer."""
        if self._app_transport is not None:
            self._app_transport._feed(self._ssl_buffer_view[:nbytes])

    def _do_handshake(self) -> None:
        # A server has nothing to say first; asked to, `_ssl` makes an exception.
        if self._incoming.pending or not self._server_side:
            super()._do_handshake()

    # What the native half does

    def _do_read(self) -> None:
        if self._app_transport is not None:
            self._app_transport._do_read()

    def _do_write(self) -> None:
        if self._app_transport is not None:
            self._app_transport._do_write()

    def _write_appdata(self, list_of_data: Any) -> None:
        if self._app_transport is not None:
            self._app_transport.writelines(list_of_data)

    def _process_outgoing(self) -> None:
        if self._app_transport is not None:
            self._app_transport._process_outgoing()

    def _get_write_buffer_size(self) -> int:
        return 0 if self._app_transport is None else self._app_transport.get_write_buffer_size()

    def _set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None:
        super()._set_write_buffer_limits(high, low)
        if self._app_transport is not None:
            self._tell_limits()

    def _set_read_buffer_limits(self, high: Any = None, low: Any = None) -> None:
        super()._set_read_buffer_limits(high, low)
        if self._app_transport is not None:
            self._tell_limits()

    def _tell_limits(self) -> None:
        self._app_transport._set_limits(
            self._incoming_low_water,
            self._incoming_high_water,
            self._outgoing_low_water,
            self._outgoing_high_water,
        )


# The numbers of the native half's states, by values: an enumeration's members hash by Python
# code. asyncio of 3.10 has another state machine.
_PHASES: dict[Any, int] = (
    {state.value: number for number, state in enumerate(sslproto.SSLProtocolState)}
    if _compat.TLS_HAS_STATES
    else {}
)


def _new_machine(loop: Loop, *args: Any, **kwargs: Any) -> Any:
    """Make what stands between a transport below and the user's protocol.

    asyncio's own class where somebody has put another into its place, and on 3.10.
    """
    if _compat.TLS_HAS_STATES and sslproto.SSLProtocol is _Base:
        return Machine(loop, *args, **kwargs)
    return sslproto.SSLProtocol(loop, *args, **kwargs)


class _Accepted:
    """What a machine tells of its handshake where nobody waits for it: a server's.

    A failure closes the transport, and is reported in debug mode. Has what asyncio's code calls
    on a future. Follows asyncio.selector_events.BaseSelectorEventLoop._accept_connection2.
    """

    __slots__ = ("loop", "protocol", "transport")

    def __init__(self, loop: Loop, protocol: BaseProtocol) -> None:
        self.loop = loop
        self.protocol = protocol
        self.transport: Any = None

    def cancelled(self) -> bool:
        """Return False: nobody can."""
        return False

    def set_result(self, result: object) -> None:
        """Do nothing: the protocol has been told."""

    def set_exception(self, exc: Any) -> None:
        """Close the transport. exc: an exception, or its class."""
        self.transport.close()
        if self.loop.get_debug():
            self.loop.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc() if isinstance(exc, type) else exc,
                    "protocol": self.protocol,
                    "transport": self.transport,
                }
            )


def wrap_factory(
    loop: Loop,
    factory: Callable[[], BaseProtocol],
    sslcontext: SSLContext,
    *timeouts: float | None,
    **limits: float | None,
) -> Callable[[], BaseProtocol]:
    """Return the factory of a TLS server's machines, each with one of `factory`'s protocols.

    timeouts, limits: those of `_serve.start_serving()`.
    """
    limits.update(zip(("ssl_handshake_timeout", "ssl_shutdown_timeout"), timeouts, strict=False))

    def make() -> BaseProtocol:
        protocol = factory()
        waiter = _Accepted(loop, protocol)
        machine = _new_machine(loop, protocol, sslcontext, waiter, True, None, **limits)
        waiter.transport = machine._app_transport
        return machine  # type: ignore[no-any-return]

    return make


@borrowed(BaseEventLoop, sslproto=types.SimpleNamespace(SSLProtocol=_new_machine))
async def start_tls(
    loop: Loop,
    transport: WriteTransport,
    protocol: BaseProtocol,
    sslcontext: SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> Transport | None:
    """Encrypt an open connection; return the transport that the protocol uses from now on.

    ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 if None (the latter since
    3.11). Raises ssl.SSLError if the handshake fails, ConnectionError if it takes too long,
    TypeError for another kind of transport or context; the connection is then closed.
    Follows asyncio.base_events.BaseEventLoop.start_tls.
    """


def make_ssl_transport(
    loop: Loop,
    rawsock: socket.socket,
    protocol: BaseProtocol,
    sslcontext: SSLContext | None,
    waiter: Future[None] | None = None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    extra: dict[str, Any] | None = None,
    server: Server | None = None,
    context: Context | None = None,
    **timeouts: float | None,
) -> Transport:
    """Make the TLS transport of a connected, non-blocking stream socket, which it will own.

    sslcontext: None makes a default one for a client. waiter: gets None once the handshake
    is done and the protocol's connection_made() called, or the handshake's exception.
    timeouts: ssl_handshake_timeout and, since 3.11, ssl_shutdown_timeout, in seconds.
    The others are those of `_connect.make_socket_transport()`.
    Follows asyncio.selector_events.BaseSelectorEventLoop._make_ssl_transport.
    """
    below = _new_machine(
        loop, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
    )
    loop._make_socket_transport(rawsock, below, extra=extra, server=server, context=context)
    transport: Transport = below._app_transport
    return transport
