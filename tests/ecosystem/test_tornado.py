"""tornado: its IOLoop is a layer over the running asyncio loop: add_reader, call_later, threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import mioloop
from children import need

Ours = Callable[..., Any]


def test_tornado(ours: Ours) -> None:
    need("tornado")
    web, client_module = need("tornado.web"), need("tornado.httpclient")
    server_module, ioloop = need("tornado.httpserver"), need("tornado.ioloop")
    netutil, websocket = need("tornado.netutil"), need("tornado.websocket")

    class Main(web.RequestHandler):  # type: ignore[misc, name-defined]
        async def get(self) -> None:
            await asyncio.sleep(0.001)
            self.write(type(asyncio.get_running_loop()).__module__)

        async def post(self) -> None:
            self.write(self.request.body)

    class Echo(websocket.WebSocketHandler):  # type: ignore[misc, name-defined]
        async def on_message(self, message: Any) -> None:
            await self.write_message(message)

    async def main() -> None:
        assert ioloop.IOLoop.current().asyncio_loop is asyncio.get_running_loop()
        app = web.Application([("/", Main), ("/socket", Echo)])
        server = server_module.HTTPServer(app)
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        where = f"127.0.0.1:{sockets[0].getsockname()[1]}/"
        client = client_module.AsyncHTTPClient()
        answers = await asyncio.gather(*(client.fetch(f"http://{where}") for _ in range(50)))
        assert {answer.body for answer in answers} == {mioloop.Loop.__module__.encode()}
        body = bytes(range(256)) * 4096
        kind = {"Content-Type": "application/octet-stream"}
        answer = await client.fetch(f"http://{where}", method="POST", body=body, headers=kind)
        assert answer.body == body
        peer = await websocket.websocket_connect(f"ws://{where}socket")
        for number in range(50):
            await peer.write_message(f"{number}")
            assert await peer.read_message() == f"{number}"
        peer.close()
        called = asyncio.Event()
        ticker = ioloop.PeriodicCallback(called.set, 1)
        ticker.start()
        await called.wait()
        ticker.stop()
        server.stop()
        await server.close_all_connections()
        client.close()

    ours(main)
