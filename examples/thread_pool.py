"""Blocking work in threads while the loop goes on: run_in_executor() and to_thread().

python examples/thread_pool.py
"""

import asyncio
import hashlib
import threading
import time

import mioloop


def blocking_read(seconds: float) -> str:
    time.sleep(seconds)
    return threading.current_thread().name.partition("_")[0]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


async def tick(ticks: list[int]) -> None:
    while True:
        ticks.append(len(ticks))
        await asyncio.sleep(0.001)


async def main() -> None:
    ticks: list[int] = []
    ticker = asyncio.create_task(tick(ticks))
    loop = asyncio.get_running_loop()
    jobs = [loop.run_in_executor(None, blocking_read, 0.05) for _ in range(4)]
    print("threads called", set(await asyncio.gather(*jobs)))
    print("the loop went on meanwhile:", len(ticks) > 3)
    print("digest:", await asyncio.to_thread(digest, "mioloop"))
    ticker.cancel()


if __name__ == "__main__":
    mioloop.run(main())
