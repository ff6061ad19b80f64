"""asyncio's own tools on our tasks and futures: gather, wait, wait_for, shield, timeout, groups.

Run on asyncio and on mioloop alike. asyncio's implementation is used as it is; these tests show
that our futures and tasks carry it. Locks and queues are in test_locks_and_queues.py; the
randomised counterpart is test_fuzz_trace.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]
Run = Callable[[Any], Any]
needs_timeout = pytest.mark.skipif(not hasattr(asyncio, "timeout"), reason="new in 3.11")
needs_group = pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="new in 3.11")


async def give(value: Any, turns: int = 0) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fail(error: Exception, turns: int = 0) -> None:
    await give(None, turns)
    raise error


# gather -----------------------------------------------------------------------------------------


def test_gather_keeps_the_order(run: Run) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(give(number, 5 - number) for number in range(5)))

    assert run(main()) == [0, 1, 2, 3, 4]


def test_gather_of_nothing_and_of_the_same_twice(run: Run) -> None:
    async def main() -> None:
        assert await asyncio.gather() == []
        task = asyncio.ensure_future(give(1, 1))
        assert await asyncio.gather(task, task) == [1, 1]

    run(main())


def test_gather_raises_the_first_error_and_leaves_the_others(run: Run) -> None:
    async def main() -> None:
        slow = asyncio.ensure_future(give("slow", 5))
        with pytest.raises(LookupError, match="reason"):
            await asyncio.gather(slow, fail(LookupError("reason")))
        assert not slow.done()
        assert await slow == "slow"

    run(main())


def test_gather_returning_exceptions(run: Run) -> None:
    async def main() -> list[type]:
        cancelled = asyncio.ensure_future(give(0, 100))
        asyncio.get_running_loop().call_soon(cancelled.cancel)
        results = await asyncio.gather(
            give(1), fail(ValueError("two")), cancelled, return_exceptions=True
        )
        return [type(result) for result in results]

    assert run(main()) == [int, ValueError, asyncio.CancelledError]


def test_cancelling_gather_cancels_the_children(run: Run) -> None:
    async def main() -> None:
        children = [asyncio.ensure_future(give(0, 1000)) for _ in range(3)]
        gathering = asyncio.gather(*children)
        await asyncio.sleep(0)
        assert gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert all(child.cancelled() for child in children)

    run(main())


# wait, as_completed, wait_for, shield -----------------------------------------------------------


def test_wait_first_completed_and_first_exception(run: Run) -> None:
    async def main() -> None:
        quick, slow = (asyncio.ensure_future(give(n, n)) for n in (1, 50))
        done, pending = await asyncio.wait([quick, slow], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {slow})
        failing = asyncio.ensure_future(fail(ValueError(), 2))
        done, pending = await asyncio.wait([slow, failing], return_when=asyncio.FIRST_EXCEPTION)
        assert done == {failing} and isinstance(failing.exception(), ValueError)
        assert pending == {slow}
        done, pending = await asyncio.wait([slow])
        assert (done, pending) == ({slow}, set())

    run(main())


def test_wait_with_a_timeout(run: Run) -> None:
    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        assert await asyncio.wait([never], timeout=0.002) == (set(), {never})
        assert not never.cancelled()

    run(main())


def test_as_completed(run: Run) -> None:
    async def main() -> list[int]:
        return [
            await next_one for next_one in asyncio.as_completed([give(n, n) for n in (3, 1, 2)])
        ]

    assert run(main()) == [1, 2, 3]


def test_as_completed_with_a_timeout(run: Run) -> None:
    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        with pytest.raises(asyncio.TimeoutError):
            for next_one in asyncio.as_completed([never], timeout=0.002):
                await next_one

    run(main())


def test_wait_for(run: Run) -> None:
    async def main() -> None:
        assert await asyncio.wait_for(give(1, 3), 10) == 1
        assert await asyncio.wait_for(give(2, 3), None) == 2
        with pytest.raises(LookupError):
            await asyncio.wait_for(fail(LookupError(), 1), 10)
        never = asyncio.ensure_future(asyncio.sleep(1000))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(never, 0.002)
        assert never.cancelled()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0)

    run(main())


def test_wait_for_is_cancelled_from_outside(run: Run) -> None:
    async def main() -> None:
        inner = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(asyncio.wait_for(inner, 1000))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert inner.cancelled()

    run(main())


def test_shield(run: Run) -> None:
    async def main() -> None:
        inner = asyncio.ensure_future(give("kept", 50))
        outer = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(inner), 1000))
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert not inner.done() and await inner == "kept"
        assert await asyncio.shield(give("through")) == "through"

    run(main())


def test_shield_reports_an_error_nobody_waits_for_any_more(loop: Loop) -> None:
    """From 3.14 on at once and by shield; before, when the inner task is collected."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))

    async def main() -> None:
        shielded = asyncio.shield(fail(ValueError("lost"), 2))
        await asyncio.sleep(0)
        shielded.cancel()
        del shielded
        await give(None, 5)

    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0))
    assert [str(report["exception"]) for report in reports] == ["lost"]


# timeout, TaskGroup ------------------------------------------------------------------------------


@needs_timeout
def test_timeout(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.002) as scope:
                await asyncio.sleep(1000)
        assert scope.expired()
        async with asyncio.timeout(1000) as scope:
            await asyncio.sleep(0)
            scope.reschedule(None)
            assert scope.when() is None
        assert not scope.expired()
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run(main())


@needs_timeout
def test_nested_timeouts(run: Run) -> None:
    async def main() -> list[str]:
        log = []
        try:
            async with asyncio.timeout(0.002):
                try:
                    async with asyncio.timeout(1000):
                        await asyncio.sleep(1000)
                except TimeoutError:
                    log.append("inner")
        except TimeoutError:
            log.append("outer")
        return log

    assert run(main()) == ["outer"]


@needs_group
def test_task_group(run: Run) -> None:
    async def main() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(give(n, n), name=f"child {n}") for n in range(4)]
        assert tasks[2].get_name() == "child 2"
        return [task.result() for task in tasks]

    assert run(main()) == [0, 1, 2, 3]


@needs_group
def test_task_group_fails_together(run: Run) -> None:
    async def main() -> None:
        sibling = None
        try:
            async with asyncio.TaskGroup() as group:
                sibling = group.create_task(asyncio.sleep(1000))
                group.create_task(fail(LookupError("one"), 1))
                group.create_task(fail(ValueError("two"), 1))
        except BaseException as error:
            assert type(error).__name__ == "ExceptionGroup"
            inner = error.exceptions  # type: ignore[attr-defined]
            assert {type(one) for one in inner} == {LookupError, ValueError}
        assert sibling is not None and sibling.cancelled()

    run(main())


@needs_group
def test_task_group_cancelled_from_outside(run: Run) -> None:
    async def main() -> None:
        children: list[asyncio.Task[Any]] = []

        async def grouped() -> None:
            async with asyncio.TaskGroup() as group:
                children.extend(group.create_task(asyncio.sleep(1000)) for _ in range(3))

        task = asyncio.ensure_future(grouped())
        await give(None, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(child.cancelled() for child in children)

    run(main())
