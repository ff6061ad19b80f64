"""add_reader, add_writer, remove_reader, remove_writer: level-triggered, on real descriptors.

Run on asyncio and on mioloop alike. Under mioloop's hood the poller is edge-triggered: what is
tested here is that no caller can tell.
"""

import asyncio
import fcntl
import gc
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]
Pair = tuple[socket.socket, socket.socket]


def run_for(loop: Loop, seconds: float = 0.005) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


def test_reader_is_called_with_its_arguments(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[object] = []

    def readable(*args: object) -> None:
        seen.extend(args)
        seen.append(ours.recv(10))
        loop.stop()

    loop.add_reader(ours, readable, 1, "two")
    theirs.send(b"data")
    loop.run_forever()
    assert seen == [1, "two", b"data"]
    assert loop.remove_reader(ours) is True


def test_reader_is_level_triggered(loop: Loop, pair: Pair) -> None:
    """Called again and again as long as there is something to read."""
    ours, theirs = pair
    got = b""

    def readable() -> None:
        nonlocal got
        got += ours.recv(1)
        if len(got) == 5:
            loop.stop()

    loop.add_reader(ours.fileno(), readable)
    theirs.send(b"bytes")
    loop.run_forever()
    assert got == b"bytes"
    assert loop.remove_reader(ours.fileno())


def test_reader_that_reads_nothing_is_called_until_removed(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    calls = 0

    def readable() -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            loop.remove_reader(ours)
            loop.stop()

    loop.add_reader(ours, readable)
    theirs.send(b"x")
    loop.run_forever()
    assert calls == 10
    run_for(loop)
    assert calls == 10


def test_data_that_was_there_before_the_registration(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"early")
    run_for(loop)
    loop.add_reader(ours, loop.stop)
    loop.run_forever()
    assert ours.recv(10) == b"early"
    loop.remove_reader(ours)


def test_data_that_came_between_two_runs_is_seen_in_the_first_turn(loop: Loop, pair: Pair) -> None:
    """Even if that turn has other work, and is the only one."""
    ours, theirs = pair
    seen: list[bytes] = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
    run_for(loop)
    theirs.send(b"data")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [b"data"]
    loop.remove_reader(ours)


def test_data_that_is_left_over_when_a_reader_is_added_again(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"ab")
    for expected in (b"a", b"b"):
        loop.add_reader(ours, loop.stop)
        loop.run_forever()
        assert ours.recv(1) == expected
        assert loop.remove_reader(ours) is True


def test_add_again_replaces_the_callback(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[str] = []
    loop.add_reader(ours, seen.append, "old")
    loop.add_reader(ours, lambda: (seen.append("new"), loop.stop()))
    theirs.send(b"x")
    loop.run_forever()
    assert seen == ["new"]
    assert loop.remove_reader(ours) is True


def test_remove_answers_whether_there_was_one(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    assert loop.remove_reader(ours) is False
    assert loop.remove_writer(ours) is False
    loop.add_reader(ours, print)
    assert loop.remove_writer(ours) is False
    assert loop.remove_reader(ours) is True
    assert loop.remove_reader(ours) is False
    loop.add_writer(ours, print)
    assert loop.remove_writer(ours.fileno()) is True
    assert loop.remove_writer(ours.fileno()) is False


def test_writer_is_level_triggered(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    calls = 0

    def writable() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            loop.stop()

    loop.add_writer(ours, writable)
    loop.run_forever()
    assert calls == 5
    assert loop.remove_writer(ours) is True


def test_writer_waits_while_the_buffer_is_full(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(bytes(65536))
    calls: list[int] = []
    loop.add_writer(ours, calls.append, 1)
    run_for(loop)
    assert calls == []

    def drain() -> None:
        try:
            while theirs.recv(1 << 20):
                pass
        except BlockingIOError:
            loop.call_later(0.005, loop.stop)

    loop.call_soon(drain)
    loop.run_forever()
    assert calls
    loop.remove_writer(ours)


def test_reader_and_writer_on_one_descriptor(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    seen: list[str] = []

    def writable() -> None:
        seen.append("write")
        loop.remove_writer(ours)

    def readable() -> None:
        seen.append("read " + ours.recv(10).decode())
        loop.stop()

    loop.add_reader(ours, readable)
    loop.add_writer(ours, writable)
    loop.call_later(0.005, theirs.send, b"x")
    loop.run_forever()
    assert seen == ["write", "read x"]
    assert loop.remove_reader(ours) is True
    assert loop.remove_writer(ours) is False


def test_removing_the_reader_keeps_the_writer(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    loop.add_reader(ours, print)
    loop.add_writer(ours, loop.stop)
    assert loop.remove_reader(ours)
    loop.run_forever()
    assert loop.remove_writer(ours)


def test_reader_removed_by_another_callback_of_the_same_turn(loop: Loop) -> None:
    """Two descriptors are ready at once; the first one's callback removes the other's."""
    first, second = socket.socketpair(), socket.socketpair()
    seen: list[int] = []

    def readable(number: int) -> None:
        seen.append(number)
        for sock in (first[0], second[0]):
            loop.remove_reader(sock)
        loop.call_soon(loop.stop)

    for number, (ours, theirs) in enumerate((first, second)):
        loop.add_reader(ours, readable, number)
        theirs.send(b"x")
    loop.run_forever()
    assert len(seen) == 1
    for sock in (*first, *second):
        sock.close()


def test_end_of_file_and_hang_up_call_the_reader(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    loop.add_reader(ours, loop.stop)
    loop.run_forever()
    assert ours.recv(1) == b""
    loop.remove_reader(ours)


def test_pipes(loop: Loop) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    got: list[bytes] = []
    loop.add_reader(read, lambda: (got.append(os.read(read, 10)), loop.stop()))
    os.write(write, b"piped")
    loop.run_forever()
    os.close(write)
    loop.run_forever()
    assert got == [b"piped", b""]
    assert loop.remove_reader(read)
    os.close(read)


def test_blocking_flag_of_the_descriptor_is_left_alone(loop: Loop) -> None:
    read, write = os.pipe()
    for blocking in (True, False):
        os.set_blocking(read, blocking)
        flags = fcntl.fcntl(read, fcntl.F_GETFL)
        loop.add_reader(read, print)
        run_for(loop, 0.001)
        assert fcntl.fcntl(read, fcntl.F_GETFL) == flags
        loop.remove_reader(read)
        assert fcntl.fcntl(read, fcntl.F_GETFL) == flags
    os.close(read)
    os.close(write)


def test_error_in_a_reader_is_reported(loop: Loop, pair: Pair) -> None:
    ours, theirs = pair
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))

    def fail() -> None:
        ours.recv(10)
        raise ValueError("reason")

    loop.add_reader(ours, fail)
    theirs.send(b"x")
    run_for(loop)
    assert [str(report["exception"]) for report in reports] == ["reason"]
    assert reports[0]["message"].startswith("Exception in callback ")
    loop.remove_reader(ours)


@pytest.mark.parametrize("bad", ["text", None, -1, 1.5])
def test_bad_descriptors(loop: Loop, bad: object) -> None:
    """The same type of error as asyncio's."""
    stock = asyncio.SelectorEventLoop()
    errors = []
    for one in (stock, loop):
        with pytest.raises((ValueError, TypeError)) as info:
            one.add_reader(bad, print)  # type: ignore[arg-type]
        errors.append(info.type)
    stock.close()
    assert errors[0] is errors[1]


def test_regular_files_and_closed_descriptors_are_refused(loop: Loop, tmp_path: Any) -> None:
    """epoll takes no regular files: PermissionError, as on asyncio."""
    with (tmp_path / "file").open("w+") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError):
        loop.add_reader(read, print)


def test_a_descriptor_number_used_again(loop: Loop) -> None:
    """Closed after removal, its number goes to a new pipe: the new one's data is seen."""
    for expected in (b"one", b"two", b"three"):
        read, write = os.pipe()
        got: list[bytes] = []
        loop.add_reader(read, lambda: (got.append(os.read(read, 10)), loop.stop()))  # noqa: B023
        os.write(write, expected)
        loop.run_forever()
        assert got == [expected]
        assert loop.remove_reader(read)
        os.close(read)
        os.close(write)


def test_a_closed_socket_can_still_be_removed(loop: Loop, pair: Pair) -> None:
    """anyio closes a socket first; its number is -1 then, and the object stands for it."""
    ours, theirs = pair
    loop.add_reader(ours, print)
    loop.add_writer(theirs, print)
    ours.close()
    theirs.close()
    assert loop.remove_writer(ours) is False
    assert loop.remove_reader(ours) is True
    assert loop.remove_writer(theirs) is True
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.remove_reader(ours)


def test_a_closed_socket_with_a_reader_and_a_writer(loop: Loop, pair: Pair) -> None:
    """The poller would have to be told of the one that stays, and cannot: both are gone."""
    ours, _ = pair
    loop.add_reader(ours, print)
    loop.add_writer(ours, print)
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.remove_writer(ours)
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.remove_reader(ours)


def test_a_closed_socket_never_stands_for_its_successor(loop: Loop) -> None:
    """The number of the closed one has a new socket by now, with a reader of its own."""
    first, first_peer = socket.socketpair()
    loop.add_reader(first, print)
    number = first.fileno()
    first.close()
    second, second_peer = socket.socketpair()
    with first_peer, second, second_peer:
        if second.fileno() != number:
            pytest.skip("the number was not given again")
        assert loop.remove_reader(first) is True
        second_peer.send(b"x")
        loop.add_reader(second, loop.stop)
        loop.run_forever()
        assert loop.remove_reader(second) is True


def test_a_watched_file_is_kept_until_it_is_removed(loop: Loop, pair: Pair) -> None:
    """As asyncio's selector keeps it: the socket of a forgotten object stays open."""
    _, theirs = pair
    watched = socket.socket(fileno=os.dup(theirs.fileno()))
    kept = weakref.ref(watched)
    number = watched.fileno()
    loop.add_reader(watched, print)
    loop.add_writer(watched, print)
    del watched
    gc.collect()
    assert kept() is not None
    assert loop.remove_writer(number)
    assert kept() is not None
    with pytest.warns(ResourceWarning, match="unclosed"):
        loop.remove_reader(number)
    assert kept() is None


def test_context_of_a_reader(loop: Loop, pair: Pair) -> None:
    import contextvars

    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")
    ours, theirs = pair
    seen: list[str] = []
    context = contextvars.copy_context()

    def register() -> None:
        var.set("registered")
        loop.add_reader(ours, lambda: (seen.append(var.get()), loop.stop()))

    context.run(register)
    theirs.send(b"x")
    loop.run_forever()
    assert seen == ["registered"]
    loop.remove_reader(ours)


def test_after_close(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    loop.add_reader(ours, print)
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_reader(ours, print)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_writer(ours, print)
    assert loop.remove_reader(ours) is False
    assert loop.remove_writer(ours) is False
    assert ours.getsockname() is not None
