"""Measures the start of a loop: `python startup.py MODULE:FACTORY`, a script that imports little.

Prints one line of JSON: the milliseconds from before the import of the loop's module to the end of
a first coroutine, and the memory in MiB that the process has then. Called by `runner.py`.
"""

import time

wall, cpu = time.perf_counter_ns(), time.process_time_ns()

import importlib  # noqa: E402
import sys  # noqa: E402

module, _, factory = sys.argv[1].partition(":")
loop = getattr(importlib.import_module(module), factory)()


async def first() -> None:
    """A coroutine."""


loop.run_until_complete(first())
wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
with open("/proc/self/status") as status:
    [resident] = [line for line in status if line.startswith("VmRSS:")]
mib = int(resident.split()[1]) / 1024
print(f'{{"ms": {wall / 1e6:.3f}, "cpu_us": {cpu / 1e3:.1f}, "MiB": {mib:.3f}}}')
loop.close()
