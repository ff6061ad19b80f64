"""Hostile code: what re-enters the loop, a task or a future at the worst moment.

Run on asyncio and on mioloop alike: the outcome is asyncio's, and never a crash. Finalizers
of users run wherever a reference is dropped. Objects that lie are in test_foreign_awaitables.py.
"""

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop


def run_turns(loop: Loop, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


class OnDelete:
    """Runs something when it is freed."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __call__(self, *args: object) -> None: ...

    def __del__(self) -> None:
        self.action()


# Finalizers --------------------------------------------------------------------------------------


def test_an_argument_that_schedules_when_freed(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(id, OnDelete(lambda: loop.call_soon(ran.append, "after run")))
    loop.call_soon(id, OnDelete(lambda: loop.call_later(0, ran.append, "timer")))
    handle = loop.call_soon(id, OnDelete(lambda: loop.call_soon(ran.append, "after cancel")))
    timer = loop.call_later(9, id, OnDelete(lambda: loop.call_soon(ran.append, "timer cancel")))
    handle.cancel()
    timer.cancel()
    del handle, timer
    loop.run_until_complete(asyncio.sleep(0.001))
    gc.collect()
    loop.run_until_complete(asyncio.sleep(0.001))
    assert sorted(ran) == ["after cancel", "after run", "timer", "timer cancel"]


def test_a_result_that_resolves_another_future_when_freed(loop: Loop) -> None:
    other = loop.create_future()
    future = loop.create_future()
    future.set_result(OnDelete(lambda: other.set_result("freed")))
    del future
    assert loop.run_until_complete(other) == "freed"


def test_a_callback_that_is_freed_by_its_removal(loop: Loop) -> None:
    """remove_done_callback drops the last reference, whose finalizer asks the future again."""
    future, seen = loop.create_future(), []
    callback = OnDelete(lambda: seen.append(future.remove_done_callback(print)))
    future.add_done_callback(callback)
    future.add_done_callback(print)
    future.add_done_callback(seen.append)
    assert future.remove_done_callback(callback) == 1
    del callback
    gc.collect()
    assert seen == [1]
    future.set_result(None)
    run_turns(loop)
    assert seen == [1, future]


def test_a_coroutine_whose_locals_cancel_its_own_task(loop: Loop) -> None:
    async def hold() -> str:
        keep = OnDelete(lambda: task.cancel())
        await asyncio.sleep(0)
        del keep
        await asyncio.sleep(0)
        return "not reached"

    task = loop.create_task(hold())
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_a_finished_coroutine_that_touches_its_task_while_it_is_freed(loop: Loop) -> None:
    seen: list[object] = []

    async def hold() -> None:
        local = OnDelete(lambda: seen.append((task.done(), task.cancel())))
        await asyncio.sleep(0)
        _ = local

    task = loop.create_task(hold())
    loop.run_until_complete(asyncio.wait([task]))
    assert len(seen) == 1


def test_closing_the_loop_again_while_its_queue_is_freed(loop: Loop) -> None:
    states: list[bool] = []
    for schedule in (loop.call_soon, loop.call_soon_threadsafe):
        schedule(id, OnDelete(lambda: (loop.close(), states.append(loop.is_closed()))))
    loop.call_later(1000, id, OnDelete(lambda: (loop.close(), states.append(loop.is_closed()))))
    loop.close()
    assert states == [True] * 3


# Coroutines that are not left alone --------------------------------------------------------------


def test_a_coroutine_closed_behind_the_task_s_back(loop: Loop) -> None:
    async def wait() -> None:
        await loop.create_future()

    coro = wait()
    task = loop.create_task(coro)
    run_turns(loop, 2)
    coro.close()
    task.cancel()
    outcomes = loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    assert type(outcomes[0]) in (RuntimeError, asyncio.CancelledError)


def test_a_coroutine_stepped_by_itself(loop: Loop) -> None:
    async def own() -> str:
        try:
            coro.send(None)
        except ValueError as error:
            return str(error)
        return "no error"

    coro = own()
    assert loop.run_until_complete(loop.create_task(coro)) == "coroutine already executing"


def test_a_coroutine_that_is_awaited_twice(loop: Loop) -> None:
    async def give() -> None:
        await asyncio.sleep(0)

    coro = give()
    first, second = loop.create_task(coro), loop.create_task(coro)
    outcomes = loop.run_until_complete(asyncio.gather(first, second, return_exceptions=True))
    assert {type(outcome) for outcome in outcomes} & {RuntimeError}


def test_a_coroutine_that_runs_the_loop(loop: Loop) -> None:
    async def nested() -> str:
        with pytest.raises(RuntimeError):
            loop.run_until_complete(loop.create_future())
        return "fine"

    assert loop.run_until_complete(nested()) == "fine"


def test_ignoring_generator_exit(loop: Loop) -> None:
    """A coroutine that yields while it is closed: an error out of close(), nothing worse."""

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0)
            except GeneratorExit:
                pass

    coro = stubborn()
    task = loop.create_task(coro)
    run_turns(loop, 3)
    with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
        coro.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


# Depth and threads -------------------------------------------------------------------------------


def test_a_deep_chain_of_awaits(loop: Loop) -> None:
    async def down(depth: int) -> int:
        if depth == 0:
            await asyncio.sleep(0)
            return 0
        return 1 + await down(depth - 1)

    depth = sys.getrecursionlimit() // 4
    assert loop.run_until_complete(down(depth)) == depth


def test_a_long_chain_of_tasks_is_cancelled(loop: Loop) -> None:
    async def link(inner: "asyncio.Task[Any] | None") -> None:
        await (inner or loop.create_future())

    task = None
    for _ in range(100):
        task = loop.create_task(link(task))
    run_turns(loop, 2)
    assert task is not None and task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_reading_a_task_from_other_threads_while_it_runs(loop: Loop) -> None:
    """done(), repr() and the like from another thread are no error and no crash."""
    stop = threading.Event()
    errors: list[BaseException] = []

    async def work() -> None:
        for _ in range(300):
            await asyncio.sleep(0)

    tasks = [loop.create_task(work()) for _ in range(3)]
    future = loop.create_future()

    def read() -> None:
        while not stop.is_set():
            try:
                for task in tasks:
                    repr(task), task.done(), task.cancelled(), task.get_name()
                repr(future), future.done()
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    loop.run_until_complete(asyncio.wait(tasks))
    stop.set()
    thread.join()
    assert errors == []
