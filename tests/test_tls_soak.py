"""TLS for a long time: connections come and go, half of the peers misbehave, and nothing grows.

mioloop runs in a process of its own (tls_soak.py), once with each of its engines. Takes ten
seconds each, or $MIOLOOP_SOAK_SECONDS.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from child_script import environment

SECONDS = float(os.environ.get("MIOLOOP_SOAK_SECONDS", "10"))
SCRIPT = Path(__file__).with_name("tls_soak.py")
# KiB. Connections that leaked would be ten times as much, in ten seconds.
MAX_GROWTH = 2048


def start(role: str, **variables: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-Wignore", str(SCRIPT), role, str(SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment(), **variables},
        text=True,
    )


def say(process: Any, line: str) -> None:
    process.stdin.write(line + "\n")
    process.stdin.flush()


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has no ssl_shutdown_timeout")
@pytest.mark.parametrize("engine", ["direct", "portable"])
def test_nothing_grows_while_peers_misbehave(engine: str) -> None:
    libssl = {"direct": "1", "portable": "0"}[engine]
    subject, peer = processes = start("subject", MIOLOOP_LIBSSL=libssl), start("peer")
    try:
        ports = [process.stdout.readline().strip() for process in processes]
        say(subject, ports[1])
        say(peer, ports[0])
        assert subject.stdout.readline() == "end\n"
        say(peer, "end")
        done = json.loads(peer.stdout.readline())
        say(subject, "end")
        report = json.loads(subject.stdout.readline())
        assert [process.wait(30) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    memory, descriptors = zip(*report["samples"], strict=True)
    print(engine, report["made"], report["failed"], done, memory, descriptors)
    # Every way was taken, and half of all behaved.
    assert min(done.values()) > 0
    assert sum(done.values()) > SECONDS * 10
    # A quarter of the time is for warming up.
    quarter = len(memory) // 4
    early, late = memory[quarter : 2 * quarter], memory[-quarter:]
    assert min(late) - min(early) < MAX_GROWTH
    assert report["left"] == 0
    assert max(descriptors) < 100
