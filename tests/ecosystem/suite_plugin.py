"""A pytest plugin: every loop of the run is mioloop's. For test suites of other packages.

Loaded by `suites.py` with `-p suite_plugin`, in xdist's workers too; SUITE_LOOP says which loop.
Without it the suites would have to be patched: they ask asyncio for loops in many ways. Counts the
runs of each class of loop into a file of SUITE_COUNTS, so that `suites.py` sees that ours ran.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import warnings
from asyncio.base_events import BaseEventLoop
from pathlib import Path
from typing import Any

runs: collections.Counter[str] = collections.Counter()


def counted(cls: Any) -> None:
    """Count the runs of a class of loop."""
    original = cls.run_forever

    def run_forever(self: Any) -> None:
        runs["mioloop" if isinstance(self, OURS) else "asyncio"] += 1
        original(self)

    cls.run_forever = run_forever


def install() -> None:
    """Give our loop to whoever asks asyncio for one."""
    import mioloop

    counted(mioloop.Loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mioloop.install()
        asyncio.DefaultEventLoopPolicy = mioloop.EventLoopPolicy  # type: ignore[assignment, misc]
    asyncio.SelectorEventLoop = mioloop.Loop  # type: ignore[assignment, misc]
    if hasattr(asyncio, "EventLoop"):  # since 3.13
        asyncio.EventLoop = mioloop.Loop


OURS: tuple[type, ...] = ()
counted(BaseEventLoop)
if os.environ["SUITE_LOOP"] == "mioloop":
    import mioloop

    OURS = (mioloop.Loop,)
    install()


def pytest_sessionfinish() -> None:
    """Leave the counts of this process."""
    Path(os.environ["SUITE_COUNTS"], f"{os.getpid()}.json").write_text(json.dumps(runs))
