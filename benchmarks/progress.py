"""What is seen while it runs: on a terminal the cell, the round and the time left; and every row's
medians, with the share of the work that is done.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

from benchmarks.results import Measured, speed
from benchmarks.rows import OURS, REFERENCE


class Progress:
    """Counts cells."""

    def __init__(self, rows: int, cells: int, out: TextIO = sys.stderr) -> None:
        self.rows, self.cells = rows, cells
        self.rows_done = self.cells_done = 0
        self.out = out
        self.began = time.monotonic()

    def left(self) -> str:
        """The time that the rest will take, by what was done so far."""
        if not self.cells_done:
            return "?:??"
        elapsed = time.monotonic() - self.began
        minutes, seconds = divmod(
            round(elapsed / self.cells_done * (self.cells - self.cells_done)), 60
        )
        return f"{minutes}:{seconds:02}"

    def cell(self, title: str, number: int, loop: str) -> None:
        """A cell begins."""
        if self.out.isatty():
            self.out.write(
                f"\r\x1b[K[{self.rows_done + 1}/{self.rows}] {title}: round {number}, {loop}"
                f" ({self.left()} left)"
            )
            self.out.flush()
        self.cells_done += 1

    def row(self, row: Measured) -> None:
        """A row is done."""
        self.rows_done += 1
        parts = [f"{loop} {series.shown}" for loop, series in row.series.items()]
        ratio = speed(row, OURS, REFERENCE)
        if self.out.isatty():
            self.out.write("\r\x1b[K")
        self.out.write(
            f"[{self.rows_done}/{self.rows}] {row.full_title}: {', '.join(parts)} {row.unit}"
            + (f"; {OURS} {ratio.median:.2f} x {REFERENCE}" if ratio else "")
            + f" ({self.left()} left)\n"
        )
        self.out.flush()
