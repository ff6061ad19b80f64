"""`python -m mioloop script.py`: run a program that knows nothing of mioloop on mioloop.

The program finds what `python script.py` gives it: `sys.argv`, `sys.path[0]`, `__main__`,
tracebacks and exit codes. Two things differ: asyncio's policy is mioloop's, set without a
warning, and `asyncio.coroutine` exists on every Python. Nobody imports this file, and it
has no interactive mode.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import linecache
import os
import pkgutil
import runpy
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any, Final, NoReturn

from . import __version__, _compat

USAGE: Final = """\
usage: python -m mioloop [-X option] [-W filter] [script.py | -m module | -c code | -] [args]

Run a Python program with mioloop as asyncio's event loop.

  script.py    run a file, or a directory or zip file with a __main__.py
  -m module    run a module
  -c code      run the code given
  -            run what standard input gives
  -X, -W       pass an option of python on, such as -X dev
  -h, -V       print this text, or the version, and exit
"""

_OPTIONS_OF_PYTHON: Final = ("-X", "-W")


def main() -> None:
    """Read the arguments, prepare the process, run the program."""
    args = sys.argv[1:]
    if not args:
        _fail(USAGE.rstrip())
    first = args[0]
    if first in ("-h", "--help"):
        print(USAGE, end="")
    elif first in ("-V", "--version"):
        print(f"mioloop {__version__}")
    elif first.startswith(_OPTIONS_OF_PYTHON):
        _restart_with_options(args)
    elif first.startswith(("-c", "-m")):
        given = [first[2:]] if len(first) > len("-c") else args[1:2]
        if not given:
            _fail(f"Argument expected for the {first} option\n{USAGE.rstrip()}")
        rest = args[1:] if len(first) > len("-c") else args[2:]
        _run_program(_run_command if first.startswith("-c") else _run_module, given[0], rest)
    elif first.startswith("-") and first != "-":
        _fail(f"unknown option {first}\n{USAGE.rstrip()}")
    else:
        _run_program(_run_stdin if first == "-" else _run_path, first, args[1:])


def _fail(message: str) -> NoReturn:
    """End like python does for a command line that it cannot use."""
    print(message, file=sys.stderr)
    sys.exit(2)


def _restart_with_options(args: list[str]) -> NoReturn:
    """Start python anew: its options cannot be changed in a process that runs."""
    options: list[str] = []
    while args and args[0].startswith(_OPTIONS_OF_PYTHON):
        count = 1 if len(args[0]) > len("-X") else 2
        if len(args) < count:
            _fail(f"Argument expected for the {args[0]} option\n{USAGE.rstrip()}")
        options += args[:count]
        args = args[count:]
    # The original line is: python, its options, "-m mioloop", our arguments.
    head = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    os.execv(sys.executable, [sys.executable, *options, *head, *args])


def _run_program(run: Callable[[str, list[str]], None], target: str, args: list[str]) -> None:
    """Set up what every program finds, and run it."""
    if _compat.HAS_POLICIES:
        from ._policy import install_silently

        install_silently()
    else:
        _fail("this Python has no event loop policies: use asyncio.run(..., loop_factory=)")
    from ._coroutine import provide_asyncio_coroutine

    provide_asyncio_coroutine()
    try:
        run(target, args)
    except SystemExit:
        raise
    except BaseException:
        _hide_our_frames()
        raise


def _run_path(path: str, args: list[str]) -> None:
    """`python path args`: a script, or a directory or zip file with a `__main__`."""
    sys.argv = [path, *args]
    if pkgutil.get_importer(path) is not None:
        _set_first_path(os.path.abspath(path), always=True)
        _new_main()
        _execute_module("__main__", alter_argv=False)
        return
    full_path = os.path.join(os.getcwd(), path)
    try:
        with io.open_code(full_path) as file:
            source = file.read()
    except OSError as error:
        _fail(
            f"{sys.orig_argv[0]}: can't open file {full_path!r}: [Errno {error.errno}] "
            f"{error.strerror}"
        )
    _set_first_path(os.path.dirname(os.path.realpath(full_path)))
    code = pkgutil.read_code(io.BytesIO(source))  # None unless it is a .pyc file.
    loader: Any = importlib.machinery.SourceFileLoader
    if code is not None:
        loader = importlib.machinery.SourcelessFileLoader
    namespace = _new_main(full_path, loader("__main__", full_path))
    _execute(source if code is None else code, full_path, namespace)


def _run_module(name: str, args: list[str]) -> None:
    """`python -m name args`. The first path is the working directory already."""
    sys.argv = ["-m", *args]
    _new_main()
    _execute_module(name, alter_argv=True)


def _run_command(code: str, args: list[str]) -> None:
    """`python -c code args`."""
    sys.argv = ["-c", *args]
    _set_first_path("")
    if _compat.COMMAND_IS_DEDENTED:
        code = textwrap.dedent(code)
    source = code + "\n"
    # Where tracebacks show the lines of a command (3.13 and later), this is how.
    linecache.cache["<string>"] = (len(source), None, source.splitlines(True), "<string>")
    _execute(source, "<string>", _new_main())


def _run_stdin(name: str, args: list[str]) -> None:
    """`python - args`."""
    sys.argv = [name, *args]
    _set_first_path("")
    namespace = _new_main("<stdin>")
    _execute(sys.stdin.buffer.read(), "<stdin>", namespace)


def _set_first_path(entry: str, *, always: bool = False) -> None:
    """Put `entry` where `python -m` has put the working directory."""
    if not _compat.is_safe_path():
        sys.path[0] = entry
    elif always:
        sys.path.insert(0, entry)


def _new_main(file: str | None = None, loader: Any = importlib.machinery.BuiltinImporter) -> Any:
    """Make an empty `__main__` module, as the interpreter does; return its namespace."""
    module = types.ModuleType("__main__")
    module.__loader__ = loader
    namespace = module.__dict__
    namespace["__builtins__"] = builtins
    if _compat.MAIN_HAS_ANNOTATIONS:
        namespace["__annotations__"] = {}
    if file is not None:
        namespace["__file__"] = file
        if _compat.MAIN_HAS_CACHED:
            namespace["__cached__"] = None
    sys.modules["__main__"] = module
    return namespace


def _execute(source: Any, filename: str, namespace: Any) -> None:
    """Compile and run; tracebacks begin below this function."""
    if not isinstance(source, types.CodeType):
        source = compile(source, filename, "exec", dont_inherit=True)
    exec(source, namespace)


def _execute_module(name: str, *, alter_argv: bool) -> None:
    """Run a module in `__main__` as python's own -m does; tracebacks begin below this function."""
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _hide_our_frames() -> None:
    """Have the traceback shown without the frames of this file, when the interpreter shows it.

    The exception itself goes on to the interpreter, which decides the exit status, and dies
    of SIGINT for a KeyboardInterrupt.
    """
    show = sys.excepthook

    def show_from_program(
        kind: type[BaseException],
        error: BaseException,
        trace: types.TracebackType | None,
    ) -> None:
        entry = trace
        while entry is not None:
            following = entry.tb_next
            if entry.tb_frame.f_code in (_execute.__code__, _execute_module.__code__):
                error.__traceback__ = trace = following
                break
            entry = following
        show(kind, error, trace)

    sys.excepthook = show_from_program


if __name__ == "__main__":
    main()
