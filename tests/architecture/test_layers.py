"""Which part of the source may look into which, as the table in ARCHITECTURE.md says.

Run by the lint stage. The order of the layers is read from ARCHITECTURE.md itself, so that
the document and the code cannot drift apart. Nothing is executed.
"""

from __future__ import annotations

import re

import pytest
import source_tree as tree

ROW = re.compile(r"^\|\s*(\d+)\s*\|([^|]+)\|", re.MULTILINE)
MODULES = tree.rust_modules()


def layers() -> list[tuple[int, list[str]]]:
    """(number, files and folders below src/) of each row of the table, top-down."""
    text = (tree.ROOT / "ARCHITECTURE.md").read_text()
    return [(int(number), re.findall(r"`([^`]+)`", cell)) for number, cell in ROW.findall(text)]


def layer_of(path: str) -> list[int]:
    """The numbers of the rows that list `path` (relative to src/): one, if all is well."""
    return [
        number
        for number, entries in layers()
        if any(
            path == entry or (entry.endswith("/") and path.startswith(entry)) for entry in entries
        )
    ]


def relative(module: str) -> str:
    return MODULES[module].relative_to(tree.ROOT / "src").as_posix()


def test_the_table_has_numbers_in_order():
    numbers = [number for number, _ in layers()]
    assert numbers
    assert numbers == sorted(numbers)


def test_the_table_lists_only_what_exists():
    listed = [entry for _, entries in layers() for entry in entries]
    assert [entry for entry in listed if not (tree.ROOT / "src" / entry).exists()] == []


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_every_module_is_in_the_table_once(module):
    assert len(layer_of(relative(module))) == 1, "list it in ARCHITECTURE.md"


def test_the_page_names_the_files_of_the_other_parts():
    text = (tree.ROOT / "ARCHITECTURE.md").read_text()
    parts = [*(tree.ROOT / "core/src").glob("*.rs"), *tree.files(".py", below="python")]
    roots = ("lib.rs", "__init__.py")
    unnamed = [tree.name(path) for path in parts if f"`{path.name}`" not in text]
    assert [name for name in unnamed if not name.endswith(roots)] == []


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_module_uses_only_what_is_above_it(module):
    [own] = layer_of(relative(module))
    for used in tree.rust_uses(module, MODULES[module], MODULES):
        if used == "":
            continue  # an item of lib.rs itself, which the next test forbids
        [number] = layer_of(relative(used))
        assert number <= own, f"{relative(module)} (layer {own}) uses {relative(used)} ({number})"


def test_nothing_uses_the_crate_root():
    users = [m for m in MODULES if m and "" in tree.rust_uses(m, MODULES[m], MODULES)]
    assert [m for m in users if "::" not in m or m.split("::")[0] not in MODULES] == []


def test_unsafe_is_only_in_py():
    found = [
        tree.name(path)
        for path in tree.files(".rs")
        if re.search(r"\bunsafe\b", tree.rust_code(path))
        and not tree.name(path).startswith("src/py/")
    ]
    assert found == []


def test_files_with_unsafe_say_so_in_their_first_line():
    for path in tree.files(".rs", below="src/py"):
        if re.search(r"\bunsafe\b", tree.rust_code(path)):
            assert path.read_text().startswith("#![allow(unsafe_code)]"), tree.name(path)


def test_unsafe_is_denied_and_core_forbids_it():
    assert 'unsafe_code = "deny"' in (tree.ROOT / "Cargo.toml").read_text()
    assert "#![forbid(unsafe_code)]" in (tree.ROOT / "core/src/lib.rs").read_text()


def test_only_the_poller_names_mio():
    found = [
        tree.name(path)
        for path in tree.files(".rs")
        if re.search(r"\bmio\b", tree.rust_code(path))
        and not tree.name(path).startswith(("core/src/poller.rs", "core/src/poller/"))
    ]
    assert found == []


def test_core_knows_no_python():
    found = [
        tree.name(path)
        for path in tree.files(".rs", below="core")
        if re.search(r"\bpyo3", tree.rust_code(path))
    ]
    assert found == []


def test_rust_version_differences_are_only_in_py():
    found = [
        tree.name(path)
        for path in tree.files(".rs")
        if re.search(r"\bPy_3_\d+|\bPy_GIL_DISABLED\b", tree.rust_code(path))
        and not tree.name(path).startswith("src/py/")
    ]
    assert found == []


def test_python_version_differences_are_only_in_compat():
    version = re.compile(r"version_info|hexversion|python_version")
    found = [
        tree.name(path)
        for path in tree.files(".py", below="python")
        if path.name not in ("_compat.py", "_check.py") and version.search(path.read_text())
    ]
    assert found == []


def test_python_modules_do_not_import_in_circles():
    package = tree.files(".py", below="python")
    assert tree.cycle({path.stem: tree.python_imports(path) for path in package}) is None
