"""A loop and os.fork(): what the child may do, and that it does not disturb its parent.

Run on asyncio and on mioloop alike, in scripts of their own: a fork of the test process would
take the test runner with it.
"""

import pytest
from child_script import run_script


def test_a_new_loop_in_the_child(loop_kind: str) -> None:
    """The parent's loop exists but does not run: the child makes its own, both work."""
    outcome = run_script(
        loop_kind,
        """
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            mine = new_loop()
            result = mine.run_until_complete(asyncio.sleep(0.001, 3))
            mine.close()
            os._exit(result)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        say(code, loop.run_until_complete(asyncio.sleep(0.001, "parent works")))
        loop.close()
        """,
    )
    assert outcome == (0, ["3 parent works"], "")


def test_a_fork_inside_a_running_loop(loop_kind: str) -> None:
    """In the child no loop counts as running, so it can run one of its own (bpo-21998)."""
    outcome = run_script(
        loop_kind,
        """
        async def give():
            await asyncio.sleep(0.001)
            return 5
        async def main():
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert asyncio._get_running_loop() is None
                    mine = new_loop()
                    code = mine.run_until_complete(give())
                    mine.close()
                finally:
                    os._exit(code)
            await asyncio.sleep(0.001)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        loop = new_loop()
        say(loop.run_until_complete(main()))
        loop.close()
        """,
        "-Wignore",
    )
    assert outcome == (0, ["5"], "")


def test_current_task_is_reset_in_the_child(loop_kind: str) -> None:
    outcome = run_script(
        loop_kind,
        """
        async def main():
            pid = os.fork()
            if pid == 0:
                try:
                    asyncio.current_task()
                except RuntimeError as error:
                    os._exit(7 if "no running event loop" in str(error) else 1)
                os._exit(2)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        loop = new_loop()
        say(loop.run_until_complete(main()))
        loop.close()
        """,
        "-Wignore",
    )
    assert outcome == (0, ["7"], "")


def test_the_inherited_loop_runs_in_the_child(loop_kind: str) -> None:
    """As on asyncio: a loop made before the fork can be run after it, by both."""
    outcome = run_script(
        loop_kind,
        """
        loop = new_loop()
        pid = os.fork()
        who = "child" if pid == 0 else "parent"
        ran = []
        loop.call_soon(ran.append, 1)
        loop.call_later(0.001, ran.append, 2)
        threading.Timer(0.005, lambda: loop.call_soon_threadsafe(ran.append, 3)).start()
        loop.run_until_complete(asyncio.sleep(0.03))
        assert ran == [1, 2, 3], ran
        loop.close()
        if pid == 0:
            os._exit(4)
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        "-Wignore",
    )
    assert outcome == (0, ["4"], "")


def test_the_parent_goes_on_after_a_child_with_a_loop_of_its_own(loop_kind: str) -> None:
    """The child watches the inherited descriptor too, and leaves: the parent sees its data.

    A child that closes the inherited loop spoils its parent's epoll set, with asyncio as well.
    """
    outcome = run_script(
        loop_kind,
        """
        loop = new_loop()
        read, write = os.pipe()
        got = []
        def readable():
            got.append(os.read(read, 10))
            loop.stop()
        loop.add_reader(read, readable)
        loop.run_until_complete(asyncio.sleep(0))
        pid = os.fork()
        if pid == 0:
            mine = new_loop()
            mine.add_reader(read, mine.stop)
            os.write(write, b"from child")
            mine.run_forever()
            mine.remove_reader(read)
            mine.close()
            os._exit(0)
        os.waitpid(pid, 0)
        loop.run_forever()
        say(got)
        threading.Timer(0.005, lambda: loop.call_soon_threadsafe(loop.stop)).start()
        loop.run_forever()
        say("wakes")
        loop.remove_reader(read)
        loop.close()
        """,
        "-Wignore",
    )
    assert outcome == (0, ["[b'from child']", "wakes"], "")


def test_signal_handlers_of_the_parent_survive_a_child(loop_kind: str) -> None:
    """A signal sent to the child does not show up in its parent's loop."""
    outcome = run_script(
        loop_kind,
        """
        loop = new_loop()
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(1)
        os.waitpid(pid, 0)
        loop.run_until_complete(asyncio.sleep(0.005))
        say(seen)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(asyncio.sleep(0.005))
        say(seen)
        loop.close()
        """,
        "-Wignore",
    )
    assert outcome == (0, ["[]", "['signal']"], "")


@pytest.mark.slow
def test_multiprocessing_with_fork(loop_kind: str) -> None:
    """A pool of forked workers, each with a loop of its own, while the parent's loop runs."""
    outcome = run_script(
        loop_kind,
        """
        import concurrent.futures, multiprocessing
        async def square(number):
            await asyncio.sleep(0.001)
            return number * number
        def work(number):
            loop = new_loop()
            try:
                return loop.run_until_complete(square(number))
            finally:
                loop.close()
        async def main():
            loop = asyncio.get_running_loop()
            context = multiprocessing.get_context("fork")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                jobs = [loop.run_in_executor(pool, work, n) for n in range(6)]
                say(await asyncio.gather(*jobs))
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
        "-Wignore",
    )
    assert outcome == (0, ["[0, 1, 4, 9, 16, 25]"], "")
