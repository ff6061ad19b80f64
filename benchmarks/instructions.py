"""Counts instructions per operation, which noise cannot move: operations and 1 KiB echoes run under
valgrind's callgrind, in user space only.

Called by `__main__.py` for `--instructions`. Operations: one process a loop, each counted after it
ran once. Servers: one process a server, which counts from one signal to the next while messages
are exchanged one after the other.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from benchmarks.environment import CERTIFICATE, ROOT, Environment
from benchmarks.results import Measured, Results, Series
from benchmarks.rows import KIB, LOOPS, Row, loops_for
from benchmarks.worker import COUNTER

UNIT = "instructions"
PATIENCE = 300  # seconds
MESSAGES = 500
# Their threads and processes run at the pace of the machine, not of the loop.
NOT_COUNTED = ("call_soon_threadsafe", "wake_up", "run_in_executor", "getaddrinfo", "subprocess")
LABEL = re.compile(r"Client Request: (\w+)")
TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def countable(rows: list[Row]) -> list[Row]:
    """The rows of which instructions can be counted."""
    return [
        row
        for row in rows
        if (row.operation and row.name not in NOT_COUNTED)
        or (row.load == "echo" and row.size == KIB and row.limit in ("tcp", "unix"))
    ]


def count(environment: Environment, results: Results, rows: list[Row], loops: list[str]) -> None:
    """Fill in the results."""
    for row in rows:
        names = loops_for(row, loops)
        measured = Measured(
            row.name, row.group, row.title, UNIT, {name: Series() for name in names}
        )
        results.rows.append(measured)
    for number, loop in enumerate(loops, 1):
        print(f"[{number}/{len(loops)}] instructions on {loop}, about a minute", flush=True)
        names = [row.name for row in rows if row.operation and loop in loops_for(row, [loop])]
        counts = count_operations(environment, names, loop) if names else {}
        for row, measured in zip(rows, results.rows, strict=True):
            if loop in measured.series:
                value = (
                    counts.get(row.name) if row.operation else count_server(environment, row, loop)
                )
                measured.series[loop].add(value, error="" if value else "not counted")


def callgrind(folder: str, environment: Environment, *arguments: str) -> list[str]:
    """The command that runs worker.py under valgrind."""
    return [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={folder}/count",
        str(environment.python),
        "-m",
        "benchmarks.worker",
        *arguments,
    ]


def totals(folder: str) -> dict[str, int]:
    """What was counted, by label."""
    found = {}
    for path in Path(folder).glob("count*"):
        text = path.read_text(errors="replace")
        label, total = LABEL.search(text), TOTAL.search(text)
        if label and total:
            found[label[1]] = int(total[1])
    return found


def start(command: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
    """A worker under callgrind, whose dicts and sets are the same each time."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**variables, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def count_operations(environment: Environment, names: list[str], loop: str) -> dict[str, float]:
    """Instructions per operation, by name."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        command = callgrind(
            folder, environment, "count", ",".join(names), LOOPS[loop], str(environment.counter)
        )
        variables = environment.variables
        # What was said before a crash counts.
        process = start(command, variables)
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        answers = [json.loads(line) for line in said.splitlines()]
        counted = totals(folder)
    return {
        answer["name"]: counted[answer["name"]] / answer["operations"]
        for answer in answers
        if answer.get("name") in counted and "operations" in answer
    }


def count_server(environment: Environment, row: Row, loop: str) -> float | None:
    """Instructions per message."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = f"{folder}/socket"
        command = callgrind(
            folder, environment, "serve", row.server, LOOPS[loop], path, str(CERTIFICATE)
        )
        variables = {**environment.variables, COUNTER: str(environment.counter)}
        process = start(command, variables)
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline() or '{"error": "crash"}')
            if "error" in ready:
                return None
            with connect(ready["ready"], path) as peer:
                exchange(peer, row.size, 50)
                process.send_signal(signal.SIGUSR1)
                process.stdout.readline()
                exchange(peer, row.size, MESSAGES)
                process.send_signal(signal.SIGUSR2)
                process.stdout.readline()
        except OSError:
            return None
        finally:
            process.kill()
            process.wait()
        total = totals(folder).get(row.server)
    return total / MESSAGES if total else None


def connect(port: int, path: str) -> socket.socket:
    """A connection that gives up after a while."""
    if port:
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE)
    peer.connect(path)
    return peer


def exchange(peer: socket.socket, size: int, times: int) -> None:
    """Send a message and wait until it is back, some times over."""
    message = bytes(size)
    for _ in range(times):
        peer.sendall(message)
        left = size
        while left:
            data = peer.recv(left)
            if not data:
                raise ConnectionError("the server closed the connection")
            left -= len(data)
