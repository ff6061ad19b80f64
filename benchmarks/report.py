"""From results to what people read: the README's block and the charts beside the results.

Called by `__main__.py` after a full run; the tests compare what it renders with what is committed.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks.chart import THEMES, draw
from benchmarks.environment import ROOT
from benchmarks.results import Measured, Ratio, Results, Series, speed, thrift
from benchmarks.rows import LIMIT, OURS, REFERENCE

RESULTS = ROOT / "benchmarks" / "results"
SPEED = RESULTS / "speed.json"
INSTRUCTIONS = RESULTS / "instructions.json"
README = ROOT / "README.md"
# With fewer rounds the block says that its figures are rough.
ENOUGH_ROUNDS = 3
BEGIN, END = "<!-- benchmarks: written by make bench -->", "<!-- end of benchmarks -->"


def charts(results: Results) -> dict[Path, str]:
    """The pictures: path and content."""
    return {RESULTS / f"speed-{theme.name}.svg": draw(results, theme) for theme in THEMES}


def publish(readme: Path = README) -> None:
    """Write the charts and the README's block."""
    results = Results.load(SPEED)
    for path, content in charts(results).items():
        path.write_text(content)
    instructions = Results.load(INSTRUCTIONS) if INSTRUCTIONS.exists() else None
    text = readme.read_text()
    readme.write_text(replace_block(text, block(results, instructions)))


def replace_block(text: str, content: str) -> str:
    """The README with another block between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{content}{END}{after}"


def current_block(text: str) -> str:
    """What the README has between its marks."""
    return text.partition(BEGIN + "\n")[2].partition(END)[0]


def block(results: Results, instructions: Results | None) -> str:
    """What stands between the marks."""
    picture = (
        "<picture>\n"
        '  <source media="(prefers-color-scheme: dark)" '
        'srcset="benchmarks/results/speed-dark.svg">\n'
        f'  <img alt="{OURS}, asyncio, rloop and others as multiples of {REFERENCE}, row by row" '
        'src="benchmarks/results/speed-light.svg">\n'
        "</picture>\n"
    )
    parts = [
        claims(results),
        picture,
        measured(results),
        folded(f"Every row in figures ({len(results.rows)})", speed_table(results)),
    ]
    if instructions is not None:
        title = f"Instructions per operation ({len(instructions.rows)} rows)"
        parts.append(folded(title, instruction_table(instructions)))
    return "\n" + "\n".join(parts) + "\n"


def claims(results: Results) -> str:
    """Where we are ahead of the reference and where behind."""
    ahead: list[tuple[Measured, Ratio]] = []
    behind: list[tuple[Measured, Ratio]] = []
    even: list[tuple[Measured, Ratio]] = []
    for row in results.rows:
        ratio = speed(row, OURS, REFERENCE)
        if ratio is None:
            continue
        kind = ahead if ratio.is_ahead else behind if ratio.is_behind else even
        kind.append((row, ratio))
    total = len(ahead) + len(behind) + len(even)
    text = ""
    if results.rounds < ENOUGH_ROUNDS:
        text = f"**Provisional**, from a short run ({results.rounds} of {ENOUGH_ROUNDS} rounds). "
    text += f"Of {total} rows against {REFERENCE}, {OURS} is ahead in every round in {len(ahead)}"
    text += f", behind in every round in {len(behind)}"
    text += named(behind)
    text += f", and the rounds disagree in {len(even)}" + named(even) + "."
    return wrapped(text)


def wrapped(text: str) -> str:
    """A paragraph."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def named(rows: list[tuple[Measured, Ratio]]) -> str:
    """The rows by their titles, in brackets."""
    if not rows:
        return ""
    titles = [f"{row.full_title} {ratio.median:.2f}" for row, ratio in rows]
    return f" ({'; '.join(titles)})"


def measured(results: Results) -> str:
    """When, where and how."""
    about = results.about
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return wrapped(
        f"Measured on {about['date']} on {about['machine']}, {about['kernel']}, with {versions}: "
        f"`{about['command']}`, rounds: {results.rounds}, of {results.seconds:g} s, "
        "all loops in turn. How it measures and what the rows are: "
        "[benchmarks/README.md](benchmarks/README.md)."
    )


def folded(title: str, table: str) -> str:
    """Something to unfold."""
    return f"<details>\n<summary>{title}</summary>\n\n{table}\n</details>\n"


def speed_table(results: Results) -> str:
    """All rows and loops, as multiples of the reference."""
    loops = [loop for loop in results.loops() if loop != REFERENCE]
    loops.sort(key=lambda loop: (loop != OURS, loop == LIMIT))
    lines = [
        f"Multiples of {REFERENCE}, over 1 is better: the median (worst to best round), then the "
        "same for processor time per operation.\n",
        table_line(["", REFERENCE, *(title_of(loop) for loop in loops)]),
        table_line(["---", *["---:"] * (len(loops) + 1)]),
    ]
    group = ""
    for row in results.rows:
        if row.group != group:
            group = row.group
            lines.append(table_line([f"**{group}**", *[""] * (len(loops) + 1)]))
        reference = row.series.get(REFERENCE, Series())
        lines.append(
            table_line(
                [
                    row.title,
                    f"{reference.shown} {row.unit}".replace(" /s", "/s"),
                    *(speed_cell(row, loop) for loop in loops),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def title_of(loop: str) -> str:
    """A loop's column."""
    return "server in C" if loop == LIMIT else loop


def table_line(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def speed_cell(row: Measured, loop: str) -> str:
    """A cell of the table."""
    if loop not in row.series:
        return ""
    ratio = speed(row, loop, REFERENCE)
    if ratio is None:
        return row.series[loop].shown
    text = f"{ratio.median:.2f} ({ratio.worst:.2f}-{ratio.best:.2f})"
    if loop == OURS:
        text = f"**{ratio.median:.2f}** ({ratio.worst:.2f}-{ratio.best:.2f})"
    cpu = thrift(row, loop, REFERENCE)
    return text if cpu is None else f"{text}; {cpu.median:.2f}"


def instruction_table(results: Results) -> str:
    """Instructions per operation of each loop."""
    loops = results.loops()
    lines = [
        f"In user space, counted by callgrind on {results.about['date']} with "
        f"`{results.about['command']}`; fewer is better.\n",
        table_line(["", *loops]),
        table_line(["---", *["---:"] * len(loops)]),
    ]
    for row in results.rows:
        cells = [
            series.shown if series.median is None else f"{series.median:,.0f}"
            for series in (row.series.get(loop, Series()) for loop in loops)
        ]
        lines.append(table_line([row.full_title, *cells]))
    return "\n".join(lines) + "\n"
