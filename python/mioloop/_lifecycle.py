"""Running a loop to its end and closing it, and the hooks that last as long as a run.

Called by `_loop.Loop` only. The turns themselves are native (`Loop._run`); this file sets
what asyncio sets around them: the running loop, the asynchronous generators' hooks,
coroutine origin tracking, the signal wake-up. It never schedules a callback of its own.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from asyncio import constants, events
from asyncio.log import logger

from . import _native, _signals

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Generator
    from typing import Any, TypeVar

    from ._loop import Loop

    _T = TypeVar("_T")


def run_forever(loop: Loop) -> None:
    """Run turns until `stop()`, with this loop as the thread's running one."""
    loop._check_closed()
    loop._check_running()
    _signals.begin_run(loop)
    old_hooks = sys.get_asyncgen_hooks()
    try:
        set_coroutine_origin_tracking(loop, loop.get_debug())
        sys.set_asyncgen_hooks(
            firstiter=loop._asyncgen_firstiter_hook,
            finalizer=loop._asyncgen_finalizer_hook,
        )
        events._set_running_loop(loop)
        loop._run()
    finally:
        events._set_running_loop(None)
        set_coroutine_origin_tracking(loop, False)
        sys.set_asyncgen_hooks(*old_hooks)
        _signals.end_run(loop)


def run_until_complete(loop: Loop, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
    """Run until `future` is done, then return its result or raise its exception."""
    loop._check_closed()
    loop._check_running()
    is_new_task = not asyncio.isfuture(future)
    task: asyncio.Future[_T] = asyncio.ensure_future(future, loop=loop)  # type: ignore[arg-type]
    if is_new_task:
        # An exception is raised if the future does not complete, so there is nothing to
        # report when a pending task is destroyed.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.add_done_callback(_stop_loop_of)
    try:
        loop.run_forever()
    except BaseException:
        if is_new_task and task.done() and not task.cancelled():
            # The coroutine raised a BaseException that the caller is getting already.
            # Nobody else can reach the task: mark its exception as retrieved.
            task.exception()
        raise
    finally:
        task.remove_done_callback(_stop_loop_of)
    if not task.done():
        raise RuntimeError("Event loop stopped before Future completed.")
    return task.result()


def _stop_loop_of(future: asyncio.Future[Any]) -> None:
    """Done callback of the future that `run_until_complete()` waits for."""
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        # run_forever() has ended already, by this very exception. A stop now would end
        # the next run at its first turn (https://github.com/python/cpython/issues/66628).
        return
    future.get_loop().stop()


def close(loop: Loop) -> None:
    """Release everything; a closed loop is left alone."""
    if loop.is_running():
        raise RuntimeError("Cannot close a running event loop")
    if loop.is_closed():
        return
    if loop.get_debug():
        logger.debug("Close %r", loop)
    loop._close()
    loop._executor_shutdown_called = True
    executor = loop._default_executor
    if executor is not None:
        loop._default_executor = None
        executor.shutdown(wait=False)
    _signals.close(loop)


def set_debug(loop: Loop, enabled: bool) -> None:
    """Switch debug mode; on a running loop, origin tracking follows in its thread."""
    _native.Loop.set_debug(loop, enabled)
    if loop.is_running():
        loop.call_soon_threadsafe(loop._set_coroutine_origin_tracking, enabled)


def set_coroutine_origin_tracking(loop: Loop, enabled: bool) -> None:
    """Make this thread's coroutines remember where they were made, or put back what was set."""
    saved_depth = loop._coroutine_origin_saved_depth
    if enabled and saved_depth is None:
        loop._coroutine_origin_saved_depth = sys.get_coroutine_origin_tracking_depth()
        sys.set_coroutine_origin_tracking_depth(constants.DEBUG_STACK_DEPTH)
    elif not enabled and saved_depth is not None:
        loop._coroutine_origin_saved_depth = None
        sys.set_coroutine_origin_tracking_depth(saved_depth)


def asyncgen_started(loop: Loop, agen: AsyncGenerator[Any, Any]) -> None:
    """Hook: an asynchronous generator is iterated for the first time."""
    if loop._asyncgens_shutdown_called:
        warnings.warn(
            f"asynchronous generator {agen!r} was scheduled after loop.shutdown_asyncgens() call",
            ResourceWarning,
            source=loop,
            stacklevel=3,
        )
    loop._asyncgens.add(agen)


def asyncgen_dropped(loop: Loop, agen: AsyncGenerator[Any, Any]) -> None:
    """Hook: the last reference to an unfinished asynchronous generator is gone.

    Any thread: the collector runs where it likes.
    """
    loop._asyncgens.discard(agen)
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.create_task, agen.aclose())


async def shutdown_asyncgens(loop: Loop) -> None:
    """Close every asynchronous generator that this loop has seen and that is still alive."""
    loop._asyncgens_shutdown_called = True
    if not loop._asyncgens:
        return
    closing = list(loop._asyncgens)
    loop._asyncgens.clear()
    results = await asyncio.gather(*[agen.aclose() for agen in closing], return_exceptions=True)
    for result, agen in zip(results, closing, strict=True):
        if isinstance(result, Exception):
            loop.call_exception_handler(
                {
                    "message": "an error occurred during closing of "
                    f"asynchronous generator {agen!r}",
                    "exception": result,
                    "asyncgen": agen,
                }
            )
