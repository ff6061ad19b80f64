"""Random transport calls leave the same trace of callbacks as on asyncio's own loop.

transport_player.py makes and plays the scripts. `TRANSPORT_SEED=123 pytest -k one_seed` plays a
single one and prints its trace.
"""

import contextlib
import os

import pytest
import transport_player
from conftest import factory_of

CHUNK = 5
SEEDS = 100


def trace_of(kind: str, seed: int) -> list[str]:
    with contextlib.closing(factory_of(kind)()) as loop:
        return transport_player.play(loop, seed)


def compare(kind: str, seed: int) -> list[str]:
    """Plays the seed on asyncio and on the loop under test."""
    expected, got = trace_of("asyncio", seed), trace_of(kind, seed)
    for number in range(max(len(expected), len(got))):
        left, right = expected[number : number + 1], got[number : number + 1]
        if left != right:
            script = transport_player.write_script(seed)
            before = "\n  ".join([str(script), *expected[:number]])
            pytest.fail(f"TRANSPORT_SEED={seed}:\n  {before}\n- {left}\n+ {right}")
    return expected


def test_a_few_traces(loop_kind: str) -> None:
    for seed in range(3):
        compare(loop_kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_traces(loop_kind: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        compare(loop_kind, seed)


@pytest.mark.skipif("TRANSPORT_SEED" not in os.environ, reason="names the seed to play alone")
def test_one_seed(loop_kind: str) -> None:
    print(*compare(loop_kind, int(os.environ["TRANSPORT_SEED"])), sep="\n")


@pytest.mark.slow
def test_scripts_reach_what_they_are_meant_to() -> None:
    """Every kind of callback and of end is seen."""
    text = "\n".join(line for seed in range(60) for line in trace_of("asyncio", seed))
    for mark in (
        "made",
        "data",
        "eof",
        "pause, ",
        "resume",
        "lost NoneType",
        "lost broken",
        "lost Boom",
        "REPORT Fatal error",
        "closed",
        "aborted",
        "raises RuntimeError",
        "peer eof, all",
        "peer eof, part",
        "look (False, True, True)",
    ):
        assert mark in text, mark
