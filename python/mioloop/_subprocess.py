"""Child processes: `subprocess_exec()`, `subprocess_shell()`, and how their end is noticed.

`_loop.Loop` takes the functions of this file as its methods. A child is the standard
library's `subprocess.Popen` in asyncio's transport; its pipes go through `_pipes`. Its end
is a readable pidfd (`src/child.rs`), or else the return of waitid() in a thread of its own.
No child watcher and no signal is used, so SIGCHLD stays the user's and every thread's loop
can have children. Only the child itself is ever waited for.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from asyncio import unix_events
from asyncio.base_events import BaseEventLoop
from asyncio.log import logger

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from asyncio import SubprocessProtocol, SubprocessTransport
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ._loop import Loop

    _P = TypeVar("_P", bound=SubprocessProtocol)

_UNKNOWN_EXIT_CODE = 255  # what asyncio reports if somebody else has waited for the child


@borrowed(BaseEventLoop)
async def subprocess_exec(
    loop: Loop,
    protocol_factory: Callable[[], _P],
    program: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    *args: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    universal_newlines: bool = False,
    shell: bool = False,
    bufsize: int = 0,
    encoding: str | None = None,
    errors: str | None = None,
    text: bool | None = None,
    **kwargs: Any,
) -> tuple[SubprocessTransport, _P]:
    """Run a program; return (transport, protocol) once its pipes are connected.

    stdin, stdout, stderr: as for subprocess.Popen, which also gets `kwargs`. The rest may
    only have its default values: pipes carry bytes. Raises FileNotFoundError,
    PermissionError and other errors of Popen; ValueError for text or shell arguments.
    Follows asyncio.base_events.BaseEventLoop.subprocess_exec.
    """


@borrowed(BaseEventLoop)
async def subprocess_shell(
    loop: Loop,
    protocol_factory: Callable[[], _P],
    cmd: bytes | str,
    *,
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    universal_newlines: bool = False,
    shell: bool = True,
    bufsize: int = 0,
    encoding: str | None = None,
    errors: str | None = None,
    text: bool | None = None,
    **kwargs: Any,
) -> tuple[SubprocessTransport, _P]:
    """Run a command of /bin/sh; return (transport, protocol) once its pipes are connected.

    The arguments and errors are those of `subprocess_exec()`; shell must be true.
    Follows asyncio.base_events.BaseEventLoop.subprocess_shell.
    """


async def make_subprocess_transport(
    loop: Loop,
    protocol: SubprocessProtocol,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: dict[str, Any] | None = None,
    **kwargs: Any,
) -> SubprocessTransport:
    """Start the child, watch for its end, and wait until its pipes are connected.

    If that fails or is cancelled, the child is killed and waited for first.
    Follows asyncio.unix_events._UnixSelectorEventLoop._make_subprocess_transport (3.14).
    """
    waiter = loop.create_future()
    make: Any = unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]
    transport = make(
        loop,
        protocol,
        args,
        shell,
        stdin,
        stdout,
        stderr,
        bufsize,
        waiter=waiter,
        extra=extra,
        **kwargs,
    )
    _watch_exit(loop, transport)
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await asyncio.shield(transport._wait())
        raise
    made: SubprocessTransport = transport
    return made


def _watch_exit(loop: Loop, transport: Any) -> None:
    """Have the transport told when its child has ended."""
    process = transport.get_extra_info("subprocess")
    try:
        loop._watch_child(process.pid, _tell_exit, loop, transport, process)
    except OSError:
        # A kernel or a sandbox may have no pidfds; and the process may have no descriptor left.
        thread = threading.Thread(
            target=_wait_in_thread,
            args=(loop, transport, process),
            name=f"mioloop-waitpid-{process.pid}",
            daemon=True,
        )
        thread.start()


def _wait_in_thread(loop: Loop, transport: Any, process: subprocess.Popen[bytes]) -> None:
    """Body of the thread that waits where there is no pidfd.

    The child is reaped in the loop's thread, so that no signal can be sent to its number
    after it was given to another process.
    """
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # Somebody else has waited for it.
    try:
        loop.call_soon_threadsafe(_tell_exit, loop, transport, process)
    except RuntimeError:
        _reap(process)
        logger.warning("Loop %r that handles pid %r is closed", loop, process.pid)


def _tell_exit(loop: Loop, transport: Any, process: subprocess.Popen[bytes]) -> None:
    """The child has ended. Its transport hears of it in the next turn, as in asyncio."""
    loop.call_soon_threadsafe(transport._process_exited, _reap(process))


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child that has ended; return its exit code, minus the signal if one ended it.

    `Popen.poll()`, which the transport's close() calls, may have been first. 255 if somebody
    else was. Follows asyncio.unix_events.PidfdChildWatcher._do_wait.
    """
    with process._waitpid_lock:  # type: ignore[attr-defined]
        if process.returncode is None:
            try:
                _, status = os.waitpid(process.pid, 0)
            except ChildProcessError:
                process.returncode = _UNKNOWN_EXIT_CODE
                logger.warning(
                    "child process pid %d exit status already read: will report returncode %d",
                    process.pid,
                    _UNKNOWN_EXIT_CODE,
                )
            else:
                process.returncode = unix_events.waitstatus_to_exitcode(status)  # type: ignore[attr-defined]
        return process.returncode
