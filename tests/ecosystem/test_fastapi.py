"""FastAPI under uvicorn, asked by httpx: sync and async routes, background tasks, streaming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mioloop
from children import free_port, need

Ours = Callable[..., Any]


def test_fastapi(ours: Ours) -> None:
    fastapi = need("fastapi")
    httpx = need("httpx")
    uvicorn = need("uvicorn")
    streaming = need("fastapi.responses").StreamingResponse
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        log.append("started")
        yield
        log.append("ended")

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/loop")  # type: ignore[untyped-decorator]
    async def loop() -> dict[str, str]:
        return {"loop": type(asyncio.get_running_loop()).__module__}

    @app.get("/square/{number}")  # type: ignore[untyped-decorator]
    def square(number: int) -> int:  # in a thread of anyio's
        return number * number

    def later(tasks: fastapi.BackgroundTasks) -> None:
        tasks.add_task(log.append, "background")

    later.__annotations__["tasks"] = fastapi.BackgroundTasks
    app.post("/later")(later)

    @app.get("/stream")  # type: ignore[untyped-decorator]
    async def stream() -> Any:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(100):
                yield b"%d," % number
                await asyncio.sleep(0)

        return streaming(parts())

    async def main() -> None:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            assert (await client.get("/loop")).json() == {"loop": mioloop.Loop.__module__}
            answers = await asyncio.gather(*(client.get(f"/square/{n}") for n in range(50)))
            assert [answer.json() for answer in answers] == [n * n for n in range(50)]
            assert (await client.get("/square/x")).status_code == 422
            assert (await client.post("/later")).status_code == 200
            assert (await client.get("/stream")).text == "".join(f"{n}," for n in range(100))
        server.should_exit = True
        await serving
        assert log == ["started", "background", "ended"]

    ours(main)
