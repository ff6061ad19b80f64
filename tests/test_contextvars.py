"""Context variables: in which context each kind of callback and each task runs.

Run on asyncio and on mioloop alike.
"""

import asyncio
import contextvars
import decimal
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]
var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")


def context_with(value: str) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(var.set, value)
    return context


SCHEDULERS: dict[str, Callable[..., Any]] = {
    "call_soon": lambda loop, *args, **kwargs: loop.call_soon(*args, **kwargs),
    "call_later": lambda loop, *args, **kwargs: loop.call_later(0, *args, **kwargs),
    "call_at": lambda loop, *args, **kwargs: loop.call_at(loop.time(), *args, **kwargs),
    "call_soon_threadsafe": lambda loop, *args, **kwargs: loop.call_soon_threadsafe(
        *args, **kwargs
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_callbacks_run_in_the_context_given(loop: Loop, name: str) -> None:
    seen: list[str] = []
    given = context_with("given")

    def callback() -> None:
        seen.append(var.get())
        var.set("changed")

    SCHEDULERS[name](loop, callback, context=given)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen == ["given"]
    assert given[var] == "changed"
    assert var.get() == "default"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_callbacks_run_in_a_copy_of_the_caller_s_context(loop: Loop, name: str) -> None:
    seen: list[str] = []

    def callback() -> None:
        seen.append(var.get())
        var.set("changed in the copy")

    def schedule() -> None:
        var.set("caller")
        SCHEDULERS[name](loop, callback)
        var.set("too late")

    context = contextvars.copy_context()
    context.run(schedule)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen == ["caller"]
    assert context[var] == "too late"


def test_each_callback_has_its_own_copy(loop: Loop) -> None:
    seen: list[str] = []

    def callback(value: str) -> None:
        seen.append(var.get())
        var.set(value)

    for value in "abc":
        loop.call_soon(callback, value)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == ["default"] * 3


def test_the_context_is_left_when_a_callback_raises(loop: Loop) -> None:
    loop.set_exception_handler(lambda *_: None)
    seen: list[str] = []

    def fail() -> None:
        var.set("failed")
        raise ValueError

    loop.call_soon(fail, context=context_with("given"))
    loop.call_soon(lambda: seen.append(var.get()))
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == ["default"] and var.get() == "default"


def test_context_must_be_a_context(loop: Loop) -> None:
    """asyncio finds out when the callback runs; an error is reported, never a crash."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    try:
        loop.call_soon(print, context="no context")  # type: ignore[arg-type]
    except TypeError:
        return
    loop.run_until_complete(asyncio.sleep(0))
    assert len(reports) == 1


def test_tasks_run_in_a_copy(loop: Loop) -> None:
    async def child() -> str:
        before = var.get()
        var.set("child")
        await asyncio.sleep(0)
        return f"{before} {var.get()}"

    async def main() -> list[str]:
        var.set("parent")
        tasks = [asyncio.ensure_future(child()) for _ in range(2)]
        var.set("parent later")
        results = await asyncio.gather(*tasks)
        return [*results, var.get()]

    expected = ["parent child", "parent child", "parent later"]
    assert loop.run_until_complete(main()) == expected
    assert var.get() == "default"


def test_direct_await_shares_the_context(loop: Loop) -> None:
    async def child() -> None:
        await asyncio.sleep(0)
        var.set("child")

    async def main() -> str:
        await child()
        return var.get()

    assert loop.run_until_complete(main()) == "child"


def accepts_context(loop: Loop) -> bool:
    async def nothing() -> None: ...

    coro = nothing()
    try:
        loop.run_until_complete(loop.create_task(coro, context=contextvars.copy_context()))
    except TypeError:
        coro.close()
        return False
    return True


def test_create_task_with_a_context(loop: Loop) -> None:
    """The keyword is new in 3.11."""
    with_stock = asyncio.SelectorEventLoop()
    expected = accepts_context(with_stock)
    with_stock.close()
    assert accepts_context(loop) == expected
    if not expected:
        return

    async def child() -> str:
        before = var.get()
        await asyncio.sleep(0)
        var.set("child")
        return before

    given = context_with("given")
    assert loop.run_until_complete(loop.create_task(child(), context=given)) == "given"
    assert given[var] == "child"
    task = loop.create_task(child(), context=None)
    assert loop.run_until_complete(task) == "default"


@pytest.mark.skipif(not hasattr(asyncio.Task, "get_context"), reason="new in 3.12")
def test_get_context_of_a_task(loop: Loop) -> None:
    given = context_with("given")

    async def nothing() -> None: ...

    task = loop.create_task(nothing(), context=given)
    assert task.get_context() is given
    loop.run_until_complete(task)
    own = loop.create_task(nothing())
    assert isinstance(own.get_context(), contextvars.Context)
    assert own.get_context() is not given
    loop.run_until_complete(own)


def test_tasks_and_callbacks_share_a_context_one_after_another(loop: Loop) -> None:
    """One context may be given to many; it is entered and left for each step."""
    shared = contextvars.copy_context()
    order: list[str] = []

    def add(name: str) -> None:
        var.set(var.get() + name)
        order.append(var.get())

    shared.run(var.set, "")
    for name in "abc":
        loop.call_soon(add, name, context=shared)
    loop.run_until_complete(asyncio.sleep(0))
    assert order == ["a", "ab", "abc"]


def test_entering_a_context_that_is_entered_already(loop: Loop) -> None:
    """call_soon(context=the current one) from within works: it has been left by then."""
    seen: list[str] = []
    context = context_with("entered")

    def outer() -> None:
        loop.call_soon(lambda: seen.append(var.get()), context=context)

    loop.call_soon(outer, context=context)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen == ["entered"]


def test_running_the_loop_inside_a_context_it_then_needs(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback whose context the caller of run_forever holds cannot be entered: logged."""
    ran: list[int] = []
    context = contextvars.copy_context()

    def run() -> None:
        loop.call_soon(ran.append, 1, context=context)
        loop.run_until_complete(asyncio.sleep(0))

    context.run(run)
    assert ran == []
    assert "cannot enter context" in caplog.text


def test_done_callbacks_of_a_task(loop: Loop) -> None:
    seen: list[str] = []

    async def child() -> None:
        var.set("child")
        await asyncio.sleep(0)

    async def main() -> None:
        var.set("main")
        task = asyncio.ensure_future(child())
        task.add_done_callback(lambda _: seen.append(var.get()))
        task.add_done_callback(lambda _: seen.append(var.get()), context=context_with("given"))
        await task
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == ["main", "given"]


def test_to_thread_carries_the_context_and_executors_do_not(loop: Loop) -> None:
    async def main() -> tuple[str, str]:
        var.set("main")
        in_executor = await loop.run_in_executor(None, var.get)
        return await asyncio.to_thread(var.get), in_executor

    assert loop.run_until_complete(main()) == ("main", "default")


def test_threadsafe_call_brings_the_context_of_its_thread(loop: Loop) -> None:
    seen: list[str] = []

    def thread() -> None:
        var.set("thread")
        loop.call_soon_threadsafe(lambda: seen.append(var.get()))
        loop.call_soon_threadsafe(loop.stop)

    worker = threading.Thread(target=thread)
    worker.start()
    loop.run_forever()
    worker.join()
    assert seen == ["thread"]


def test_decimal_precision_is_per_task(loop: Loop) -> None:
    """The standard library's own context variable, as in PEP 567."""

    async def one_third(precision: int) -> str:
        with decimal.localcontext() as context:
            context.prec = precision
            await asyncio.sleep(0)
            return str(decimal.Decimal(1) / decimal.Decimal(3))

    async def main() -> list[str]:
        return await asyncio.gather(one_third(3), one_third(5))

    assert loop.run_until_complete(main()) == ["0.333", "0.33333"]


def test_the_context_that_a_handle_shows_is_the_one_it_runs_in(loop: Loop) -> None:
    """Also where nobody asks before it has run, or two ask one after the other."""
    contexts: list[contextvars.Context] = []
    tokens: list[contextvars.Token[str]] = []

    def callback() -> None:
        tokens.append(var.set("set"))

    asked_before = loop.call_soon(callback)
    contexts.append(asked_before._context)
    assert asked_before._context is contexts[0] and var not in contexts[0]
    asked_after = loop.call_soon(callback)
    timer = loop.call_later(0, callback)
    loop.run_until_complete(asyncio.sleep(0.001))
    contexts += [asked_after._context, timer._context]
    assert [context[var] for context in contexts] == ["set"] * 3
    assert len({id(context) for context in contexts}) == 3
    for context, token in zip(contexts, tokens, strict=True):
        context.run(var.reset, token)  # ValueError in any other context.
        assert var not in context


def test_a_context_that_somebody_keeps_is_nobody_else_s(loop: Loop) -> None:
    """By a token, a weak reference or a copy's owner: callbacks that follow get others."""
    tokens: list[contextvars.Token[str]] = []
    before: list[str] = []

    def callback(value: str) -> None:
        before.append(var.get())
        tokens.append(var.set(value))

    async def child(value: str) -> None:
        callback(value)

    for value in "abc":
        loop.call_soon(callback, value)
        loop.run_until_complete(child(value))
    loop.run_until_complete(asyncio.sleep(0))
    assert before == ["default"] * 6
    assert all(token.old_value is token.MISSING for token in tokens)
    with pytest.raises(ValueError, match="different Context"):
        contextvars.copy_context().run(var.reset, tokens[0])


def test_variables_of_a_callback_die_with_it(loop: Loop) -> None:
    class Value:
        pass

    values: list[weakref.ref[Value]] = []
    anything: contextvars.ContextVar[Value] = contextvars.ContextVar("anything")

    def callback() -> None:
        value = Value()
        values.append(weakref.ref(value))
        anything.set(value)

    async def child() -> None:
        callback()

    async def main() -> list[bool]:
        running = asyncio.get_running_loop()
        running.call_soon(callback)
        running.call_later(0, callback)
        await running.create_task(child())
        await asyncio.sleep(0.001)
        gc.collect()
        return [value() is None for value in values]

    assert loop.run_until_complete(main()) == [True] * 3


def test_a_finished_task_keeps_what_its_context_had(loop: Loop) -> None:
    async def child() -> None:
        var.set("child")

    async def failing() -> None:
        var.set("failing")
        raise ValueError

    task, failed = loop.create_task(child()), loop.create_task(failing())
    loop.run_until_complete(asyncio.wait([task, failed]))
    assert isinstance(failed.exception(), ValueError)
    if hasattr(task, "get_context"):
        assert [task.get_context()[var], failed.get_context()[var]] == ["child", "failing"]
        assert task.get_context() is task.get_context()


def test_done_callbacks_show_their_contexts(loop: Loop) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        for value in ("first", "second", "third"):
            var.set(value)
            future.add_done_callback(id)
        contexts = [context for _, context in future._callbacks]
        assert [context[var] for context in contexts] == ["first", "second", "third"]
        again = [context for _, context in future._callbacks]
        assert all(one is two for one, two in zip(contexts, again, strict=True))
        future.cancel()

    loop.run_until_complete(main())


def test_a_failed_callback_shows_the_context_it_ran_in(loop: Loop) -> None:
    seen: list[str] = []

    def report(_: Loop, context: dict[str, Any]) -> None:
        seen.append(context["handle"]._context[var])

    def fail() -> None:
        var.set("failed")
        raise ValueError

    loop.set_exception_handler(report)
    loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen == ["failed"] * 2


def test_a_context_in_a_cycle_with_its_handle_is_collected(loop: Loop) -> None:
    class Value:
        handle: asyncio.Handle

    anything: contextvars.ContextVar[Value] = contextvars.ContextVar("anything")

    def make() -> weakref.ref[Value]:
        value = Value()
        anything.set(value)
        value.handle = loop.call_later(1000, id, None)
        value.handle.cancel()
        return weakref.ref(value)

    values = [contextvars.copy_context().run(make) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert [value() is None for value in values] == [True] * 3
