"""Our tasks and futures with asyncio's C ones, on our loop and on foreign loops, both ways.

Every pairing of {our Task, C Task, Python Task} awaiting {our Future, C Future, Python Future,
a duck-typed future} on {our loop, asyncio's loop} runs the same scenarios; plus the switch that
makes our loop use stock tasks.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator, Iterator
from typing import Any

import mioloop
import pytest
from child_script import run_script

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


class DuckFuture:
    """The least that asyncio's documentation asks of a future: no base class at all."""

    _asyncio_future_blocking = False
    _source_traceback = None

    def __init__(self, *, loop: Loop) -> None:
        self._loop = loop
        self._real: asyncio.Future[Any] = asyncio.Future(loop=loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def add_done_callback(self, callback: Callable[[Any], Any], *, context: Any = None) -> None:
        self._real.add_done_callback(lambda _: callback(self), context=context)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._real.done():
            self._asyncio_future_blocking = True
            yield self
        return self._real.result()


TASKS: dict[str, Callable[..., "asyncio.Task[Any]"]] = {
    "our task": mioloop.Task,
    "C task": asyncio.Task,
    "Python task": asyncio.tasks._PyTask,  # type: ignore[attr-defined]
}
FUTURES: dict[str, Callable[..., Any]] = {
    "our future": mioloop.Future,
    "C future": asyncio.Future,
    "Python future": asyncio.futures._PyFuture,  # type: ignore[attr-defined]
    "duck future": DuckFuture,
}
# Stock tasks with stock futures are asyncio's own business.
PAIRS = [(task, future) for task in TASKS for future in FUTURES if "our" in task or "our" in future]


@pytest.fixture(params=PAIRS, ids=lambda pair: " with ".join(pair))
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    task, future = request.param
    return TASKS[task], FUTURES[future]


@pytest.fixture
def new_task(pair: tuple[Any, Any], loop: Loop) -> Callable[..., "asyncio.Task[Any]"]:
    return lambda coro, **keywords: pair[0](coro, loop=loop, **keywords)


@pytest.fixture
def new_future(pair: tuple[Any, Any], loop: Loop) -> Callable[[], "asyncio.Future[Any]"]:
    return lambda: pair[1](loop=loop)


NewTask = Callable[..., "asyncio.Task[Any]"]
NewFuture = Callable[[], "asyncio.Future[Any]"]


async def wait_for(future: "asyncio.Future[Any]") -> Any:
    return await future


def test_result(loop: Loop, new_task: NewTask, new_future: NewFuture) -> None:
    future = new_future()
    tasks = [new_task(wait_for(future)) for _ in range(3)]
    loop.call_later(0.001, future.set_result, "value")
    assert loop.run_until_complete(asyncio.gather(*tasks)) == ["value"] * 3


def test_error(loop: Loop, new_task: NewTask, new_future: NewFuture) -> None:
    future = new_future()
    loop.call_later(0.001, future.set_exception, LookupError("reason"))
    with pytest.raises(LookupError, match="reason"):
        loop.run_until_complete(new_task(wait_for(future)))


def test_cancel_of_the_task_cancels_the_future(
    loop: Loop, new_task: NewTask, new_future: NewFuture
) -> None:
    async def main() -> None:
        future = new_future()
        task = new_task(wait_for(future))
        await asyncio.sleep(0)
        assert task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        assert future.cancelled() and task.cancelled()
        # The message reaches whoever awaits the task since 3.11.
        assert info.value.args == (("why",) if hasattr(asyncio.Task, "uncancel") else ())

    loop.run_until_complete(main())


def test_cancel_of_the_future_cancels_the_task(
    loop: Loop, new_task: NewTask, new_future: NewFuture
) -> None:
    async def main() -> None:
        future = new_future()
        task = new_task(wait_for(future))
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    loop.run_until_complete(main())


def test_tools_of_asyncio(loop: Loop, new_task: NewTask, new_future: NewFuture) -> None:
    async def main() -> None:
        future = new_future()
        task = new_task(wait_for(asyncio.shield(future)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() and not future.done()
        never = new_future()
        done, pending = await asyncio.wait([never], timeout=0.001)
        assert (done, pending) == (set(), {never})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(new_task(wait_for(never)), 0.001)
        assert never.cancelled()
        loop.call_soon(future.set_result, 1)
        assert [await one for one in asyncio.as_completed([future])] == [1]
        assert await asyncio.gather(future, new_task(wait_for(future))) == [1, 1]

    loop.run_until_complete(main())


def test_bookkeeping(
    loop: Loop, pair: tuple[Any, Any], new_task: NewTask, new_future: NewFuture
) -> None:
    """Both kinds are in all_tasks, and current_task is right when they take turns."""
    if pair[0] is TASKS["Python task"] and hasattr(asyncio.tasks, "_c_all_tasks"):
        pytest.skip("since 3.14 all_tasks() and current_task() know no Python tasks")

    async def main() -> None:
        future = new_future()

        async def look() -> Any:
            before = asyncio.current_task()
            await asyncio.sleep(0)
            await future
            await asyncio.sleep(0.002)  # by then the loop has slept
            return before is asyncio.current_task(), before

        tasks = [new_task(look()), asyncio.ensure_future(look()), asyncio.Task(look())]
        await asyncio.sleep(0)
        assert set(tasks) < asyncio.all_tasks()
        future.set_result(None)
        for task in tasks:
            assert await task == (True, task)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop.run_until_complete(main())


def test_wrong_loop(new_loop: NewLoop, pair: tuple[Any, Any]) -> None:
    loop, other = new_loop(), new_loop()
    task = pair[0](wait_for(pair[1](loop=other)), loop=loop)
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        loop.run_until_complete(task)


def test_debug_mode(loop: Loop, new_task: NewTask, new_future: NewFuture) -> None:
    loop.set_debug(True)
    future = new_future()
    loop.call_soon(future.set_result, "value")
    task = new_task(wait_for(future))
    repr(task)
    assert loop.run_until_complete(task) == "value"
    loop.set_debug(False)


def test_awaiting_each_other_as_tasks(loop: Loop) -> None:
    """A chain of tasks of alternating kinds, result and cancellation through all of it."""

    async def link(depth: int) -> int:
        if depth == 0:
            await asyncio.sleep(0)
            return 0
        make = list(TASKS.values())[depth % 3]
        return 1 + await make(link(depth - 1), loop=loop)

    async def main() -> None:
        assert await link(9) == 9
        task = asyncio.ensure_future(link(9))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop.run_until_complete(main())


def test_run_coroutine_threadsafe_and_wrap_future_on_any_loop(loop: Loop) -> None:
    source: concurrent.futures.Future[int] = concurrent.futures.Future()

    async def main() -> int:
        loop.run_in_executor(None, source.set_result, 42)
        waiting = mioloop.Task(wait_for(asyncio.wrap_future(source)))
        return await waiting

    assert loop.run_until_complete(main()) == 42


class MinimalLoop(asyncio.SelectorEventLoop):
    """A foreign loop that counts what our tasks and futures ask of it."""

    calls = 0

    def call_soon(self, *args: Any, **keywords: Any) -> asyncio.Handle:
        type(self).calls += 1
        return super().call_soon(*args, **keywords)


def test_our_classes_schedule_through_a_foreign_loop_s_call_soon() -> None:
    loop = MinimalLoop()
    future = mioloop.Future(loop=loop)
    task = mioloop.Task(wait_for(future), loop=loop)
    assert MinimalLoop.calls == 1
    loop.call_later(0, future.set_result, "value")
    assert loop.run_until_complete(task) == "value"
    assert MinimalLoop.calls >= 3
    loop.close()


def test_a_task_of_ours_under_asyncio_run_of_the_stock_loop() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **kw: mioloop.Task(coro, loop=loop, **kw))
        tasks = [loop.create_task(asyncio.sleep(0, n)) for n in range(3)]
        assert {type(task) for task in tasks} == {mioloop.Task}
        return await asyncio.gather(*tasks)

    stock = asyncio.SelectorEventLoop()
    assert stock.run_until_complete(main()) == [0, 1, 2]
    stock.close()


# The switch ---------------------------------------------------------------------------------------


@pytest.fixture
def stock_tasks_loop() -> Iterator[mioloop.Loop]:
    loop = mioloop.Loop(native_tasks=False)
    yield loop
    loop.close()


def test_switch_to_stock_tasks(stock_tasks_loop: mioloop.Loop) -> None:
    loop = stock_tasks_loop
    assert loop.native_tasks is False

    async def main() -> None:
        assert asyncio.get_running_loop() is loop
        assert type(asyncio.current_task()) is asyncio.Task
        assert type(loop.create_future()) is asyncio.Future
        assert type(asyncio.ensure_future(asyncio.sleep(0))) is asyncio.Task
        task = loop.create_task(asyncio.sleep(0, "value"), name="named")
        assert task.get_name() == "named" and await task == "value"
        results = await asyncio.gather(*(asyncio.sleep(0, n) for n in range(100)))
        assert results == list(range(100))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.create_future(), 0.001)

    loop.run_until_complete(main())


def test_the_switch_is_on_by_default_and_read_only() -> None:
    loop = mioloop.Loop()
    assert loop.native_tasks is True
    with pytest.raises(AttributeError):
        loop.native_tasks = False
    loop.close()


@pytest.mark.parametrize(("value", "expected"), [("0", "False"), ("1", "True"), ("", "True")])
def test_the_switch_as_an_environment_variable(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("MIOLOOP_NATIVE_TASKS", value)
    outcome = run_script(
        "mioloop",
        """
        loop = new_loop()
        explicit = mioloop.Loop(native_tasks=True)
        say(loop.native_tasks, explicit.native_tasks)
        loop.close(), explicit.close()
        """,
    )
    assert outcome.out == [f"{expected} True"]
