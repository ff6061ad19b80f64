"""The command line: `make bench ARGS='...'`, or `python -m benchmarks ...` from .venv.

A run of all rows replaces results/ and the README's block; any other run writes below target/.
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

from benchmarks import report
from benchmarks.environment import TARGET, Missing, about, build_counter, prepare
from benchmarks.instructions import count, countable
from benchmarks.progress import Progress
from benchmarks.results import Results
from benchmarks.rows import LIMIT, LOOPS, ROWS, Row, loops_for
from benchmarks.runner import Runner

ROUNDS, SECONDS = 5, 0.2
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.1
QUICK_ROWS = ("create_task", "gather", "call_soon", "tcp_protocol_1k", "tcp_streams_1k", "tls_*_1k")
QUICK_LOOPS = ("asyncio", "uvloop", "mioloop")

EXAMPLES = """
examples:
  make bench                                   everything, about 12 minutes on two processors
  make bench QUICK=1                           a taste, in a minute
  make bench ARGS='--rows tcp_* tls_*'         some rows
  make bench ARGS='--loops uvloop mioloop --python 3.13 --rounds 9'
  make bench ARGS=--instructions               instructions instead of time; needs valgrind
"""


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Compare mioloop with other event loops.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rows and loops, short rounds")
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", help="of the names of --list")
    parser.add_argument("--loops", nargs="+", choices=[*LOOPS, LIMIT], help="(all)")
    parser.add_argument("--rounds", type=int, help=f"({ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of one cell ({SECONDS})")
    parser.add_argument("--python", default="", help="3.13, ... (the newest that all loops have)")
    parser.add_argument("--instructions", action="store_true", help="count instructions instead")
    parser.add_argument("--list", action="store_true", help="name the rows and loops, run nothing")
    parser.add_argument("--report", action="store_true", help="draw from results/ once more")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Row]:
    """The rows to measure."""
    patterns = options.rows or (QUICK_ROWS if options.quick else ("*",))
    rows = [row for row in ROWS if any(fnmatch(row.name, pattern) for pattern in patterns)]
    if options.instructions:
        rows = countable(rows)
    if not rows:
        raise Missing(f"no row is called {' or '.join(patterns)}; see --list")
    return rows


def measure(options: argparse.Namespace) -> Path:
    """Run; the path of the results."""
    rows = chosen(options)
    loops = options.loops or [*(QUICK_LOOPS if options.quick else LOOPS), LIMIT]
    environment = prepare(options.python)
    command = " ".join(
        ["make bench", *(["ARGS='" + " ".join(sys.argv[1:]) + "'"] * (len(sys.argv) > 1))]
    )
    results = Results(
        about(command),
        environment.versions(),
        options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        options.seconds or (QUICK_SECONDS if options.quick else SECONDS),
    )
    name = "instructions" if options.instructions else "speed"
    if options.instructions:
        build_counter(environment.counter)
        results.rounds = 1
        count(environment, results, rows, [loop for loop in loops if loop != LIMIT])
    else:
        cells = sum(
            len(loops_for(row, loops)) * min(results.rounds, row.most_rounds) for row in rows
        )
        runner = Runner(environment, results.seconds)
        try:
            runner.run(results, rows, loops, Progress(len(rows), cells))
        finally:
            runner.close()
    full = not (options.quick or options.rows or options.loops)
    path = (report.RESULTS if full else TARGET) / f"{name}.json"
    results.save(path)
    return path


def main() -> int:
    """The exit status."""
    options = arguments()
    if options.list:
        for row in ROWS:
            print(f"{row.name:24} {row.group}: {row.title}")
        print("loops:", *LOOPS, LIMIT)
        return 0
    try:
        path = None if options.report else measure(options)
    except Missing as missing:
        print(f"benchmarks: {missing}", file=sys.stderr)
        return 1
    if path is not None:
        results = Results.load(path)
        table = report.instruction_table if options.instructions else report.speed_table
        print("\n" + table(results))
        print(f"written: {path}")
    if path is None or path.parent == report.RESULTS:
        report.publish()
        print("written: the charts beside it and the block in README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
