"""TLS: which of its two engines a connection has, and what makes it the portable one.

Runs on mioloop alone; that both engines do the same is what all other tests of TLS show. What is
found once per process (libssl and its functions) is tried in forks of one script, where wrong
answers come from a library that stands before the real one (strange_libssl.c).
"""

import _ssl
import gc
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mioloop
import pytest
from child_script import run_script
from tls_peers import (
    Serving,
    client_context,
    echo,
    exchange,
    open_protocol,
    server_context,
)

# 3.10's asyncio has another TLS, which is used as it is.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has no engines")

DATA = bytes(range(256)) * 1000
DIRECT = (
    not sysconfig.get_config_var("Py_GIL_DISABLED")
    and hasattr(_ssl, "__file__")
    and ssl.OPENSSL_VERSION_INFO >= (1, 1, 1)
)
needs_direct = pytest.mark.skipif(not DIRECT, reason="libssl cannot be called here")


async def talk(**options: Any) -> str:
    """Data both ways, through a protocol and through streams; the engine that it went through."""
    async with Serving(echo, server_context()) as port:
        transport, protocol = await open_protocol(port, **options)
        transport.write(DATA)
        await protocol.until(len(DATA))
        assert protocol.data == DATA
        engine = "direct" if transport._is_direct else "portable"
        transport.close()
        assert await protocol.lost is None
        context = options.get("ssl") or client_context()
        assert await exchange(port, context, DATA) == DATA
    return engine


def test_libssl_is_called_where_it_can_be() -> None:
    assert mioloop.run(talk()) == ("direct" if DIRECT else "portable")


# What a context has that is its user's own


class OwnObject(ssl.SSLObject):
    calls: list[str] = []

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        self.calls.append("read")
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        self.calls.append("write")
        return super().write(data)


def test_a_subclass_of_sslobject_has_its_methods_called() -> None:
    context = client_context()
    context.sslobject_class = OwnObject
    OwnObject.calls.clear()
    assert mioloop.run(talk(ssl=context)) == "portable"
    assert {"read", "write"} <= set(OwnObject.calls)


class Wrapper:
    """All that an `SSLObject` has, and none itself."""

    def __init__(self, wrapped: ssl.SSLObject) -> None:
        self.wrapped = wrapped
        self.calls: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.calls.add(name)
        return getattr(self.wrapped, name)


def test_an_object_that_stands_for_an_sslobject() -> None:
    made: list[Wrapper] = []

    class Context(ssl.SSLContext):
        def wrap_bio(self, *args: Any, **options: Any) -> Any:
            made.append(Wrapper(super().wrap_bio(*args, **options)))
            return made[-1]

    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(Path(__file__).parent / "certs" / "ca.pem")
    assert mioloop.run(talk(ssl=context)) == "portable"
    assert {"read", "write", "do_handshake"} <= made[0].calls


def test_who_watches_every_record_sees_every_record() -> None:
    """What the callback raises is `_ssl`'s to keep until its own call ends."""
    context = client_context()
    kinds: list[Any] = []
    context._msg_callback = lambda *args: kinds.append(args[3])  # type: ignore[attr-defined]
    assert mioloop.run(talk(ssl=context)) == "portable"
    assert len(kinds) > 2 * len(DATA) // 16384


def test_memory_that_a_callback_keeps_is_its_own() -> None:
    """A callback finds what OpenSSL decrypts into through the collector, and keeps views of it.

    It sees what was decrypted then, whatever comes later; nothing dangles, and all arrives.
    """
    context = client_context()
    pieces = [b"%010d" % number * 100 for number in range(20)]
    kept: list[memoryview] = []
    borrowed: list[memoryview] = []  # views of memory that no object owns

    def keep(*_: object) -> None:
        for item in gc.get_objects():
            if type(item) is memoryview and item.obj is None:
                borrowed.append(item[:10])
            elif type(item) is tuple and len(item) == 2 and type(item[1]) is bytearray:
                kept.append(memoryview(item[1])[:1000])  # the arguments of `read`

    async def main() -> None:
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port, ssl=context)
            for number, piece in enumerate(pieces):
                context._msg_callback = keep  # type: ignore[attr-defined]
                transport.write(piece)
                await protocol.until(1000 * (number + 1))
                context._msg_callback = None  # type: ignore[attr-defined]
            assert protocol.data == b"".join(pieces)
            transport.close()
            await protocol.lost

    gc.collect()
    gc.freeze()  # only what is new is looked at
    try:
        context._msg_callback = keep  # type: ignore[attr-defined]
        mioloop.run(main())
    finally:
        gc.unfreeze()
    assert borrowed == []
    # Newer versions do not show the collector arguments that refer to nothing.
    if kept or sys.version_info < (3, 13):
        assert {bytes(view) for view in kept} >= set(pieces)


# What the process has

FORKS = """
import _ssl, ctypes, os, sys
sys.path.insert(0, {folder!r})
from mioloop import _native
from test_tls_engines import talk

def attempt(name, change):
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            say(name, "ended with", status)
        return
    change()
    loop = new_loop()
    say(name, loop.run_until_complete(talk()))
    loop.close()
    os._exit(0)

def lies_at(path):
    return lambda: setattr(_ssl, "__file__", path)

def strange(function):
    def change():
        os.environ["STRANGE"] = function
        _ssl.__file__ = {library!r}
        ctypes.CDLL(_ssl.__file__)
    return change

"""


def engines(attempts: str, library: str = "") -> list[str]:
    code, out, err = run_script(
        "mioloop", FORKS.format(folder=str(Path(__file__).parent), library=library) + attempts
    )
    assert (code, err) == (0, "")
    return out


@needs_direct
def test_libssl_that_cannot_be_found() -> None:
    attempts = """
attempt("as it is", lambda: None)
attempt("turned off", lambda: os.environ.update(MIOLOOP_LIBSSL="0"))
attempt("turned on", lambda: os.environ.update(MIOLOOP_LIBSSL="1"))
attempt("in the interpreter", lambda: delattr(_ssl, "__file__"))
attempt("nowhere", lies_at(None))
attempt("no path", lies_at("a\\0b"))
attempt("not loaded", lies_at("/nonexistent.so"))
attempt("without its functions", lies_at(_native.__file__))
"""
    assert engines(attempts) == [
        "as it is direct",
        "turned off portable",
        "turned on direct",
        "in the interpreter portable",
        "nowhere portable",
        "no path portable",
        "not loaded portable",
        "without its functions portable",
    ]


STRANGE = [
    "OpenSSL_version_num",  # a version that nobody has tried
    "SSL_get_SSL_CTX",  # pointers that lie elsewhere
    "SSL_get_rbio",
    "SSL_get_wbio",
    "BIO_get_new_index",  # no room for a BIO of ours
    "BIO_meth_new",
    "BIO_meth_set_ctrl",
    "BIO_new",
    "BIO_new 2",
    "BIO_up_ref",
    "BIO_up_ref 2",
]


@pytest.fixture(scope="module")
def strange_libssl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of the library that answers wrongly, and for the rest is the real one."""
    compiler = shutil.which("cc")
    maps = Path("/proc/self/maps")
    if compiler is None or not maps.exists():
        pytest.skip("needs a C compiler and Linux")
    loaded = {line.split()[-1] for line in maps.read_text().splitlines() if "/" in line}
    real = [path for path in loaded if Path(path).name.startswith(("libssl", "libcrypto"))]
    source = Path(__file__).with_name("strange_libssl.c")
    library = str(tmp_path_factory.mktemp("libssl") / "strange_libssl.so")
    flags = ["-shared", "-fPIC", "-Wl,--no-as-needed", "-o", library]
    subprocess.run([compiler, *flags, str(source), *real, "-ldl"], check=True)
    yield library


@needs_direct
def test_libssl_that_answers_wrongly(strange_libssl: str) -> None:
    attempts = "".join(f"attempt({name!r}, strange({name!r}))\n" for name in ["nothing", *STRANGE])
    expected = ["nothing direct", *(f"{name} portable" for name in STRANGE)]
    assert engines(attempts, strange_libssl) == expected
