"""aiohttp: server and client, files, websockets, TLS, a resolver of its own, time-outs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mioloop
import pytest
from children import need

CERTS = Path(__file__).parent.parent / "certs"
BODY = bytes(range(256)) * 8192  # 2 MiB
Ours = Callable[..., Any]

aiohttp = need("aiohttp")
need("aiohttp.web")


async def loop_name(request: Any) -> Any:
    return aiohttp.web.Response(text=type(asyncio.get_running_loop()).__module__)


async def echo(request: Any) -> Any:
    response = aiohttp.web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    return response


async def stuck(request: Any) -> Any:
    await asyncio.sleep(60)


async def socket(request: Any) -> Any:
    peer = aiohttp.web.WebSocketResponse()
    await peer.prepare(request)
    async for message in peer:
        await peer.send_str(message.data.upper())
    return peer


async def serve(folder: Path, **options: Any) -> tuple[Any, int]:
    """A running server and its port."""
    app = aiohttp.web.Application(client_max_size=2**30)
    app.router.add_get("/", loop_name)
    app.router.add_post("/echo", echo)
    app.router.add_get("/stuck", stuck)
    app.router.add_get("/socket", socket)
    app.router.add_static("/files", folder)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, **options)
    await site.start()
    return runner, runner.addresses[0][1]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_server_and_client(ours: Ours, tmp_path: Path, tls: bool) -> None:
    (tmp_path / "data").write_bytes(BODY)
    theirs, mine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), None
    theirs.load_cert_chain(CERTS / "server.pem")
    if tls:
        mine = ssl.create_default_context(cafile=str(CERTS / "ca.pem"))

    async def main() -> None:
        runner, port = await serve(tmp_path, ssl_context=theirs if tls else None)
        connector = aiohttp.TCPConnector(ssl=mine if tls else True)
        base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        async with aiohttp.ClientSession(base, connector=connector) as session:

            async def get(path: str) -> bytes:
                async with session.get(path) as answer:
                    assert answer.status == 200
                    return bytes(await answer.read())

            answers = await asyncio.gather(*(get("/") for _ in range(200)))
            assert set(answers) == {mioloop.Loop.__module__.encode()}
            assert await get("/files/data") == BODY
            async with session.post("/echo", data=BODY) as answer:
                assert await answer.read() == BODY
            async with session.ws_connect("/socket") as peer:
                for number in range(100):
                    await peer.send_str(f"text {number}")
                    assert await peer.receive_str() == f"TEXT {number}"
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/stuck", timeout=aiohttp.ClientTimeout(total=0.1))
            assert await get("/") == mioloop.Loop.__module__.encode()
        await runner.cleanup()

    ours(main)


def test_unix_socket(ours: Ours, tmp_path: Path) -> None:
    async def main() -> None:
        runner, _ = await serve(tmp_path)
        path = str(tmp_path / "socket")
        await aiohttp.web.UnixSite(runner, path).start()
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession("http://any", connector=connector) as session:
            async with session.get("/") as answer:
                assert await answer.text() == mioloop.Loop.__module__
        await runner.cleanup()

    ours(main)
