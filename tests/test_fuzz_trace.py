"""Random asyncio programs: their event trace on mioloop equals asyncio's, event for event.

A seed makes a script: a tree of coroutines that spawn, await, cancel, shield, gather, wait, time
out, lock, queue, fail and clean up, with callbacks and timers in between. The script is data, so
both loops run the very same program; each step writes a line, and the lines must be equal.

Order is asyncio's alone to determine: waits are zero-delay turns, and every timer has a deadline
of its own on a grid coarse enough that no two fall into one turn (`Clock`).
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop
SEEDS = 400
DEPTH = 4
HAS_GROUPS = hasattr(asyncio, "TaskGroup")
HAS_EAGER = hasattr(asyncio, "eager_task_factory")

Step = tuple[Any, ...]
Body = list[Step]


class Boom(Exception):
    """The error that scripts raise."""


# Making a script ---------------------------------------------------------------------------------


class Writer:
    """Draws a script from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.budget = 60

    def body(self, depth: int) -> Body:
        return [self.step(depth) for _ in range(self.random.randint(1, 5))]

    def bodies(self, depth: int, least: int = 0) -> list[Body]:
        return [self.body(depth) for _ in range(self.random.randint(least, 4))]

    def step(self, depth: int) -> Step:
        self.budget -= 1
        leaves: list[Callable[[], Step]] = [
            lambda: ("turns", self.random.randint(0, 4)),
            lambda: ("soon", self.random.randint(0, 2)),
            lambda: ("resolve", self.random.randrange(6), self.random.random() < 0.2),
            lambda: ("await", self.random.randrange(6)),
            lambda: ("cancel task", self.random.randrange(8), self.random.randint(0, 2)),
            lambda: ("cancel future", self.random.randrange(6)),
            lambda: ("cancel me", self.random.random() < 0.5),
            lambda: ("join", self.random.randrange(8)),
            lambda: ("callback", self.random.randrange(8)),
            lambda: ("lock", self.random.randint(0, 2)),
            lambda: ("put",),
            lambda: ("get",),
            lambda: ("set event",),
            lambda: ("wait event", self.random.randint(1, 3)),
            lambda: ("fail",) if self.random.random() < 0.4 else ("turns", 1),
            lambda: ("timer", self.random.randrange(6)),
            lambda: ("look",),
        ]
        branches: list[Callable[[], Step]] = [
            lambda: ("spawn", self.body(depth - 1)),
            lambda: ("spawn", self.body(depth - 1)),
            lambda: ("call", self.body(depth - 1)),
            lambda: ("try", self.body(depth - 1), self.random.choice("rsc"), self.body(depth - 1)),
            lambda: ("gather", self.bodies(depth - 1), self.random.random() < 0.5),
            lambda: ("wait", self.bodies(depth - 1, 1), self.random.choice(("FIRST", "ALL", "EXC"))),
            lambda: ("shield", self.body(depth - 1)),
            lambda: ("wait_for", self.body(depth - 1), self.random.choice((None, 0, "timer"))),
            lambda: ("as_completed", self.bodies(depth - 1)),
            lambda: ("group", self.bodies(depth - 1)),
            lambda: ("timeout", self.body(depth - 1)),
        ]
        inner = depth > 0 and self.budget > 0 and self.random.random() < 0.5
        return self.random.choice(branches if inner else leaves)()


# Running a script --------------------------------------------------------------------------------


class Clock:
    """Deadlines of one run, each a grid step after the one before: no two meet in a turn."""

    STEP = 0.0004

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.next = 0.0

    def delay(self) -> float:
        now = self.loop.time()
        self.next = max(self.next, now) + self.STEP
        return self.next - now


class Player:
    """Runs one script on one loop and keeps the trace."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.clock = Clock(loop)
        self.trace: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.spawned = 0
        loop.set_exception_handler(self.report)

    def say(self, *words: object) -> None:
        self.trace.append(" ".join(str(word) for word in words))

    def report(self, _loop: Loop, context: dict[str, Any]) -> None:
        # Reports of collected objects come when the collector runs: not a matter of order.
        if "never retrieved" not in context["message"] and "destroyed" not in context["message"]:
            self.say("REPORT", type(context.get("exception")).__name__)

    def new_task(self, body: Body, who: str) -> "asyncio.Task[Any]":
        self.spawned += 1
        name = f"{who}.{self.spawned}"
        task = self.loop.create_task(self.run_body(body, name), name=name)
        self.tasks.append(task)
        task.add_done_callback(lambda done: self.say("done", name, self.outcome(done)))
        return task

    @staticmethod
    def outcome(future: "asyncio.Future[Any]") -> str:
        if not future.done():
            return "pending"
        if future.cancelled():
            return "cancelled"
        error = future.exception()
        return f"error {describe(error)}" if error else f"result {future.result()!r}"

    async def main(self, body: Body) -> None:
        self.futures = [self.loop.create_future() for _ in range(6)]
        self.lock, self.event = asyncio.Lock(), asyncio.Event()
        self.queue: asyncio.Queue[str] = asyncio.Queue(1)
        root = self.new_task(body, "root")
        # Whatever the script waits for for ever is cut short after so many timers, in order.
        for round_ in range(40):
            await asyncio.sleep(self.clock.delay() if round_ % 4 == 3 else 0)
            if all(task.done() for task in self.tasks):
                break
        self.say("END", len(asyncio.all_tasks()), self.outcome(root))
        for task in list(self.tasks):
            task.cancel()
        for _ in range(12):
            await asyncio.sleep(0)
        self.say("LEFT", [task.get_name() for task in self.tasks if not task.done()])

    async def run_body(self, body: Body, who: str) -> str:
        try:
            for step in body:
                self.say(who, step[0])
                await getattr(self, "do_" + step[0].replace(" ", "_"))(who, *step[1:])
        except BaseException as error:
            self.say(who, "raises", describe(error))
            raise
        self.say(who, "ends")
        return who

    # Leaves

    async def do_turns(self, who: str, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def do_soon(self, who: str, depth: int) -> None:
        def called(depth: int) -> None:
            self.say("called", who, depth)
            if depth:
                self.loop.call_soon(called, depth - 1)

        self.loop.call_soon(called, depth)

    async def do_resolve(self, who: str, number: int, fail: bool) -> None:
        if not self.futures[number].done():
            if fail:
                self.futures[number].set_exception(Boom(who))
            else:
                self.futures[number].set_result(who)

    async def do_await(self, who: str, number: int) -> None:
        self.say(who, "got", await self.futures[number])

    async def do_cancel_task(self, who: str, number: int, message: int) -> None:
        task = self.tasks[number % len(self.tasks)]
        args = (f"by {who}",) if message == 1 else ()
        self.say(who, "cancels", task.get_name(), task.cancel(*args))

    async def do_cancel_future(self, who: str, number: int) -> None:
        self.say(who, "cancels future", self.futures[number].cancel())
        self.futures[number] = self.loop.create_future()

    async def do_cancel_me(self, who: str, wait: bool) -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        if wait:
            await asyncio.sleep(0)

    async def do_join(self, who: str, number: int) -> None:
        task = self.tasks[number % len(self.tasks)]
        if task is not asyncio.current_task():
            self.say(who, "joined", await task)

    async def do_callback(self, who: str, number: int) -> None:
        task = self.tasks[number % len(self.tasks)]
        task.add_done_callback(lambda done: self.say("callback", who, self.outcome(done)))

    async def do_lock(self, who: str, turns: int) -> None:
        async with self.lock:
            await self.do_turns(who, turns)

    async def do_put(self, who: str) -> None:
        await self.queue.put(who)

    async def do_get(self, who: str) -> None:
        self.say(who, "got", await self.queue.get())

    async def do_set_event(self, who: str) -> None:
        self.event.set()

    async def do_wait_event(self, who: str, turns: int) -> None:
        await self.event.wait()
        await self.do_turns(who, turns)
        self.event.clear()

    async def do_fail(self, who: str) -> None:
        raise Boom(who)

    async def do_timer(self, who: str, number: int) -> None:
        def fire() -> None:
            self.say("timer", who)
            if not self.futures[number].done():
                self.futures[number].set_result(f"timer of {who}")

        self.loop.call_later(self.clock.delay(), fire)

    async def do_look(self, who: str) -> None:
        task = asyncio.current_task()
        cancelling = task.cancelling() if hasattr(task, "cancelling") else 0  # type: ignore[union-attr]
        self.say(who, "is", task.get_name(), cancelling, len(asyncio.all_tasks()))  # type: ignore[union-attr]

    # Branches

    async def do_spawn(self, who: str, body: Body) -> None:
        self.new_task(body, who)

    async def do_call(self, who: str, body: Body) -> None:
        await self.run_body(body, who + "()")

    async def do_try(self, who: str, body: Body, kind: str, cleanup: Body) -> None:
        """Runs `cleanup` afterwards; "r" raises on, "s" swallows errors, "c" cancellation too."""
        try:
            await self.run_body(body, who + "{}")
        except Boom:
            if kind == "r":
                raise
        except asyncio.CancelledError:
            if kind != "c":
                raise
        finally:
            await self.run_body(cleanup, who + "finally")

    async def do_gather(self, who: str, bodies: list[Body], keep: bool) -> None:
        tasks = [self.new_task(body, who) for body in bodies]
        results = await asyncio.gather(*tasks, return_exceptions=keep)
        self.say(who, "gathered", [describe(result) for result in results])

    async def do_wait(self, who: str, bodies: list[Body], when: str) -> None:
        tasks = [self.new_task(body, who) for body in bodies]
        full = {"FIRST": "FIRST_COMPLETED", "ALL": "ALL_COMPLETED", "EXC": "FIRST_EXCEPTION"}[when]
        done, pending = await asyncio.wait(tasks, return_when=full)
        self.say(who, "waited", sorted(t.get_name() for t in done), len(pending))

    async def do_shield(self, who: str, body: Body) -> None:
        self.say(who, "shielded", await asyncio.shield(self.new_task(body, who)))

    async def do_wait_for(self, who: str, body: Body, timeout: Any) -> None:
        seconds = self.clock.delay() if timeout == "timer" else timeout
        try:
            self.say(who, "in time", await asyncio.wait_for(self.new_task(body, who), seconds))
        except asyncio.TimeoutError:
            self.say(who, "too late")

    async def do_as_completed(self, who: str, bodies: list[Body]) -> None:
        tasks = [self.new_task(body, who) for body in bodies]
        if sum(not task.done() for task in tasks) > 1:
            # as_completed keeps a set: with more than one pending, order is by address.
            await asyncio.wait(tasks[1:])
        for one in asyncio.as_completed(tasks[:1]):
            self.say(who, "completed", await one)

    async def do_group(self, who: str, bodies: list[Body]) -> None:
        if HAS_GROUPS:
            async with asyncio.TaskGroup() as group:
                for body in bodies:
                    self.tasks.append(group.create_task(self.run_body(body, f"{who}+")))

    async def do_timeout(self, who: str, body: Body) -> None:
        if HAS_GROUPS:
            try:
                async with asyncio.timeout(self.clock.delay()):
                    await self.run_body(body, who + "[]")
            except TimeoutError:
                self.say(who, "timed out")


def describe(thing: object) -> str:
    """Errors by type, arguments and what they hold: their identity differs between runs."""
    if isinstance(thing, BaseException):
        inner = [describe(one) for one in getattr(thing, "exceptions", ())]
        args = thing.args if isinstance(thing, (Boom, asyncio.CancelledError)) else ()
        return f"{type(thing).__name__}{args!r}{inner or ''}"
    return repr(thing)


def play(loop: Loop, seed: int, eager: bool) -> list[str]:
    if eager:
        loop.set_task_factory(asyncio.eager_task_factory)
    player = Player(loop)
    loop.run_until_complete(player.main(Writer(seed).body(DEPTH)))
    return player.trace


def compare(ours: Callable[[], Loop], seed: int, eager: bool) -> int:
    """Runs the seed on both; a difference fails with the first lines around it."""
    traces = []
    for make in (asyncio.SelectorEventLoop, ours):
        with contextlib.closing(make()) as loop:
            traces.append(play(loop, seed, eager))
    expected, got = traces
    for number, (left, right) in enumerate(zip(expected, got, strict=False)):
        if left != right:
            before = "\n".join(expected[max(0, number - 5) : number])
            raise AssertionError(f"seed {seed}, line {number}:\n{before}\n- {left}\n+ {right}")
    assert len(expected) == len(got), f"seed {seed}: one trace is longer"
    return len(expected)
