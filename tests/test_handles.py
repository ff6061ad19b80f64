"""Handles and timer handles: type, repr, cancellation, contexts, comparison, weak references.

Run on asyncio and on mioloop alike; what asyncio answers is what is expected.
The order in which handles run is in test_call_soon.py and test_timers.py.
"""

import asyncio
import contextvars
import functools
import gc
import re
import weakref

import pytest

Loop = asyncio.AbstractEventLoop
HAS_GET_CONTEXT = hasattr(asyncio.Handle, "get_context")


def named_callback(*args: object) -> None:
    """Is a callback whose name can be looked for in a repr."""


def test_call_soon_returns_an_asyncio_handle(loop: Loop) -> None:
    handle = loop.call_soon(named_callback)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)


def test_call_later_and_call_at_return_timer_handles(loop: Loop) -> None:
    for handle in (
        loop.call_later(10, named_callback),
        loop.call_at(loop.time() + 10, named_callback),
    ):
        assert isinstance(handle, asyncio.TimerHandle)
        assert isinstance(handle, asyncio.Handle)
        assert not handle.cancelled()
        handle.cancel()


def test_threadsafe_handle_type(loop: Loop) -> None:
    handle = loop.call_soon_threadsafe(named_callback)
    expected = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)
    assert isinstance(handle, expected)


def test_repr_names_class_and_callback(loop: Loop) -> None:
    pattern = r"<{}{} named_callback\({}\) at .*test_handles\.py:\d+>"
    handle = loop.call_soon(named_callback)
    assert re.fullmatch(pattern.format("Handle", "", ""), repr(handle))
    with_args = loop.call_soon(named_callback, 1, "b")
    assert re.fullmatch(pattern.format("Handle", "", r".*"), repr(with_args))


def test_repr_of_timer_has_its_deadline(loop: Loop) -> None:
    handle = loop.call_at(loop.time() + 1000, named_callback)
    assert repr(handle).startswith(f"<TimerHandle when={handle.when()} named_callback() at ")
    handle.cancel()
    assert repr(handle) == f"<TimerHandle cancelled when={handle.when()}>"


def test_repr_of_cancelled_handle(loop: Loop) -> None:
    handle = loop.call_soon(named_callback, 1)
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_repr_of_cancelled_handle_keeps_the_callback_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    handle = loop.call_soon(named_callback, 123)
    handle.cancel()
    assert re.fullmatch(
        r"<Handle cancelled named_callback\(123\) at .*test_handles\.py:\d+"
        r" created at .*test_handles\.py:\d+>",
        repr(handle),
    )


def test_cancel_is_idempotent_and_returns_none(loop: Loop) -> None:
    for handle in (
        loop.call_soon(named_callback),
        loop.call_later(1000, named_callback),
        loop.call_soon_threadsafe(named_callback),
    ):
        assert handle.cancelled() is False
        assert handle.cancel() is None
        assert handle.cancel() is None
        assert handle.cancelled() is True


def test_cancelled_handles_do_not_run(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(ran.append, "soon").cancel()
    loop.call_later(0, ran.append, "later").cancel()
    loop.call_soon_threadsafe(ran.append, "threadsafe").cancel()
    loop.call_soon(ran.append, "kept")
    loop.run_until_complete(asyncio.sleep(0.001))
    assert ran == ["kept"]


def test_cancel_from_an_earlier_callback_of_the_same_turn(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon(lambda: second.cancel())
    second = loop.call_soon(ran.append, "second")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []


def test_cancel_after_run_is_harmless(loop: Loop) -> None:
    ran: list[int] = []
    handle = loop.call_soon(ran.append, 1)
    timer = loop.call_later(0, ran.append, 2)
    loop.run_until_complete(asyncio.sleep(0.001))
    handle.cancel()
    timer.cancel()
    assert handle.cancelled() and timer.cancelled()
    assert sorted(ran) == [1, 2]


def test_cancel_drops_callback_and_arguments(loop: Loop) -> None:
    class Big:
        def __call__(self, *args: object) -> None: ...

    for schedule in (loop.call_soon, lambda *a: loop.call_later(1000, *a)):
        callback, argument = Big(), Big()
        refs = weakref.ref(callback), weakref.ref(argument)
        handle = schedule(callback, argument)
        del callback, argument
        handle.cancel()
        gc.collect()
        assert [ref() for ref in refs] == [None, None]


def test_handle_runs_once_and_frees_its_argument(loop: Loop) -> None:
    class Big: ...

    argument = Big()
    ref = weakref.ref(argument)
    loop.call_soon(named_callback, argument)
    del argument
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.collect()
    assert ref() is None


def test_handles_take_weak_references(loop: Loop) -> None:
    handle, timer = loop.call_soon(named_callback), loop.call_later(1000, named_callback)
    assert weakref.ref(handle)() is handle
    assert weakref.ref(timer)() is timer
    timer.cancel()


@pytest.mark.skipif(not HAS_GET_CONTEXT, reason="Handle.get_context is new in 3.12")
def test_get_context(loop: Loop) -> None:
    context = contextvars.copy_context()
    for handle in (
        loop.call_soon(named_callback, context=context),
        loop.call_later(1000, named_callback, context=context),
        loop.call_at(loop.time() + 1000, named_callback, context=context),
        loop.call_soon_threadsafe(named_callback, context=context),
    ):
        assert handle.get_context() is context
        handle.cancel()
    implicit = loop.call_soon(named_callback).get_context()
    assert isinstance(implicit, contextvars.Context)
    assert implicit is not context


def test_timer_when(loop: Loop) -> None:
    deadline = loop.time() + 1234.5
    assert loop.call_at(deadline, named_callback).when() == deadline
    before = loop.time()
    handle = loop.call_later(1000, named_callback)
    assert before + 1000 <= handle.when() <= loop.time() + 1000


def test_timer_ordering_and_equality(loop: Loop) -> None:
    base = loop.time() + 1000
    early, late = loop.call_at(base, named_callback), loop.call_at(base + 1, named_callback)
    assert early < late and early <= late and late > early and late >= early
    assert early != late
    same = loop.call_at(base, named_callback)
    assert early == same and early <= same and early >= same
    assert not early < same and not early > same
    other = loop.call_at(base, named_callback, "argument")
    assert early != other
    same.cancel()
    assert early != same
    assert hash(early) == hash(early.when())
    with pytest.raises(TypeError):
        early < 3  # noqa: B015
    assert early != 3


def test_plain_handles_compare_by_identity(loop: Loop) -> None:
    first, second = loop.call_soon(named_callback), loop.call_soon(named_callback)
    assert first == first and first != second
    assert len({first, second}) == 2


class Owner:
    """Has a method that can be looked for in a repr."""

    def method(self) -> None: ...


def test_repr_of_methods_partials_and_lambdas(loop: Loop) -> None:
    assert repr(loop.call_soon(Owner().method)).startswith("<Handle Owner.method()")
    partial = repr(loop.call_soon(functools.partial(named_callback, 1)))
    assert partial.startswith("<Handle named_callback(")
    anonymous = "<Handle test_repr_of_methods_partials_and_lambdas.<locals>.<lambda>() at "
    assert repr(loop.call_soon(lambda: None)).startswith(anonymous)
    assert repr(loop.call_soon(print)).startswith("<Handle print()")


def test_stock_handles_of_other_code_are_not_ours(loop: Loop) -> None:
    """A handle made by hand with asyncio.Handle works on any loop that it names."""
    ran: list[int] = []
    handle = asyncio.Handle(ran.append, (1,), loop)
    loop.call_soon(handle._run)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == [1]
