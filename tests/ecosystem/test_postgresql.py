"""asyncpg and psycopg against a real PostgreSQL server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from children import need

Ours = Callable[..., Any]


def test_asyncpg(ours: Ours, postgres: dict[str, Any]) -> None:
    asyncpg = need("asyncpg")

    async def main() -> None:
        async with asyncpg.create_pool(**postgres, min_size=2, max_size=5) as pool:
            await pool.execute("create table numbers (id int primary key, data bytea)")
            await pool.executemany(
                "insert into numbers values ($1, $2)",
                [(n, bytes([n]) * 10_000) for n in range(200)],
            )
            rows = await asyncio.gather(
                *(pool.fetchval("select data from numbers where id = $1", n) for n in range(200))
            )
            assert rows == [bytes([n]) * 10_000 for n in range(200)]
            async with pool.acquire() as connection, connection.transaction():
                seen = [row["id"] async for row in connection.cursor("select id from numbers")]
            assert sorted(seen) == list(range(200))
            await notifications(pool)
            # A cancelled query is cancelled in the server, and the connection serves on.
            for _ in range(3):
                try:
                    await asyncio.wait_for(pool.execute("select pg_sleep(20)"), 0.05)
                except asyncio.TimeoutError:
                    pass
            assert await pool.fetchval("select count(*) from numbers") == 200

    async def notifications(pool: Any) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        async with pool.acquire() as listener:
            await listener.add_listener("news", lambda *event: heard.put_nowait(event[3]))
            await pool.execute("notify news, 'first'")
            assert await heard.get() == "first"
            await listener.reset()

    ours(main)


def test_psycopg(ours: Ours, postgres: dict[str, Any]) -> None:
    psycopg = need("psycopg")
    where = {**postgres, "dbname": postgres["database"]}
    del where["database"]

    async def query(number: int) -> int:
        async with await psycopg.AsyncConnection.connect(**where) as connection:
            cursor = await connection.execute("select %s * 2", (number,))
            row = await cursor.fetchone()
            return int(row[0])

    async def main() -> None:
        assert await asyncio.gather(*map(query, range(20))) == [n * 2 for n in range(20)]
        async with await psycopg.AsyncConnection.connect(**where) as connection:
            async with connection.cursor() as cursor:
                await cursor.execute("create temporary table words (word text)")
                async with cursor.copy("copy words from stdin") as copy:
                    for number in range(10_000):
                        await copy.write_row((f"word {number}",))
                await cursor.execute("select count(*) from words")
                assert await cursor.fetchone() == (10_000,)
                async with cursor.copy("copy words to stdout") as copy:
                    size = sum([len(block) async for block in copy])
                assert size == sum(len(f"word {n}\n") for n in range(10_000))
            await connection.execute("listen news")
            await connection.commit()
            await connection.execute("notify news, 'second'")
            await connection.commit()
            async for notice in connection.notifies(timeout=20, stop_after=1):
                assert notice.payload == "second"

    ours(main)
