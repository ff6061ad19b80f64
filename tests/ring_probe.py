"""What the kernel says of io_uring: is it allowed, which rings has this process, what went by them?

Used by the tests of MIOLOOP_IO_URING=1 and by the scripts that they run. Asks the kernel itself,
and nothing of the package.
"""

import contextlib
import ctypes
import os
from pathlib import Path

import pytest

SETUP, SUBMIT_ALL, PARAMETERS = 425, 1 << 7, 120  # of linux/io_uring.h
RING = "anon_inode:[io_uring]"


def rings() -> set[str]:
    """The numbers of the descriptors of rings that this process has."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(entry) == RING:
                found.add(entry.name)
    return found


def requests(ring: str) -> int:
    """How many requests the kernel has taken from a ring."""
    lines = Path(f"/proc/self/fdinfo/{ring}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("SqHead:")).split()[1])


def is_allowed() -> bool:
    parameters = ctypes.create_string_buffer(PARAMETERS)
    ctypes.c_uint32.from_buffer(parameters, 8).value = SUBMIT_ALL
    descriptor = ctypes.CDLL(None).syscall(SETUP, 1, parameters)
    if descriptor >= 0:
        os.close(descriptor)
    return bool(descriptor >= 0)


needs_ring = pytest.mark.skipif(not is_allowed(), reason="the kernel refuses io_uring")

# For a fixture `kind`: the two loops, and ours with a ring.
KINDS = ["asyncio", "mioloop", pytest.param("ring", marks=needs_ring)]
