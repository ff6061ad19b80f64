"""Ten thousand idle connections: all work, and each takes little memory.

Run on asyncio and on mioloop alike, each in a process of its own (idle_connections.py) that may
open so many files.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 10_000
SCRIPT = Path(__file__).with_name("idle_connections.py")

# What uvloop 0.23 takes on CPython 3.13; asyncio takes 2,990 bytes there and mioloop 830.
MOST_BYTES = 1290


@pytest.mark.slow
def test_ten_thousand_idle_connections(loop_kind: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < COUNT + 100:
        pytest.skip(f"a process may open {hard} files, and not more if it asks")
    made = subprocess.run(
        [sys.executable, str(SCRIPT), loop_kind, str(COUNT)],
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    found = json.loads(made.stdout)
    assert (found["answered"], found["left"]) == (COUNT, 0)
    if loop_kind == "mioloop":
        assert found["bytes"] <= MOST_BYTES
