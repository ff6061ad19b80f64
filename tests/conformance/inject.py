"""Makes every way to get a new event loop in this process give the candidate.

Called once by a worker, before any test module is imported. Patches the default policy's
factory, `asyncio.SelectorEventLoop` and `asyncio.EventLoop`; never touches the candidate
itself, so what is tested is what a user gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
import weakref
from asyncio import events
from collections.abc import Callable
from types import ModuleType
from typing import Any

if sys.platform == "win32":
    from asyncio import windows_events as platform_events
else:
    from asyncio import unix_events as platform_events

POLICY_CLASSES = (
    "_UnixDefaultEventLoopPolicy",
    "_DefaultEventLoopPolicy",
    "WindowsSelectorEventLoopPolicy",
    "WindowsProactorEventLoopPolicy",
    "_WindowsSelectorEventLoopPolicy",
    "_WindowsProactorEventLoopPolicy",
)


class Tracker:
    """The loop factory given to the tests; counts the loops it makes and those that ran.

    Each loop gets one `call_soon(probe)`. The probe counts the loop as *ran* only if asyncio's
    running loop is that very object at the time: the proof that the candidate was in use.
    """

    def __init__(self, factory: Callable[[], Any], fallback: Callable[..., Any]) -> None:
        self.factory = factory
        self.fallback = fallback
        self.running = asyncio._get_running_loop  # bound now: some tests swap it
        self.created = 0
        self.ran = 0
        self.misran = 0
        self.types: dict[str, int] = {}
        self.local = threading.local()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.local, "busy", False):
            # The candidate's own factory asks asyncio for a loop.
            return self.fallback(*args, **kwargs)
        self.local.busy = True
        try:
            loop = self.factory()
        finally:
            self.local.busy = False
        self.created += 1
        name = f"{type(loop).__module__}.{type(loop).__qualname__}"
        self.types[name] = self.types.get(name, 0) + 1
        self.probe(loop)
        return loop

    def probe(self, loop: Any) -> None:
        """Queue the callback that proves that `loop` was run."""
        is_loop = identity_of(loop)

        def conformance_probe() -> None:
            now = self.running()
            if now is not None and is_loop(now):
                self.ran += 1
            else:
                self.misran += 1

        with contextlib.suppress(Exception):
            loop.call_soon(conformance_probe)


def identity_of(loop: Any) -> Callable[[Any], bool]:
    """A test for being `loop` that does not keep it alive."""
    try:
        ref = weakref.ref(loop)
    except TypeError:
        number = id(loop)
        return lambda other: id(other) == number
    return lambda other: other is ref()


def resolve_factory(spec: str) -> tuple[Callable[[], Any], ModuleType]:
    """'module:attr' -> (factory, module). To be called before anything is patched."""
    module_name, _, attr = spec.partition(":")
    attr = attr or "new_event_loop"
    module = importlib.import_module(module_name)
    if module is asyncio and attr == "new_event_loop":
        return asyncio.SelectorEventLoop, module
    found: Any = module
    for part in attr.split("."):
        found = getattr(found, part)
    if isinstance(found, type) and hasattr(found, "new_event_loop"):
        found = found().new_event_loop  # a policy class
    return found, module


def stand_in(original: type, tracker: Tracker) -> type:
    """A class to put in place of `asyncio.SelectorEventLoop`.

    Calling it makes the candidate. Subclassing it and isinstance() still mean the real class.
    """

    class StandInMeta(type):
        def __new__(meta, name: str, bases: tuple[type, ...], ns: dict[str, Any], **kw: Any) -> Any:
            if any(isinstance(base, StandInMeta) for base in bases):
                bases = tuple(original if isinstance(b, StandInMeta) else b for b in bases)
                return type(name, bases, ns, **kw)
            return super().__new__(meta, name, bases, ns, **kw)

        def __instancecheck__(cls, obj: object) -> bool:
            return isinstance(obj, original)

        def __subclasscheck__(cls, sub: type) -> bool:
            return sub is cls or issubclass(sub, original)

    class EventLoop(metaclass=StandInMeta):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return tracker(*args, **kwargs)

    return EventLoop


def inject(spec: str) -> Tracker:
    """Put the candidate everywhere; returns the tracker that makes and counts its loops."""
    factory, _ = resolve_factory(spec)
    original = asyncio.SelectorEventLoop
    tracker = Tracker(factory, original)
    replacement = stand_in(original, tracker)
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, replacement)
    patched = False
    for name in POLICY_CLASSES:
        policy = getattr(platform_events, name, None)
        if policy is not None and "_loop_factory" in vars(policy):
            policy._loop_factory = tracker
            patched = True
    if not patched:  # 3.16 and later have no policies

        def new_event_loop() -> Any:
            return tracker()

        events.new_event_loop = asyncio.new_event_loop = new_event_loop
    return tracker
