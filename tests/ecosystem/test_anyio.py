"""anyio with our loop by its own option: sockets, threads, child processes, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import mioloop
from children import need


def test_anyio(tmp_path: Path) -> None:
    anyio = need("anyio")

    async def main() -> None:
        assert type(asyncio.get_running_loop()) is mioloop.Loop
        with anyio.fail_after(30):
            await sockets()
            await threads()
            output = await anyio.run_process(
                [sys.executable, "-c", "print(input() * 2)"], input=b"x\n"
            )
            assert output.stdout == b"xx\n"
            with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
                os.kill(os.getpid(), signal.SIGUSR1)
                async for number in signals:
                    assert number == signal.SIGUSR1
                    break
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught

    async def echo(stream: Any) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def sockets() -> None:
        for listener in (
            await anyio.create_tcp_listener(local_host="127.0.0.1"),
            await anyio.create_unix_listener(tmp_path / "socket"),
        ):
            async with listener, anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                address = listener.extra(anyio.abc.SocketAttribute.local_address)
                if isinstance(address, str):
                    client = await anyio.connect_unix(address)
                else:
                    client = await anyio.connect_tcp(*address)
                async with client:
                    for number in range(100):
                        await client.send(b"%d" % number)
                        assert await client.receive() == b"%d" % number
                group.cancel_scope.cancel()

    async def threads() -> None:
        def in_thread(number: int) -> int:
            return int(anyio.from_thread.run(double, number))

        async def double(number: int) -> int:
            await anyio.sleep(0)
            return number * 2

        got = [await anyio.to_thread.run_sync(in_thread, n) for n in range(50)]
        assert got == [n * 2 for n in range(50)]

    options = {"loop_factory": mioloop.new_event_loop}
    anyio.run(main, backend="asyncio", backend_options=options)
