"""The smallest program: a coroutine on a mioloop loop.

python examples/hello.py
"""

import asyncio

import mioloop


async def main() -> str:
    print("hello from", asyncio.get_running_loop())
    await asyncio.sleep(0.01)
    return "goodbye"


if __name__ == "__main__":
    print(mioloop.run(main()))
