"""The pages: every code block of README.md and docs/ runs, every link leads somewhere.

What a python block or a command prints is compared with what the page shows (`...` stands for
anything). Commands that need an index or a network are checked for what can be known here: they
are listed in `INDEX_COMMANDS`. Nothing is skipped but what this Python or environment lacks, and
the ecosystem stage has all of it.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from child_script import environment
from doc_blocks import PAGES, ROOT, Block, anchors, blocks, links, prose
from ecosystem.children import Child, free_port, missing

TIMEOUT = 60
BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python" and block.file is None]
TEXTBOOK_FOLDER = ROOT / "examples" / "documents"
TEXTBOOK = [b for b in BLOCKS if b.file is not None and (TEXTBOOK_FOLDER / b.file).exists()]
CONSOLE = [block for block in BLOCKS if block.language == "console"]

# Commands that fetch something: their shell syntax is checked, and that what they name is ours
# or in the dependency groups of pyproject.toml.
INDEX_COMMANDS = re.compile(r"(python3? -m )?pip install |git clone |python3 -m venv |\. venv/bin/")
# Commands that serve until they are stopped; the port 8000 of the page is replaced by a free one.
SERVERS = re.compile(r"uvicorn |gunicorn |python \w*server\.py$")
CURL = re.compile(r"curl -s http://127\.0\.0\.1:8000/")
PORT = "8000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a block runs; `python` in `bin` is the interpreter under test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {
        "python": [sys.executable],
        "uvicorn": [sys.executable, "-m", "uvicorn"],
        "gunicorn": [sys.executable, "-m", "gunicorn"],
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path


def settings(folder: Path) -> dict[str, str]:
    """The environment of a block."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**environment(), "PATH": path, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


def run(folder: Path, *command: str) -> tuple[int, str]:
    """The exit status, and all that the command printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=settings(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout


def compare(block: Block, status: int, printed: str, expected: str) -> None:
    """Fail unless the page shows what was printed, and a traceback if it failed."""
    if "Permission" in printed and "asyncio" in block.text:
        missing("this process may not read another's memory")
    same = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
    assert same, f"{block.id} shows\n{expected}\nand printed\n{printed}"
    assert (status != 0) == ("Traceback (most recent call last)" in expected), printed


def prepare(block: Block, folder: Path, port: str = PORT) -> None:
    """Skip what this Python cannot run; write the page's files."""
    for name, text in block.files.items():
        (folder / name).write_text(text.replace(PORT, port), "utf-8")
    if sys.version_info < block.since:
        pytest.skip(f"needs Python {'.'.join(map(str, block.since))}")
    for name in block.needs:
        if importlib.util.find_spec(name) is None:
            missing(f"{name} is not installed: the ecosystem stage has it")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=lambda b: b.id)
def test_python_is_python(block: Block) -> None:
    """On every version; and it uses mioloop, or a command runs it on mioloop."""
    compile(block.text, block.id, "exec", dont_inherit=True)
    if block.file is not None:
        stem = block.file.removesuffix(".py")
        commands = [c for b in CONSOLE if b.page == block.page for c, _ in b.commands]
        assert any(re.search(rf"\b{stem}\b", command) for command in commands), "nothing runs it"
    else:
        assert "mioloop" in block.text


@pytest.mark.parametrize("block", TEXTBOOK, ids=lambda block: block.id)
def test_textbook_examples_are_verbatim(block: Block) -> None:
    assert block.text == (TEXTBOOK_FOLDER / block.file).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_python_prints_what_the_page_shows(block: Block, folder: Path) -> None:
    prepare(block, folder)
    (folder / "block.py").write_text(block.text, "utf-8")
    status, printed = run(folder, sys.executable, "block.py")
    compare(block, status, printed, block.expected or "")


@pytest.mark.slow
@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.id)
def test_console_prints_what_the_page_shows(block: Block, folder: Path) -> None:
    if block.commands[0][0].startswith("curl "):
        return  # Asks the server of the block before it, whose test does it.
    port = str(free_port())
    prepare(block, folder, port)
    with contextlib.ExitStack() as stack:
        last: Child | None = None
        for command, expected in block.commands:
            command = command.replace(PORT, port)
            if command.startswith("make "):
                check_make(command)
            elif INDEX_COMMANDS.match(command):
                check_index_command(command)
            elif SERVERS.match(command):
                stack.enter_context(started(command, folder, port=int(port)))
                ask(next_block(block), port)
            elif command.endswith(" &"):
                last = started(command.removesuffix(" &"), folder, says=expected)
                stack.enter_context(last)
            else:
                if last is not None:
                    command = command.replace("$!", str(last.process.pid))
                compare(block, *run(folder, "sh", "-c", command), expected)


def check_make(command: str) -> None:
    """The target is one of the Makefile, and so is every variable."""
    makefile = (ROOT / "Makefile").read_text()
    _, target, *variables = shlex.split(command, comments=True)
    assert re.search(rf"^{target}:", makefile, re.MULTILINE), command
    for variable in variables:
        name = variable.partition("=")[0]
        assert f"$({name})" in makefile or name == "PYTHON", command


def check_index_command(command: str) -> None:
    """The shell can read it, and pip is asked for what pyproject.toml names."""
    subprocess.run(["sh", "-n", "-c", command], check=True)
    _, pip, words = command.partition("pip install ")
    known = (ROOT / "pyproject.toml").read_text()
    for word in shlex.split(words) if pip else ():
        assert word in (".", "mioloop") or f'"{word}>=' in known, word


def started(command: str, folder: Path, **ready: Any) -> Child:
    """A command that goes on until the test is over."""
    command = re.sub(r"^gunicorn ", f"gunicorn --control-socket {folder}/control ", command)
    return Child(["sh", "-c", f"exec {command}"], cwd=folder, **ready, **settings(folder))


def next_block(block: Block) -> Block:
    """The one that follows on the page."""
    return BLOCKS[BLOCKS.index(block) + 1]


def ask(block: Block, port: str) -> None:
    """Fetch what the commands of the block fetch, from the server that runs."""
    for command, expected in block.commands:
        assert CURL.fullmatch(command), command
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT) as answer:
            compare(block, 0, answer.read().decode(), expected)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith("https://"):
            continue  # No network here.
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_no_code_escapes() -> None:
    """Code is in fences, which the tests above see."""
    found = [p.name for p in PAGES if re.search(r"\n\n(?: {4}|\t)", prose(p)) or "```" in prose(p)]
    assert found == []


def test_every_page_is_in_the_index() -> None:
    listed = links(ROOT / "docs" / "README.md")
    unlisted = [
        p.name
        for p in PAGES
        if p.parent.name == "docs" and p.name != "README.md" and p.name not in listed
    ]
    assert unlisted == []


def test_every_switch_is_documented() -> None:
    """All environment variables that the package and the extension read."""
    sources = [*(ROOT / "src").rglob("*.rs"), *(ROOT / "python").rglob("*.py")]
    names = {
        name for path in sources for name in re.findall(r"\bMIOLOOP_[A-Z_]+", path.read_text())
    }
    assert names >= {"MIOLOOP_IO_URING", "MIOLOOP_LIBSSL", "MIOLOOP_NATIVE_TASKS"}
    page = (ROOT / "docs" / "tuning.md").read_text()
    assert [name for name in sorted(names) if name not in page] == []


def test_the_picture_is_the_same_in_light_and_dark() -> None:
    light, dark = (ROOT / "docs" / f"turn-{kind}.svg" for kind in ("light", "dark"))
    without_style = [
        re.sub(r"<style>.*?</style>", "", p.read_text(), flags=re.DOTALL) for p in (light, dark)
    ]
    assert without_style[0] == without_style[1]
    assert light.read_text() != dark.read_text()


def test_the_compatibility_table_is_what_the_data_say() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/compatibility.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_compatibility_data_are_of_all_supported_versions() -> None:
    data = json.loads((ROOT / "docs" / "compatibility.json").read_text())
    versions = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    assert list(data) == versions
