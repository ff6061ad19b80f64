"""Runs commands, several at a time, and adds up what they counted. For check.py.

A command's output is shown in one piece when it ends; where one runs at a time, as it comes.
Knows pytest's, cargo's and the plain closing line. Decides nothing about what is run.
"""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")

MAX_SECONDS = 900  # for one command; one that takes longer is killed

PYTEST_LINE = re.compile(r"^(?:=+ )?\d+ (?:passed|failed|errors?|skipped)\b.* in [\d.]+s")
PYTEST_COUNT = re.compile(r"(\d+) (passed|failed|error)")
CARGO_LINE = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed")
PLAIN_LINE = re.compile(r"^(\d+) passed, (\d+) failed")


class Result(NamedTuple):
    """One command's result."""

    stage: str
    label: str
    seconds: float
    ok: bool
    passed: int
    failed: int


class Shared:
    """What the stages of one run share. Any thread; guarded by `lock` but for `jobs`."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.lock = threading.Lock()
        self.results: list[Result] = []
        self.processes: set[subprocess.Popen[str]] = set()
        self.made: dict[Hashable, Any] = {}
        self.making: dict[Hashable, threading.Lock] = {}
        self.ended = False


class Commands:
    """Runs commands for one stage."""

    def __init__(self, jobs: int) -> None:
        self.shared = Shared(jobs)
        self.stage = ""
        self.began = time.monotonic()

    def each(self, tasks: Iterable[tuple[str, Callable[[Any], None]]]) -> None:
        """Call the function of each (stage, function) with this for that stage, `jobs` at a time.

        They begin in their order. Raises what a function raised, when all have ended.
        """
        with ThreadPoolExecutor(self.shared.jobs) as pool:
            running = []
            for stage, function in tasks:
                of_stage = copy.copy(self)
                of_stage.stage = stage
                running.append(pool.submit(function, of_stage))
            try:
                for future in running:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.end()
                raise

    def end(self) -> None:
        """Kill what runs and let nothing begin."""
        with self.shared.lock:
            self.shared.ended = True
            for process in self.shared.processes:
                kill(process)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make()` returned when it was called for `key`, which is done once per run."""
        shared = self.shared
        with shared.lock:
            making = shared.making.setdefault(key, threading.Lock())
        with making:
            if key not in shared.made:
                shared.made[key] = make()
            return cast("T", shared.made[key])

    def run(self, label: str, *command: str | Path, **environment: str) -> bool:
        """Run one command; True if it succeeded."""
        title = f"{self.stage}: {label}"
        live = self.shared.jobs == 1
        self.show(f"\n== {title}\n" if live else f".. {title}\n")
        began = time.monotonic()
        process = self.start(command, environment)
        limit = threading.Timer(MAX_SECONDS, kill, (process,))
        limit.start()
        passed = failed = 0
        lines = []
        try:
            for line in process.stdout or ():
                if live:
                    self.show(line)
                else:
                    lines.append(line)
                counts = count(line)
                passed, failed = passed + counts[0], failed + counts[1]
            status = process.wait()
        finally:
            limit.cancel()
            with self.shared.lock:
                self.shared.processes.discard(process)
        seconds = time.monotonic() - began
        ok = status == 0
        if status < 0:
            lines.append(f"\nended by {signal.Signals(-status).name} after {seconds:.0f} s\n")
        if not live:
            lines.insert(0, f"== {title} ({seconds:.0f} s{'' if ok else ', FAILED'})\n")
            lines.append("\n")
        self.show("".join(lines))
        self.note(label, seconds, ok, passed, failed)
        return ok

    def start(
        self, command: Iterable[str | Path], environment: dict[str, str]
    ) -> subprocess.Popen[str]:
        """The process, in a group of its own, so that its children end with it."""
        with self.shared.lock:
            if self.shared.ended:
                raise RuntimeError("interrupted")
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self.shared.processes.add(process)
        return process

    def show(self, text: str) -> None:
        """Print it in one piece."""
        with self.shared.lock:
            print(text, end="", flush=True)

    def note(self, label: str, seconds: float, ok: bool, passed: int = 0, failed: int = 0) -> None:
        """Add a result; what counted nothing counts as one check."""
        if not ok and not failed:
            failed = 1
        elif ok and not passed:
            passed = 1
        with self.shared.lock:
            self.shared.results.append(Result(self.stage, label, seconds, ok, passed, failed))

    def summary(self) -> bool:
        """Print every check's time and the closing line; True if all succeeded."""
        results = self.shared.results
        print("\nseconds  check")
        for result in results:
            mark = "" if result.ok else "   FAILED"
            print(f"{result.seconds:7.1f}  {result.stage}: {result.label}{mark}")
        elapsed = time.monotonic() - self.began
        print(f"{sum(r.seconds for r in results):7.1f}  in total, in {elapsed:.1f} s\n")
        failed = sum(r.failed for r in results)
        print(f"{sum(r.passed for r in results)} passed, {failed} failed", flush=True)
        return all(result.ok for result in results)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill its process group, if it is there still."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def count(line: str) -> tuple[int, int]:
    """(passed, failed) of a test runner's closing line, else zeros."""
    if PYTEST_LINE.match(line):
        passed = failed = 0
        for number, what in PYTEST_COUNT.findall(line):
            if what == "passed":
                passed += int(number)
            else:
                failed += int(number)
        return passed, failed
    found = CARGO_LINE.match(line) or PLAIN_LINE.match(line)
    return (int(found[1]), int(found[2])) if found else (0, 0)
