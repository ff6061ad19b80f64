"""Looking names up: `getaddrinfo()` and `getnameinfo()`.

`_loop.Loop` takes the functions of this file as its methods, and everything that connects or
binds comes through them, so that a subclass may override them. The look-up runs in the
default executor; what is a number already is not looked up by those who connect.
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop

from ._borrow import borrowed

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Any

    from ._loop import Loop


@borrowed(BaseEventLoop)
async def getaddrinfo(
    loop: Loop,
    host: bytes | str | None,
    port: bytes | str | int | None,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[Any, Any, int, str, Any]]:
    """`socket.getaddrinfo()`, without blocking; the same results and errors.

    In debug mode, a look-up that takes longer than `slow_callback_duration` is logged.
    Follows asyncio.base_events.BaseEventLoop.getaddrinfo.
    """


@borrowed(BaseEventLoop)
async def getnameinfo(loop: Loop, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
    """`socket.getnameinfo()`, without blocking; the same results and errors.

    Follows asyncio.base_events.BaseEventLoop.getnameinfo.
    """
