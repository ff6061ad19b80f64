"""`mioloop.Loop`: the index of the loop's API, one line per method.

The native base class does everything that runs once per callback or task step; what runs
once per loop, per job or per failure is Python, in the file that its line here names. Users
come through `mioloop.new_event_loop()`. Methods of the network are the functions of those
files themselves, signatures and docstrings there. Nothing is implemented in this file but
the state that those files share.
"""

from __future__ import annotations

import asyncio
import warnings
import weakref

from . import (
    _compat,
    _connect,
    _datagram,
    _dns,
    _executor,
    _hooks,
    _lifecycle,
    _native,
    _pipes,
    _report,
    _sendfile,
    _serve,
    _signals,
    _sock,
    _subprocess,
    _tls,
)

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from concurrent.futures import Executor, ThreadPoolExecutor
    from socket import socket
    from typing import Any, TypeVar

    from typing_extensions import Self, TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")
    _ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

    _T = TypeVar("_T")

# Native, inherited, with asyncio's signatures (see _native.pyi):
#   scheduling  call_soon, call_soon_threadsafe, call_later, call_at, time
#   making      create_future, create_task, get_task_factory, set_task_factory
#   state       stop, is_running, is_closed, get_debug, slow_callback_duration, native_tasks
#   descriptors add_reader, remove_reader, add_writer, remove_writer


class Loop(_native.Loop, _hooks.Hooks, asyncio.AbstractEventLoop):
    """An asyncio event loop. It belongs to the thread that runs it.

    native_tasks: False makes `create_task()` and `create_future()` give asyncio's own Task
    and Future instead of mioloop's; None asks the environment (MIOLOOP_NATIVE_TASKS=0 is
    False) and means True otherwise.
    """

    # State of the files below. __new__ sets it, not __init__, so that close() works on a loop whose
    # constructor failed. Slots, because an instance without a dict has its methods found faster:
    # `loop.call_soon` costs 200 instructions less.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_coroutine_origin_saved_depth",
        "_default_executor",
        "_default_executor_was_set",
        "_exception_handler",
        "_executor_shutdown_called",
        "_signal_handlers",
        "_signal_wakeup",
        "_unix_server_sockets",
    )
    _default_executor: ThreadPoolExecutor | None
    _default_executor_was_set: bool
    _executor_shutdown_called: bool
    _exception_handler: _ExceptionHandler | None
    _signal_handlers: dict[int, asyncio.Handle]
    _signal_wakeup: _signals.Wakeup | None
    _asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]]
    _asyncgens_shutdown_called: bool
    _coroutine_origin_saved_depth: int | None
    # A name of asyncio, whose code uses it: the inodes of the Unix sockets that a server is to
    # remove.
    _unix_server_sockets: dict[socket, int]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Read `native_tasks` only: a subclass's constructor takes what arguments it likes."""
        loop = super().__new__(cls, native_tasks=kwargs.get("native_tasks"))
        loop._asyncgens = weakref.WeakSet()
        loop._asyncgens_shutdown_called = False
        loop._coroutine_origin_saved_depth = None
        loop._default_executor = None
        loop._default_executor_was_set = False
        loop._exception_handler = None
        loop._executor_shutdown_called = False
        loop._signal_handlers = {}
        loop._signal_wakeup = None
        loop._unix_server_sockets = {}
        return loop

    def __init__(self, *, native_tasks: bool | None = None) -> None:
        if native_tasks not in (None, self.native_tasks):
            raise TypeError("native_tasks must be an argument of the constructor call itself")
        self.set_debug(_compat.is_debug_mode())

    def __setattr__(self, name: str, value: object) -> None:
        """Let a test suite put a clock or a `call_soon` of its own in the place of ours."""
        super().__setattr__(name, value)
        if name == "time":
            self._own_clock = True
        elif name == "call_soon":
            self._own_call_soon = True

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "time":
            self._own_clock = type(self).time is not Loop.time
        elif name == "call_soon":
            self._own_call_soon = type(self).call_soon is not Loop.call_soon

    def __repr__(self) -> str:
        return (
            f"<{self.__class__.__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self.is_closed():
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
            if not self.is_running():
                self.close()

    # Running and closing: _lifecycle.py

    def run_forever(self) -> None:
        """Run until `stop()` is called.

        Raises RuntimeError if the loop is closed or running, or another one runs in this
        thread. Follows asyncio.base_events.BaseEventLoop.run_forever (3.14).
        """
        _lifecycle.run_forever(self)

    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
        """Run until `future` is done; return its result or raise its exception.

        A coroutine is wrapped in a task. Raises RuntimeError as `run_forever()` does, and if
        the loop is stopped before the future is done.
        Follows asyncio.base_events.BaseEventLoop.run_until_complete.
        """
        return _lifecycle.run_until_complete(self, future)

    def close(self) -> None:
        """Drop what is queued, close the descriptors, shut the executor down without waiting.

        A second call does nothing. Raises RuntimeError if the loop runs.
        Follows asyncio.unix_events._UnixSelectorEventLoop.close.
        """
        _lifecycle.close(self)

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators that are not exhausted.

        Errors go to the exception handler. From now on a new one gives a ResourceWarning.
        Follows asyncio.base_events.BaseEventLoop.shutdown_asyncgens.
        """
        await _lifecycle.shutdown_asyncgens(self)

    def set_debug(self, enabled: bool) -> None:
        """Turn debug mode on or off: wrong-thread checks, slow callbacks, source tracebacks.

        Follows asyncio.base_events.BaseEventLoop.set_debug.
        """
        _lifecycle.set_debug(self, enabled)

    def _set_coroutine_origin_tracking(self, enabled: bool) -> None:
        _lifecycle.set_coroutine_origin_tracking(self, enabled)

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        _lifecycle.asyncgen_started(self, agen)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        _lifecycle.asyncgen_dropped(self, agen)

    # Threads: _executor.py

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[_Ts]], _T],
        *args: Unpack[_Ts],
    ) -> Future[_T]:
        """Call `func(*args)` in `executor` (None: the default one, threads); return a future.

        Raises RuntimeError if the loop is closed or its default executor was shut down.
        Follows asyncio.base_events.BaseEventLoop.run_in_executor.
        """
        return _executor.run_in_executor(self, executor, func, *args)

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """Use `executor` where `run_in_executor()` is given None.

        Raises TypeError for anything but a ThreadPoolExecutor (3.10: DeprecationWarning).
        Follows asyncio.base_events.BaseEventLoop.set_default_executor.
        """
        _executor.set_default_executor(self, executor)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until the default executor's threads have ended.

        timeout: seconds; None waits for ever. When it is over: RuntimeWarning, and the
        threads are left alone. Follows asyncio.base_events.BaseEventLoop (3.13); 3.12 heeds
        the timeout only for joining, and 3.10 and 3.11 have none.
        """
        await _executor.shutdown_default_executor(self, timeout)

    # The network, pipes and child processes: declared in the files named here. Where a type is
    # to be ignored, typeshed's lacks a keyword of some version or has another name or type.

    getaddrinfo = _dns.getaddrinfo
    getnameinfo = _dns.getnameinfo
    create_connection = _connect.create_connection
    create_unix_connection = _connect.create_unix_connection
    connect_accepted_socket = _connect.connect_accepted_socket  # type: ignore[assignment]
    create_server = _serve.create_server  # type: ignore[assignment]
    create_unix_server = _serve.create_unix_server  # type: ignore[assignment]
    start_tls = _tls.start_tls
    create_datagram_endpoint = _datagram.create_datagram_endpoint  # type: ignore[assignment]
    sock_recv = _sock.sock_recv  # type: ignore[assignment]
    sock_recv_into = _sock.sock_recv_into
    sock_sendall = _sock.sock_sendall
    sock_connect = _sock.sock_connect
    sock_accept = _sock.sock_accept
    if _compat.HAS_SOCK_RECVFROM:
        sock_recvfrom = _sock.sock_recvfrom
        sock_recvfrom_into = _sock.sock_recvfrom_into
        sock_sendto = _sock.sock_sendto
    sendfile = _sendfile.sendfile
    sock_sendfile = _sendfile.sock_sendfile
    connect_read_pipe = _pipes.connect_read_pipe
    connect_write_pipe = _pipes.connect_write_pipe
    subprocess_exec = _subprocess.subprocess_exec  # type: ignore[assignment]
    subprocess_shell = _subprocess.subprocess_shell  # type: ignore[assignment]

    # Signals: _signals.py

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts]
    ) -> None:
        """Call `callback(*args)` in the loop when the signal `sig` arrives.

        Raises TypeError for a coroutine or a signal that is no int; ValueError for a number
        that is no signal; RuntimeError if the signal cannot be caught, the loop is closed or
        this is not the main thread.
        Follows asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler.
        """
        _signals.add_signal_handler(self, sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Give the signal its default action back; return whether there was a handler.

        Raises TypeError and ValueError as `add_signal_handler()` does.
        Follows asyncio.unix_events._UnixSelectorEventLoop.remove_signal_handler.
        """
        return _signals.remove_signal_handler(self, sig)

    # Failures: _report.py

    def get_exception_handler(self) -> _ExceptionHandler | None:
        """The handler that was set, or None where the default one is in use."""
        return self._exception_handler

    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None:
        """Call `handler(loop, context)` for exceptions that nobody catches; None: the default.

        Raises TypeError if it cannot be called.
        Follows asyncio.base_events.BaseEventLoop.set_exception_handler.
        """
        _report.set_exception_handler(self, handler)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log `context` through the "asyncio" logger, at level ERROR.

        Follows asyncio.base_events.BaseEventLoop.default_exception_handler.
        """
        _report.default_exception_handler(self, context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass `context` to the handler in use; never raises but SystemExit, KeyboardInterrupt.

        context: "message" and, where they apply, "exception", "future", "task", "handle",
        "protocol", "transport", "socket", "asyncgen", "source_traceback", "handle_traceback".
        Follows asyncio.base_events.BaseEventLoop.call_exception_handler.
        """
        _report.call_exception_handler(self, context)


Loop._take_methods()
