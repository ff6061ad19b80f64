"""MIOLOOP_IO_URING=1 and the process: kernels that refuse, forks, descriptors.

In scripts of their own. A ring that was refused is no error, and one of another process is never
submitted to.
"""

from pathlib import Path

import pytest
from child_script import run_script
from ring_probe import KINDS, needs_ring

SCRIPT = """
import ctypes, errno, resource, socket, struct
sys.path.insert(0, {folder!r})
from ring_probe import requests, rings

pairs = [socket.socketpair() for _ in range(8)]
transports = []

async def make():
    for ours, theirs in pairs:
        ours.setblocking(False)
        theirs.settimeout(10)
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=ours
        )
        transports.append(transport)

async def write(data):
    for transport in transports:
        asyncio.get_running_loop().call_soon(transport.write, data)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

def read(count):
    return {{theirs.recv(count, socket.MSG_WAITALL) for _, theirs in pairs}}

def refuse(number):
    rules = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | errno.EPERM)]
    rules.append((6, 0, 0, 0x7FFF0000))
    rules = b"".join(struct.pack("HBBI", *rule) for rule in rules)
    memory = ctypes.create_string_buffer(rules)
    program = struct.pack("HP", 4, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.prctl(22, 2, program, 0, 0):
        say("no seccomp")
        os._exit(0)

def end():
    for transport in transports:
        transport.close()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()

loop = new_loop()
loop.run_until_complete(make())
"""


def script(kind: str, source: str) -> list[str]:
    code, out, err = run_script(
        "asyncio" if kind == "asyncio" else "mioloop",
        SCRIPT.format(folder=str(Path(__file__).parent)) + source,
        "-Wignore",
    )
    assert (code, err) == (0, "")
    if out == ["no seccomp"]:
        pytest.skip("needs seccomp")
    return out


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MIOLOOP_IO_URING", "1" if request.param == "ring" else "0")
    return str(request.param)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIOLOOP_IO_URING", "1")


@pytest.mark.usefixtures("on")
def test_a_kernel_that_refuses_a_ring() -> None:
    """As containers do it: the loop works without."""
    source = """
refuse(425)
loop.run_until_complete(write(b"one"))
loop.run_until_complete(write(b"two"))
say(read(6), rings())
end()
"""
    assert script("mioloop", source) == ["{b'onetwo'} set()"]


@needs_ring
@pytest.mark.usefixtures("on")
def test_a_ring_that_is_refused_later() -> None:
    """By a filter that comes when there is one: nothing is lost or sent twice."""
    source = """
loop.run_until_complete(write(b"one"))
ring, = rings()
taken = requests(ring)
refuse(426)
loop.run_until_complete(write(b"two"))
loop.run_until_complete(write(b"three"))
say(taken, read(11), rings())
end()
"""
    assert script("mioloop", source) == ["8 {b'onetwothree'} set()"]


@needs_ring
@pytest.mark.usefixtures("on")
def test_who_was_refused_does_not_ask_again() -> None:
    source = """
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
loop.run_until_complete(write(b"one"))
resource.setrlimit(resource.RLIMIT_NOFILE, before)
loop.run_until_complete(write(b"two"))
say(read(6), rings())
end()
"""
    assert script("mioloop", source) == ["{b'onetwo'} set()"]


def test_the_inherited_loop_in_a_child(kind: str) -> None:
    """The child has a ring of its own."""
    source = """
loop.run_until_complete(write(b"one"))
child = os.fork()
loop.run_until_complete(write(b"two"))
if child == 0:
    say(*map(requests, rings()))
    os._exit(len(rings()))
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loop.run_until_complete(write(b"three"))
say(*map(requests, rings()))
say(read(14))
end()
say(rings())
"""
    with_ring = kind == "ring"
    assert script(kind, source) == [
        "8" if with_ring else "",
        "1" if with_ring else "0",
        "24" if with_ring else "",
        "{b'onetwotwothree'}",
        "set()",
    ]


def test_a_fork_in_the_middle_of_a_crowd(kind: str) -> None:
    """The child that goes on in the loop that runs does not touch its parent's ring."""
    source = """
loop.run_until_complete(write(b"one"))
children = []
loop.call_soon(lambda: children.append(os.fork()))
for transport in transports:
    loop.call_soon(transport.write, b"two")
loop.call_soon(loop.stop)
loop.run_forever()
if children == [0]:
    os._exit(0)
say(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
loop.run_until_complete(write(b"three"))
say(*map(requests, rings()))
say(read(14))
end()
"""
    requested = "24" if kind == "ring" else ""
    assert script(kind, source) == ["0", requested, "{b'onetwotwothree'}"]
