"""Measures rows: all loops in turn, round after round, each cell in a fresh process.

Called by `__main__.py`. Where there are two processors, the measured process has one and what puts
it under load the other. A loop that crashes, hangs or lacks something is a cell of the results.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.environment import CERTIFICATE, LOAD, ROOT, Environment
from benchmarks.progress import Progress
from benchmarks.results import Measured, Results, Series
from benchmarks.rows import LIMIT, LOOPS, Row, loops_for

WARMUP = 0.15  # seconds under load that are not measured
PATIENCE = 30  # seconds beyond those that a cell is meant to take
START = Path(__file__).parent / "startup.py"
WRK_RATE = re.compile(r"(\d+) requests in ([\d.]+)(ms|s|m),")
WRK_TROUBLE = re.compile(r"Non-2xx or 3xx responses: .*|Socket errors: .*")


class Failure(Exception):
    """A cell without a value."""


class Cell(NamedTuple):
    """A value in the unit of its row."""

    value: float
    cpu_us: float | None


def per_operation(measured: dict[str, Any]) -> Cell:
    """Operations per second, and the processor time of one."""
    operations = measured["operations"]
    if not operations:
        raise Failure("starved: nothing was done in the time measured")
    return Cell(operations / measured["seconds"], measured["cpu_seconds"] / operations * 1e6)


class Runner:
    """Measures on one interpreter."""

    def __init__(self, environment: Environment, seconds: float) -> None:
        self.environment = environment
        self.seconds = seconds
        cpus = sorted(os.sched_getaffinity(0))
        self.measured_cpu, self.load_cpu = cpus[0], cpus[-1]
        self.folder = tempfile.TemporaryDirectory(prefix="benchmarks-")
        self.wrk = shutil.which("wrk")

    def close(self) -> None:
        """Remove what was written."""
        self.folder.cleanup()

    def run(self, results: Results, rows: list[Row], loops: list[str], progress: Progress) -> None:
        """Fill in the results."""
        for row in rows:
            names = [
                name
                for name in loops_for(row, loops)
                if name != LIMIT or row.limit in self.environment.limits
            ]
            series = {name: Series() for name in names}
            measured = Measured(row.name, row.group, row.title, row.unit, series)
            results.rows.append(measured)
            for number in range(min(results.rounds, row.most_rounds)):
                # Each begins once, so that no loop always comes after the same other one.
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    progress.cell(measured.full_title, number + 1, name)
                    self.add_cell(series[name], row, name)
            progress.row(measured)

    def add_cell(self, series: Series, row: Row, name: str) -> None:
        """Measure once; what never worked is not tried a third time."""
        if len(series.values) >= 2 and series.median is None:
            series.add(None)
            return
        try:
            cell = self.cell(row, name)
        except Failure as failure:
            series.add(None, error=str(failure))
        else:
            series.add(cell.value, cell.cpu_us)

    def cell(self, row: Row, name: str) -> Cell:
        """One measurement."""
        if row.operation:
            seconds = str(self.seconds)
            command = ["operation", row.operation, LOOPS[name], seconds]
            return per_operation(self.output(self.worker(*command), self.seconds))
        if row.server:
            with self.server(row, name) as (pid, address):
                return self.load(row, pid, address)
        measured = self.output([str(self.environment.python), str(START), LOOPS[name]], 0)
        return Cell(measured[row.unit], measured["cpu_us"] if row.unit == "ms" else None)

    def worker(self, *arguments: str) -> list[str]:
        """The command that runs worker.py."""
        return [str(self.environment.python), "-m", "benchmarks.worker", *arguments]

    def spawn(self, command: list[str], cpu: int) -> subprocess.Popen[str]:
        """A process on one processor."""
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        os.sched_setaffinity(process.pid, {cpu})
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
        return process

    def output(self, command: list[str], seconds: float, cpu: int | None = None) -> dict[str, Any]:
        """What a process prints, as JSON."""
        process = self.spawn(command, self.measured_cpu if cpu is None else cpu)
        try:
            text, _ = process.communicate(timeout=seconds * 5 + PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure("hang")
        finally:
            end(process)
        return said(text, process)

    @contextmanager
    def server(self, row: Row, name: str) -> Iterator[tuple[int, str]]:
        """A server that listens: its process's number and its address."""
        path = str(Path(self.folder.name) / "socket")
        if name == LIMIT:
            argument = {"unix": [path], "tls": [str(CERTIFICATE)]}.get(row.limit, [])
            command = [str(self.environment.limit), row.limit, *argument]
        else:
            command = self.worker("serve", row.server, LOOPS[name], path, str(CERTIFICATE))
        process = self.spawn(command, self.measured_cpu)
        try:
            assert process.stdout is not None
            if not select.select([process.stdout], [], [], PATIENCE)[0]:
                raise Failure("hang")
            port = said(process.stdout.readline(), process)["ready"]
            family = row.server if row.server == "udp" else "tcp"
            yield process.pid, f"{family}:127.0.0.1:{port}" if port else f"unix:{path}"
        except Failure:
            # A connection breaks a moment before the process is gone.
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if process.returncode:
                raise Failure(ending(process))
            raise
        finally:
            end(process)
            Path(path).unlink(missing_ok=True)

    def load(self, row: Row, pid: int, address: str) -> Cell:
        """Put a server under load."""
        if row.load == "http" and self.wrk:
            return self.load_wrk(self.wrk, row, pid, address)
        command = [str(LOAD), row.load, "--address", address, "--pid", str(pid)]
        command += ["--connections", str(row.connections), "--size", str(row.size)]
        command += ["--warmup", str(WARMUP), "--seconds", str(self.seconds)]
        if row.limit == "tls":
            command += ["--tls", str(CERTIFICATE.parent / "ca.pem")]
        measured = self.output(command, self.seconds, self.load_cpu)
        if row.load == "idle":
            return Cell(measured["bytes_per_connection"], None)
        return per_operation(measured)

    def load_wrk(self, wrk: str, row: Row, pid: int, address: str) -> Cell:
        """Put an HTTP server under load by wrk, whose shortest time is a second."""
        seconds = max(1, round(self.seconds))
        url = "http://" + address.removeprefix("tcp:") + "/"
        before = cpu_seconds(pid)
        process = self.spawn(
            [wrk, "-t1", f"-c{row.connections}", f"-d{seconds}", url], self.load_cpu
        )
        try:
            text, _ = process.communicate(timeout=seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure("hang")
        finally:
            end(process)
        found, trouble = WRK_RATE.search(text), WRK_TROUBLE.search(text)
        if trouble or not found:
            raise Failure(trouble[0] if trouble else "wrk printed no result")
        took = float(found[2]) * {"ms": 0.001, "s": 1, "m": 60}[found[3]]
        cpu = cpu_seconds(pid) - before
        return per_operation({"operations": int(found[1]), "seconds": took, "cpu_seconds": cpu})


def cpu_seconds(pid: int) -> float:
    """How long the threads of a process have run."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except OSError:  # it has just ended
            continue
    return total / 1e9


def said(text: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The last line that a process printed; a Failure if that is an error or nothing."""
    lines = text.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        end(process)
        raise Failure(ending(process))
    if "error" in answer:
        raise Failure(f"{answer['error']}: {answer['detail']}")
    return answer


def ending(process: subprocess.Popen[str]) -> str:
    """How a process ended by itself."""
    status = process.returncode
    return f"crash: {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process that still runs."""
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
