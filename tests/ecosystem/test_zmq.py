"""pyzmq: its sockets' descriptors are watched by add_reader, and tell of edges only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from children import need

Ours = Callable[..., Any]


def test_zmq(ours: Ours) -> None:
    zmq = need("zmq")
    asynchronous = need("zmq.asyncio")

    async def main() -> None:
        with asynchronous.Context() as context:
            server, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
            port = server.bind_to_random_port("tcp://127.0.0.1")
            client.connect(f"tcp://127.0.0.1:{port}")

            async def serve(count: int) -> None:
                for _ in range(count):
                    peer, message = await server.recv_multipart()
                    await server.send_multipart([peer, message[::-1]])

            serving = asyncio.create_task(serve(700))
            for number in range(200):
                await client.send(b"%d" % number)
                assert await client.recv() == (b"%d" % number)[::-1]
            for number in range(500):
                await client.send(b"%d" % number)
            for number in range(500):
                assert await client.recv() == (b"%d" % number)[::-1]
            await serving
            poller = asynchronous.Poller()
            poller.register(client, zmq.POLLIN)
            assert await poller.poll(20) == []
            client.close(linger=0)
            server.close(linger=0)

    ours(main)
