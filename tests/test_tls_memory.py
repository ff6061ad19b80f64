"""TLS: what a connection that waits keeps.

Runs on mioloop alone: asyncio's connections have a buffer each.
"""

import asyncio
import sys
from typing import Any

import mioloop
import pytest
from tls_peers import Serving, echo, open_protocol, server_context

# 3.10's asyncio has another TLS, which is used as it is.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 has no machine")


def test_machines_share_the_keys_of_their_dictionaries() -> None:
    async def main() -> list[int]:
        async with Serving(echo, server_context()) as port:
            # All of them are made before one has begun its handshake.
            opening = [open_protocol(port) for _ in range(50)]
            opened: Any = await asyncio.gather(*opening)
            sizes = [sys.getsizeof(vars(transport._ssl_protocol)) for transport, _ in opened]
            for transport, protocol in opened:
                transport.close()
                await protocol.lost
        return sizes

    assert max(mioloop.run(main())) < 1000
