"""dask.distributed: its own scheduler, workers and client, all on our loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import mioloop
from children import need

Ours = Callable[..., Any]


def test_distributed(ours: Ours) -> None:
    """In one process: three kinds of node, their heartbeats, comms over TCP, stealing."""
    distributed = need("distributed")
    need("dask")

    async def main() -> None:
        options = {"dashboard_address": None, "host": "127.0.0.1", "port": 0}
        async with distributed.Scheduler(**options) as scheduler:
            where = scheduler.address
            async with distributed.Worker(where, nthreads=2, host="127.0.0.1", name="a"):
                async with distributed.Worker(
                    where, nthreads=2, host="127.0.0.1", name="b"
                ) as worker:
                    assert worker.loop.asyncio_loop is asyncio.get_running_loop()
                    async with distributed.Client(where, asynchronous=True) as client:
                        await work(client)

    async def work(client: Any) -> None:
        squares = client.map(lambda number: number * number, range(200))
        total = client.submit(sum, squares)
        assert await total == sum(n * n for n in range(200))
        big = await client.scatter(b"x" * 5_000_000)
        assert await client.submit(len, big) == 5_000_000
        failing = client.submit(lambda: 1 / 0)
        try:
            await failing
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError("no error came back")

        async def on_worker(dask_worker: Any) -> str:
            return type(asyncio.get_running_loop()).__module__

        names = await client.run(on_worker)
        assert set(names.values()) == {mioloop.Loop.__module__}

    ours(main)
    # A pool of the whole process, whose thread pytest would wait for.
    distributed.utils._offload_executor.shutdown()
