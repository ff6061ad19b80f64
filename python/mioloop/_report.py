"""Exceptions that nobody catches: the exception handler, and the default one that logs them.

Called by `_loop.Loop`, and through it by the native loop and by futures, tasks and handles.
Nothing here runs unless something has failed; nothing here raises, but SystemExit and
KeyboardInterrupt pass.
"""

from __future__ import annotations

import traceback
from asyncio import base_events

from . import _compat

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    import logging
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any

    from ._loop import Loop


def set_exception_handler(
    loop: Loop, handler: Callable[[AbstractEventLoop, dict[str, Any]], object] | None
) -> None:
    """Set the loop's handler, None for the default one."""
    if handler is not None and not callable(handler):
        raise TypeError(f"A callable object or None is expected, got {handler!r}")
    loop._exception_handler = handler


def call_exception_handler(loop: Loop, context: dict[str, Any]) -> None:
    """Report through the handler in use; if that fails, report its failure as well."""
    if loop._exception_handler is None:
        try:
            loop.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # A subclass may have overridden default_exception_handler().
            _logger().error("Exception in default exception handler", exc_info=True)
        return
    try:
        _call_custom_handler(loop, loop._exception_handler, context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        try:
            loop.default_exception_handler(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": exc,
                    "context": context,
                }
            )
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            _logger().error(
                "Exception in default exception handler while handling an unexpected error "
                "in custom exception handler",
                exc_info=True,
            )


def _call_custom_handler(
    loop: Loop,
    handler: Callable[[AbstractEventLoop, dict[str, Any]], object],
    context: dict[str, Any],
) -> None:
    """Call the user's handler, in the context of what failed where this Python does so."""
    run_in = None
    if _compat.EXCEPTION_HANDLER_IN_CONTEXT:
        # "future" may hold a task; a plain future has no context.
        failed = context.get("task")
        if failed is None:
            failed = context.get("future")
        if failed is None:
            failed = context.get("handle")
        if failed is not None and hasattr(failed, "get_context"):
            run_in = failed.get_context()
    if run_in is not None and hasattr(run_in, "run"):
        run_in.run(handler, loop, context)
    else:
        handler(loop, context)


def default_exception_handler(loop: Loop, context: dict[str, Any]) -> None:
    """Log the message, the exception, and one line for every other key."""
    message = context.get("message")
    if not message:
        message = "Unhandled exception in event loop"
    exception = context.get("exception")
    exc_info: Any = False
    if exception is not None:
        exc_info = (type(exception), exception, exception.__traceback__)
    if "source_traceback" not in context:
        handle = getattr(loop, "_current_handle", None)
        stack = getattr(handle, "_source_traceback", None)  # what runs may be no handle
        if stack:
            context["handle_traceback"] = stack
    lines = [message]
    for key in sorted(context):
        if key not in {"message", "exception"}:
            lines.append(f"{key}: {_describe(key, context[key])}")
    _logger().error("\n".join(lines), exc_info=exc_info)


def _describe(key: str, value: Any) -> str:
    """A context entry as text: a stack for the two traceback keys, else its repr."""
    if key == "source_traceback":
        return _describe_stack("Object created at (most recent call last):\n", value)
    if key == "handle_traceback":
        return _describe_stack("Handle created at (most recent call last):\n", value)
    return repr(value)


def _describe_stack(title: str, stack: traceback.StackSummary) -> str:
    return title + "".join(traceback.format_list(stack)).rstrip()


def _logger() -> logging.Logger:
    """The "asyncio" logger, where test suites (CPython's first) look for it and replace it."""
    logger: logging.Logger = base_events.logger  # type: ignore[attr-defined]
    return logger
