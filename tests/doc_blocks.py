"""Reads the Markdown pages: their code blocks, links and headings. Used by test_docs.py only.

A block says what it needs after its language, where readers do not see it: `since=3.12` (older
Pythons only compile it) and `needs=aiohttp,uvicorn` (modules). A ```python block is followed by a
```text block with what it prints; one that begins with `# name.py` is a file for the ```console
blocks of its page. Those have commands after `$`, each with what it prints below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "text", "console"}

FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
NAME = re.compile(r"# (\w+\.py)\n")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


@dataclass
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    text: str
    since: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    expected: str | None = None  # of a python block: the text block that follows
    files: dict[str, str] = field(default_factory=dict)  # the page's files up to here

    @property
    def id(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is."""
        found = NAME.match(self.text)
        return found[1] if found else None

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Of a console block: each command, and what it prints."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        assert parts[0] == "", f"{self.id}: a console block begins with a command after '$ '"
        return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts[1:]]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path) -> list[Block]:
    """The page's blocks in order; a text block belongs to the python block before it."""
    found: list[Block] = []
    files: dict[str, str] = {}
    text = page.read_text("utf-8")
    end_of_last = 0
    for match in FENCE.finditer(text):
        language, *attributes = match[1].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        block = Block(page, line, language, match[2])
        assert language in LANGUAGES, f"{block.id}: {language!r} is a language that nothing checks"
        for attribute in attributes:
            name, _, value = attribute.partition("=")
            if name == "since":
                block.since = tuple(map(int, value.split(".")))
            else:
                assert name == "needs", f"{block.id}: unknown {attribute}"
                block.needs = tuple(value.split(","))
        if language == "text":
            before = found[-1] if found else block
            near = text[end_of_last : match.start()].strip() == ""
            assert before.language == "python" and near and before.expected is None, (
                f"{block.id}: a text block is what the python block right before it prints"
            )
            before.expected = block.text
        else:
            if block.file is not None:
                files[block.file] = block.text
            block.files = dict(files)
            found.append(block)
        end_of_last = match.end()
    return found


def anchors(page: Path) -> set[str]:
    """The names that the forge gives the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of the page's links and pictures."""
    return [first or second for first, second in LINK.findall(prose(page))]
