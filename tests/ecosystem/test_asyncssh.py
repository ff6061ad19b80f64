"""asyncssh: server and client, commands, port forwarding and SFTP on one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mioloop
from children import need

Ours = Callable[..., Any]


def test_asyncssh(ours: Ours, tmp_path: Path) -> None:
    ssh = need("asyncssh")

    async def handle(process: Any) -> None:
        assert type(asyncio.get_running_loop()) is mioloop.Loop
        async for line in process.stdin:
            process.stdout.write(line.upper())
        process.exit(3)

    class Server(ssh.SSHServer):  # type: ignore[misc, name-defined]
        def begin_auth(self, username: str) -> bool:
            return False

        def connection_requested(self, *_: Any) -> bool:
            return True

    async def main() -> None:
        key = ssh.generate_private_key("ssh-ed25519")
        server = await ssh.create_server(
            *(Server, "127.0.0.1", 0),
            server_host_keys=[key],
            process_factory=handle,
            sftp_factory=True,
        )
        port = server.get_port()
        async with ssh.connect("127.0.0.1", port, known_hosts=None, username="x") as client:
            results = await asyncio.gather(
                *(client.run("any", input="one\ntwo\n") for _ in range(10))
            )
            assert [(r.stdout, r.exit_status) for r in results] == [("ONE\nTWO\n", 3)] * 10
            await forwarding(client)
            async with client.start_sftp_client() as sftp:
                (tmp_path / "local").write_bytes(b"x" * 1_000_000)
                await sftp.put(tmp_path / "local", tmp_path / "remote")
                assert (tmp_path / "remote").read_bytes() == b"x" * 1_000_000
        server.close()
        await server.wait_closed()

    async def forwarding(client: Any) -> None:
        async def echo(reader: Any, writer: Any) -> None:
            writer.write(await reader.read())
            writer.close()

        target = await asyncio.start_server(echo, "127.0.0.1", 0)
        listener = await client.forward_local_port(
            "127.0.0.1", 0, "127.0.0.1", target.sockets[0].getsockname()[1]
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"through the tunnel" * 1000)
        writer.write_eof()
        assert await reader.read() == b"through the tunnel" * 1000
        writer.close()
        await writer.wait_closed()
        listener.close()
        await listener.wait_closed()
        target.close()

    ours(main)
