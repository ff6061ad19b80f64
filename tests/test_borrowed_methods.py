"""The loop's methods as a whole: none is missing, and each has asyncio's signature.

asyncio's own loop of the running version is compared with mioloop's. Methods that are borrowed
must say so in nothing but their documentation. What they do is tested feature by feature.
"""

import asyncio
import inspect
import sys
from typing import Any

import mioloop
import pytest

OWN: Any = asyncio.SelectorEventLoop
PUBLIC = [name for name in dir(OWN) if not name.startswith("_") and callable(getattr(OWN, name))]
IN_PYTHON = [name for name in PUBLIC if inspect.isfunction(getattr(mioloop.Loop, name, None))]
# Everywhere with the timeout that 3.12 gave it.
NEWER = {"shutdown_default_executor"} if sys.version_info < (3, 12) else set()


@pytest.mark.parametrize("name", PUBLIC)
def test_no_method_is_missing(name: str) -> None:
    assert getattr(mioloop.Loop, name) is not getattr(asyncio.AbstractEventLoop, name, None)


def test_no_method_of_a_newer_version_is_there() -> None:
    beyond = [
        name for name in dir(mioloop.Loop) if not name.startswith("_") and name not in dir(OWN)
    ]
    assert beyond == ["native_tasks", "slow_callback_duration"]


@pytest.mark.parametrize("name", [name for name in IN_PYTHON if name not in NEWER])
def test_signature(name: str) -> None:
    def parameters(loop_class: Any) -> list[Any]:
        # Bound methods do not show their first one, the loop itself.
        _, *found = inspect.signature(getattr(loop_class, name)).parameters.values()
        return [(one.name, one.kind, one.default) for one in found]

    assert parameters(mioloop.Loop) == parameters(OWN)


@pytest.mark.parametrize("name", IN_PYTHON)
def test_kind_and_documentation(name: str) -> None:
    ours, theirs = getattr(mioloop.Loop, name), getattr(OWN, name)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    assert ours.__doc__
    assert ours.__doc__ != theirs.__doc__
    assert ours.__qualname__ in {name, f"Loop.{name}"}
    assert ours.__module__.startswith("mioloop.")


def test_a_keyword_of_no_version_is_refused_at_once(loop: asyncio.AbstractEventLoop) -> None:
    """By the call itself, before anything is awaited."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        loop.create_connection(asyncio.Protocol, "localhost", 1, speed=11)  # type: ignore[call-overload]
