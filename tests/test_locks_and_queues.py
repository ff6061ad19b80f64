"""asyncio's locks, events, semaphores, conditions, barriers and queues on our tasks and futures.

Run on asyncio and on mioloop alike. asyncio's implementation is used as it is; these tests show
that our futures and tasks carry it, in asyncio's order. The other tools: test_primitives.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[Any], Any]
needs_barrier = pytest.mark.skipif(not hasattr(asyncio, "Barrier"), reason="new in 3.11")


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_lock_is_fair(run: Run) -> None:
    async def main() -> list[int]:
        lock, order = asyncio.Lock(), []

        async def use(number: int) -> None:
            async with lock:
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(use(number) for number in range(5)))
        return order

    assert run(main()) == [0, 1, 2, 3, 4]


def test_a_cancelled_waiter_does_not_keep_the_lock(run: Run) -> None:
    async def main() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        first, second = (asyncio.ensure_future(lock.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        lock.release()
        assert await second is True
        assert first.cancelled()

    run(main())


def test_event_semaphore_and_condition(run: Run) -> None:
    async def main() -> None:
        event, semaphore, condition = asyncio.Event(), asyncio.Semaphore(2), asyncio.Condition()
        waiters = [asyncio.ensure_future(event.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        event.set()
        assert await asyncio.gather(*waiters) == [True] * 3
        running = peak = 0

        async def limited() -> None:
            nonlocal running, peak
            async with semaphore:
                running += 1
                peak = max(peak, running)
                await turns(2)
                running -= 1

        await asyncio.gather(*(limited() for _ in range(6)))
        assert peak == 2
        state: list[int] = []

        async def consume() -> None:
            async with condition:
                await condition.wait_for(lambda: len(state) == 2)
                state.append(3)

        consumer = asyncio.ensure_future(consume())
        for number in (1, 2):
            await asyncio.sleep(0)
            async with condition:
                state.append(number)
                condition.notify_all()
        await consumer
        assert state == [1, 2, 3]

    run(main())


@needs_barrier
def test_barrier(run: Run) -> None:
    async def main() -> list[int]:
        barrier = asyncio.Barrier(3)
        return sorted(await asyncio.gather(*(barrier.wait() for _ in range(3))))

    assert run(main()) == [0, 1, 2]


def test_queue(run: Run) -> None:
    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
        got: list[int] = []

        async def consume() -> None:
            while True:
                got.append(await queue.get())
                queue.task_done()

        consumer = asyncio.ensure_future(consume())
        for number in range(10):
            await queue.put(number)
        await queue.join()
        consumer.cancel()
        return got

    assert run(main()) == list(range(10))


def test_a_thousand_producers_and_consumers(run: Run) -> None:
    async def main() -> int:
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=10)
        producers = [asyncio.ensure_future(queue.put(n)) for n in range(1000)]
        total = sum(await asyncio.gather(*(queue.get() for _ in range(1000))))
        await asyncio.gather(*producers)
        return total

    assert run(main()) == sum(range(1000))
