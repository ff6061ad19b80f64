"""A protocol whose callbacks fail: what the exception handler is told and how the transport ends.

Run on asyncio and on mioloop alike. An error while reading is fatal: it is reported with the
transport and the protocol, the connection is dropped, and connection_lost gets the error. An
OSError is taken for one of the socket: it ends the connection without a report.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from network_peer import KINDS, BufferedRecorder, Recorder, connect, reports_of, until

Run = Callable[..., Any]


class Boom(Exception):
    """What the callbacks raise."""


def failing(kind: type, method: str, error: BaseException) -> type:
    """A subclass whose `method` raises `error`, the first time only."""

    def fail(self: Recorder, *args: Any) -> Any:
        self.calls.append("fail")
        setattr(self, method, getattr(super(made, self), method))
        raise error

    made: type = type("Failing", (kind,), {method: fail})
    return made


FATAL = [
    (Recorder, "data_received"),
    (Recorder, "eof_received"),
    (BufferedRecorder, "get_buffer"),
    (BufferedRecorder, "buffer_updated"),
    (BufferedRecorder, "eof_received"),
]


@pytest.mark.parametrize("error", [Boom("reason"), asyncio.CancelledError()], ids=["own", "cancel"])
@pytest.mark.parametrize(("kind", "method"), FATAL)
def test_an_error_is_fatal(run: Run, kind: type, method: str, error: BaseException) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect(failing(kind, method, error))
        reports = reports_of(asyncio.get_running_loop())
        with peer:
            peer.send(b"x")
            if method == "eof_received":
                peer.shutdown()
            assert await protocol.ended() is error
            if method != "get_buffer":  # there the byte was not read, which means a reset
                assert await peer.read() == b""
        assert transport.is_closing()
        assert protocol.calls[-2:] == ["fail", "lost"]
        assert reports == [
            {
                "message": f"Fatal error: protocol.{method}() call failed.",
                "exception": error,
                "transport": transport,
                "protocol": protocol,
            }
        ]

    run(main())


@pytest.mark.parametrize(("kind", "method"), FATAL)
def test_the_handler_sees_the_context_of_what_failed(run: Run, kind: type, method: str) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="not set")

    class Setting(kind):  # type: ignore[misc]
        pass

    def set_and_fail(self: Recorder, *args: Any) -> Any:
        variable.set("set")
        raise Boom

    setattr(Setting, method, set_and_fail)

    async def main() -> None:
        _, protocol, peer = await connect(Setting)
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))
        with peer:
            peer.send(b"x")
            if method == "eof_received":
                peer.shutdown()
            await protocol.ended()
        assert seen == ["set"]
        assert variable.get() == "not set"

    run(main())


@pytest.mark.parametrize(("kind", "method"), FATAL)
def test_an_os_error_is_not_reported(run: Run, kind: type, method: str) -> None:
    async def main() -> None:
        error = OSError(5, "reason")
        _, protocol, peer = await connect(failing(kind, method, error))
        reports = reports_of(asyncio.get_running_loop())
        with peer:
            peer.send(b"x")
            peer.shutdown()
            assert await protocol.ended() is error
        assert reports == []

    run(main())


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
@KINDS
def test_errors_at_the_start_and_the_end(run: Run, kind: type, method: str) -> None:
    """These are errors of a loop's callback: reported, and nothing else changes."""

    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())
        error = Boom("reason")
        transport, protocol, peer = await connect(failing(kind, method, error))
        sock = transport.get_extra_info("socket")
        with peer:
            peer.send(b"x")
            assert await protocol.got(1) == b"x"
            peer.shutdown()
            assert await peer.read() == b""
        await until(lambda: sock.fileno() == -1)
        end = ["lost"] if method == "connection_made" else ["fail"]
        start = ["made"] if method == "connection_lost" else ["fail"]
        assert protocol.calls == [*start, "data", "eof", *end]
        assert [set(report) for report in reports] == [{"message", "exception", "handle"}]
        assert reports[0]["exception"] is error
        assert reports[0]["message"].startswith("Exception in callback ")

    run(main())


@pytest.mark.parametrize(
    ("buffer", "error", "text"),
    [
        (bytearray(), RuntimeError, "get_buffer() returned an empty buffer"),
        (b"", RuntimeError, "get_buffer() returned an empty buffer"),
        (None, TypeError, "object of type 'NoneType' has no len()"),
        (5, TypeError, "object of type 'int' has no len()"),
    ],
)
def test_a_bad_buffer(run: Run, buffer: Any, error: type, text: str) -> None:
    async def main() -> None:
        transport, protocol, peer = await connect(BufferedRecorder)
        reports = reports_of(asyncio.get_running_loop())
        protocol.buffer = buffer
        with peer:
            peer.send(b"x")
            lost = await protocol.ended()
        assert type(lost) is error and str(lost) == text
        [report] = reports
        assert report["message"] == "Fatal error: protocol.get_buffer() call failed."
        assert report["exception"] is lost and report["transport"] is transport

    run(main())


@pytest.mark.parametrize("buffer", [b"read-only", "text", [1]], ids=["bytes", "str", "list"])
def test_a_buffer_that_cannot_be_written(run: Run, buffer: Any) -> None:
    async def main() -> None:
        _, protocol, peer = await connect(BufferedRecorder)
        reports = reports_of(asyncio.get_running_loop())
        protocol.buffer = buffer
        with peer:
            peer.send(b"x")
            lost = await protocol.ended()
        assert type(lost) is TypeError
        assert [one["message"] for one in reports] == ["Fatal read error on socket transport"]
        assert reports[0]["exception"] is lost

    run(main())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(("kind", "method"), FATAL)
def test_exits_end_the_run(
    loop: asyncio.AbstractEventLoop, kind: type, method: str, error: type[BaseException]
) -> None:
    """The exception comes out of the run, nobody is told, and the transport lives on."""
    made: list[Any] = []

    async def main() -> None:
        made.extend(await connect(failing(kind, method, error("exit"))))
        made[2].send(b"x")
        if method == "eof_received":
            made[2].shutdown()
        await made[1].ended()

    reports = reports_of(loop)
    task = loop.create_task(main())
    with pytest.raises(error, match="exit"):
        loop.run_until_complete(task)
    transport, protocol, peer = made
    assert reports == [] and not protocol.lost and not transport.is_closing()
    peer.close()
    loop.run_until_complete(task)
    assert protocol.lost == [None]


def test_an_error_with_data_left_to_write_drops_it(run: Run) -> None:
    async def main() -> None:
        error = Boom("reason")
        kind = failing(Recorder, "data_received", error)
        transport, protocol, peer = await connect(kind)
        reports = reports_of(asyncio.get_running_loop())
        with peer:
            transport.write(bytes(1 << 20))
            assert transport.get_write_buffer_size() > 0
            peer.send(b"x")
            assert await protocol.ended() is error
            assert transport.get_write_buffer_size() == 0
            assert len(await peer.read()) < 1 << 20
        assert len(reports) == 1

    run(main())


def test_other_connections_do_not_notice(run: Run) -> None:
    async def main() -> None:
        reports = reports_of(asyncio.get_running_loop())
        _, good, good_peer = await connect()
        _, bad, bad_peer = await connect(failing(Recorder, "data_received", Boom("reason")))
        with good_peer, bad_peer:
            bad_peer.send(b"x")
            good_peer.send(b"x")
            await bad.ended()
            await good.got(1)
            good_peer.send(b"y")
            assert await good.got(2) == b"xy"
        assert await good.ended() is None
        assert len(reports) == 1

    run(main())
