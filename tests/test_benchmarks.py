"""The benchmarks' own code: a tiny run, the pictures, and that the README says what was measured.

What the figures are is nobody's concern here; `make bench` is run by hand.
"""

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import chart, report  # noqa: E402
from benchmarks.environment import Environment  # noqa: E402
from benchmarks.operations import OPERATIONS  # noqa: E402
from benchmarks.progress import Progress  # noqa: E402
from benchmarks.results import Measured, Results, Series, ratio, speed, thrift  # noqa: E402
from benchmarks.rows import LIMIT, LOOPS, ROWS  # noqa: E402
from benchmarks.runner import Failure, Runner  # noqa: E402
from benchmarks.servers import SERVERS  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
CREATE_TASK = next(row for row in ROWS if row.name == "create_task")


@pytest.fixture
def runner():
    runner = Runner(Environment(Path(sys.executable)), seconds=0.02)
    yield runner
    runner.close()


def made_up(rounds: int = 3, **values: list[float | None]) -> Results:
    """Results with one row of rates."""
    series = {
        loop: Series(rates, [1e6 / r if r else None for r in rates])
        for loop, rates in values.items()
    }
    return Results(
        {"date": "2026-01-02", "machine": "M", "kernel": "K", "command": "make bench"},
        {"CPython": "3.14.0"},
        rounds=rounds,
        seconds=0.5,
        rows=[Measured("row", "Group", "Title <&>", "/s", series)],
    )


def unwrapped(text: str) -> str:
    """A paragraph in one line."""
    return " ".join(text.split())


@pytest.mark.slow
def test_a_tiny_run_gives_results_that_can_be_kept(runner, tmp_path):
    out = StringIO()
    results = made_up()
    results.rows.clear()
    results.rounds = 2
    runner.run(results, [CREATE_TASK], ["asyncio", "mioloop"], Progress(1, 4, out))
    [row] = results.rows
    assert list(row.series) == ["asyncio", "mioloop"]
    for series in row.series.values():
        assert series.error == ""
        assert len(series.values) == 2
        # No machine does more than these in a second, or fewer.
        assert all(1_000 < value < 100_000_000 for value in series.values)
        assert all(0.01 < cpu < 1_000 for cpu in series.cpu_us)
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    number = r"[\d.]+ [kM]"
    line = rf"\[1/1\] create_task and await: asyncio {number}, mioloop {number} /s \(0:00 left\)\n"
    assert re.fullmatch(line, out.getvalue())


@pytest.mark.slow
def test_a_loop_that_is_not_there_is_a_cell_that_says_so(runner, monkeypatch):
    monkeypatch.setitem(LOOPS, "asyncio", "no_such_module:new_event_loop")
    with pytest.raises(Failure, match="ModuleNotFoundError"):
        runner.cell(CREATE_TASK, "asyncio")


@pytest.mark.slow
def test_a_process_that_crashes_is_a_cell_that_says_so(runner, monkeypatch):
    monkeypatch.setattr(runner, "worker", lambda *_: ["sh", "-c", "kill -SEGV $$"])
    with pytest.raises(Failure, match="crash: SIGSEGV"):
        runner.cell(CREATE_TASK, "asyncio")


MAPPED = """
import ctypes, sys
from benchmarks.worker import settle_memory
class MallInfo(ctypes.Structure):
    _fields_ = [("counts", ctypes.c_int * 10)]
try:
    mallinfo = ctypes.CDLL(None).mallinfo
except AttributeError:  # no glibc
    sys.exit(77)
mallinfo.restype = MallInfo
settle_memory()
before = mallinfo().counts[3]  # mapped blocks
block = bytes(256 * 1024)
sys.exit(mallinfo().counts[3] - before)
"""


def test_a_server_has_settled_memory():
    process = subprocess.run([sys.executable, "-c", MAPPED], cwd=ROOT, check=False)
    if process.returncode == 77:
        pytest.skip("no mallinfo")
    assert process.returncode == 0


def test_every_row_has_what_it_measures():
    assert {row.operation for row in ROWS if row.operation} == set(OPERATIONS)
    assert {row.server for row in ROWS if row.server} == set(SERVERS)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_ratios_are_taken_round_by_round():
    results = made_up(uvloop=[100, 10, 50], mioloop=[200, 30, 50])
    [row] = results.rows
    assert speed(row, "mioloop", "uvloop") == (2, 1, 3)
    assert thrift(row, "mioloop", "uvloop") == (2, 1, 3)
    row.unit = "ms"
    assert speed(row, "mioloop", "uvloop") == (0.5, 1 / 3, 1)


def test_a_round_that_failed_has_no_ratio():
    assert ratio([4, None, 9], [2, 2, None]) == (2, 2, 2)
    assert ratio([None], [1]) is None


def test_the_claims_name_what_is_lost_and_what_is_open():
    lost = unwrapped(report.claims(made_up(uvloop=[100, 100], mioloop=[50, 60])))
    assert "behind in every round in 1 (Title <&> 0.55)" in lost
    undecided = unwrapped(report.claims(made_up(uvloop=[100, 100], mioloop=[50, 200])))
    assert "ahead in every round in 0, behind in every round in 0, and" in undecided
    assert "disagree in 1 (Title <&> 1.25)" in undecided


def test_the_claims_of_a_short_run_are_provisional():
    assert "Provisional" in report.claims(made_up(rounds=2, uvloop=[1, 1], mioloop=[2, 2]))
    assert "Provisional" not in report.claims(made_up(rounds=3, uvloop=[1], mioloop=[2]))


@pytest.mark.parametrize("theme", chart.THEMES, ids=lambda theme: theme.name)
def test_a_dot_is_where_its_ratio_is(theme):
    results = made_up(uvloop=[100.0], asyncio=[50.0], mioloop=[400.0], limit=[800.0])
    picture = ElementTree.fromstring(chart.draw(results, theme))
    colours = {theme.loops[loop]: loop for loop in ("asyncio", "mioloop")}
    places = {}
    for circle in picture.iter(SVG + "circle"):
        loop = colours[circle.get("fill")]
        places[loop] = float(circle.get("cx"))  # the last is in the row, the first in the legend
    axis = chart.Axis([0.5, 4, 8])
    assert places == {
        "asyncio": pytest.approx(axis.place(0.5), abs=0.1),
        "mioloop": pytest.approx(axis.place(4), abs=0.1),
    }
    # The axis is logarithmic: from 1/2 to 4 is three times as far as from 1/2 to 1.
    assert axis.place(4) - axis.place(0.5) == pytest.approx(3 * (axis.place(1) - axis.place(0.5)))
    texts = [text.text for text in picture.iter(SVG + "text")]
    assert {"Title <&>", "4.00", "1/2", "8"} <= set(texts)


def test_every_loop_has_a_colour():
    for theme in chart.THEMES:
        assert {*theme.loops, "uvloop"} == {*LOOPS, LIMIT}


def test_the_readme_says_what_was_measured():
    results = Results.load(report.SPEED)
    instructions = Results.load(report.INSTRUCTIONS) if report.INSTRUCTIONS.exists() else None
    block = report.current_block(report.README.read_text())
    assert block == report.block(results, instructions)


def test_the_charts_show_what_was_measured():
    for path, content in report.charts(Results.load(report.SPEED)).items():
        assert path.read_text() == content, path.name


def test_the_command_line_lists_the_rows():
    command = [sys.executable, "-m", "benchmarks", "--list"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"\n{row.name} " in f"\n{listed}" for row in ROWS)
