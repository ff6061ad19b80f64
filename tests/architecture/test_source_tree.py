"""The reader of the source tree itself: a check that finds nothing would always pass."""

from __future__ import annotations

import source_tree as tree

RUST = """\
//! unsafe is only a word here
use crate::py::{cell::LoopCell, object::{Owned, self as object}};
use super::step;
/* fn commented() { } */
fn short<'a>(text: &'a str) -> &'a str {
    let brace = '{';
    let text = "unsafe } crate::lie";
    crate::runtime::cycle::run(text)
}

trait Named {
    fn name(&self) -> String;
}
"""


def test_comments_and_literals_are_not_code(tmp_path):
    path = tmp_path / "code.rs"
    path.write_text(RUST)
    code = tree.rust_code(path)
    assert "unsafe" not in code
    assert "lie" not in code
    assert code.count("\n") == RUST.count("\n")


def test_functions_are_measured_and_declarations_are_not(tmp_path):
    path = tmp_path / "code.rs"
    path.write_text(RUST)
    assert list(tree.rust_functions(path)) == [("short", 5, 5)]


def test_uses_are_found_in_trees_and_in_paths(tmp_path):
    path = tmp_path / "code.rs"
    path.write_text(RUST)
    modules = dict.fromkeys(("", "py", "py::cell", "py::object", "runtime", "runtime::cycle"), path)
    modules |= {"task": path, "task::methods": path, "task::step": path}
    used = tree.rust_uses("task::methods", path, modules)
    assert used == {"py::cell", "py::object", "runtime::cycle", "task::step"}


def test_the_extension_uses_its_own_modules():
    modules = tree.rust_modules()
    used = set().union(*(tree.rust_uses(m, p, modules) for m, p in modules.items()))
    assert {"py::object", "runtime", "runtime::ready"} <= used


def test_python_functions_are_measured_without_their_docstring(tmp_path):
    path = tmp_path / "code.py"
    path.write_text('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
    assert list(tree.python_functions(path)) == [("f", 1, 2)]


def test_circles_are_found():
    assert tree.cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert tree.cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
