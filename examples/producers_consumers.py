"""Producers and consumers around a queue, their tasks held together by a TaskGroup.

python examples/producers_consumers.py
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import mioloop

ITEMS_PER_PRODUCER = 1_000


async def produce(queue: "asyncio.Queue[int | None]", first: int) -> None:
    for item in range(first, first + ITEMS_PER_PRODUCER):
        await queue.put(item)


async def consume(queue: "asyncio.Queue[int | None]", sums: list[int]) -> None:
    total = 0
    while (item := await queue.get()) is not None:
        total += item
    sums.append(total)


async def run_all(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    if not hasattr(asyncio, "TaskGroup"):  # Python 3.10
        await asyncio.gather(*coroutines)
        return
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(coroutine)


async def main() -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=10)
    sums: list[int] = []
    consumers = [asyncio.create_task(consume(queue, sums)) for _ in range(3)]
    await run_all([produce(queue, number * ITEMS_PER_PRODUCER) for number in range(4)])
    for _ in consumers:
        await queue.put(None)
    await asyncio.gather(*consumers)
    print(f"{len(consumers)} consumers added up {sum(sums)}")


if __name__ == "__main__":
    mioloop.run(main())
