"""mioloop beside asyncio, live, in a few seconds: operations per second of this machine.

python examples/compare.py [seconds per cell]

One process, one thread, the same interpreter for both; the best of the rounds counts. It shows
what this machine does now; figures to quote want more rounds, and a quiet machine.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import mioloop

BATCH = 2_000


async def tasks() -> None:
    async def nothing() -> None:
        pass

    for _ in range(BATCH):
        await asyncio.create_task(nothing())


async def call_soon() -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    for _ in range(BATCH - 1):
        loop.call_soon(int)
    loop.call_soon(done.set)
    await done.wait()


async def timers() -> None:
    loop = asyncio.get_running_loop()
    for handle in [loop.call_later(60, int) for _ in range(BATCH)]:
        handle.cancel()


def rate(loop: asyncio.AbstractEventLoop, case: Callable[[], Awaitable[None]], s: float) -> float:
    best, end = 0.0, time.perf_counter() + s
    while (start := time.perf_counter()) < end:
        loop.run_until_complete(case())
        best = max(best, BATCH / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    print(f"{'per second':24}{'asyncio':>12}{'mioloop':>12}")
    for case in (tasks, call_soon, timers):
        loops = (asyncio.SelectorEventLoop(), mioloop.new_event_loop())
        theirs, ours = (rate(loop, case, seconds) for loop in loops)
        for loop in loops:
            loop.close()
        print(f"{case.__name__:24}{theirs:12,.0f}{ours:12,.0f}{ours / theirs:8.1f} x")
