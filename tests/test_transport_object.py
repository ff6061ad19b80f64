"""A stream transport as a Python object: its type, repr, references, descriptor and context.

Run on asyncio and on mioloop alike. Libraries check `isinstance`, put mocks on transports, keep
them in weak dictionaries and print them; the descriptor of a transport is nobody else's.
"""

import asyncio
import contextvars
import gc
import re
import sys
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from network_peer import Peer, Recorder, a_while, connect, tcp_pair, until

Loop = asyncio.AbstractEventLoop
Run = Callable[..., Any]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="default")


async def end(transport: Any, protocol: Recorder, peer: Peer) -> None:
    transport.abort()
    await protocol.ended()
    peer.close()


def test_types(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        for kind in (
            asyncio.BaseTransport,
            asyncio.ReadTransport,
            asyncio.WriteTransport,
            asyncio.Transport,
        ):
            assert isinstance(transport, kind)
            assert issubclass(type(transport), kind)
        assert not isinstance(transport, asyncio.DatagramTransport)
        assert transport == transport and transport != object()
        assert len({transport, transport}) == 1
        await end(transport, protocol, peer)

    run(main())


def test_attributes_can_be_set(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        transport.owner = "me"
        assert transport.owner == "me"
        transport.write = mock.Mock()
        transport.write(b"x")
        transport.write.assert_called_once_with(b"x")
        del transport.write
        with mock.patch.object(transport, "get_extra_info", return_value=7):
            assert transport.get_extra_info("socket") == 7
        transport.write(b"real")
        assert await peer.read(4) == b"real"
        await end(transport, protocol, peer)

    run(main())


def test_repr(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        number = transport.get_extra_info("socket").fileno()
        facts = rf"fd={number} read=(\w+) write=<(\w+), bufsize=(\d+)>>$"

        def look() -> tuple[str, ...]:
            match = re.search(facts, repr(transport))
            assert match, repr(transport)
            return match.groups()

        assert look() == ("polling", "idle", "0")
        transport.pause_reading()
        assert look() == ("idle", "idle", "0")
        transport.write(bytes(1 << 20))
        assert look() == ("idle", "polling", str(transport.get_write_buffer_size()))
        transport.resume_reading()
        transport.close()
        assert " closing " in repr(transport)
        assert look()[:2] == ("idle", "polling")
        transport.abort()
        await protocol.ended()
        assert re.search(rf" closed fd={number}>$", repr(transport))
        peer.close()

    run(main())


# References


def test_a_closed_transport_is_freed(run: Run) -> None:
    async def main() -> None:
        for method in ("close", "abort", "peer"):
            transport, protocol, peer = await connect()
            transport.write(b"x")
            peer.send(b"y")
            await protocol.got(1)
            if method == "peer":
                peer.close()
            else:
                getattr(transport, method)()
            await protocol.ended()
            peer.close()
            await asyncio.sleep(0)
            dead = weakref.ref(transport), weakref.ref(protocol)
            del transport, protocol
            gc.collect()
            assert [ref() for ref in dead] == [None, None]

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the transport refers to itself before 3.12")
def test_no_cycle_is_left_after_close(run: Run) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect()
        peer.send(b"y")
        await protocol.got(1)
        transport.write(b"x")
        transport.close()
        await protocol.ended()
        peer.close()
        await asyncio.sleep(0)
        assert transport.get_protocol() is None
        dead = weakref.ref(transport)
        gc.collect()
        gc.disable()
        try:
            del protocol.transport
            del transport
            assert dead() is None
        finally:
            gc.enable()

    run(main())


def test_an_open_transport_is_kept_by_the_loop(run: Run) -> None:
    """A program need not keep it: the loop refers to it as long as it reads."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        protocol.transport = None
        alive = weakref.ref(protocol)
        del transport, protocol
        gc.collect()
        await asyncio.sleep(0)
        peer.send(b"x")
        found: Any = alive()
        assert await found.got(1) == b"x"
        peer.close()
        await found.ended()

    run(main())


def test_an_unclosed_transport_is_reported(run: Run) -> None:
    """One that does not read may be dropped: a ResourceWarning, and the socket is closed."""

    async def main() -> None:
        transport, protocol, peer = await connect()
        transport.pause_reading()
        number = transport.get_extra_info("socket").fileno()
        with pytest.warns(ResourceWarning) as warned:
            del transport, protocol
            await asyncio.sleep(0)
            gc.collect()
        texts = [str(one.message) for one in warned]
        assert any(re.match(rf"unclosed transport <.*fd={number}\b", text) for text in texts)
        assert await peer.read() == b""
        peer.close()

    run(main())


def test_a_transport_that_outlives_its_loop_is_reported(
    loop_factory: Callable[[], Loop],
) -> None:
    loop = loop_factory()
    transport, protocol, peer = loop.run_until_complete(connect())
    loop.close()
    repr(transport)
    with pytest.warns(ResourceWarning) as warned:
        del transport, protocol, loop
        gc.collect()
    assert any(str(one.message).startswith("unclosed transport <") for one in warned)
    peer.close()


def test_an_exception_leaves_no_reference(run: Run) -> None:
    """A protocol that failed and its exception are freed by reference counts and the collector."""

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ValueError("reason")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        transport, protocol, peer = await connect(Failing)
        peer.send(b"x")
        await protocol.ended()
        peer.close()
        dead = weakref.ref(protocol)
        del transport, protocol
        await asyncio.sleep(0)
        gc.collect()
        assert dead() is None

    run(main())


# The descriptor


def test_the_descriptor_is_the_transports(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await connect()
        sock = transport.get_extra_info("socket")
        number = sock.fileno()
        for method, args in (
            (loop.add_reader, (print,)),
            (loop.add_writer, (print,)),
            (loop.remove_reader, ()),
            (loop.remove_writer, ()),
        ):
            for form in (number, sock):
                with pytest.raises(RuntimeError) as info:
                    method(form, *args)
                assert str(info.value) == (
                    f"File descriptor {form!r} is used by transport {transport!r}"
                )
        # Not disturbed by this.
        peer.send(b"x")
        await protocol.got(1)
        transport.write(bytes(1 << 20))
        with pytest.raises(RuntimeError, match=f"^File descriptor {number} is used by transport"):
            loop.remove_writer(number)
        assert len(await peer.read(1 << 20)) == 1 << 20
        transport.close()
        assert loop.remove_reader(number) is False
        await protocol.ended()
        peer.close()

    run(main())


def test_sock_methods_are_refused(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        text = f"^File descriptor {ours.fileno()} is used by transport"
        with pytest.raises(RuntimeError, match=text):
            await loop.sock_recv(ours, 10)
        with pytest.raises(RuntimeError, match=text):
            await loop.sock_recv_into(ours, bytearray(10))
        await end(transport, protocol, Peer(theirs))

    run(main())


def test_a_number_used_again(run: Run) -> None:
    """A closed transport's number goes to the next connection, whose data is its own."""

    async def main() -> None:
        numbers = set()
        for method in ("close", "abort", "peer") * 5:
            transport, protocol, peer = await connect()
            numbers.add(transport.get_extra_info("socket").fileno())
            peer.send(method.encode())
            assert await protocol.got(len(method)) == method.encode()
            if method == "peer":
                peer.close()
            else:
                getattr(transport, method)()
            await protocol.ended()
            peer.close()
        assert len(numbers) == 1

    run(main())


# The context of callbacks


class Contextual(Recorder):
    """Notes the variable beside each callback, and changes it."""

    def note(self, name: str) -> None:
        self.calls.append(f"{name} {VAR.get()}")
        VAR.set(name)


def test_callbacks_see_the_context_of_the_connection(run: Run) -> None:
    async def main() -> None:
        VAR.set("connecting")
        made = await connect(Recorder)
        seen: list[str] = []
        for name in ("data_received", "eof_received", "connection_lost"):
            setattr(made[1], name, lambda *_: seen.append(VAR.get()))
        VAR.set("later")
        made[2].send(b"x")
        made[2].shutdown()
        await until(lambda: len(seen) == 3)
        made[2].close()
        assert seen == ["connecting"] * 3

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 15), reason="one context per transport: new in 3.15")
def test_callbacks_share_one_context(run: Run) -> None:
    async def main() -> None:
        VAR.set("connecting")
        transport, protocol, peer = await connect(Contextual)
        VAR.set("later")
        transport.pause_reading()
        transport.resume_reading()
        peer.send(b"x")
        await until(lambda: len(protocol.calls) == 2)
        peer.close()
        await protocol.ended()
        assert protocol.calls == ["made connecting", "data made", "eof data", "lost eof"]
        assert VAR.get() == "later"

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new in 3.15")
def test_each_connection_of_a_server_gets_a_copy_of_its_context(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Contextual] = []

        def factory() -> Contextual:
            made.append(Contextual())
            made[-1].note("factory")
            return made[-1]

        VAR.set("serving")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        VAR.set("later")
        for _ in range(2):
            transport, protocol = await loop.create_connection(
                Recorder, *server.sockets[0].getsockname()
            )
            transport.write(b"x")
            await until(lambda: made and "data made" in made[-1].calls)
            transport.close()
            await protocol.ended()
            await made[-1].ended()
        expected = ["factory serving", "made factory", "data made", "eof data", "lost eof"]
        assert [one.calls for one in made] == [expected] * 2
        server.close()
        await server.wait_closed()
        await a_while(0.001)

    run(main())
