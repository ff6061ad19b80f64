#!/usr/bin/env python3
"""Runs the textbook examples on mioloop and shows what they print and which loop ran them.

`make run` calls it with the interpreter that mioloop was built for. Every script of
examples/documents/ goes unchanged through `python -m mioloop`, in a process of its own; then
examples/compare.py shows mioloop beside asyncio's own loop. Exits with 1 if one of them fails.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# What `python -m mioloop SCRIPT` does, with a look at each loop that runs: asyncio itself is
# asked, from inside, which loop is the running one.
WITNESS = """
import asyncio, atexit, runpy, sys
import mioloop

seen = []
run_forever = mioloop.Loop.run_forever

def witnessed(loop):
    def look():
        running = type(asyncio.get_running_loop())
        seen.append(f"{running.__module__}.{running.__qualname__}")
    loop.call_soon(look)
    run_forever(loop)

mioloop.Loop.run_forever = witnessed
atexit.register(lambda: print("-- ran on:", ", ".join(sorted(set(seen))) or "no mioloop loop"))
sys.argv = ["mioloop", *sys.argv[1:]]
runpy.run_module("mioloop", run_name="__main__", alter_sys=True)
"""


def main() -> int:
    """Run them all; the exit status."""
    import mioloop

    print(
        f"mioloop {mioloop.__version__} on CPython {platform.python_version()} ({sys.executable})"
    )
    failed = []
    for script in sorted((EXAMPLES / "documents").glob("*.py")):
        name = script.relative_to(ROOT)
        print(f"\n== python -m mioloop {name}", flush=True)
        if subprocess.run([sys.executable, "-c", WITNESS, str(script)]).returncode:
            failed.append(str(name))
    compare = EXAMPLES / "compare.py"
    print(f"\n== python {compare.relative_to(ROOT)}", flush=True)
    if subprocess.run([sys.executable, str(compare)]).returncode:
        failed.append(str(compare.relative_to(ROOT)))
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall examples ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
