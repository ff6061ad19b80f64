"""The text tables beside this file: what is known about single tests, and the baselines.

`implementation_details.txt` and `awaiting_transports.txt` have lines of a pattern, a tab and
a reason. A pattern is matched (fnmatch) against a test's id, `group.Class.test`, or names a
whole group; `pattern@3.12` counts on that version only. `baseline/asyncio-3.13.txt` has what
asyncio's own loop does not pass; what it does not list passes. Read and written by `cli`.
"""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Table:
    """Patterns of test ids with a reason each, for the running version."""

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        self.rows = rows

    @classmethod
    def read(cls, path: Path) -> Table:
        """The table of a file; a line without a tab is a comment."""
        rows = []
        for line in path.read_text().splitlines():
            if line.startswith("#") or "\t" not in line:
                continue
            pattern, reason = line.split("\t", 1)
            pattern, _, version = pattern.strip().partition("@")
            if version in ("", VERSION):
                rows.append((pattern, reason.strip()))
        return cls(rows)

    def row(self, test_id: str) -> tuple[str, str] | None:
        """The pattern that lists the test (or the group) and the reason, or None."""
        for pattern, reason in self.rows:
            if fnmatch.fnmatchcase(test_id, pattern):
                return pattern, reason
        return None


@dataclass
class Baseline:
    """How asyncio's own loop did through the same injection."""

    python: str
    planned: dict[str, int] = field(default_factory=dict)  # tests by group
    other: dict[str, str] = field(default_factory=dict)  # status by id, where it is not "pass"

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Parse what `write` wrote."""
        found = cls(python="")
        for line in path.read_text().splitlines():
            kind, *rest = line.split("\t")
            if kind == "python":
                found.python = rest[0]
            elif kind == "group":
                found.planned[rest[0]] = int(rest[1])
            elif not line.startswith("#") and rest:
                found.other[rest[0]] = kind
        return found

    def write(self, path: Path) -> None:
        """Write the table, sorted, for reading in a diff."""
        lines = ["# asyncio's own loop through the same injection: the number of tests per group,"]
        lines += [
            "# then every test that does not pass, with its status.",
            f"python\t{self.python}",
        ]
        lines += [f"group\t{name}\t{count}" for name, count in sorted(self.planned.items())]
        lines += [f"{status}\t{test}" for test, status in sorted(self.other.items())]
        path.write_text("\n".join(lines) + "\n")

    def status(self, test_id: str) -> str:
        """How the test ended on asyncio."""
        return self.other.get(test_id, "pass")


def baseline_path() -> Path:
    """The baseline of the running version."""
    return FOLDER / "baseline" / f"asyncio-{VERSION}.txt"
