"""aiodns: c-ares, whose sockets the loop watches, asks a name server of our own."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest
from children import need

Ours = Callable[..., Any]


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an address with 192.0.2.7, and nothing about `silent`."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if b"silent" in data:
            return
        end = data.index(b"\0", 12) + 5
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + bytes([192, 0, 2, 7])
        self.transport.sendto(header + data[12:end] + answer, addr)


def test_aiodns(ours: Ours) -> None:
    aiodns = need("aiodns")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        resolver = aiodns.DNSResolver(["127.0.0.1"], udp_port=port, timeout=0.1, tries=2)

        async def ask(name: str) -> str:
            result = await resolver.query_dns(name, "A")
            return str(result.answer[0].data.addr)

        names = [f"host{n}.example.org" for n in range(50)]
        assert set(await asyncio.gather(*map(ask, names))) == {"192.0.2.7"}
        with pytest.raises(aiodns.error.DNSError):
            await ask("silent.example.org")
        await resolver.close()
        transport.close()

    ours(main)
