#!/usr/bin/env python3
"""Lists the CPython interpreters of this machine that mioloop can be tested on.

    scripts/pythons.py            one line each: name, tab, path

Run by `make pythons`; imported by `check.py`. Looks at the interpreter that runs it, pyenv's
versions, the list that `scripts/install-pythons` writes, and PATH, in this order; the first
one of a name ("3.13", "3.14d" for a debug build) wins. Installs nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = (3, 10), (3, 15)
OLDEST_FREE_THREADED = (3, 14)  # of those that PyO3 knows

PROBE = """
import importlib.util, json, platform, sys, sysconfig, venv, ensurepip
print(json.dumps({
    "cpython": platform.python_implementation() == "CPython",
    "version": sys.version_info[:2],
    "release": platform.python_version(),
    "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "tests": importlib.util.find_spec("test") is not None
             and importlib.util.find_spec("test.test_asyncio") is not None,
}))
"""


class Interpreter(NamedTuple):
    """A usable interpreter: has venv and ensurepip, of a supported version."""

    name: str  # "3.13", "3.14d"
    path: str
    release: str  # "3.13.0"
    debug: bool
    has_tests: bool  # CPython's own test.test_asyncio is installed

    @property
    def base(self) -> str:
        """The name of the release build whose wheels this one loads."""
        return self.name.rstrip("d")


def candidates() -> Iterator[str]:
    """Paths that may be interpreters, the preferred ones first."""
    yield getattr(sys, "_base_executable", sys.executable)
    yield from pyenv_versions()
    listed = Path(os.environ.get("PYTHONS_LIST", Path.home() / ".pythons" / "list.tsv"))
    if listed.is_file():
        for line in listed.read_text().splitlines():
            yield line.partition("\t")[2]
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        yield from filter(None, map(shutil.which, (f"python3.{minor}", f"python3.{minor}t")))
    yield from filter(None, [shutil.which("python3")])


def pyenv_versions() -> list[str]:
    """pyenv's interpreters, the newest release first."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = []
    for folder in (root / "versions").glob("3.*"):
        numbers = re.fullmatch(r"3\.(\d+)\.(\d+)", folder.name)
        if numbers and (folder / "bin" / "python3").exists():
            found.append((int(numbers[1]), int(numbers[2]), str(folder / "bin" / "python3")))
    return [path for _, _, path in sorted(found, reverse=True)]


def probe(path: str) -> Interpreter | None:
    """What `path` is, or None if it is no use."""
    try:
        answer = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode:
        return None
    facts = json.loads(answer.stdout)
    version = tuple(facts["version"])
    oldest = OLDEST_FREE_THREADED if facts["free_threaded"] else OLDEST
    if not facts["cpython"] or not oldest <= version <= NEWEST:
        return None
    suffix = "t" * facts["free_threaded"] + "d" * facts["debug"]
    name = f"{version[0]}.{version[1]}{suffix}"
    return Interpreter(name, path, facts["release"], facts["debug"], facts["tests"])


def interpreters() -> list[Interpreter]:
    """One interpreter per name; the one that runs this first, then by version."""
    found: dict[str, Interpreter] = {}
    seen = set()
    for path in candidates():
        if path in seen:
            continue
        seen.add(path)
        interpreter = probe(path)
        if interpreter is not None:
            found.setdefault(interpreter.name, interpreter)
    first, *rest = found.values()
    return [first, *sorted(rest, key=lambda i: (int(i.base[2:].rstrip("t")), i.name))]


def main() -> None:
    """Print the list."""
    for interpreter in interpreters():
        print(f"{interpreter.name}\t{interpreter.path}")


if __name__ == "__main__":
    main()
