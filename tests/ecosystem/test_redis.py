"""redis-py against a real redis-server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from children import need

Ours = Callable[..., Any]


def test_redis(ours: Ours, redis_server: int) -> None:
    redis = need("redis.asyncio", "redis")

    async def main() -> None:
        pool = redis.BlockingConnectionPool(port=redis_server, max_connections=20)
        async with redis.Redis.from_pool(pool) as client:
            await asyncio.gather(*(client.set(f"key{n}", "x" * n) for n in range(200)))
            values = await asyncio.gather(*(client.get(f"key{n}") for n in range(200)))
            assert [len(value) for value in values] == list(range(200))
            async with client.pipeline(transaction=True) as pipe:
                for _ in range(1000):
                    pipe.incr("counter")
                assert (await pipe.execute())[-1] == 1000
            big = bytes(range(256)) * 20_000
            await client.set("big", big)
            assert await client.get("big") == big
            await messages(client)
            try:
                await asyncio.wait_for(client.blpop(["nothing"], timeout=20), 0.05)
            except asyncio.TimeoutError:
                pass
            assert await client.ping()

    async def messages(client: Any) -> None:
        async with client.pubsub() as listener:
            await listener.subscribe("news")
            assert (await listener.get_message(timeout=10))["type"] == "subscribe"
            await client.publish("news", "first")
            assert (await listener.get_message(timeout=10))["data"] == b"first"

    ours(main)
