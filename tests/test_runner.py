"""`python -m mioloop`: a program under it finds what it finds under `python`.

Every test runs the same program both ways, in processes of their own, and compares what came
out: arguments, paths, `__main__`, tracebacks to the letter, exit codes and signals.
"""

import os
import py_compile
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import mioloop
import pytest

ROOT = Path(__file__).parent.parent

SHOW_MAIN = """\
import sys
main = sys.modules["__main__"]
print(__name__, main.__dict__ is globals(), sys.argv, repr(sys.path[0]))
print(sorted(globals()))
print(globals().get("__file__"), __spec__ and __spec__.name, __package__, type(__loader__))
"""

FAILURES = {
    "exception": "def f():\n    1 / 0\nf()\n",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['x']\n",
    "from_callback": "import asyncio\nasync def f():\n    raise KeyError(3)\nasyncio.run(f())\n",
    "syntax": "x = = 1\n",
    "exit_code": "import sys\nsys.exit(7)\n",
    "exit_message": "raise SystemExit('no')\n",
    "exit_none": "raise SystemExit\n",
    "interrupt": "raise KeyboardInterrupt\n",
    "hook": "import sys\nsys.excepthook = lambda *error: print(error[0], error[1])\n1 / 0\n",
    "at_exit": "import atexit\natexit.register(print, 'end')\n1 / 0\n",
    "last": "import atexit, sys, traceback\n"
    "atexit.register(lambda: traceback.print_tb(sys.last_value.__traceback__))\n1 / 0\n",
}

on_asyncio_or_mioloop = re.compile(r'  File ".*/(asyncio|mioloop)/.*(\n    .*)*\n')


def python(
    *args: object, cwd: "Path | None" = None, given: str = "", mio: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m mioloop args`, or `python args` where `mio` is false."""
    paths = [str(Path(mioloop.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "",
    }
    return subprocess.run(
        [sys.executable, *(["-m", "mioloop"] if mio else []), *map(str, args)],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


def same(*args: object, cwd: Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    """Run both ways; what came out must be equal. Returns it."""
    ours = python(*args, cwd=cwd, given=given)
    theirs = python(*args, cwd=cwd, given=given, mio=False)
    assert ours.stdout == theirs.stdout
    assert without_loop_frames(ours.stderr) == without_loop_frames(theirs.stderr)
    assert ours.returncode == theirs.returncode
    return ours


def without_loop_frames(text: str) -> str:
    """A traceback through the loop shows the loop's own files, which differ."""
    return on_asyncio_or_mioloop.sub("", text)


@pytest.mark.slow
def test_script_finds_its_arguments_and_main(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "show.py").write_text(SHOW_MAIN)
    (tmp_path / "link.py").symlink_to(tmp_path / "folder" / "show.py")
    done = same("folder/show.py", "-x", "two words", "-m", cwd=tmp_path)
    assert "['folder/show.py', '-x', 'two words', '-m']" in done.stdout
    same("link.py", cwd=tmp_path)
    same(tmp_path / "folder" / "show.py", "a", cwd=tmp_path)


@pytest.mark.slow
def test_compiled_script(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW_MAIN)
    py_compile.compile(str(tmp_path / "show.py"), str(tmp_path / "show.pyc"))
    assert "SourcelessFileLoader" in same("show.pyc", "a", cwd=tmp_path).stdout


@pytest.mark.slow
def test_script_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "neighbour.py").write_text("name = 'neighbour'\n")
    (tmp_path / "folder" / "script.py").write_text("import neighbour\nprint(neighbour.name)\n")
    assert same("folder/script.py", cwd=tmp_path).stdout == "neighbour\n"


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    done = same("-c", SHOW_MAIN, "-c", "x", cwd=tmp_path)
    assert "['-c', '-c', 'x'] ''" in done.stdout
    same("-cprint(1)", "x", cwd=tmp_path)
    same("-c", "  print(1)", cwd=tmp_path)


@pytest.mark.slow
def test_standard_input(tmp_path: Path) -> None:
    done = same("-", "x", cwd=tmp_path, given=SHOW_MAIN)
    assert "['-', 'x'] ''" in done.stdout


@pytest.mark.slow
def test_module_and_package(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW_MAIN)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(SHOW_MAIN)
    done = same("-m", "show", "-x", cwd=tmp_path)
    assert str(tmp_path / "show.py") in done.stdout
    same("-mshow", cwd=tmp_path)
    same("-m", "package", "y", cwd=tmp_path)
    same("package", "z", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_failures_of_a_script(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FAILURES[name])
    same("script.py", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exception", "syntax", "interrupt", "exit_code"])
def test_failures_of_other_programs(name: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(FAILURES[name])
    same("-m", "module", cwd=tmp_path)
    same("-c", FAILURES[name], cwd=tmp_path)
    same("-", cwd=tmp_path, given=FAILURES[name])


@pytest.mark.slow
def test_programs_that_are_not_there(tmp_path: Path) -> None:
    assert same("missing.py", cwd=tmp_path).returncode == 2
    assert same("-m", "missing", cwd=tmp_path).returncode == 1


@pytest.mark.slow
def test_wrong_command_lines_end_with_the_usage(tmp_path: Path) -> None:
    for args in ([], ["-c"], ["-m"], ["-X"], ["--nonsense"]):
        done = python(*args, cwd=tmp_path)
        assert done.returncode == 2, args
        assert "usage: python -m mioloop" in done.stderr


@pytest.mark.slow
def test_help_and_version(tmp_path: Path) -> None:
    shown = python("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: python -m mioloop")
    assert python("-V", cwd=tmp_path).stdout == f"mioloop {mioloop.__version__}\n"


@pytest.mark.slow
def test_options_of_python_are_passed_on(tmp_path: Path) -> None:
    program = "import sys; print(sys.flags.dev_mode, sys.warnoptions, sys._xoptions, sys.argv)"
    done = python("-X", "dev", "-Werror", "-c", program, "-X", cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout == "True ['default', 'error'] {'dev': True} ['-c', '-X']\n"


@pytest.mark.slow
def test_every_loop_of_the_program_is_ours(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""\
            import asyncio
            async def main():
                return type(asyncio.get_running_loop()).__module__
            print(asyncio.run(main()), type(asyncio.new_event_loop()).__module__)
        """)
    )
    done = python("script.py", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("mioloop._loop mioloop._loop\n", "")


@pytest.mark.slow
def test_the_namespace_lives_on_after_the_script_has_ended(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""\
            import atexit, pickle, threading, __main__
            class Point:
                pass
            assert type(pickle.loads(pickle.dumps(Point()))) is Point
            ended = threading.Event()
            def work():
                threading.main_thread().join()
                print("thread:", Point.__name__, __main__.Point is Point)
            threading.Thread(target=work).start()
            atexit.register(lambda: print("exit:", Point.__name__))
        """)
    )
    assert "thread: Point True\n" in same("script.py", cwd=tmp_path).stdout


@pytest.mark.slow
def test_spawned_processes_import_the_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""\
            import multiprocessing
            def double(number):
                return 2 * number
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(double, [1, 2]))
        """)
    )
    assert same("script.py", cwd=tmp_path).stdout == "[2, 4]\n"


GENERATORS = """\
import asyncio, inspect, warnings
warnings.simplefilter("ignore")
@asyncio.coroutine
def inner(value):
    yield from asyncio.sleep(0)
    return value
@asyncio.coroutine
def plain(value):
    return inner(value)
@asyncio.coroutine
def future():
    done = asyncio.get_event_loop().create_future()
    done.set_result("future")
    return done
@asyncio.coroutine
def fails():
    try:
        yield from asyncio.sleep(10)
    finally:
        print("finally")
async def main():
    print(await inner(1), await plain(2), await future())
    print(await asyncio.gather(inner(3), asyncio.create_task(plain(4))))
    print(await asyncio.wait_for(inner(5), 5))
    task = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    assert "fails()" in repr(task), task
    assert task.get_stack()
    task.cancel()
    print(await asyncio.gather(task, return_exceptions=True))
loop = asyncio.get_event_loop()
loop.run_until_complete(main())
print(loop.run_until_complete(plain(6)), loop.run_until_complete(loop.create_task(inner(7))))
loop.close()
print(asyncio.run(inner(8)), asyncio.iscoroutinefunction(inner), asyncio.iscoroutine(inner(9)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-X", "dev"]])
def test_generator_based_coroutines_run_everywhere(options: "list[str]", tmp_path: Path) -> None:
    done = python(*options, "-c", GENERATORS, cwd=tmp_path)
    assert done.stdout == (
        "1 2 future\n[3, 4]\n5\nfinally\n[CancelledError('')]\n6 7\n8 True True\n"
    ), done.stderr


def test_version_is_that_of_the_extension() -> None:
    manifest = ROOT / "Cargo.toml"
    if not manifest.exists():
        pytest.skip("the sources are not here")
    found = re.search(r'^version = "(.+)"$', manifest.read_text(), re.MULTILINE)
    assert found is not None
    assert mioloop.__version__ == found[1]
