#!/usr/bin/env python3
"""Builds what is released: a wheel for each Python, and the sdist, into dist/; tries what it can.

    scripts/wheels.py [3.13 3.14t ...]            (default: all of `PYTHONS`)

Run by `make wheels` and the release workflow, from an environment with the dependency group
`wheels`; check.py uses `problems`. zig links against the oldest glibc that Rust supports, whatever
this machine has. No Python but the one that runs this is needed to build: maturin knows how the
others are configured. Those that are installed here import their wheel and run a server on it, and
the oldest and the newest of them build the sdist with pip alone. Exit status 1 if anything failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from pythons import Interpreter, interpreters

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.14t", "3.15", "3.15t")
GLIBC = "manylinux_2_17"  # also called manylinux2014
MAX_BYTES = 3 * 1024 * 1024
FILES = ("__init__.py", "_native.pyi", "py.typed")

SMOKE = """
import asyncio, mioloop

async def answer(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()

async def main():
    assert type(asyncio.get_running_loop()) is mioloop.Loop
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        assert await reader.read() == b"HELLO\\n"
        writer.close()

mioloop.run(main())
"""


def main() -> int:
    """The exit status."""
    wanted = sys.argv[1:] or list(PYTHONS)
    shutil.rmtree(DIST, ignore_errors=True)
    maturin = [sys.executable, "-m", "maturin"]
    names = [word for name in wanted for word in ("--interpreter", f"python{name}")]
    build = [*maturin, "build", "--release", "--locked", "--zig", "--compatibility", GLIBC]
    # maturin looks for zig by the first Python of PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path}
    subprocess.run([*build, *names, "--out", str(DIST)], check=True, cwd=ROOT, env=environment)
    subprocess.run([*maturin, "sdist", "--out", str(DIST)], check=True, cwd=ROOT)
    wheels = sorted(DIST.glob("*.whl"))
    failures = 0 if len(wheels) == len(wanted) else 1
    for wheel in wheels:
        wrong = problems(wheel)
        if GLIBC not in wheel.name:
            wrong.append(f"not for {GLIBC}")
        failures += bool(wrong)
        print(f"{wheel.name}: {wheel.stat().st_size / 1024:.0f} KiB", *wrong, sep="\n    ")
    present = [i for i in interpreters() if i.name in wanted]
    present.sort(key=lambda i: int(i.base[2:].rstrip("t")))
    for interpreter in present:
        failures += not works(interpreter, next(DIST.glob(f"*-{abi_tags(interpreter.name)}-*.whl")))
    for interpreter in present[:1] + present[1:][-1:]:
        failures += not works(interpreter, next(DIST.glob("*.tar.gz")))
    left = [name for name in wanted if name not in {i.name for i in present}]
    if left:
        print("built, and not tried, for want of the interpreter:", *left)
    return 1 if failures else 0


def abi_tags(name: str) -> str:
    """The tags of Python and ABI of, say, "3.14t"."""
    digits = name.replace(".", "")
    return f"cp{digits.rstrip('t')}-cp{digits}"


def problems(wheel: Path) -> list[str]:
    """What is wrong with its size and its contents."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    wrong = [f"mioloop/{name} is missing" for name in FILES if f"mioloop/{name}" not in names]
    extensions = [name for name in names if name.endswith(".so")]
    if len(extensions) != 1:
        wrong.append(f"extension modules: {extensions}")
    wrong += [
        f"{name} has no place in it"
        for name in names
        if not re.match(r"mioloop(-[^/]*\.dist-info)?/", name) or "__pycache__" in name
    ]
    size = wheel.stat().st_size
    if size > MAX_BYTES:
        wrong.append(f"{size} bytes, at most {MAX_BYTES}")
    return wrong


def works(interpreter: Interpreter, package: Path) -> bool:
    """Install it with pip alone into a new environment, and run a program on it."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        install = ("-m", "pip", "install", "-q", "--disable-pip-version-check", package)
        for command in (
            (interpreter.path, "-m", "venv", python.parent.parent),
            (python, *install),
            (python, "-W", "error", "-c", SMOKE),
        ):
            done = subprocess.run([str(word) for word in command], cwd=folder)
            if done.returncode:
                print(f"{interpreter.name}: {package.name} does not work")
                return False
    print(f"{interpreter.name}: {package.name} works")
    return True


if __name__ == "__main__":
    sys.exit(main())
