"""`Hooks`: the private methods that asyncio's own functions call on a loop.

`Loop` borrows asyncio's set-up code (see `_borrow`), and servers and the TLS protocol are
asyncio's as well. What they ask of `self` is here, unless it is native: made by us where
transports come into being, asyncio's own function otherwise. The names, and which of them a version
uses, are asyncio's. Users never call anything of this file.
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop
from asyncio.selector_events import BaseSelectorEventLoop
from asyncio.unix_events import _UnixSelectorEventLoop
from weakref import WeakValueDictionary

from . import _selector_transports, _sendfile, _serve, _subprocess, _tls

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from typing import Any, ClassVar

_Base: Any = BaseEventLoop
_Selector: Any = BaseSelectorEventLoop
_Unix: Any = _UnixSelectorEventLoop


class Hooks:
    """Base class of `Loop`; it has no state."""

    __slots__ = ()

    # Where transports are made.
    _make_ssl_transport = _tls.make_ssl_transport
    _make_subprocess_transport = _subprocess.make_subprocess_transport

    _make_selector_stream_transport = _selector_transports.make_stream_transport
    _make_selector_datagram_transport = _selector_transports.make_datagram_transport
    # Where these put themselves, by descriptor: a process has each number once.
    _transports: ClassVar[WeakValueDictionary[int, Any]] = WeakValueDictionary()

    # Connecting and serving.
    _ensure_resolved = _Base._ensure_resolved
    _getaddrinfo_debug = _Base._getaddrinfo_debug
    _connect_sock = _Base._connect_sock
    _create_connection_transport = _Base._create_connection_transport
    _create_server_getaddrinfo = _Base._create_server_getaddrinfo
    _start_serving = _serve.start_serving
    _start_serving_by_method = _Selector._start_serving
    _accept_connection = _Selector._accept_connection
    _accept_connection2 = _Selector._accept_connection2
    _stop_serving = _serve.stop_serving

    # Child processes.
    _log_subprocess = _Base._log_subprocess

    # Sending files.
    _check_sendfile_params = _Base._check_sendfile_params
    _sendfile_native = _sendfile.sendfile_native
    _sendfile_fallback = _Base._sendfile_fallback
    _sock_sendfile_native = _Unix._sock_sendfile_native
    _sock_sendfile_native_impl = _Unix._sock_sendfile_native_impl
    _sock_sendfile_update_filepos = _Unix._sock_sendfile_update_filepos
    _sock_add_cancellation_callback = _Unix._sock_add_cancellation_callback
    _sock_sendfile_fallback = _Base._sock_sendfile_fallback
