"""The crate examples/rust_futures: tokio and the loop await each other.

`make test STAGES=examples` builds it and runs this; without it these tests are skipped.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import mioloop
import pytest

rust_futures = pytest.importorskip(
    "rust_futures", reason="examples/rust_futures is not built: make test STAGES=examples"
)

BATCH = 1000  # futures at a time


def wait_until(condition):
    """Wait for what happens on tokio's threads. Fails after 10 s."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


async def until(condition):
    """The same, while the loop runs."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def add_up(count):
    """The sum of `count` results of Rust."""
    total = 0
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        total += sum(await asyncio.gather(*(rust_futures.add(n, 1) for n in numbers)))
    return total


def test_python_awaits_rust(run):
    async def main():
        future = rust_futures.add(1, 2)
        assert future.get_loop() is asyncio.get_running_loop()
        assert asyncio.isfuture(future)
        return await future

    assert run(main()) == 3


def test_the_loop_goes_on_while_rust_works(run):
    async def main():
        future = rust_futures.sleep(0.02, "slept")
        turns = 0
        while not future.done():
            turns += 1
            await asyncio.sleep(0)
        return turns, await future

    turns, result = run(main())
    assert turns > 1
    assert result == "slept"


def test_rust_awaits_python(run):
    async def double(number):
        await asyncio.sleep(0)
        return threading.get_ident(), asyncio.get_running_loop(), number * 2

    async def main():
        return asyncio.get_running_loop(), await rust_futures.call(double, 21)

    loop, (thread, its_loop, result) = run(main())
    assert thread == threading.get_ident()
    assert its_loop is loop
    assert result == 42


def test_each_awaits_the_other_many_levels_deep(run):
    async def down(level):
        if level == 0:
            return await rust_futures.add(0, 0)
        return 1 + await rust_futures.call(down, level - 1)

    assert run(down(50)) == 50


def test_a_coroutine_that_rust_awaits_has_its_callers_context(run):
    name = contextvars.ContextVar("name")

    async def read():
        return name.get()

    async def main():
        name.set("caller")
        return await rust_futures.call(read)

    assert run(main()) == "caller"


def test_an_exception_of_rust_is_pythons(run):
    async def main():
        with pytest.raises(ValueError, match="does not fit"):
            await rust_futures.add(2**63 - 1, 1)

    run(main())


def test_an_exception_of_a_coroutine_passes_through_rust_as_it_is(run):
    error = ZeroDivisionError("mine")

    async def fail():
        raise error

    async def main():
        with pytest.raises(ZeroDivisionError) as caught:
            await rust_futures.call(fail)
        assert caught.value is error

    run(main())


def test_rust_catches_an_exception_of_a_coroutine(run):
    async def look_up(table, key):
        await asyncio.sleep(0)
        return table[key]

    async def main():
        assert await rust_futures.call_or("none", look_up, {"a": 1}, "a") == 1
        assert await rust_futures.call_or("none", look_up, {"a": 1}, "b") == "none"
        with pytest.raises(TypeError):
            await rust_futures.call_or("none", look_up, None, "b")

    run(main())


def test_a_coroutine_that_cancels_itself_is_cancelled_for_rust_too(run):
    async def give_up():
        raise asyncio.CancelledError

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await rust_futures.call(give_up)

    run(main())


def test_cancelling_the_future_drops_that_of_rust(run):
    async def main():
        before = rust_futures.alive()
        future = rust_futures.sleep(3600, None)
        assert rust_futures.alive() == before + 1
        await asyncio.sleep(0)
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await until(lambda: rust_futures.alive() == before)

    run(main())


def test_a_timeout_of_asyncio_ends_the_future_of_rust(run):
    async def main():
        before = rust_futures.alive()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rust_futures.sleep(3600, None), 0.01)
        await until(lambda: rust_futures.alive() == before)

    run(main())


def test_a_timeout_of_tokio_cancels_the_coroutine(run):
    async def main():
        cancelled = asyncio.Event()

        async def wait_for_ever():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        with pytest.raises(TimeoutError, match="tokio's clock"):
            await rust_futures.call_within(0.01, wait_for_ever)
        await asyncio.wait_for(cancelled.wait(), 10)

    run(main())


def test_cancelling_reaches_a_coroutine_through_rust(run):
    async def main():
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def wait_for_ever():
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        before = rust_futures.alive()
        future = rust_futures.call(wait_for_ever)
        await began.wait()
        future.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)
        assert future.cancelled()
        await until(lambda: rust_futures.alive() == before)

    run(main())


def test_a_loop_may_close_before_rust_is_done(new_loop):
    before = rust_futures.alive()
    loop = new_loop()

    async def main():
        return rust_futures.sleep(0.05, None)

    future = loop.run_until_complete(main())
    loop.close()
    wait_until(lambda: rust_futures.alive() == before)
    assert not future.done()


def test_loops_in_several_threads(loop_factory):
    sums = []

    def work():
        loop = loop_factory()
        try:
            sums.append(loop.run_until_complete(add_up(2000)))
        finally:
            loop.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [2000 * 2001 // 2] * 4


def test_many_completions(run):
    before = rust_futures.alive()
    assert run(add_up(10_000)) == 10_000 * 10_001 // 2
    assert rust_futures.alive() == before


@pytest.mark.slow
def test_a_million_completions():
    before = rust_futures.alive()
    assert mioloop.run(add_up(1_000_000)) == 1_000_000 * 1_000_001 // 2
    assert rust_futures.alive() == before
