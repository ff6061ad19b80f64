"""What a run needs, made inside the checkout: an interpreter with mioloop and the others, the load
generator, the server in C, valgrind's counter. And what it was: versions, the machine.

Called by `__main__.py`. What cannot be built here is said in one line, and its rows are left out.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

from check import Checks, install, venv_python  # noqa: E402
from pythons import Interpreter, interpreters  # noqa: E402

# The newest first; there are wheels of everything in the dependency group `bench` for them.
PYTHONS = ("3.14", "3.13", "3.12", "3.11")
NATIVE = ROOT / "benchmarks" / "native"
TARGET = ROOT / "target" / "benchmarks"
LOAD = TARGET / "release" / "load"
CERTIFICATE = ROOT / "tests" / "certs" / "server.pem"
COMPARED = ("mioloop", "uvloop", "rloop", "aiofastnet", "uvicorn", "httptools", "aiohttp")


class Missing(Exception):
    """The run cannot begin; the text says what to do."""


@dataclass
class Environment:
    """Where to measure."""

    python: Path
    limit: Path = TARGET / "limit"
    limits: set[str] = field(default_factory=set)  # what native/limit.c was built for
    counter: Path = TARGET / "callgrind.so"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of measured processes: none of the caller's switches for Python."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def versions(self) -> dict[str, str]:
        """Of everything that takes part."""
        script = (
            "import importlib.metadata as m, json, platform, ssl, sys\n"
            "found = {'CPython': platform.python_version()}\n"
            "for name in sys.argv[1:]:\n"
            "    try: found[name] = m.version(name)\n"
            "    except m.PackageNotFoundError: pass\n"
            "found['OpenSSL'] = ssl.OPENSSL_VERSION.split()[1]\n"
            "print(json.dumps(found))"
        )
        command = [str(self.python), "-c", script, *COMPARED]
        found: dict[str, str] = json.loads(subprocess.check_output(command, text=True))
        if shutil.which("wrk"):
            # It prints its version with its usage, and exits with 1.
            wrk = subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True)
            found["wrk"] = wrk.stdout.split(" [")[0].removeprefix("wrk ").removeprefix("debian/")
        return found


def prepare(name: str) -> Environment:
    """Install and build everything; `name` names an interpreter as scripts/pythons.py does."""
    found = interpreters()
    environment = Environment(install_loops(found, choose(found, name)))
    build_load()
    environment.limits = build_limit(environment.limit)
    return environment


def choose(found: list[Interpreter], name: str) -> Interpreter:
    """The interpreter of that name, or the first of PYTHONS that is here."""
    by_name = {interpreter.name: interpreter for interpreter in found}
    wanted = (name,) if name else PYTHONS
    for one in wanted:
        if one in by_name:
            return by_name[one]
    raise Missing(f"no Python {' or '.join(wanted)} was found; there are: {', '.join(by_name)}")


def install_loops(found: list[Interpreter], interpreter: Interpreter) -> Path:
    """A virtual environment with all loops, mioloop's wheel built from this checkout."""
    checks = Checks(found, jobs=1)
    checks.stage = "bench"
    if not install(checks, interpreter, "bench"):
        raise Missing("the loops could not be installed (see above)")
    return venv_python(interpreter, "bench")


def succeeds(command: list[str], quiet: bool = False) -> bool:
    """Whether a command is there and ends well; says why not, unless quiet."""
    errors = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, check=False, stderr=errors).returncode == 0
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return False


def build_load() -> None:
    """The load generator."""
    manifest = ROOT / "benchmarks" / "load" / "Cargo.toml"
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    command += ["--manifest-path", str(manifest), "--target-dir", str(TARGET)]
    if not succeeds(command):
        raise Missing("the load generator could not be built (see above)")


def build_limit(limit: Path) -> set[str]:
    """The server in C; with TLS where OpenSSL's headers are."""
    command = ["cc", "-O2", "-o", str(limit), str(NATIVE / "limit.c")]
    tls = [*command, "-DWITH_TLS", "-lssl", "-lcrypto"]
    if succeeds(tls, quiet=True):
        return {"tcp", "unix", "udp", "http", "tls"}
    if succeeds(command):
        print("No limit for TLS is measured: OpenSSL's headers are missing (libssl-dev).")
        return {"tcp", "unix", "udp", "http"}
    print("No limit is measured: native/limit.c could not be built.")
    return set()


def build_counter(counter: Path) -> None:
    """What lets a program say to valgrind what to count."""
    if not shutil.which("valgrind"):
        raise Missing("counting instructions needs valgrind; on Debian and Ubuntu install valgrind")
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(counter), str(NATIVE / "callgrind.c")]
    if not succeeds(command):
        raise Missing("native/callgrind.c could not be built (see above)")


def about(command: str) -> dict[str, str]:
    """The date, the machine and the command, as they are shown."""
    model = "processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{model}, {cores} cores, {gib:.0f} GiB, {platform.machine()}",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "command": command,
    }
