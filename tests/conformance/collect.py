"""Decides which tests of a group are run, and says why the others are not.

`groups()` lists the test modules of this interpreter; `collect()`, called by a worker, turns
one of them into the tests to run. Never runs a test.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import inspect
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from conformance.adapt import adapt
from conformance.exclusions import (
    CLASSES,
    EXTRA_GROUPS,
    LOOP_CLASSES,
    ONLY_TESTS,
    PRIVATE,
    PUBLIC_ONLY,
    PUBLIC_ONLY_REASON,
    TESTS,
)
from conformance.inject import Tracker


class Collected(NamedTuple):
    """The tests of a group by id, and what was left out with the reason."""

    tests: list[tuple[str, unittest.TestCase]]
    left_out: list[tuple[str, str]]


def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> names of its module: the test_asyncio package and the extra groups."""
    spec = importlib.util.find_spec("test.test_asyncio")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("this interpreter has no test.test_asyncio package")
    folder = Path(next(iter(spec.submodule_search_locations)))
    found: dict[str, tuple[str, ...]] = {
        path.stem: (f"test.test_asyncio.{path.stem}",) for path in sorted(folder.glob("test_*.py"))
    }
    found.update({name: extra.modules for name, extra in EXTRA_GROUPS.items()})
    return found


def collect(group: str, module: ModuleType, tracker: Tracker, utils: Any) -> Collected:
    """Fit `module` to the candidate and list its tests."""
    added = adapt(group, module, tracker, utils)
    variant = None
    if group in LOOP_CLASSES:
        variant = getattr(module, LOOP_CLASSES[group].marker, None)
    result = Collected([], [])
    for name, cls in test_classes(group, module, added).items():
        names = unittest.TestLoader().getTestCaseNames(cls)
        if not names:
            continue
        reason = None if name in added else why_not_class(group, name, cls, variant)
        if reason:
            result.left_out.append((f"{group}.{name}", reason))
            continue
        for test in names:
            method = getattr(cls, test, None)
            if method is None:
                continue
            test_id = f"{group}.{name}.{test}"
            reason = why_not_test(group, name, test, method)
            if reason:
                result.left_out.append((test_id, reason))
            else:
                result.tests.append((test_id, cls(test)))
    return result


def test_classes(group: str, module: ModuleType, added: dict[str, type]) -> dict[str, type]:
    """The TestCase classes that `module` defines, then those added for the candidate."""
    only = EXTRA_GROUPS[group].classes if group in EXTRA_GROUPS else None
    classes: dict[str, type] = {}
    for name, obj in list(vars(module).items()):
        is_case = isinstance(obj, type) and issubclass(obj, unittest.TestCase)
        if is_case and obj.__module__ == module.__name__ and (only is None or name in only):
            classes.setdefault(name, obj)
    for name, obj in added.items():
        classes.pop(name, None)  # a variant of the same name
        classes[name] = obj
    return classes


def why_not_class(group: str, name: str, cls: type, variant: type | None) -> str | None:
    """The reason not to run a class, or None."""
    for rule in CLASSES:
        if fnmatch.fnmatchcase(group, rule.module) and fnmatch.fnmatchcase(name, rule.classes):
            return rule.reason
    if variant is not None and issubclass(cls, variant):
        return LOOP_CLASSES[group].reason
    return None


def why_not_test(group: str, class_name: str, test: str, method: Any) -> str | None:
    """The reason not to run a test of a class that is run, or None."""
    for rule in TESTS:
        if (rule.module, rule.test) == (group, test) and fnmatch.fnmatchcase(
            class_name, rule.classes
        ):
            return rule.reason
    if (group, class_name) in PUBLIC_ONLY and uses_private_names(method):
        return PUBLIC_ONLY_REASON
    only, reason = ONLY_TESTS.get((group, class_name), (None, ""))
    if only is not None and test not in only:
        return reason
    return None


def uses_private_names(method: Any) -> bool:
    """True if the test's source uses mock or a private attribute, or cannot be read."""
    try:
        source = inspect.getsource(method)
    except (OSError, TypeError):
        return True
    return PRIVATE.search(source) is not None
