"""Asynchronous generators: closed by the loop when dropped, or by shutdown_asyncgens().

Run on asyncio and on mioloop alike; what asyncio answers is what is expected. The
interpreter's own tests of the generators themselves are run by tests/conformance.
"""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


async def numbers(ended: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(100):
            yield number
    finally:
        await asyncio.sleep(0)
        ended.append("ended")


def test_a_dropped_generator_is_closed_by_the_loop(loop: Loop) -> None:
    ended: list[str] = []

    async def main() -> None:
        async for number in numbers(ended):
            if number == 3:
                break
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)
        assert ended == ["ended"]

    loop.run_until_complete(main())


def test_shutdown_closes_the_generators_that_are_left(loop: Loop) -> None:
    ended: list[str] = []
    kept = [numbers(ended) for _ in range(3)]

    async def main() -> None:
        for agen in kept:
            assert await agen.__anext__() == 0  # type: ignore[attr-defined]

    loop.run_until_complete(main())
    assert ended == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert ended == ["ended"] * 3
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_a_generator_that_fails_to_close_is_reported(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def fails() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ZeroDivisionError

    agen = fails()

    async def main() -> None:
        await agen.__anext__()  # type: ignore[attr-defined]

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    (context,) = contexts
    assert context["asyncgen"] is agen
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["message"] == (
        f"an error occurred during closing of asynchronous generator {agen!r}"
    )


def test_a_generator_started_after_the_shutdown_gives_a_warning(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_asyncgens())

    async def main() -> None:
        async with contextlib.aclosing(numbers([])) as agen:  # type: ignore[type-var]
            await agen.__anext__()

    with pytest.warns(ResourceWarning, match=r"was scheduled after loop\.shutdown_asyncgens\(\)"):
        loop.run_until_complete(main())


def test_the_generator_hooks_are_put_back(loop: Loop) -> None:
    def first(agen: object) -> None:
        """Be somebody else's hook."""

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=first)
    try:
        loop.run_until_complete(answer())
        assert sys.get_asyncgen_hooks().firstiter is first
        assert sys.get_asyncgen_hooks().finalizer is None
    finally:
        sys.set_asyncgen_hooks(*before)
