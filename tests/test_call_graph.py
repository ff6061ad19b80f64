"""Call graphs (3.14+): capture_call_graph, print_call_graph, `python -m asyncio ps` and `pstree`.

Run on asyncio and on mioloop alike: the graphs of our tasks must be those of asyncio's. The
command-line tools read the memory of a real process, which needs permission to trace it.
"""

import asyncio
import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from child_script import ChildScript

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]

pytestmark = pytest.mark.skipif(
    not hasattr(asyncio, "capture_call_graph"), reason="call graphs are new in 3.14"
)


def shape(graph: Any) -> list[Any]:
    """[name of the task or future, its call stack, the shapes of what awaits it]."""
    future = graph.future
    name = future.get_name() if isinstance(future, asyncio.Task) else "future"
    stack = [entry.frame.f_code.co_name for entry in graph.call_stack]
    return [name, stack, sorted(shape(parent) for parent in graph.awaited_by)]


def test_the_current_task(loop: Loop) -> None:
    async def inner() -> list[Any]:
        return shape(asyncio.capture_call_graph())

    async def main() -> list[Any]:
        return await inner()

    task = loop.create_task(main(), name="main")
    name, stack, awaited_by = loop.run_until_complete(task)
    assert name == "main" and awaited_by == []
    assert stack[-2:] == ["inner", "main"]


def test_no_task(loop: Loop) -> None:
    seen: list[Any] = []
    loop.call_soon(lambda: seen.append(asyncio.capture_call_graph()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [None]


async def deep(future: "asyncio.Future[Any]") -> None:
    await future


async def child(future: "asyncio.Future[Any]") -> None:
    await deep(future)


async def parent(task: "asyncio.Task[Any]") -> None:
    await task


def test_a_task_awaited_by_tasks(loop: Loop) -> None:
    async def main() -> list[Any]:
        future = loop.create_future()
        inner = loop.create_task(child(future), name="inner")
        outers = [loop.create_task(parent(inner), name=f"outer {n}") for n in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = shape(asyncio.capture_call_graph(inner))
        future.set_result(None)
        await asyncio.wait(outers)
        return found

    assert loop.run_until_complete(main()) == [
        "inner",
        ["deep", "child"],
        [["outer 0", ["parent"], []], ["outer 1", ["parent"], []]],
    ]


def test_a_future_awaited_by_tasks(loop: Loop) -> None:
    async def main() -> list[Any]:
        future = loop.create_future()
        waiting = [loop.create_task(child(future), name=f"waiter {n}") for n in range(3)]
        await asyncio.sleep(0)
        found = shape(asyncio.capture_call_graph(future))
        future.set_result(None)
        await asyncio.wait(waiting)
        assert shape(asyncio.capture_call_graph(future)) == ["future", [], []]
        return found

    assert loop.run_until_complete(main()) == [
        "future",
        [],
        [[f"waiter {n}", ["deep", "child"], []] for n in range(3)],
    ]


def test_new_futures_know_nothing_of_the_awaiters_of_dead_ones(loop: Loop) -> None:
    """Futures and tasks whose memory is used again, after several or one have awaited them."""

    async def wait_for_one(waiters: int, target: "asyncio.Future[Any]") -> None:
        waiting = [loop.create_task(child(target), name=f"waiter {n}") for n in range(waiters)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        expected = [[f"waiter {n}", ["deep", "child"], []] for n in range(waiters)]
        assert shape(asyncio.capture_call_graph(target))[2] == expected
        if not target.cancel():
            raise AssertionError
        await asyncio.wait(waiting)

    async def main() -> None:
        for waiters in (3, 2, 1, 3, 1, 2):
            await wait_for_one(waiters, loop.create_future())
            await wait_for_one(waiters, loop.create_task(asyncio.sleep(1000)))

    loop.run_until_complete(main())


def test_a_cancelled_wait_leaves_the_graph(loop: Loop) -> None:
    async def main() -> None:
        inner = loop.create_task(asyncio.sleep(1000), name="inner")
        shielding = loop.create_task(deep(asyncio.shield(inner)), name="shielding")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        shielding.cancel()
        await asyncio.wait([shielding])
        assert shape(asyncio.capture_call_graph(inner)) == ["inner", ["sleep"], []]
        inner.cancel()

    loop.run_until_complete(main())


def test_gather_group_wait_and_wait_for(loop: Loop) -> None:
    """Each of asyncio's tools links what it waits for to the task that waits."""

    async def main() -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}

        async def look(key: str) -> None:
            found[key] = shape(asyncio.capture_call_graph())[2]

        def looking(key: str) -> "asyncio.Task[None]":
            async def later() -> None:
                await asyncio.sleep(0)
                await look(key)

            return asyncio.ensure_future(later())

        await asyncio.gather(looking("gather"), asyncio.sleep(0))
        await asyncio.wait([looking("wait")])
        await asyncio.wait_for(looking("wait_for"), 10)
        async with asyncio.TaskGroup() as group:
            inner = looking("group")
            group.create_task(parent(inner), name="in group")
        await asyncio.shield(looking("shield"))
        return found

    def run(on: Loop) -> Any:
        return on.run_until_complete(on.create_task(main(), name="main"))

    with contextlib.closing(asyncio.SelectorEventLoop()) as stock:
        expected, got = run(stock), run(loop)
    assert got == expected
    assert expected["wait"][0][0] == "main" and expected["group"][0][0] == "in group"


def test_print_and_format(loop: Loop) -> None:
    async def main() -> str:
        future = loop.create_future()
        inner = loop.create_task(child(future), name="inner")
        outer = loop.create_task(parent(inner), name="outer")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        out = io.StringIO()
        asyncio.print_call_graph(inner, file=out)
        assert asyncio.format_call_graph(inner) == out.getvalue().rstrip("\n")
        future.set_result(None)
        await outer
        return out.getvalue()

    text = loop.run_until_complete(main())
    assert text.startswith("* Task(name='inner', id=0x")
    assert re.findall(r", in async (\w+)\(\)", text) == ["deep", "child", "parent"]
    assert "+ Awaited by:\n" in text and "* Task(name='outer', id=0x" in text


def test_c_tasks_and_ours_in_one_graph(loop: Loop) -> None:
    """A stock task that awaits one of the loop's, which awaits a stock one."""

    async def main() -> list[Any]:
        future = loop.create_future()
        first = asyncio.Task(child(future), name="first, stock")
        second = loop.create_task(parent(first), name="second")
        third = asyncio.Task(parent(second), name="third, stock")
        for _ in range(3):
            await asyncio.sleep(0)
        found = shape(asyncio.capture_call_graph(first))
        future.set_result(None)
        await third
        return found

    assert loop.run_until_complete(main()) == [
        "first, stock",
        ["deep", "child"],
        [["second", ["parent"], [["third, stock", ["parent"], []]]]],
    ]


# The command line --------------------------------------------------------------------------------

PROGRAM = """
    async def deep():
        await asyncio.sleep(1000)
    async def child():
        await deep()
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(child(), name="first")
            group.create_task(child(), name="second")
            await asyncio.sleep(0)
            say("ready")
    loop = new_loop()
    main = loop.create_task(main(), name="main")
    sys.stdin.close()
    loop.run_until_complete(main)
    """


def inspect_process(kind: str, command: str) -> str:
    script = ChildScript(kind, PROGRAM)
    try:
        script.expect("ready")
        asked = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(script.process.pid)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        script.process.kill()
        script.finish()
    if "Permission" in asked.stderr or "permission" in asked.stdout + asked.stderr:
        pytest.skip("this process may not read another's memory")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    return asked.stdout


def test_ps_shows_the_tasks(loop_kind: str) -> None:
    table = inspect_process(loop_kind, "ps")
    for name in ("main", "first", "second"):
        (row,) = (line for line in table.splitlines() if re.search(rf"0x\w+ +{name} ", line))
        assert ("TaskGroup.__aexit__ -> main" if name == "main" else "deep -> child") in row


def test_pstree_shows_the_tree(loop_kind: str) -> None:
    tree = inspect_process(loop_kind, "pstree")
    lines = [re.sub(r" \S+:\d+$", "", line) for line in tree.splitlines() if line.strip()]
    assert lines == [
        "└── (T) main",
        "    └──  main",
        "        └──  TaskGroup.__aexit__",
        "            └──  TaskGroup._aexit",
        "                ├── (T) first",
        "                │   └──  child",
        "                │       └──  deep",
        "                │           └──  sleep",
        "                └── (T) second",
        "                    └──  child",
        "                        └──  deep",
        "                            └──  sleep",
    ]
