"""Draws results as SVG: a dot for each loop in each row, how many times as good as the reference.

Called by `report.py`. The axis is logarithmic, so that twice and half as good are equally far from
the reference line; it reaches from the worst dot to the best. A thin line through mioloop's dot is
the spread of the rounds. Nothing is drawn that is not in the results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from benchmarks.results import Measured, Results, speed
from benchmarks.rows import LIMIT, OURS, REFERENCE

WIDTH = 880
LEFT, RIGHT = 236, 96  # the columns of titles and of mioloop's figures
TOP, BOTTOM = 76, 80
ROW, GROUP = 19, 30
NOTES = (
    "Operations per second; for memory and start, less is better. Median of the rounds, on a",
    "logarithmic axis; lines reach from mioloop's worst round to its best.",
)
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Theme:
    """Colours."""

    name: str
    background: str
    text: str
    faint: str
    grid: str
    loops: dict[str, str]


LIGHT = Theme(
    "light",
    "#ffffff",
    "#1f2328",
    "#59636e",
    "#d8dee4",
    {
        OURS: "#d1410c",
        "asyncio": "#6e7781",
        "rloop": "#8250df",
        "uvloop+aiofastnet": "#0969da",
        LIMIT: "#1f2328",
    },
)
DARK = Theme(
    "dark",
    "#0d1117",
    "#f0f6fc",
    "#9198a1",
    "#2f353d",
    {
        OURS: "#ff7b45",
        "asyncio": "#8b949e",
        "rloop": "#bc8cff",
        "uvloop+aiofastnet": "#58a6ff",
        LIMIT: "#f0f6fc",
    },
)
THEMES = (LIGHT, DARK)


class Axis:
    """From ratios to horizontal places."""

    def __init__(self, ratios: list[float]) -> None:
        self.low = math.floor(math.log2(min([*ratios, 0.5])))
        self.high = math.ceil(math.log2(max([*ratios, 2.0])))

    def place(self, ratio: float) -> float:
        """The x of a ratio."""
        share = (math.log2(ratio) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        """The powers of two."""
        return [2.0**power for power in range(self.low, self.high + 1)]


def draw(results: Results, theme: Theme) -> str:
    """The SVG's text."""
    shown = [row for row in results.rows if speed(row, OURS, REFERENCE) is not None]
    loops = [loop for loop in results.loops() if loop in theme.loops]
    # Ours last, so that it lies above the others.
    loops.sort(key=lambda loop: loop == OURS)
    axis = Axis(
        [
            ratio.median
            for row in shown
            for loop in loops
            if (ratio := speed(row, loop, REFERENCE)) is not None
        ]
    )
    groups = list(dict.fromkeys(row.group for row in shown))
    height = TOP + len(groups) * GROUP + len(shown) * ROW + BOTTOM
    body = [*heading(results, loops, theme), *grid(axis, height, theme)]
    for number, note in enumerate(NOTES):
        body.append(text(16, height - 30 + 16 * number, note, theme.faint, "11px"))
    y = TOP
    for group in groups:
        y += GROUP
        body.append(text(16, y - 8, group, theme.text, "600 13px"))
        for row in (row for row in shown if row.group == group):
            y += ROW
            body += row_of(row, y - ROW / 2, loops, axis, theme)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="{FONT}">',
            f"<title>mioloop and others, as multiples of {REFERENCE}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{theme.background}"/>',
            *body,
            "</svg>\n",
        ]
    )


def heading(results: Results, loops: list[str], theme: Theme) -> list[str]:
    """The title and the legend."""
    python = results.versions.get("CPython", "")
    parts = [
        text(16, 24, f"How many times as good as {REFERENCE}", theme.text, "600 16px"),
        text(
            WIDTH - 16,
            24,
            f"CPython {python}, {results.about.get('date', '')}",
            theme.faint,
            "12px",
            "end",
        ),
    ]
    x = 22.0
    for loop in reversed(loops):
        parts.append(mark(loop, x, 46, theme))
        name = "a server in C" if loop == LIMIT else loop
        parts.append(text(x + 9, 50, name, theme.text, "12px"))
        x += 34 + 7.2 * len(name)
    parts.append(text(x - 2, 50, f"line at 1: {REFERENCE}", theme.faint, "12px"))
    return parts


def grid(axis: Axis, height: float, theme: Theme) -> list[str]:
    """The axis, with its figures above and below."""
    parts = []
    for tick in axis.ticks():
        x = axis.place(tick)
        colour, width = (theme.text, 1.4) if tick == 1 else (theme.grid, 1)
        parts.append(line(x, TOP + 6, x, height - BOTTOM + 8, colour, width))
        for y in (TOP, height - BOTTOM + 22):
            label = f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"
            parts.append(text(x, y, label, theme.faint, "11px", "middle"))
    parts.append(text(axis.place(axis.ticks()[-1]) + 14, TOP, "better →", theme.faint, "11px"))
    parts.append(text(WIDTH - 16, height - BOTTOM + 22, OURS, theme.loops[OURS], "600 11px", "end"))
    return parts


def row_of(row: Measured, y: float, loops: list[str], axis: Axis, theme: Theme) -> list[str]:
    """One row: its title, the dots, and our figure."""
    parts = [text(LEFT - 14, y + 4, row.title, theme.text, "12px", "end")]
    for loop in loops:
        ratio = speed(row, loop, REFERENCE)
        if ratio is None:
            continue
        if loop == OURS:
            low, high = axis.ticks()[0], axis.ticks()[-1]
            worst, best = max(ratio.worst, low), min(ratio.best, high)
            parts.append(
                line(axis.place(worst), y, axis.place(best), y, theme.loops[OURS], 2, 0.55)
            )
        parts.append(mark(loop, axis.place(ratio.median), y, theme))
    ours = speed(row, OURS, REFERENCE)
    if ours is not None:
        parts.append(
            text(WIDTH - 16, y + 4, f"{ours.median:.2f}", theme.loops[OURS], "600 12px", "end")
        )
    return parts


def mark(loop: str, x: float, y: float, theme: Theme) -> str:
    """A loop's dot; an upright dash for the limit."""
    colour = theme.loops[loop]
    if loop == LIMIT:
        return line(x, y - 6, x, y + 6, colour, 2.5)
    radius = 5 if loop == OURS else 3.6
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" '
        f'stroke="{theme.background}" stroke-width="1"/>'
    )


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float, opacity: float = 1
) -> str:
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}" opacity="{opacity:g}"/>'
    )


def text(x: float, y: float, content: str, colour: str, font: str, anchor: str = "start") -> str:
    """A line of text; font: 'SIZEpx' or 'WEIGHT SIZEpx'."""
    weight, _, size = font.rpartition(" ")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight or 400}" text-anchor="{anchor}">{escape(content)}</text>'
    )
