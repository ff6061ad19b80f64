"""Adds a run up: the table while it goes on, then what failed and what counts.

Called by `cli`. With a baseline only regressions count: what fails here and not on asyncio.
A crash or a hang is never excused as an implementation detail.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from conformance.group import FAILED, STATUSES, Group
from conformance.tables import Baseline, Table

HEADER = (
    f"{'group':26}{'run':>5}{'pass':>6}{'fail':>5}{'err':>5}{'skip':>5}{'crash':>6}{'hung':>5}"
    f"{'excl':>5}  {'loops made/ran':>15} {'tests on it':>11} {'secs':>6}"
)
TITLES = {
    "crash": "CRASHED",
    "hang": "HUNG",
    "error": "ERROR",
    "fail": "FAILED",
    "uxpass": "UNEXPECTED SUCCESS",
}


def group_line(group: Group) -> str:
    """The row of the table for one group."""
    counts = group.counts()
    run = sum(counts.values()) - counts["excluded"] - counts["notrun"]
    on_loop = sum(1 for record in group.tests.values() if record["ran"])
    line = (
        f"{group.name:26}{run:5}{counts['pass']:6}{counts['fail']:5}{counts['error']:5}"
        f"{counts['skip']:5}{counts['crash']:6}{counts['hang']:5}{counts['excluded']:5}"
        f"  {group.created:>7}/{group.ran:<7} {on_loop:>11} {group.seconds:6.1f}"
    )
    if group.skipped_module:
        line += "  module skipped: " + group.skipped_module
    elif not group.exercised:
        line += "  NOT EXERCISED"
    if counts["notrun"]:
        line += f"  {counts['notrun']} not run (group timeout)"
    return line


def note_lines(group: Group, *, verbose: bool) -> list[str]:
    """The group's notes, long ones cut to their first and last line."""
    lines = []
    for note in group.notes:
        text = note.strip()
        if verbose or len(note) < 300:
            lines.append("    note: " + text.replace("\n", "\n      "))
        else:
            first, *_, last = text.split("\n")
            lines.append(f"    note: {first} ... {last}")
    return lines


@dataclass
class Summary:
    """The result of a run; the lists are test ids or group names, sorted."""

    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    failed: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)  # failed, and excused by the table
    regressions: list[str] = field(default_factory=list)
    also_on_baseline: list[str] = field(default_factory=list)
    skipped_here_only: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    not_exercised: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    fewer: list[str] = field(default_factory=list)
    idle: int = 0  # tests that passed without running the candidate

    @property
    def bad(self) -> bool:
        """True if the run is to be complained about."""
        return bool(
            self.regressions
            or self.broken
            or self.totals["notrun"]
            or self.not_exercised
            or self.fewer
        )

    def as_json(self) -> dict[str, Any]:
        """What --json keeps."""
        return {
            "passed": self.totals["pass"],
            "failed": len(self.failed),
            "skipped": self.totals["skip"],
            "crashed": self.totals["crash"],
            "hung": self.totals["hang"],
            "excluded": self.totals["excluded"],
            "not_run": self.totals["notrun"],
            "passed_without_running_the_loop": self.idle,
            "flaky": self.flaky,
            "implementation_detail": len(self.details),
            "groups_not_exercised": self.not_exercised,
            "groups_broken": self.broken,
            "regressions": self.regressions,
            "also_fails_on_baseline": self.also_on_baseline,
            "skipped_but_passes_on_baseline": self.skipped_here_only,
        }


def summarize(groups: list[Group], details: Table, baseline: Baseline | None) -> Summary:
    """Add the groups up; without a baseline every failure is a regression."""
    summary = Summary()
    for group in groups:
        for status, count in group.counts().items():
            summary.totals[status] += count
        if group.plan is None:
            summary.broken.append(group.name)
        if not group.exercised and not group.skipped_module:
            summary.not_exercised.append(group.name)
        for test, record in sorted(group.tests.items()):
            sort_test(summary, test, record, details, baseline)
    return summary


def sort_test(
    summary: Summary, test: str, record: dict[str, Any], details: Table, baseline: Baseline | None
) -> None:
    """Put one test into the lists that it belongs to."""
    status = record["status"]
    if "flaky" in record:
        summary.flaky.append(test)
    if status in FAILED:
        summary.failed.append(test)
        if status not in ("crash", "hang") and details.row(test):
            summary.details.append(test)
        elif baseline is not None and baseline.status(test) in FAILED:
            summary.also_on_baseline.append(test)
        else:
            summary.regressions.append(test)
    elif status == "pass" and not record["ran"]:
        summary.idle += 1
    elif status == "skip" and baseline is not None and baseline.status(test) == "pass":
        summary.skipped_here_only.append(test)


def compare_plans(groups: list[Group], baseline: Baseline, python: str) -> list[str]:
    """Groups that lost tests; only comparable on the very release of the baseline."""
    if python != baseline.python:
        return []
    return [
        f"{group.name} has {len(group.plan or [])} tests, {baseline.planned[group.name]} on asyncio"
        for group in groups
        if group.plan and len(group.plan) < baseline.planned.get(group.name, 0)
    ]


def print_failures(summary: Summary, groups: list[Group], *, verbose: bool) -> None:
    """Every test that counts against the candidate, worst kind first."""
    records = {test: record for group in groups for test, record in group.tests.items()}
    for kind, title in TITLES.items():
        for test in summary.regressions:
            record = records[test]
            if record["status"] != kind:
                continue
            print(f"{title}: {test}\n    {' '.join(record['msg'].split())[:160]}")
            if verbose and record["tb"]:
                print(textwrap.indent(record["tb"], "      "))
    for test in summary.flaky:
        print(f"flaky (passed when run again): {test}: {records[test]['flaky'][:100]}")
    for test in summary.skipped_here_only:
        print(f"skipped here, passed on asyncio: {test}: {records[test]['msg'][:100]}")


def print_summary(summary: Summary, details: Table, seconds: float) -> None:
    """What does not count, what is wrong with the run itself, and the closing line."""
    if summary.details:
        print(
            "\nimplementation detail of asyncio, not counted as regressions "
            f"({len(summary.details)}):"
        )
        rows = Counter(row for row in map(details.row, summary.details) if row)
        for (pattern, reason), count in rows.items():
            print(f"    {pattern} ({count}): {reason}")
    if summary.also_on_baseline:
        print("\nfail on asyncio too:")
        for test in summary.also_on_baseline:
            print("    " + test)
    for name in summary.not_exercised:
        print(f"not exercised: {name} never ran the candidate loop")
    for name in summary.broken:
        print(f"BROKEN GROUP: {name}: no tests could be listed")
    for line in summary.fewer:
        print(f"FEWER TESTS: {line}")
    totals = summary.totals
    print(
        f"\nof the failed: {totals['fail']} failures, {totals['error']} errors, "
        f"{totals['crash']} crashed, {totals['hang']} hung; {len(summary.details)} implementation "
        f"detail, {len(summary.also_on_baseline)} on asyncio too; {totals['notrun']} not run; "
        f"{summary.idle} of the passed never ran the loop; {totals['excluded']} need a virtual "
        f"clock; {seconds:.0f} s"
    )
    print(f"regressions: {len(summary.regressions)}")
    print(
        f"{totals['pass']} passed, {len(summary.regressions)} failed, {totals['skip']} skipped, "
        f"{len(summary.details)} excused"
    )
