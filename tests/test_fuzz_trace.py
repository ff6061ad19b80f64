"""Random scripts leave the same trace on mioloop as on asyncio, event for event.

The scripts, and how their order is kept free of the clock: fuzz_script.py, fuzz_player.py. A
failure names its seed; `FUZZ_SEED=n pytest -k test_one_seed` runs that one alone.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

import fuzz_player
import mioloop
import pytest

Loop = asyncio.AbstractEventLoop
MakeLoop = Callable[[], Loop]
SEEDS = 400
CHUNK = 50
PYTHON_TASK: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]


def with_factory(make: MakeLoop, factory: Any) -> MakeLoop:
    def made() -> Loop:
        loop = make()
        loop.set_task_factory(factory)
        return loop

    return made


def task_factory(task: Any) -> Any:
    return lambda loop, coro, **keywords: task(coro, loop=loop, **keywords)


def alternating(loop: Loop, coro: Any, **keywords: Any) -> Any:
    """Every other task a stock one: they wait for and cancel each other."""
    numbers[0] += 1
    return (asyncio.Task, mioloop.Task)[numbers[0] % 2](coro, loop=loop, **keywords)


numbers = [0]
stock_loop: MakeLoop = asyncio.SelectorEventLoop


def in_debug_mode(make: MakeLoop) -> MakeLoop:
    def made() -> Loop:
        loop = make()
        loop.set_debug(True)
        loop.slow_callback_duration = 60  # type: ignore[attr-defined]
        return loop

    return made


# Which two are compared, asyncio's first.
PAIRS: dict[str, tuple[MakeLoop, MakeLoop]] = {
    "our loop": (stock_loop, mioloop.Loop),
    "our loop in debug mode": (in_debug_mode(stock_loop), in_debug_mode(mioloop.Loop)),
    "our loop with stock tasks": (stock_loop, lambda: mioloop.Loop(native_tasks=False)),
    "our loop with Python tasks": (
        with_factory(stock_loop, task_factory(PYTHON_TASK)),
        with_factory(mioloop.Loop, task_factory(PYTHON_TASK)),
    ),
    "our loop with mixed tasks": (stock_loop, with_factory(mioloop.Loop, alternating)),
    "our tasks on asyncio's loop": (
        stock_loop,
        with_factory(stock_loop, task_factory(mioloop.Task)),
    ),
}
if hasattr(asyncio, "eager_task_factory"):
    eager = asyncio.create_eager_task_factory(mioloop.Task)
    stock_eager = with_factory(stock_loop, asyncio.eager_task_factory)
    PAIRS["our loop with eager tasks"] = (stock_eager, with_factory(mioloop.Loop, eager))
    PAIRS["our eager tasks on asyncio's loop"] = (stock_eager, with_factory(stock_loop, eager))


def compare(pair: str, seed: int) -> list[str]:
    """Plays the seed on both; a difference fails with the lines that led to it."""
    traces = []
    for make in PAIRS[pair]:
        with contextlib.closing(make()) as loop:
            traces.append(fuzz_player.play(loop, seed))
    expected, got = traces
    for number in range(max(len(expected), len(got))):
        left, right = expected[number : number + 1], got[number : number + 1]
        if left != right:
            before = "\n  ".join(expected[max(0, number - 12) : number])
            pytest.fail(f"FUZZ_SEED={seed} line {number}:\n  {before}\n- {left}\n+ {right}")
    return expected


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_trace_is_that_of_asyncio(first: int) -> None:
    for seed in range(first, first + CHUNK):
        compare("our loop", seed)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair != "our loop"])
def test_trace_of_other_pairings(pair: str) -> None:
    for seed in range(SEEDS, SEEDS + CHUNK // (5 if "debug" in pair else 1)):
        compare(pair, seed)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_many_more_seeds(pair: str) -> None:
    for seed in range(10_000, 10_040 if "debug" in pair else 10_250):
        compare(pair, seed)


@pytest.mark.skipif("FUZZ_SEED" not in os.environ, reason="names the seed to run alone")
@pytest.mark.parametrize("pair", PAIRS)
def test_one_seed(pair: str) -> None:
    print(*compare(pair, int(os.environ["FUZZ_SEED"])), sep="\n")


def test_scripts_reach_what_they_are_meant_to() -> None:
    """Each kind of step is taken, each kind of end is seen, and asyncio repeats itself."""
    traces = []
    for _ in range(2):
        lines: list[str] = []
        for seed in range(40):
            with contextlib.closing(stock_loop()) as loop:
                lines += fuzz_player.play(loop, seed)
        traces.append(lines)
    assert traces[0] == traces[1]
    text = "\n".join(traces[0])
    kinds = [name[3:].replace("_", " ") for name in vars(fuzz_player.Player) if name[:3] == "do_"]
    missing = [kind for kind in kinds if f" {kind}" not in text.replace("_", " ")]
    assert missing == []
    for mark in ("CancelledError('by", "Boom(", "too late", "in time", "timer ", "gathered"):
        assert mark in text
    assert "WATCHDOG" not in text
    assert {line for line in traces[0] if line.startswith("LEFT")} == {"LEFT 0"}
