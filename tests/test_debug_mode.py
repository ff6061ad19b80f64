"""Debug mode: slow callbacks, wrong threads, bad callbacks, source tracebacks, origin tracking.

Run on asyncio and on mioloop alike: the log lines and error texts are those that asyncio's users
know and match on.
"""

import asyncio
import gc
import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest
from child_script import run_script

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


def run_turns(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture
def debug_loop(loop: Loop) -> Iterator[Loop]:
    loop.set_debug(True)
    yield loop
    loop.set_debug(False)


async def coroutine_function() -> None: ...


def test_get_and_set(loop: Loop) -> None:
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_environment_and_dev_mode_switch_it_on(loop_kind: str) -> None:
    source = """
        loop = new_loop()
        say(loop.get_debug())
        loop.close()
        """
    assert run_script(loop_kind, source).out == ["False"]
    assert run_script(loop_kind, source, "-X", "dev").out == ["True"]
    switched = 'os.environ["PYTHONASYNCIODEBUG"] = "1"\n'
    assert run_script(loop_kind, switched + "say(new_loop().get_debug())").out == ["True"]


def slow() -> None:
    time.sleep(0.03)


def test_slow_callback(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    debug_loop.slow_callback_duration = 0.02  # type: ignore[attr-defined]
    debug_loop.call_soon(slow)
    debug_loop.call_soon(int)
    run_turns(debug_loop)
    (record,) = caplog.records
    assert record.name == "asyncio" and record.levelno == logging.WARNING
    pattern = (
        r"Executing <Handle slow\(\) at .*test_debug_mode\.py:\d+ created at "
        r".*test_debug_mode\.py:\d+> took (\d\.\d{3}) seconds"
    )
    found = re.fullmatch(pattern, record.getMessage())
    assert found and 0.03 <= float(found.group(1)) < 1


def test_slow_task_step(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def blocks() -> None:
        time.sleep(0.03)

    debug_loop.slow_callback_duration = 0.02  # type: ignore[attr-defined]
    debug_loop.run_until_complete(blocks())
    assert len(caplog.records) == 1
    text = caplog.records[0].getMessage()
    pattern = r"Executing <Task \w+ name='Task-\d+' coro=<.*blocks\(\).*> took .* seconds"
    assert re.fullmatch(pattern, text), text


def test_slow_step_of_a_woken_task(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def blocks_later() -> None:
        await asyncio.sleep(0)
        future = debug_loop.create_future()
        debug_loop.call_soon(future.set_result, None)
        await future
        time.sleep(0.03)

    debug_loop.slow_callback_duration = 0.02  # type: ignore[attr-defined]
    debug_loop.run_until_complete(blocks_later())
    assert len(caplog.records) == 1
    assert "blocks_later()" in caplog.records[0].getMessage()


def test_default_of_slow_callback_duration(loop: Loop) -> None:
    assert loop.slow_callback_duration == 0.1  # type: ignore[attr-defined]


def test_nothing_is_logged_without_debug(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.slow_callback_duration = 0.0  # type: ignore[attr-defined]
    loop.call_soon(slow)
    run_turns(loop)
    assert caplog.records == []


CALLS: dict[str, Callable[[Loop, object], object]] = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),  # type: ignore[arg-type]
    "call_later": lambda loop, callback: loop.call_later(1, callback),  # type: ignore[arg-type]
    "call_at": lambda loop, callback: loop.call_at(1, callback),  # type: ignore[arg-type]
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_callbacks(debug_loop: Loop, name: str) -> None:
    method = "call_at" if name == "call_later" else name
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {method}\(\)$"):
        CALLS[name](debug_loop, coroutine_function)
    coro = coroutine_function()
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {method}\(\)$"):
        CALLS[name](debug_loop, coro)
    coro.close()
    expected = rf"^a callable object was expected by {method}\(\), got 'text'$"
    with pytest.raises(TypeError, match=expected):
        CALLS[name](debug_loop, "text")


@pytest.mark.parametrize("name", ["call_soon", "call_later", "call_at"])
def test_wrong_thread(debug_loop: Loop, name: str) -> None:
    errors: list[str] = []

    def call() -> None:
        try:
            CALLS[name](debug_loop, int)
        except RuntimeError as error:
            errors.append(str(error))

    def start() -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    debug_loop.call_soon(start)
    run_turns(debug_loop)
    assert errors == [
        "Non-thread-safe operation invoked on an event loop other than the current one"
    ]


def test_other_threads_may_prepare_a_loop_that_does_not_run(debug_loop: Loop) -> None:
    ran: list[int] = []
    thread = threading.Thread(target=debug_loop.call_soon, args=(ran.append, 1))
    thread.start()
    thread.join()
    run_turns(debug_loop)
    assert ran == [1]


def test_threadsafe_is_allowed_from_everywhere(debug_loop: Loop) -> None:
    thread = threading.Thread(
        target=lambda: (time.sleep(0.005), debug_loop.call_soon_threadsafe(debug_loop.stop))
    )
    thread.start()
    debug_loop.run_forever()
    thread.join()


def test_source_tracebacks(debug_loop: Loop) -> None:
    """Each ends with the line of the caller, not with one inside of the loop."""
    task = debug_loop.create_task(coroutine_function())
    made = {
        "call_soon": debug_loop.call_soon(int),
        "call_later": debug_loop.call_later(1000, int),
        "call_at": debug_loop.call_at(debug_loop.time() + 1000, int),
        "call_soon_threadsafe": debug_loop.call_soon_threadsafe(int),
        "create_task": task,
    }
    for method, thing in made.items():
        frame = thing._source_traceback[-1]  # type: ignore[attr-defined]
        assert frame.filename == __file__, method
        assert frame.name == "test_source_tracebacks"
        assert f"debug_loop.{method}(" in (frame.line or "")
    made["call_later"].cancel()
    made["call_at"].cancel()
    debug_loop.run_until_complete(task)


def test_source_traceback_of_a_future(debug_loop: Loop) -> None:
    """asyncio leaves its own create_future() as the last entry: either is good."""
    future = debug_loop.create_future()
    lines = [frame.line for frame in future._source_traceback[-2:]]  # type: ignore[attr-defined]
    assert "future = debug_loop.create_future()" in lines


def test_no_source_tracebacks_without_debug(loop: Loop) -> None:
    task = loop.create_task(coroutine_function())
    for thing in (loop.call_soon(int), loop.create_future(), task):
        assert thing._source_traceback is None  # type: ignore[attr-defined]
    loop.run_until_complete(task)


def test_repr_shows_where_things_were_made(debug_loop: Loop) -> None:
    created = r" created at .*test_debug_mode\.py:\d+>$"
    assert " created at " in repr(debug_loop.create_future())
    task = debug_loop.create_task(coroutine_function())
    assert re.search(created, repr(task))
    assert re.search(created, repr(debug_loop.call_soon(print, 1)))
    debug_loop.run_until_complete(task)


def test_coroutine_origin_tracking(loop: Loop) -> None:
    """On while a debug loop runs, and back to what it was afterwards."""
    depths: list[int] = []
    before = sys.get_coroutine_origin_tracking_depth()
    loop.set_debug(True)
    assert sys.get_coroutine_origin_tracking_depth() == before
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    run_turns(loop)
    assert depths[0] > 0
    assert sys.get_coroutine_origin_tracking_depth() == before
    loop.set_debug(False)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    run_turns(loop)
    assert depths[1] == before


def test_a_coroutine_never_awaited_tells_where_it_was_made(debug_loop: Loop) -> None:
    def forget() -> None:
        coroutine_function()

    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        debug_loop.call_soon(forget)
        run_turns(debug_loop)
        gc.collect()
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("coroutine 'coroutine_function' was never awaited\nCoroutine created at")


def test_set_debug_while_running(loop: Loop) -> None:
    """The depth follows through a callback that asyncio queues with call_soon_threadsafe."""

    async def main() -> list[bool]:
        seen = []
        for debug in (True, False):
            loop.set_debug(debug)
            await asyncio.sleep(0.001)
            seen.append(sys.get_coroutine_origin_tracking_depth() > 0)
        return seen

    assert loop.run_until_complete(main()) == [True, False]


def test_slow_selects_are_not_the_user_s_business(
    debug_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """Waiting for a timer is no slow callback."""
    with caplog.at_level(logging.INFO, "asyncio"):
        debug_loop.run_until_complete(asyncio.sleep(0.15))
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
