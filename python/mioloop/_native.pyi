# What the extension module gives to the Python layer and to type checkers.
#
# The classes are asyncio's own by inheritance, so only what they add or what Python code
# here calls is spelled out. `mioloop.Loop` is the documented face of `Loop`; nobody else
# makes one. `stubtest mioloop._native` compares this file with the extension.

import asyncio
import sys
from asyncio import _CoroutineLike
from asyncio.events import _TaskFactory
from collections.abc import Callable
from contextvars import Context
from socket import AddressFamily, SocketKind, socket
from ssl import MemoryBIO, SSLObject
from typing import Any, Literal, NoReturn, TypeVar, final

from _typeshed import FileDescriptorLike
from typing_extensions import Buffer, Self, TypeVarTuple, Unpack, disjoint_base

from ._selector_transports import SelectorDatagramTransport, SelectorSocketTransport

__all__ = [
    "DatagramTransport",
    "Future",
    "Handle",
    "Loop",
    "Operation",
    "ReadPipeTransport",
    "SSLTransport",
    "StreamTransport",
    "Task",
    "TimerHandle",
    "WritePipeTransport",
]
if sys.version_info >= (3, 14):
    __all__ += ["ThreadSafeHandle"]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Ts = TypeVarTuple("_Ts")

_AddressInfo = (
    tuple[Literal[AddressFamily.AF_INET], SocketKind, int, str, tuple[str, int]]
    | tuple[
        Literal[AddressFamily.AF_INET6],
        SocketKind,
        int,
        str,
        tuple[str, int, int, int] | tuple[int, bytes],
    ]
)

@disjoint_base
class Loop:
    slow_callback_duration: float
    @property
    def native_tasks(self) -> bool: ...
    _debug: bool
    @property
    def _thread_id(self) -> int | None: ...
    def __new__(cls, *, native_tasks: bool | None = None) -> Self: ...
    @classmethod
    def _own_methods(cls) -> None: ...
    @classmethod
    def _is_native(cls, name: str) -> bool: ...
    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def time(self) -> float: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    if sys.version_info >= (3, 14):
        def create_task(
            self,
            coro: _CoroutineLike[_T],
            *,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool | None = None,
            **kwargs: Any,
        ) -> asyncio.Task[_T]: ...
    elif sys.version_info >= (3, 13):
        def create_task(
            self,
            coro: _CoroutineLike[_T],
            *,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> asyncio.Task[_T]: ...
    elif sys.version_info >= (3, 11):
        def create_task(
            self,
            coro: _CoroutineLike[_T],
            *,
            name: str | None = None,
            context: Context | None = None,
        ) -> asyncio.Task[_T]: ...
    else:
        def create_task(
            self, coro: _CoroutineLike[_T], *, name: str | None = None
        ) -> asyncio.Task[_T]: ...

    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...
    def get_task_factory(self) -> _TaskFactory | None: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def get_debug(self) -> bool: ...
    def set_debug(self, enabled: bool) -> None: ...
    def add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], Any],
        *args: Unpack[_Ts],
    ) -> None: ...
    def remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], Any],
        *args: Unpack[_Ts],
    ) -> None: ...
    def remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def _add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], Any],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def _remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def _add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[Unpack[_Ts]], Any],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def _remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def _ensure_fd_no_transport(self, fd: FileDescriptorLike) -> None: ...
    def _watch_child(
        self, pid: int, callback: Callable[[Unpack[_Ts]], Any], *args: Unpack[_Ts]
    ) -> None: ...
    def _sock_check(self, sock: socket, /) -> None: ...
    def _sock_recv(self, sock: socket, n: int, again: bool = False, /) -> bytes | Operation: ...
    def _sock_recv_into(
        self, sock: socket, buf: Buffer, again: bool = False, /
    ) -> int | Operation: ...
    def _sock_recvfrom(
        self, sock: socket, bufsize: int, again: bool = False, /
    ) -> tuple[bytes, Any] | Operation: ...
    def _sock_recvfrom_into(
        self, sock: socket, buf: Buffer, nbytes: int, again: bool = False, /
    ) -> tuple[int, Any] | Operation: ...
    def _sock_send(self, sock: socket, data: Buffer, sent: int = 0, /) -> int | None: ...
    def _sock_sendto(
        self, sock: socket, data: Buffer, address: Any, again: bool = False, /
    ) -> int | Operation: ...
    def _sock_writable(self, sock: socket, /) -> Operation: ...
    def _sock_connect(self, sock: socket, address: Any, /) -> Operation | None: ...
    def _sock_connected(self, sock: socket, address: Any, /) -> Operation | None: ...
    def _sock_accept(
        self, sock: socket, again: bool = False, /
    ) -> tuple[socket, Any] | Operation: ...
    @staticmethod
    def _has_own_methods(sock: socket) -> bool: ...
    def _make_socket_transport(
        self,
        sock: socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: Context | None = None,
    ) -> StreamTransport | SelectorSocketTransport: ...
    def _make_tls_transport(
        self,
        machine: Any,
        protocol: asyncio.BaseProtocol,
        connection: SSLObject,
        incoming: MemoryBIO,
        outgoing: MemoryBIO,
        direct: bool,
    ) -> SSLTransport: ...
    def _make_datagram_transport(
        self,
        sock: socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> DatagramTransport | SelectorDatagramTransport: ...
    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> ReadPipeTransport: ...
    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> WritePipeTransport: ...
    def _accept_connections(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket,
        server: asyncio.AbstractServer | None = None,
        backlog: int = 100,
        context: Context | None = None,
    ) -> None: ...
    def _lookup_addresses(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        family: int,
        type: int,
        proto: int,
        flags: int,
        /,
    ) -> list[_AddressInfo] | asyncio.Future[list[_AddressInfo]] | None: ...
    def _lookup_name(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int, /
    ) -> tuple[str, str] | asyncio.Future[tuple[str, str]] | None: ...
    def _forget_lookup(self, future: asyncio.Future[Any], /) -> None: ...
    def _check_closed(self) -> None: ...
    def _check_running(self) -> None: ...
    def _run(self) -> None: ...
    def _close(self) -> None: ...

@disjoint_base
class Future(asyncio.Future[_T]): ...

@disjoint_base
class Task(asyncio.Task[_T_co]): ...

@final
class Handle(asyncio.Handle): ...

@final
class TimerHandle(asyncio.TimerHandle): ...

if sys.version_info >= (3, 14):
    @final
    class ThreadSafeHandle(asyncio.Handle): ...

if sys.version_info >= (3, 12):
    @final
    class DatagramTransport(asyncio.transports._FlowControlMixin, asyncio.DatagramTransport): ...

else:
    @final
    class DatagramTransport(asyncio.transports._FlowControlMixin):
        def sendto(self, data: Buffer, addr: Any = None) -> None: ...

@final
class Operation(asyncio.Future[None]):
    def throw(self, *exception: Any) -> NoReturn: ...
    def close(self) -> None: ...

@final
class ReadPipeTransport(asyncio.ReadTransport): ...

@final
class WritePipeTransport(asyncio.transports._FlowControlMixin): ...

@final
class SSLTransport(asyncio.transports._FlowControlMixin, asyncio.Transport):
    _closed: bool
    _phase: int
    _conn_lost: int
    @property
    def _write_backlog(self) -> list[bytes]: ...
    @property
    def _is_direct(self) -> bool: ...
    @property
    def _carrier(self) -> StreamTransport | None: ...
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...
    def _attach(self, transport: asyncio.BaseTransport, /) -> None: ...
    def _feed(self, records: Buffer, /) -> None: ...
    def _end(self) -> None: ...
    def _do_read(self) -> None: ...
    def get_read_buffer_limits(self) -> tuple[int, int]: ...
    def get_read_buffer_size(self) -> int: ...
    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def _do_write(self) -> None: ...
    def _process_outgoing(self) -> None: ...
    def _set_app_protocol(self, protocol: asyncio.BaseProtocol, /) -> None: ...
    def _set_limits(
        self, in_low: float, in_high: float, out_low: float, out_high: float, /
    ) -> None: ...

@final
class StreamTransport(asyncio.transports._FlowControlMixin):
    @property
    def _sock(self) -> socket | None: ...
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...
    def _release_fd(self) -> None: ...
    def _set_sender(self, task: asyncio.Future[int], /) -> None: ...
