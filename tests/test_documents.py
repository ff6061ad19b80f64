"""The textbook examples of examples/documents/, unchanged, on every Python.

Each script, and the numbered blocks in one namespace, run in three ways: under
`python -m mioloop`, after `asyncio.set_event_loop_policy()`, after `mioloop.install()`. What
the books print is in the .out files beside the code. Nothing is run inside this process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import mioloop
import pytest

DOCUMENTS = Path(__file__).parent.parent / "examples" / "documents"
SCRIPTS = sorted(DOCUMENTS.glob("*.py"))
BLOCKS = sorted((DOCUMENTS / "blocks").glob("*.py"))
GENERATOR_SCRIPT = DOCUMENTS / "asyncio_generator.py"
HAS_ASYNCIO_COROUTINE = sys.version_info < (3, 11)

PRELUDES = {
    "runner": "",
    "policy": "import asyncio, mioloop; "
    "asyncio.set_event_loop_policy(mioloop.EventLoopPolicy()); del asyncio, mioloop\n",
    "install": "import mioloop; mioloop.install(); del mioloop\n",
}

RUN_SCRIPT = """\
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
"""

# Types the blocks into one namespace and goes on after an exception, as a reader does.
TYPE_BLOCKS = """\
import contextlib, io, json, sys, traceback
namespace = {"__name__": "__main__"}
answers = []
for source in json.load(sys.stdin):
    answer = {"error": None, "last_line": None}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(compile(source, "<block>", "exec"), namespace)
        except BaseException as error:
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            answer["error"] = "".join(traceback.format_exception_only(error)).strip()
            answer["last_line"] = source.splitlines()[line - 1].strip()
    answer["printed"] = printed.getvalue()
    answers.append(answer)
answers.append(type(namespace["loop"]).__module__)
print(json.dumps(answers))
"""


def python(*args: object, way: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    """Run python with mioloop importable; by way of the runner, `-m mioloop` comes first."""
    package_root = str(Path(mioloop.__file__).parent.parent)
    paths = [package_root, os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "",
    }
    runner = ["-m", "mioloop"] if way == "runner" else []
    return subprocess.run(
        [sys.executable, *runner, *map(str, args)],
        input=given,
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=60,
        check=False,
    )


def run_script(script: Path, way: str, prelude: str = "") -> "subprocess.CompletedProcess[str]":
    if way == "runner":
        return python(script, way=way)
    return python("-c", PRELUDES[way] + prelude + RUN_SCRIPT, script, way=way)


def type_blocks(sources: list[str], way: str) -> list[dict[str, str | None]]:
    """What each block printed and raised; the loop that they made must be mioloop's."""
    done = python("-c", PRELUDES[way] + TYPE_BLOCKS, way=way, given=json.dumps(sources))
    assert done.returncode == 0, done.stderr
    *answers, loop_module = json.loads(done.stdout)
    assert loop_module == "mioloop._loop"
    return answers


def printed_by(code: Path) -> str:
    return code.with_suffix(".out").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("way", PRELUDES)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_prints_what_the_book_prints(script: Path, way: str) -> None:
    if script == GENERATOR_SCRIPT and way != "runner" and not HAS_ASYNCIO_COROUTINE:
        pytest.skip("asyncio.coroutine is gone since 3.11, and nobody asked for it")
    done = run_script(script, way)
    assert done.stdout == printed_by(script), done.stderr
    assert done.returncode == 0
    if script != GENERATOR_SCRIPT and way == "runner":
        assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["policy", "install"])
def test_generator_script_after_an_explicit_call(way: str) -> None:
    prelude = "import mioloop; mioloop.provide_asyncio_coroutine()\n"
    done = run_script(GENERATOR_SCRIPT, way, prelude)
    assert done.stdout == printed_by(GENERATOR_SCRIPT), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(HAS_ASYNCIO_COROUTINE, reason="3.10 has asyncio.coroutine of its own")
def test_asyncio_coroutine_is_no_side_effect_of_the_import() -> None:
    done = run_script(GENERATOR_SCRIPT, "install")
    assert done.returncode == 1
    assert "AttributeError: module 'asyncio' has no attribute 'coroutine'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", PRELUDES)
def test_blocks_in_one_namespace(way: str) -> None:
    answers = type_blocks([block.read_text("utf-8") for block in BLOCKS], way)
    types, wrong_dot, cancel, run, same_loop, wrong_name = answers

    assert (types["printed"], types["error"]) == (printed_by(BLOCKS[0]), None)
    assert (run["printed"], run["error"]) == (printed_by(BLOCKS[3]), None)
    assert (same_loop["printed"], same_loop["error"]) == (printed_by(BLOCKS[4]), None)

    # The throw ends the coroutine: its own message, and the two lines that the text shows.
    assert cancel["printed"] == "취소\n"
    shown = (DOCUMENTS / "blocks" / "block_03.err").read_text("utf-8").split()
    assert [cancel["last_line"], cancel["error"]] == shown

    # The author's typos raise what Python raises for them.
    assert wrong_dot["error"] == "AttributeError: 'str' object has no attribute 'e'"
    assert wrong_name["error"] is not None
    assert wrong_name["error"].startswith("NameError: name 'asycio' is not defined")


@pytest.mark.slow
@pytest.mark.parametrize("way", PRELUDES)
def test_blocks_with_the_typos_mended(way: str) -> None:
    sources = [block.read_text("utf-8") for block in BLOCKS]
    mended_dot = sources[1].replace("'. e.value", "', e.value")
    mended_name = (
        "async def main():\n"
        "    coro = c()\n"
        f"    return await {sources[5].strip().replace('asycio', 'asyncio')}\n"
        "print(loop.run_until_complete(main()) is loop)\n"
    )
    assert mended_dot != sources[1]
    assert "await asyncio.create_task(coro)" in mended_name
    sources[1], sources[5] = mended_dot, mended_name
    answers = type_blocks(sources, way)
    assert (answers[1]["printed"], answers[1]["error"]) == (printed_by(BLOCKS[1]), None)
    assert (answers[5]["printed"], answers[5]["error"]) == ("True\n", None)
