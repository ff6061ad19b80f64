"""mioloop: an asyncio event loop for CPython, written in Rust.

    mioloop.run(main())                                            # like asyncio.run()
    asyncio.run(main(), loop_factory=mioloop.new_event_loop)       # Python 3.12 and later
    mioloop.install()                                              # for programs left as they are

Only the public names are here. Importing this package changes nothing in the process and
never warns: the policy, deprecated by asyncio since 3.14, is loaded when it is asked for.
Types are quoted, so that a Python that is too old can read this file and `_check` says so.
"""

from . import _check, _compat  # noqa: F401  _check first: see there
from ._loop import Loop
from ._native import Future, Task

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from ._coroutine import provide_asyncio_coroutine
    from ._policy import EventLoopPolicy

    _T = TypeVar("_T")

__all__ = [
    "Future",
    "Loop",
    "Task",
    "__version__",
    "install",
    "new_event_loop",
    "provide_asyncio_coroutine",
    "run",
]
if _compat.HAS_POLICIES:
    __all__ += ["EventLoopPolicy"]

__version__ = "0.1.0"


def new_event_loop() -> Loop:
    """Make a loop. It is nobody's current loop until it runs or is set; the caller closes it."""
    return Loop()


def run(
    main: "Coroutine[Any, Any, _T]",
    *,
    debug: "bool | None" = None,
    loop_factory: "Callable[[], AbstractEventLoop] | None" = None,
) -> "_T":
    """Run `main` on a new mioloop loop, close the loop and return the result.

    debug: debug mode on or off; None leaves what the environment asks for.
    loop_factory: makes the loop; None means `new_event_loop`.

    Raises what `main` raises; RuntimeError in a running loop; ValueError if `main` is not a
    coroutine (TypeError if it cannot be awaited, since 3.14).
    Follows asyncio.runners.run of the running version.
    """
    result: _T = _compat.run_with_factory(main, debug, loop_factory or new_event_loop)
    return result


def install() -> None:
    """Make `asyncio.new_event_loop()`, `asyncio.run()` and `asyncio.get_event_loop()` use mioloop.

    Sets a new `EventLoopPolicy`. Gives the DeprecationWarning of
    `asyncio.set_event_loop_policy()` where that gives one (3.14 and later), at the caller's line.
    """
    from . import _policy

    _policy.install(stacklevel=3)


def __getattr__(name: str) -> "Any":
    """Load on first use what most programs never need, or what a later Python may lack."""
    if name == "EventLoopPolicy" and _compat.HAS_POLICIES:
        from ._policy import EventLoopPolicy

        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
    if name == "provide_asyncio_coroutine":
        from ._coroutine import provide_asyncio_coroutine

        globals()[name] = provide_asyncio_coroutine
        return provide_asyncio_coroutine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
