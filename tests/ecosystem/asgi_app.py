"""The application that the tests of ASGI servers serve; it says which loop runs it.

Plain ASGI, no framework: `/` answers with the loop's class, `/echo` with the body, `/lifespan` with
what the start-up left; websockets are echoed. Loaded by servers in child processes by its name.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

started: list[str] = []


def loop_name() -> str:
    """The class of the running loop, with its module."""
    cls = type(asyncio.get_running_loop())
    return f"{cls.__module__}.{cls.__qualname__}"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await http(scope, receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Note the loop at start-up, print a line at the end."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            started.append(loop_name())
            await send({"type": "lifespan.startup.complete"})
        else:
            print("lifespan ended", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return


async def websocket(receive: Any, send: Any) -> None:
    """Accept, say which loop runs, echo."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": loop_name()})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def http(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """One request."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/echo":
        answer = body
    else:
        facts = {"loop": loop_name(), "http": scope["http_version"], "started": started}
        answer = json.dumps({**facts, "scheme": scope["scheme"]}).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    half = len(answer) // 2
    await send({"type": "http.response.body", "body": answer[:half], "more_body": True})
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": answer[half:]})
