"""`import mioloop` where it cannot work: one sentence that says what to do, and nothing worse.

Each import is tried in a child process, twice, since programs fall back on asyncio's loop and
some try again.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mioloop
import pytest
from child_script import run_script
from mioloop import _check

PACKAGE = Path(mioloop.__file__).parent
ROOT = Path(__file__).parent.parent
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
RUNNING = "CPython " + ".".join(map(str, sys.version_info[:3]))

TWICE = """
    for _ in range(2):
        try:
            import mioloop
        except ImportError as error:
            say(error)
            say(repr(error.__cause__))
        say(*[name for name in sys.modules if name == "mioloop"])
    """


def import_twice(before: str = "", folder: Path | None = None) -> tuple[str, str]:
    """The sentence and the repr of its cause. `before` runs first; `folder` has the package."""
    first = f"sys.path.insert(0, {str(folder)!r})" if folder else ""
    done = run_script("asyncio", f"{before}\n{first}\n" + TWICE.replace("\n    ", "\n"))
    assert (done.code, done.err) == (0, "")
    sentence, cause, loaded, *again = done.out
    assert loaded == "" and again == [sentence, cause, ""]
    assert sentence.count("mioloop") >= 1 and "\n" not in sentence
    return sentence, cause


def old_pythons() -> list[Path]:
    """pyenv's interpreters that are too old."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = []
    for folder in (root / "versions").glob("3.*"):
        numbers = re.fullmatch(r"3\.([6-9])\.\d+", folder.name)
        if numbers and (folder / "bin" / "python3").exists():
            found.append(folder / "bin" / "python3")
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("way", [["-c", "import mioloop"], ["-m", "mioloop", "script.py"]])
def test_a_python_that_is_too_old(way: list[str]) -> None:
    if not old_pythons():
        pytest.skip("pyenv has no Python older than 3.10 here")
    for python in old_pythons():
        done = subprocess.run(
            [python, "-B", *way],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(PACKAGE.parent)},
        )
        version = python.parent.parent.name
        sentence = f"mioloop needs CPython 3.10 or newer, and this is CPython {version}"
        assert done.returncode == 1
        assert sentence in done.stderr.splitlines()[-1]


def test_an_interpreter_that_says_it_is_too_old() -> None:
    old = 'sys.version_info = (3, 9, 18, "final", 0)'
    expected = "mioloop needs CPython 3.10 or newer, and this is CPython 3.9.18"
    assert import_twice(old) == (expected, "None")


def test_another_implementation() -> None:
    sentence, _ = import_twice('sys.implementation.name = "pypy"')
    version = RUNNING.removeprefix("CPython ")
    assert sentence == f"mioloop needs CPython 3.10 or newer, and this is pypy {version}"


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_another_system(platform: str) -> None:
    sentence, cause = import_twice(f"sys.platform = {platform!r}")
    assert sentence == (
        f"mioloop runs on Linux only, and this is {platform}: use asyncio's own loop here"
    )
    assert cause == "None"


def test_pip_refuses_the_same_versions() -> None:
    oldest = ".".join(map(str, _check.OLDEST))
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()


# Subinterpreters

INTERPRETERS = """
    try:
        import _interpreters as interpreters  # since 3.13
        kinds = [dict(config="legacy"), dict(config="isolated")]
    except ImportError:
        import _xxsubinterpreters as interpreters
        kinds = [dict(isolated=False), dict(isolated=True)]

    TRY = '''if True:
        for _ in range(2):
            try:
                import mioloop
            except ImportError as error:
                print(error, flush=True)
        '''

    def try_in_each_kind():
        for kind in kinds:
            interpreter = interpreters.create(**kind)
            interpreters.run_string(interpreter, TRY)
            interpreters.destroy(interpreter)

    async def main():
        child = await asyncio.create_subprocess_exec("echo", "a child", stdout=-1)
        say((await child.communicate())[0].decode().strip())

    def run_in_main():
        import mioloop
        alive = interpreters.create()
        mioloop.run(main())
        interpreters.destroy(alive)
    """
REFUSAL = (
    "mioloop does not run in subinterpreters: import it in the main interpreter, "
    "and run further loops in threads or processes"
)


@pytest.mark.parametrize(
    "order", ["try_in_each_kind(); run_in_main()", "run_in_main(); try_in_each_kind()"]
)
def test_a_subinterpreter(order: str) -> None:
    """It is refused there, and harms the main interpreter's loops neither before nor after."""
    done = run_script("asyncio", f"{INTERPRETERS}\n    {order}\n    run_in_main()\n")
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out) == ["a child"] * 2 + [REFUSAL] * 4


# Installations that are broken


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package without its extension."""
    folder = tmp_path / "mioloop"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder


def check(package: Path, beginning: str, cause: str) -> None:
    sentence, found = import_twice(folder=package.parent)
    again = f"install mioloop again with this Python ({sys.executable} -m pip install "
    assert re.match(beginning, sentence), sentence
    assert again in sentence
    assert re.match(cause, found), found


def extension() -> Path:
    """The file that this Python has loaded; a debug build may have taken a release build's."""
    from mioloop import _native

    return Path(_native.__file__)


def test_the_extension_is_missing(package: Path) -> None:
    missing = rf"mioloop's extension module is missing in {re.escape(str(package))}: "
    check(package, missing, r"ModuleNotFoundError\(.*mioloop\._native")


def test_the_extension_was_built_for_another_python(package: Path) -> None:
    name = "_native.cpython-39-x86_64-linux-gnu.so"
    shutil.copy(extension(), package / name)
    other = rf"mioloop was built for another Python \({re.escape(name)}\), and this is {RUNNING}: "
    check(package, other, r"ModuleNotFoundError\(.*mioloop\._native")


def test_the_extension_is_no_library(package: Path) -> None:
    (package / f"_native{SUFFIX}").write_text(
        "This is not an extension module, but long enough.\n" * 99
    )
    broken = r"mioloop's extension module does not load \(.*invalid ELF header\): "
    check(package, broken, r"ImportError\(.*invalid ELF header")


def test_the_extension_is_another_one(package: Path) -> None:
    import _json

    if not getattr(_json, "__file__", None):
        pytest.skip("this Python has _json built in, which was to be the other one")
    shutil.copy(_json.__file__, package / f"_native{SUFFIX}")
    broken = r"mioloop's extension module does not load \(.*PyInit__native.*\): "
    check(package, broken, r"ImportError\(.*PyInit__native")


def test_the_extension_fails_while_it_loads() -> None:
    """Somebody has taken away what it builds on."""
    sentence, cause = import_twice("del asyncio.Future")
    assert sentence.startswith("mioloop's extension module does not load (")
    assert cause.startswith("AttributeError(")
