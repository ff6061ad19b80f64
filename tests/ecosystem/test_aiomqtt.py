"""aiomqtt with a real mosquitto: paho's sockets by add_reader and add_writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from children import need

Ours = Callable[..., Any]


def test_aiomqtt(ours: Ours, mosquitto: int) -> None:
    aiomqtt = need("aiomqtt")

    async def main() -> None:
        async with aiomqtt.Client("127.0.0.1", mosquitto) as client:
            await client.subscribe("news/#", qos=1)

            async def publish() -> None:
                for number in range(100):
                    await client.publish(f"news/{number}", f"text {number}", qos=1)

            publishing = asyncio.create_task(publish())
            got = []
            async for message in client.messages:
                got.append(message.payload)
                if len(got) == 100:
                    break
            await publishing
            assert sorted(got) == sorted(b"text %d" % n for n in range(100))

    ours(main)
