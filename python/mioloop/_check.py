"""Whether mioloop can run here: if not, ImportError with one sentence that says what to do.

The first thing that `__init__` imports. It loads the extension, and asyncio not before: on an
interpreter, a system or in an installation that is none of ours, nothing else may be touched.
This file and `__init__` itself must therefore be readable to a Python that is too old. Nothing
here is called afterwards.
"""

import _thread
import os
import sys

OLDEST = (3, 10)  # Tests compare it with pyproject.toml.


def _load() -> None:
    """Load the extension. Raises ImportError, with what went wrong as its cause."""
    name = sys.implementation.name.replace("cpython", "CPython")
    python = f"{name} {'.'.join(map(str, sys.version_info[:3]))}"
    if name != "CPython" or sys.version_info[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(f"mioloop needs CPython {oldest} or newer, and this is {python}")
    if sys.platform != "linux":
        raise ImportError(
            f"mioloop runs on Linux only, and this is {sys.platform}: use asyncio's own loop here"
        )
    if not _in_main_interpreter():
        raise ImportError(
            "mioloop does not run in subinterpreters: import it in the main interpreter, "
            "and run further loops in threads or processes"
        )
    try:
        from ._native import Loop  # noqa: F401
    except Exception as error:
        raise ImportError(_complaint(python, error), name=f"{__package__}._native") from error


def _in_main_interpreter() -> bool:
    """Asked before loading: a module of PyO3 is for ever of the interpreter that loads it first."""
    ask = getattr(_thread, "_is_main_interpreter", None)  # since 3.12
    if ask is not None:
        return bool(ask())
    try:
        import _xxsubinterpreters as interpreters  # type: ignore[import-not-found]
    except ImportError:
        return True  # This Python was built without them.
    return bool(interpreters.get_current() == interpreters.get_main())


def _complaint(python: str, error: Exception) -> str:
    """Tell a missing extension from one of another Python and one that does not load."""
    import glob

    again = (
        f"install mioloop again with this Python ({sys.executable} -m pip install "
        "--force-reinstall mioloop, or make build in a checkout)"
    )
    if not isinstance(error, ImportError) or error.name != f"{__package__}._native" or error.path:
        return f"mioloop's extension module does not load ({error}): {again}"
    folder = os.path.dirname(os.path.abspath(__file__))
    built = glob.glob("_native.*.so", root_dir=folder)
    if built:
        return f"mioloop was built for another Python ({built[0]}), and this is {python}: {again}"
    return f"mioloop's extension module is missing in {folder}: {again}"


_load()
