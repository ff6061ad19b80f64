"""aiosmtpd: an SMTP server on our loop, with STARTTLS, and smtplib as its client."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mioloop
from children import need

CERTS = Path(__file__).parent.parent / "certs"
Ours = Callable[..., Any]


def test_aiosmtpd(ours: Ours) -> None:
    smtp = need("aiosmtpd.smtp")
    got: list[bytes] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            assert type(asyncio.get_running_loop()) is mioloop.Loop
            got.append(envelope.content)
            return "250 OK"

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem")

    def send(port: int) -> None:
        with smtplib.SMTP("localhost", port, timeout=10) as client:
            client.starttls(context=ssl.create_default_context(cafile=str(CERTS / "ca.pem")))
            for number in range(5):
                text = f"Subject: {number}\r\n\r\n" + "line\r\n" * 1000
                client.sendmail("a@example.org", ["b@example.org"], text)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: smtp.SMTP(Handler(), tls_context=context, hostname="test"), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(asyncio.to_thread(send, port) for _ in range(3)))
        server.close()
        await server.wait_closed()
        assert len(got) == 15 and all(len(content) > 6000 for content in got)

    ours(main)
