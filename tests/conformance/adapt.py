"""Fits single test modules of CPython to a foreign loop.

Called by `collect` after a module was imported. Some modules build a half-mocked
`BaseEventLoop` in setUp(), or are parametrized by a loop class: they are given the candidate
instead. Never changes what a test asserts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from conformance.exclusions import LOOP_CLASSES, VIRTUAL_TIME
from conformance.inject import Tracker

# What marks a test of the Future constructor, which loop.create_future() cannot stand for.
CONSTRUCTOR_TESTS = (
    "constructor",
    "ctor",
    "use_global_loop",
    "source_traceback",
    "isfuture",
    "uninitialized",
)


class Context:
    """What an adapter gets: the module, asyncio's test helpers, the loop factory."""

    def __init__(self, module: ModuleType, utils: Any, tracker: Tracker) -> None:
        self.module = module
        self.utils = utils
        self.tracker = tracker
        self.classes: dict[str, type] = {}

    def add(self, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        """Make a test class that is run beside (or instead of) the module's own."""
        namespace["__module__"] = self.module.__name__
        namespace["__qualname__"] = name
        self.classes[name] = type(name, bases, namespace)

    def set_up_with_candidate(self) -> Callable[[Any], None]:
        """A setUp() that gives the test `self.loop`, a candidate."""

        def setUp(self_: Any) -> None:
            self.utils.TestCase.setUp(self_)
            self_.loop = self.tracker()
            self_.set_event_loop(self_.loop)

        return setUp


def patch_test_utils(tracker: Tracker) -> Any:
    """Replace the helpers of test.test_asyncio.utils that assume asyncio's own loop."""
    try:
        from test.test_asyncio import utils
    except ImportError:
        return None
    original_close = utils.TestCase.close_loop
    missing = object()

    def close_loop(loop: Any) -> None:
        # The original reads loop._default_executor, private to BaseEventLoop.
        if getattr(loop, "_default_executor", missing) is not missing:
            original_close(loop)
            return
        executor_threads = ("asyncio_", "ThreadPoolExecutor")
        if not loop.is_closed() and any(
            thread.name.startswith(executor_threads) for thread in threading.enumerate()
        ):
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def new_test_loop(self: Any, gen: Any = None) -> Any:
        if gen is not None:
            self.skipTest(VIRTUAL_TIME)
        loop = tracker()
        self.set_event_loop(loop)
        return loop

    utils.TestCase.close_loop = staticmethod(close_loop)
    utils.TestCase.new_test_loop = new_test_loop
    return utils


def adapt(group: str, module: ModuleType, tracker: Tracker, utils: Any) -> dict[str, type]:
    """Prepare `module`; returns the test classes to add, by name."""
    context = Context(module, utils, tracker)
    if group in LOOP_CLASSES:
        loop_class(group, context)
    adapter = ADAPTERS.get(group)
    if adapter is not None:
        adapter(context)
    return context.classes


def loop_class(group: str, context: Context) -> None:
    """One class, on the candidate, of the mixins that have a variant per selector."""
    rule = LOOP_CLASSES[group]
    mixins = tuple(getattr(context.module, m) for m in rule.mixins if hasattr(context.module, m))

    def create_event_loop(self: Any) -> Any:
        return context.tracker()

    namespace: dict[str, Any] = {"create_event_loop": create_event_loop}
    if group == "test_subprocess":
        namespace["setUp"] = context.set_up_with_candidate()
    context.add(rule.name, (*mixins, context.utils.TestCase), namespace)


def base_events(context: Context) -> None:
    """BaseEventLoopTests would build a BaseEventLoop with a mocked selector."""
    context.module.BaseEventLoopTests.setUp = context.set_up_with_candidate()


def pep492(context: Context) -> None:
    """BaseTest would build a BaseEventLoop with a mocked selector."""
    context.module.BaseTest.setUp = context.set_up_with_candidate()


def set_attribute(obj: object, name: str, value: object) -> bool:
    """setattr() for loops that may refuse new attributes."""
    try:
        setattr(obj, name, value)
    except (AttributeError, TypeError):
        return False
    return True


def runners(context: Context) -> None:
    """new_loop() builds a mock that notes shutdown_asyncgens(); note it on the candidate."""
    module = context.module
    noted: set[int] = set()

    def new_loop(self: Any) -> Any:
        loop = context.tracker()
        original = loop.shutdown_asyncgens

        async def shutdown_asyncgens() -> None:
            set_attribute(loop, "shutdown_ag_run", True)
            await original()

        if set_attribute(loop, "shutdown_ag_run", False) and set_attribute(
            loop, "shutdown_asyncgens", shutdown_asyncgens
        ):
            noted.add(id(loop))
        return loop

    original_tear_down = module.BaseTest.tearDown
    get_policy = getattr(asyncio.events, "_get_event_loop_policy", None) or (
        asyncio.events.get_event_loop_policy
    )

    def tearDown(self: Any) -> None:
        policy = get_policy()
        loop = getattr(policy, "loop", None)
        if isinstance(loop, asyncio.AbstractEventLoop) and id(loop) not in noted:
            # The candidate takes no attributes: the original would look for one.
            self.assertTrue(loop.is_closed())
            policy.loop = None
        original_tear_down(self)

    module.BaseTest.new_loop = new_loop
    module.BaseTest.tearDown = tearDown


def tasks(context: Context) -> None:
    """Futures and tasks as the tests parametrize them, and once more as the loop makes them."""
    base = context.module.BaseTaskTests

    def setUp(self: Any) -> None:
        super(base, self).setUp()
        self.loop = self.new_test_loop()
        # new_task() of the tests knows name and context only. A loop that hands its factory
        # more keywords (eager_start, the contract since 3.14) would fail every test here at
        # once: drop what is None. The strict contract is in test_eager_task_factory and
        # test_base_events (test_create_named_task_with_custom_factory).
        self.loop.set_task_factory(
            lambda loop, coro, **kw: self.new_task(
                loop, coro, **{k: v for k, v in kw.items() if v is not None}
            )
        )
        set_attribute(self.loop, "create_future", lambda: self.new_future(self.loop))

    base.setUp = setUp
    if hasattr(context.module, "GatherTestsBase"):

        def run_loop(self: Any, loop: Any) -> None:
            # The original runs "while loop._ready".
            for _ in range(20):
                context.utils.run_briefly(loop)

        context.module.GatherTestsBase._run_loop = run_loop

    def set_up_plain(self: Any) -> None:
        super(base, self).setUp()
        self.loop = self.new_test_loop()

    def new_task(self: Any, loop: Any, coro: Any, name: str = "TestTask", **kwargs: Any) -> Any:
        kwargs = {k: v for k, v in kwargs.items() if v is not None}
        return loop.create_task(coro, name=name, **kwargs)

    def new_future(self: Any, loop: Any) -> Any:
        return loop.create_future()

    namespace = {
        "setUp": set_up_plain,
        "new_task": new_task,
        "new_future": new_future,
        "Task": asyncio.Task,
        "Future": asyncio.Future,
    }
    context.add("LoopTask_LoopFuture_Tests", (context.module.CTask_CFuture_Tests,), namespace)


def futures(context: Context) -> None:
    """The tests of Future once more on what loop.create_future() makes."""
    base = context.module.BaseFutureTests

    def new_future(self: Any, *args: Any, loop: Any = None, **kwargs: Any) -> Any:
        return (loop or self.loop).create_future()

    namespace: dict[str, Any] = {"_new_future": new_future, "cls": asyncio.Future}
    for name in dir(base):
        if name.startswith("test_") and any(word in name for word in CONSTRUCTOR_TESTS):
            namespace[name] = None
    context.add("LoopFutureTests", (base, context.utils.TestCase), namespace)


ADAPTERS: dict[str, Callable[[Context], None]] = {
    "test_base_events": base_events,
    "test_futures": futures,
    "test_pep492": pep492,
    "test_runners": runners,
    "test_tasks": tasks,
}
