"""call_soon_threadsafe, run_coroutine_threadsafe and the waking of a sleeping loop.

Run on asyncio and on mioloop alike. The storms are the end-to-end half of the inbox's model
tests in core/: many threads push while the loop sleeps and wakes.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator

import pytest

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


@pytest.fixture
def running_loop(new_loop: NewLoop) -> Iterator[Loop]:
    """A loop that runs in another thread until the test is over."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()


def test_wakes_an_idle_loop_at_once(running_loop: Loop) -> None:
    """The loop has no timer and no descriptor, so only the wake-up can end its sleep."""
    for _ in range(200):
        done = threading.Event()
        running_loop.call_soon_threadsafe(done.set)
        assert done.wait(5)


def test_wakes_a_loop_that_sleeps_after_a_pause(running_loop: Loop) -> None:
    for pause in (0.001, 0.005, 0.02):
        time.sleep(pause)
        done = threading.Event()
        running_loop.call_soon_threadsafe(done.set)
        assert done.wait(5)


def test_runs_in_the_loop_thread_with_arguments(running_loop: Loop) -> None:
    got: concurrent.futures.Future[tuple[object, ...]] = concurrent.futures.Future()
    running_loop.call_soon_threadsafe(
        lambda *args: got.set_result((threading.get_ident(), *args)), 1, "two"
    )
    ident, *args = got.result(5)
    assert ident != threading.get_ident()
    assert args == [1, "two"]


def test_order_of_one_thread_is_kept(running_loop: Loop) -> None:
    ran: list[int] = []
    done = threading.Event()
    for number in range(5000):
        running_loop.call_soon_threadsafe(ran.append, number)
    running_loop.call_soon_threadsafe(done.set)
    assert done.wait(10)
    assert ran == list(range(5000))


def test_order_with_call_soon_in_the_loop_thread(loop: Loop) -> None:
    order: list[str] = []
    loop.call_soon(order.append, "a")
    loop.call_soon_threadsafe(order.append, "b")
    loop.call_soon(order.append, "c")
    loop.call_soon_threadsafe(order.append, "d")
    loop.run_until_complete(asyncio.sleep(0.001))
    assert order == ["a", "b", "c", "d"]


def test_called_before_the_loop_runs(loop: Loop) -> None:
    ran: list[int] = []
    threads = [
        threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, n)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert sorted(ran) == [0, 1, 2, 3]


def test_cancel_from_another_thread_before_it_runs(running_loop: Loop) -> None:
    ran: list[str] = []
    blocked, release = threading.Event(), threading.Event()
    running_loop.call_soon_threadsafe(lambda: (blocked.set(), release.wait(10)))
    assert blocked.wait(5)
    handle = running_loop.call_soon_threadsafe(ran.append, "cancelled")
    handle.cancel()
    done = threading.Event()
    running_loop.call_soon_threadsafe(done.set)
    release.set()
    assert done.wait(5)
    assert ran == [] and handle.cancelled()


@pytest.mark.skipif(
    not hasattr(asyncio.events, "_ThreadSafeHandle"),
    reason="handles became safe to cancel from other threads in 3.14",
)
def test_cancel_waits_for_a_callback_that_runs(running_loop: Loop) -> None:
    """From 3.14 on a cancel from another thread returns only when the callback is over."""
    started, release, order = threading.Event(), threading.Event(), []

    def callback() -> None:
        started.set()
        release.wait(5)
        order.append("callback")

    handle = running_loop.call_soon_threadsafe(callback)
    assert started.wait(5)

    def cancel() -> None:
        handle.cancel()
        order.append("cancel")

    thread = threading.Thread(target=cancel)
    thread.start()
    time.sleep(0.02)
    release.set()
    thread.join(5)
    assert order == ["callback", "cancel"]


def test_stop_from_another_thread(new_loop: NewLoop) -> None:
    loop = new_loop()
    timer = threading.Timer(0.01, lambda: loop.call_soon_threadsafe(loop.stop))
    timer.start()
    loop.run_forever()
    timer.join()
    assert not loop.is_running()


def test_run_coroutine_threadsafe(running_loop: Loop) -> None:
    async def give() -> tuple[str, bool]:
        await asyncio.sleep(0.001)
        return "value", asyncio.get_running_loop() is running_loop

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("reason")

    assert asyncio.run_coroutine_threadsafe(give(), running_loop).result(5) == ("value", True)
    with pytest.raises(LookupError, match="reason"):
        asyncio.run_coroutine_threadsafe(fail(), running_loop).result(5)


def test_run_coroutine_threadsafe_cancel(running_loop: Loop) -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = asyncio.run_coroutine_threadsafe(wait(), running_loop)
    assert started.wait(5)
    assert future.cancel()
    assert cancelled.wait(5)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(5)


def test_wrap_future_is_resolved_from_another_thread(loop: Loop) -> None:
    source: concurrent.futures.Future[int] = concurrent.futures.Future()

    async def main() -> int:
        wrapped = asyncio.wrap_future(source)
        threading.Timer(0.005, source.set_result, (42,)).start()
        return await wrapped

    assert loop.run_until_complete(main()) == 42


def test_call_soon_threadsafe_while_the_loop_closes(new_loop: NewLoop) -> None:
    """A push that races with close() either works or raises; it never crashes or hangs."""
    for _ in range(20):
        loop = new_loop()
        outcome: list[str] = []

        def push(loop: Loop = loop, outcome: list[str] = outcome) -> None:
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=push)
        thread.start()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        thread.join(10)
        assert outcome == ["Event loop is closed"]


def storm(loop: Loop, threads: int, pushes: int, pause: bool) -> list[tuple[int, int]]:
    """Runs `threads` threads of `pushes` pushes each; returns what ran, in order."""
    ran: list[tuple[int, int]] = []
    total = threads * pushes

    def landed(thread: int, number: int) -> None:
        ran.append((thread, number))
        if len(ran) == total:
            loop.stop()

    def push(thread: int) -> None:
        for number in range(pushes):
            loop.call_soon_threadsafe(landed, thread, number)
            if pause and number % 50 == 0:
                time.sleep(0.0005)

    workers = [threading.Thread(target=push, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    watchdog = loop.call_later(60, loop.stop)
    loop.run_forever()
    watchdog.cancel()
    for worker in workers:
        worker.join()
    return ran


def check_storm(ran: list[tuple[int, int]], threads: int, pushes: int) -> None:
    assert len(ran) == threads * pushes, "a push was lost"
    for thread in range(threads):
        assert [n for t, n in ran if t == thread] == list(range(pushes))


def test_small_storm(loop: Loop) -> None:
    check_storm(storm(loop, 4, 500, pause=True), 4, 500)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [False, True], ids=["full speed", "with pauses"])
def test_thread_storm(loop: Loop, pause: bool) -> None:
    check_storm(storm(loop, 8, 10_000, pause), 8, 10_000)


@pytest.mark.slow
def test_ping_pong_between_two_loops(new_loop: NewLoop) -> None:
    """Each loop sleeps until the other wakes it: a lost wake-up stops the game."""
    loops = new_loop(), new_loop()
    hits = [0, 0]
    rounds = 5000

    def hit(player: int) -> None:
        hits[player] += 1
        if hits[player] < rounds:
            loops[1 - player].call_soon_threadsafe(hit, 1 - player)
        else:
            for loop in loops:
                loop.call_soon_threadsafe(loop.stop)

    workers = [threading.Thread(target=loop.run_forever) for loop in loops]
    for worker in workers:
        worker.start()
    loops[0].call_soon_threadsafe(hit, 0)
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    assert hits[0] == rounds
