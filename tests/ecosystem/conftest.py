"""Fixtures of the ecosystem tests: real packages and real services, on mioloop.

pytest loads this file by itself, for this folder only. A test says what it needs with `need()` or
by a fixture of a service; what is not installed is a skip for a user and a failure where
MIOLOOP_ECOSYSTEM=required is set, as `scripts/check.py --stages ecosystem` does in CI. Services
run as child processes, in a temporary folder, on a free port of loopback, and end with the tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import mioloop
import pytest
from children import Child, free_port, missing

HERE = Path(__file__).parent
TIME_LIMIT = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Other packages' warnings are theirs: nobody fixes them here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def ours() -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """`ours(main)`: runs `main()` on a new mioloop loop, in 30 s at most."""

    async def checked(main: Callable[[], Awaitable[Any]]) -> Any:
        assert type(asyncio.get_running_loop()) is mioloop.Loop
        return await asyncio.wait_for(main(), TIME_LIMIT)

    return lambda main: mioloop.run(checked(main))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A PostgreSQL server of its own; how to connect to it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        missing("PostgreSQL's initdb is not installed (Debian: postgresql)")
    folder = programs[-1].parent
    data = tmp_path_factory.mktemp("postgres")
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root.
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(data, "postgres")
        for parent in data.parents[:3]:
            if parent.owner() == "root" and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)
    make = [*as_user, str(folder / "initdb"), "-D", str(data / "db"), "-U", "tester"]
    make += ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run(make, check=True, capture_output=True, cwd="/")
    port = free_port()
    options = [f"-cport={port}", "-clisten_addresses=127.0.0.1", "-cfsync=off"]
    options.append(f"-cunix_socket_directories={data}")
    command = [*as_user, str(folder / "postgres"), "-D", str(data / "db"), *options]
    with Child(command, port=port, says="ready to accept connections", cwd="/"):
        yield {"host": "127.0.0.1", "port": port, "user": "tester", "database": "postgres"}


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis server; its port."""
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server is not installed (Debian: redis-server)")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with Child(command, port=port):
        yield port


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An MQTT broker; its port."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        missing("mosquitto is not installed (Debian: mosquitto)")
    port = free_port()
    config = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    with Child([program, "-c", config], port=port):
        yield port
