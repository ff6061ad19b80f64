"""Runs (part of) one group in this process and reports each step to the parent.

Started by `group` as `python tests/conformance --worker SPEC`. Events go as JSON lines to the
file that SPEC names, so that the parent knows what was running if this process dies. Never
decides what counts as a failure: it tells what happened.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fnmatch
import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import unittest
import warnings
from asyncio import events as asyncio_events
from collections.abc import Callable
from typing import Any

from conformance.adapt import patch_test_utils
from conformance.collect import Collected, collect
from conformance.exclusions import EXCLUDE_PREFIX
from conformance.inject import Tracker, inject

ORDINARY_SIGNALS = ("SIGHUP", "SIGTERM", "SIGQUIT", "SIGCHLD", "SIGUSR1", "SIGUSR2", "SIGALRM")
RANK = ("pass", "skip", "excluded", "fail", "error")  # of two notes on a test the worse counts
Emit = Callable[..., None]


def main(spec_path: str) -> int:
    """Run what the spec file asks for; the exit status is 3 if it cannot be loaded."""
    with open(spec_path) as file:
        spec = json.load(file)
    faulthandler.enable()
    ordinary_signals()
    emit = event_writer(spec["events"])
    sys.path.extend(p for p in spec["path"] if p not in sys.path)
    try:
        tracker = inject(spec["loop"])
    except BaseException:
        emit("broken", what="cannot load the loop", tb=traceback.format_exc()[-3000:])
        return 3
    try:
        collected = load(spec, tracker)
    except unittest.SkipTest as skip:
        emit("skipmodule", reason=str(skip))
        return 0
    except BaseException:
        emit("broken", what="cannot load the tests", tb=traceback.format_exc()[-3000:])
        return 3
    tests = collected.tests
    if spec["match"]:
        tests = [t for t in tests if any(fnmatch.fnmatchcase(t[0], m) for m in spec["match"])]
    tests = [t for t in tests if not any(fnmatch.fnmatchcase(t[0], p) for p in spec["without"])]
    emit("plan", ids=[test_id for test_id, _ in tests], left_out=collected.left_out)
    if spec["tests"] is not None:
        wanted = set(spec["tests"])
        tests = [t for t in tests if t[0] in wanted]
    run(tests, tracker, emit)
    return 0


def ordinary_signals() -> None:
    """Undo what a background job or nohup ignores: the tests want an ordinary process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ORDINARY_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, [])


def event_writer(path: str) -> Emit:
    """A function that appends one event to the parent's file; silent in a forked child."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    pid = os.getpid()
    lock = threading.Lock()

    def emit(kind: str, **values: Any) -> None:
        if os.getpid() != pid:
            return
        values["ev"] = kind
        with lock:
            os.write(fd, json.dumps(values).encode() + b"\n")

    return emit


def load(spec: dict[str, Any], tracker: Tracker) -> Collected:
    """Import the test module and list its tests; SkipTest if this version has no such module."""
    from test import support

    # The suite's own patience is shortened, so that what waits in vain fails by itself before
    # the parent calls it hung.
    for name, fraction in (("SHORT_TIMEOUT", 0.5), ("LONG_TIMEOUT", 0.75)):
        if hasattr(support, name):
            patience = min(getattr(support, name), fraction * spec["test_timeout"])
            setattr(support, name, patience)
    utils = patch_test_utils(tracker)
    for name in spec["modules"]:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                continue
            raise
        return collect(spec["group"], module, tracker, utils)
    raise unittest.SkipTest("no such module: " + ", ".join(spec["modules"]))


def run(tests: list[tuple[str, unittest.TestCase]], tracker: Tracker, emit: Emit) -> None:
    """Run the tests in this process, in order."""
    # Dozens of tests call gc.collect() in a loop: keep what is loaded by now out of those.
    gc.collect()
    gc.freeze()
    result = Result({id(test): test_id for test_id, test in tests}, tracker, emit)
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default")
        unittest.TestSuite([test for _, test in tests])(result)
    emit(
        "done",
        created=tracker.created,
        ran=tracker.ran,
        misran=tracker.misran,
        types=tracker.types,
    )


class Result(unittest.TestResult):
    """Tells the parent of each test; cleans up behind one that failed."""

    def __init__(self, ids: dict[int, str], tracker: Tracker, emit: Emit) -> None:
        super().__init__()
        self.ids = ids
        self.tracker = tracker
        self.emit = emit
        self.main_thread = threading.get_ident()
        self.set_running = asyncio_events._set_running_loop  # bound now: some tests swap it
        self.set_policy = getattr(asyncio_events, "_set_event_loop_policy", None) or getattr(
            asyncio_events, "set_event_loop_policy", None
        )
        self.seen = (0, 0)
        self.began = 0.0
        self.status, self.message, self.trace = "pass", "", ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.status, self.message, self.trace = "pass", "", ""
        self.began = time.monotonic()
        self.emit("start", id=self.ids[id(test)])

    def stopTest(self, test: unittest.TestCase) -> None:
        if self.tracker.running() is not None:
            if self.status == "pass":
                self.status = "error"
                self.message = "left asyncio's running loop set"
            self.set_running(None)
        if self.status in ("fail", "error"):
            self.clean_up()
        now = (self.tracker.created, self.tracker.ran)
        self.emit(
            "end",
            id=self.ids[id(test)],
            status=self.status,
            msg=self.message[:600],
            tb=self.trace[-4000:],
            time=round(time.monotonic() - self.began, 3),
            created=now[0] - self.seen[0],
            ran=now[1] - self.seen[1],
        )
        self.seen = now
        super().stopTest(test)

    def clean_up(self) -> None:
        """Do not let one failure's debris fail the tests after it."""
        with contextlib.suppress(Exception):
            self.set_policy(None)  # with its child watcher
        if threading.get_ident() == self.main_thread:
            with contextlib.suppress(Exception):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, 0)

    def note(self, test: Any, status: str, message: str, trace: str = "") -> None:
        """Keep the worst that happened to the test; tell of fixtures at once."""
        if id(test) not in self.ids and not hasattr(test, "test_case"):
            self.emit("fixture", what=str(test), status=status, msg=message[:600], tb=trace[-4000:])
            return
        if status in RANK and self.status in RANK and RANK.index(status) < RANK.index(self.status):
            return
        self.status, self.message, self.trace = status, message, trace

    def note_exception(self, test: Any, status: str, error: Any) -> None:
        trace = "".join(traceback.format_exception(*error))
        message = "".join(traceback.format_exception_only(*error[:2])).strip()
        self.note(test, status, message, trace)

    def addError(self, test: Any, err: Any) -> None:
        self.note_exception(test, "error", err)

    def addFailure(self, test: Any, err: Any) -> None:
        self.note_exception(test, "fail", err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            self.note_exception(test, "fail" if failed else "error", err)

    def addSkip(self, test: Any, reason: str) -> None:
        self.note(test, "excluded" if reason.startswith(EXCLUDE_PREFIX) else "skip", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self.note(test, "pass", "expected failure")

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.note(test, "uxpass", "unexpected success")
