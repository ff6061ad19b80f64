"""Runs the scripts of fuzz_script.py: `play(loop, seed)` returns the trace, a line for each step.

Called by test_fuzz_trace.py. Timers with a real delay are armed one at a time, and only while all
the rest waits for something else: so each trace is repeated exactly, however slow the machine.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from fuzz_script import NEXT_TURN, Body, write

Loop = asyncio.AbstractEventLoop
REAL_DELAY = 0.0003
HAS_SCOPES = hasattr(asyncio, "TaskGroup") and hasattr(asyncio, "timeout")
ME: contextvars.ContextVar[int] = contextvars.ContextVar("ME")


class Boom(Exception):
    """The error that scripts raise."""


def play(loop: Loop, seed: int) -> list[str]:
    """Runs the script of `seed`; returns its trace."""
    player = Player(loop)
    loop.run_until_complete(player.drive(write(seed)))
    return player.trace


class Player:
    """Runs one script on one loop and keeps the trace."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.trace: list[str] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.futures = [loop.create_future() for _ in range(6)]
        # Real timers not yet armed, and what the driver waits with while one runs.
        self.timers: list[Callable[[], None]] = []
        self.activity: asyncio.Future[None] | None = None
        loop.set_exception_handler(self.report)

    def say(self, *words: object) -> None:
        self.trace.append(" ".join(str(word) for word in words))
        if self.activity is not None and not self.activity.done():
            self.activity.set_result(None)

    def report(self, _loop: Loop, context: dict[str, Any]) -> None:
        # What the collector finds is reported when the collector runs: no matter of order.
        if "never retrieved" not in context["message"] and "destroyed" not in context["message"]:
            self.say("REPORT", describe(context.get("exception")))

    # The driver

    async def drive(self, script: Body) -> None:
        self.lock, self.event = asyncio.Lock(), asyncio.Event()
        self.queue: asyncio.Queue[str] = asyncio.Queue(1)
        root = self.spawn(script, "root")
        for stuck in range(20):
            await self.settle()
            if self.timers:
                await self.run_timer()
            elif any(not task.done() for task in self.tasks if task):
                self.say("STUCK")
                self.unstick(stuck)
        self.say("END", outcome(root), len(asyncio.all_tasks()))
        for _ in range(60):
            left = [task for task in self.tasks if task is not None and not task.done()]
            for task in left:
                task.cancel()
            await self.settle()
        self.say("LEFT", len(left))

    async def run_timer(self) -> None:
        """Arms the oldest real timer and blocks until it has done something."""
        self.activity = self.loop.create_future()
        self.timers.pop(0)()
        watchdog = self.loop.call_later(30, self.say, "WATCHDOG")
        await self.activity
        watchdog.cancel()

    def unstick(self, number: int) -> None:
        """All wait for something that no one will do: does one of these things."""
        if number % 4 == 0 and not self.queue.empty():
            self.queue.get_nowait()
        elif number % 4 == 1 and not self.queue.full():
            self.queue.put_nowait("driver")
        elif number % 4 == 2:
            self.event.set()
        else:
            for future in self.futures:
                if not future.done():
                    future.set_result("driver")
                    break

    async def settle(self) -> None:
        """Runs until no step has been taken for more turns than anything takes to show up."""
        quiet = 0
        while quiet < 12:
            before = len(self.trace)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.trace) == before else 0

    def spawn(self, body: Body, who: str, create: Any = None) -> "asyncio.Task[Any]":
        # The slot is taken before an eager task runs, so a task's number is below its children's.
        index = len(self.tasks)
        self.tasks.append(None)
        name = f"{who}.{index}"
        task = (create or self.loop.create_task)(self.run_task(body, name, index), name=name)
        self.tasks[index] = task
        task.add_done_callback(lambda done: self.say("done", name, outcome(done)))
        return task

    async def run_task(self, body: Body, who: str, index: int) -> str:
        ME.set(index)
        return await self.run(body, who)

    async def run(self, body: Body, who: str) -> str:
        try:
            for kind, *args in body:
                self.say(who, kind)
                await getattr(self, "do_" + kind.replace(" ", "_"))(who, *args)
        except BaseException as error:
            self.say(who, "raises", describe(error))
            raise
        self.say(who, "ends")
        return who

    def pick(self, number: int, *, younger: bool = False) -> "asyncio.Task[Any] | None":
        """One of the tasks. Only younger ones are waited for: a cycle cannot be cancelled."""
        least = ME.get() + 1 if younger else 0
        count = len(self.tasks) - least
        return self.tasks[least + number % count] if count > 0 else None

    # Leaves

    async def do_turns(self, who: str, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def do_nap(self, who: str) -> None:
        await asyncio.sleep(NEXT_TURN)

    async def do_soon(self, who: str, depth: int) -> None:
        def called(depth: int) -> None:
            self.say("called", who, depth)
            if depth:
                self.loop.call_soon(called, depth - 1)

        self.loop.call_soon(called, depth)

    async def do_resolve(self, who: str, number: int, fail: bool) -> None:
        if self.futures[number].done():
            self.futures[number] = self.loop.create_future()
        elif fail:
            self.futures[number].set_exception(Boom(who))
        else:
            self.futures[number].set_result(who)

    async def do_await(self, who: str, number: int) -> None:
        self.say(who, "got", await self.futures[number])

    async def do_cancel_task(self, who: str, number: int, message: bool) -> None:
        if number and (task := self.pick(number)):
            args = (f"by {who}",) if message else ()
            self.say(who, "cancels", task.get_name(), task.cancel(*args))

    async def do_cancel_future(self, who: str, number: int) -> None:
        self.say(who, "cancels future", self.futures[number].cancel())

    async def do_cancel_me(self, who: str, wait: bool) -> None:
        task = asyncio.current_task()
        if task is not None and ME.get() > 0:
            task.cancel()
        if wait:
            await asyncio.sleep(0)

    async def do_join(self, who: str, number: int) -> None:
        if task := self.pick(number, younger=True):
            self.say(who, "joined", await task)

    async def do_callback(self, who: str, number: int) -> None:
        if task := self.pick(number):
            task.add_done_callback(lambda done: self.say("callback", who, outcome(done)))

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

    async def do_timer(self, who: str, number: int, real: bool) -> None:
        def fire() -> None:
            self.say("timer", who)
            if not self.futures[number].done():
                self.futures[number].set_result(f"timer of {who}")

        if real:
            self.timers.append(lambda: self.loop.call_later(REAL_DELAY, fire) and None)
        else:
            self.loop.call_later(NEXT_TURN, fire)

    async def do_look(self, who: str) -> None:
        task: Any = asyncio.current_task()
        if task is None:
            # So it is for Python tasks since 3.14, of which C's current_task() knows nothing.
            return
        # Within an eager step some versions have not yet set the name.
        name = task.get_name() if task.get_name().startswith("root") else "unnamed"
        cancelling = task.cancelling() if hasattr(task, "cancelling") else 0
        self.say(who, "is", name, cancelling, len(asyncio.all_tasks()))

    # Branches

    async def do_spawn(self, who: str, body: Body) -> None:
        self.spawn(body, who)

    async def do_call(self, who: str, body: Body) -> None:
        await self.run(body, who + "()")

    async def do_try(self, who: str, body: Body, kind: str, cleanup: Body) -> None:
        """Raises on ("r"), swallows errors ("s"), or cancellation too ("c")."""
        try:
            await self.run(body, who + "{}")
        except Boom:
            if kind == "r":
                raise
        except asyncio.CancelledError:
            if kind != "c":
                raise
        finally:
            await self.run(cleanup, who + "!")

    async def do_gather(self, who: str, bodies: list[Body], keep: bool) -> None:
        tasks = [self.spawn(body, who) for body in bodies]
        results = await asyncio.gather(*tasks, return_exceptions=keep)
        self.say(who, "gathered", [describe(result) for result in results])

    async def do_wait(self, who: str, bodies: list[Body], when: str) -> None:
        tasks = [self.spawn(body, who) for body in bodies]
        done, pending = await asyncio.wait(tasks, return_when=when)
        self.say(who, "waited", sorted(task.get_name() for task in done), len(pending))

    async def do_shield(self, who: str, body: Body) -> None:
        self.say(who, "shielded", await asyncio.shield(self.spawn(body, who)))

    async def do_wait_for(self, who: str, body: Body, seconds: float | None) -> None:
        try:
            self.say(who, "in time", await asyncio.wait_for(self.spawn(body, who), seconds))
        except asyncio.TimeoutError:
            self.say(who, "too late")

    async def do_completed(self, who: str, bodies: list[Body]) -> None:
        tasks = [self.spawn(body, who) for body in bodies]
        # as_completed keeps a set: several that are done already come in order of address.
        finished = [task for task in tasks if task.done()]
        for one in asyncio.as_completed([task for task in tasks if task not in finished[1:]]):
            self.say(who, "completed", await one)

    async def do_group(self, who: str, body: Body) -> None:
        # One child: a group keeps a set, and would cancel several in order of address.
        if HAS_SCOPES:
            async with asyncio.TaskGroup() as group:
                self.spawn(body, who + "+", group.create_task)
                await asyncio.sleep(0)

    async def do_timeout(self, who: str, body: Body, seconds: Any) -> None:
        if not HAS_SCOPES:
            return
        try:
            async with asyncio.timeout(None if seconds == "real" else seconds) as scope:
                if seconds == "real":
                    self.timers.append(expire := lambda: self.expire(who, scope))
                await self.run(body, who + "[]")
        except TimeoutError:
            self.say(who, "timed out")
        finally:
            if seconds == "real" and expire in self.timers:
                self.timers.remove(expire)

    def expire(self, who: str, scope: Any) -> None:
        scope.reschedule(self.loop.time() + REAL_DELAY)


def outcome(future: "asyncio.Future[Any]") -> str:
    if not future.done():
        return "pending"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    return describe(error) if error else repr(future.result())


def describe(thing: object) -> str:
    """Errors by type, arguments and what they hold: their identity differs between runs."""
    if not isinstance(thing, BaseException):
        return repr(thing)
    inner = [describe(one) for one in getattr(thing, "exceptions", ())]
    args = thing.args if isinstance(thing, (Boom, asyncio.CancelledError)) else ()
    return f"{type(thing).__name__}{args!r}{inner or ''}"
