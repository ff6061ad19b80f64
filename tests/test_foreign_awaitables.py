"""What a task may be given to drive or to wait for: duck-typed coroutines, and futures that lie.

Run on asyncio and on mioloop alike: the outcome is asyncio's, and never a crash. The futures and
tasks of asyncio itself are in test_interop.py.
"""

import asyncio
import collections.abc
import contextlib
from collections.abc import Callable, Generator
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop


def run_turns(loop: Loop, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


class CoroutineLike(collections.abc.Coroutine):  # type: ignore[type-arg]
    """A coroutine by its methods alone, as Cython's once were."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.step = loop, 0

    def send(self, value: object) -> object:
        self.step += 1
        if self.step == 1:
            return None
        if self.step == 2:
            self.future = self.loop.create_future()
            self.loop.call_soon(self.future.set_result, None)
            self.future._asyncio_future_blocking = True
            return self.future
        raise StopIteration(("result", self.step))

    def throw(self, *error: Any) -> object:
        raise error[0]

    def close(self) -> None: ...

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return None


def test_a_coroutine_by_its_methods(loop: Loop) -> None:
    assert loop.run_until_complete(loop.create_task(CoroutineLike(loop))) == ("result", 3)
    task = loop.create_task(CoroutineLike(loop))
    run_turns(loop)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


@pytest.mark.parametrize("value", [(1, 2), StopIteration(3), ValueError(), (), None])
def test_awkward_return_values(loop: Loop, value: object) -> None:
    async def give() -> object:
        await asyncio.sleep(0)
        return value

    assert loop.run_until_complete(loop.create_task(give())) is value


def test_stop_iteration_raised_by_a_coroutine(loop: Loop) -> None:
    async def fail() -> None:
        raise StopIteration("text")

    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        loop.run_until_complete(loop.create_task(fail()))


class Liar:
    """Pretends to be a future; what it does on each question is up to the test."""

    def __init__(self, loop: Loop, blocking: Any = True, **attributes: Any) -> None:
        self._asyncio_future_blocking = blocking
        self._loop = loop
        vars(self).update(attributes)

    def get_loop(self) -> Loop:
        return self._loop

    def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
        raise LookupError("no callbacks here")


async def yielding(thing: Any) -> Any:
    class Await:
        def __await__(self) -> Generator[Any, None, Any]:
            return (yield thing)

    return await Await()


def ended(loop: Loop, make: Callable[[Loop], Any]) -> list[str]:
    """What became of a task that yields make(loop), and what was reported meanwhile."""
    found: list[str] = []
    loop.set_exception_handler(lambda _loop, context: found.append(repr(context["exception"])[:40]))
    task = loop.create_task(yielding(make(loop)))
    run_turns(loop, 5)
    if task.done() and not task.cancelled():
        # The rest of some texts is the repr of the task.
        found.append(f"{type(task.exception()).__name__} {str(task.exception())[:30]}")
    else:
        found.append(f"done {task.done()}")
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]
    return found


def raising(*_: object) -> Any:
    raise LookupError("raised")


LIARS: dict[str, Callable[[Loop], Any]] = {
    "no callbacks": lambda loop: Liar(loop),
    "not blocking": lambda loop: Liar(loop, blocking=False),
    "blocking is None": lambda loop: Liar(loop, blocking=None),
    "truth raises": lambda loop: Liar(loop, blocking=type("T", (), {"__bool__": raising})()),
    "get_loop raises": lambda loop: Liar(loop, get_loop=raising),
    "no loop": lambda loop: Liar(None, get_loop=lambda: None),  # type: ignore[arg-type]
    "calls back at once": lambda loop: Liar(
        loop, add_done_callback=lambda callback, **_: callback(future_of(loop))
    ),
}


def future_of(loop: Loop) -> "asyncio.Future[Any]":
    future = loop.create_future()
    future.set_result("value")
    return future


@pytest.mark.parametrize("name", LIARS)
def test_liars(loop_factory: Callable[[], Loop], name: str) -> None:
    found = []
    # Some leave a task that nothing can end, so the loops are not finished as others are.
    for make in (asyncio.SelectorEventLoop, loop_factory):
        with contextlib.closing(make()) as loop:
            found.append(ended(loop, LIARS[name]))
    assert found[0] == found[1]


def test_a_future_resolved_while_it_is_awaited(loop: Loop) -> None:
    """add_done_callback of a subclass sets the result before it takes the callback."""

    class Eager(asyncio.Future):  # type: ignore[type-arg]
        def add_done_callback(self, *args: Any, **keywords: Any) -> None:
            if not self.done():
                self.set_result("early")
            super().add_done_callback(*args, **keywords)

    async def main() -> object:
        return await Eager()

    assert loop.run_until_complete(main()) == "early"
