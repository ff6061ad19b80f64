"""add_signal_handler and remove_signal_handler: where they run, what they refuse, what they leave.

Run on asyncio and on mioloop alike. Signals go to the test's own process, and to one of its own
where the loop must be idle (child_script.py). Ctrl-C is in test_signals.py.
"""

import asyncio
import os
import signal
import threading
from typing import Any

import pytest
from child_script import ChildScript

Loop = asyncio.AbstractEventLoop


def test_signal_handler(loop: Loop) -> None:
    seen: list[object] = []

    def handler(*args: object) -> None:
        seen.append((threading.get_ident() == me, asyncio.get_running_loop() is loop, *args))
        loop.stop()

    me = threading.get_ident()
    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == [(True, True, 1, "two")]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_signal_handler_wakes_an_idle_loop(loop_kind: str) -> None:
    script = ChildScript(
        loop_kind,
        """
        loop = new_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: (say("terminated"), loop.stop()))
        loop.call_soon(say, "ready")
        loop.run_forever()
        loop.close()
        """,
    )
    script.expect("ready")
    script.send(signal.SIGTERM)
    assert script.finish() == (0, ["ready", "terminated"], "")


def test_signal_handler_for_interrupt_replaces_keyboard_interrupt(loop: Loop) -> None:
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, lambda: (seen.append(1), loop.stop()))
    signal.raise_signal(signal.SIGINT)
    loop.run_forever()
    assert seen == [1]
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_second_handler_replaces_the_first(loop: Loop) -> None:
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("new"), loop.stop()))
    signal.raise_signal(signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["new"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_error_in_a_signal_handler_is_reported(loop: Loop) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    signal.raise_signal(signal.SIGUSR1)
    loop.run_until_complete(asyncio.sleep(0.005))
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
    loop.remove_signal_handler(signal.SIGUSR1)


async def coroutine_function() -> None: ...


@pytest.mark.parametrize(
    ("number", "callback", "error", "text"),
    [
        (signal.SIGKILL, print, RuntimeError, "^sig 9 cannot be caught$"),
        (1000, print, ValueError, "^invalid signal number 1000$"),
        ("USR1", print, TypeError, "^sig must be an int, not 'USR1'$"),
        (signal.SIGUSR1, coroutine_function, TypeError, "^coroutines cannot be used"),
    ],
)
def test_bad_arguments(loop: Loop, number: Any, callback: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        loop.add_signal_handler(number, callback)


def test_outside_of_the_main_thread(loop: Loop) -> None:
    errors: list[Exception] = []

    def add() -> None:
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    assert [type(error) for error in errors] == [RuntimeError]
    assert "set_wakeup_fd only works in main thread" in str(errors[0])


def test_close_removes_the_handlers(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
