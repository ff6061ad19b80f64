"""Eager tasks (3.12+): the factory, `eager_start=`, what runs in the call, what is seen there.

Run on asyncio and on mioloop alike. `eager_start=` of create_task is public since 3.14; the Task
constructor takes it since 3.12. CPython's own suite runs on our class in test_cpython_tasks.py.
"""

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]

pytestmark = pytest.mark.skipif(
    not hasattr(asyncio, "eager_task_factory"), reason="eager tasks are new in 3.12"
)


def task_class(loop: Loop) -> "type[asyncio.Task[Any]]":
    """The class that the loop itself makes."""

    async def nothing() -> None: ...

    task = loop.create_task(nothing())
    loop.run_until_complete(task)
    return type(task)


@pytest.fixture(params=["asyncio's factory", "factory of the loop's class"])
def eager_loop(request: pytest.FixtureRequest, loop: Loop) -> Loop:
    if request.param == "asyncio's factory":
        loop.set_task_factory(asyncio.eager_task_factory)
    else:
        loop.set_task_factory(asyncio.create_eager_task_factory(task_class(loop)))
    return loop


async def block_on(future: "asyncio.Future[Any]", log: list[str]) -> object:
    log.append("started")
    result = await future
    log.append("resumed")
    return result


def test_completes_inside_create_task(eager_loop: Loop) -> None:
    async def give() -> str:
        return "value"

    async def main() -> None:
        task = eager_loop.create_task(give())
        assert task.done() and task.result() == "value"
        assert await task == "value"
        assert task not in asyncio.all_tasks()

    eager_loop.run_until_complete(main())


def test_blocks_and_goes_on_in_the_loop(eager_loop: Loop) -> None:
    async def main() -> None:
        log: list[str] = []
        future = eager_loop.create_future()
        task = eager_loop.create_task(block_on(future, log))
        assert log == ["started"] and not task.done()
        assert task in asyncio.all_tasks()
        future.set_result(42)
        assert log == ["started"]
        assert await task == 42
        assert log == ["started", "resumed"]
        assert task not in asyncio.all_tasks()

    eager_loop.run_until_complete(main())


def test_raises_inside_create_task(eager_loop: Loop) -> None:
    async def fail() -> None:
        raise LookupError("reason")

    async def main() -> None:
        task = eager_loop.create_task(fail())
        assert task.done()
        with pytest.raises(LookupError, match="reason"):
            await task

    eager_loop.run_until_complete(main())


def test_current_task_inside_the_eager_step(eager_loop: Loop) -> None:
    async def main() -> None:
        seen: list[object] = []

        async def inner() -> None:
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())

        async def outer() -> None:
            seen.append(asyncio.current_task())
            await eager_loop.create_task(inner())
            seen.append(asyncio.current_task())

        me = asyncio.current_task()
        task = eager_loop.create_task(outer())
        assert asyncio.current_task() is me
        await task
        assert seen[0] is task and seen[3] is task
        assert seen[1] is seen[2] and seen[1] not in (me, task)

    eager_loop.run_until_complete(main())


def test_running_loop_and_all_tasks_inside_the_eager_step(eager_loop: Loop) -> None:
    async def main() -> None:
        async def look() -> tuple[bool, bool]:
            running = asyncio.get_running_loop() is eager_loop
            return running, asyncio.current_task() in asyncio.all_tasks()

        assert await eager_loop.create_task(look()) == (True, True)

    eager_loop.run_until_complete(main())


def test_cancel_after_the_eager_step(eager_loop: Loop) -> None:
    async def main() -> None:
        log: list[str] = []
        task = eager_loop.create_task(block_on(eager_loop.create_future(), log))
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        assert info.value.args == ("why",) and task.cancelled()
        assert log == ["started"]

    eager_loop.run_until_complete(main())


def test_self_cancel_inside_the_eager_step(eager_loop: Loop) -> None:
    async def main() -> None:
        async def own() -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(0)

        task = eager_loop.create_task(own())
        with pytest.raises(asyncio.CancelledError):
            await task

    eager_loop.run_until_complete(main())


def test_context_of_the_eager_step(eager_loop: Loop) -> None:
    """The step runs in a copy: what it sets is not seen by the caller."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="outside")

    async def main() -> None:
        async def change() -> str:
            before = var.get()
            var.set("inside")
            await asyncio.sleep(0)
            return before + " " + var.get()

        var.set("caller")
        task = eager_loop.create_task(change())
        assert var.get() == "caller"
        assert await task == "caller inside"
        given = contextvars.copy_context()
        given.run(var.set, "given")
        assert await eager_loop.create_task(change(), context=given) == "given inside"
        assert given[var] == "inside"

    eager_loop.run_until_complete(main())


def test_names(eager_loop: Loop) -> None:
    async def main() -> None:
        async def nothing() -> None:
            await asyncio.sleep(0)

        task = eager_loop.create_task(nothing(), name="named")
        assert task.get_name() == "named"
        await task

    eager_loop.run_until_complete(main())


def test_outside_a_running_loop_it_starts_later(eager_loop: Loop) -> None:
    log: list[str] = []

    async def start() -> None:
        log.append("started")

    task = eager_loop.create_task(start())
    assert log == [] and not task.done()
    eager_loop.run_until_complete(task)
    assert log == ["started"]


def test_order_against_the_queue(eager_loop: Loop) -> None:
    order: list[str] = []

    async def child(name: str) -> None:
        order.append(f"{name} eager")
        await asyncio.sleep(0)
        order.append(f"{name} later")

    async def main() -> None:
        eager_loop.call_soon(order.append, "queued before")
        first = eager_loop.create_task(child("first"))
        eager_loop.call_soon(order.append, "queued between")
        second = eager_loop.create_task(child("second"))
        await asyncio.wait([first, second])

    eager_loop.run_until_complete(main())
    assert order == [
        "first eager",
        "second eager",
        "queued before",
        "first later",
        "queued between",
        "second later",
    ]


def test_gather_of_eager_tasks(eager_loop: Loop) -> None:
    async def give(number: int) -> int:
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(give(number) for number in range(5)))

    assert eager_loop.run_until_complete(main()) == list(range(5))


def test_task_group_of_eager_tasks(eager_loop: Loop) -> None:
    async def main() -> list[object]:
        future = eager_loop.create_future()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(block_on(future, [])) for _ in range(3)]
            future.set_result("all")
        return [task.result() for task in tasks]

    assert eager_loop.run_until_complete(main()) == ["all"] * 3


def test_a_finished_eager_task_forgets_its_coroutine(eager_loop: Loop) -> None:
    async def main() -> None:
        async def nothing() -> None: ...

        task = eager_loop.create_task(nothing())
        if type(task) is asyncio.Task and sys.version_info < (3, 13):
            pytest.skip("the C Task of early 3.12 crashes here (gh-122332)")
        assert task.get_coro() is None

    eager_loop.run_until_complete(main())


def test_a_failed_eager_task_makes_no_cycle(eager_loop: Loop) -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        task = eager_loop.create_task(fail())
        with pytest.raises(ValueError):
            task.result()
        ref = weakref.ref(task)
        del task
        # The traceback of the error holds frames; they let go of the task.
        gc.collect()
        assert ref() is None

    eager_loop.run_until_complete(main())


def test_eager_start_of_the_constructor(loop: Loop) -> None:
    make = task_class(loop)

    async def main() -> None:
        log: list[str] = []

        async def start() -> None:
            log.append("started")

        task = make(start(), loop=loop, eager_start=True)
        assert log == ["started"] and task.done()
        lazy = make(start(), loop=loop, eager_start=False)
        assert log == ["started"]
        await lazy

    loop.run_until_complete(main())


def test_eager_start_keyword_of_create_task(loop: Loop) -> None:
    """Public since 3.14, known to late releases of 3.13; before, an unexpected keyword."""

    async def nothing() -> None: ...

    async def main(create: Callable[..., "asyncio.Task[None]"]) -> list[object]:
        outcome: list[object] = []
        for eager in (True, False, None):
            coro = nothing()
            try:
                task = create(coro, eager_start=eager)
            except TypeError:
                outcome.append("refused")
                coro.close()
            else:
                outcome.append(task.done())
                await task
        return outcome

    stock = asyncio.SelectorEventLoop()
    expected = stock.run_until_complete(main(stock.create_task))
    stock.close()
    assert loop.run_until_complete(main(loop.create_task)) == expected


def test_deep_eager_chain(eager_loop: Loop) -> None:
    async def chain(depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + await eager_loop.create_task(chain(depth - 1))

    assert eager_loop.run_until_complete(chain(50)) == 50
