"""Starts one worker process and follows it to its end, however it ends.

Called by `group`, once per worker. A worker that crashes, hangs or does not exit is told from
one that finished; what it reported before that is kept. Never decides which test is charged.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.tables import FOLDER

POLL_SECONDS = 0.04
EXIT_SECONDS = 20.0  # after its last test a worker may take this long to exit
ABORT_SECONDS = 3.0  # for faulthandler's report
TAIL_BYTES = 40_000


@dataclass
class Settings:
    """What every worker of a run is told; made by `cli`."""

    loop: str
    path: list[str]
    folder: Path  # for temporary files
    timeout: float = 900.0  # seconds for a whole group
    test_timeout: float = 60.0  # seconds without progress until a test counts as hung
    match: list[str] | None = None
    without: list[str] = field(default_factory=list)
    rerun: bool = False
    debug: bool = False
    verbose: bool = False


@dataclass
class Outcome:
    """How a worker ended: 'done', 'broken', 'crash', 'hang' or 'timeout'."""

    kind: str = "crash"
    current: str | None = None  # the test that was running
    signal: str | None = None
    tail: str = ""  # the end of its output
    exit_note: str | None = None  # it finished its tests, but did not exit cleanly
    fixtures: list[dict[str, Any]] = field(default_factory=list)


def exit_name(status: int | None) -> str:
    """'SIGSEGV' or 'exit status 3'."""
    if status is not None and status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"
    return f"exit status {status}"


class Worker:
    """One worker process; `follow` runs it and hands its events to `on_event`."""

    def __init__(
        self,
        spec: dict[str, Any],
        settings: Settings,
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.settings = settings
        self.on_event = on_event
        self.folder = Path(tempfile.mkdtemp(prefix="worker_", dir=settings.folder))
        self.events = self.folder / "events.jsonl"
        self.output = self.folder / "output"
        self.spec = self.folder / "spec.json"
        self.cwd = self.folder / "cwd"
        self.events.touch()
        self.cwd.mkdir()
        self.spec.write_text(json.dumps({**spec, "events": str(self.events)}))
        self.position = 0
        self.partial = b""
        self.finished = False  # all tests were run
        self.skipped = False
        self.broken = False
        self.outcome = Outcome()

    def follow(self, deadline: float) -> Outcome:
        """Run to the end, or until a test hangs or the deadline (time.monotonic) passes."""
        with open(self.output, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(FOLDER), "--worker", str(self.spec)],
                cwd=self.cwd,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            stopped = self.wait(process, deadline)
        finally:
            # Not reaped yet, so the process group is still the worker's own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        self.outcome.tail = self.read_tail()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.classify(stopped, status)
        return self.outcome

    def environment(self) -> dict[str, str]:
        """The caller's, without what changes how asyncio behaves."""
        environment = dict(os.environ, TMPDIR=str(self.cwd))
        environment["PYTHONPATH"] = os.pathsep.join(self.settings.path[1:])
        for name in ("PYTHONASYNCIODEBUG", "PYTHONWARNINGS", "PYTHONDEVMODE"):
            environment.pop(name, None)
        if self.settings.debug:
            environment["PYTHONASYNCIODEBUG"] = "1"
        return environment

    def wait(self, process: subprocess.Popen[bytes], deadline: float) -> str | None:
        """Hand on events until the process is over; else say why it was stopped."""
        last = time.monotonic()
        while True:
            over = has_exited(process)
            if self.read_events():
                last = time.monotonic()
            elif over:
                return None
            if over:
                continue
            now = time.monotonic()
            stop = None
            if self.finished and now - last > EXIT_SECONDS:
                stop = "exit-hang"
            elif not self.finished and now - last > self.settings.test_timeout:
                stop = "hang"
            elif now > deadline:
                stop = "timeout"
            if stop:
                abort(process)
                return stop
            time.sleep(POLL_SECONDS)

    def read_events(self) -> bool:
        """Hand on what is new in the worker's file; True if there was anything."""
        with open(self.events, "rb") as file:
            file.seek(self.position)
            data = file.read()
        self.position += len(data)
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            self.note(event.pop("ev"), event)
        return bool(data)

    def note(self, kind: str, event: dict[str, Any]) -> None:
        """Keep what tells how the worker ends, and hand the event on."""
        if kind == "start":
            self.outcome.current = event["id"]
        elif kind == "end":
            self.outcome.current = None
        elif kind == "fixture":
            self.outcome.fixtures.append(event)
        elif kind == "skipmodule":
            self.skipped = True
        elif kind == "broken":
            self.broken = True
        elif kind == "done":
            self.finished = True
        self.on_event(kind, event)

    def read_tail(self) -> str:
        """The end of the output; of faulthandler's report its beginning, the Python part."""
        text = self.output.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
        fatal = text.rfind("Fatal Python error")
        if fatal >= 0:
            return text[max(0, fatal - 500) : fatal + 3500]
        return text[-4000:]

    def classify(self, stopped: str | None, status: int) -> None:
        """Fill in the outcome's kind."""
        outcome = self.outcome
        if stopped == "exit-hang":
            outcome.kind = "done"
            outcome.exit_note = "process did not exit after the last test: " + outcome.tail[-800:]
        elif stopped is not None:
            outcome.kind = stopped
        elif self.broken:
            outcome.kind = "broken"
        elif self.finished or self.skipped:
            outcome.kind = "done"
            if status:
                outcome.exit_note = (
                    f"process died at exit: {exit_name(status)}: {outcome.tail[-800:]}"
                )
        else:
            outcome.signal = exit_name(status)


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """True if the process is over; it stays unreaped, so its id stays its own."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, flags) is not None


def abort(process: subprocess.Popen[bytes]) -> None:
    """SIGABRT for faulthandler's report, then SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGABRT)
    end = time.monotonic() + ABORT_SECONDS
    while time.monotonic() < end:
        if has_exited(process):
            return
        time.sleep(POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
