"""Loops whose `call_soon` is replaced: tasks and futures go through it.

Test suites and tracing tools patch loops. Run on asyncio and on mioloop alike; `time` is in
test_timers.py.
"""

import asyncio
from typing import Any

import mioloop

Loop = asyncio.AbstractEventLoop


def spy(loop: Loop, seen: list[str]) -> Any:
    original = loop.call_soon

    def call_soon(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        seen.append(type(getattr(callback, "__self__", callback)).__name__)
        return original(callback, *args, **kwargs)

    return call_soon


async def work() -> str:
    await asyncio.sleep(0)
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(print_nothing)
    asyncio.get_running_loop().call_later(0, future.set_result, "done")
    return await future


def print_nothing(future: "asyncio.Future[str]") -> None: ...


def test_a_replaced_call_soon_sees_steps_and_callbacks(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon = spy(loop, seen)  # type: ignore[method-assign]
    assert loop.run_until_complete(work()) == "done"
    # The first step, the step after sleep(0), the future's two callbacks.
    assert seen.count("function") >= 1
    assert len(seen) >= 4


def test_the_original_comes_back_with_del(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon = spy(loop, seen)  # type: ignore[method-assign]
    del loop.call_soon
    assert loop.run_until_complete(work()) == "done"
    assert seen == []


def test_replacing_it_in_the_middle_of_a_task(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> str:
        await asyncio.sleep(0)
        running = asyncio.get_running_loop()
        running.call_soon = spy(running, seen)  # type: ignore[method-assign]
        result = await work()
        del running.call_soon
        await asyncio.sleep(0)
        return result

    assert loop.run_until_complete(main()) == "done"
    before = len(seen)
    assert before >= 3
    assert loop.run_until_complete(work()) == "done"
    assert len(seen) == before


def test_a_loop_has_the_methods_of_its_own_class() -> None:
    """The interpreter calls them by a short way only there."""
    for method in (mioloop.Loop.call_soon, mioloop.Loop.create_future, mioloop.Loop.time):
        assert method.__objclass__ is mioloop.Loop  # type: ignore[attr-defined]


def test_methods_of_a_subclass_are_its_own() -> None:
    class Late(mioloop.Loop):
        def time(self) -> float:
            return super().time() + 1000

    class Plain(mioloop.Loop): ...

    loops = mioloop.Loop(), Plain(), Late()
    assert [loop._own_clock for loop in loops] == [False, False, True]
    assert loops[2].call_later(1000, print).when() >= loops[0].time() + 1999
    for loop in loops:
        loop.close()
