"""What of CPython's asyncio tests is not run on a foreign loop, and why.

Data only, read by `adapt`, `collect` and `cli`. A test is here because no loop but asyncio's
own can meet it (it tests a private class, or a mock of one). A test that mioloop could pass
and does not is never here: that is a failure, or an entry of `implementation_details.txt`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# The whole module is left out: name -> reason.
MODULES = {
    "test_selector_events": "unit tests of asyncio.selector_events internals (mocked selector, "
    "_SelectorSocketTransport built by hand); no candidate loop in sight",
    "test_proactor_events": "unit tests of asyncio.proactor_events internals; Windows loop",
    "test_transports": "asyncio.transports base classes only; no event loop is run",
    "test_protocols": "asyncio.protocols base classes only; no event loop is run",
    "test_windows_events": "Windows only",
    "test_windows_utils": "Windows only",
    "test_tools": "inspects another process's asyncio.Task internals by remote debugging "
    "(python -m asyncio ps); no event loop of this process",
}


class ClassRule(NamedTuple):
    """Leaves out the classes of a module that match; both are fnmatch patterns."""

    module: str
    classes: str
    reason: str


CLASSES = [
    ClassRule("*", "*Proactor*", "Windows proactor loop"),
    ClassRule(
        "test_base_events",
        "BaseEventTests",
        "unit tests of the private helper base_events._ipaddr_info",
    ),
    ClassRule(
        "test_base_events",
        "BaseLoopSockSendfileTests",
        "unit tests of the private BaseEventLoop._sock_sendfile_fallback",
    ),
    ClassRule(
        "test_base_events", "TestSelectorUtils", "unit tests of private socket-option helpers"
    ),
    ClassRule(
        "test_events", "TimerTests", "unit tests of the asyncio.TimerHandle class with a mock loop"
    ),
    ClassRule(
        "test_events",
        "AbstractEventLoopTests",
        "the abstract base class raises NotImplementedError",
    ),
    ClassRule("test_events", "PolicyTests", "unit tests of asyncio's own policy classes"),
    ClassRule(
        "test_events", "TestAbstractServer", "the abstract base class raises NotImplementedError"
    ),
    ClassRule(
        "test_events",
        "TestPyGetEventLoop",
        "swaps the pure-Python _set_running_loop into asyncio.events after import; a native loop "
        "has bound the C one (TestCGetEventLoop is run)",
    ),
    ClassRule(
        "test_subprocess",
        "SubprocessTransportTests",
        "unit tests of asyncio.base_subprocess on test_utils.TestLoop",
    ),
    ClassRule("test_subprocess", "MultiLoopChildWatcherTests", "asyncio's child watcher classes"),
    ClassRule(
        "test_subprocess",
        "GenericWatcherTests",
        "calls of asyncio's child watcher objects (removed in 3.14)",
    ),
    ClassRule(
        "test_unix_events",
        "SelectorEventLoopUnixSockSendfileTests",
        "unit tests of the private _sock_sendfile_native of asyncio's loop "
        "(the public loop.sock_sendfile is in test_sendfile)",
    ),
    ClassRule(
        "test_unix_events",
        "Unix*PipeTransportTests",
        "unit tests of asyncio.unix_events._Unix*PipeTransport on test_utils.TestLoop with "
        "mocked os calls",
    ),
    ClassRule(
        "test_unix_events", "*ChildWatcher*", "unit tests of asyncio's child watcher classes"
    ),
    ClassRule("test_unix_events", "PolicyTests", "unit tests of asyncio's own policy class"),
    ClassRule("test_unix_events", "TestPolicy*", "unit tests of asyncio's own policy class"),
]


class LoopClass(NamedTuple):
    """One class, built by `adapt`, in place of a mixin's variants (one per asyncio selector)."""

    name: str
    mixins: tuple[str, ...]
    marker: str  # the mixin by which the variants are told

    @property
    def reason(self) -> str:
        """Why the variants are left out."""
        return (
            "one variant of the mixin per asyncio selector / child watcher; the mixin is run "
            f"once on the candidate as {self.name}"
        )


LOOP_CLASSES = {
    "test_events": LoopClass(
        "EventLoopTests", ("EventLoopTestsMixin", "SubprocessTestsMixin"), "EventLoopTestsMixin"
    ),
    "test_sock_lowlevel": LoopClass("SockTests", ("BaseSockTestsMixin",), "BaseSockTestsMixin"),
    "test_sendfile": LoopClass("SendfileTests", ("SendfileTestsBase",), "SendfileBase"),
    "test_subprocess": LoopClass("SubprocessTests", ("SubprocessMixin",), "SubprocessMixin"),
}

# Classes of which only these tests are run: (module, class) -> (tests, reason for the others).
ONLY_TESTS = {
    ("test_events", "HandleTests"): (
        {"test_handle_source_traceback"},
        "unit tests of the asyncio.Handle class with a mock loop",
    ),
}

# Classes of which only what uses the public API is run: a test is left out if its source uses
# mock or touches a private attribute of anything.
PUBLIC_ONLY = {
    ("test_base_events", "BaseEventLoopTests"),
    ("test_base_events", "BaseEventLoopWithSelectorTests"),
    ("test_unix_events", "SelectorEventLoopSignalTests"),
    ("test_unix_events", "SelectorEventLoopUnixSocketTests"),
}
PRIVATE = re.compile(r"\bmock\b|\bm_\w+|patch|[\w\])]\._[a-z]")
PUBLIC_ONLY_REASON = (
    "uses mock or a private attribute of asyncio's own loop class (unit test of BaseEventLoop "
    "internals)"
)


class TestRule(NamedTuple):
    """Leaves out one test of the classes that match."""

    module: str
    classes: str
    test: str
    reason: str


TESTS = [
    TestRule(
        "test_runners",
        "*",
        "test_loop_factory_default_event_loop",
        "asserts that asyncio.EventLoop is asyncio.SelectorEventLoop",
    ),
    TestRule(
        "test_ssl",
        "*",
        "test_remote_shutdown_receives_trailing_data_on_slow_socket",
        "reads _read_ready_cb of asyncio's own socket transport and replaces its _sock; without "
        "them its client thread waits for ever",
    ),
]


class ExtraGroup(NamedTuple):
    """A module outside test_asyncio that drives a loop: its names by version, and its classes."""

    modules: tuple[str, ...]
    classes: tuple[str, ...] | None  # None: all of them


EXTRA_GROUPS = {
    "test_asyncgen": ExtraGroup(("test.test_asyncgen",), ("AsyncGenAsyncioTest",)),
    "test_coroutines": ExtraGroup(("test.test_coroutines",), ("CoroAsyncIOCompatTest",)),
    "test_async_case": ExtraGroup(
        ("test.test_unittest.test_async_case", "unittest.test.test_async_case"), None
    ),
}

# A skip that starts so is counted as excluded, not as skipped.
EXCLUDE_PREFIX = "[conformance-exclude]"
VIRTUAL_TIME = f"{EXCLUDE_PREFIX} needs test_utils.TestLoop (virtual clock driven by a generator)"
