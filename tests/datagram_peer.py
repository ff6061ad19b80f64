"""A protocol that keeps datagrams, and how the tests of datagrams make and close endpoints.

Used by test_udp.py, test_datagram_queues.py and test_datagram_addresses.py.
"""

import asyncio
from typing import Any

from network_peer import until


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.calls: list[str] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.got.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


async def endpoint(**keywords: Any) -> tuple[Any, Datagrams]:
    return await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, **keywords)


async def close(*transports: Any) -> None:
    for transport in transports:
        transport.close()
    for transport in transports:
        await until(lambda: transport.get_extra_info("socket").fileno() == -1)  # noqa: B023


def name(transport: Any) -> Any:
    return transport.get_extra_info("sockname")
