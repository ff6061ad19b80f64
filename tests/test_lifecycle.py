"""A loop from its making to its end: running, stopping, closing, and what lasts as long as a run.

Run on asyncio and on mioloop alike; what asyncio answers is what is expected. What callbacks,
tasks and futures do in between is in their own files; so are signals, debug mode and
asynchronous generators.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from child_script import run_script

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]

CLOSED = "^Event loop is closed$"


async def answer(value: Any = 42) -> Any:
    await asyncio.sleep(0)
    return value


class Stop(BaseException):
    """An exception that is no Exception and no exit either."""


# Running


def test_run_until_complete_takes_coroutines_futures_tasks_and_awaitables(loop: Loop) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return answer(3).__await__()

    future = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1
    assert loop.run_until_complete(answer(2)) == 2
    assert loop.run_until_complete(Awaitable()) == 3
    assert loop.run_until_complete(loop.create_task(answer(4))) == 4
    assert loop.run_until_complete(future) == 1


def test_run_until_complete_refuses_what_cannot_be_awaited(loop: Loop) -> None:
    with pytest.raises(TypeError, match=r"An asyncio\.Future, a coroutine or an awaitable"):
        loop.run_until_complete("text")  # type: ignore[arg-type]


def test_run_until_complete_refuses_another_loops_future(new_loop: LoopFactory) -> None:
    with pytest.raises(ValueError, match="belongs to a different loop"):
        new_loop().run_until_complete(new_loop().create_future())


def test_run_until_complete_raises_what_the_coroutine_raises(loop: Loop) -> None:
    async def fail() -> None:
        raise KeyError("key")

    with pytest.raises(KeyError, match="key"):
        loop.run_until_complete(fail())


def test_stopping_early_is_an_error_of_run_until_complete(loop: Loop) -> None:
    async def stop() -> None:
        loop.stop()
        await asyncio.sleep(10)

    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(stop())


def test_no_done_callback_stays_on_a_future_that_was_not_done(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    # A callback left behind would stop this run as soon as the future is done.
    loop.call_soon(future.set_result, None)
    assert loop.run_until_complete(asyncio.wait_for(answer(1), 5)) == 1
    assert loop.run_until_complete(answer(2)) == 2


def test_stop_before_the_run_lets_one_turn_happen(loop: Loop) -> None:
    calls: list[int] = []

    def first() -> None:
        calls.append(1)
        loop.call_soon(calls.append, 2)

    loop.call_soon(first)
    loop.stop()
    loop.run_forever()
    assert calls == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == [1, 2]


def test_callbacks_of_the_turn_that_stops_still_run(loop: Loop) -> None:
    calls: list[int] = []
    loop.call_soon(calls.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(calls.append, 2)
    loop.run_forever()
    assert calls == [1, 2]


def test_states_and_repr(loop: Loop) -> None:
    seen: list[tuple[bool, bool, str]] = []

    def look() -> tuple[bool, bool, str]:
        return loop.is_running(), loop.is_closed(), repr(loop).partition(" ")[2]

    loop.call_soon(lambda: seen.append(look()))
    loop.call_soon(loop.stop)
    seen.append(look())
    loop.run_forever()
    loop.set_debug(True)
    loop.close()
    seen.append(look())
    assert seen == [
        (False, False, "running=False closed=False debug=False>"),
        (True, False, "running=True closed=False debug=False>"),
        (False, True, "running=False closed=True debug=True>"),
    ]


def test_the_running_loop_is_known_to_asyncio(loop: Loop) -> None:
    async def main() -> list[object]:
        return [asyncio.get_running_loop(), asyncio.get_event_loop()]

    assert loop.run_until_complete(main()) == [loop, loop]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def ways_to_run(loop: Loop, loop_kind: str) -> list[Callable[[], object]]:
    """The methods that run a loop; the second closes its coroutine if it does not."""

    def run_until_complete() -> None:
        coroutine = answer()
        try:
            loop.run_until_complete(coroutine)
        finally:
            coroutine.close()

    if loop_kind == "asyncio" and sys.version_info[:2] == (3, 13):
        # Early 3.13 forgets the running loop and the hooks when run_forever() refuses.
        return [run_until_complete]
    return [run_until_complete, loop.run_forever]


def test_a_running_loop_does_not_run_again(loop: Loop, loop_kind: str) -> None:
    async def main() -> None:
        for run in ways_to_run(loop, loop_kind):
            with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
                run()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_another_loop_does_not_run_inside_a_run(new_loop: LoopFactory, loop_kind: str) -> None:
    outer, inner = new_loop(), new_loop()

    async def main() -> None:
        for run in ways_to_run(inner, loop_kind):
            with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop"):
                run()
        assert asyncio.get_running_loop() is outer

    outer.run_until_complete(main())
    assert inner.run_until_complete(answer()) == 42


def test_a_loop_runs_in_one_thread_at_a_time(loop: Loop, loop_kind: str) -> None:
    errors: list[str] = []

    def run_again() -> None:
        for run in ways_to_run(loop, loop_kind):
            try:
                run()
            except RuntimeError as error:
                errors.append(str(error))

    def elsewhere() -> None:
        thread = threading.Thread(target=run_again)
        thread.start()
        thread.join()

    loop.call_soon(elsewhere)
    loop.run_until_complete(answer())
    assert set(errors) == {"This event loop is already running"}


def test_one_loop_runs_in_one_thread_after_another(loop: Loop) -> None:
    results: list[int] = []
    for number in range(3):
        thread = threading.Thread(
            target=lambda number=number: results.append(loop.run_until_complete(answer(number)))
        )
        thread.start()
        thread.join()
    results.append(loop.run_until_complete(answer(3)))
    assert results == [0, 1, 2, 3]


def test_many_loops_in_many_threads(loop_factory: LoopFactory) -> None:
    results: list[list[int]] = []

    async def main(number: int) -> list[int]:
        return await asyncio.gather(*(answer(number) for _ in range(50)))

    def work(number: int) -> None:
        loop = loop_factory()
        for _ in range(10):
            results.append(loop.run_until_complete(main(number)))
        loop.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted([[number] * 50 for number in range(8)] * 10)


# Leaving a run by an exception


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Stop()])
def test_a_task_that_exits_ends_the_run(loop: Loop, error: BaseException) -> None:
    messages: list[Any] = []
    loop.set_exception_handler(lambda loop, context: messages.append(context))

    async def leave() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        loop.run_until_complete(leave())
    assert caught.value is error
    # The loop goes on, is not stopped by what was left, and reports nothing.
    assert loop.run_until_complete(answer()) == 42
    gc.collect()
    assert messages == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_exits_loses_no_other_callback(loop: Loop, error: BaseException) -> None:
    calls: list[int] = []

    def leave() -> None:
        raise error

    loop.call_soon(calls.append, 1)
    loop.call_soon(leave)
    loop.call_soon(calls.append, 2)
    loop.call_later(0, calls.append, 3)
    with pytest.raises(type(error)):
        loop.run_forever()
    assert not loop.is_running()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.run_until_complete(asyncio.wait_for(answer(), 5))
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert sorted(calls) == [1, 2, 3]


# Closing


def test_a_closed_loop_refuses_everything(loop: Loop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()
    waiting = answer()
    for call in (
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(waiting),
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(loop.time() + 1, print),
        lambda: loop.create_task(waiting),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.add_signal_handler(signal.SIGUSR1, print),
    ):
        with pytest.raises(RuntimeError, match=CLOSED):
            call()
    waiting.close()


def test_a_running_loop_is_not_closed(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_closed()


def test_what_was_queued_is_dropped_by_close(loop: Loop) -> None:
    class Token:
        pass

    tokens = [Token() for _ in range(3)]
    dead = [weakref.ref(token) for token in tokens]
    loop.call_soon(print, tokens[0])
    loop.call_later(100, print, tokens[1])
    loop.call_soon_threadsafe(print, tokens[2])
    del tokens
    loop.close()
    gc.collect()
    assert [ref() for ref in dead] == [None] * 3


def test_an_unclosed_loop_is_reported(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.run_until_complete(answer())
    with pytest.warns(ResourceWarning, match="^unclosed event loop <.*Loop running=False closed="):
        del loop
        gc.collect()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_closing_gives_every_descriptor_back(loop_factory: LoopFactory) -> None:
    def one_life() -> None:
        loop = loop_factory()
        loop.run_until_complete(answer())
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.run_until_complete(loop.run_in_executor(None, answer().close))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    one_life()
    before = open_descriptors()
    for _ in range(20):
        one_life()
    assert open_descriptors() == before


def test_closing_in_debug_mode_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    with caplog.at_level("DEBUG", logger="asyncio"):
        loop.close()
    assert any(record.message.startswith("Close <") for record in caplog.records)


def test_the_interpreter_may_end_before_a_task(loop_kind: str) -> None:
    """What is reported then depends on what Python has torn down; the process ends normally."""
    script = """
        loop = new_loop()
        async def wait():
            await loop.create_future()
        task = loop.create_task(wait())
        loop.run_until_complete(asyncio.sleep(0))
        """
    code, out, err = run_script(loop_kind, script)
    assert (code, out) == (0, [])
    assert "panic" not in err.lower()


# Subclasses


def test_a_subclass_takes_arguments_of_its_own(loop_kind: str) -> None:
    if loop_kind == "asyncio":
        base: Any = asyncio.SelectorEventLoop
    else:
        import mioloop

        base = mioloop.Loop

    class Named(base):  # type: ignore[misc]
        def __init__(self, name: str, *, colour: str = "red") -> None:
            super().__init__()
            self.name = name, colour

    loop = Named("blue", colour="green")
    assert loop.name == ("blue", "green")
    assert repr(loop).startswith("<Named running=False")
    assert loop.run_until_complete(answer()) == 42
    loop.close()
