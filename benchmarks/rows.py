"""What is measured, and against what: the rows of the results and the loops that are compared.

A row is measured in one of three ways: an operation of `operations.py`, in a process of its own; a
server of `servers.py` under load from another process; or the start of a process (`startup.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

# Name -> factory. "limit" is native/limit.c, a server in C: what the machine can do without Python.
LOOPS = {
    "asyncio": "asyncio:new_event_loop",
    "uvloop": "uvloop:new_event_loop",
    "uvloop+aiofastnet": "benchmarks.worker:aiofastnet_on_uvloop",
    "rloop": "rloop:new_event_loop",
    "mioloop": "mioloop:new_event_loop",
}
LIMIT = "limit"
# aiofastnet replaces transports and `sock_*`; on the other rows this pair is uvloop.
NETWORK_ONLY = ("uvloop+aiofastnet",)
REFERENCE = "uvloop"
OURS = "mioloop"

KIB = 1024


@dataclass(frozen=True)
class Row:
    """One line of the results."""

    name: str
    group: str
    title: str
    unit: str = "/s"
    operation: str = ""  # a function of operations.py
    server: str = ""  # a kind of servers.py
    load: str = ""  # how the load generator is called: echo, http, connect, idle
    limit: str = ""  # the kind of native/limit.c that does the same
    connections: int = 10
    size: int = KIB
    most_rounds: int = 1000

    @property
    def network(self) -> bool:
        """Whether a server and its transports are what is measured."""
        return bool(self.server)


def operations(group: str, titles: dict[str, str]) -> list[Row]:
    """Rows of operations.py."""
    return [Row(name, group, title, operation=name) for name, title in titles.items()]


def echo(group: str, kinds: dict[str, str], limit: str, *sizes_kib: int) -> list[Row]:
    """Rows of echo servers, in each size."""
    return [
        Row(
            f"{server}_{size}k",
            group,
            f"{title}, {size} KiB",
            server=server,
            load="echo",
            limit=limit,
            size=size * KIB,
        )
        for server, title in kinds.items()
        for size in sizes_kib
    ]


def http(server: str, *connections: int) -> list[Row]:
    """Rows of one HTTP server."""
    return [
        Row(
            f"{server}_{count}",
            "HTTP",
            f"{server}, {count} connections",
            server=server,
            load="http",
            limit="http",
            connections=count,
        )
        for count in connections
    ]


ROWS = [
    *operations(
        "Tasks and futures",
        {
            "create_task": "create_task and await",
            "gather": "gather of 10,000",
            "task_group": "TaskGroup of 1,000",
            "sleep0": "sleep(0), one task",
            "sleep0_100": "sleep(0), 100 tasks",
            "future": "two tasks, one future at a time",
            "queue": "Queue(1), put and get",
            "lock": "Lock, 10 tasks",
            "wait_for": "wait_for",
            "timeout": "async with timeout",
        },
    ),
    *operations(
        "Callbacks and timers",
        {
            "call_soon": "call_soon",
            "call_later": "call_later, fires",
            "call_later_cancel": "call_later and cancel",
            "call_soon_threadsafe": "call_soon_threadsafe",
            "wake_up": "a thread wakes the loop",
            "run_in_executor": "run_in_executor",
        },
    ),
    *echo(
        "TCP echo",
        {
            "tcp_protocol": "Protocol",
            "tcp_buffered": "BufferedProtocol",
            "tcp_streams": "streams",
            "tcp_sock": "sock_recv, sock_sendall",
        },
        "tcp",
        1,
        100,
    ),
    *echo("TLS echo", {"tls_protocol": "Protocol", "tls_streams": "streams"}, "tls", 1, 100),
    *echo("Unix and UDP echo", {"unix_protocol": "Unix, Protocol"}, "unix", 1),
    *echo("Unix and UDP echo", {"unix_streams": "Unix, streams"}, "unix", 1),
    *echo("Unix and UDP echo", {"udp": "UDP"}, "udp", 1),
    *http("uvicorn", 10, 64),
    *http("aiohttp", 10, 64),
    Row(
        "connect",
        "Connections and processes",
        "TCP connections",
        server="tcp_protocol",
        load="connect",
        limit="tcp",
        connections=32,
        size=64,
    ),
    *operations(
        "Connections and processes",
        {"getaddrinfo": "getaddrinfo, localhost", "subprocess": "create_subprocess_exec and wait"},
    ),
    Row(
        "idle_connection",
        "Memory and start",
        "memory of an idle connection",
        "B",
        server="tcp_protocol",
        load="idle",
        limit="tcp",
        connections=5000,
        size=64,
        most_rounds=3,
    ),
    Row("idle_process", "Memory and start", "memory of an idle process", "MiB"),
    Row("start", "Memory and start", "import, make a loop, run", "ms"),
]


def lower_is_better(unit: str) -> bool:
    """Whether a row in this unit counts what is spent, not what is done."""
    return unit != "/s"


def loops_for(row: Row, names: list[str]) -> list[str]:
    """Those of the loops that have something of their own to show in a row."""
    return [
        name
        for name in names
        if (row.limit if name == LIMIT else row.network or name not in NETWORK_ONLY)
    ]
