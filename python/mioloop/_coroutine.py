"""`asyncio.coroutine`, which Python 3.11 dropped, for programs written with `yield from`.

`python -m mioloop` provides it, and so does an explicit call of
`mioloop.provide_asyncio_coroutine()`; importing mioloop never does. On Python 3.10 asyncio's
own decorator stays in place.
"""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import inspect
import types
import warnings
from collections.abc import Callable, Generator
from typing import Any

from . import _compat

_DEPRECATION = '"@coroutine" decorator is deprecated since Python 3.8, use "async def" instead'


def provide_asyncio_coroutine() -> None:
    """Put `coroutine` back into the asyncio module, unless it is still there."""
    if not hasattr(asyncio, "coroutine"):
        vars(asyncio)["coroutine"] = coroutine


class GeneratorCoroutine(collections.abc.Coroutine[Any, Any, Any]):
    """The coroutine that a decorated function returns: a generator, awaitable everywhere.

    Since 3.12 asyncio takes no bare generator for a coroutine, so `create_task()` and `run()`
    would refuse it. This is asyncio's CoroWrapper of 3.10 (what the decorator returned in
    debug mode): `yield from`, `await` and the loop all accept it.
    """

    def __init__(self, generator: types.GeneratorType[Any, Any, Any]) -> None:
        self._generator = generator
        self.__name__ = generator.__name__
        self.__qualname__ = generator.__qualname__

    def __iter__(self) -> GeneratorCoroutine:
        return self

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # It has all methods of one.

    def __next__(self) -> Any:
        return self._generator.send(None)

    def send(self, value: Any) -> Any:
        """Resume the generator with `value`; raises StopIteration with its result."""
        return self._generator.send(value)

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: types.TracebackType | None = None,
    ) -> Any:
        """Raise an exception where the generator waits."""
        if val is None and tb is None:
            # The form with three arguments is deprecated since 3.12.
            return self._generator.throw(typ)
        return self._generator.throw(typ, val, tb)

    def close(self) -> None:
        """Raise GeneratorExit where the generator waits."""
        self._generator.close()

    @property
    def gi_frame(self) -> types.FrameType | None:
        """The generator's frame, for `Task.get_stack()`; None when it has ended."""
        return self._generator.gi_frame

    @property
    def gi_code(self) -> types.CodeType:
        """The generator's code, for `repr(task)`."""
        return self._generator.gi_code

    @property
    def gi_running(self) -> bool:
        """Whether the generator executes right now."""
        return self._generator.gi_running

    @property
    def gi_yieldfrom(self) -> Any:
        """What the generator waits for."""
        return self._generator.gi_yieldfrom


def coroutine(func: Callable[..., Any]) -> Callable[..., Any]:
    """Make a generator function, or a plain function, a coroutine function.

    A plain function's result is the coroutine's; if it is a future, a generator or another
    awaitable, that is waited for. Warns with DeprecationWarning at the decorated function.
    Follows asyncio.coroutines.coroutine (3.10).
    """
    warnings.warn(_DEPRECATION, DeprecationWarning, stacklevel=2)
    if inspect.iscoroutinefunction(func):
        return func
    generator_function = func if inspect.isgeneratorfunction(func) else _generator_from(func)
    start: Callable[..., Any] = types.coroutine(generator_function)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> GeneratorCoroutine:
        return GeneratorCoroutine(start(*args, **kwargs))

    _compat.mark_coroutine_function(wrapper)
    return wrapper


def _generator_from(func: Callable[..., Any]) -> Callable[..., Generator[Any, Any, Any]]:
    """A generator function that calls `func` and waits for what it returned, if it can."""

    @functools.wraps(func)
    def generator_function(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        result = func(*args, **kwargs)
        if asyncio.isfuture(result) or inspect.isgenerator(result):
            result = yield from result
        elif isinstance(result, collections.abc.Awaitable):
            result = yield from result.__await__()
        return result

    return generator_function
