"""The measured process, fresh for every cell; started by `runner.py` and `instructions.py`.

    python -m benchmarks.worker operation NAME LOOP SECONDS   prints what was measured
    python -m benchmarks.worker serve KIND LOOP [PATH] [CERTIFICATE]   prints its port and serves
    python -m benchmarks.worker count NAMES LOOP LIBRARY      operations under valgrind

LOOP is MODULE:FACTORY. What is printed are lines of JSON; an exception is one of them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import time
from ctypes import CDLL, c_char_p
from typing import Any

from benchmarks.operations import OPERATIONS, Operation
from benchmarks.servers import SERVERS, Options

# With this in its environment, a server counts between SIGUSR1 and SIGUSR2.
COUNTER = "BENCHMARKS_COUNTER"
# Under valgrind a program is fifty times as slow.
MOST_COUNTED = 1_000
# Bytes; glibc learns from blocks of up to 32 MiB.
SETTLING = 4 * 1024 * 1024


def say(**what: Any) -> None:
    """Print a line for the parent."""
    print(json.dumps(what), flush=True)


def aiofastnet_on_uvloop() -> asyncio.AbstractEventLoop:
    """uvloop with aiofastnet's transports, `sock_*` and TLS."""
    aiofastnet = importlib.import_module("aiofastnet")
    uvloop = importlib.import_module("uvloop")
    loop: asyncio.AbstractEventLoop = aiofastnet.loop_factory(uvloop.new_event_loop)()
    return loop


def make_loop(spec: str) -> asyncio.AbstractEventLoop:
    """The loop that MODULE:FACTORY makes."""
    module, _, factory = spec.partition(":")
    loop: asyncio.AbstractEventLoop = getattr(importlib.import_module(module), factory)()
    return loop


async def timed(operation: Operation, seconds: float) -> None:
    """Repeat an operation until the time is up; it runs once before."""
    loop = asyncio.get_running_loop()
    body, count = operation
    await body(loop, count)
    calls = 0
    cpu, began = time.process_time(), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        await body(loop, count)
        calls += 1
    cpu = time.process_time() - cpu
    say(operations=calls * count, seconds=elapsed, cpu_seconds=cpu)


async def counted(names: list[str], counter: CDLL) -> None:
    """Count the instructions of some operations."""
    loop = asyncio.get_running_loop()
    for name in names:
        body, count = OPERATIONS[name]
        count = min(count, MOST_COUNTED)
        try:
            await body(loop, count)
            counter.start_counting()
            await body(loop, count)
            counter.stop_counting(name.encode())
            say(name=name, operations=count)
        except Exception as error:
            say(name=name, error=type(error).__name__, detail=str(error))


def load_counter(path: str) -> CDLL:
    """The library of native/callgrind.c."""
    counter = CDLL(path)
    counter.stop_counting.argtypes = [c_char_p]
    return counter


def settle_memory() -> None:
    """Free a large block, as a program has done that is about its business.

    Until then glibc maps each block of 128 KiB and more for itself and unmaps it when it is freed,
    and afterwards never again. Who reads into 256 KiB that are new each time would be four times
    as slow, or not, by what else was freed: a record that came in two parts is enough.
    """
    bytes(SETTLING)


async def serve(kind: str, options: Options) -> None:
    """Serve until the process is killed."""
    settle_memory()
    loop = asyncio.get_running_loop()
    running = await SERVERS[kind](options)
    if COUNTER in os.environ:
        counter = load_counter(os.environ[COUNTER])

        def start() -> None:
            say(counting=True)
            counter.start_counting()

        def stop() -> None:
            counter.stop_counting(kind.encode())
            say(counting=False)

        loop.add_signal_handler(signal.SIGUSR1, start)
        loop.add_signal_handler(signal.SIGUSR2, stop)
    say(ready=running.port)
    await loop.create_future()


def main(what: str, name: str, spec: str, *rest: str) -> None:
    """Do what the command line says."""
    loop = make_loop(spec)
    # Some loops are no AbstractEventLoop.
    with contextlib.suppress(TypeError):
        asyncio.set_event_loop(loop)
    if what == "operation":
        loop.run_until_complete(timed(OPERATIONS[name], float(rest[0])))
    elif what == "count":
        loop.run_until_complete(counted(name.split(","), load_counter(rest[0])))
    elif what == "serve":
        loop.run_until_complete(serve(name, Options(*rest)))
    else:
        raise ValueError(what)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (NotImplementedError, AttributeError) as error:
        say(error="unsupported", detail=repr(error))
    except Exception as error:
        say(error=type(error).__name__, detail=str(error))
    finally:
        # The end of a process is not what is measured, and some loops do not come to it.
        sys.stdout.flush()
        os._exit(0)
