#!/usr/bin/env python3
"""Runs the test suites that other packages ship, on asyncio and on mioloop, and compares.

    python tests/ecosystem/suites.py [aiohttp anyio uvicorn] [--work FOLDER] [--match EXPRESSION]
    python tests/ecosystem/suites.py --websockets FOLDER websockets

Run by `scripts/check.py --stages suites` in an environment with the dependency group `suites`. The
sdists come from PyPI, in the versions that are installed; those of websockets have no such tests,
but its source in Debian has: FOLDER is what `apt-get source python-websockets` makes. What fails on
mioloop and passes on asyncio is our failure, unless `EXPECTED` says why it cannot pass; what fails
on both is the machine's or the package's. The last line is `N passed, N failed`. No test is
changed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
MAX_SECONDS = 1500


class Suite(NamedTuple):
    """How a package's tests are run."""

    options: tuple[str, ...]
    tests: tuple[str, ...] = ("tests",)
    workers: int = 2


SUITES = {
    "aiohttp": Suite(
        (
            *("-m", "not dev_mode and not autobahn and not internal", "-k", "not benchmarks"),
            *("--ignore=tests/autobahn", "--aiohttp-fast"),
        )
    ),
    "anyio": Suite(("-p", "anyio", "-m", "not network")),
    "uvicorn": Suite(("--ignore=tests/benchmarks",), workers=4),
    # Only with --websockets, which is imported from there, whatever version is installed.
    "websockets": Suite(("-p", "no:anyio"), tests=("tests/asyncio", "tests/legacy")),
}

# Parts of test names: why the test cannot pass on any loop but asyncio's own.
EXPECTED = {
    "test_loop_auto": "asserts that the loop's class is in the module asyncio",
    "ConnectionTests::test_local_address": "patches asyncio.BaseTransport.get_extra_info",
    "ConnectionTests::test_remote_address": "patches asyncio.BaseTransport.get_extra_info",
    "ClientServerTests::test_explicit_socket": "wants recv() of a socket subclass called",
}


class Outcome(NamedTuple):
    """What one run gave."""

    passed: frozenset[str]
    failed: frozenset[str]
    loops: dict[str, int]
    seconds: float
    output: str


def main() -> int:
    """The exit status: 0 if nothing fails on our loop only."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="suite", help=f"of: {' '.join(SUITES)}")
    parser.add_argument("--work", type=Path, help="keep sources and reports here")
    parser.add_argument("--websockets", type=Path, help="a folder with the source of websockets")
    parser.add_argument("--match", help="run matching tests only, as pytest's -k")
    options = parser.parse_args()
    names = options.names or [name for name in SUITES if name != "websockets"]
    work = options.work or Path(tempfile.mkdtemp(prefix="suites-"))
    work.mkdir(parents=True, exist_ok=True)
    passed = failed = 0
    for name in names:
        source = fetch(name, work) if name != "websockets" else options.websockets.resolve()
        folder = arrange(name, source, work)
        good, bad = compare(name, folder, work, options.match)
        passed, failed = passed + good, failed + bad
    if options.work is None:
        shutil.rmtree(work)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


def fetch(name: str, work: Path) -> Path:
    """Download the sdist of the installed version; the folder of its source."""
    version = importlib.metadata.version(name)
    folder = work / f"{name}-{version}"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name]
        subprocess.run([*pip, "-d", str(work), f"{name}=={version}"], check=True)
        with tarfile.open(work / f"{name}-{version}.tar.gz") as archive:
            archive.extractall(work)
    return folder


def arrange(name: str, source: Path, work: Path) -> Path:
    """The tests without the package, so that the installed one is imported."""
    if name == "websockets":
        return source
    folder = work / "tests" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(source / "tests", folder / "tests")
    for file in ("pytest.ini", "setup.cfg", "pyproject.toml"):
        if (source / file).exists():
            shutil.copy(source / file, folder)
    return folder


def compare(name: str, folder: Path, work: Path, match: str | None) -> tuple[int, int]:
    """Run on both loops and print the difference; (passed, failed) on ours."""
    outcomes = {}
    for kind in ("asyncio", "mioloop"):
        outcome = outcomes[kind] = run(name, kind, folder, work, match)
        print(
            f"{name} on {kind}: {len(outcome.passed)} passed, {len(outcome.failed)} failed;"
            f" {outcome.seconds:.0f} s, loops run: {outcome.loops}",
            flush=True,
        )
    ours, stock = outcomes["mioloop"], outcomes["asyncio"]
    regressions = []
    for test in sorted(ours.failed - stock.failed):
        reason = next((why for part, why in EXPECTED.items() if part in test), None)
        if reason is None:
            regressions.append(test)
        print(f"    only ours fails: {test}" + (f" (expected: {reason})" if reason else ""))
    problems = len(regressions)
    # Names may differ: some are made of the loop's class.
    missing = len(stock.passed | stock.failed) - len(ours.passed | ours.failed)
    if missing > 0:
        problems += missing
        print(f"    {missing} tests did not run on ours")
    if not ours.loops.get("mioloop") or not ours.passed:
        problems += 1
        print(f"    our loop did not run, or nothing passed:\n{ours.output[-3000:]}")
    elif problems:
        print(ours.output[-20_000:])
    return len(ours.passed), problems


def run(name: str, kind: str, folder: Path, work: Path, match: str | None) -> Outcome:
    """One suite on one loop."""
    suite = SUITES[name]
    report, counts = work / f"{name}-{kind}.xml", work / f"{name}-{kind}-loops"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "suite_plugin", "-p", "no:cacheprovider"]
    command += ["-p", "no:asyncio", "-o", "addopts=", "--tb=short", f"--junitxml={report}"]
    command += ["-n", str(suite.workers), *suite.options, *suite.tests]
    chosen = [match] if match else ["not trio"] if name == "anyio" else []
    if name == "anyio" and not has_ipv6():
        # Their fixtures fail half-way, and leave sockets whose warnings hit whichever test comes.
        chosen.append("not ipv6 and not dualstack")
    if chosen:
        command += ["-k", " and ".join(f"({part})" for part in chosen)]
    path = [str(HERE), str(folder)] + ([str(folder / "src")] if name == "websockets" else [])
    environment = {**os.environ, "SUITE_LOOP": kind, "SUITE_COUNTS": str(counts)}
    environment["PYTHONPATH"] = os.pathsep.join(path)
    environment.pop("CI", None)
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=MAX_SECONDS,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = f"ended after {MAX_SECONDS} s\n{error.stdout!r}"
    passed, failed = read_report(report)
    loops: dict[str, int] = {}
    for file in counts.glob("*.json"):
        for loop, number in json.loads(file.read_text()).items():
            loops[loop] = loops.get(loop, 0) + number
    return Outcome(passed, failed, loops, time.monotonic() - began, output)


def has_ipv6() -> bool:
    """Whether `localhost` has an address of IPv6 here."""
    try:
        return bool(socket.getaddrinfo("localhost", 0, socket.AF_INET6))
    except OSError:
        return False


def read_report(report: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the tests that passed and that failed; skipped ones are in neither."""
    if not report.exists():
        return frozenset(), frozenset()
    passed, failed = set(), set()
    for case in xml.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed.add(name)
        elif "skipped" not in kinds:
            passed.add(name)
    return frozenset(passed - failed), frozenset(failed)


if __name__ == "__main__":
    sys.exit(main())
