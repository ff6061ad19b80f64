"""The programs of examples/: each runs to its end and prints what its comments promise.

The textbook examples of examples/documents/ have their own file, test_documents.py.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import mioloop
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MAX_LINES = 60

PRINTED = {
    "hello.py": r"hello from <Loop running=True closed=False debug=False>\ngoodbye\n",
    "timeouts.py": r"the alarm rang in time: True\nthe answer after 0\.01 s\n"
    r"  the answer after 5 s was cancelled\nno answer within 0\.01 s\n",
    "producers_consumers.py": r"3 consumers added up 7998000\n",
    "thread_pool.py": r"threads called {'asyncio'}\nthe loop went on meanwhile: True\n"
    r"digest: [0-9a-f]{8}\n",
    "compare.py": r"per second +asyncio +mioloop\n"
    r"(\w+ +[\d,]+ +[\d,]+ +\d+\.\d x\n){3}",
}


def test_every_example_is_tested_and_short() -> None:
    programs = list(EXAMPLES.glob("*.py"))
    assert sorted(program.name for program in programs) == sorted(PRINTED)
    for program in programs:
        assert len(program.read_text().splitlines()) <= MAX_LINES, program


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTED)
def test_example(name: str) -> None:
    paths = [str(Path(mioloop.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-Werror", EXAMPLES / name, *(["0.01"] if name == "compare.py" else [])],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(PRINTED[name], done.stdout), done.stdout
