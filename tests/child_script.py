"""Runs a Python script in a process of its own, with `new_loop()` making the loop under test.

Called by the tests of signals, forks, interpreter exit and `python -m asyncio ps`: what must be
seen from outside of the process. Never imported by the package.
"""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

PREAMBLE = """\
import asyncio, os, signal, sys, threading, time
import {module}

def new_loop():
    return {module}.new_event_loop()

def say(*words):
    print(*words, flush=True)

"""
TIMEOUT = 60


class Outcome(NamedTuple):
    """How the script ended, and what it wrote."""

    code: int
    out: list[str]
    err: str


class ChildScript:
    """A running script. `expect()` waits for a line; `finish()` for the end."""

    def __init__(self, kind: str, source: str, *options: str) -> None:
        script = PREAMBLE.format(module=kind) + textwrap.dedent(source)
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self.lines: list[str] = []

    def expect(self, line: str) -> None:
        """Waits until the script has said `line`."""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            self.lines.append(said.rstrip("\n"))
            if self.lines[-1] == line:
                return
        raise AssertionError(f"ended before {line!r}: {self.lines} {self.finish()}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = TIMEOUT) -> Outcome:
        """Waits for the end; a script that hangs is killed and the test fails."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"script hangs: {self.lines}, {out!r}, {err!r}") from None
        return Outcome(self.process.returncode, self.lines + out.splitlines(), err)


def environment() -> dict[str, str]:
    """The test's own environment, with the package's folder importable in the child."""
    import mioloop

    folder = str(Path(mioloop.__file__).parent.parent)
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_script(kind: str, source: str, *options: str) -> Outcome:
    """Runs the script to its end."""
    return ChildScript(kind, source, *options).finish()
