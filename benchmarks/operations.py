"""What programs do with a loop, as coroutines that do it `count` times.

Run by `worker.py` for the clock and by `instructions.py` under valgrind. Nothing here knows which
loop it runs on.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

Body = Callable[[AbstractEventLoop, int], Coroutine[Any, Any, None]]


class Operation(NamedTuple):
    """A coroutine function, and how many operations one call of it should do."""

    body: Body
    batch: int


OPERATIONS: dict[str, Operation] = {}


def operation(batch: int) -> Callable[[Body], Body]:
    """Register an operation under its name."""

    def register(body: Body) -> Body:
        OPERATIONS[body.__name__] = Operation(body, batch)
        return body

    return register


def nothing(*_: object) -> None:
    """A callback."""


async def trivial() -> int:
    """A coroutine that never waits."""
    return 1


def countdown(loop: AbstractEventLoop, count: int) -> tuple[Callable[[], None], Future[None]]:
    """A callback and a future that is done when the callback ran `count` times."""
    done = loop.create_future()
    left = count

    def callback() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set_result(None)

    return callback, done


# Tasks and futures


@operation(20_000)
async def create_task(loop: AbstractEventLoop, count: int) -> None:
    """Create a task, await it."""
    for _ in range(count):
        await loop.create_task(trivial())


@operation(10_000)
async def gather(loop: AbstractEventLoop, count: int) -> None:
    """Await many coroutines at once."""
    await asyncio.gather(*[trivial() for _ in range(count)])


@operation(1_000)
async def task_group(loop: AbstractEventLoop, count: int) -> None:
    """Await many tasks of a group."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(trivial())


@operation(50_000)
async def sleep0(loop: AbstractEventLoop, count: int) -> None:
    """Let others run, where there are none."""
    for _ in range(count):
        await asyncio.sleep(0)


@operation(50_000)
async def sleep0_100(loop: AbstractEventLoop, count: int) -> None:
    """Let 99 others run."""
    await asyncio.gather(*[sleep0(loop, count // 100) for _ in range(100)])


@operation(50_000)
async def future(loop: AbstractEventLoop, count: int) -> None:
    """Two tasks that wake each other in turn."""
    calls: list[Future[None]] = [loop.create_future(), loop.create_future()]

    async def player(own: int, other: int, begins: bool) -> None:
        for _ in range(count // 2):
            if not begins:
                await calls[own]
                calls[own] = loop.create_future()
            begins = False
            calls[other].set_result(None)

    await asyncio.gather(player(0, 1, True), player(1, 0, False))


@operation(20_000)
async def queue(loop: AbstractEventLoop, count: int) -> None:
    """Hand items from one task to another, through a queue for one."""
    items: asyncio.Queue[int] = asyncio.Queue(1)

    async def produce() -> None:
        for number in range(count):
            await items.put(number)

    async def consume() -> None:
        for _ in range(count):
            await items.get()

    await asyncio.gather(produce(), consume())


@operation(5_000)
async def lock(loop: AbstractEventLoop, count: int) -> None:
    """Ten tasks take turns."""
    mutex = asyncio.Lock()

    async def work() -> None:
        for _ in range(count // 10):
            async with mutex:
                await asyncio.sleep(0)

    await asyncio.gather(*[work() for _ in range(10)])


@operation(5_000)
async def wait_for(loop: AbstractEventLoop, count: int) -> None:
    """Wait for a future that is soon done, with a time limit."""
    for _ in range(count):
        waiter = loop.create_future()
        loop.call_soon(waiter.set_result, None)
        await asyncio.wait_for(waiter, 10)


@operation(5_000)
async def timeout(loop: AbstractEventLoop, count: int) -> None:
    """Let others run, under a time limit."""
    for _ in range(count):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)


# Callbacks and timers


@operation(100_000)
async def call_soon(loop: AbstractEventLoop, count: int) -> None:
    """Schedule many callbacks, run them."""
    callback, done = countdown(loop, count)
    for _ in range(count):
        loop.call_soon(callback)
    await done


@operation(100_000)
async def call_later(loop: AbstractEventLoop, count: int) -> None:
    """Set many timers within a millisecond, run them."""
    callback, done = countdown(loop, count)
    for number in range(count):
        loop.call_later(0.001 + (number & 1023) * 1e-6, callback)
    await done


@operation(100_000)
async def call_later_cancel(loop: AbstractEventLoop, count: int) -> None:
    """Set many timers, cancel them."""
    timers = [loop.call_later(10, nothing) for _ in range(count)]
    for timer in timers:
        timer.cancel()
    del timers
    await asyncio.sleep(0)


@operation(50_000)
async def call_soon_threadsafe(loop: AbstractEventLoop, count: int) -> None:
    """Schedule callbacks from another thread, as fast as it can."""
    callback, done = countdown(loop, count)

    def schedule() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(callback)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()


@operation(1_000)
async def wake_up(loop: AbstractEventLoop, count: int) -> None:
    """Another thread wakes the sleeping loop and waits for its answer."""
    done = loop.create_future()
    answer = threading.Semaphore(0)

    def ask() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(answer.release)
            answer.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=ask)
    thread.start()
    await done
    thread.join()


@operation(500)
async def run_in_executor(loop: AbstractEventLoop, count: int) -> None:
    """Have a thread do nothing, await it."""
    for _ in range(count):
        await loop.run_in_executor(None, nothing)


# Processes and names


@operation(50)
async def getaddrinfo(loop: AbstractEventLoop, count: int) -> None:
    """Look up a name that needs no network."""
    for _ in range(count):
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


@operation(10)
async def subprocess(loop: AbstractEventLoop, count: int) -> None:
    """Start a process, wait for its end."""
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true")
        if await process.wait() != 0:
            raise RuntimeError(f"/bin/true ended with {process.returncode}")
