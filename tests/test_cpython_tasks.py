"""CPython's own suites for Task and Future, run on our classes and on asyncio's stock loops.

The installed `test.test_asyncio` of the interpreter is used, nothing of it is copied: each suite
that CPython parametrises by a class gets ours. They drive asyncio's TestLoop, so they also show
that our tasks and futures work on a foreign loop. The same suites on our loop are run by
tests/conformance. A test is skipped only if SKIPPED says why.
"""

import asyncio
import gc
import unittest
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import mioloop
import pytest

test_futures = pytest.importorskip("test.test_asyncio.test_futures")
test_tasks = pytest.importorskip("test.test_asyncio.test_tasks")

pytestmark = pytest.mark.filterwarnings("default")

C_TASK = asyncio.Task
C_FUTURE = asyncio.Future
PY_TASK = asyncio.tasks._PyTask  # type: ignore[attr-defined]
PY_FUTURE = asyncio.futures._PyFuture  # type: ignore[attr-defined]

# Name of the test, and which detail of asyncio's own implementation it asserts.
UNBOUND = (
    "sets the result of a task by calling Future.set_result unbound: our Task inherits "
    "asyncio.Task, whose fields it does not use, and not our Future"
)
SKIPPED: dict[str, str] = {
    "test_set_result_causes_invalid_state": UNBOUND,
    "test_set_exception_causes_invalid_state": UNBOUND,
    "test_refleaks_in_task___init__": "a debug interpreter does not count the references that a "
    "release wheel takes and gives; test_gc.py looks at allocated blocks instead",
}
# Pairings beside the one that users get: the long half of this file.
SLOW = {"pytestmark": [pytest.mark.slow]}


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Some tests call gc.collect() a hundred times: spare it pytest's own many objects."""
    gc.freeze()
    yield
    gc.unfreeze()


def derive(name: str, stock: type, **changes: Any) -> type:
    """A subclass of CPython's test case with our classes in the place of the stock ones."""
    for test, reason in SKIPPED.items():
        if hasattr(stock, test):
            changes[test] = unittest.skip(reason)(getattr(stock, test))
    return type(name, (stock,), {"__module__": __name__, **changes})


def derive_with_subclasses(name: str, task: type, future: type, **changes: Any) -> type:
    """The same with Python subclasses of `task` and `future`, made by CPython's decorator."""
    stock = test_tasks.CTask_CFuture_SubclassTests
    kept = {
        key: value
        for key, value in vars(stock).items()
        if key not in ("Task", "Future", "test_subclasses_ctask_cfuture")
    }
    plain = type(name, stock.__bases__, {**kept, "Task": task, "Future": future})
    return derive(name, test_tasks.add_subclass_tests(plain), **changes)


# test_tasks: every pairing that has one of our classes in it --------------------------------------

ours = {"Task": mioloop.Task, "Future": mioloop.Future}
OurTaskOurFuture = derive("OurTaskOurFuture", test_tasks.CTask_CFuture_Tests, **ours)
OurTaskCFuture = derive(
    "OurTaskCFuture", test_tasks.CTask_CFuture_Tests, **{**ours, "Future": C_FUTURE}, **SLOW
)
OurTaskPyFuture = derive(
    "OurTaskPyFuture", test_tasks.CTask_PyFuture_Tests, **{**ours, "Future": PY_FUTURE}, **SLOW
)
CTaskOurFuture = derive(
    "CTaskOurFuture", test_tasks.CTask_CFuture_Tests, **{**ours, "Task": C_TASK}, **SLOW
)
PyTaskOurFuture = derive(
    "PyTaskOurFuture", test_tasks.PyTask_CFuture_Tests, **{**ours, "Task": PY_TASK}, **SLOW
)
OurTaskOurFutureSubclasses = derive_with_subclasses(
    "OurTaskOurFutureSubclasses", mioloop.Task, mioloop.Future
)
OurTaskCFutureSubclasses = derive_with_subclasses(
    "OurTaskCFutureSubclasses", mioloop.Task, C_FUTURE, **SLOW
)

# test_futures ------------------------------------------------------------------------------------


class PySubFuture(mioloop.Future):
    """A Python subclass, as CPython tests one of its C class."""


def new_future(self: Any, loop: Any = None) -> Any:
    """Is `_new_future` of the callback suite, whose argument came in 3.14."""
    return mioloop.Future(loop=self.loop if loop is None else loop)


def new_sub_future(self: Any, loop: Any = None) -> Any:
    return PySubFuture(loop=self.loop if loop is None else loop)


OurFuture = derive("OurFuture", test_futures.CFutureTests, cls=mioloop.Future)
OurSubFuture = derive("OurSubFuture", test_futures.CSubFutureTests, cls=PySubFuture)
OurFutureDoneCallback = derive(
    "OurFutureDoneCallback", test_futures.CFutureDoneCallbackTests, _new_future=new_future
)
OurSubFutureDoneCallback = derive(
    "OurSubFutureDoneCallback", test_futures.CSubFutureDoneCallbackTests, _new_future=new_sub_future
)
OurFutureInheritance = derive(
    "OurFutureInheritance",
    test_futures.CFutureInheritanceTests,
    _get_future_cls=lambda self: mioloop.Future,
)

# test_eager_task_factory (3.12+) and test_free_threading (3.14+) -----------------------------


def optional(name: str) -> "ModuleType | None":
    try:
        return __import__(f"test.test_asyncio.{name}", fromlist=["*"])
    except ImportError:
        return None


eager = optional("test_eager_task_factory")
if eager is not None:
    OurEagerTask = derive("OurEagerTask", eager.CEagerTaskFactoryLoopTests, Task=mioloop.Task)
    OurEagerTaskCounting = derive("OurEagerTaskCounting", eager.EagerCTaskTests, Task=mioloop.Task)
    OurLazyTaskCounting = derive("OurLazyTaskCounting", eager.NonEagerCTaskTests, Task=mioloop.Task)

threading_suite = optional("test_free_threading")
if threading_suite is not None:

    def lazy_factory(self: Any, loop: Any, coro: Any, **keywords: Any) -> Any:
        return mioloop.Task(coro, loop=loop, **keywords)

    def eager_factory(self: Any, loop: Any, coro: Any, **keywords: Any) -> Any:
        return mioloop.Task(coro, loop=loop, **{"eager_start": True, **keywords})

    OurTaskInThreads = derive(
        "OurTaskInThreads", threading_suite.TestCFreeThreading, factory=lazy_factory
    )
    OurEagerTaskInThreads = derive(
        "OurEagerTaskInThreads", threading_suite.TestEagerCFreeThreading, factory=eager_factory
    )


def test_the_suites_really_use_our_classes() -> None:
    case = OurTaskOurFuture("test_task_class")
    assert case.Task is mioloop.Task and case.Future is mioloop.Future  # type: ignore[attr-defined]
    assert OurFuture("test_isfuture").cls is mioloop.Future  # type: ignore[attr-defined]
    assert PySubFuture.__mro__[1] is mioloop.Future
