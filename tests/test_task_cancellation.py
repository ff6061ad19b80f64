"""Task.cancel: when it lands, messages, uncancel and cancelling, what swallows it and what not.

Run on asyncio and on mioloop alike. Cancellation through gather, wait_for, timeouts and
groups is in test_primitives.py.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

Loop = asyncio.AbstractEventLoop
T = TypeVar("T")
needs_uncancel = pytest.mark.skipif(
    not hasattr(asyncio.Task, "uncancel"), reason="uncancel() is new in 3.11"
)


def on_stock_loop(coro: Coroutine[Any, Any, T]) -> T:
    """What asyncio of this interpreter answers, for behaviour that differs between versions."""
    with contextlib.closing(asyncio.SelectorEventLoop()) as stock:
        return stock.run_until_complete(coro)


def test_cancel_before_the_first_step(loop: Loop) -> None:
    ran: list[int] = []

    async def never() -> None:
        ran.append(1)

    task = loop.create_task(never())
    assert task.cancel() is True
    assert not task.cancelled()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert task.cancelled() and task.done() and ran == []


def test_cancel_while_waiting(loop: Loop) -> None:
    async def main() -> list[str]:
        future = loop.create_future()
        seen = []

        async def wait() -> None:
            try:
                await future
            except asyncio.CancelledError:
                seen.append("in task")
                raise

        task = loop.create_task(wait())
        await asyncio.sleep(0)
        assert task.cancel() is True
        assert future.cancelled() and not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled() and task.cancel() is False
        return seen

    assert loop.run_until_complete(main()) == ["in task"]


def test_cancel_between_steps(loop: Loop) -> None:
    """A task that waits for nothing but its turn is cancelled at that turn."""

    async def main() -> list[int]:
        steps: list[int] = []

        async def step() -> None:
            for number in range(5):
                steps.append(number)
                await asyncio.sleep(0)

        task = loop.create_task(step())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return steps

    assert loop.run_until_complete(main()) == [0]


def test_cancel_after_the_wait_is_over_but_before_the_step(loop: Loop) -> None:
    """The future is done, the wake-up queued: the cancel lands instead of the result."""

    async def main() -> None:
        future = loop.create_future()

        async def wait() -> object:
            return await future

        task = loop.create_task(wait())
        await asyncio.sleep(0)
        future.set_result("ready")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())


def test_a_task_cancels_itself(loop: Loop) -> None:
    async def main() -> list[str]:
        seen = []

        async def own() -> None:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            seen.append("goes on")
            try:
                await asyncio.sleep(0)
            finally:
                seen.append("cancelled")
            seen.append("not reached")

        with pytest.raises(asyncio.CancelledError):
            await loop.create_task(own())
        return seen

    assert loop.run_until_complete(main()) == ["goes on", "cancelled"]


def test_self_cancel_without_another_await(loop: Loop) -> None:
    """Whether it has an effect differs between versions."""

    async def main() -> tuple[str, bool]:
        async def own() -> str:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            return "result"

        task = asyncio.ensure_future(own())
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        return repr(outcome), task.cancelled()

    assert loop.run_until_complete(main()) == on_stock_loop(main())


def test_swallowed_cancel(loop: Loop) -> None:
    async def main() -> object:
        async def stubborn() -> str:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass
            return "survived"

        task = loop.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        result = await task
        assert not task.cancelled()
        return result

    assert loop.run_until_complete(main()) == "survived"


def test_cancel_twice(loop: Loop) -> None:
    async def main() -> list[str]:
        caught = []

        async def stubborn() -> None:
            for number in range(2):
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError as error:
                    caught.append(f"{number} {error.args}")

        task = loop.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel("first")
        await asyncio.sleep(0)
        task.cancel("second")
        await task
        return caught

    assert loop.run_until_complete(main()) == ["0 ('first',)", "1 ('second',)"]


def test_message_on_the_awaiting_side(loop: Loop) -> None:
    """It arrives there since 3.11."""

    async def main() -> tuple[object, ...]:
        task = asyncio.ensure_future(asyncio.sleep(1000))
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        return info.value.args

    assert loop.run_until_complete(main()) == on_stock_loop(main())


def test_replacing_the_cancel_by_another_error(loop: Loop) -> None:
    async def main() -> None:
        async def convert() -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                raise LookupError("instead") from None

        task = loop.create_task(convert())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(LookupError, match="instead"):
            await task
        assert not task.cancelled()

    loop.run_until_complete(main())


def test_raising_cancelled_error_by_hand(loop: Loop) -> None:
    async def main() -> tuple[object, ...]:
        async def fail() -> None:
            raise asyncio.CancelledError("by hand")

        task = asyncio.ensure_future(fail())
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        return (*info.value.args, task.cancelled(), info.value.__cause__, info.value.__context__)

    assert repr(loop.run_until_complete(main())) == repr(on_stock_loop(main()))


def test_cancel_goes_down_the_chain_of_tasks(loop: Loop) -> None:
    order: list[str] = []

    async def link(name: str, inner: Callable[[], Any] | None) -> None:
        try:
            await (loop.create_task(inner()) if inner else asyncio.sleep(1000))
        finally:
            order.append(name)

    async def main() -> None:
        outer = loop.create_task(link("a", lambda: link("b", lambda: link("c", None))))
        for _ in range(4):
            await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    loop.run_until_complete(main())
    assert order == ["c", "b", "a"]


def test_a_future_that_refuses_to_be_cancelled(loop: Loop) -> None:
    """cancel() of what is awaited answered False: the task is told itself at its next step."""

    class Refuses(asyncio.Future):  # type: ignore[type-arg]
        def cancel(self, msg: object = None) -> bool:
            return False

    async def main() -> str:
        future = Refuses()

        async def wait() -> str:
            try:
                await future
            except asyncio.CancelledError:
                return "cancelled"
            return "not cancelled"

        task = loop.create_task(wait())
        await asyncio.sleep(0)
        assert task.cancel() is True
        future.set_result(None)
        return await task

    assert loop.run_until_complete(main()) == "cancelled"


def test_cancel_of_a_finished_task(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(0, "done"))
    loop.run_until_complete(task)
    assert task.cancel() is False
    assert not task.cancelled() and task.result() == "done"


@needs_uncancel
def test_cancelling_counts(loop: Loop) -> None:
    async def main() -> None:
        task = loop.create_task(asyncio.sleep(1000))
        assert task.cancelling() == 0
        assert task.cancel() and task.cancelling() == 1
        assert task.cancel() and task.cancelling() == 2
        assert task.uncancel() == 1 and task.uncancel() == 0 and task.uncancel() == 0
        assert task.cancelling() == 0
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(main())


@needs_uncancel
def test_uncancel_in_the_handler(loop: Loop) -> None:
    async def main() -> list[object]:
        seen: list[object] = []

        async def recover() -> str:
            me = asyncio.current_task()
            assert me is not None
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                seen.append(me.cancelling())
                seen.append(me.uncancel())
            await asyncio.sleep(0)
            return "recovered"

        task = loop.create_task(recover())
        await asyncio.sleep(0)
        task.cancel()
        seen.append(await task)
        return seen

    assert loop.run_until_complete(main()) == [1, 0, "recovered"]


@needs_uncancel
def test_uncancel_before_the_cancel_lands(loop: Loop) -> None:
    """3.13 made this withdraw the cancellation; before, it landed all the same."""

    async def main() -> tuple[bool, int]:
        task = asyncio.ensure_future(asyncio.sleep(0))
        task.cancel()
        task.uncancel()
        await asyncio.wait([task])
        return task.cancelled(), task.cancelling()

    assert loop.run_until_complete(main()) == on_stock_loop(main())


def test_run_until_complete_of_a_cancelled_task(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(1000))
    loop.call_soon(task.cancel, "outside")
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert task.cancelled()
