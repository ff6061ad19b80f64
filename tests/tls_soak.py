"""The two processes of tests/test_tls_soak.py: `python tls_soak.py subject|peer SECONDS`.

The subject runs mioloop: a TLS server, and clients of the peer's, a few at any time. The peer
runs asyncio and TLS over memory, serves and calls the subject, and misbehaves in every other
connection. They find each other by ports on standard input and output. The subject measures
itself, and ends with a line of JSON.
"""

import asyncio
import gc
import json
import os
import random
import socket
import ssl
import struct
import sys
import time
from pathlib import Path
from typing import Any

AT_ONCE = 16  # connections of each process's own
HANDSHAKE, SHUTDOWN = 1.0, 0.3  # seconds: the subject's limits
SAMPLES = 20
CERTS = Path(__file__).parent / "certs"


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem")
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTS / "ca.pem")


async def other_port(own: int) -> int:
    """Tell the test our own port; be told the other process's."""
    print(own, flush=True)
    return int(await asyncio.to_thread(sys.stdin.readline))


# The subject


class Talk(asyncio.Protocol):
    """Sends back what comes; a client's begins. Closes after a few pieces, or is closed."""

    alive: set["Talk"] = set()
    made = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.pieces = 0
        self.lost = asyncio.get_running_loop().create_future()
        Talk.made += 1
        self.alive.add(self)

    def data_received(self, data: bytes) -> None:
        self.pieces += 1
        if self.pieces > 3 or data.endswith(b"close"):
            self.transport.close()
        else:
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive.discard(self)
        self.lost.set_result(None)


def footprint() -> tuple[int, int]:
    """Resident KiB, descriptors."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * os.sysconf("SC_PAGE_SIZE") // 1024, len(os.listdir("/proc/self/fd"))


async def subject(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, report: None)
    limits: Any = {"ssl_handshake_timeout": HANDSHAKE, "ssl_shutdown_timeout": SHUTDOWN}
    server = await loop.create_server(Talk, "127.0.0.1", 0, ssl=server_context(), **limits)
    before = footprint()[1]
    port = await other_port(server.sockets[0].getsockname()[1])
    context = client_context()
    ended = time.monotonic() + seconds
    failed = 0

    async def call() -> None:
        nonlocal failed
        while time.monotonic() < ended:
            try:
                transport, protocol = await loop.create_connection(
                    Talk, "127.0.0.1", port, ssl=context, server_hostname="localhost", **limits
                )
            except OSError:
                failed += 1
            else:
                transport.write(os.urandom(random.choice([1, 100, 5000, 40_000])))
                await protocol.lost

    calls = [loop.create_task(call()) for _ in range(AT_ONCE)]
    samples = []
    for _ in range(SAMPLES):
        await asyncio.sleep(seconds / SAMPLES)
        gc.collect()
        samples.append(footprint())
    await asyncio.gather(*calls)
    print("end", flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # the peer has ended
    server.close()
    await server.wait_closed()
    while Talk.alive:
        await asyncio.sleep(0.1)
    await asyncio.sleep(2 * HANDSHAKE)  # what never got so far as to have a protocol
    left = footprint()[1] - before + 1  # the listening socket is gone
    report = {"made": Talk.made, "failed": failed, "left": left, "samples": samples}
    print(json.dumps(report), flush=True)


# The peer


class Peer:
    """One connection: Python's ssl over memory and a plain socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server, name)
        self.begins = not server

    async def call(self, method: Any, *args: Any) -> Any:
        while True:
            try:
                result = method(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                received = await self.loop.sock_recv(self.sock, 65536)
                if not received:
                    raise ConnectionError from None
                self.incoming.write(received)
            else:
                await self.flush()
                return result

    async def flush(self) -> None:
        if self.outgoing.pending:
            await self.loop.sock_sendall(self.sock, self.outgoing.read())

    async def start(self) -> None:
        """The handshake, and a piece of data each way."""
        await self.call(self.tls.do_handshake)
        if self.begins:
            await self.exchange(b"hello")
        else:
            await self.answer()

    async def exchange(self, data: bytes) -> Any:
        await self.call(self.tls.write, data)
        return await self.call(self.tls.read, 65536)

    async def answer(self) -> Any:
        data = await self.call(self.tls.read, 65536)
        if data:
            await self.call(self.tls.write, data)
        return data

    async def drain(self) -> None:
        while await self.loop.sock_recv(self.sock, 65536):
            pass


async def behave(peer: Peer) -> None:
    """Until the other end closes, which is answered."""
    await peer.start()
    while await (peer.exchange(b"more") if peer.begins else peer.answer()):
        pass
    await peer.call(peer.tls.unwrap)


async def leave_at_once(peer: Peer) -> None:
    pass


async def say_nothing(peer: Peer) -> None:
    """The other end must give up."""
    await peer.drain()


async def abort_the_handshake(peer: Peer) -> None:
    try:
        peer.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    await peer.loop.sock_sendall(peer.sock, peer.outgoing.read()[:40])


async def begin_with_garbage(peer: Peer) -> None:
    await peer.loop.sock_sendall(peer.sock, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    await peer.drain()


async def send_garbage(peer: Peer) -> None:
    await peer.start()
    await peer.loop.sock_sendall(peer.sock, b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)
    await peer.drain()


async def half_close(peer: Peer) -> None:
    """Without a close_notify."""
    await peer.start()
    peer.sock.shutdown(socket.SHUT_WR)
    await peer.drain()


async def never_answer(peer: Peer) -> None:
    """Neither data nor the close_notify; the other end must give up."""
    await peer.start()
    await peer.call(peer.tls.write, b"close")
    await peer.drain()


async def reset(peer: Peer) -> None:
    await peer.start()
    await peer.call(peer.tls.write, b"unread" * 1000)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def truncate(peer: Peer) -> None:
    """Half a record is the last of it."""
    await peer.start()
    peer.tls.write(b"x" * 10_000)
    records = peer.outgoing.read()
    await peer.loop.sock_sendall(peer.sock, records[: len(records) // 2])


MISBEHAVIOUR = [
    leave_at_once,
    say_nothing,
    abort_the_handshake,
    begin_with_garbage,
    send_garbage,
    half_close,
    never_answer,
    reset,
    truncate,
]


async def peer(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    contexts = client_context(), server_context()
    port = await other_port(listening.getsockname()[1])
    ended = time.monotonic() + seconds
    number = 0
    done = {f.__name__: 0 for f in [behave, *MISBEHAVIOUR]}

    async def one(sock: socket.socket, *, server: bool) -> None:
        nonlocal number
        number += 1
        way = behave if number % 2 else MISBEHAVIOUR[number // 2 % len(MISBEHAVIOUR)]
        with sock:
            try:
                await way(Peer(sock, contexts[server], server=server))
            except OSError:  # what the subject does about it; or this process was too slow for it
                if way is behave:
                    return
        done[way.__name__] += 1

    async def call() -> None:
        while time.monotonic() < ended:
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await one(sock, server=False)

    async def serve() -> None:
        while True:
            sock, _ = await loop.sock_accept(listening)
            served.add(task := loop.create_task(one(sock, server=True)))
            task.add_done_callback(served.discard)

    served: set[asyncio.Task[None]] = set()
    serving = loop.create_task(serve())
    await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    await asyncio.to_thread(sys.stdin.readline)  # the subject's own connections have ended
    serving.cancel()
    await asyncio.gather(*served)
    listening.close()
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    role, duration = sys.argv[1], float(sys.argv[2])
    if role == "subject":
        import mioloop

        mioloop.run(subject(duration))
    else:
        asyncio.run(peer(duration))
