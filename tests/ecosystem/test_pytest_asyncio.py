"""pytest-asyncio: a run of pytest whose tests and fixtures are coroutines on our loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from children import need

CONFTEST = """
import mioloop

def pytest_asyncio_loop_factories(config, item):
    return {"mioloop": mioloop.new_event_loop}
"""
TESTS = """
import asyncio, pytest, pytest_asyncio, mioloop

@pytest_asyncio.fixture
async def server():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]

@pytest.mark.asyncio
async def test_fixture(server):
    assert type(asyncio.get_running_loop()) is mioloop.Loop
    reader, writer = await asyncio.open_connection("127.0.0.1", server)
    writer.write(b"hello\\n")
    assert await reader.read() == b"hello\\n"
    writer.close()

@pytest.mark.asyncio(loop_scope="module")
class TestClass:
    loop = None
    async def test_first(self):
        TestClass.loop = asyncio.get_running_loop()
    async def test_second(self):
        assert asyncio.get_running_loop() is TestClass.loop
        assert type(TestClass.loop) is mioloop.Loop

@pytest.mark.asyncio
@pytest.mark.xfail(strict=True)
async def test_failure():
    await asyncio.sleep(0)
    assert False
"""


def test_pytest_asyncio(tmp_path: Path) -> None:
    need("pytest_asyncio")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed, 1 xfailed" in result.stdout
