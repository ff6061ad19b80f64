#!/usr/bin/env python3
"""Writes docs/compatibility.md's table and docs/compatibility.json, the data behind it.

    scripts/check.py --stages 'python conformance' && scripts/compatibility.py
    scripts/compatibility.py --check    says whether the table is what the data say; writes nothing

The data are what `check.py` has left in target/results/: for each Python, pytest's report of the
feature tests on mioloop (not on asyncio's own loop) and, if it ran, the conformance run's sums.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "target" / "results"
DATA = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- table: scripts/compatibility.py -->", "<!-- end of table -->"

# Which test files show which feature: the first row with a pattern that fits.
FEATURES = {
    "Callbacks, timers, contexts": ("call_soon", "handles", "timers", "contextvars", "turns_*"),
    "Tasks and futures": (
        *("tasks", "task_*", "eager_tasks", "futures", "foreign_awaitables", "cpython_tasks"),
        *("interop", "subclasses", "fuzz_trace"),
    ),
    "gather, timeouts, groups, locks, queues": ("primitives", "locks_*"),
    "Call graphs, `python -m asyncio ps`": ("call_graph",),
    "Threads and executors": ("threadsafe", "executor", "many_loops"),
    "Signals, fork": ("signal*", "fork"),
    "TCP, Unix sockets, servers": ("tcp*", "unix_sockets", "server*", "borrowed_methods"),
    "Transports and flow control": ("transport_*", "flow_control", "replaced_methods"),
    "Streams": ("streams", "stream_*"),
    "TLS": ("tls*", "start_tls"),
    "Datagrams": ("udp", "datagram_*"),
    "`sock_*`, `sendfile`, `add_reader`": ("sock_*", "sendfile", "readers"),
    "Pipes and child processes": ("pipes", "subprocess"),
    "Name look-ups": ("dns*",),
    "Running, closing, policies, debug mode": (
        *("lifecycle", "runner", "policy", "import", "asyncgens", "debug_mode"),
        *("exception_handler", "examples", "documents", "docs"),
    ),
    "Memory, leaks, re-entrancy, and all else": ("*",),
}
ON_ASYNCIO = re.compile(r"[\[-]asyncio[\]-]")


def feature_of(name: str) -> str:
    """The row of a test file, `test_NAME.py`."""
    return next(
        feature
        for feature, patterns in FEATURES.items()
        if any(fnmatch(name, pattern) for pattern in patterns)
    )


def read_features(report: Path) -> dict[str, dict[str, int]]:
    """How many tests on mioloop passed, failed and were skipped, by feature."""
    counts = {name: {"passed": 0, "failed": 0, "skipped": 0} for name in FEATURES}
    for case in xml.parse(report).iter("testcase"):
        file = re.match(r"tests\.test_(\w+)", case.get("classname", ""))
        if file is None or ON_ASYNCIO.search(case.get("name", "")):
            continue
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "passed"
        counts[feature_of(file[1])]["skipped" if "skipped" in kinds else kind] += 1
    return counts


def read_results() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each Python with results of the feature tests: its name, and what goes into the data."""
    for tests in RESULTS.glob("pytest-*.xml"):
        name = tests.stem.partition("-")[2]
        if name.endswith("d"):  # a debug build runs what the release has run
            continue
        yield (
            name,
            {
                "date": time.strftime("%Y-%m-%d", time.localtime(tests.stat().st_mtime)),
                **read_conformance(RESULTS / f"conformance-{name}.json"),
                "features": read_features(tests),
            },
        )


def read_conformance(report: Path) -> dict[str, dict[str, int]]:
    """The sums of the conformance run; nothing where CPython's tests are not installed."""
    if not report.exists():
        return {}
    summary = json.loads(report.read_text())["summary"]
    counts = {
        "passed": summary["passed"],
        "failed": len(summary["regressions"]),
        "excused": summary["implementation_detail"],
        "skipped": summary["skipped"],
    }
    return {"conformance": counts}


def table(data: dict[str, Any]) -> str:
    """The table in Markdown."""
    rows = [
        ("", list(data)),
        ("tested on", [facts["date"] for facts in data.values()]),
    ]
    for title, key in {
        "**CPython's asyncio tests that pass**": "passed",
        "that pass on asyncio's own loop only": "failed",
        "that need private parts of asyncio's own loop": "excused",
        "skipped on both": "skipped",
    }.items():
        runs = [facts.get("conformance") for facts in data.values()]
        rows.append((title, [f"{run[key]:,}" if run else "not run" for run in runs]))
    rows.append(("**mioloop's own tests that pass**", [own(facts) for facts in data.values()]))
    for name in FEATURES:
        rows.append((name, [cell(facts["features"][name]) for facts in data.values()]))
    lines = [f"| {title} | {' | '.join(cells)} |" for title, cells in rows]
    lines.insert(1, "|---|" + "---:|" * len(data))
    return "\n".join(lines)


def own(facts: dict[str, Any]) -> str:
    """The sum of the features."""
    features = facts["features"].values()
    return cell({key: sum(f[key] for f in features) for key in ("passed", "failed", "skipped")})


def cell(counts: dict[str, int]) -> str:
    """How many pass, of how many if not all do; a dash where the version lacks the feature."""
    passed, failed = counts["passed"], counts["failed"]
    if not passed and not failed:
        return "-"
    return f"{passed:,}" if not failed else f"{passed:,} of {passed + failed:,}"


def page_with(data: dict[str, Any]) -> str:
    """The page with the table that the data give."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{table(data)}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """The exit status: 1 if --check finds another table than the data give."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    data = json.loads(DATA.read_text()) if DATA.exists() else {}
    if options.check:
        if page_with(data) == PAGE.read_text("utf-8"):
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not what {DATA.relative_to(ROOT)} says: run {__file__}")
        return 1
    data.update(read_results())
    data = dict(sorted(data.items(), key=lambda item: int(item[0].rstrip("t")[2:])))
    text = json.dumps(data, indent=1)
    # One line for the numbers of a feature.
    text = re.sub(r"\{([^{}]*)\}", lambda match: f"{{{' '.join(match[1].split())}}}", text)
    DATA.write_text(text + "\n")
    PAGE.write_text(page_with(data), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
