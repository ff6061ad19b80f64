"""Ctrl-C, SystemExit and add_signal_handler: idle and busy, in real processes, nothing lost.

Run on asyncio and on mioloop alike. Tests that need the interpreter's own SIGINT handler, or that
end a process, run a script of their own (child_script.py).
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from child_script import ChildScript, run_script

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


def run_turns(loop: Loop, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


# Ctrl-C -----------------------------------------------------------------------------------------


def test_interrupt_of_an_idle_run_forever(loop_kind: str) -> None:
    """At once, though nothing else would ever wake the loop; and the loop runs again."""
    script = ChildScript(
        loop_kind,
        """
        loop = new_loop()
        loop.call_soon(say, "ready")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            say("interrupted", loop.is_running())
        print(loop.run_until_complete(asyncio.sleep(0.001, "usable")))
        loop.close()
        """,
    )
    script.expect("ready")
    script.send(signal.SIGINT)
    assert script.finish() == (0, ["ready", "interrupted False", "usable"], "")


def test_interrupt_of_a_sleeping_program(loop_kind: str) -> None:
    """asyncio.run in effect: a pending main task, a far timer and a traceback at the end."""
    script = ChildScript(
        loop_kind,
        """
        async def main():
            say("ready")
            await asyncio.sleep(1000)
        loop = new_loop()
        loop.run_until_complete(main())
        """,
    )
    script.expect("ready")
    script.send(signal.SIGINT)
    outcome = script.finish()
    assert outcome.code == -signal.SIGINT
    assert outcome.err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.skipif(not hasattr(asyncio, "Runner"), reason="Runner is new in 3.11")
def test_interrupt_under_a_runner_cancels_the_main_task(loop_kind: str) -> None:
    script = ChildScript(
        loop_kind,
        """
        async def main():
            try:
                say("ready")
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                say("cancelled")
                raise
            finally:
                await asyncio.sleep(0.001)
                say("cleaned up")
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            say("interrupted")
        """,
    )
    script.expect("ready")
    script.send(signal.SIGINT)
    assert script.finish() == (0, ["ready", "cancelled", "cleaned up", "interrupted"], "")


def test_interrupt_of_a_busy_callback_loses_nothing(loop_kind: str) -> None:
    """What was queued behind the interrupted callback runs when the loop runs again."""
    script = ChildScript(
        loop_kind,
        """
        loop = new_loop()
        ran = []
        def busy():
            say("ready")
            while True:
                pass
        loop.call_soon(ran.append, 1)
        loop.call_soon(busy)
        loop.call_soon(ran.append, 2)
        loop.call_soon_threadsafe(ran.append, 3)
        loop.call_later(0, ran.append, 4)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            say(*ran)
        loop.run_until_complete(asyncio.sleep(0.001))
        say(*ran)
        loop.close()
        """,
    )
    script.expect("ready")
    script.send(signal.SIGINT)
    assert script.finish() == (0, ["ready", "1", "1 2 3 4"], "")


def test_interrupt_of_a_loop_that_is_never_idle(loop_kind: str) -> None:
    """Ready work without end, none of it slow: the signal still gets through."""
    script = ChildScript(
        loop_kind,
        """
        loop = new_loop()
        def again():
            loop.call_soon(again)
        loop.call_soon(again)
        loop.call_soon(say, "ready")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            say("interrupted")
        """,
        "-Wignore",
    )
    script.expect("ready")
    script.send(signal.SIGINT)
    assert script.finish().out == ["ready", "interrupted"]


def test_a_burst_of_interrupts(loop_kind: str) -> None:
    script = ChildScript(
        loop_kind,
        """
        loop = new_loop()
        for number in range(3):
            loop.call_soon(say, "ready", number)
            try:
                loop.run_forever()
            except KeyboardInterrupt:
                pass
        loop.close()
        """,
    )
    for number in range(3):
        script.expect(f"ready {number}")
        script.send(signal.SIGINT)
    assert script.finish().code == 0


def test_python_signal_handlers_run_while_the_loop_sleeps(loop_kind: str) -> None:
    script = ChildScript(
        loop_kind,
        """
        loop = new_loop()
        def handler(*args):
            say("handled")
            loop.call_soon_threadsafe(loop.stop)
        signal.signal(signal.SIGUSR1, handler)
        loop.call_soon(say, "ready")
        loop.run_forever()
        loop.close()
        """,
    )
    script.expect("ready")
    script.send(signal.SIGUSR1)
    assert script.finish() == (0, ["ready", "handled"], "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_raised_by_callbacks_leave_run_forever(loop: Loop, error: type) -> None:
    ran: list[int] = []

    def leave() -> None:
        raise error

    loop.call_soon(ran.append, 1)
    loop.call_soon(leave)
    loop.call_soon(ran.append, 2)
    with pytest.raises(error):
        loop.run_forever()
    assert ran == [1] and not loop.is_running()
    assert asyncio._get_running_loop() is None
    run_turns(loop)
    assert ran == [1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_raised_by_tasks_leave_run_until_complete(loop: Loop, error: type) -> None:
    async def leave() -> None:
        await asyncio.sleep(0)
        raise error("code")

    task = loop.create_task(leave())
    with pytest.raises(error, match="code"):
        loop.run_until_complete(task)
    assert task.done() and isinstance(task.exception(), error)
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_raised_by_timers_and_readers(loop: Loop, error: type) -> None:
    def leave() -> None:
        raise error

    loop.call_later(0.001, leave)
    with pytest.raises(error):
        loop.run_forever()
    read, write = os.pipe()
    loop.add_reader(read, leave)
    os.write(write, b"x")
    with pytest.raises(error):
        loop.run_forever()
    loop.remove_reader(read)
    os.close(read)
    os.close(write)


def test_exit_code_of_system_exit(loop_kind: str) -> None:
    outcome = run_script(
        loop_kind,
        """
        async def main():
            sys.exit(7)
        loop = new_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
        """,
    )
    assert outcome == (7, [], "")


# add_signal_handler ------------------------------------------------------------------------------


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


def test_a_program_s_own_wakeup_descriptor(loop: Loop) -> None:
    """Without signal handlers of its own a loop neither loses it nor keeps its bytes."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.set_wakeup_fd(write)
    try:
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        run_turns(loop)
        assert signal.set_wakeup_fd(write) == write
        assert os.read(read, 10) == bytes([signal.SIGUSR1])
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, previous)
        os.close(read)
        os.close(write)
