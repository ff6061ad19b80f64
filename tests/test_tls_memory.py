"""TLS: what a connection that waits keeps.

Runs on mioloop alone: asyncio's connections have a buffer each.
"""

import asyncio
import ctypes
import socket
import ssl
import sys
from typing import Any

import mioloop
import pytest
from tls_peers import Serving, client_context, echo, handshake, open_protocol, server_context

# 3.10's asyncio has another TLS, which is used as it is.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has no machine")

COUNT = 20
DATA = bytes(16_000)


def test_machines_share_the_keys_of_their_dictionaries() -> None:
    async def main() -> list[int]:
        async with Serving(echo, server_context()) as port:
            # All of them are made before one has begun its handshake.
            opened: Any = await asyncio.gather(*[open_protocol(port) for _ in range(COUNT)])
            sizes = [sys.getsizeof(vars(transport._ssl_protocol)) for transport, _ in opened]
            for transport, protocol in opened:
                transport.close()
                await protocol.lost
        return sizes

    assert max(mioloop.run(main())) < 1000


class MallInfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def allocated() -> int:
    """Bytes that C code has allocated."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    libc.mallinfo2.restype = MallInfo
    return int(libc.mallinfo2().uordblks)


class Counter(asyncio.Protocol):
    count = 0

    def data_received(self, data: bytes) -> None:
        self.count += len(data)


async def receive_in_server(end_with: bytes, then: bytes) -> Any:
    """A connection whose server has received both, the first with the end of the handshake."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    accept = loop.connect_accepted_socket(Counter, ours, ssl=server_context())
    accepting = loop.create_task(accept)
    await handshake(client, incoming, outgoing, theirs, end_with)
    transport, protocol = await accepting
    if then:
        client.write(then)
        await loop.sock_sendall(theirs, outgoing.read())
    while protocol.count < len(end_with + then):
        await asyncio.sleep(0)
    return transport, theirs, client


def test_memory_that_a_handshake_needed_is_given_up() -> None:
    async def kept(end_with: bytes, then: bytes) -> int:
        before = allocated()
        ends = [await receive_in_server(end_with, then) for _ in range(COUNT)]
        kept = allocated() - before
        if not ends[0][0]._is_direct:
            pytest.skip("libssl cannot be called here")
        for transport, sock, _ in ends:
            transport.abort()
            sock.close()
        return kept

    async def main() -> int:
        await kept(DATA, b"")  # what is allocated only once
        return await kept(DATA, b"") - await kept(b"", DATA)

    assert mioloop.run(main()) < COUNT * len(DATA) // 4
