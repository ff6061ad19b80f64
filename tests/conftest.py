"""Fixtures shared by every feature test: each test runs on asyncio's own loop and on ours.

pytest loads this file by itself. A test asks for `loop`, `run`, `new_loop` or `loop_kind`
and is then run twice, as `test_x[asyncio]` and `test_x[mioloop]`: asyncio is the
specification, so a test that fails on it is a wrong test. Nothing here hides a difference
between the two loops.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sysconfig
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar

import pytest

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# A shell's background jobs ignore SIGINT, what nohup runs SIGHUP, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

EXIT_STATUS = pytest.StashKey[int]()
LOOP_KINDS = ("asyncio", "mioloop")


class Run(Protocol):
    """What the `run` fixture gives: `asyncio.run`, on the loop under test."""

    def __call__(self, main: Awaitable[T], *, debug: bool = False) -> T: ...


def factory_of(kind: str) -> LoopFactory:
    """The function that makes a loop of `kind` ("asyncio" or "mioloop")."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop
    import mioloop

    return mioloop.new_event_loop


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, run the shut-down hooks and close, as `asyncio.run` does."""
    if loop.is_closed():
        return
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@pytest.fixture(params=LOOP_KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Which loop this run of the test is on: "asyncio" or "mioloop"."""
    return str(request.param)


@pytest.fixture
def loop_factory(loop_kind: str) -> LoopFactory:
    """The bare factory, for `asyncio.run(..., loop_factory=)` and `asyncio.Runner`.

    The caller closes what it makes.
    """
    return factory_of(loop_kind)


@pytest.fixture
def new_loop(loop_factory: LoopFactory) -> Iterator[LoopFactory]:
    """A factory whose loops are closed, their tasks cancelled, when the test is over."""
    made: list[asyncio.AbstractEventLoop] = []

    def make() -> asyncio.AbstractEventLoop:
        loop = loop_factory()
        made.append(loop)
        return loop

    yield make
    for loop in made:
        finish(loop)


@pytest.fixture
def loop(new_loop: LoopFactory) -> asyncio.AbstractEventLoop:
    """One open loop that does not run and is nobody's current loop."""
    return new_loop()


@pytest.fixture
def run(new_loop: LoopFactory) -> Run:
    """`run(coroutine)`: the result of the coroutine, on a new loop that is closed afterwards."""

    def run_on_new_loop(main: Awaitable[T], *, debug: bool = False) -> T:
        loop = new_loop()
        loop.set_debug(debug)
        try:
            return loop.run_until_complete(main)
        finally:
            finish(loop)

    return run_on_new_loop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `debug_build` on interpreters that are not Py_DEBUG builds."""
    if sysconfig.get_config_var("Py_DEBUG"):
        return
    skip = pytest.mark.skip(reason="needs a debug build of CPython (Py_DEBUG)")
    for item in items:
        if "debug_build" in item.keywords:
            item.add_marker(skip)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how the run ended, for `pytest_unconfigure`."""
    session.config.stash[EXIT_STATUS] = int(exitstatus)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Do not wait for ever at exit for a thread that a failed test has left behind."""
    left = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    for thread in left:
        thread.join(timeout=5)
    if any(thread.is_alive() for thread in left):
        print("threads left running:", *(thread.name for thread in left), flush=True)
        os._exit(config.stash.get(EXIT_STATUS, 1) or 1)


def pytest_report_header() -> Any:
    """Say which extension is under test: a stale build is the commonest surprise."""
    try:
        from mioloop import _native
    except ImportError as error:
        return f"mioloop: not importable ({error})"
    return f"mioloop: {_native.__file__}"
