"""Child processes: making them, their pipes, signals, and every way in which they end.

Run on asyncio and on mioloop alike. The children are Python or /bin/sh; each test waits for
what they say or for their end, never for time. What only mioloop promises (no descriptor
left behind by a closed loop, a thread where pidfds are not to be had) is at the end.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from asyncio import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mioloop
import pytest

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]
Run = Callable[..., Any]

PIPE = subprocess.PIPE
SLEEPER = ("sleep", "3600")


async def output_of(*command: str, **options: Any) -> bytes:
    """What a command writes to its standard output; it must succeed."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def output_of_python(code: str, **options: Any) -> bytes:
    return await output_of(sys.executable, "-c", code, **options)


def descriptors() -> set[str]:
    """This process's open pipes and pidfds, with their numbers."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed the folder
        if "pipe" in target or "pidfd" in target:
            found.add(f"{name} -> {target}")
    return found


# Running and talking


def test_exec_gives_pipes_and_the_exit_code(run: Run) -> None:
    async def main() -> None:
        script = "cat; echo oops >&2; exit 3"
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", script), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert process.returncode is None
        assert await process.communicate(b"text") == (b"text", b"oops\n")
        assert process.returncode == 3
        assert await process.wait() == 3

    run(main())


def test_shell(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell("echo $((6 * 7))", stdout=PIPE)
        assert await process.communicate() == (b"42\n", None)

    run(main())


def test_inherited_streams_have_no_transport(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, *SLEEPER, stdin=None, stdout=PIPE, stderr=None
        )
        assert transport.get_pipe_transport(0) is None
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(2) is None
        assert transport.get_returncode() is None
        assert transport.get_extra_info("subprocess").pid == transport.get_pid()
        transport.close()
        await transport._wait()  # type: ignore[attr-defined]

    run(main())


def test_callbacks_of_the_protocol(run: Run) -> None:
    """All pipes and the process have ended before connection_lost, which is last."""
    calls: list[tuple[Any, ...]] = []

    class Protocol(asyncio.SubprocessProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            calls.append(("made",))
            self.lost = asyncio.get_running_loop().create_future()

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            calls.append(("data", fd, data))

        def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
            calls.append(("pipe lost", fd, exc))

        def process_exited(self) -> None:
            calls.append(("exited",))

        def connection_lost(self, exc: Exception | None) -> None:
            calls.append(("lost", exc))
            self.lost.set_result(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            Protocol, "sh", "-c", "echo out; echo err >&2", stdin=None
        )
        await protocol.lost
        assert transport.get_returncode() == 0
        transport.close()

    run(main())
    assert calls[0] == ("made",)
    assert calls[-1] == ("lost", None)
    assert sorted(call[1:] for call in calls if call[0] == "data") == [(1, b"out\n"), (2, b"err\n")]
    assert {call[:2] for call in calls[1:-1] if call[0] == "pipe lost"} == {
        ("pipe lost", 1),
        ("pipe lost", 2),
    }
    assert calls.count(("exited",)) == 1


def test_standard_input_of_the_child_can_be_opened_by_name(run: Run) -> None:
    """The pipes are pipes: /dev/stdin cannot be opened if it is a socket."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", "/dev/stdin", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"named") == (b"named", None)

    run(main())


def test_much_data_through_both_pipes_at_once(run: Run) -> None:
    async def main() -> None:
        data = bytes(range(256)) * 16 * 1024
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        out, _ = await process.communicate(data)
        assert out == data

    run(main())


def test_child_that_does_not_read_its_input(run: Run) -> None:
    """communicate() takes no notice of the broken pipe."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
        await process.communicate(b"x" * 1_000_000)
        assert process.returncode == 0

    run(main())


def test_many_children_at_once(run: Run) -> None:
    async def main() -> None:
        async def child(number: int) -> int:
            process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
            return await process.wait()

        assert await asyncio.gather(*(child(number) for number in range(30))) == [*range(30)]

    run(main())


def test_everyone_who_waits_is_told(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        waiters = [asyncio.create_task(process.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.gather(*waiters) == [0, 0, 0]

    run(main())


def test_a_loop_of_another_thread_can_have_children(new_loop: LoopFactory) -> None:
    loop = new_loop()
    results: list[bytes] = []

    def body() -> None:
        results.append(loop.run_until_complete(output_of("echo", "threaded")))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert results == [b"threaded\n"]


# What Popen takes


def test_working_directory_and_environment(run: Run, tmp_path: Path) -> None:
    command = ("sh", "-c", 'echo "$PWD $COLOUR"')
    environment = {**os.environ, "COLOUR": "blue"}
    out = run(output_of(*command, cwd=tmp_path, env=environment))
    assert out.decode() == f"{tmp_path} blue\n"


def test_descriptors_that_are_passed_on(run: Run) -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"inherited")
        code = f"import os; print(os.read({read}, 99).decode())"
        assert run(output_of_python(code, pass_fds=(read,))) == b"inherited\n"
    finally:
        os.close(read)
        os.close(write)


def test_session_umask_and_preexec_fn(run: Run) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), os.umask(0), os.nice(0))"
    nice = os.nice(0)
    out = run(
        output_of_python(
            code, start_new_session=True, umask=0o70, preexec_fn=lambda: os.nice(1) and None
        )
    )
    assert out.decode() == f"True {0o70} {min(nice + 1, 19)}\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="process_group is new in 3.11")
def test_process_group(run: Run) -> None:
    code = "import os; print(os.getpgrp() == os.getpid())"
    assert run(output_of_python(code, process_group=0)) == b"True\n"


@pytest.mark.parametrize(
    "wrong",
    [{"universal_newlines": True}, {"bufsize": 4096}, {"text": True}, {"encoding": "utf-8"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_text_and_buffers_are_refused(loop: Loop, wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"^{name} must be "):
        loop.run_until_complete(loop.subprocess_exec(asyncio.SubprocessProtocol, "true", **wrong))


@pytest.mark.parametrize("program", ["/no/such/program", b"/no/such/program"])
def test_program_that_is_not_there(run: Run, program: Any) -> None:
    async def main() -> None:
        before = descriptors()
        with pytest.raises(FileNotFoundError) as caught:
            await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert caught.value.filename == program
        caught.value.__traceback__ = None
        gc.collect()
        assert descriptors() == before

    run(main())


def test_program_that_may_not_be_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(PermissionError):
        run(output_of(str(tmp_path / "file")))


# Signals and ends


@pytest.mark.parametrize(
    ("how", "number"),
    [
        (lambda process: process.kill(), signal.SIGKILL),
        (lambda process: process.terminate(), signal.SIGTERM),
        (lambda process: process.send_signal(signal.SIGHUP), signal.SIGHUP),
    ],
    ids=["kill", "terminate", "send_signal"],
)
def test_end_by_a_signal(run: Run, how: Callable[[Any], None], number: int) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEPER)
        how(process)
        assert await process.wait() == -number

    run(main())


def test_signals_after_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process gets them: the transport knows that its own is gone.

    It raises ProcessLookupError, or is silent where the version's transport still has the child.
    """
    sent: list[object] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        monkeypatch.setattr("os.kill", lambda *args: sent.append(args))
        for how in (process.kill, process.terminate, lambda: process.send_signal(0)):
            with contextlib.suppress(ProcessLookupError):
                how()

    run(main())
    assert sent == []


def test_closing_the_transport_kills_the_child(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, *SLEEPER)
        transport.close()
        assert transport.is_closing()
        assert await transport._wait() == -signal.SIGKILL  # type: ignore[attr-defined]
        transport.close()

    run(main())


def test_cancelling_the_start_leaves_no_child(run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.create_subprocess_exec(*SLEEPER, stdin=PIPE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    run(main())


def test_cancelling_a_wait_leaves_the_child_alone(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        waiting = asyncio.create_task(process.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert process.returncode is None
        await process.communicate(b"")
        assert process.returncode == 0

    run(main())


def test_sigchld_is_the_users(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen = asyncio.Event()
        loop.add_signal_handler(signal.SIGCHLD, seen.set)
        mine = signal.getsignal(signal.SIGCHLD)
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
        assert await process.wait() == 5
        await seen.wait()
        assert signal.getsignal(signal.SIGCHLD) is mine
        assert loop.remove_signal_handler(signal.SIGCHLD)

    run(main())


# What mioloop promises beyond asyncio


@pytest.fixture
def own(loop_kind: str) -> None:
    if loop_kind == "asyncio":
        pytest.skip("asyncio leaves a descriptor or a thread behind here, or uses no pidfd")


def test_child_that_somebody_else_waited_for(
    own: None, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*SLEEPER)
        process.kill()
        os.waitpid(process.pid, 0)
        assert await process.wait() == 255

    run(main())
    assert "exit status already read: will report returncode 255" in caplog.text


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="3.14 has no child watchers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_child_watcher_is_asked(own: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise AssertionError("asked for the child watcher")

    monkeypatch.setattr(asyncio.events, "get_child_watcher", refuse)
    assert run(output_of("echo", "alone")) == b"alone\n"


def test_a_thread_waits_where_there_is_no_pidfd(
    own: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch_child(loop: mioloop.Loop, pid: int, *callback: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(mioloop.Loop, "_watch_child", watch_child)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "cat; exit 7", stdin=PIPE)
        [thread] = [t for t in threading.enumerate() if "waitpid" in t.name]
        assert thread.daemon
        await process.communicate(b"")
        assert process.returncode == 7
        thread.join()

    run(main())


def test_a_closed_loop_leaves_no_descriptor(own: None, new_loop: LoopFactory) -> None:
    loop = new_loop()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(asyncio.SubprocessProtocol, *SLEEPER, stdin=None, stdout=None)
    )
    process = transport.get_extra_info("subprocess")
    loop.run_until_complete(asyncio.sleep(0))
    transport.get_pipe_transport(2).close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    process.kill()
    process.wait()
    transport.close()
    assert [line for line in descriptors() if "pidfd" in line] == []


def test_an_ended_child_leaves_no_descriptor(own: None, run: Run) -> None:
    """The pidfd is closed before anybody hears of the end."""
    left: list[set[str]] = []

    class Protocol(asyncio.SubprocessProtocol):
        def process_exited(self) -> None:
            left.append({line for line in descriptors() if "pidfd" in line})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(
            Protocol, "true", stdin=None, stdout=None, stderr=None
        )
        await transport._wait()  # type: ignore[attr-defined]
        transport.close()

    run(main())
    assert left == [set()]


def test_watching_a_child_has_errors_of_its_own(own: None, new_loop: LoopFactory) -> None:
    loop: Any = new_loop()
    with pytest.raises(OSError):
        loop._watch_child(0, print)
    with pytest.raises(TypeError):
        loop._watch_child("1", print)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop._watch_child(os.getpid(), print)
