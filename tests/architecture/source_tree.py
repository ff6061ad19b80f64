"""Reads the source tree for the tests beside this file: files, Rust code, import graphs.

Used by `test_layers` and `test_tidy`. Understands just enough Rust to find paths, functions
and words outside comments and strings; runs nothing and asserts nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("src", "core", "python", "tests", "scripts", "examples", "benchmarks")
VERBATIM = ROOT / "examples" / "documents"  # other people's text, kept as it is

RUST_NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"|r(#*)".*?"\1|' + r"b?'(?:\\.[^']*|[^'\\])'", re.DOTALL
)
RUST_PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")
RUST_USE = re.compile(r"\buse\s+([^;]+);")
RUST_FUNCTION = re.compile(r"\bfn\s+(\w+)")


def files(*suffixes: str, below: str | None = None) -> list[Path]:
    """The source files with one of the suffixes, without what others wrote or tools made."""
    found = []
    for folder in (below,) if below else SOURCE_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            made = {"target", "__pycache__"} & set(path.relative_to(ROOT).parts)
            if path.suffix in suffixes and path.is_file() and not made:
                found.append(path)
    return [path for path in found if VERBATIM not in path.parents]


def name(path: Path) -> str:
    """The path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def rust_code(path: Path) -> str:
    """The file without comments and the contents of literals; lines keep their numbers."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n") or " "

    return RUST_NOISE.sub(blank, path.read_text())


def shipped_rust_code(path: Path) -> str:
    """`rust_code` up to the file's unit tests, which stand last."""
    return rust_code(path).partition("#[cfg(test)]")[0]


def use_paths(tree: str) -> Iterator[str]:
    """The paths of a `use` tree: 'a::{b, c::d}' gives a::b and a::c::d."""
    tree = tree.strip()
    prefix, brace, inner = tree.partition("{")
    if not brace:
        yield tree.split(" as ")[0].strip()
        return
    depth, start = 0, 0
    inner = inner[: inner.rindex("}")]
    for index, character in enumerate(inner + ","):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            if inner[start:index].strip():
                for path in use_paths(inner[start:index]):
                    yield prefix.strip() + path
            start = index + 1


def rust_modules() -> dict[str, Path]:
    """Module path within the extension crate ('task::step') -> file."""
    source = ROOT / "src"
    modules = {}
    for path in files(".rs", below="src"):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] == "mod":
            parts.pop()
        modules["::".join(parts) if parts != ["lib"] else ""] = path
    return modules


def rust_uses(module: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of the crate that the file of `module` names."""
    code = rust_code(path)
    named = set(RUST_PATH.findall(RUST_USE.sub("", code)))
    for tree in RUST_USE.findall(code):
        named.update(use_paths(" ".join(tree.split())))
    used = set()
    for text in named:
        target = resolve(module, text.split("::"), modules)
        if target is not None and target != module:
            used.add(target)
    return used


def resolve(module: str, parts: list[str], modules: dict[str, Path]) -> str | None:
    """The module that a path written in `module` lies in; None outside the crate."""
    here = module.split("::") if module else []
    if parts[0] == "crate":
        full = parts[1:]
    elif parts[0] in ("self", "super"):
        full = here
        for part in parts:
            if part == "super":
                full = full[:-1]
        full = full + [part for part in parts if part not in ("self", "super")]
    else:
        full = here + parts  # `use ready::Ready` in the module that declares `ready`
        if "::".join(full[: len(here) + 1]) not in modules:
            return None
    while full and "::".join(full) not in modules:
        full = full[:-1]
    return "::".join(full)


def rust_functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, line, length in lines) of each function with a body, by matching braces."""
    code = rust_code(path)
    for match in RUST_FUNCTION.finditer(code):
        start = match.end()
        body = next((i for i in range(start, len(code)) if code[i] in "{;"), None)
        if body is None or code[body] == ";":
            continue
        depth = 0
        for end in range(body, len(code)):
            depth += (code[end] == "{") - (code[end] == "}")
            if depth == 0:
                line = code.count("\n", 0, match.start()) + 1
                yield match[1], line, code.count("\n", match.start(), end) + 1
                break


def python_functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, line, length in lines) of each function, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                length -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, node.lineno, length


def python_imports(path: Path) -> set[str]:
    """The package's own modules that `path` imports when it is loaded (not for types only)."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found.update([node.module] if node.module else [alias.name for alias in node.names])
    return found


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """A path that comes back to where it began, or None."""
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> list[str] | None:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return None
        for target in sorted(graph.get(node, ())):
            found = walk(target, [*trail, node])
            if found:
                return found
        done.add(node)
        return None

    for start in sorted(graph):
        found = walk(start, [])
        if found:
            return found
    return None
