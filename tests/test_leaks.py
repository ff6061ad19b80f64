"""Nothing grows over a million operations: memory, descriptors, Python objects, allocated blocks.

Run on asyncio and on mioloop alike, after a warm-up. asyncio, whose loop is slower, does a tenth
of the rounds. Cycles and single objects are in test_gc.py.
"""

import asyncio
import gc
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
MANY = 100_000 if sysconfig.get_config_var("Py_DEBUG") else 1_000_000


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure() -> dict[str, int]:
    gc.collect()
    return {
        "memory": resident_bytes(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
    }


Rounds = Callable[[Loop, int], Coroutine[Any, Any, None]]


async def spawn_tasks(loop: Loop, count: int) -> None:
    async def give() -> None:
        await asyncio.sleep(0)

    for _ in range(count // 1000):
        await asyncio.gather(*(loop.create_task(give()) for _ in range(1000)))


async def cancel_tasks(loop: Loop, count: int) -> None:
    for _ in range(count // 1000):
        tasks = [loop.create_task(asyncio.sleep(1000)) for _ in range(1000)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        del task, tasks


async def fail_tasks(loop: Loop, count: int) -> None:
    async def fail() -> None:
        raise ValueError

    for _ in range(count // 1000):
        tasks = [loop.create_task(fail()) for _ in range(1000)]
        await asyncio.gather(*tasks, return_exceptions=True)


async def resolve_futures(loop: Loop, count: int) -> None:
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def run_handles(loop: Loop, count: int) -> None:
    for _ in range(count // 1000):
        for number in range(1000):
            loop.call_soon(id, number)
        await asyncio.sleep(0)


async def set_timers(loop: Loop, count: int) -> None:
    for _ in range(count // 1000):
        for number in range(500):
            loop.call_later(0, id, number)
            loop.call_later(1000, id, number).cancel()
        await asyncio.sleep(0)


async def call_threadsafe(loop: Loop, count: int) -> None:
    def push() -> None:
        for number in range(count // 10):
            loop.call_soon_threadsafe(id, number)

    thread = threading.Thread(target=push)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    thread.join()


async def watch_descriptors(loop: Loop, count: int) -> None:
    for _ in range(count // 100):
        read, write = os.pipe()
        loop.add_reader(read, id, None)
        loop.add_writer(write, id, None)
        loop.remove_reader(read)
        loop.remove_writer(write)
        os.close(read)
        os.close(write)
        await asyncio.sleep(0)


async def make_bursts(loop: Loop) -> None:
    """Reach the limits of the memory that dead handles and tasks leave to the next ones."""
    for number in range(50_000):
        loop.call_soon(id, number)
        loop.call_soon_threadsafe(id, number)
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(15_000)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "rounds",
    [
        spawn_tasks,
        cancel_tasks,
        fail_tasks,
        resolve_futures,
        run_handles,
        set_timers,
        call_threadsafe,
        watch_descriptors,
    ],
    ids=lambda rounds: rounds.__name__,
)
def test_nothing_grows(loop: Loop, loop_kind: str, rounds: Rounds) -> None:
    count = MANY if loop_kind == "mioloop" else MANY // 10
    # Warm up: some of a loop's descriptors, like the one it sleeps with, are made when needed.
    loop.run_until_complete(asyncio.sleep(0.002))
    loop.run_until_complete(make_bursts(loop))
    loop.run_until_complete(rounds(loop, count // 10))
    before = measure()
    loop.run_until_complete(rounds(loop, count))
    growth = {name: value - before[name] for name, value in measure().items()}
    assert growth["descriptors"] == 0
    assert growth["objects"] < 200
    assert growth["blocks"] < 1000
    assert growth["memory"] < 4 << 20
