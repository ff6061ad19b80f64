"""What is particular to mioloop's look-ups: numbers without a thread, threads without Python.

Runs on mioloop alone; what both loops must do is in test_dns.py. Look-ups that last are made
with a preloaded getaddrinfo (slow_resolver.c), in scripts of their own.
"""

import asyncio
import gc
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mioloop
import pytest
from child_script import Outcome, run_script

SCRIPT = """
begun, begin = os.pipe()
wait, gate = os.pipe()
os.environ.update(BEGUN=str(begin), GATE=str(wait))
loop = new_loop()

def look_up(name="slow"):
    return loop.create_task(loop.getaddrinfo(name, 80, type=1))

async def have_begun(count):
    while count:
        count -= len(await asyncio.to_thread(os.read, begun, count))

def open_gate(count):
    os.write(gate, b"g" * count)

"""

Loop = mioloop.Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = mioloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and LD_PRELOAD")
    source = Path(__file__).with_name("slow_resolver.c")
    library = tmp_path_factory.mktemp("resolver") / "slow_resolver.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    return library


@pytest.fixture
def run_slow(library: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`run_slow(script)`: the end of a script in which hosts named slow... last."""
    monkeypatch.setenv("LD_PRELOAD", str(library))
    return lambda script, warnings="error": run_script("mioloop", SCRIPT + script, "-W" + warnings)


def outcome(function: Callable[[], Any]) -> object:
    try:
        return function()
    except Exception as error:
        return type(error), error.args


def test_numbers_are_answered_as_the_socket_module_does(loop: Loop) -> None:
    hosts = [
        *("127.0.0.1", b"10.0.0.1", "::", b"::1", "::1.2.3.4", "::FFFF:1.2.3.4", "1:2:3:4:5:6:7::"),
        *("fe80::1%lo", "fe80::1%1", "ff02::1%lo", "::1%7", "::1%lo", "fe80::1%nosuch", "::1%"),
        *("127.1", "0177.0.0.1", "1.2.3.04", "1.2.3.4\0", "", "a..b", "*", None),
    ]
    ports = [None, 0, 80, 65535, 65536, -1, "80", b"080", "http", "", "8\0", True, 1.5]
    families = [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
    kinds = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET]
    # No name is sent to a server.
    numeric = int(socket.AI_NUMERICHOST)
    flags = [numeric, numeric | socket.AI_PASSIVE | socket.AI_NUMERICSERV, numeric | 1 << 20]
    # All pairs of host and port, each with a few of the rest, which take turns.
    turns = itertools.cycle(itertools.product(families, kinds, [0, 6, 17], flags))
    chosen = [(*pair, *next(turns)) for pair in itertools.product(hosts, ports) for _ in range(7)]
    numbers = itertools.product(["127.0.0.1", "::1", None], [None, 80], families, kinds, [0, 6, 17])
    chosen += [(*args, flag) for args in numbers for flag in flags[:2]]

    async def main() -> None:
        for args in chosen:
            expected = outcome(lambda args=args: socket.getaddrinfo(*args))
            try:
                host, port, *rest = args
                keywords = dict(zip(("family", "type", "proto", "flags"), rest, strict=True))
                found: object = await loop.getaddrinfo(host, port, **keywords)
            except Exception as error:
                found = (type(error), error.args)
            assert (repr(found), found) == (repr(expected), expected), args

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_numbers_take_no_turn_of_the_loop(loop: Loop) -> None:
    coroutine = loop.getaddrinfo("fe80::1%lo", "443", type=socket.SOCK_STREAM)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == socket.getaddrinfo("fe80::1%lo", 443, type=socket.SOCK_STREAM)
    names = loop.getnameinfo(("::1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    with pytest.raises(StopIteration) as stop:
        names.send(None)
    assert stop.value.value == ("::1", "80")


def test_names_take_no_thread_of_python(loop: Loop) -> None:
    before = threading.active_count()
    found = loop.run_until_complete(loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM))
    assert found == socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    name = loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80)))
    assert name == socket.getnameinfo(("127.0.0.1", 80), 0)
    assert threading.active_count() == before
    assert loop._default_executor is None


def test_a_chosen_executor_is_used(loop: Loop) -> None:
    from concurrent.futures import ThreadPoolExecutor

    loop.set_default_executor(ThreadPoolExecutor())
    before = threading.active_count()
    loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))
    assert threading.active_count() == before + 1
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match="shutdown has been called"):
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))


def test_an_audit_hook_sees_every_way() -> None:
    script = """
        seen = []
        sys.addaudithook(lambda event, args: seen.append(args) if "info" in event else None)
        async def main():
            await loop.getaddrinfo("127.0.0.1", 80)
            await loop.getaddrinfo("localhost", "80", type=1)
            await loop.getnameinfo(("127.0.0.1", 80), 3)
            await loop.getnameinfo(("127.0.0.1", 80))
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        say(seen[:4])
        """
    addresses = [("127.0.0.1", 80, 0, 0, 0), ("localhost", "80", 0, 1, 0)]
    names = [(("127.0.0.1", 80),)] * 2
    assert run_script("mioloop", script) == (0, [str([*addresses, *names])], "")


def test_a_name_lookup_of_a_loop_that_is_garbage() -> None:
    loop = mioloop.new_event_loop()
    pending = loop.getaddrinfo("localhost", 80)
    future = pending.send(None)
    assert isinstance(future, asyncio.Future)
    gone = weakref.ref(loop)
    loop.close()
    pending.close()
    del loop, future, pending
    gc.collect()
    assert gone() is None


def test_many_at_once_and_no_more_threads_than_the_cap(run_slow) -> None:
    script = """
async def main():
    tasks = [look_up(f"slow{n}") for n in range(50)]
    await have_begun(32)
    for _ in range(10):
        await asyncio.sleep(0.001)
    os.set_blocking(begun, False)
    try:
        say(os.read(begun, 1))
    except BlockingIOError:
        say("the rest waits")
    say(len(os.listdir("/proc/self/task")) - threading.active_count())
    open_gate(50)
    found = await asyncio.gather(*tasks)
    say(len(found), found[0] == found[49])
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
    assert run_slow(script) == (0, ["the rest waits", "32", "50 True"], "")


def test_a_cancelled_lookup_that_has_not_begun_never_does(run_slow) -> None:
    script = """
async def main():
    busy = [look_up() for n in range(32)]
    await have_begun(32)
    waiting = [look_up() for n in range(8)]
    await asyncio.sleep(0)
    for task in waiting[:7]:
        task.cancel()
    ends = await asyncio.gather(*waiting[:7], return_exceptions=True)
    say(type(ends[0]).__name__)
    busy[0].cancel()
    open_gate(33)
    await waiting[7]
    await asyncio.wait(busy)
    say(sum(task.cancelled() for task in busy))
    os.set_blocking(begun, False)
    say(len(os.read(begun, 99)))
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""
    assert run_slow(script) == (0, ["CancelledError", "1", "1"], "")


def test_a_loop_can_be_closed_and_the_process_can_end_meanwhile(run_slow) -> None:
    script = """
first, second = look_up(), look_up()
loop.run_until_complete(have_begun(2))
first.cancel()
second._log_destroy_pending = False
loop.run_until_complete(asyncio.wait([first]))
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
open_gate(1)
say("end")
"""
    assert run_slow(script) == (0, ["end"], "")


def test_a_child_makes_threads_of_its_own(run_slow) -> None:
    script = """
async def main():
    return (await loop.getaddrinfo("localhost", 80, family=2, type=1))[0][4]
slow = look_up()
loop.run_until_complete(have_begun(1))
loop.run_until_complete(loop.shutdown_default_executor())
loop._executor_shutdown_called = False
pid = os.fork()
if pid == 0:
    say("child", loop.run_until_complete(main()))
    slow._log_destroy_pending = False
    loop.close()
    os._exit(0)
say(os.waitpid(pid, 0)[1])
open_gate(1)
say("parent", loop.run_until_complete(main()), loop.run_until_complete(slow)[0][4])
loop.close()
"""
    address = "('127.0.0.1', 80)"
    expected = [f"child {address}", "0", f"parent {address} {address}"]
    # Python warns of a fork beside any thread.
    assert run_slow(script, "ignore") == (0, expected, "")


def test_an_error_of_the_system_is_an_os_error(run_slow) -> None:
    script = """
try:
    loop.run_until_complete(loop.getaddrinfo("broken", 80))
except OSError as error:
    say(type(error).__name__, error)
loop.close()
"""
    assert run_slow(script) == (0, ["OSError [Errno 24] Too many open files"], "")
