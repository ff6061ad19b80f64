"""Task: creation on each version's keywords, stepping, what may be yielded, factories.

Run on asyncio and on mioloop alike, with the tasks that the loop itself makes. Cancellation is
in test_task_cancellation.py, names and stacks in test_task_introspection.py, eager start in
test_eager_tasks.py, contexts in test_contextvars.py, collection in test_gc.py.
"""

import asyncio
import types
from collections.abc import Callable, Generator
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


async def give(value: object = "value") -> object:
    await asyncio.sleep(0)
    return value


def test_what_create_task_gives(loop: Loop, loop_kind: str) -> None:
    task = loop.create_task(give())
    assert isinstance(task, asyncio.Task) and isinstance(task, asyncio.Future)
    assert asyncio.isfuture(task)
    assert task.get_loop() is loop
    if loop_kind == "mioloop":
        import mioloop

        assert type(task) is mioloop.Task
    assert loop.run_until_complete(task) == "value"


def test_asyncio_create_task_and_ensure_future(loop: Loop) -> None:
    async def main() -> None:
        expected = type(loop.create_task(give()))
        for task in (asyncio.create_task(give()), asyncio.ensure_future(give())):
            assert type(task) is expected
            assert await task == "value"
        assert asyncio.ensure_future(task) is task

    loop.run_until_complete(main())


def test_unknown_keywords_are_refused(loop: Loop) -> None:
    coro = give()
    with pytest.raises(TypeError):
        loop.create_task(coro, colour="red")  # type: ignore[call-arg]
    coro.close()


@pytest.mark.parametrize("thing", [123, None, give, lambda: None])
def test_only_coroutines_make_tasks(loop: Loop, thing: object) -> None:
    with pytest.raises(TypeError, match=r"^a coroutine was expected, got "):
        loop.create_task(thing)  # type: ignore[arg-type]


def test_a_task_starts_in_the_next_turn_in_order(loop: Loop) -> None:
    order: list[str] = []

    async def say(name: str) -> None:
        order.append(name)

    async def main() -> None:
        tasks = [loop.create_task(say(name)) for name in "abc"]
        loop.call_soon(order.append, "soon")
        order.append("main")
        await asyncio.wait(tasks)

    loop.run_until_complete(main())
    assert order == ["main", "a", "b", "c", "soon"]


def test_steps_interleave(loop: Loop) -> None:
    order: list[str] = []

    async def steps(name: str) -> None:
        for number in range(3):
            order.append(f"{name}{number}")
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(steps("a"), steps("b"))

    loop.run_until_complete(main())
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_results_and_exceptions(loop: Loop) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("reason")

    async def main() -> None:
        task = loop.create_task(give([1]))
        with pytest.raises(asyncio.InvalidStateError, match="^Result is not set.$"):
            task.result()
        with pytest.raises(asyncio.InvalidStateError, match="^Exception is not set.$"):
            task.exception()
        assert await task == [1] and task.result() == [1] and task.exception() is None
        failed = loop.create_task(fail())
        with pytest.raises(LookupError, match="reason"):
            await failed
        assert isinstance(failed.exception(), LookupError)

    loop.run_until_complete(main())


def test_result_cannot_be_set_from_outside(loop: Loop) -> None:
    task = loop.create_task(give())
    with pytest.raises(RuntimeError, match="^Task does not support set_result operation$"):
        task.set_result(1)
    with pytest.raises(RuntimeError, match="^Task does not support set_exception operation$"):
        task.set_exception(ValueError())
    assert loop.run_until_complete(task) == "value"


def test_generator_based_coroutines(loop: Loop) -> None:
    @types.coroutine
    def old_style() -> Generator[Any, Any, str]:
        yield
        result = yield from asyncio.sleep(0, "slept").__await__()
        return result + "!"

    assert loop.run_until_complete(old_style()) == "slept!"

    async def main() -> object:
        return await loop.create_task(generator)  # type: ignore[arg-type]

    generator = old_style()
    if asyncio.iscoroutine(generator):
        assert loop.run_until_complete(main()) == "slept!"
    else:
        # Since 3.12 a generator must be wrapped by a coroutine to become a task.
        with pytest.raises(TypeError, match="a coroutine was expected, got <generator object"):
            loop.run_until_complete(main())


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (42, "Task got bad yield: 42"),
        ("text", "Task got bad yield: 'text'"),
        ((n for n in ()), "yield was used instead of yield from in task"),
    ],
)
def test_bad_yields(loop: Loop, thing: object, text: str) -> None:
    class Bad:
        def __await__(self) -> Generator[object, None, None]:
            yield thing

    async def main() -> None:
        try:
            await Bad()
        except RuntimeError as error:
            caught.append(str(error))
            raise

    caught: list[str] = []
    with pytest.raises(RuntimeError):
        loop.run_until_complete(main())
    if "yield from" in text:
        assert "yield was used instead of yield from" in caught[0]
    else:
        assert caught == [text]


def test_yield_instead_of_yield_from(loop: Loop) -> None:
    class Bad:
        def __await__(self) -> Generator[object, None, None]:
            yield loop.create_future()

    async def main() -> None:
        await Bad()

    with pytest.raises(
        RuntimeError, match=r"^yield was used instead of yield from in task <.*> with <Future "
    ):
        loop.run_until_complete(main())


def test_a_task_cannot_await_itself(loop: Loop) -> None:
    async def main() -> None:
        await task

    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="^Task cannot await on itself: <.*>$"):
        loop.run_until_complete(task)


def test_a_future_of_another_loop_is_refused(new_loop: NewLoop) -> None:
    loop, other = new_loop(), new_loop()

    async def main() -> None:
        await other.create_future()

    with pytest.raises(
        RuntimeError, match=r"^Task <.*> got Future <.*> attached to a different loop$"
    ):
        loop.run_until_complete(main())


def test_a_failed_task_nobody_asked_is_reported(loop: Loop) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))

    async def fail() -> None:
        raise ValueError("lost")

    task = loop.create_task(fail())
    loop.run_until_complete(asyncio.sleep(0))
    del task
    loop.run_until_complete(asyncio.sleep(0))
    assert [report["message"] for report in reports] == ["Task exception was never retrieved"]
    assert str(reports[0]["exception"]) == "lost"


def test_task_factories(loop: Loop) -> None:
    made: list[dict[str, Any]] = []

    def factory(on: Loop, coro: Any, **keywords: Any) -> "asyncio.Task[Any]":
        made.append(keywords)
        return asyncio.Task(coro, loop=on, **keywords)

    assert loop.get_task_factory() is None
    with pytest.raises(TypeError, match="^task factory must be a callable or None$"):
        loop.set_task_factory(5)  # type: ignore[arg-type]
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(give(), name="named")
    assert type(task) is asyncio.Task and task.get_name() == "named"
    assert loop.run_until_complete(task) == "value"
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert len(made) == 1
