"""Signals: `add_signal_handler()`, and waking an idle loop when any signal arrives.

Called by `_loop.Loop` and, around every run, by `_lifecycle`. While a loop runs in the main
thread, Python's C-level signal handler writes each signal's number into a pipe of ours that
the loop watches. So Ctrl-C interrupts an idle loop at once: the pipe's reader is Python
code, and Python code is where KeyboardInterrupt is raised. SIGCHLD is left to the user.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import threading
import warnings
from asyncio import coroutines
from asyncio.log import logger

from . import _compat

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from typing_extensions import TypeVarTuple, Unpack

    from ._loop import Loop

    _Ts = TypeVarTuple("_Ts")

_READ_SIZE = 4096


class Wakeup:
    """The pipe of one loop. Main thread only.

    It is made when a loop first runs in the main thread or gets its first signal handler.
    A pipe, not a socket pair as in asyncio: it holds 65,536 unread signals, a socket pair
    fewer than 300, and a sampling profiler sends a thousand per second.
    """

    __slots__ = ("in_run", "read_fd", "restore_fd", "write_fd")

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self.in_run = False
        # What set_wakeup_fd() shall get back when the run ends.
        self.restore_fd = -1

    def is_borrowed(self) -> bool:
        """Whether a run has put the pipe in the place of somebody else's descriptor."""
        return self.in_run and self.restore_fd not in (-1, self.write_fd)

    def close(self) -> None:
        """Close both ends, which nobody may be told to write to any more."""
        os.close(self.read_fd)
        os.close(self.write_fd)


def begin_run(loop: Loop) -> None:
    """Make signals wake the loop; in other threads than the main one, nothing."""
    if threading.get_ident() != threading.main_thread().ident:
        return
    wakeup = _wakeup_of(loop)
    try:
        # Without handlers the numbers are of no interest, so a full pipe is no loss.
        restore_fd = signal.set_wakeup_fd(
            wakeup.write_fd, warn_on_full_buffer=bool(loop._signal_handlers)
        )
    except ValueError:
        return  # A subinterpreter: signals are the main one's business.
    wakeup.restore_fd = restore_fd
    wakeup.in_run = True


def end_run(loop: Loop) -> None:
    """Put back the wake-up descriptor that was set before the run."""
    wakeup = loop._signal_wakeup
    if wakeup is None or not wakeup.in_run:
        return
    try:
        current = signal.set_wakeup_fd(wakeup.restore_fd)
    except (ValueError, OSError):
        # Its owner closed it while the loop ran.
        current = signal.set_wakeup_fd(-1)
    if current != wakeup.write_fd:
        # Somebody set another one during the run, to stay.
        signal.set_wakeup_fd(current)
    if wakeup.is_borrowed():
        # What the last turn did not get to read.
        _read_signals(loop)
    wakeup.in_run = False


def add_signal_handler(
    loop: Loop, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts]
) -> None:
    """Route `sig` to a callback of the loop."""
    if coroutines.iscoroutine(callback) or _compat.is_coroutine_function(callback):
        raise TypeError("coroutines cannot be used with add_signal_handler()")
    _check_signal(sig)
    loop._check_closed()
    wakeup = _wakeup_of(loop)
    try:
        # Raises ValueError outside the main thread, so that no loop of another thread
        # can add a signal handler. It stays set until the last handler is removed.
        signal.set_wakeup_fd(wakeup.write_fd)
    except (ValueError, OSError) as exc:
        raise RuntimeError(str(exc)) from exc
    wakeup.restore_fd = wakeup.write_fd
    # A signal from before this call is not the new handler's: a Ctrl-C that ended the last
    # run still has its number in the pipe.
    _read_signals(loop)

    loop._signal_handlers[sig] = asyncio.Handle(callback, args, loop, None)
    try:
        # The handler does nothing: Python's own C-level handler writes into the pipe.
        signal.signal(sig, _ignore_signal)
        # Set SA_RESTART to limit EINTR occurrences.
        signal.siginterrupt(sig, False)
    except OSError as exc:
        del loop._signal_handlers[sig]
        if not loop._signal_handlers:
            _disown_wakeup_fd(wakeup)
        if exc.errno == errno.EINVAL:
            raise RuntimeError(f"sig {sig} cannot be caught") from exc
        raise


def remove_signal_handler(loop: Loop, sig: int) -> bool:
    """Undo `add_signal_handler()`; whether there was anything to undo."""
    _check_signal(sig)
    if loop._signal_handlers.pop(sig, None) is None:
        return False
    default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
    try:
        signal.signal(sig, default)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            raise RuntimeError(f"sig {sig} cannot be caught") from exc
        raise
    if not loop._signal_handlers:
        _disown_wakeup_fd(_wakeup_of(loop))
    return True


def close(loop: Loop) -> None:
    """Remove all handlers and close the pipe, when the loop is closed already."""
    if sys.is_finalizing() and loop._signal_handlers:
        # The pipe stays open: a signal may still be on its way into it.
        warnings.warn(
            f"Closing the loop {loop!r} on interpreter shutdown stage, "
            "skipping signal handlers removal",
            ResourceWarning,
            source=loop,
            stacklevel=4,
        )
        loop._signal_handlers.clear()
        return
    for sig in list(loop._signal_handlers):
        remove_signal_handler(loop, sig)
    wakeup = loop._signal_wakeup
    if wakeup is not None:
        loop._signal_wakeup = None
        wakeup.close()


def _wakeup_of(loop: Loop) -> Wakeup:
    """The loop's pipe, made and watched if it is not there yet."""
    wakeup = loop._signal_wakeup
    if wakeup is None:
        wakeup = Wakeup()
        loop._signal_wakeup = wakeup
        loop._add_reader(wakeup.read_fd, _read_signals, loop)
    return wakeup


def _disown_wakeup_fd(wakeup: Wakeup) -> None:
    """No handler is left: set no wake-up descriptor, once the run is over."""
    if wakeup.in_run:
        wakeup.restore_fd = -1
        return
    try:
        current = signal.set_wakeup_fd(-1)
        if current != wakeup.write_fd:
            signal.set_wakeup_fd(current)  # Somebody else's by now.
    except (ValueError, OSError) as exc:
        logger.info("set_wakeup_fd(-1) failed: %s", exc)


def _read_signals(loop: Loop) -> None:
    """Reader of the pipe: schedule the handlers of the signals that arrived."""
    wakeup = loop._signal_wakeup
    if wakeup is None:
        return
    try:
        numbers = os.read(wakeup.read_fd, _READ_SIZE)
    except BlockingIOError:
        return
    if wakeup.is_borrowed():
        _pass_on(wakeup.restore_fd, numbers)
    for sig in numbers:
        handle = loop._signal_handlers.get(sig)
        if handle is None:
            continue
        if handle.cancelled():
            remove_signal_handler(loop, sig)
        else:
            loop.call_soon(handle._callback, *handle._args, context=handle._context)  # type: ignore[attr-defined]


def _pass_on(fd: int, numbers: bytes) -> None:
    """Give the numbers to whom they would have gone without us: a GUI, or another loop."""
    try:
        os.write(fd, numbers)
    except OSError:
        # Python ignores a full or closed wake-up descriptor too.
        logger.debug("passing signals on to descriptor %d failed", fd, exc_info=True)


def _ignore_signal(signum: int, frame: FrameType | None) -> None:
    """Python-level handler of a signal that the loop handles."""


def _check_signal(sig: int) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
