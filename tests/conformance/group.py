"""One group of tests: as many workers as it takes, and what became of each test.

Called by `cli`, in a thread per group. A test that crashes the process or hangs is run once
more alone, in a fresh process; the rest of its group goes on in a fresh process too, so only
that test is charged. Never prints but in verbose mode.
"""

from __future__ import annotations

import time
from typing import Any

from conformance.watch import Outcome, Settings, Worker

STATUSES = ("pass", "fail", "error", "skip", "crash", "hang", "excluded", "notrun")
FAILED = ("fail", "error", "crash", "hang", "uxpass")


class Group:
    """A test module, run; `tests` has a record (status, msg, tb, time, ran) per test id."""

    def __init__(self, name: str, modules: tuple[str, ...], settings: Settings) -> None:
        self.name = name
        self.modules = modules
        self.settings = settings
        self.tests: dict[str, dict[str, Any]] = {}
        self.plan: list[str] | None = None  # None: the tests could not be listed
        self.left_out: list[list[str]] = []
        self.notes: list[str] = []
        self.created = self.ran = self.misran = self.workers = 0
        self.types: dict[str, int] = {}
        self.seconds = 0.0
        self.skipped_module: str | None = None

    @property
    def exercised(self) -> bool:
        """True if the candidate ran; where tests are held back, if it was at least made."""
        held_back = any(pattern.startswith(f"{self.name}.") for pattern in self.settings.without)
        return self.ran > 0 or (held_back and self.created > 0)

    def counts(self) -> dict[str, int]:
        """Number of tests by status."""
        counts = dict.fromkeys(STATUSES, 0)
        for record in self.tests.values():
            status = record["status"]
            counts["error" if status == "uxpass" else status] += 1
        return counts

    def run(self) -> None:
        """Run every test of the group."""
        began = time.monotonic()
        deadline = began + self.settings.timeout
        todo: list[str] | None = None
        while True:
            outcome = self.spawn(todo, deadline)
            if self.plan is None:
                if outcome.kind != "broken":
                    self.notes.append(
                        f"{outcome.kind} while loading the tests: {outcome.signal or ''} "
                        + outcome.tail[-1500:]
                    )
                break
            order = self.plan if todo is None else todo
            rest = [test for test in order if test not in self.tests]
            if not rest or self.settle(outcome, rest):
                break
            culprit = outcome.current or rest[0]
            self.charge(culprit, outcome, alone=len(order) == 1, deadline=deadline)
            todo = [test for test in rest if test != culprit]
            if not todo:
                break
        if self.settings.rerun and self.plan:
            self.rerun(deadline)
        self.seconds = time.monotonic() - began

    def spawn(self, tests: list[str] | None, deadline: float) -> Outcome:
        """Run a worker on these tests (None: all)."""
        self.workers += 1
        settings = self.settings
        spec = {
            "group": self.name,
            "modules": self.modules,
            "loop": settings.loop,
            "tests": tests,
            "match": settings.match,
            "without": settings.without,
            "test_timeout": settings.test_timeout,
            "path": [p for p in settings.path if p],
        }
        outcome = Worker(spec, settings, self.note).follow(deadline)
        if outcome.exit_note:
            self.notes.append(outcome.exit_note)
        return outcome

    def note(self, kind: str, event: dict[str, Any]) -> None:
        """One event of a worker."""
        if kind == "plan" and self.plan is None:
            self.plan = event["ids"]
            self.left_out = event["left_out"]
        elif kind == "end":
            test = event.pop("id")
            self.tests[test] = event
            self.created += event["created"]
            self.ran += event["ran"]
            if self.settings.verbose:
                print(f"  {event['status']:8} {test} {event['time']:.2f}s", flush=True)
        elif kind == "fixture":
            self.notes.append(f"{event['what']}: {event['status']}: {event['msg']}")
        elif kind == "skipmodule":
            self.skipped_module = event["reason"]
            self.plan = []
        elif kind == "broken":
            self.notes.append(f"{event['what']}: {event['tb']}")
        elif kind == "done":
            self.misran += event["misran"]
            for name, count in event["types"].items():
                self.types[name] = self.types.get(name, 0) + count

    def settle(self, outcome: Outcome, rest: list[str]) -> bool:
        """Record tests that never started; False if one of them is to be charged instead."""
        if outcome.kind in ("done", "broken"):
            # A class or module fixture failed, or skipped them.
            fixtures = outcome.fixtures
            skipped = bool(fixtures) and all(f["status"] == "skip" for f in fixtures)
            why = "; ".join(f"{f['what']}: {f['msg']}" for f in fixtures) or "never started"
            for test in rest:
                self.put(test, "skip" if skipped else "error", why)
            return True
        if outcome.kind == "timeout":
            for test in rest:
                running = " (running when it struck)" if test == outcome.current else ""
                self.put(test, "notrun", "group timeout" + running)
            return True
        return False

    def charge(self, culprit: str, outcome: Outcome, *, alone: bool, deadline: float) -> None:
        """Record the crash or hang of `culprit`, after one more run of it alone."""
        what = outcome.kind
        how = outcome.signal or f"no progress for {self.settings.test_timeout:g}s"
        if not alone:
            again = self.spawn([culprit], deadline)
            if again.kind == "done" and culprit in self.tests:
                self.charge_in_group_only(culprit, outcome, how)
                return
            if again.kind in ("crash", "hang"):
                what, how, outcome = again.kind, again.signal or how, again
        self.put(culprit, what, how, outcome.tail[-4000:])

    def charge_in_group_only(self, culprit: str, outcome: Outcome, how: str) -> None:
        """Alone it ends; a crash in the group run counts all the same."""
        record = self.tests[culprit]
        record["note"] = f"{outcome.kind} in the group run ({how}), {record['status']} alone"
        self.notes.append(f"{culprit}: {record['note']}")
        if outcome.kind == "crash":
            record["alone"] = record["status"]
            record["status"] = "crash"
            record["msg"] = f"{how} in the group run only; {record['msg']}"
            record["tb"] = outcome.tail[-4000:]

    def rerun(self, deadline: float) -> None:
        """Run the failures once more; what passes then was flaky."""
        again = [
            test
            for test in self.plan or []
            if self.tests.get(test, {}).get("status") in ("fail", "error")
        ]
        before = {test: self.tests.pop(test) for test in again}
        if again and time.monotonic() < deadline:
            self.spawn(again, deadline)
        for test, first in before.items():
            now = self.tests.get(test)
            if now is not None and now["status"] == "pass":
                now["flaky"] = f"{first['status']}: {first['msg']}"
                now["note"] = "failed once, passed when run again"
            else:
                self.tests[test] = first

    def put(self, test: str, status: str, message: str, trace: str = "") -> None:
        """Record a test that did not report itself."""
        self.tests[test] = {
            "status": status,
            "msg": message[:600],
            "tb": trace,
            "time": 0,
            "created": 0,
            "ran": 0,
        }

    def as_json(self) -> dict[str, Any]:
        """The record of the group for --json."""
        return {
            "modules": self.modules,
            "time": round(self.seconds, 1),
            "counts": self.counts(),
            "loops_created": self.created,
            "loops_ran": self.ran,
            "loops_misran": self.misran,
            "loop_types": self.types,
            "exercised": self.exercised,
            "tests_that_ran_the_loop": sum(1 for t in self.tests.values() if t["ran"]),
            "workers": self.workers,
            "notes": self.notes,
            "skipped_module": self.skipped_module,
            "excluded": self.left_out,
            "tests": self.tests,
        }
