"""call_exception_handler, set_exception_handler, the default handler's text, and who calls it.

Run on asyncio and on mioloop alike; log records of the "asyncio" logger are compared with those
of asyncio's own loop where their text is long.
"""

import asyncio
import contextvars
import gc
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]
Context = dict[str, Any]


def run_turns(loop: Loop, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


@pytest.fixture
def reports(loop: Loop) -> list[Context]:
    """What the loop's exception handler is called with."""
    seen: list[Context] = []
    loop.set_exception_handler(lambda on, context: seen.append({**context, "loop": on}))
    return seen


def fail() -> None:
    raise ValueError("reason")


def test_set_and_get(loop: Loop) -> None:
    assert loop.get_exception_handler() is None

    def handler(_loop: Loop, _context: Context) -> None: ...

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    with pytest.raises(TypeError, match="^A callable object or None is expected, got 'text'$"):
        loop.set_exception_handler("text")  # type: ignore[arg-type]


def test_a_failing_callback(loop: Loop, reports: list[Context]) -> None:
    handle = loop.call_soon(fail)
    run_turns(loop)
    (report,) = reports
    assert report["loop"] is loop
    assert report["message"].startswith("Exception in callback fail() at ")
    assert str(report["exception"]) == "reason"
    assert report["handle"] is handle
    assert set(report) == {"loop", "message", "exception", "handle"}


def test_failing_timers_and_threadsafe_calls(loop: Loop, reports: list[Context]) -> None:
    timer = loop.call_later(0, fail)
    handle = loop.call_soon_threadsafe(fail)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert {id(report["handle"]) for report in reports} == {id(timer), id(handle)}


def test_the_callbacks_behind_a_failing_one_run(loop: Loop, reports: list[Context]) -> None:
    ran: list[int] = []
    for number in range(3):
        loop.call_soon(fail)
        loop.call_soon(ran.append, number)
    run_turns(loop)
    assert ran == [0, 1, 2] and len(reports) == 3


def test_base_exceptions_other_than_exits_are_reported(loop: Loop, reports: list[Context]) -> None:
    class Odd(BaseException): ...

    def raise_odd() -> None:
        raise Odd

    loop.call_soon(raise_odd)
    loop.call_soon(lambda: (_ for _ in ()).throw(asyncio.CancelledError()))
    loop.call_soon(lambda: (_ for _ in ()).throw(GeneratorExit()))
    run_turns(loop)
    kinds = [type(report["exception"]) for report in reports]
    assert kinds == [Odd, asyncio.CancelledError, GeneratorExit]


def test_default_handler_logs(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.call_soon(fail)
    run_turns(loop)
    (record,) = caplog.records
    assert record.name == "asyncio" and record.levelno == logging.ERROR
    assert record.getMessage().startswith("Exception in callback fail() at ")
    assert "\nhandle: <Handle fail() at " in record.getMessage()
    assert record.exc_info is not None and str(record.exc_info[1]) == "reason"


CONTEXTS: list[Context] = [
    {"message": "only a message"},
    {},
    {"message": "m", "exception": ValueError("text")},
    {"message": "m", "zebra": 1, "apple": "a", "odd": object},
    {"message": "m", "source_traceback": []},
]


@pytest.mark.parametrize("context", CONTEXTS, ids=range(len(CONTEXTS)))
def test_text_of_the_default_handler(
    loop: Loop, caplog: pytest.LogCaptureFixture, context: Context
) -> None:
    stock = asyncio.SelectorEventLoop()
    stock.default_exception_handler(dict(context))
    stock.close()
    loop.default_exception_handler(dict(context))
    loop.call_exception_handler(dict(context))
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0] == texts[1] == texts[2]


def test_default_handler_mentions_where_the_handle_was_made(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.call_soon(fail)
    run_turns(loop)
    text = caplog.records[0].getMessage()
    assert "Object created at (most recent call last):\n" in text
    assert "loop.call_soon(fail)" in text.splitlines()[-1]


def test_a_handler_may_fall_back_to_the_default_one(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(lambda on, context: on.default_exception_handler(context))
    loop.call_soon(fail)
    run_turns(loop)
    assert len(caplog.records) == 1


def test_a_handler_that_fails(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def bad_handler(_loop: Loop, _context: Context) -> None:
        raise LookupError("in handler")

    loop.set_exception_handler(bad_handler)
    ran: list[int] = []
    loop.call_soon(fail)
    loop.call_soon(ran.append, 1)
    run_turns(loop)
    assert ran == [1]
    assert "Unhandled error in exception handler" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_handler_that_exits(loop: Loop, error: type) -> None:
    def leaving(_loop: Loop, _context: Context) -> None:
        raise error

    loop.set_exception_handler(leaving)
    loop.call_soon(fail)
    with pytest.raises(error):
        loop.run_forever()


def test_an_overridden_method_is_called(loop: Loop) -> None:
    """Test suites replace loop.call_exception_handler by a mock."""
    seen: list[Context] = []
    loop.call_exception_handler = seen.append  # type: ignore[method-assign]
    loop.call_soon(fail)
    run_turns(loop)
    assert [str(context["exception"]) for context in seen] == ["reason"]


def test_a_task_destroyed_while_pending(loop: Loop, reports: list[Context]) -> None:
    async def wait() -> None:
        await loop.create_future()

    task = loop.create_task(wait(), name="lost")
    run_turns(loop, 2)
    asyncio.all_tasks(loop)
    del task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    (report,) = reports
    assert report["message"] == "Task was destroyed but it is pending!"
    assert report["task"].get_name() == "lost"


def test_log_destroy_pending_silences_it(loop: Loop, reports: list[Context]) -> None:
    async def wait() -> None:
        await loop.create_future()

    task = loop.create_task(wait())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    run_turns(loop, 2)
    del task
    gc.collect()
    assert reports == []


def test_errors_in_done_callbacks_of_tasks(loop: Loop, reports: list[Context]) -> None:
    async def nothing() -> None: ...

    task = loop.create_task(nothing())
    task.add_done_callback(lambda _: fail())
    loop.run_until_complete(task)
    run_turns(loop)
    assert [str(report["exception"]) for report in reports] == ["reason"]


@pytest.mark.skipif(not hasattr(asyncio.Handle, "get_context"), reason="3.12 made this so")
def test_the_handler_runs_in_the_context_of_the_failing_handle(loop: Loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(var.get()))
    context = contextvars.copy_context()
    context.run(var.set, "handle's")
    loop.call_soon(fail, context=context)
    run_turns(loop)
    assert seen == ["handle's"]
