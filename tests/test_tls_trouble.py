"""TLS: peers that misbehave or are no loop's, and what a connection leaves behind.

Run on asyncio, and on mioloop with both of its engines, over real sockets on the loopback
interface. The peers are Python's ssl module over memory, in a thread, and `openssl`. What
well-behaved peers see is in test_tls and test_tls_data.
"""

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tls_peers import (
    BOTH,
    CERTS,
    PATIENCE,
    Serving,
    client_context,
    collected,  # noqa: F401 (a fixture)
    echo,
    exchange,
    leaves_no_warning,
    loop_kind,  # noqa: F401 (a fixture)
    open_protocol,
    server_context,
    since_3_11,
)

Run = Callable[..., Any]
pytestmark = leaves_no_warning


# Peers that misbehave


class Peer:
    """A server of one connection, in a thread: Python's ssl over memory and a plain socket."""

    def __init__(self, talk: Callable[["Peer"], None], version: ssl.TLSVersion) -> None:
        self.talk = talk
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = server_context()
        context.minimum_version = context.maximum_version = version
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.sock, _ = self.listening.accept()
        self.sock.settimeout(PATIENCE)
        with self.listening, self.sock:
            self.call(self.tls.do_handshake)
            self.call(self.tls.read, 5)
            self.talk(self)

    def call(self, method: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                result = method(*args)
            except ssl.SSLWantReadError:
                self.flush()
                received = self.sock.recv(65536)
                if not received:
                    raise ConnectionError from None
                self.incoming.write(received)
            else:
                self.flush()
                return result

    def flush(self) -> None:
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())

    async def __aenter__(self) -> Any:
        self.thread.start()
        transport, protocol = await open_protocol(self.port)
        transport.write(b"hello")
        return transport, protocol

    async def __aexit__(self, *_: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.thread.join)


@BOTH
@since_3_11
def test_garbage(run: Run, version: ssl.TLSVersion) -> None:
    """What is no record, and a record that was tampered with, end the connection."""

    def garbage(peer: Peer) -> None:
        peer.sock.sendall(b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)
        while peer.sock.recv(65536):
            pass

    reports: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with Peer(garbage, version) as (_, protocol):
            error = await asyncio.wait_for(protocol.lost, PATIENCE)
            assert isinstance(error, ssl.SSLError)
            assert error.library == "SSL"
            assert "RECORD" in error.reason or "MAC" in error.reason, error  # OpenSSL's choice
            assert str(error).startswith(f"[SSL: {error.reason}]")
            assert protocol.data == b""

    run(main())
    assert reports == []  # an OSError is for the debug log only


@BOTH
def test_an_abrupt_end(run: Run, version: ssl.TLSVersion) -> None:
    """The end of the stream without close_notify: asyncio takes it for an end."""

    def leave(peer: Peer) -> None:
        peer.call(peer.tls.write, b"goodbye")

    async def main() -> None:
        async with Peer(leave, version) as (_, protocol):
            await protocol.lost
            assert protocol.data == b"goodbye"
            assert protocol.ended == 1

    run(main())


@BOTH
def test_data_and_close_notify_together(run: Run, version: ssl.TLSVersion) -> None:
    def leave(peer: Peer) -> None:
        peer.tls.write(b"the end")
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.flush()
        while received := peer.sock.recv(65536):
            peer.incoming.write(received)

    async def main() -> None:
        async with Peer(leave, version) as (_, protocol):
            assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
            assert protocol.data == b"the end"
            assert protocol.ended == (1 if sys.version_info >= (3, 11) else 0)

    run(main())


@since_3_11
def test_a_peer_that_never_answers_close_notify(run: Run) -> None:
    done = threading.Event()

    def ignore(peer: Peer) -> None:
        peer.call(peer.tls.write, b"yes")
        done.wait(PATIENCE)

    async def main() -> None:
        peer = Peer(ignore, ssl.TLSVersion.TLSv1_3)
        peer.thread.start()
        transport, protocol = await open_protocol(peer.port, ssl_shutdown_timeout=0.1)
        transport.write(b"hello")
        await protocol.until(3)
        transport.close()
        error = await asyncio.wait_for(protocol.lost, PATIENCE)
        assert isinstance(error, TimeoutError)
        done.set()
        await asyncio.get_running_loop().run_in_executor(None, peer.thread.join)

    run(main())


def test_abort_does_not_wait_for_the_peer(run: Run) -> None:
    done = threading.Event()

    def ignore(peer: Peer) -> None:
        done.wait(PATIENCE)

    async def main() -> None:
        async with Peer(ignore, ssl.TLSVersion.TLSv1_3) as (transport, protocol):
            transport.write(b"x" * 10_000_000)
            transport.close()
            assert not protocol.lost.done()
            protocol.transport.abort()
            assert await asyncio.wait_for(protocol.lost, PATIENCE) is None
            done.set()

    run(main())


# An outside peer: openssl

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_client(run: Run, version: str) -> None:
    text = b"".join(b"line %d\n" % i for i in range(5000))

    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readexactly(len(text))).upper())

        async with Serving(handler, server_context()) as port:
            command = ["openssl", "s_client", version, "-quiet", "-verify_return_error"]
            command += ["-connect", f"127.0.0.1:{port}", "-CAfile", str(CERTS / "ca.pem")]
            child = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            out, _ = await asyncio.wait_for(child.communicate(text), PATIENCE)
            assert out == text.upper()

    run(main())


@openssl
@since_3_11
def test_renegotiation_is_refused(run: Run) -> None:
    """A client that asks for it is refused by the server, whose connection goes on or ends."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await echo(reader, writer)
        except ssl.SSLError:
            raise ConnectionError from None

    async def main() -> None:
        async with Serving(handler, server_context()) as port:
            command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{port}"]
            child = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            out, _ = await asyncio.wait_for(child.communicate(b"R\n"), PATIENCE)
            assert b"RENEGOTIATING" in out
            assert b"no renegotiation" in out or b"error" in out
            assert await exchange(port, client_context(), b"others") == b"others"

    run(main())


# What is left


def test_nothing_is_left(run: Run) -> None:
    """Contexts, protocols and transports go with the connection, without the collector."""

    async def main() -> list[Any]:
        context = client_context()
        async with Serving(echo, server_context()) as port:
            transport, protocol = await open_protocol(port, ssl=context)
            transport.write(b"x" * 100_000)
            await protocol.until(100_000)
            transport.close()
            await protocol.lost
            refs = [weakref.ref(it) for it in (context, protocol)]
            transport.close()
            protocol.transport = None
            del context, transport, protocol
            await asyncio.sleep(0)
            return [ref() for ref in refs]

    gc.collect()
    gc.disable()
    try:
        left = run(main())
    finally:
        gc.enable()
    assert left == [None, None]
