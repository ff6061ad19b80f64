"""aiosqlite: a database in a thread of its own, which calls the loop from there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from children import need

Ours = Callable[..., Any]


def test_aiosqlite(ours: Ours, tmp_path: Path) -> None:
    aiosqlite = need("aiosqlite")

    async def main() -> None:
        async with aiosqlite.connect(tmp_path / "data.db") as database:
            await database.execute("create table numbers (number int)")
            await asyncio.gather(
                *(database.execute("insert into numbers values (?)", (n,)) for n in range(500))
            )
            await database.commit()
            async with database.execute("select number from numbers order by number") as rows:
                assert [row[0] async for row in rows] == list(range(500))

    ours(main)
