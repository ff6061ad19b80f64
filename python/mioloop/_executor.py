"""Jobs in threads: `run_in_executor()` and the default executor's life.

Called by `_loop.Loop` only. The default executor is made when the first job wants it and
belongs to the loop. A job's result comes back through asyncio's own `wrap_future`; nothing
here runs in a worker thread but the executor's shutdown.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import warnings
from asyncio import coroutines

from . import _compat

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from typing_extensions import TypeVarTuple, Unpack

    from ._loop import Loop

    _Ts = TypeVarTuple("_Ts")

    _T = TypeVar("_T")


def run_in_executor(
    loop: Loop,
    executor: concurrent.futures.Executor | None,
    func: Callable[[Unpack[_Ts]], _T],
    *args: Unpack[_Ts],
) -> asyncio.Future[_T]:
    """Submit `func(*args)`; the future belongs to `loop`."""
    loop._check_closed()
    if loop.get_debug():
        _check_callback(func)
    if executor is None:
        executor = _default_executor(loop)
    return asyncio.wrap_future(executor.submit(func, *args), loop=loop)


def _check_callback(func: object) -> None:
    if coroutines.iscoroutine(func) or _compat.is_coroutine_function(func):
        raise TypeError("coroutines cannot be used with run_in_executor()")
    if not callable(func):
        raise TypeError(f"a callable object was expected by run_in_executor(), got {func!r}")


def _default_executor(loop: Loop) -> concurrent.futures.Executor:
    if loop._executor_shutdown_called:
        raise RuntimeError("Executor shutdown has been called")
    if loop._default_executor is None:
        loop._default_executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
    return loop._default_executor


def set_default_executor(loop: Loop, executor: concurrent.futures.ThreadPoolExecutor) -> None:
    """Take `executor` for the default one."""
    if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        if _compat.DEFAULT_EXECUTOR_MUST_BE_THREADS:
            raise TypeError("executor must be ThreadPoolExecutor instance")
        warnings.warn(
            "Using the default executor that is not an instance of "
            "ThreadPoolExecutor is deprecated and will be prohibited "
            "in Python 3.9",
            DeprecationWarning,
            stacklevel=3,
        )
    loop._default_executor = executor
    loop._default_executor_was_set = True


async def shutdown_default_executor(loop: Loop, timeout: float | None) -> None:
    """Shut the default executor down and wait for its threads, `timeout` seconds at most."""
    loop._executor_shutdown_called = True
    executor = loop._default_executor
    if executor is None:
        return
    joined = loop.create_future()
    thread = threading.Thread(target=_join_workers, args=(loop, executor, joined))
    thread.start()
    await asyncio.wait([joined], timeout=timeout)
    if joined.done():
        thread.join()
        joined.result()
        return
    joined.cancel()
    warnings.warn(
        f"The executor did not finishing joining its threads within {timeout} seconds.",
        RuntimeWarning,
        stacklevel=3,
    )
    executor.shutdown(wait=False)


def _join_workers(
    loop: Loop, executor: concurrent.futures.Executor, joined: asyncio.Future[None]
) -> None:
    """Body of the thread that waits for the workers: the loop must not block."""
    error: Exception | None = None
    try:
        executor.shutdown(wait=True)
    except Exception as exc:
        error = exc
    # RuntimeError: the loop was closed in the meantime, so nobody waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_finish, joined, error)


def _finish(joined: asyncio.Future[None], error: Exception | None) -> None:
    if joined.cancelled():
        return
    if error is None:
        joined.set_result(None)
    else:
        joined.set_exception(error)
