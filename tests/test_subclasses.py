"""Our Task, Future and Loop as classes: inheritance, Python subclasses, every name of the base.

Our classes inherit from asyncio's C classes but never run the base's `__init__`, so each name of
the base must be overridden: the walks below prove it name by name, against the stock class.
Tests with `loop_kind` run on asyncio's classes too.
"""

import asyncio
import contextlib
import copy
import gc
import pickle
import types
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import mioloop
import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]
STATES = ("pending", "finished", "failed", "cancelled")


async def give(value: object = None) -> object:
    return value


async def fail() -> None:
    raise ValueError("reason")


@pytest.fixture
def future_class(loop_kind: str) -> "type[asyncio.Future[Any]]":
    return mioloop.Future if loop_kind == "mioloop" else asyncio.Future


@pytest.fixture
def task_class(loop_kind: str) -> "type[asyncio.Task[Any]]":
    return mioloop.Task if loop_kind == "mioloop" else asyncio.Task


# What the classes are ----------------------------------------------------------------------------


def test_inheritance() -> None:
    assert issubclass(mioloop.Future, asyncio.Future)
    assert issubclass(mioloop.Task, asyncio.Task)
    assert issubclass(mioloop.Task, asyncio.Future)
    assert issubclass(mioloop.Loop, asyncio.AbstractEventLoop)
    assert mioloop.Future.__name__ == "Future" and mioloop.Future is not asyncio.Future
    assert mioloop.Task.__name__ == "Task" and mioloop.Task is not asyncio.Task


def test_generic_aliases(
    future_class: "type[asyncio.Future[Any]]", task_class: "type[asyncio.Task[Any]]"
) -> None:
    for one in (future_class, task_class):
        assert isinstance(one[str], types.GenericAlias)
        assert one[str].__args__ == (str,)


def test_neither_can_be_copied_or_pickled(loop: Loop) -> None:
    for duplicate in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(loop.create_future())


def test_signatures_of_the_constructors(
    loop: Loop,
    future_class: "type[asyncio.Future[Any]]",
    task_class: "type[asyncio.Task[Any]]",
) -> None:
    with pytest.raises(TypeError):
        future_class(loop)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        task_class()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        task_class(loop=loop)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        coro = give()
        try:
            task_class(coro, loop)  # type: ignore[misc]
        finally:
            coro.close()
    assert future_class(loop=loop).get_loop() is loop
    task = task_class(give(1), loop=loop, name="named")
    assert task.get_name() == "named" and loop.run_until_complete(task) == 1


def test_constructors_take_the_running_loop(
    loop: Loop,
    future_class: "type[asyncio.Future[Any]]",
    task_class: "type[asyncio.Task[Any]]",
) -> None:
    async def main() -> None:
        assert future_class().get_loop() is loop
        assert await task_class(give(1)) == 1

    loop.run_until_complete(main())


# Every name of the base --------------------------------------------------------------------------

# Inherited on purpose: they read none of the base's fields, or one that is kept filled for
# `python -m asyncio ps`, which reads it from outside.
HARMLESS = {"__class_getitem__", "__doc__", "__module__", "_asyncio_awaited_by"}


def own_names(base: type) -> Iterator[str]:
    """Every name that `base` or one of its bases defines, those of `object` left out."""
    for name in dir(base):
        if getattr(base, name, None) is not getattr(object, name, None) and name not in HARMLESS:
            for owner in base.__mro__:
                if name in vars(owner) and owner is not object:
                    yield name
                    break


@pytest.mark.parametrize(
    ("ours", "base"),
    [(mioloop.Future, asyncio.Future), (mioloop.Task, asyncio.Task)],
    ids=["Future", "Task"],
)
def test_every_name_of_the_base_is_overridden(ours: type, base: type) -> None:
    inherited = []
    for name in own_names(base):
        owner = next(owner for owner in ours.__mro__ if name in vars(owner))
        if owner.__module__.startswith(("asyncio", "_asyncio")):
            inherited.append(name)
    assert inherited == []


def make(kind: str, stock: bool, state: str, loop: Loop) -> "asyncio.Future[Any]":
    """A future or task of the class asked for, in the state asked for."""
    if kind == "Future":
        future = (asyncio if stock else mioloop).Future(loop=loop)
        if state == "finished":
            future.set_result("value")
        elif state == "failed":
            future.set_exception(ValueError("reason"))
            future.exception()
    else:
        coro: Coroutine[Any, Any, Any] = fail() if state == "failed" else give("value")
        future = (asyncio if stock else mioloop).Task(coro, loop=loop, name="probed")
        if state in ("finished", "failed"):
            loop.run_until_complete(asyncio.wait([future]))
            future.exception()
    if state == "cancelled":
        future.cancel("message")
        if kind == "Task":
            loop.run_until_complete(asyncio.wait([future]))
    return future


def outcome(action: Callable[[], object]) -> tuple[str, ...]:
    """What came of it, in words that do not depend on which class was asked."""
    try:
        value = action()
    except BaseException as error:
        text = str(error).replace("_asyncio", "asyncio").replace("mioloop", "asyncio")
        return "raised", type(error).__name__, "not initialized" * ("not initialized" in text)
    if isinstance(value, (str, int, bool, type(None), BaseException)) and not callable(value):
        return "gave", type(value).__name__, repr(value)
    return "gave", "something", str(callable(value))


def probe(kind: str, stock: bool, state: str, loop: Loop) -> dict[str, tuple[str, ...]]:
    """Reads, calls, sets and deletes each name, on a fresh object each time."""
    found = {}
    for name in own_names(asyncio.Future if kind == "Future" else asyncio.Task):
        if name in ("__new__", "__init__", "__repr__", "_repr_info", "print_stack"):
            continue
        actions: dict[str, Callable[[Any], object]] = {
            "get": lambda one, name=name: getattr(one, name),
            "call": lambda one, name=name: getattr(one, name)(),
            "set": lambda one, name=name: setattr(one, name, None),
            "delete": lambda one, name=name: delattr(one, name),
        }
        for verb, action in actions.items():
            future = make(kind, stock, state, loop)
            found[f"{verb} {name}"] = outcome(lambda: action(future))  # noqa: B023
            with contextlib.suppress(AttributeError, TypeError, RuntimeError):
                delattr(future, name)
            if not future.done():
                future.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    return found


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["Future", "Task"])
def test_every_name_answers_as_the_stock_class_does(
    new_loop: NewLoop, kind: str, state: str
) -> None:
    loop = new_loop()
    loop.set_exception_handler(lambda *_: None)
    stock, ours = (probe(kind, stock, state, loop) for stock in (True, False))
    assert not [name for name, got in ours.items() if "not initialized" in got[-1]]
    assert ours == stock


# Python subclasses -------------------------------------------------------------------------------


def test_subclass_of_future(loop: Loop, future_class: "type[asyncio.Future[Any]]") -> None:
    class Counting(future_class):  # type: ignore[misc,valid-type]
        def __init__(self, **keywords: Any) -> None:
            super().__init__(**keywords)
            self.calls: list[str] = []

        def add_done_callback(self, *args: Any, **keywords: Any) -> None:
            self.calls.append("add_done_callback")
            super().add_done_callback(*args, **keywords)

        def cancel(self, *args: Any, **keywords: Any) -> bool:
            self.calls.append("cancel")
            return super().cancel(*args, **keywords)

    async def main() -> None:
        future = Counting(loop=loop)
        assert isinstance(future, asyncio.Future) and asyncio.isfuture(future)
        assert repr(future) == "<Counting pending>"
        loop.call_soon(future.set_result, "value")
        assert await future == "value"
        assert future.calls == ["add_done_callback"]
        cancelled = Counting(loop=loop)
        task = loop.create_task(give_of(cancelled))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert cancelled.calls == ["add_done_callback", "cancel"]

    async def give_of(future: "asyncio.Future[Any]") -> object:
        return await future

    loop.run_until_complete(main())


def test_subclass_of_task(loop: Loop, task_class: "type[asyncio.Task[Any]]") -> None:
    class Named(task_class):  # type: ignore[misc,valid-type]
        def __init__(self, coro: Any, *, loop: Loop, mark: str) -> None:
            self.mark = mark
            super().__init__(coro, loop=loop, name=f"named {mark}")

        def add_done_callback(self, *args: Any, **keywords: Any) -> None:
            self.watched = True
            super().add_done_callback(*args, **keywords)

    async def main() -> None:
        task = Named(give("value"), loop=loop, mark="x")
        assert repr(task).startswith("<Named pending name='named x' coro=<give()")
        assert await task == "value"
        assert task.mark == "x" and task.watched
        assert task.get_name() == "named x"

    loop.run_until_complete(main())


def test_overridden_cancel_of_a_task_is_what_gather_calls(
    loop: Loop, task_class: "type[asyncio.Task[Any]]"
) -> None:
    class Watched(task_class):  # type: ignore[misc,valid-type]
        cancels = 0

        def cancel(self, *args: Any, **keywords: Any) -> bool:
            type(self).cancels += 1
            return super().cancel(*args, **keywords)

    async def main() -> None:
        loop.set_task_factory(lambda loop, coro, **kw: Watched(coro, loop=loop, **kw))
        gathering = asyncio.gather(asyncio.sleep(1000), asyncio.sleep(1000))
        await asyncio.sleep(0)
        gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering

    loop.run_until_complete(main())
    assert Watched.cancels == 2


def test_subclass_with_slots_and_multiple_bases(
    loop: Loop, future_class: "type[asyncio.Future[Any]]"
) -> None:
    class Mixin:
        def shout(self) -> str:
            return repr(self).upper()

    class Slotted(Mixin, future_class):  # type: ignore[misc,valid-type]
        __slots__ = ("extra",)

    future = Slotted(loop=loop)
    future.extra = 1
    assert future.shout() == "<SLOTTED PENDING>" and future.extra == 1


def test_subclasses_take_weak_references_and_finalizers(
    loop: Loop, future_class: "type[asyncio.Future[Any]]"
) -> None:
    class Noted(future_class):  # type: ignore[misc,valid-type]
        def __del__(self) -> None:
            log.append("deleted")
            super().__del__()

    log: list[str] = []
    future = Noted(loop=loop)
    ref = weakref.ref(future)
    del future
    assert ref() is None and log == ["deleted"]


@pytest.mark.parametrize("attributes", [1, 40])
def test_attributes_in_a_cycle(
    loop: Loop,
    future_class: "type[asyncio.Future[Any]]",
    task_class: "type[asyncio.Task[Any]]",
    attributes: int,
) -> None:
    """The collector sees attributes, kept in the object or in a dict."""

    class SubFuture(future_class):  # type: ignore[misc,valid-type]
        pass

    class SubTask(task_class):  # type: ignore[misc,valid-type]
        pass

    refs = []
    for make in (future_class, SubFuture, task_class, SubTask):
        is_task = issubclass(make, asyncio.Task)
        made: Any = make(give(), loop=loop) if is_task else make(loop=loop)
        if is_task:
            loop.run_until_complete(made)
        for number in range(attributes):
            setattr(made, f"attribute_{number}", made)
        refs.append(weakref.ref(made))
    del made
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4


def test_subclass_that_forgets_super_init(
    loop: Loop, future_class: "type[asyncio.Future[Any]]"
) -> None:
    """An error, never a crash."""

    class Forgetful(future_class):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            pass

    future = Forgetful()
    for name in ("result", "exception", "get_loop", "cancel"):
        try:
            getattr(future, name)()
        except Exception as error:
            assert isinstance(error, (RuntimeError, asyncio.InvalidStateError))
    repr(type(future))
    del future


def test_subclass_of_the_loop(new_loop: NewLoop) -> None:
    base = type(new_loop())

    class Recording(base):  # type: ignore[misc,valid-type]
        def call_soon(self, callback: Any, *args: Any, **keywords: Any) -> asyncio.Handle:
            calls.append(getattr(callback, "__name__", ""))
            return super().call_soon(callback, *args, **keywords)

    calls: list[str] = []
    loop = Recording()
    loop.note = "attribute"
    assert weakref.ref(loop)() is loop
    loop.call_soon(len, "x")
    assert loop.run_until_complete(give("value")) == "value"
    assert "len" in calls and loop.note == "attribute"
    loop.close()
