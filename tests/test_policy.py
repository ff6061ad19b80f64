"""The policy and `install()`: who makes which loop, in which thread, and who warns.

What the stock policy of this Python does is the expectation, with one exception on purpose:
our `get_event_loop()` makes the main thread's loop on every Python, silently. Tests that
look at warnings or at the import run in processes of their own.
"""

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from asyncio import events
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mioloop
import pytest

POLICIES_ARE_DEPRECATED = sys.version_info >= (3, 14)
# The type check was an assertion until it became an exception in a release of 3.11.
NOT_A_LOOP = (TypeError, AssertionError)


def get_policy() -> Any:
    return getattr(events, "_get_event_loop_policy", events.get_event_loop_policy)()


def set_policy(policy: Any) -> None:
    getattr(events, "_set_event_loop_policy", events.set_event_loop_policy)(policy)


@pytest.fixture
def policy() -> Iterator[Any]:
    """Our policy, in force; at the end its main thread's loop is closed."""
    before = get_policy()
    policy = mioloop.EventLoopPolicy()
    set_policy(policy)
    yield policy
    set_policy(before)
    loop = policy._local._loop
    if loop is not None:
        loop.close()


def python(code: str, *options: str) -> "subprocess.CompletedProcess[str]":
    paths = [str(Path(mioloop.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


def in_thread(function: Any) -> Any:
    """What `function()` returns or raises in another thread, named "other"."""
    answers = []

    def work() -> None:
        try:
            answers.append(function())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=work, name="other")
    thread.start()
    thread.join()
    return answers[0]


def test_get_event_loop_makes_one_loop_in_the_main_thread(policy: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = asyncio.get_event_loop()
    assert isinstance(loop, mioloop.Loop)
    assert asyncio.get_event_loop() is loop
    assert policy.get_event_loop() is loop
    assert not loop.is_closed()


def test_get_event_loop_in_the_loop_is_the_running_one(policy: Any) -> None:
    async def main() -> bool:
        return asyncio.get_event_loop() is asyncio.get_running_loop()

    other = mioloop.new_event_loop()
    asyncio.set_event_loop(other)
    loop = mioloop.new_event_loop()
    assert loop.run_until_complete(main())
    assert asyncio.get_event_loop() is other
    loop.close()


def test_other_threads_have_no_loop_until_they_set_one(policy: Any) -> None:
    error = in_thread(asyncio.get_event_loop)
    assert type(error) is RuntimeError
    assert str(error) == "There is no current event loop in thread 'other'."

    def set_own() -> bool:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return asyncio.get_event_loop() is loop
        finally:
            loop.close()

    assert in_thread(set_own) is True


def test_none_takes_the_loop_away(policy: Any) -> None:
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="There is no current event loop in thread 'Main"):
        asyncio.get_event_loop()


def test_set_event_loop_checks_the_type(policy: Any) -> None:
    with pytest.raises(NOT_A_LOOP):
        asyncio.set_event_loop(object())  # type: ignore[arg-type]


def test_new_event_loop_is_ours_and_not_set(policy: Any) -> None:
    loop = asyncio.new_event_loop()
    assert type(loop) is mioloop.Loop
    assert asyncio.get_event_loop() is not loop
    loop.close()


def test_asyncio_run_uses_the_policy(policy: Any) -> None:
    async def main() -> object:
        return type(asyncio.get_running_loop())

    assert asyncio.run(main()) is mioloop.Loop


def test_it_is_the_interpreters_own_policy(policy: Any) -> None:
    assert isinstance(policy, asyncio.unix_events._UnixDefaultEventLoopPolicy)


def test_a_subclass_chooses_its_loop() -> None:
    class OwnLoop(mioloop.Loop):
        pass

    class OwnPolicy(mioloop.EventLoopPolicy):
        _loop_factory = OwnLoop

    loop = OwnPolicy().new_event_loop()
    assert type(loop) is OwnLoop
    loop.close()


@pytest.mark.skipif(POLICIES_ARE_DEPRECATED, reason="child watchers are gone since 3.14")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_watchers_where_the_version_has_them(policy: Any) -> None:
    watcher = asyncio.ThreadedChildWatcher()
    policy.set_child_watcher(watcher)
    assert asyncio.get_child_watcher() is watcher
    asyncio.get_event_loop()
    policy.set_child_watcher(None)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_the_loop_is_not_inherited_by_a_forked_child() -> None:
    code = (
        "import asyncio, mioloop, os, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "{install}"
        "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)\n"
        "async def main():\n"
        "    if os.fork() == 0:\n"
        "        try:\n"
        "            asyncio.get_running_loop()\n"
        "            print('running')\n"
        "        except RuntimeError as error:\n"
        "            print(error)\n"
        "        print(asyncio.get_event_loop_policy()._local._loop is loop, flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "loop.run_until_complete(main())\n"
        "loop.close()\n"
    )
    stock = python(code.format(install=""))
    ours = python(code.format(install="mioloop.install()\n"))
    assert ours.stdout.startswith("no running event loop\n")
    assert (ours.stdout, ours.stderr) == (stock.stdout, stock.stderr)


@pytest.mark.slow
def test_importing_never_warns_and_changes_nothing() -> None:
    code = (
        "import asyncio, sys\n"
        "before = set(vars(asyncio)), asyncio.events._event_loop_policy\n"
        "import mioloop\n"
        "mioloop.EventLoopPolicy()\n"
        "class Own(mioloop.EventLoopPolicy): pass\n"
        "assert before == (set(vars(asyncio)), asyncio.events._event_loop_policy)\n"
        "print(sorted(mioloop.__all__))\n"
        "from mioloop import *\n"
    )
    done = python(code, "-Werror")
    assert done.stderr == ""
    assert "'EventLoopPolicy', 'Future', 'Loop', 'Task'" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("call", ["mioloop.install()", "asyncio.set_event_loop_policy(policy)"])
def test_installing_warns_only_where_asyncio_does_and_at_the_callers_line(call: str) -> None:
    code = (
        "import asyncio, mioloop, warnings\n"
        "policy = mioloop.EventLoopPolicy()\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    {call}\n"
        "    loop = asyncio.get_event_loop()\n"
        "print([(str(w.message), w.category.__name__, w.filename, w.lineno) for w in caught])\n"
        "print(type(loop) is mioloop.Loop)\n"
        "loop.close()\n"
    )
    stock = code.replace("mioloop.install()", "asyncio.set_event_loop_policy(policy)")
    done = python(code)
    assert done.stdout == python(stock).stdout, done.stderr
    assert done.stdout.endswith("True\n")
    assert ("'<string>', 5)" in done.stdout) is POLICIES_ARE_DEPRECATED
