"""Many loops: one after another, in threads, side by side; what may not be mixed, and how it fails.

Run on asyncio and on mioloop alike. Nested runs of one thread are in test_call_soon.py.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """Runs work(0) ... work(count - 1) at the same time; their results or errors, in order."""
    results: list[object] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


async def busy(rounds: int) -> int:
    """Tasks, timers, queues and a thread hop."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[int] = asyncio.Queue(2)

    async def produce() -> None:
        for number in range(rounds):
            await queue.put(number)
            await asyncio.sleep(0.0001 if number % 10 == 0 else 0)

    producer = asyncio.ensure_future(produce())
    total = 0
    for _ in range(rounds):
        total += await queue.get()
    await producer
    total += await loop.run_in_executor(None, int, "1")
    assert asyncio.current_task() in asyncio.all_tasks()
    assert len(asyncio.all_tasks()) == 1
    return total


def test_one_after_another(new_loop: NewLoop) -> None:
    for _ in range(20):
        loop = new_loop()
        assert loop.run_until_complete(asyncio.sleep(0, "value")) == "value"
        loop.close()


def test_two_loops_taking_turns_in_one_thread(new_loop: NewLoop) -> None:
    first, second = new_loop(), new_loop()
    log: list[str] = []
    for number in range(3):
        for name, loop in (("first", first), ("second", second)):
            loop.call_soon(log.append, f"{name} {number}")
            loop.run_until_complete(asyncio.sleep(0))
    assert log == [f"{name} {number}" for number in range(3) for name in ("first", "second")]


def test_a_loop_in_each_thread(new_loop: NewLoop) -> None:
    loops = [new_loop() for _ in range(8)]
    results = in_threads(8, lambda number: loops[number].run_until_complete(busy(100)))
    assert results == [sum(range(100)) + 1] * 8


def test_loops_made_and_closed_in_threads(new_loop: NewLoop, loop_factory: NewLoop) -> None:
    def work(_: int) -> int:
        total = 0
        for _ in range(5):
            loop = loop_factory()
            try:
                total += loop.run_until_complete(asyncio.sleep(0, 1))
            finally:
                loop.close()
        return total

    assert in_threads(8, work) == [5] * 8


def test_a_loop_that_moves_between_threads(new_loop: NewLoop) -> None:
    """Made here, run there, run here again, closed there: one thread at a time is enough."""
    loop = new_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert in_threads(1, lambda _: loop.run_until_complete(future)) == [1]
    assert loop.run_until_complete(asyncio.sleep(0.001, 2)) == 2
    assert in_threads(1, lambda _: loop.run_until_complete(asyncio.sleep(0, 3))) == [3]
    in_threads(1, lambda _: loop.close())
    assert loop.is_closed()


def test_running_a_loop_that_runs_in_another_thread(new_loop: NewLoop) -> None:
    loop = new_loop()
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert started.wait(5)
    try:
        future: Any = loop.create_future()
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_until_complete(future)
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()
        assert loop.is_running()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
    assert not loop.is_running()


def test_the_running_loop_is_per_thread(new_loop: NewLoop) -> None:
    loop = new_loop()

    async def main() -> None:
        async def ask() -> Loop:
            return asyncio.get_running_loop()

        def other_thread(_: int) -> object:
            try:
                return asyncio.get_running_loop()
            except RuntimeError as error:
                return str(error)

        assert in_threads(1, other_thread) == ["no running event loop"]
        inner = new_loop()
        assert in_threads(1, lambda _: inner.run_until_complete(ask())) == [inner]
        assert asyncio.get_running_loop() is loop

    loop.run_until_complete(main())


def test_a_task_of_another_loop_cannot_be_awaited(new_loop: NewLoop) -> None:
    loop, other = new_loop(), new_loop()
    task = other.create_task(asyncio.sleep(0, "value"))

    async def main() -> None:
        await task

    with pytest.raises(
        RuntimeError, match=r"^Task <.*> got Future <Task .*> attached to a different loop$"
    ):
        loop.run_until_complete(main())
    assert other.run_until_complete(task) == "value"


def test_run_until_complete_of_another_loop_s_future(new_loop: NewLoop) -> None:
    loop, other = new_loop(), new_loop()
    with pytest.raises(ValueError, match="^The future belongs to a different loop than the one"):
        loop.run_until_complete(other.create_future())


def test_gather_across_loops_is_refused(new_loop: NewLoop) -> None:
    futures = [new_loop().create_future() for _ in range(2)]
    with pytest.raises(ValueError, match="different (event )?loop"):
        asyncio.gather(*futures)


def test_coroutines_hop_between_two_running_loops(new_loop: NewLoop) -> None:
    """run_coroutine_threadsafe there and wrap_future back, both ways at once."""
    first, second = new_loop(), new_loop()

    async def remote(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    async def main(other: Loop) -> int:
        total = 0
        for number in range(100):
            there = asyncio.run_coroutine_threadsafe(remote(number), other)
            total += await asyncio.wrap_future(there)
        finished.append(1)
        while len(finished) < 2:
            await asyncio.sleep(0.001)
        return total

    finished: list[int] = []
    pairs = [(first, second), (second, first)]
    results = in_threads(2, lambda n: pairs[n][0].run_until_complete(main(pairs[n][1])))
    assert results == [sum(range(100)) * 2] * 2


def test_all_tasks_of_another_thread_s_loop(new_loop: NewLoop) -> None:
    loop = new_loop()
    ready, release = threading.Event(), threading.Event()

    async def main() -> None:
        tasks = [asyncio.ensure_future(asyncio.sleep(1000)) for _ in range(10)]
        await asyncio.sleep(0)
        ready.set()
        await loop.run_in_executor(None, release.wait, 10)
        for task in tasks:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(5)
    assert len(asyncio.all_tasks(loop)) == 11
    release.set()
    thread.join(10)


@pytest.mark.slow
def test_a_hundred_loops_in_a_hundred_threads(new_loop: NewLoop) -> None:
    loops = [new_loop() for _ in range(100)]
    results = in_threads(100, lambda number: loops[number].run_until_complete(busy(20)))
    assert results == [sum(range(20)) + 1] * 100
