#!/usr/bin/env python3
"""Checks everything that CI checks: what `make test` runs, from .venv, after scripts/setup.

    scripts/check.py [--stages 'lint rust'] [--pythons '3.11 3.14']

The stages are `lint`, `rust`, `python` (a wheel and its tests on each Python of this machine),
`conformance` (CPython's own tests on each) and `debug` (the tests on Py_DEBUG builds); by their
names only, `ecosystem` (real packages and services) and `suites` (other packages' own tests). One
that fails does not stop the others. The last line is the sum: `N passed, N failed`; a check that
counts no tests of its own counts as one. Writes to target/ and .venvs/ only; `compatibility.py`
makes a table of what it leaves in target/results/.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pythons import Interpreter, interpreters

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv" / "bin"
WHEELS = ROOT / "target" / "wheels"
RESULTS = ROOT / "target" / "results"  # read by compatibility.py
MAX_SECONDS = 900  # for one command; one that takes longer is killed
# The Pythons that real software is tried on, unless --pythons names others.
ECOSYSTEM_PYTHONS = ("3.11", "3.13")
MAX_WHEEL_BYTES = 3 * 1024 * 1024

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


class Checks:
    """Runs commands one after the other, shows their output and adds up."""

    def __init__(self, found: list[Interpreter]) -> None:
        self.releases = [i for i in found if not i.debug]
        self.debug_builds = [i for i in found if i.debug]
        self.default = found[0]
        self.newest = max(
            self.releases, key=lambda i: [int(part) for part in i.base.rstrip("t").split(".")]
        )
        self.chosen = False  # by --pythons
        self.stage = ""
        self.results: list[Result] = []

    def run(self, label: str, *command: str | Path, **environment: str) -> bool:
        """Run one command; True if it succeeded."""
        print(f"\n== {self.stage}: {label}", flush=True)
        began = time.monotonic()
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
        # It has a process group of its own, so that its children end with it.
        limit = threading.Timer(MAX_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        passed = failed = 0
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                counts = count(line)
                passed, failed = passed + counts[0], failed + counts[1]
            status = process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            limit.cancel()
        ok = status == 0
        if status < 0:
            seconds = time.monotonic() - began
            print(f"\nended by {signal.Signals(-status).name} after {seconds:.0f} s", flush=True)
        self.note(label, time.monotonic() - began, ok, passed, failed)
        return ok

    def note(self, label: str, seconds: float, ok: bool, passed: int = 0, failed: int = 0) -> None:
        """Add a result; what counted nothing counts as one check."""
        if not ok and not failed:
            failed = 1
        elif ok and not passed:
            passed = 1
        self.results.append(Result(self.stage, label, seconds, ok, passed, failed))

    def summary(self) -> bool:
        """Print every check's time and the closing line; True if all succeeded."""
        print("\nseconds  check")
        for result in self.results:
            mark = "" if result.ok else "   FAILED"
            print(f"{result.seconds:7.1f}  {result.stage}: {result.label}{mark}")
        print(f"{sum(r.seconds for r in self.results):7.1f}  in total\n")
        ok = all(result.ok for result in self.results)
        failed = sum(r.failed for r in self.results)
        print(f"{sum(r.passed for r in self.results)} passed, {failed} failed", flush=True)
        return ok


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


def lint(checks: Checks) -> None:
    """Formatting, lints, types, and the tests that read the source."""
    python = TOOLS / "python"
    checks.run("cargo fmt", "cargo", "fmt", "--all", "--check")
    checks.run(
        "cargo clippy",
        *("cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"),
        PYO3_PYTHON=str(python),
    )
    checks.run("ruff format", TOOLS / "ruff", "format", "--check", ".")
    checks.run("ruff check", TOOLS / "ruff", "check", ".")
    checks.run("mypy", TOOLS / "mypy")
    checks.run(
        "stubtest", python, "-m", "mypy.stubtest", "mioloop._native", MYPYPATH=str(ROOT / "python")
    )
    checks.run("architecture", python, "-m", "pytest", "-q", "tests/architecture")
    if shutil.which("cargo-deny"):
        checks.run("cargo deny", "cargo", "deny", "check", "bans", "licenses", "sources")


def rust(checks: Checks) -> None:
    """The pure Rust crate, and its cross-thread queue under loom."""
    checks.run("core", "cargo", "test", "--locked", "-p", "mioloop-core")
    checks.run(
        "loom",
        *("cargo", "test", "--locked", "-p", "mioloop-core", "--release", "--lib", "inbox"),
        *("--target-dir", "target/loom"),
        RUSTFLAGS="--cfg loom",
    )


def python(checks: Checks) -> None:
    """A wheel for each Python, and the feature tests on it."""
    for interpreter in checks.releases:
        if install(checks, interpreter):
            run_pytest(checks, interpreter)


def conformance(checks: Checks) -> None:
    """CPython's own asyncio tests, on mioloop."""
    for interpreter in checks.releases:
        if not interpreter.has_tests:
            print(f"{interpreter.name}: CPython's own tests are not installed there")
        elif install(checks, interpreter):
            checks.run(
                interpreter.name,
                *(venv_python(interpreter), "tests/conformance", "--loop", "mioloop"),
                *("--jobs", "2", "--rerun"),
                *("--json", RESULTS / f"conformance-{interpreter.name}.json"),
            )


def debug(checks: Checks) -> None:
    """The feature tests once more where CPython checks reference counts and API use."""
    for interpreter in checks.debug_builds:
        if install(checks, interpreter):
            run_pytest(checks, interpreter)


def ecosystem(checks: Checks) -> None:
    """Real packages and services, in environments of their own."""
    for interpreter in of_ecosystem(checks):
        if install(checks, interpreter, "ecosystem"):
            # What is not installed is a skip for a user, and in CI a failure.
            required = {"MIOLOOP_ECOSYSTEM": "required"} if "CI" in os.environ else {}
            checks.run(
                interpreter.name,
                *(venv_python(interpreter, "ecosystem"), "-m", "pytest", "-q"),
                *("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio"),
                *("--durations=5", "tests/ecosystem", "tests/test_docs.py"),
                **required,
            )


def suites(checks: Checks) -> None:
    """The tests that other packages ship, on asyncio and on mioloop."""
    for interpreter in of_ecosystem(checks):
        if install(checks, interpreter, "suites"):
            for name in ("aiohttp", "anyio", "uvicorn"):
                python = venv_python(interpreter, "suites")
                checks.run(f"{name} {interpreter.name}", python, "tests/ecosystem/suites.py", name)


def of_ecosystem(checks: Checks) -> list[Interpreter]:
    """The interpreters for `ecosystem` and `suites`."""
    return [i for i in checks.releases if checks.chosen or i.name in ECOSYSTEM_PYTHONS]


def run_pytest(checks: Checks, interpreter: Interpreter) -> None:
    """The feature tests on an installed wheel."""
    # What a debug build says when it aborts goes to the process's own standard error.
    capture = "sys" if interpreter.debug else "fd"
    # The slow tests count millions of objects: the default and the newest release do; on all of
    # them it would take a quarter of an hour, and on debug builds longer.
    slow = interpreter in (checks.default, checks.newest)
    marks = () if slow else ("-m", "not slow")
    checks.run(
        f"pytest {interpreter.name}",
        *(venv_python(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", *marks),
        *("--ignore=tests/architecture", "--ignore=tests/ecosystem"),
        *("--durations=5", f"--capture={capture}"),
        f"--junitxml={RESULTS / f'pytest-{interpreter.name}.xml'}",
    )


def venv_python(interpreter: Interpreter, group: str = "test") -> Path:
    """The interpreter of the environment that tests use."""
    name = interpreter.name if group == "test" else f"{group}-{interpreter.name}"
    return ROOT / ".venvs" / name / "bin" / "python"


def install(checks: Checks, interpreter: Interpreter, group: str = "test") -> bool:
    """Build the wheel for `interpreter` and install it, once per run; False if that failed.

    group: the dependency group that is installed with it.
    """
    label = f"install {interpreter.name}" + ("" if group == "test" else f" for {group}")
    before = [result.ok for result in checks.results if result.label == label]
    if before:
        return before[-1]
    wheel = build_wheel(checks, interpreter)
    if wheel is None:
        checks.note(label, 0, ok=False)
        return False
    python = venv_python(interpreter, group)
    made_with = python.parent.parent / "made-with"
    identity = f"{interpreter.path} {interpreter.release}"
    if not made_with.exists() or made_with.read_text() != identity:
        folder = python.parent.parent
        subprocess.run(
            [interpreter.path, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True
        )
        made_with.write_text(identity)
    pip = (TOOLS / "python", "-m", "pip", "--python", python, "install", "-q")
    return checks.run(
        label,
        *("sh", "-euc", '"$@" --group "$GROUP"; "$@" --no-deps --force-reinstall "$WHEEL"', "sh"),
        *pip,
        WHEEL=str(wheel),
        GROUP=group,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
    )


def build_wheel(checks: Checks, interpreter: Interpreter) -> Path | None:
    """The wheel that `interpreter` loads; debug builds load that of the release build."""
    label = f"wheel {interpreter.base}"
    tag = "cp" + interpreter.base.replace(".", "").rstrip("t")
    pattern = f"mioloop-*-{tag}-*.whl"
    if not any(result.label == label for result in checks.results):
        builder = next((i for i in checks.releases if i.name == interpreter.base), None)
        if builder is None:
            print(f"{interpreter.name}: no {interpreter.base} here to build its wheel with")
            return None
        for old in WHEELS.glob(pattern):
            old.unlink()
        # .venv has the extension for the default interpreter built already.
        path = TOOLS / "python" if builder is checks.default else builder.path
        built = checks.run(
            label,
            *(TOOLS / "maturin", "build", "--release", "--locked", "--quiet"),
            *("--interpreter", path, "--out", WHEELS),
        )
        if built:
            check_wheel(checks, next(WHEELS.glob(pattern)))
    return next(WHEELS.glob(pattern), None)


def check_wheel(checks: Checks, wheel: Path) -> None:
    """Its size, and that it has the types and one extension module."""
    began = time.monotonic()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    size = wheel.stat().st_size
    extensions = [name for name in names if name.endswith(".so")]
    wrong = [f"{name} is missing" for name in ("py.typed", "_native.pyi")]
    wrong = [text for text in wrong if f"mioloop/{text.split()[0]}" not in names]
    if len(extensions) != 1:
        wrong.append(f"extension modules: {extensions}")
    if size > MAX_WHEEL_BYTES:
        wrong.append(f"{size} bytes, at most {MAX_WHEEL_BYTES}")
    print(f"{wheel.name}: {size / 1024:.0f} KiB", *wrong, sep="\n    ")
    checks.note(f"contents of {wheel.name}", time.monotonic() - began, ok=not wrong)


STAGES: dict[str, Callable[[Checks], None]] = {
    "lint": lint,
    "rust": rust,
    "python": python,
    "conformance": conformance,
    "debug": debug,
    "ecosystem": ecosystem,
    "suites": suites,
}
# What takes long or needs services runs when it is named.
BY_NAME = ("ecosystem", "suites")


def main() -> int:
    """The exit status: 0 if every check succeeded."""
    parser = argparse.ArgumentParser(description="Run what CI runs.")
    parser.add_argument("--stages", default="", help=f"of: {' '.join(STAGES)}")
    parser.add_argument("--pythons", default="", help="names as scripts/pythons.py gives (all)")
    options = parser.parse_args()
    stages = options.stages.replace(",", " ").split() or [
        name for name in STAGES if name not in BY_NAME
    ]
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        parser.error(f"no such stage: {' '.join(unknown)}; there are: {' '.join(STAGES)}")
    found = interpreters()
    checks = Checks(found)
    wanted = options.pythons.replace(",", " ").split()
    missing = [name for name in wanted if name not in {i.name for i in found}]
    if missing:
        parser.error(f"no such Python here: {' '.join(missing)}; see scripts/pythons.py")
    if wanted:
        checks.chosen = True
        checks.releases = [i for i in checks.releases if i.name in wanted]
        checks.debug_builds = [i for i in checks.debug_builds if i.name in wanted]
    RESULTS.mkdir(parents=True, exist_ok=True)
    print("Python:", *(f"{i.name} ({i.release}{' debug' if i.debug else ''})" for i in found))
    for stage in stages:
        checks.stage = stage
        STAGES[stage](checks)
    return 0 if checks.summary() else 1


if __name__ == "__main__":
    sys.exit(main())
