"""Random scripts of transport calls: `play(loop, seed)` runs one on a TCP connection.

Called by test_transport_trace.py. A script is a list of phases: a few calls on the transport and
actions of the peer at the other end, then a rest until nothing happens any more. Some calls are
made from within the protocol's callbacks. The trace leaves out what the kernel's timing decides:
how data is cut, and how much arrives at the peer of a connection that broke.
"""

import asyncio
import contextlib
import random
import sys
import time
from typing import Any

from network_peer import Peer, a_while, tcp_pair, until

Step = tuple[Any, ...]

BIG = 1 << 20  # more than the kernel's buffers take: the rest waits in the transport
# writelines does not pause, and fails on a closed transport, in these versions.
WRITELINES_BROKEN = (3, 12) <= sys.version_info < (3, 14)
# A pause in connection_made is forgotten in 3.10.
PAUSE_IN_MADE = sys.version_info >= (3, 11)


class Boom(Exception):
    """What protocols raise."""


def write_script(seed: int) -> tuple[list[list[Step]], dict[str, list[list[Step]]]]:
    """(phases, reactions to callbacks) of a seed: the same on every interpreter and loop."""
    draw = random.Random(seed)

    def call() -> Step:
        name = draw.choice(
            "write write write big big writelines pause resume write_eof close abort "
            "set_protocol limits look look look pause resume".split()
        )
        return name, draw.randrange(1, 1000), draw.random()

    def action() -> Step:
        name = draw.choice("send send send send drain drain drain shutdown reset close".split())
        return "peer_" + name, draw.randrange(1, 1000), draw.random()

    phases = []
    for _ in range(draw.randint(2, 8)):
        size = draw.randint(1, 4)
        phases.append([call() if draw.random() < 0.55 else action() for _ in range(size)])
    reactions: dict[str, list[list[Step]]] = {}
    for name in ("made", "data", "eof", "pause", "resume", "lost"):
        reactions[name] = [
            [call() for _ in range(draw.randint(1, 2))] if draw.random() < 0.3 else []
            for _ in range(4)
        ]
        if name in ("data", "eof") and draw.random() < 0.2:
            reactions[name][draw.randrange(3 if name == "data" else 1)].append(("fail", 0, 0.0))
    return phases, reactions


def play(loop: asyncio.AbstractEventLoop, seed: int) -> list[str]:
    """Runs the script of `seed`; returns its trace, a line for each phase."""
    player = Player(loop)
    loop.run_until_complete(player.drive(*write_script(seed)))
    return player.trace


class Plain(asyncio.Protocol):
    """Tells the player what it is told."""

    def __init__(self, player: "Player") -> None:
        self.player = player

    def connection_made(self, transport: Any) -> None:
        self.player.transport = transport
        self.player.note("made")

    def data_received(self, data: bytes) -> None:
        self.player.received += data
        self.player.note("data")

    def eof_received(self) -> bool:
        self.player.has_ended = True
        self.player.note("eof")
        return self.player.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.player.lost = True
        self.player.broke |= exc is not None
        self.player.note("lost", describe(exc))

    def pause_writing(self) -> None:
        self.player.note("pause")

    def resume_writing(self) -> None:
        self.player.note("resume")


class Buffered(Plain, asyncio.BufferedProtocol):
    """The same with a buffer."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(1 << 16)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.player.received += self.buffer[:nbytes]
        self.player.note("data")


def describe(error: BaseException | None) -> str:
    """A broken connection is one error: whether reading or writing met it first is timing."""
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "broken"
    return type(error).__name__


class Player:
    """Runs one script on one loop and keeps the trace."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.trace: list[str] = []
        self.events: list[str] = []
        self.received = bytearray()
        self.lost = self.ended = self.broke = self.keep_open = False
        self.transport: Any = None
        self.sent = bytearray()  # what the peer must get, as long as nothing breaks
        self.peer_got = bytearray()
        self.peer_open = True
        self.peer_ended = self.has_ended = False
        self.peer_sent = self.number = 0
        loop.set_exception_handler(self.report)

    def report(self, _loop: Any, context: dict[str, Any]) -> None:
        if isinstance(context["exception"], AttributeError):
            return  # asyncio's own: until 3.13 a callback of a transport that was closed meanwhile
        self.events.append(f"REPORT {context['message'][:30]} {describe(context['exception'])}")

    def note(self, name: str, *words: str) -> None:
        """Writes the callback down, data once in a row, and reacts as the script says."""
        assert not self.ended, f"{name} after connection_lost"
        self.ended = name == "lost"
        if name != "data" or self.events[-1:] != ["data"]:
            self.events.append(" ".join((name, *words)))
        reactions = self.reactions.get(name)
        if reactions:
            for step in reactions.pop(0):
                self.take(step, name)

    # The driver

    async def drive(self, phases: list[list[Step]], reactions: dict[str, list[list[Step]]]) -> None:
        self.reactions = reactions
        ours, theirs = tcp_pair()
        for sock in (ours, theirs):
            sock.setsockopt(1, 7, 1 << 16)  # SOL_SOCKET, SO_SNDBUF
            sock.setsockopt(1, 8, 1 << 16)  # SO_RCVBUF
        self.peer = Peer(theirs)
        self.keep_open = len(phases) % 2 == 0
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Plain(self), sock=ours)
        for number, phase in enumerate(phases):
            for step in phase:
                if step[0].startswith("peer_"):
                    await self.act(step)
                else:
                    self.take(step, "script")
            await self.rest()
            self.close_phase(str(number))
        await self.finish()

    def close_phase(self, name: str) -> None:
        self.trace.append(f"{name}: {', '.join(self.events)} | {len(self.received)} received")
        self.events.clear()

    async def rest(self) -> None:
        """Until nothing has happened for two milliseconds, and nothing more must happen."""
        before = None
        for _ in range(200):
            now = len(self.events), len(self.received)
            if now == before and not self.more_must_come():
                break
            before = now
            await a_while(0.002)

    def more_must_come(self) -> bool:
        """The peer has done something that a transport that reads has not yet told."""
        if self.lost or not self.transport.is_reading():
            return False
        told_of_end = self.has_ended or not self.peer_ended
        return len(self.received) < self.peer_sent or not told_of_end

    async def finish(self) -> None:
        """Ends both sides in good order; what has arrived at the peer is part of the trace."""
        self.reactions = {}
        if self.peer_open:
            self.do_resume(self.transport, 0, 0, "script")
            await self.rest()
            self.transport.close()
            await self.drain(to_the_end=True)
        else:
            self.transport.abort()
        await until(lambda: self.lost)
        self.peer.close()
        await self.rest()
        self.close_phase("end")

    # The peer

    async def act(self, step: Step) -> None:
        if not self.peer_open:
            return
        await self.act_at_once(*step)
        # A busy kernel delivers a little later; the loop does not run meanwhile.
        time.sleep(0.0002)

    async def act_at_once(self, name: str, size: int, chance: float) -> None:
        if name == "peer_send":
            with contextlib.suppress(OSError):  # the transport's end is gone already
                self.peer_sent += self.peer.sock.send(self.data(size))
        elif name == "peer_drain":
            await self.drain()
        elif name == "peer_shutdown":
            self.peer_ended = True
            with contextlib.suppress(OSError):
                self.peer.shutdown()
        elif chance < 0.35:  # resets and closes end the game: only some of them are carried out
            self.peer_open, self.peer_ended = False, True
            self.peer.reset() if name == "peer_reset" else self.peer.close()

    async def drain(self, *, to_the_end: bool = False) -> None:
        """Reads all that the transport has to send."""
        ended = None

        def take() -> object:
            nonlocal ended
            try:
                while data := self.peer.sock.recv(1 << 20):
                    self.peer_got.extend(data)
                whole = len(self.peer_got) == len(self.sent)
                # How much of it the kernel had when the rest was dropped is timing.
                ended = f"eof, {'all' if whole else 'part' if self.broke else len(self.peer_got)}"
                assert self.sent.startswith(self.peer_got)
            except BlockingIOError:
                closing = self.transport.is_closing() or to_the_end
                return not closing and len(self.peer_got) >= len(self.sent)
            except OSError:
                ended = "broken"
            return ended

        await until(take)
        if to_the_end:
            assert self.sent.startswith(self.peer_got)
            self.events.append(f"peer {ended}")

    # The transport

    def data(self, size: int) -> bytes:
        self.number += 1
        return b"%d." % self.number + bytes(size)

    def take(self, step: Step, where: str) -> None:
        """One call on the transport; errors are part of the trace."""
        name, size, chance = step
        transport = self.transport
        if name == "fail":
            raise Boom
        try:
            getattr(self, "do_" + name)(transport, size, chance, where)
        except Exception as error:
            self.events.append(f"{name} raises {type(error).__name__}")

    def send(self, method: Any, data: bytes, *args: Any) -> None:
        """Counts what was written: the peer gets a beginning of it, or all."""
        self.sent += data
        try:
            method(*args or (data,))
        except Exception:
            del self.sent[len(self.sent) - len(data) :]
            raise

    def do_write(self, transport: Any, size: int, chance: float, where: str) -> None:
        kind = (bytes, bytearray, memoryview)[size % 3]
        data = self.data(size)
        self.send(transport.write, data, kind(data))

    def do_big(self, transport: Any, size: int, chance: float, where: str) -> None:
        self.send(transport.write, self.data(BIG + size))

    def do_writelines(self, transport: Any, size: int, chance: float, where: str) -> None:
        pieces = [self.data(size), self.data(1 if chance < 0.9 else BIG), bytearray(self.data(2))]
        if WRITELINES_BROKEN:
            self.send(transport.write, b"".join(pieces))
        else:
            self.send(transport.writelines, b"".join(pieces), pieces)

    def do_pause(self, transport: Any, size: int, chance: float, where: str) -> None:
        if PAUSE_IN_MADE or where != "made":
            transport.pause_reading()

    def do_resume(self, transport: Any, size: int, chance: float, where: str) -> None:
        # asyncio would call eof_received a second time after the end of the stream.
        if not self.has_ended:
            transport.resume_reading()

    def do_write_eof(self, transport: Any, size: int, chance: float, where: str) -> None:
        if chance < 0.6:
            transport.write_eof()

    def do_close(self, transport: Any, size: int, chance: float, where: str) -> None:
        if chance < 0.25:
            transport.close()
            self.events.append("closed")

    def do_abort(self, transport: Any, size: int, chance: float, where: str) -> None:
        if chance < 0.3:
            transport.abort()
            self.broke = True
            self.events.append("aborted")

    def do_set_protocol(self, transport: Any, size: int, chance: float, where: str) -> None:
        if not self.lost:
            transport.set_protocol((Plain, Buffered)[size % 2](self))

    def do_limits(self, transport: Any, size: int, chance: float, where: str) -> None:
        transport.set_write_buffer_limits(high=size * 100)

    def do_look(self, transport: Any, size: int, chance: float, where: str) -> None:
        waiting = transport.get_write_buffer_size() > 0
        state = transport.is_closing(), transport.is_reading(), waiting
        self.events.append(f"look {state}")
