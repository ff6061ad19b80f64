"""call_soon, run_forever, run_until_complete, stop: order, re-entrancy, errors and their texts.

Run on asyncio and on mioloop alike; what asyncio answers is what is expected.
"""

import asyncio
import re
import weakref
from collections.abc import Callable

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


def run_turns(loop: Loop) -> None:
    """Runs what is queued now, and nothing more."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_the_running_loop_is_the_one_asked_for(loop: Loop, loop_kind: str) -> None:
    async def main() -> Loop:
        return asyncio.get_running_loop()

    assert loop.run_until_complete(main()) is loop
    if loop_kind == "mioloop":
        import mioloop

        assert isinstance(loop, mioloop.Loop)
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_first_in_first_out(loop: Loop) -> None:
    ran: list[int] = []
    for number in range(100):
        loop.call_soon(ran.append, number)
    run_turns(loop)
    assert ran == list(range(100))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_arguments_are_passed(loop: Loop, count: int) -> None:
    got: list[tuple[object, ...]] = []
    loop.call_soon(lambda *args: got.append(args), *range(count))
    run_turns(loop)
    assert got == [tuple(range(count))]


def test_callback_queued_by_a_callback_runs_in_the_next_turn(loop: Loop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.call_soon(ran.append, "nested")

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    run_turns(loop)
    assert ran == ["first", "second"]
    run_turns(loop)
    assert ran == ["first", "second", "nested"]


def test_stop_before_run_makes_one_turn(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    loop.stop()
    loop.run_forever()
    assert ran == [1]
    loop.call_soon(ran.append, 2)
    run_turns(loop)
    assert ran == [1, 2]


def test_stop_finishes_the_turn_it_is_called_in(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, "same turn")
    loop.call_soon(lambda: loop.call_soon(ran.append, "next turn"))
    loop.run_forever()
    assert ran == ["same turn"]
    run_turns(loop)
    assert ran == ["same turn", "next turn"]


def test_stop_twice_stops_once(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(ran.append, 1)
    loop.call_soon(lambda: loop.call_soon(lambda: (ran.append(2), loop.stop())))
    loop.run_forever()
    assert ran == [1, 2]


def test_is_running_and_is_closed(loop: Loop) -> None:
    seen: list[tuple[bool, bool]] = []
    assert not loop.is_running() and not loop.is_closed()
    loop.call_soon(lambda: seen.append((loop.is_running(), loop.is_closed())))
    run_turns(loop)
    assert seen == [(True, False)]
    loop.close()
    assert not loop.is_running() and loop.is_closed()


def test_run_until_complete_returns_or_raises(loop: Loop) -> None:
    async def give() -> str:
        await asyncio.sleep(0)
        return "value"

    async def fail() -> None:
        raise LookupError("reason")

    assert loop.run_until_complete(give()) == "value"
    with pytest.raises(LookupError, match="reason"):
        loop.run_until_complete(fail())
    future = loop.create_future()
    loop.call_soon(future.set_result, 42)
    assert loop.run_until_complete(future) == 42
    assert loop.run_until_complete(future) == 42


def test_run_until_complete_of_a_future_that_never_ends(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        loop.run_until_complete(future)
    assert not future.done()


def test_run_until_complete_takes_awaitables_only(loop: Loop) -> None:
    with pytest.raises(TypeError, match="awaitable is required"):
        loop.run_until_complete(123)  # type: ignore[arg-type]

    class Awaitable:
        def __await__(self):  # noqa: ANN204
            yield
            return "awaited"

    assert loop.run_until_complete(Awaitable()) == "awaited"


@pytest.mark.parametrize("method", ["run_until_complete", "run_forever"])
def test_nested_run_is_refused(loop: Loop, method: str) -> None:
    async def main() -> None:
        args = (loop.create_future(),) if method == "run_until_complete" else ()
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            getattr(loop, method)(*args)

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["run_until_complete", "run_forever"])
def test_run_while_another_loop_runs_is_refused(new_loop: NewLoop, method: str) -> None:
    outer, inner = new_loop(), new_loop()

    async def main() -> None:
        args = (inner.create_future(),) if method == "run_until_complete" else ()
        with pytest.raises(
            RuntimeError, match="^Cannot run the event loop while another loop is running$"
        ):
            getattr(inner, method)(*args)

    outer.run_until_complete(main())
    assert not inner.is_running()


def test_close(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    loop.close()
    loop.close()
    assert ran == []
    for use in (
        lambda: loop.call_soon(ran.append, 1),
        lambda: loop.call_later(0, ran.append, 1),
        lambda: loop.call_at(0, ran.append, 1),
        lambda: loop.call_soon_threadsafe(ran.append, 1),
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(loop.create_future()),
        lambda: loop.run_in_executor(None, ran.append, 1),
    ):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            use()


def test_create_task_on_a_closed_loop(loop: Loop) -> None:
    async def nothing() -> None: ...

    loop.close()
    coro = nothing()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coro)
    coro.close()


def test_close_while_running_is_refused(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())


def test_close_frees_what_was_queued(loop: Loop) -> None:
    class Argument: ...

    arguments = [Argument(), Argument(), Argument()]
    refs = [weakref.ref(argument) for argument in arguments]
    loop.call_soon(id, arguments[0])
    loop.call_later(1000, id, arguments[1])
    loop.call_soon_threadsafe(id, arguments[2])
    arguments.clear()
    loop.close()
    assert [ref() for ref in refs] == [None] * 3


def test_close_in_del_of_a_queued_argument(loop: Loop) -> None:
    """Dropping the queue runs Python code, which may call the loop."""
    seen: list[object] = []

    class Argument:
        def __del__(self) -> None:
            seen.append(loop.is_closed())
            try:
                loop.call_soon(print)
            except RuntimeError as error:
                seen.append(str(error))

    loop.call_soon(id, Argument())
    loop.call_later(1000, id, Argument())
    loop.close()
    assert seen.count("Event loop is closed") == 2


def test_repr(loop: Loop) -> None:
    pattern = r"<\w+ running={} closed={} debug={}>"
    assert re.fullmatch(pattern.format(False, False, False), repr(loop))
    loop.set_debug(True)
    texts: list[str] = []
    loop.call_soon(lambda: texts.append(repr(loop)))
    run_turns(loop)
    assert re.fullmatch(pattern.format(True, False, True), texts[0])
    loop.close()
    assert re.fullmatch(pattern.format(False, True, True), repr(loop))


def test_bad_call_soon_arguments(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_soon()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        loop.call_soon(print, keyword=1)  # type: ignore[call-arg]


def test_not_callable_fails_when_run(loop: Loop) -> None:
    errors: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    loop.call_soon(None)  # type: ignore[arg-type]
    run_turns(loop)
    assert len(errors) == 1
    assert isinstance(errors[0]["exception"], TypeError)
    assert str(errors[0]["exception"]) == "'NoneType' object is not callable"


def test_a_long_chain(loop: Loop) -> None:
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        if count < 20_000:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.call_soon(again)
    loop.run_forever()
    assert count == 20_000


def test_ready_work_does_not_starve_timers(loop: Loop) -> None:
    fired: list[float] = []

    def spin() -> None:
        if not fired:
            loop.call_soon(spin)
        else:
            loop.stop()

    loop.call_later(0.005, lambda: fired.append(loop.time()))
    loop.call_soon(spin)
    loop.run_forever()
    assert len(fired) == 1


def test_a_loop_runs_again_after_an_error(loop: Loop) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            loop.run_until_complete(fail())
    assert loop.run_until_complete(asyncio.sleep(0, "fine")) == "fine"
