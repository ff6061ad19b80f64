#!/usr/bin/env python3
"""Checks everything that CI checks: what `make test` runs, from .venv, after scripts/setup.

    scripts/check.py [--stages 'lint rust'] [--pythons '3.11 3.14'] [--jobs 2]

The stages are `lint`, `rust`, `examples` (the crate in examples/), `python` (a wheel and its tests
on each Python of this machine), `debug` (the tests on Py_DEBUG builds), `conformance` (CPython's
own tests on each), `kernel` (TLS on a kernel that encrypts) and `ecosystem` (real packages and
services); by its name only, `suites` (other packages' own tests). As many of them run at a time as
there are processors, four at most; --jobs 1 shows output as it comes. One that fails does not stop
the others. The last line is the sum: `N passed, N failed`; a check that counts no tests of its own
counts as one. Writes to target/ and .venvs/ only; `compatibility.py` makes a table of what it
leaves in target/results/.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from commands import ROOT, Commands
from pythons import Interpreter, interpreters
from wheels import abi_tags, problems

TOOLS = ROOT / ".venv" / "bin"
WHEELS = ROOT / "target" / "wheels"
RESULTS = ROOT / "target" / "results"  # read by compatibility.py
LOAD = ROOT / "benchmarks" / "load" / "Cargo.toml"  # the load generator's package
# The Pythons that real software is tried on, unless --pythons names others.
ECOSYSTEM_PYTHONS = ("3.11", "3.13", "3.14")
SUITES_PYTHONS = ("3.11", "3.13")
# Where CPython's tests of TLS run on the portable engine as well. The feature tests of TLS run on
# both engines everywhere.
PORTABLE_TLS_PYTHONS = ("3.11", "3.13", "3.14")
# An OpenSSL of the system and one of Python's own.
KERNEL_TLS_PYTHONS = ("3.11", "3.14")
# What runs once more with io_uring, where the kernel allows it. tests/test_io_uring.py sees to the
# rest everywhere.
SENDING_TESTS = tuple(
    str(path.relative_to(ROOT))
    for pattern in ("transport_*", "tcp*", "tls*", "streams", "flow_control", "server*", "sendfile")
    for path in sorted(ROOT.glob(f"tests/test_{pattern}.py"))
)


class Checks(Commands):
    """The commands of a run, and the interpreters that they are for."""

    def __init__(self, found: list[Interpreter], jobs: int) -> None:
        super().__init__(jobs)
        self.found = found
        self.building = threading.Lock()  # cargo would make a second one wait
        self.default = found[0]
        self.newest = max(
            (i for i in found if not i.debug),
            key=lambda i: [int(part) for part in i.base.rstrip("t").split(".")],
        )
        # These two run the slow tests: the sooner they begin, the sooner all is done.
        found = sorted(found, key=lambda i: i not in (self.default, self.newest))
        self.releases = [i for i in found if not i.debug]
        self.debug_builds = [i for i in found if i.debug]
        self.chosen = False  # by --pythons

    def choose(self, names: list[str]) -> None:
        """Only these interpreters."""
        self.chosen = True
        self.releases = [i for i in self.releases if i.name in names]
        self.debug_builds = [i for i in self.debug_builds if i.name in names]

    def among(self, names: tuple[str, ...]) -> list[Interpreter]:
        """The releases of these names; if --pythons chose some, those."""
        return [i for i in self.releases if self.chosen or i.name in names]


def lint(checks: Checks) -> None:
    """Formatting, lints, types, and the tests that read the source."""
    python = TOOLS / "python"
    checks.run("cargo fmt", "cargo", "fmt", "--all", "--check")
    checks.run(
        "cargo clippy",
        *("cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"),
        PYO3_PYTHON=str(python),
    )
    load = ("--manifest-path", LOAD)
    checks.run("cargo fmt, load generator", "cargo", "fmt", *load, "--check")
    checks.run(
        "cargo clippy, load generator",
        *("cargo", "clippy", *load, "--target-dir", "target/benchmarks"),
        *("--all-targets", "--locked", "--", "-D", "warnings"),
    )
    checks.run("ruff format", TOOLS / "ruff", "format", "--check", ".")
    checks.run("ruff check", TOOLS / "ruff", "check", ".")
    checks.run("mypy", TOOLS / "mypy")
    checks.run(
        "stubtest", python, "-m", "mypy.stubtest", "mioloop._native", MYPYPATH=str(ROOT / "python")
    )
    checks.run("architecture", python, "-m", "pytest", "-q", "tests/architecture")
    if shutil.which("cargo-deny"):
        what = ("check", "bans", "licenses", "sources")
        checks.run("cargo deny", "cargo", "deny", *what)
        checks.run(
            "cargo deny, load generator",
            *("cargo", "deny", *load, *what, "--config", "benchmarks/load/deny.toml"),
        )


def rust(checks: Checks) -> None:
    """The pure Rust crate, its queue under loom; the load generator of the benchmarks."""
    checks.run("core", "cargo", "test", "--locked", "-p", "mioloop-core")
    checks.run(
        "loom",
        *("cargo", "test", "--locked", "-p", "mioloop-core", "--profile", "loom", "--lib", "inbox"),
        *("--target-dir", "target/loom"),
        RUSTFLAGS="--cfg loom",
    )
    checks.run(
        "load generator",
        *("cargo", "test", "--locked", "--manifest-path", LOAD),
        *("--target-dir", "target/benchmarks"),
    )


def examples(checks: Checks) -> None:
    """The crate in examples/, on the default Python."""
    manifest = ("--manifest-path", "examples/rust_futures/Cargo.toml")
    target = ROOT / "target" / "examples"
    environment = {"CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": str(TOOLS / "python")}
    checks.run("cargo fmt", "cargo", "fmt", *manifest, "--check")
    checks.run(
        "cargo clippy",
        *("cargo", "clippy", *manifest, "--all-targets", "--locked", "--", "-D", "warnings"),
        **environment,
    )
    built = checks.run(
        "wheel of rust_futures",
        *(TOOLS / "maturin", "build", *manifest, "--release", "--locked", "--quiet"),
        *("--interpreter", TOOLS / "python", "--out", target / "wheels"),
        **environment,
    )
    if not built or not install(checks, checks.default):
        return
    python = venv_python(checks.default)
    wheel = next((target / "wheels").glob("*.whl"))
    pip = (TOOLS / "python", "-m", "pip", "--python", python, "install", "-q")
    if checks.run("install rust_futures", *pip, "--no-deps", "--force-reinstall", wheel):
        checks.run(
            "pytest",
            *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5"),
            "tests/examples",
        )


def feature_tests(checks: Checks, interpreter: Interpreter) -> None:
    """A wheel for a Python, and the feature tests on it."""
    if not install(checks, interpreter):
        return
    # What a debug build says when it aborts goes to the process's own standard error.
    capture = "sys" if interpreter.debug else "fd"
    # The slow tests count millions of objects: the default and the newest release do; on all of
    # them it would take a quarter of an hour, and on debug builds longer.
    slow = interpreter in (checks.default, checks.newest)
    marks = () if slow else ("-m", "not slow")
    checks.run(
        f"pytest {interpreter.name}",
        *(venv_python(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", *marks),
        *(f"--ignore=tests/{name}" for name in ("architecture", "ecosystem", "examples")),
        *("--durations=5", f"--capture={capture}"),
        f"--junitxml={RESULTS / f'pytest-{interpreter.name}.xml'}",
    )
    if interpreter == checks.default:
        checks.run(
            f"pytest {interpreter.name}, io_uring",
            *(venv_python(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-m", "not slow", *SENDING_TESTS),
            MIOLOOP_IO_URING="1",
        )


def conformance(checks: Checks, interpreter: Interpreter) -> None:
    """CPython's own asyncio tests, on mioloop."""
    if not interpreter.has_tests:
        checks.show(f"{interpreter.name}: CPython's own tests are not installed there\n")
    elif install(checks, interpreter):
        command = (venv_python(interpreter), "tests/conformance", "--loop", "mioloop", "--rerun")
        jobs = ("--jobs", "2" if checks.shared.jobs == 1 else "1")
        results = ("--json", RESULTS / f"conformance-{interpreter.name}.json")
        checks.run(interpreter.name, *command, *jobs, *results)
        if interpreter.name in PORTABLE_TLS_PYTHONS:
            only = ("--only", "test_ssl,test_sslproto")
            checks.run(f"{interpreter.name}, no libssl", *command, *jobs, *only, MIOLOOP_LIBSSL="0")


def kernel(checks: Checks, interpreter: Interpreter) -> None:
    """TLS that the kernel encrypts, on a kernel of its own."""
    if install(checks, interpreter):
        command = (venv_python(interpreter), "scripts/kernel_tls.py", "tests/test_tls_kernel.py")
        checks.run(f"kernel TLS {interpreter.name}", *command)


def ecosystem(checks: Checks, interpreter: Interpreter) -> None:
    """Real packages and services, in an environment of their own."""
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
    """The tests that other packages ship, on asyncio and on mioloop; each takes all processors."""
    for interpreter in checks.among(SUITES_PYTHONS):
        if install(checks, interpreter, "suites"):
            for name in ("aiohttp", "anyio", "uvicorn"):
                python = venv_python(interpreter, "suites")
                checks.run(f"{name} {interpreter.name}", python, "tests/ecosystem/suites.py", name)


def venv_python(interpreter: Interpreter, group: str = "test") -> Path:
    """The interpreter of the environment that tests use."""
    name = interpreter.name if group == "test" else f"{group}-{interpreter.name}"
    return ROOT / ".venvs" / name / "bin" / "python"


def install(checks: Checks, interpreter: Interpreter, group: str = "test") -> bool:
    """Build the wheel for `interpreter` and install it, once per run; False if that failed.

    group: the dependency group that is installed with it.
    """
    return checks.once(
        ("install", interpreter.name, group), lambda: install_now(checks, interpreter, group)
    )


def install_now(checks: Checks, interpreter: Interpreter, group: str) -> bool:
    """Make the environment and install into it."""
    label = f"install {interpreter.name}" + ("" if group == "test" else f" for {group}")
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
    with checks.building:
        return checks.once(("wheel", interpreter.base), lambda: build_now(checks, interpreter))


def build_now(checks: Checks, interpreter: Interpreter) -> Path | None:
    """Build the wheel, look at it, and return its path if that succeeded."""
    base = interpreter.base
    builder = next((i for i in checks.found if i.name == base), None)
    if builder is None:
        checks.show(f"{interpreter.name}: no {base} here to build its wheel with\n")
        return None
    pattern = f"mioloop-*-{abi_tags(base)}-*.whl"
    for old in WHEELS.glob(pattern):
        old.unlink()
    # .venv has the extension for the default interpreter built already.
    path = TOOLS / "python" if builder is checks.default else builder.path
    built = checks.run(
        f"wheel {base}",
        *(TOOLS / "maturin", "build", "--release", "--locked", "--quiet"),
        *("--interpreter", path, "--out", WHEELS),
    )
    wheel = next(WHEELS.glob(pattern), None) if built else None
    if wheel is not None:
        check_wheel(checks, wheel)
    return wheel


def check_wheel(checks: Checks, wheel: Path) -> None:
    """Its size, and that it has what it should, and nothing else."""
    began = time.monotonic()
    wrong = problems(wheel)
    checks.show(
        "\n    ".join([f"{wheel.name}: {wheel.stat().st_size / 1024:.0f} KiB", *wrong]) + "\n"
    )
    checks.note(f"contents of {wheel.name}", time.monotonic() - began, ok=not wrong)


class Stage(NamedTuple):
    """What is run, for each of some interpreters if there is a function that names them."""

    run: Callable[..., None]
    interpreters: Callable[[Checks], list[Interpreter]] | None = None
    default: bool = True  # it runs where no stage is named

    def tasks(self, checks: Checks) -> Iterator[Callable[[Checks], None]]:
        """What can run at the same time."""
        if self.interpreters is None:
            yield self.run
        else:
            for interpreter in self.interpreters(checks):
                yield functools.partial(self.run, interpreter=interpreter)


STAGES = {
    "lint": Stage(lint),
    "rust": Stage(rust),
    "examples": Stage(examples),
    "python": Stage(feature_tests, lambda checks: checks.releases),
    "debug": Stage(feature_tests, lambda checks: checks.debug_builds),
    "conformance": Stage(conformance, lambda checks: checks.releases),
    "kernel": Stage(kernel, lambda checks: checks.among(KERNEL_TLS_PYTHONS)),
    "ecosystem": Stage(ecosystem, lambda checks: checks.among(ECOSYSTEM_PYTHONS)),
    "suites": Stage(suites, default=False),
}


def main() -> int:
    """The exit status: 0 if every check succeeded."""
    # A shell that starts this in the background has it ignored, and the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description="Run what CI runs.")
    parser.add_argument("--stages", default="", help=f"of: {' '.join(STAGES)}")
    parser.add_argument("--pythons", default="", help="names as scripts/pythons.py gives (all)")
    at_once = min(4, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=at_once, help=f"at a time ({at_once})")
    options = parser.parse_args()
    stages = options.stages.replace(",", " ").split() or [
        name for name, stage in STAGES.items() if stage.default
    ]
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        parser.error(f"no such stage: {' '.join(unknown)}; there are: {' '.join(STAGES)}")
    found = interpreters()
    checks = Checks(found, max(1, options.jobs))
    wanted = options.pythons.replace(",", " ").split()
    missing = [name for name in wanted if name not in {i.name for i in found}]
    if missing:
        parser.error(f"no such Python here: {' '.join(missing)}; see scripts/pythons.py")
    if wanted:
        checks.choose(wanted)
    RESULTS.mkdir(parents=True, exist_ok=True)
    print("Python:", *(f"{i.name} ({i.release}{' debug' if i.debug else ''})" for i in found))
    checks.each((name, task) for name in stages for task in STAGES[name].tasks(checks))
    return 0 if checks.summary() else 1


if __name__ == "__main__":
    sys.exit(main())
