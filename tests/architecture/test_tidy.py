"""The project's conventions that a machine can check: sizes, openings, names, leftovers.

Run by the lint stage; CONTRIBUTING.md explains the conventions. Nothing is executed.
"""

from __future__ import annotations

import ast
import re

import pytest
import source_tree as tree

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
MIN_OPENING_LINES = 3
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "stuff"}

RUST = tree.files(".rs")
PYTHON = tree.files(".py")
SHIPPED_RUST = [p for p in RUST if tree.name(p).startswith(("src/", "core/src/"))]
SHIPPED_PYTHON = tree.files(".py", below="python")


@pytest.mark.parametrize("path", RUST + PYTHON, ids=tree.name)
def test_a_file_is_short(path):
    lines = path.read_text().count("\n")
    assert lines <= MAX_FILE_LINES


@pytest.mark.parametrize("path", RUST + PYTHON, ids=tree.name)
def test_a_function_fits_on_a_screen(path):
    functions = tree.rust_functions(path) if path.suffix == ".rs" else tree.python_functions(path)
    assert [f for f in functions if f[2] > MAX_FUNCTION_LINES] == []


@pytest.mark.parametrize("path", RUST, ids=tree.name)
def test_a_rust_file_opens_with_what_it_is_for(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#![")]
    opening = next((i for i, line in enumerate(lines) if not line.startswith("//!")), len(lines))
    shipped = path in SHIPPED_RUST
    assert opening >= (MIN_OPENING_LINES if shipped else 1)


@pytest.mark.parametrize("path", PYTHON, ids=tree.name)
def test_a_python_file_opens_with_what_it_is_for(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    shipped = path in SHIPPED_PYTHON
    assert len(docstring.splitlines()) >= (MIN_OPENING_LINES if shipped else 1)


@pytest.mark.parametrize("path", SHIPPED_PYTHON, ids=tree.name)
def test_public_python_is_documented(path):
    module = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    public = [
        node for owner in [module, *classes] for node in owner.body if isinstance(node, kinds)
    ]
    undocumented = [
        node.name
        for node in public
        if not node.name.startswith("_") and ast.get_docstring(node) is None
    ]
    assert undocumented == []


def test_names_say_what_is_inside():
    everything = tree.files(".rs", ".py", ".pyi", ".toml", ".md", ".txt", "")
    assert [tree.name(path) for path in everything if VAGUE & set(path.with_suffix("").parts)] == []


def test_nothing_shipped_is_left_for_later():
    word = re.compile(r"\b(TODO|FIXME|XXX)\b|\b(todo|unimplemented)!")
    found = [
        f"{tree.name(path)}: {match[0]}"
        for path in SHIPPED_RUST + SHIPPED_PYTHON
        for match in word.finditer(path.read_text())
    ]
    assert found == []


def test_no_unwrap_outside_tests():
    found = [tree.name(p) for p in SHIPPED_RUST if ".unwrap()" in tree.shipped_rust_code(p)]
    assert found == []


def test_no_path_of_somebodys_machine():
    home = re.compile(r"/(?:root|home|Users)/\w")
    texts = tree.files(".rs", ".py", ".pyi", ".toml", ".txt", "")
    texts += [*tree.ROOT.glob("*.md"), *tree.ROOT.glob("*.toml"), tree.ROOT / "Makefile"]
    this = tree.ROOT / "tests" / "architecture" / "test_tidy.py"
    assert [tree.name(p) for p in texts if p != this and home.search(p.read_text())] == []
