"""What is no longer used is freed: by reference count, or by the collector where there is a cycle.

Run on asyncio and on mioloop alike. That nothing grows over many operations: test_leaks.py.
"""

import asyncio
import functools
import gc
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


class Canary:
    """Something that can be watched dying."""

    def method(self, *args: object) -> None: ...


def run_turns(loop: Loop, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


def died(ref: "weakref.ref[Any]") -> bool:
    gc.collect()
    return ref() is None


def test_a_future_in_its_own_callback(loop: Loop) -> None:
    future = loop.create_future()
    future.add_done_callback(functools.partial(id, future))
    future.result_of_mine = future  # type: ignore[attr-defined]
    ref = weakref.ref(future)
    del future
    assert died(ref)


def test_a_future_as_its_own_result_or_error(loop: Loop) -> None:
    class Odd(Exception):
        future: object = None

    finished, failed = loop.create_future(), loop.create_future()
    finished.set_result(finished)
    error = Odd()
    error.future = failed
    failed.set_exception(error)
    failed.exception()
    refs = weakref.ref(finished), weakref.ref(failed)
    del finished, failed, error
    assert all(died(ref) for ref in refs)


def test_a_task_that_its_coroutine_holds(loop: Loop) -> None:
    async def hold() -> Canary:
        me = asyncio.current_task()
        canary = Canary()
        canary.task = me  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return canary

    task = loop.create_task(hold())
    loop.run_until_complete(task)
    refs = weakref.ref(task), weakref.ref(task.result())
    del task
    assert all(died(ref) for ref in refs)


def test_a_pending_task_and_its_future(loop: Loop) -> None:
    """Nothing outside refers to the pair any more: reported and collected, coroutine and all."""
    reports: list[str] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context["message"]))

    async def wait(canary: Canary) -> None:
        await loop.create_future()

    canary = Canary()
    ref = weakref.ref(canary)
    task = loop.create_task(wait(canary))
    task_ref = weakref.ref(task)
    run_turns(loop, 2)
    del canary, task
    assert died(ref) and died(task_ref)
    assert reports == ["Task was destroyed but it is pending!"]


def test_a_failed_task_frees_its_frames(loop: Loop) -> None:
    async def fail(canary: Canary) -> None:
        raise ValueError

    canary = Canary()
    ref = weakref.ref(canary)
    task = loop.create_task(fail(canary))
    with pytest.raises(ValueError):
        loop.run_until_complete(task)
    del canary, task
    assert died(ref)


def test_a_finished_task_needs_no_collector(loop: Loop) -> None:
    """Reference counts alone free a task that has run to its end."""

    async def give() -> None:
        await asyncio.sleep(0)

    gc.collect()
    gc.disable()
    try:
        task = loop.create_task(give())
        run_turns(loop, 3)
        assert task.done()
        ref = weakref.ref(task)
        del task
        assert ref() is None
    finally:
        gc.enable()


def test_initialising_a_task_again(loop: Loop) -> None:
    """Allowed once it is done, until 3.15; the old state is freed."""

    async def give() -> None: ...

    task = loop.create_task(give())
    loop.run_until_complete(task)

    def again() -> None:
        coro = give()
        try:
            task.__init__(coro, loop=loop)  # type: ignore[misc]
        except RuntimeError as error:
            coro.close()
            pytest.skip(str(error))
        loop.run_until_complete(task)

    for _ in range(100):
        again()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        again()
    gc.collect()
    assert sys.getallocatedblocks() - before < 300


def test_handles_and_their_arguments(loop: Loop) -> None:
    refs = []
    for schedule in (loop.call_soon, lambda *args: loop.call_later(1000, *args)):
        canary = Canary()
        canary.handle = schedule(id, canary)  # type: ignore[attr-defined]
        refs.append(weakref.ref(canary))
        canary.handle.cancel()  # type: ignore[attr-defined]
        del canary
    run_turns(loop)
    assert all(died(ref) for ref in refs)


def test_a_loop_in_a_cycle_with_all_it_holds(new_loop: NewLoop) -> None:
    base = type(new_loop())
    loop = base()
    canary = Canary()
    canary.loop = loop  # type: ignore[attr-defined]
    read, write = os.pipe()
    loop.call_soon(id, canary)
    loop.call_later(1000, id, canary)
    loop.call_soon_threadsafe(id, canary)
    loop.add_reader(read, id, canary)
    loop.set_exception_handler(canary.method)
    loop.set_task_factory(canary.method)  # type: ignore[arg-type]
    loop.me = loop  # type: ignore[attr-defined]
    ref, loop_ref = weakref.ref(canary), weakref.ref(loop)
    loop.remove_reader(read)
    loop.close()
    del canary, loop
    assert died(ref) and died(loop_ref)
    os.close(read)
    os.close(write)


def test_closed_loops_leave_no_descriptors(new_loop: NewLoop) -> None:
    base = type(new_loop())

    def use() -> None:
        loop = base()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        use()
    assert len(os.listdir("/proc/self/fd")) == before


def test_collecting_in_the_middle_of_everything(loop: Loop) -> None:
    """A collection inside of steps, callbacks and finalizers finds every object traversable."""

    class Evil:
        def __del__(self) -> None:
            gc.collect(0)

    async def step(future: "asyncio.Future[Any]") -> Evil:
        gc.collect(0)
        await asyncio.sleep(0)
        await future
        return Evil()

    async def main() -> None:
        future = loop.create_future()
        future.add_done_callback(lambda _: gc.collect(0))
        loop.call_soon(gc.collect, 0)
        loop.call_later(0, gc.collect, 0)
        tasks = [asyncio.ensure_future(step(future)) for _ in range(20)]
        await asyncio.sleep(0)
        future.set_result(Evil())
        await asyncio.gather(*tasks)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        loop.run_until_complete(main())
    finally:
        gc.set_threshold(*threshold)


def test_a_task_made_before_the_run_is_seen_by_the_collector(loop: Loop) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    loop.create_task(work())
    loop.call_soon(id, None)
    loop.call_soon(id, None)
    (task,) = asyncio.all_tasks(loop)
    assert gc.is_tracked(task)
    loop.run_until_complete(task)
    assert gc.is_tracked(task)


def test_tasks_that_did_not_begin_are_seen_by_the_collector(loop: Loop) -> None:
    """The run ends before they do: one that is kept, one that asyncio's register gives out."""
    kept: list[asyncio.Task[Any]] = []

    async def main() -> None:
        running = asyncio.get_running_loop()
        kept.append(running.create_task(asyncio.sleep(0)))
        running.create_task(asyncio.sleep(0))
        running.stop()

    loop.create_task(main())
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    assert len(tasks) == 2
    assert all(gc.is_tracked(task) for task in [*tasks, *kept])
    loop.run_until_complete(asyncio.gather(*tasks))


def test_a_task_that_began_is_collected_with_its_cycle(loop: Loop) -> None:
    """Pending, known to nobody but what it waits for; and done, known to its own result."""
    canary = Canary()
    ref = weakref.ref(canary)
    reports: list[str] = []
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))

    async def waits(canary: Canary) -> None:
        await loop.create_future()

    async def refers(canary: Canary) -> list[Any]:
        return [asyncio.current_task(), canary]

    async def main(canary: Canary) -> None:
        running = asyncio.get_running_loop()
        tasks = [running.create_task(waits(canary)), running.create_task(refers(canary))]
        await asyncio.sleep(0)
        assert all(gc.is_tracked(task) for task in tasks)

    loop.run_until_complete(main(canary))
    del canary
    gc.collect()
    assert ref() is None
    assert reports == ["Task was destroyed but it is pending!"]


def test_handles_that_are_kept_are_seen_by_the_collector(loop: Loop) -> None:
    handles = [loop.call_soon(id, None) for _ in range(3)]
    assert all(gc.is_tracked(handle) for handle in handles)

    async def main() -> None:
        running = asyncio.get_running_loop()
        handles.append(running.call_soon(id, None))
        handles.append(running.call_soon(id, None))
        handles[-1].cancel()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert all(gc.is_tracked(handle) for handle in handles)


def test_a_failed_handle_is_seen_by_the_collector(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    loop.call_soon(int, "not a number")
    loop.call_soon(int, "nor is this")
    loop.run_until_complete(asyncio.sleep(0))
    assert [gc.is_tracked(context["handle"]) for context in contexts] == [True, True]


def test_timers_that_are_kept_are_seen_by_the_collector(loop: Loop) -> None:
    kept: list[asyncio.TimerHandle] = []

    def keep_every_other() -> None:
        for number in range(6):
            timer = loop.call_later(1000, id, number)
            if number % 2:
                kept.append(timer)

    keep_every_other()
    loop.call_soon(keep_every_other)
    run_turns(loop)
    gc.collect()
    assert all(gc.is_tracked(timer) for timer in kept)
    for timer in kept:
        timer.cancel()
    assert all(gc.is_tracked(timer) for timer in kept)


def test_a_closed_loop_in_a_cycle_with_its_timers(loop_factory: NewLoop) -> None:
    """Timers that nobody keeps, and one that is kept by what its callback refers to."""
    canaries = [Canary() for _ in range(4)]
    refs = [weakref.ref(canary) for canary in canaries]

    def make() -> None:
        loop = loop_factory()
        for canary in canaries:
            canary.loop = loop  # type: ignore[attr-defined]
            timer = loop.call_later(1000, canary.method)
        canaries[0].timer = timer  # type: ignore[attr-defined]
        run_turns(loop)
        loop.close()

    make()
    canaries.clear()
    assert all(died(ref) for ref in refs)


def test_cancelled_in_debug_mode_and_in_the_callback(loop: Loop) -> None:
    """A handle that only a weak reference reaches while it runs can be cancelled, too late."""
    seen: list[bool] = []

    def cancel() -> None:
        handle = watched[0]()
        if handle is not None:
            handle.cancel()
            seen.append(handle.cancelled())

    watched = [weakref.ref(loop.call_soon(cancel))]
    run_turns(loop)
    assert seen == [True]
    loop.set_debug(True)
    handle = loop.call_soon(cancel)
    handle.cancel()
    assert handle.cancelled() and "cancelled" in repr(handle) and "cancel()" in repr(handle)
