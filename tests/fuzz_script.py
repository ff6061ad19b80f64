"""Random asyncio programs as data: `write(seed)` draws a script, a tree of steps.

The same seed gives the same script everywhere. fuzz_player.py runs scripts, test_fuzz_trace.py
compares what they leave. A script waits for zero-delay turns and for timers that are due in the
next turn, so that asyncio's rules alone decide the order of its steps, never the clock.
"""

import random
from typing import Any

Step = tuple[Any, ...]
Body = list[Step]
DEPTH = 4
# Due in the very next turn, whatever the machine does; two of them fire in order of creation.
NEXT_TURN = 1e-9


def write(seed: int) -> Body:
    """The script of a seed: the same on every interpreter and loop."""
    return Writer(seed).body(DEPTH)


class Writer:
    """Draws a script from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.budget = 120

    def body(self, depth: int) -> Body:
        longest = 9 if depth == DEPTH else 6
        return [self.step(depth) for _ in range(self.random.randint(1, longest))]

    def bodies(self, depth: int, least: int = 0) -> list[Body]:
        return [self.body(depth) for _ in range(self.random.randint(least, 4))]

    def step(self, depth: int) -> Step:
        self.budget -= 1
        inner = depth > 0 and self.budget > 0 and self.random.random() < 0.5
        return self.branch(depth - 1) if inner else self.leaf()

    def leaf(self) -> Step:
        pick, chance = self.random.randrange, self.random.random
        return self.random.choice(
            [
                ("turns", 1),
                ("turns", pick(5)),
                ("nap",),
                ("soon", pick(3)),
                ("resolve", pick(6), chance() < 0.2),
                ("await", pick(6)),
                ("cancel task", pick(8), chance() < 0.5),
                ("cancel future", pick(6)),
                ("cancel me", chance() < 0.5),
                ("join", pick(8)),
                ("callback", pick(8)),
                ("lock", pick(3)),
                ("put",),
                ("get",),
                ("set event",),
                ("wait event", pick(3)),
                ("fail",),
                ("timer", pick(6), chance() < 0.5),
                ("look",),
            ]
        )

    def branch(self, depth: int) -> Step:
        kind = self.random.choice(
            "spawn spawn call try gather wait shield wait_for completed group timeout".split()
        )
        if kind == "try":
            return kind, self.body(depth), self.random.choice("rsc"), self.body(depth)
        if kind == "gather":
            return kind, self.bodies(depth), self.random.random() < 0.5
        if kind == "wait":
            whens = ("FIRST_COMPLETED", "ALL_COMPLETED", "FIRST_EXCEPTION")
            return kind, self.bodies(depth, least=1), self.random.choice(whens)
        if kind == "wait_for":
            return kind, self.body(depth), self.random.choice((None, 0, NEXT_TURN))
        if kind == "completed":
            return kind, self.bodies(depth)
        if kind == "timeout":
            return kind, self.body(depth), self.random.choice((0, NEXT_TURN, "real"))
        return kind, self.body(depth)
