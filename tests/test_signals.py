"""Ctrl-C and SystemExit: idle and busy, in real processes, and nothing that was queued is lost.

Run on asyncio and on mioloop alike. Tests that need the interpreter's own SIGINT handler, or that
end a process, run a script of their own (child_script.py). add_signal_handler is in
test_signal_handlers.py, the wake-up descriptor in test_signal_wakeup.py.
"""

import asyncio
import os
import signal

import pytest
from child_script import ChildScript, run_script

Loop = asyncio.AbstractEventLoop


def run_turns(loop: Loop, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


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
    assert "\nKeyboardInterrupt" in outcome.err


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
