"""Timers: a callback for later, one called off, a task that runs out of time.

python examples/timeouts.py
"""

import asyncio

import mioloop


async def answer_after(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print(f"  the answer after {seconds} s was cancelled")
        raise
    return f"the answer after {seconds} s"


async def main() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    rang = asyncio.Event()
    loop.call_later(0.02, rang.set)
    never = loop.call_later(0.01, print, "nobody sees this")
    never.cancel()
    await rang.wait()
    # A timer is never early: mioloop counts nanoseconds.
    print("the alarm rang in time:", 0.02 <= loop.time() - started < 0.5)

    print(await asyncio.wait_for(answer_after(0.01), timeout=5))
    try:
        await asyncio.wait_for(answer_after(5), timeout=0.01)
    except asyncio.TimeoutError:
        print("no answer within 0.01 s")


if __name__ == "__main__":
    mioloop.run(main())
