"""What differs between CPython 3.10 and 3.15, as far as the Python layer can see it.

This is the only file that reads `sys.version_info`; the other modules ask for a behaviour
by name. asyncio of the running interpreter is the specification: a name here says which
of its behaviours that interpreter has. Where a patch release changed something, the
feature is tested for, not the version. Nothing here touches a loop.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio import coroutines, events, runners, sslproto
from collections.abc import Callable

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from contextvars import Context
    from typing import Any, Final

    from ._policy import EventLoopPolicy

DEFAULT_EXECUTOR_MUST_BE_THREADS: Final = sys.version_info >= (3, 11)
"""set_default_executor() raises TypeError for another executor; 3.10 only warns."""

EXCEPTION_HANDLER_IN_CONTEXT: Final = sys.version_info >= (3, 12)
"""A custom exception handler runs in the context of the task or handle that failed."""

HAS_SOCK_RECVFROM: Final = sys.version_info >= (3, 11)
"""The loop has sock_recvfrom(), sock_recvfrom_into() and sock_sendto()."""

TLS_HAS_STATES: Final = hasattr(sslproto, "SSLProtocolState")
"""asyncio's SSLProtocol is the one that came with 3.11: it has states, and its own flow control."""

HAS_POLICIES: Final = hasattr(events, "_init_event_loop_policy")
"""asyncio still has event loop policies (their removal is announced for 3.16)."""

COMMAND_IS_DEDENTED: Final = sys.version_info >= (3, 14)
"""`python -c` removes the indentation that all lines of its argument share."""

MAIN_HAS_ANNOTATIONS: Final = sys.version_info < (3, 14)
"""A new `__main__` has an empty `__annotations__`."""

MAIN_HAS_CACHED: Final = sys.version_info < (3, 15)
"""The namespace of a script has `__cached__`."""

_TRANSPORTS_HAVE_CONTEXT: Final = sys.version_info >= (3, 15)


_POLICY_WARNING: Final = (
    "'asyncio.set_event_loop_policy' is deprecated and slated for removal in Python 3.16"
)

is_coroutine_function: Callable[[object], bool] = getattr(
    coroutines, "_iscoroutinefunction", coroutines.iscoroutinefunction
)
"""`asyncio.iscoroutinefunction`, without the deprecation warning that it gives since 3.14."""


def is_debug_mode() -> bool:
    """Whether new loops start in debug mode: -X dev, or PYTHONASYNCIODEBUG in the environment."""
    return bool(coroutines._is_debug_mode())  # type: ignore[attr-defined]


def policy_base() -> type[Any]:
    """The interpreter's own Unix policy, child watchers included where it has them.

    It is taken from `asyncio.unix_events`, because `asyncio.DefaultEventLoopPolicy` warns
    when it is only looked at since 3.14.
    """
    from asyncio import unix_events

    base: type[Any] = unix_events._UnixDefaultEventLoopPolicy
    return base


def policy_deprecation() -> str | None:
    """What `asyncio.set_event_loop_policy()` warns with, or None where it is silent."""
    return _POLICY_WARNING if hasattr(events, "_set_event_loop_policy") else None


def set_policy(policy: EventLoopPolicy) -> None:
    """Install `policy` without a warning on any version."""
    setter = getattr(events, "_set_event_loop_policy", None) or asyncio.set_event_loop_policy
    setter(policy)


def mark_coroutine_function(func: Any) -> None:
    """Make `asyncio.iscoroutinefunction(func)` true, and `inspect`'s where it can be marked."""
    func._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(func)


def is_safe_path() -> bool:
    """Whether `sys.path[0]` is not the script's directory: -I, and -P since 3.11."""
    return bool(sys.flags.isolated or getattr(sys.flags, "safe_path", False))


def run_with_factory(
    main: Any, debug: bool | None, loop_factory: Callable[[], AbstractEventLoop]
) -> Any:
    """`asyncio.run(main, debug=debug, loop_factory=loop_factory)`, also where it has no factory.

    Raises RuntimeError in a running loop; ValueError (TypeError since 3.14) if `main` cannot
    be awaited. Follows asyncio.runners.run of the running version.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            return runner.run(main)
    return _run_without_runner(main, debug, loop_factory)


def _run_without_runner(
    main: Any, debug: bool | None, loop_factory: Callable[[], AbstractEventLoop]
) -> Any:
    """asyncio.runners.run of 3.10, with a loop of ours."""
    if not coroutines.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = loop_factory()
    try:
        events.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            runners._cancel_all_tasks(loop)  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            events.set_event_loop(None)
            loop.close()


def transport_context(context: Context | None) -> dict[str, Context | None]:
    """The keyword by which a stream transport is given its context, where it takes one (3.15)."""
    return {"context": context} if _TRANSPORTS_HAVE_CONTEXT else {}
