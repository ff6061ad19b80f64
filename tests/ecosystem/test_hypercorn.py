"""hypercorn: HTTP/2 over TLS with real multiplexing, HTTP/1.1 and a clean end, on our loop."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgi_app import app
from children import free_port, need

CERTS = Path(__file__).parent.parent / "certs"
OURS = "mioloop._loop.Loop"
Ours = Callable[..., Any]


def test_http2(ours: Ours) -> None:
    need("h2")
    httpx = need("httpx")
    serve = need("hypercorn.asyncio").serve
    config = need("hypercorn.config").Config()
    config.bind = [f"127.0.0.1:{free_port()}"]
    config.certfile = config.keyfile = str(CERTS / "server.pem")
    config.loglevel = "WARNING"
    context = ssl.create_default_context(cafile=str(CERTS / "ca.pem"))
    body = bytes(range(256)) * 1000

    async def main() -> None:
        ending = asyncio.Event()
        serving = asyncio.create_task(serve(app, config, shutdown_trigger=ending.wait))
        port = int(config.bind[0].rpartition(":")[2])
        while True:  # hypercorn does not say when it listens.
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        for http2 in (True, False):
            async with httpx.AsyncClient(
                http2=http2, verify=context, base_url=f"https://127.0.0.1:{port}", trust_env=False
            ) as client:
                answers = await asyncio.gather(*(client.get("/") for _ in range(30)))
                facts = [json.loads(answer.content) for answer in answers]
                assert {fact["loop"] for fact in facts} == {OURS}
                assert {fact["http"] for fact in facts} == {"2" if http2 else "1.1"}
                assert (await client.post("/echo", content=body)).content == body
        ending.set()
        await serving

    ours(main)
