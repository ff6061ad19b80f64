"""Future: states, callbacks, awaiting, texts of errors, repr, "never retrieved" reports.

Run on asyncio and on mioloop alike, with the futures that the loop itself makes.
CPython's own, longer suite runs on our class in test_cpython_tasks.py.
"""

import asyncio
import concurrent.futures
import contextvars
import gc
import re
import traceback
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


def run_turns(loop: Loop, turns: int = 1) -> None:
    """Runs what is queued now, `turns` times."""
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_what_create_future_gives(loop: Loop, loop_kind: str) -> None:
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    if loop_kind == "mioloop":
        import mioloop

        assert type(future) is mioloop.Future


def test_states(loop: Loop) -> None:
    future = loop.create_future()
    assert not future.done() and not future.cancelled()
    for ask in (future.result, future.exception):
        with pytest.raises(asyncio.InvalidStateError, match="^(Result|Exception) is not set.$"):
            ask()
    future.set_result(1)
    assert future.done() and not future.cancelled()
    assert future.result() == 1 and future.exception() is None
    assert future.cancel() is False


def test_set_twice_is_refused(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(1)
    with pytest.raises(asyncio.InvalidStateError) as info:
        future.set_result(2)
    stock: asyncio.Future[int] = asyncio.Future(loop=loop)
    stock.set_result(1)
    with pytest.raises(asyncio.InvalidStateError) as expected:
        stock.set_result(2)
    assert str(info.value).split(":")[0].lower() == str(expected.value).split(":")[0].lower()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(ValueError())


def test_exceptions(loop: Loop) -> None:
    future = loop.create_future()
    error = ValueError("reason")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(ValueError, match="reason") as info:
        future.result()
    assert info.value is error
    from_class = loop.create_future()
    from_class.set_exception(KeyError)
    assert isinstance(from_class.exception(), KeyError)
    with pytest.raises(KeyError):
        from_class.result()


@pytest.mark.parametrize("thing", ["text", object, None])
def test_exception_must_be_an_exception(loop: Loop, thing: Any) -> None:
    future = loop.create_future()
    with pytest.raises(TypeError):
        future.set_exception(thing)
    assert not future.done()


def test_stop_iteration_cannot_be_raised_into_a_future(loop: Loop) -> None:
    """It became a RuntimeError in 3.12; before, a TypeError."""

    def outcome(future: "asyncio.Future[None]") -> tuple[type, str]:
        try:
            future.set_exception(StopIteration(1))
        except TypeError as error:
            return TypeError, str(error)
        error = future.exception()
        return type(error), str(error)

    assert outcome(loop.create_future()) == outcome(asyncio.Future(loop=loop))


def test_cancel(loop: Loop) -> None:
    future = loop.create_future()
    assert future.cancel() is True
    assert future.cancelled() and future.done()
    assert future.cancel() is False
    for ask in (future.result, future.exception):
        with pytest.raises(asyncio.CancelledError) as info:
            ask()
        assert info.value.args == ()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result(1)


def test_cancel_with_a_message(loop: Loop) -> None:
    future = loop.create_future()
    future.cancel("why")
    with pytest.raises(asyncio.CancelledError) as info:
        future.result()
    assert info.value.args == ("why",)
    assert future._cancel_message == "why"  # type: ignore[attr-defined]

    async def main() -> None:
        waiting = loop.create_future()
        loop.call_soon(waiting.cancel, "later")
        with pytest.raises(asyncio.CancelledError) as info:
            await waiting
        assert info.value.args == ("later",)

    loop.run_until_complete(main())


def test_callbacks_run_in_order_after_the_result(loop: Loop) -> None:
    future, seen = loop.create_future(), []
    for name in "abc":
        future.add_done_callback(lambda fut, name=name: seen.append((name, fut)))
    future.set_result(None)
    assert seen == []
    future.add_done_callback(lambda fut: seen.append(("late", fut)))
    assert seen == []
    run_turns(loop)
    assert seen == [("a", future), ("b", future), ("c", future), ("late", future)]


def test_remove_done_callback_counts(loop: Loop) -> None:
    future, seen = loop.create_future(), []
    for _ in range(3):
        future.add_done_callback(seen.append)
    future.add_done_callback(print)
    assert future.remove_done_callback(seen.append) == 3
    assert future.remove_done_callback(seen.append) == 0
    assert future.remove_done_callback(print) == 1
    future.set_result(None)
    run_turns(loop)
    assert seen == []


def test_remove_done_callback_that_changes_the_list(loop: Loop) -> None:
    """__eq__ may run anything, the very removal included."""
    future = loop.create_future()

    class Evil:
        def __call__(self, fut: object) -> None: ...

        def __eq__(self, other: object) -> bool:
            if other is not int:
                future.remove_done_callback(int)
            return False

        __hash__ = None  # type: ignore[assignment]

    for _ in range(3):
        future.add_done_callback(Evil())
        future.add_done_callback(int)
    future.remove_done_callback(Evil())
    future.set_result(None)
    run_turns(loop)


def test_error_in_a_callback_is_reported_and_the_others_run(loop: Loop) -> None:
    future, seen, reports = loop.create_future(), [], []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    future.add_done_callback(lambda fut: 1 / 0)
    future.add_done_callback(seen.append)
    future.set_result(None)
    run_turns(loop)
    assert seen == [future]
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
    assert reports[0]["message"].startswith("Exception in callback ")


def test_callback_context(loop: Loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")
    future, seen = loop.create_future(), []
    given = contextvars.copy_context()
    given.run(var.set, "given")
    future.add_done_callback(lambda _: seen.append(var.get()), context=given)
    contextvars.copy_context().run(
        lambda: (var.set("current"), future.add_done_callback(lambda _: seen.append(var.get())))
    )
    future.add_done_callback(lambda _: seen.append(var.get()))
    future.set_result(None)
    run_turns(loop)
    assert seen == ["given", "current", "none"]


def test_await_by_many(loop: Loop) -> None:
    async def main() -> list[object]:
        future = loop.create_future()

        async def wait() -> object:
            return await future

        waiters = [loop.create_task(wait()) for _ in range(10)]
        await asyncio.sleep(0)
        future.set_result(marker)
        return await asyncio.gather(*waiters, future)

    marker = object()
    assert loop.run_until_complete(main()) == [marker] * 11


def test_await_of_a_finished_future_does_not_yield(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result("ready")
    steps: Generator[Any, None, Any] = future.__await__()
    with pytest.raises(StopIteration) as info:
        next(steps)
    assert info.value.value == "ready"


def test_await_by_hand(loop: Loop) -> None:
    """What a foreign scheduler sees: the future itself, marked as blocking."""
    future = loop.create_future()
    assert future._asyncio_future_blocking is False
    steps = future.__await__()
    assert next(steps) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        next(steps)
    future = loop.create_future()
    steps = iter(future)  # type: ignore[call-overload]
    assert next(steps) is future
    future.set_result("value")
    with pytest.raises(StopIteration) as info:
        steps.send(None)
    assert info.value.value == "value"
    thrown = loop.create_future().__await__()
    next(thrown)
    with pytest.raises(KeyError):
        thrown.throw(KeyError("thrown"))
    closed = loop.create_future().__await__()
    next(closed)
    closed.close()


AWKWARD = [(1, 2), StopIteration(3), ValueError("value"), None, ()]


@pytest.mark.parametrize("value", AWKWARD)
def test_awkward_results_are_given_as_they_are(loop: Loop, value: object) -> None:
    """A tuple or an exception as StopIteration.value must not be unpacked or raised."""

    async def main() -> object:
        future = loop.create_future()
        loop.call_soon(future.set_result, value)
        return await future

    assert loop.run_until_complete(main()) is value


@pytest.mark.parametrize("value", ["result", *AWKWARD])
def test_a_result_that_comes_while_an_exception_is_handled(loop: Loop, value: object) -> None:
    """What carries the result joins no chain of exceptions, and leaves nothing behind."""

    async def main() -> "tuple[object, weakref.ref[object]]":
        class Result:
            pass

        future, watched = loop.create_future(), loop.create_future()
        loop.call_soon(future.set_result, value)
        loop.call_soon(watched.set_result, Result())
        try:
            raise KeyError("handled")
        except KeyError as handled:
            result = await future
            ref = weakref.ref(await watched)
            del watched
            assert handled.__context__ is None and ref() is None
        return result, ref

    result, ref = loop.run_until_complete(main())
    assert result is value and ref() is None


def test_repr(loop: Loop) -> None:
    future = loop.create_future()
    assert repr(future) == "<Future pending>"
    future.set_result([1])
    assert repr(future) == "<Future finished result=[1]>"
    failed = loop.create_future()
    failed.set_exception(ValueError("reason"))
    assert repr(failed) == "<Future finished exception=ValueError('reason')>"
    failed.exception()
    cancelled = loop.create_future()
    cancelled.cancel()
    assert repr(cancelled) == "<Future cancelled>"


def test_repr_of_callbacks(loop: Loop) -> None:
    future = loop.create_future()
    future.add_done_callback(run_turns)
    one = r"<Future pending cb=\[run_turns\(\) at .*test_futures\.py:\d+\]>"
    assert re.fullmatch(one, repr(future))
    for _ in range(5):
        future.add_done_callback(run_turns)
    many = r"<Future pending cb=\[run_turns\(\) at .*, <4 more>, run_turns\(\) at .*\]>"
    assert re.fullmatch(many, repr(future))


def test_never_retrieved_is_reported(loop: Loop) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    for retrieve in (False, True):
        future = loop.create_future()
        future.set_exception(ValueError("lost"))
        if retrieve:
            future.exception()
        del future
        gc.collect()
    assert [report["message"] for report in reports] == ["Future exception was never retrieved"]
    assert isinstance(reports[0]["exception"], ValueError)
    assert asyncio.isfuture(reports[0]["future"])


def test_tracebacks_do_not_grow_with_each_ask(loop: Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError())
    lengths = set()
    for _ in range(5):
        with pytest.raises(ValueError) as info:
            future.result()
        lengths.add(len(traceback.extract_tb(info.value.__traceback__)))
    assert len(lengths) == 1


def test_weak_references_and_hash(loop: Loop) -> None:
    future = loop.create_future()
    ref = weakref.ref(future)
    assert ref() is future and {future: 1}[future] == 1
    del future
    assert ref() is None


def test_wrap_and_chain_with_concurrent_futures(loop: Loop) -> None:
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source, loop=loop)
    assert type(wrapped) is type(loop.create_future())
    source.set_result(3)
    assert loop.run_until_complete(wrapped) == 3
    other: concurrent.futures.Future[int] = concurrent.futures.Future()
    cancelled = asyncio.wrap_future(other, loop=loop)
    cancelled.cancel()
    run_turns(loop, 2)
    assert other.cancelled()
    assert asyncio.wrap_future(wrapped) is wrapped


def test_deleting_what_must_stay(loop: Loop) -> None:
    future = loop.create_future()
    with pytest.raises(AttributeError):
        del future._log_traceback  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="_log_traceback can only be set to False"):
        future._log_traceback = True  # type: ignore[attr-defined]
    future._log_traceback = False  # type: ignore[attr-defined]
