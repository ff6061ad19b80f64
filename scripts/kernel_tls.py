#!/usr/bin/env python3
"""Runs tests on a kernel that has TLS, which few machines for tests have: user-mode Linux.

    PYTHON scripts/kernel_tls.py tests/test_tls_kernel.py [PYTEST ARGUMENTS]

Boots `linux.uml` (Debian's package user-mode-linux; no root, some seconds) on this machine's files,
loads its module `tls`, runs pytest there with the interpreter that runs this, and ends with its
exit status. Without `linux.uml`, or where that does not come up, it says so and ends with 0: then
nothing was tested.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = Path("/usr/lib/uml/modules")
# In the order in which they need each other.
LOADED = (
    *("gf128mul", "ghash-generic", "gcm", "ctr", "seqiv"),
    *("libchacha", "chacha_generic", "libpoly1305", "poly1305_generic", "chacha20poly1305"),
    "tls",
)
FINIT_MODULE = 313  # x86-64, as the package
POWER_OFF = 0x4321FEDC
SIOCSIFFLAGS = 0x8914
UP = 0x41
TIMEOUT = 600  # seconds, for boot and tests


def main(arguments: list[str]) -> int:
    """Boot, wait, and show what the tests have printed."""
    kernel = shutil.which("linux.uml")
    if kernel is None:
        print(
            "No linux.uml here (Debian's package user-mode-linux): the kernel's TLS is not tested."
        )
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "init"
        words = [
            sys.executable,
            os.path.abspath(__file__),
            "--inside",
            name,
            os.getcwd(),
            *arguments,
        ]
        environment = [
            f"export {key}={shlex.quote(os.environ.get(key, ''))}" for key in ("HOME", "PATH")
        ]
        script.write_text("\n".join(["#!/bin/sh", *environment, shlex.join(["exec", *words]), ""]))
        script.chmod(0o755)
        command = [
            kernel,
            "rootfstype=hostfs",
            "rw",
            "mem=1G",
            f"init={script}",
            "con=null",
            "con0=fd:0,fd:1",
        ]
        booted = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if not (folder / "began").exists():
            print(
                booted.stdout[-2000:],
                "linux.uml does not come up: the kernel's TLS is not tested.",
                sep="\n",
            )
            return 0
        print((folder / "output").read_text(errors="replace"), end="")
        return int((folder / "status").read_text())


def inside(name: str, work: str, *arguments: str) -> None:
    """What the first process of the new kernel does."""
    folder = Path(name)
    (folder / "began").touch()
    status = 1
    with (folder / "output").open("w") as output:
        try:
            prepare()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
            status = subprocess.run(
                command, cwd=work, stdout=output, stderr=output, check=False
            ).returncode
        except Exception as error:
            print("Preparing the tests has failed:", repr(error), file=output)
    (folder / "status").write_text(str(status))
    os.sync()
    libc.reboot(POWER_OFF)


libc = ctypes.CDLL(None, use_errno=True)


def prepare() -> None:
    """Give the tests /proc, the loopback interface and the kernel's TLS."""
    for kind, where in (("proc", "/proc"), ("tmpfs", "/dev/shm")):
        os.makedirs(where, exist_ok=True)
        subprocess.run(["mount", "-t", kind, kind, where], check=True)
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", UP))
    tree = MODULES / os.uname().release
    for name in LOADED:
        for path in tree.rglob(f"{name}.ko"):
            with path.open("rb") as file:
                if libc.syscall(FINIT_MODULE, file.fileno(), b"", 0) != 0:
                    raise OSError(ctypes.get_errno(), f"{path.name} was not loaded")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
