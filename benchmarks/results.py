"""The results of a run: what a file of results/ holds, and the ratios that are read from it.

A file says by itself what its rows are, so that it can be shown as long as it is kept. Written by
`runner.py` and `instructions.py`, read by `report.py` and `chart.py`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.rows import lower_is_better

Values = list[float | None]


@dataclass
class Series:
    """What one loop did in one row, round by round; None where it failed."""

    values: Values = field(default_factory=list)
    cpu_us: Values = field(default_factory=list)  # of the measured process, per operation
    error: str = ""  # the last one

    def add(self, value: float | None, cpu_us: float | None = None, error: str = "") -> None:
        """Append a round."""
        self.values.append(rounded(value))
        self.cpu_us.append(rounded(cpu_us))
        self.error = error or self.error

    @property
    def median(self) -> float | None:
        """Of the rounds that succeeded."""
        there = [value for value in self.values if value is not None]
        return statistics.median(there) if there else None

    @property
    def shown(self) -> str:
        """The median, or the kind of the failure without its detail."""
        median = self.median
        return (self.error.partition(":")[0] or "-") if median is None else amount(median)


@dataclass
class Measured:
    """A row: what it is, and each loop's series."""

    name: str
    group: str
    title: str
    unit: str
    series: dict[str, Series] = field(default_factory=dict)

    @property
    def full_title(self) -> str:
        """A title that says enough outside its group."""
        return f"{self.group}, {self.title}" if self.group.endswith("echo") else self.title


@dataclass
class Results:
    """A run."""

    about: dict[str, str]  # date, machine, ..., command: as they are shown
    versions: dict[str, str]
    rounds: int
    seconds: float
    rows: list[Measured] = field(default_factory=list)

    def loops(self) -> list[str]:
        """All loops of all rows, in their order."""
        return list(dict.fromkeys(name for row in self.rows for name in row.series))

    def save(self, path: Path) -> None:
        """Write the file, one series a line."""
        rows = []
        for row in self.rows:
            fields = {key: value for key, value in asdict(row).items() if key != "series"}
            what = json.dumps(fields, ensure_ascii=False)
            series = [
                f"   {json.dumps(loop)}: {json.dumps(asdict(one), ensure_ascii=False)}"
                for loop, one in row.series.items()
            ]
            rows.append(f'  {{"row": {what}, "series": {{\n' + ",\n".join(series) + "\n  }}")
        head = {key: value for key, value in asdict(self).items() if key != "rows"}
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{text},\n "rows": [\n' + ",\n".join(rows) + "\n ]\n}\n")

    @staticmethod
    def load(path: Path) -> Results:
        """Read a file."""
        content: dict[str, Any] = json.loads(path.read_text())
        rows = [
            Measured(
                **row["row"],
                series={loop: Series(**one) for loop, one in row["series"].items()},
            )
            for row in content.pop("rows")
        ]
        return Results(**content, rows=rows)


class Ratio(NamedTuple):
    """How many times as good as the reference: the median, the worst and the best round."""

    median: float
    worst: float
    best: float

    @property
    def is_ahead(self) -> bool:
        """In every round."""
        return self.worst > 1

    @property
    def is_behind(self) -> bool:
        """In every round."""
        return self.best < 1


def speed(row: Measured, loop: str, reference: str) -> Ratio | None:
    """How much more a loop did than the reference, or how much less it took, round by round."""
    if loop not in row.series or reference not in row.series:
        return None
    own, other = row.series[loop].values, row.series[reference].values
    return ratio(other, own) if lower_is_better(row.unit) else ratio(own, other)


def thrift(row: Measured, loop: str, reference: str) -> Ratio | None:
    """How much less processor time an operation took than on the reference, round by round."""
    if loop not in row.series or reference not in row.series:
        return None
    return ratio(row.series[reference].cpu_us, row.series[loop].cpu_us)


def ratio(above: Sequence[float | None], below: Sequence[float | None]) -> Ratio | None:
    """Of the rounds in which both are there: neighbours in time, so that noise meets both."""
    quotients = [a / b for a, b in zip(above, below, strict=False) if a and b]
    if not quotients:
        return None
    return Ratio(statistics.median(quotients), min(quotients), max(quotients))


def rounded(value: float | None) -> float | None:
    """To five significant digits."""
    return None if value is None else float(f"{value:.5g}")


def amount(value: float) -> str:
    """A figure with three digits."""
    for limit, suffix in ((1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"
