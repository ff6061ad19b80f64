"""What a task tells about itself: names, repr, stacks, current_task, all_tasks, weak references.

Run on asyncio and on mioloop alike, with the tasks that the loop itself makes. Call graphs are
in test_call_graph.py.
"""

import asyncio
import io
import re
import weakref

Loop = asyncio.AbstractEventLoop


async def give(value: object = "value") -> object:
    await asyncio.sleep(0)
    return value


def test_names(loop: Loop) -> None:
    first, second = loop.create_task(give()), loop.create_task(give())
    pattern = re.compile(r"Task-(\d+)")
    numbers = [int(pattern.fullmatch(t.get_name()).group(1)) for t in (first, second)]  # type: ignore[union-attr]
    assert numbers[1] == numbers[0] + 1
    named = loop.create_task(give(), name="given")
    assert named.get_name() == "given"
    named.set_name(17)  # type: ignore[arg-type]
    assert named.get_name() == "17"
    assert loop.create_task(give(), name=23).get_name() == "23"  # type: ignore[arg-type]
    assert pattern.fullmatch(loop.create_task(give(), name=None).get_name())
    loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop)))


def test_names_count_on_with_stock_tasks(loop: Loop) -> None:
    """Each class counts its own; neither takes a number twice."""
    for make in (loop.create_task, lambda coro: asyncio.Task(coro, loop=loop)):
        names = [make(give()).get_name() for _ in range(3)]
        first = int(names[0].removeprefix("Task-"))
        assert names == [f"Task-{first + number}" for number in range(3)]
    loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop)))


def test_current_task(loop: Loop) -> None:
    async def main() -> list[bool]:
        def callback() -> None:
            seen.append(asyncio.current_task() is None)

        async def child() -> None:
            seen.append(asyncio.current_task() is inner)
            await asyncio.sleep(0)
            seen.append(asyncio.current_task() is inner)

        seen: list[bool] = []
        seen.append(asyncio.current_task() is outer)
        inner = loop.create_task(child())
        loop.call_soon(callback)
        await inner
        seen.append(asyncio.current_task() is outer)
        return seen

    outer = loop.create_task(main())
    assert loop.run_until_complete(outer) == [True] * 5
    assert asyncio.current_task(loop) is None


def test_all_tasks(loop: Loop) -> None:
    async def main() -> None:
        waiting = loop.create_future()

        async def wait() -> None:
            await waiting

        tasks = {loop.create_task(wait()) for _ in range(10)}
        me = asyncio.current_task()
        assert asyncio.all_tasks() == tasks | {me}
        waiting.set_result(None)
        await asyncio.wait(tasks)
        assert asyncio.all_tasks() == {me}

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()


def test_get_coro(loop: Loop) -> None:
    coro = give()
    task = loop.create_task(coro)
    assert task.get_coro() is coro
    loop.run_until_complete(task)
    assert task.get_coro() is coro


async def waits_for_ever(future: "asyncio.Future[None]") -> None:
    await future


def test_get_stack_and_print_stack(loop: Loop) -> None:
    async def outer() -> None:
        await waits_for_ever(loop.create_future())

    task = loop.create_task(outer(), name="stacked")
    loop.run_until_complete(asyncio.sleep(0))
    frames = task.get_stack()
    assert [frame.f_code.co_name for frame in frames] == ["outer"]
    assert task.get_stack(limit=1) == frames
    out = io.StringIO()
    task.print_stack(file=out)
    assert out.getvalue().startswith("Stack for <Task pending name='stacked' coro=<")
    assert "await waits_for_ever(loop.create_future())" in out.getvalue()


def test_stack_of_a_failed_task(loop: Loop) -> None:
    async def fail() -> None:
        raise ValueError("reason")

    task = loop.create_task(fail())
    loop.run_until_complete(asyncio.wait([task]))
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["fail"]
    out = io.StringIO()
    task.print_stack(file=out)
    text = out.getvalue()
    assert text.startswith("Traceback for <Task finished name=")
    assert text.endswith("ValueError: reason\n")
    assert isinstance(task.exception(), ValueError)


def test_repr(loop: Loop) -> None:
    future = loop.create_future()
    coro = r"coro=<waits_for_ever\(\) {} at .*test_task_introspection\.py:\d+>"
    task = loop.create_task(waits_for_ever(future), name="mine")
    running = coro.format("running")
    assert re.fullmatch(rf"<Task pending name='mine' {running}>", repr(task))
    loop.run_until_complete(asyncio.sleep(0))
    waiting = r"wait_for=<Future pending cb=\[.*[wW]akeup.*\]>"
    assert re.fullmatch(rf"<Task pending name='mine' {running} {waiting}>", repr(task))
    future.set_result(None)
    loop.run_until_complete(task)
    done = r"coro=<waits_for_ever\(\) done, defined at .*test_task_introspection\.py:\d+>"
    assert re.fullmatch(rf"<Task finished name='mine' {done} result=None>", repr(task))
    cancelled = loop.create_task(waits_for_ever(loop.create_future()), name="gone")
    cancelled.cancel()
    assert repr(cancelled).startswith("<Task cancelling name='gone' coro=<")
    loop.run_until_complete(asyncio.wait([cancelled]))
    assert repr(cancelled).startswith("<Task cancelled name='gone' coro=<")


def test_weak_references_and_attributes(loop: Loop) -> None:
    task = loop.create_task(give())
    assert weakref.ref(task)() is task
    task.note = "hung on by a library"  # type: ignore[attr-defined]
    assert task.note == "hung on by a library"  # type: ignore[attr-defined]
    loop.run_until_complete(task)
