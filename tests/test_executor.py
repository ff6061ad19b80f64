"""run_in_executor, set_default_executor, shutdown_default_executor and asyncio.to_thread.

Run on asyncio and on mioloop alike.
"""

import asyncio
import concurrent.futures
import inspect
import sys
import threading
import time
from collections.abc import Callable

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]
HAS_TIMEOUT = (
    "timeout" in inspect.signature(asyncio.BaseEventLoop.shutdown_default_executor).parameters
)


def test_runs_in_another_thread(loop: Loop) -> None:
    def work(*args: object) -> tuple[object, ...]:
        return (threading.current_thread().name, *args)

    async def main() -> None:
        future = loop.run_in_executor(None, work, 1, "two")
        assert isinstance(future, asyncio.Future)
        assert type(future) is type(loop.create_future())
        name, *args = await future
        assert name.startswith("asyncio_") and args == [1, "two"]

    loop.run_until_complete(main())


def test_errors_come_back(loop: Loop) -> None:
    def fail() -> None:
        raise LookupError("reason")

    with pytest.raises(LookupError, match="reason"):
        loop.run_until_complete(loop.run_in_executor(None, fail))


def test_an_executor_of_the_caller(loop: Loop) -> None:
    with concurrent.futures.ThreadPoolExecutor(thread_name_prefix="mine") as executor:
        future = loop.run_in_executor(executor, lambda: threading.current_thread().name)
        assert loop.run_until_complete(future).startswith("mine")


def test_set_default_executor(loop: Loop) -> None:
    # 3.10 warned of it.
    with pytest.raises((TypeError, DeprecationWarning), match="ThreadPoolExecutor"):
        loop.set_default_executor(object())  # type: ignore[arg-type]
    executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="chosen")
    loop.set_default_executor(executor)
    future = loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert loop.run_until_complete(future).startswith("chosen")
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError):
        executor.submit(print)


def test_the_loop_runs_while_a_thread_works(loop: Loop) -> None:
    async def main() -> int:
        release, turns = threading.Event(), 0
        future = loop.run_in_executor(None, release.wait, 10)
        for _ in range(10):
            await asyncio.sleep(0)
            turns += 1
        release.set()
        assert await future is True
        return turns

    assert loop.run_until_complete(main()) == 10


def test_a_result_wakes_an_idle_loop(loop: Loop) -> None:
    async def main() -> None:
        for delay in (0.0, 0.001, 0.01):
            await asyncio.wait_for(loop.run_in_executor(None, time.sleep, delay), 5)

    loop.run_until_complete(main())


def test_many_jobs(loop: Loop) -> None:
    async def main() -> list[int]:
        jobs = (loop.run_in_executor(None, pow, number, 2) for number in range(500))
        return await asyncio.gather(*jobs)

    assert loop.run_until_complete(main()) == [number**2 for number in range(500)]


def test_cancelling_the_future_cancels_a_job_not_yet_begun(loop: Loop) -> None:
    ran: list[int] = []

    async def main() -> None:
        release = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            busy = loop.run_in_executor(executor, release.wait, 10)
            queued = loop.run_in_executor(executor, ran.append, 1)
            queued.cancel()
            await asyncio.sleep(0)
            release.set()
            await busy
        assert queued.cancelled()

    loop.run_until_complete(main())
    assert ran == []


def test_shutdown_waits_for_the_jobs(loop: Loop) -> None:
    done: list[int] = []

    def work() -> None:
        time.sleep(0.01)
        done.append(1)

    async def main() -> None:
        loop.run_in_executor(None, work)
        await loop.shutdown_default_executor()
        assert done == [1]
        with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
            loop.run_in_executor(None, work)

    loop.run_until_complete(main())


def test_shutdown_of_an_unused_executor(loop: Loop) -> None:
    async def main() -> None:
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
            loop.run_in_executor(None, print)
        with concurrent.futures.ThreadPoolExecutor() as executor:
            assert await loop.run_in_executor(executor, abs, -1) == 1

    loop.run_until_complete(main())


@pytest.mark.skipif(not HAS_TIMEOUT, reason="shutdown_default_executor(timeout) is new in 3.12")
def test_shutdown_timeout_is_honoured(loop: Loop, loop_kind: str) -> None:
    if loop_kind == "asyncio" and sys.version_info < (3, 13):
        pytest.skip("asyncio of early 3.12 waited for the threads all the same")
    release = threading.Event()
    started = threading.Event()

    def work() -> None:
        started.set()
        release.wait(10)

    async def main() -> None:
        loop.run_in_executor(None, work)
        started.wait(5)
        before = time.monotonic()
        with pytest.warns(RuntimeWarning, match="The executor did not finishing joining"):
            await loop.shutdown_default_executor(timeout=0.05)  # type: ignore[call-arg]
        assert 0.04 < time.monotonic() - before < 5

    loop.run_until_complete(main())
    release.set()


def test_close_does_not_wait_for_jobs(new_loop: NewLoop) -> None:
    loop = new_loop()
    release, started = threading.Event(), threading.Event()
    loop.run_in_executor(None, lambda: (started.set(), release.wait(10)))
    assert started.wait(5)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert loop.is_closed()
    release.set()


def test_to_thread(loop: Loop) -> None:
    async def main() -> int:
        return await asyncio.to_thread(divmod, 17, 5)

    assert loop.run_until_complete(main()) == (3, 2)


def test_debug_mode_refuses_coroutine_functions(loop: Loop) -> None:
    async def coroutine_function() -> None: ...

    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"):
        loop.run_in_executor(None, coroutine_function)
    with pytest.raises(TypeError, match=r"^a callable object was expected by run_in_executor\(\)"):
        loop.run_in_executor(None, "text")  # type: ignore[arg-type]
