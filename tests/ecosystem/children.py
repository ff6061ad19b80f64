"""Child processes of the ecosystem tests: servers that are started, waited for and stopped.

Used by the fixtures in `conftest.py` and by tests of servers that are commands. Waits for what a
child prints and for its port; never for time alone. Nothing here knows a loop.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

START_LIMIT = 30  # seconds
STOP_LIMIT = 15


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where everything must be there."""
    if os.environ.get("MIOLOOP_ECOSYSTEM") == "required":
        pytest.fail(what, pytrace=False)
    pytest.skip(what, allow_module_level=True)


def need(*names: str) -> ModuleType:
    """The first of these modules; `missing` if one of them is not installed."""
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            missing(f"{name} is not installed ({error})")
    return found[0]


def free_port() -> int:
    """A port of loopback that nobody has at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A child process; as a context manager it is ready inside, and gone after."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        port: int | None = None,
        says: str = "",
        cwd: str | Path | None = None,
        **environment: str,
    ) -> None:
        self.command = [str(word) for word in command]
        self.port, self.says, self.cwd = port, says, cwd
        self.environment = environment
        self.lines: list[str] = []
        self.changed = threading.Condition()
        self.ended = False

    def __enter__(self) -> Child:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.cwd,
            env={**os.environ, **self.environment},
        )
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        try:
            if self.says:
                self.wait_for(self.says)
            if self.port is not None:
                self.wait_for_port()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def read(self) -> None:
        """In a thread: keeps what the child prints."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    @property
    def output(self) -> str:
        """All that the child has printed so far."""
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        """Wait until the child has printed `text`."""
        with self.changed:
            came = self.changed.wait_for(lambda: text in self.output or self.ended, START_LIMIT)
        assert came and text in self.output, f"no {text!r} from {self.command}:\n{self.output}"

    def wait_for_port(self) -> None:
        """Wait until somebody listens."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.command} does not listen:\n{self.output}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the child to end, insist if it does not; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status
