"""Many idle connections in a process of their own: do they work, and what does each cost?

`python tests/idle_connections.py LOOP COUNT` prints, as JSON, the resident memory of one accepted
connection in bytes, the transport and what belongs to it but not the user's protocol object,
which is as small as can be; and how many were answered and how many ended. LOOP: asyncio,
mioloop, or another module with a `new_event_loop()`, for comparison. Run by
test_idle_connections.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

# Connections made before the first measurement, so that buffers and tables are there.
WARM_UP = 500
PAGE = resource.getpagesize()


class Idle(asyncio.Protocol):
    """Answers one byte with one."""

    __slots__ = ("transport",)
    alive = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        Idle.alive += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        Idle.alive -= 1


def client(address: Any, orders: socket.socket) -> None:
    """The other process: opens, uses and closes connections as it is told."""
    connections: list[socket.socket] = []
    while order := orders.recv(100).decode():
        name, count = order.split()
        if name == "open":
            connections.extend(socket.create_connection(address) for _ in range(int(count)))
        elif name == "use":
            for connection in connections:
                connection.sendall(b"x")
            count = str(sum(connection.recv(10) == b"x" for connection in connections))
        else:
            for connection in connections:
                connection.close()
        orders.sendall(count.encode())


def resident() -> int:
    """Bytes of this process's own memory."""
    gc.collect()
    size, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    return (size - shared) * PAGE


async def serve(listener: socket.socket, orders: socket.socket, count: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()

    async def order(name: str, number: int) -> int:
        orders.sendall(f"{name} {number}".encode())
        return int(await loop.sock_recv(orders, 100))

    async def alive(number: int) -> None:
        while Idle.alive != number:
            await asyncio.sleep(0.001)

    server = await loop.create_server(Idle, sock=listener, backlog=1024)
    await order("open", WARM_UP)
    await alive(WARM_UP)
    await order("use", 0)
    before = resident()
    await order("open", count - WARM_UP)
    await alive(count)
    answered = await order("use", 0)
    each = (resident() - before) / (count - WARM_UP)
    await order("close", 0)
    await alive(0)
    server.close()
    return {"bytes": round(each), "answered": answered, "left": Idle.alive}


def main(kind: str, count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    address = listener.getsockname()
    if not os.fork():
        ours.close()
        listener.close()
        with contextlib.suppress(ConnectionError):
            client(address, theirs)
        os._exit(0)
    theirs.close()
    ours.setblocking(False)
    loop = importlib.import_module(kind).new_event_loop()
    print(json.dumps(loop.run_until_complete(serve(listener, ours, count))))
    loop.close()
    ours.close()
    os.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
