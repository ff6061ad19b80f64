"""`getaddrinfo()` and `getnameinfo()`: which way a name is looked up.

`_loop.Loop` takes these functions as its methods, and everything that connects or binds comes
through them, so that a subclass may override them. What is in digits is answered at once, other
names in native threads that do without the interpreter. asyncio's way, `socket.getaddrinfo` in
the default executor, is kept for whoever put something of their own in the place of either, for
debug mode, which logs slow look-ups, and for arguments that are not plain ones.
"""

from __future__ import annotations

import socket
import types
from asyncio import CancelledError

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._loop import Loop
    from ._native import _AddressInfo


def _stock(function: Any) -> object:
    """`function`, if it is the socket module's own and not a replacement; else None."""
    if isinstance(function, types.BuiltinFunctionType):
        return function
    code = getattr(function, "__code__", None)
    own = getattr(code, "co_filename", None) == socket.socket.close.__code__.co_filename
    return function if own else None


_GETADDRINFO = _stock(socket.getaddrinfo)
_GETNAMEINFO = _stock(socket.getnameinfo)


async def getaddrinfo(
    loop: Loop,
    host: bytes | str | None,
    port: bytes | str | int | None,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[_AddressInfo]:
    """`socket.getaddrinfo()`, without blocking; the same results and errors.

    In debug mode, a look-up that takes longer than `slow_callback_duration` is logged.
    Follows asyncio.base_events.BaseEventLoop.getaddrinfo.
    """
    if socket.getaddrinfo is _GETADDRINFO and _may_be_native(loop):
        found = loop._lookup_addresses(host, port, family, type, proto, flags)
        if isinstance(found, list):
            return found
        if found is not None:
            try:
                return await found
            except (CancelledError, GeneratorExit):
                loop._forget_lookup(found)
                raise
    look_up: Callable[..., list[_AddressInfo]] = socket.getaddrinfo
    if loop.get_debug():
        look_up = loop._getaddrinfo_debug
    return await loop.run_in_executor(None, look_up, host, port, family, type, proto, flags)


async def getnameinfo(
    loop: Loop, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int = 0
) -> tuple[str, str]:
    """`socket.getnameinfo()`, without blocking; the same results and errors.

    Follows asyncio.base_events.BaseEventLoop.getnameinfo.
    """
    if socket.getnameinfo is _GETNAMEINFO and _may_be_native(loop):
        found = loop._lookup_name(sockaddr, flags)
        if isinstance(found, tuple):
            return found
        if found is not None:
            try:
                return await found
            except (CancelledError, GeneratorExit):
                loop._forget_lookup(found)
                raise
    return await loop.run_in_executor(None, socket.getnameinfo, sockaddr, flags)


def _may_be_native(loop: Loop) -> bool:
    """Nobody has chosen the executor, and jobs are still taken."""
    return not (loop._default_executor_was_set or loop._executor_shutdown_called)
