"""The event loop policy, for programs that call `asyncio.get_event_loop()` and the like.

asyncio deprecated policies in 3.14 and will drop them, so this file is kept apart: it is
imported only by `mioloop.EventLoopPolicy`, `mioloop.install()` and `python -m mioloop`.
It differs from the stock policy in one point, on purpose: `get_event_loop()` makes the main
thread's loop on every Python, silently, as it did before 3.12. It never runs a loop.
"""

from __future__ import annotations

import threading
import warnings

from . import _compat
from ._loop import Loop

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from typing import Any

_Base: Any = _compat.policy_base()


class EventLoopPolicy(_Base):  # type: ignore[misc]  # the base's name differs between versions
    """A policy whose loops are mioloop's.

    It is the interpreter's own policy otherwise: one current loop per thread, and the child
    watcher methods where the version has them (until 3.13).
    """

    _loop_factory = Loop

    def get_event_loop(self) -> AbstractEventLoop:
        """The current loop of this thread; the main thread's is made on the first call.

        Raises RuntimeError in another thread that has no loop, and in the main thread after
        `set_event_loop(None)`. Follows asyncio.events.BaseDefaultEventLoopPolicy (3.11).
        """
        # `_local` is asyncio's own attribute: its fork hook replaces it in the child. Since
        # 3.14 its type has no `_set_called`.
        local = self._local
        if (
            local._loop is None
            and not getattr(local, "_set_called", False)
            and threading.current_thread() is threading.main_thread()
        ):
            self.set_event_loop(self.new_event_loop())
        loop: AbstractEventLoop | None = local._loop
        if loop is None:
            name = threading.current_thread().name
            raise RuntimeError(f"There is no current event loop in thread {name!r}.")
        return loop

    def set_event_loop(self, loop: AbstractEventLoop | None) -> None:
        """Make `loop` the current loop of this thread; None leaves the thread without one.

        Raises TypeError for anything else (AssertionError in 3.10).
        """
        self._local._set_called = True
        super().set_event_loop(loop)


def install(stacklevel: int) -> None:
    """Set a new policy; warn as `asyncio.set_event_loop_policy()` would.

    stacklevel: how many frames up the warning belongs, as in `warnings.warn`; 1 is this one.
    """
    deprecation = _compat.policy_deprecation()
    if deprecation is not None:
        warnings.warn(deprecation, DeprecationWarning, stacklevel=stacklevel)
    _compat.set_policy(EventLoopPolicy())


def install_silently() -> None:
    """Set a new policy without a warning: for the runner, whose user asked for just that."""
    _compat.set_policy(EventLoopPolicy())
