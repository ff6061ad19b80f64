"""uvicorn: as a library with both HTTP parsers, as a command, under gunicorn, over TLS.

The loop is given as uvicorn's own option takes it: `mioloop:new_event_loop`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import Child, free_port, need

HERE = Path(__file__).parent
CERTS = HERE.parent / "certs"
OURS = "mioloop._loop.Loop"
LOOP = ("--loop", "mioloop:new_event_loop")
BODY = bytes(range(256)) * 4096  # 1 MiB

Ours = Callable[..., Any]

uvicorn = need("uvicorn")
httpx = need("httpx")


def command(port: int, *more: str) -> list[str]:
    """uvicorn as a command."""
    words = [sys.executable, "-m", "uvicorn", "asgi_app:app", "--app-dir", str(HERE)]
    return [*words, "--port", str(port), *LOOP, *more]


def check(client: Any, scheme: str = "http") -> None:
    """The loop, a big body, and twenty requests on one connection."""
    facts = client.get("/").json()
    assert facts["loop"] == OURS
    assert facts["started"] == [OURS]
    assert facts["scheme"] == scheme
    assert client.post("/echo", content=BODY).content == BODY
    for number in range(20):
        assert client.post("/echo", content=f"{number}").text == f"{number}"


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_as_a_command(http: str) -> None:
    need(http)
    port = free_port()
    with Child(command(port, "--http", http), port=port, says="Uvicorn running") as server:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            check(client)
        server.stop(signal.SIGINT)
        assert "lifespan ended" in server.output


def test_over_tls() -> None:
    port = free_port()
    files = [
        "--ssl-certfile",
        str(CERTS / "server.pem"),
        "--ssl-keyfile",
        str(CERTS / "server.pem"),
    ]
    context = ssl.create_default_context(cafile=str(CERTS / "ca.pem"))
    with Child(command(port, *files), port=port, says="Uvicorn running"):
        base = f"https://localhost:{port}"
        with httpx.Client(base_url=base, verify=context, trust_env=False) as client:
            check(client, "https")


@pytest.mark.parametrize("kind", ["websockets-sansio", "wsproto"])
def test_websockets(ours: Ours, kind: str) -> None:
    client = need("websockets.asyncio.client")
    if kind == "wsproto":
        need("wsproto")
    port = free_port()

    async def main() -> None:
        async with client.connect(f"ws://127.0.0.1:{port}/", proxy=None) as socket:
            assert await socket.recv() == OURS
            for size in (1, 1000, 100_000):
                await socket.send("x" * size)
                assert await socket.recv() == "x" * size
                await socket.send(b"x" * size)
                assert await socket.recv() == b"x" * size

    with Child(command(port, "--ws", kind), port=port, says="Uvicorn running"):
        ours(main)


def test_as_a_library(ours: Ours) -> None:
    """Server and client share one loop."""
    from asgi_app import app

    config = uvicorn.Config(app, port=free_port(), log_level="warning")

    async def main() -> None:
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        base = f"http://127.0.0.1:{config.port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            answers = await asyncio.gather(*(client.get("/") for _ in range(50)))
            assert {json.loads(answer.content)["loop"] for answer in answers} == {OURS}
            assert (await client.post("/echo", content=BODY)).content == BODY
        server.should_exit = True
        await serving

    ours(main)


def test_several_workers() -> None:
    port = free_port()
    with Child(command(port, "--workers", "2"), port=port, says="startup complete"):
        for _ in range(10):
            base = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=base, trust_env=False) as client:
                assert client.get("/").json()["loop"] == OURS


def test_worker_of_gunicorn(tmp_path: Path) -> None:
    """The worker class takes the loop as its configuration."""
    need("gunicorn", "uvicorn_worker")
    (tmp_path / "mio_worker.py").write_text(
        "from uvicorn_worker import UvicornWorker\n"
        "class Worker(UvicornWorker):\n"
        "    CONFIG_KWARGS = {'loop': 'mioloop:new_event_loop', 'http': 'h11'}\n"
    )
    port = free_port()
    words = [sys.executable, "-m", "gunicorn", "-k", "mio_worker.Worker", "-w", "2"]
    words += ["-b", f"127.0.0.1:{port}", "--control-socket", str(tmp_path / "control")]
    with Child([*words, "asgi_app:app"], port=port, cwd=HERE, PYTHONPATH=str(tmp_path)):
        for _ in range(5):
            base = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=base, trust_env=False) as client:
                check(client)
