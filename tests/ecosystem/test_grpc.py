"""grpc.aio: every kind of call, with generic handlers, so that nothing is generated.

grpc polls in a thread of its own and wakes the loop by a socket pair that the loop watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import mioloop
from children import need

Ours = Callable[..., Any]


async def unary(request: bytes, context: Any) -> bytes:
    assert type(asyncio.get_running_loop()) is mioloop.Loop
    await asyncio.sleep(0.001)
    return request[::-1]


async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request.upper()


async def stuck(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(60)
    return request


def test_grpc(ours: Ours) -> None:
    grpc = need("grpc")
    need("grpc.aio")

    async def main() -> None:
        server = grpc.aio.server()
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Stream": grpc.stream_stream_rpc_method_handler(stream),
            "Stuck": grpc.unary_unary_rpc_method_handler(stuck),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Test", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/test.Test/Unary")
            answers = await asyncio.gather(*(call(b"%d" % n) for n in range(100, 200)))
            assert answers == [(b"%d" % n)[::-1] for n in range(100, 200)]
            words = channel.stream_stream("/test.Test/Stream")(iter([b"one", b"two", b"three"]))
            assert [word async for word in words] == [b"ONE", b"TWO", b"THREE"]
            try:
                await channel.unary_unary("/test.Test/Stuck")(b"x", timeout=0.1)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            else:
                raise AssertionError("no deadline")
        await server.stop(None)

    ours(main)
