"""call_soon: order, turns, re-entrancy, what a closing loop does with its queue.

Run on asyncio and on mioloop alike; what asyncio answers is what is expected. Running, stopping
and closing as such are in test_lifecycle.py, the handles in test_handles.py.
"""

import asyncio
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


def test_stop_twice_stops_once(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(ran.append, 1)
    loop.call_soon(lambda: loop.call_soon(lambda: (ran.append(2), loop.stop())))
    loop.run_forever()
    assert ran == [1, 2]


def test_create_task_on_a_closed_loop(loop: Loop) -> None:
    async def nothing() -> None: ...

    loop.close()
    coro = nothing()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coro)
    coro.close()


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
