"""The wake-up descriptor of signals, which a process has one of and which others want too.

Run on asyncio and on mioloop alike; what asyncio answers is what is expected. Handlers and
Ctrl-C are in test_signals.py. Main thread only, as signals are.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]
SIGNAL = signal.SIGUSR1


class Descriptor:
    """A wake-up descriptor of the program's own, as a GUI sets one."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)

    def received(self) -> list[int]:
        try:
            return list(os.read(self.read_fd, 100))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


@pytest.fixture
def own() -> Iterator[Descriptor]:
    own = Descriptor()
    before = signal.set_wakeup_fd(-1)
    handler = signal.signal(SIGNAL, lambda *_: None)
    yield own
    signal.signal(SIGNAL, handler)
    signal.set_wakeup_fd(before)
    own.close()


async def raise_and_wait() -> None:
    signal.raise_signal(SIGNAL)
    await asyncio.sleep(0.002)


def test_it_is_put_back_and_gets_the_signals_of_the_run(loop: Loop, own: Descriptor) -> None:
    signal.set_wakeup_fd(own.write_fd)
    loop.run_until_complete(raise_and_wait())
    assert own.received() == [SIGNAL]
    loop.call_soon(signal.raise_signal, SIGNAL)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert own.received() == [SIGNAL]
    loop.close()
    assert signal.set_wakeup_fd(-1) == own.write_fd


def test_what_is_set_during_a_run_stays(loop: Loop, own: Descriptor) -> None:
    async def main() -> None:
        signal.set_wakeup_fd(own.write_fd)
        await raise_and_wait()

    loop.run_until_complete(main())
    assert own.received() == [SIGNAL]
    assert signal.set_wakeup_fd(-1) == own.write_fd


def test_none_is_left_behind(loop: Loop, own: Descriptor) -> None:
    loop.run_until_complete(raise_and_wait())
    assert signal.set_wakeup_fd(-1) == -1
    loop.add_signal_handler(SIGNAL, int)
    assert signal.set_wakeup_fd(-1) != -1
    loop.add_signal_handler(SIGNAL, int)
    loop.run_until_complete(raise_and_wait())
    loop.remove_signal_handler(SIGNAL)
    assert signal.set_wakeup_fd(-1) == -1


def test_one_closed_during_the_run_is_no_error(loop: Loop) -> None:
    own = Descriptor()
    before = signal.set_wakeup_fd(own.write_fd)
    try:
        loop.call_soon(own.close)
        loop.call_soon(loop.stop)
        loop.run_forever()
    finally:
        signal.set_wakeup_fd(before)


def test_signals_between_the_runs_reach_the_handler_in_the_next(loop: Loop) -> None:
    calls: list[int] = []
    loop.add_signal_handler(SIGNAL, calls.append, 1)
    signal.raise_signal(SIGNAL)
    assert calls == []
    loop.run_until_complete(asyncio.sleep(0.002))
    assert calls == [1]
    assert loop.remove_signal_handler(SIGNAL)


def test_an_old_signal_is_not_for_a_new_handler(loop: Loop) -> None:
    """The Ctrl-C that ended the last run must not call the handler of the next one."""
    calls: list[int] = []
    loop.call_soon(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(10))
    loop.add_signal_handler(signal.SIGINT, calls.append, 1)
    loop.run_until_complete(asyncio.sleep(0.002))
    assert calls == []
    signal.raise_signal(signal.SIGINT)
    loop.run_until_complete(asyncio.sleep(0.002))
    assert calls == [1]
    assert loop.remove_signal_handler(signal.SIGINT)


def test_a_loop_with_handlers_gets_its_signals_while_another_runs(new_loop: LoopFactory) -> None:
    first, second = new_loop(), new_loop()
    calls: list[int] = []
    first.add_signal_handler(SIGNAL, calls.append, 1)
    second.run_until_complete(raise_and_wait())
    assert calls == []
    first.run_until_complete(asyncio.sleep(0.002))
    assert calls == [1]
    assert first.remove_signal_handler(SIGNAL)
    assert signal.set_wakeup_fd(-1) == -1
