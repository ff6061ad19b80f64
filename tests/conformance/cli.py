"""The command: reads the options, runs the groups, prints and saves the result.

Called by `__main__`. Exit status: 0 nothing to complain about; 1 a regression, a crash, a
hang, or a group that could not be loaded, was cut short, lost tests or never ran the
candidate; 2 usage, or the loop cannot be created.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conformance import exclusions
from conformance.collect import groups as all_groups
from conformance.group import Group
from conformance.report import (
    HEADER,
    Summary,
    compare_plans,
    group_line,
    note_lines,
    print_failures,
    print_summary,
    summarize,
)
from conformance.tables import FOLDER, Baseline, Table, baseline_path
from conformance.watch import Settings, exit_name

LONGEST_FIRST = (
    "test_ssl",
    "test_subprocess",
    "test_tasks",
    "test_events",
    "test_sendfile",
    "test_sslproto",
    "test_unix_events",
)
CHECK = """
import sys, json
sys.path[:0] = json.loads(sys.argv[1])
from conformance.inject import resolve_factory
factory, module = resolve_factory(sys.argv[2])
loop = factory()
print(type(loop).__module__ + "." + type(loop).__qualname__, getattr(module, "__version__", ""))
loop.close()
"""
EXAMPLES = """\
examples:
  python tests/conformance --loop mioloop -j 2
  python tests/conformance --loop mioloop --only test_tasks,test_futures -v
  python tests/conformance --loop mioloop --match '*.test_cancel*'
  python tests/conformance --loop asyncio --all --write-baseline
  python tests/conformance --list
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    result = argparse.ArgumentParser(
        prog="python tests/conformance",
        description="Run CPython's own asyncio tests on any event loop.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    add = result.add_argument
    add("--loop", help="module[:attr]: a loop factory, loop class or policy class")
    add("--all", action="store_true", help="run what waits for the network transports too")
    add("--only", action="append", default=[], help="group(s) to run, comma separated")
    add("--skip", action="append", default=[], help="group(s) to leave out")
    add("--match", action="append", help="only test ids (group.Class.test) that match")
    add("-j", "--jobs", type=int, default=1, help="groups at a time (1)")
    add("--rerun", action="store_true", help="run failures once more; what passes is flaky")
    add("--timeout", type=float, default=900, help="seconds for a whole group (900)")
    add("--test-timeout", type=float, default=60, help="seconds without progress: hung (60)")
    add("--debug", action="store_true", help="run with PYTHONASYNCIODEBUG=1")
    add("--no-baseline", action="store_true", help="count every failure as a regression")
    add("--write-baseline", action="store_true", help="save the result as this version's baseline")
    add("--json", type=Path, help="write every test's result here")
    add("--list", action="store_true", help="show the groups and what is excluded, and why")
    add("-v", "--verbose", action="store_true")
    return result


def main() -> int:
    """The command's exit status."""
    options_parser = parser()
    options = options_parser.parse_args()
    groups = all_groups()
    waiting = Table([]) if options.all else Table.read(FOLDER / "awaiting_transports.txt")
    if options.list:
        print_list(groups, waiting)
        return 0
    if not options.loop:
        options_parser.error("--loop is needed")
    try:
        wanted = choose(groups, options.only, options.skip, waiting)
    except ValueError as error:
        options_parser.error(str(error))
    settings = Settings(
        loop=options.loop if ":" in options.loop else options.loop + ":new_event_loop",
        path=search_path(),
        folder=Path(tempfile.mkdtemp(prefix="conformance_")),
        timeout=options.timeout,
        test_timeout=options.test_timeout,
        match=options.match,
        without=[pattern for pattern, _ in waiting.rows],
        rerun=options.rerun,
        debug=options.debug,
        verbose=options.verbose,
    )
    try:
        loop_type = check_loop(settings)
        if loop_type is None:
            return 2
        print(
            f"loop {settings.loop} = {loop_type}; Python {platform.python_version()}; "
            f"{platform.platform()}"
        )
        print(HEADER, flush=True)
        began = time.monotonic()
        done = run_groups({name: groups[name] for name in wanted}, settings, options.jobs)
    finally:
        shutil.rmtree(settings.folder, ignore_errors=True)
    if options.write_baseline:
        write_baseline(done)
    summary = conclude(done, options, time.monotonic() - began)
    if options.json:
        write_json(options.json, settings.loop, loop_type, done, summary)
    return 1 if summary.bad else 0


def print_list(groups: Iterable[str], waiting: Table) -> None:
    """What is run and what is not, with the reasons."""
    for name in groups:
        excluded = exclusions.MODULES.get(name)
        later = waiting.row(name)
        if excluded:
            print(f"{name} -- excluded: {excluded}")
        elif later:
            print(f"{name} -- not yet: {later[1]}")
        else:
            print(name)
    for rule in exclusions.CLASSES:
        print(f"{rule.module}.{rule.classes} -- excluded: {rule.reason}")
    for test in exclusions.TESTS:
        print(f"{test.module}.{test.classes}.{test.test} -- excluded: {test.reason}")
    for module, name in sorted(exclusions.PUBLIC_ONLY):
        print(f"{module}.{name} -- only tests of the public API")
    for pattern, reason in waiting.rows:
        if "." in pattern:
            print(f"{pattern} -- not yet: {reason}")


def choose(groups: Iterable[str], only: list[str], skip: list[str], waiting: Table) -> list[str]:
    """The groups to run. Raises ValueError for a name that is no group."""
    known = list(groups)

    def names(arguments: list[str]) -> list[str]:
        found = []
        for name in ",".join(arguments).replace(" ", "").split(","):
            full = name if name in known else "test_" + name
            if name and full not in known:
                raise ValueError(f"no such group: {name}")
            if name:
                found.append(full)
        return found

    chosen = names(only) or [
        name for name in known if name not in exclusions.MODULES and not waiting.row(name)
    ]
    left_out = names(skip)
    return [name for name in chosen if name not in left_out]


def search_path() -> list[str]:
    """The working directory and PYTHONPATH, absolute: the workers run elsewhere."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.getcwd()] + [os.path.abspath(entry) for entry in entries if entry]


def check_loop(settings: Settings) -> str | None:
    """The loop's type and version, or None (and the reason printed) if it cannot be made."""
    path = json.dumps([str(FOLDER.parent), *settings.path])
    check = subprocess.run(
        [sys.executable, "-c", CHECK, path, settings.loop],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check.returncode:
        print(check.stdout)
        print(f"cannot create a loop with {settings.loop} ({exit_name(check.returncode)})")
        return None
    return check.stdout.strip().split("\n")[-1]


def run_groups(groups: dict[str, tuple[str, ...]], settings: Settings, jobs: int) -> list[Group]:
    """Run the groups, `jobs` at a time, and print a line for each as it ends."""
    printing = threading.Lock()

    def run(name: str) -> Group:
        group = Group(name, groups[name], settings)
        try:
            group.run()
        except Exception:
            group.notes.append("conformance itself: " + traceback.format_exc())
            group.plan = None
        with printing:
            print(group_line(group))
            for line in note_lines(group, verbose=settings.verbose):
                print(line)
            sys.stdout.flush()
        return group

    order = [name for name in LONGEST_FIRST if name in groups] if jobs > 1 else []
    order += [name for name in groups if name not in order]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        done = {group.name: group for group in pool.map(run, order)}
    return [done[name] for name in groups]


def write_baseline(groups: list[Group]) -> None:
    """Save what these groups did as the baseline of the running version."""
    baseline = Baseline(python=platform.python_version())
    for group in groups:
        baseline.planned[group.name] = len(group.plan or [])
        for test, record in group.tests.items():
            if record["status"] not in ("pass", "excluded"):
                baseline.other[test] = record["status"]
    baseline.write(baseline_path())
    print(f"written: {baseline_path()}")


def conclude(groups: list[Group], options: argparse.Namespace, seconds: float) -> Summary:
    """Print the result against the baseline."""
    details = Table.read(FOLDER / "implementation_details.txt")
    baseline = None
    if baseline_path().exists() and not options.no_baseline:
        baseline = Baseline.read(baseline_path())
    summary = summarize(groups, details, baseline)
    if baseline is not None and options.all and not options.match:
        summary.fewer = compare_plans(groups, baseline, platform.python_version())
    print()
    print_failures(summary, groups, verbose=options.verbose)
    print_summary(summary, details, seconds)
    return summary


def write_json(
    path: Path, loop: str, loop_type: str, groups: list[Group], summary: Summary
) -> None:
    """Save everything, for tools."""
    result = {
        "loop": loop,
        "loop_type": loop_type,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "summary": summary.as_json(),
        "failed": summary.failed,
        "groups": {group.name: group.as_json() for group in groups},
    }
    path.write_text(json.dumps(result, indent=1))
