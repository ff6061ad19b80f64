"""websockets: its asyncio server and client, compression, fragments, pings, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import mioloop
from children import need

Ours = Callable[..., Any]


def test_websockets(ours: Ours) -> None:
    connect = need("websockets.asyncio.client").connect
    serve = need("websockets.asyncio.server").serve

    async def handler(peer: Any) -> None:
        assert type(asyncio.get_running_loop()) is mioloop.Loop
        async for message in peer:
            await peer.send(message)

    async def visit(port: int, number: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}", max_size=2**24, proxy=None) as peer:
            for size in (0, 1, 1000, 100_000):
                text = f"{number}" * size
                await peer.send(text)
                assert await peer.recv() == text
            await (await peer.ping())
            await peer.send([b"one ", b"two ", b"three"])
            assert await peer.recv() == b"one two three"
        assert peer.close_code == 1000

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0, max_size=2**24) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.gather(*(visit(port, number) for number in range(20)))

    ours(main)
