//! Interned attribute names and cached imports: looked up once, at import of the extension.
//!
//! Every module above asks `names(py)`; nothing here changes afterwards, so any thread may read it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

macro_rules! names {
    (strings { $($field:ident = $text:literal),* $(,)? } imports { $($import:ident = $module:literal . $name:literal),* $(,)? }) => {
        /// Strings are interned; imports are asyncio's own objects.
        pub(crate) struct Names {
            $(pub(crate) $field: Py<PyString>,)*
            $(pub(crate) $import: Py<PyAny>,)*
        }

        impl Names {
            fn load(py: Python<'_>) -> PyResult<Self> {
                Ok(Names {
                    $($field: PyString::intern(py, $text).unbind(),)*
                    $($import: import(py, $module, $name)?,)*
                })
            }
        }
    };
}

names! {
    strings {
        add_done_callback = "add_done_callback",
        asyncio_future_blocking = "_asyncio_future_blocking",
        call_exception_handler = "call_exception_handler",
        call_soon = "call_soon",
        create_future = "create_future",
        done = "done",
        cancel = "cancel",
        context = "context",
        eager_start = "eager_start",
        exception = "exception",
        fileno = "fileno",
        future = "future",
        get_debug = "get_debug",
        get_loop = "get_loop",
        handle = "handle",
        is_running = "is_running",
        limit = "limit",
        file = "file",
        loop_ = "loop",
        message = "message",
        msg = "msg",
        name = "name",
        coro = "coro",
        private_loop = "_loop",
        private_transports = "_transports",
        private_callback = "_callback",
        result = "result",
        source_traceback = "source_traceback",
        task = "task",
        throw = "throw",
        time = "time",
        value = "value",
        warning = "warning",
        addr = "addr",
        attach = "_attach",
        buffer_updated = "buffer_updated",
        cancelled = "cancelled",
        close = "close",
        connection_lost = "connection_lost",
        connection_made = "connection_made",
        data_received = "data_received",
        datagram_received = "datagram_received",
        debug = "debug",
        default = "default",
        detach = "_detach",
        eof_received = "eof_received",
        error_received = "error_received",
        get_buffer = "get_buffer",
        high = "high",
        low = "low",
        pause_writing = "pause_writing",
        feed_data = "feed_data",
        private_buffer = "_buffer",
        private_limit = "_limit",
        private_waiter = "_waiter",
        stream_reader_ref = "_stream_reader_wr",
        peername = "peername",
        protocol = "protocol",
        resume_writing = "resume_writing",
        set_exception = "set_exception",
        set_result = "set_result",
        sockname = "sockname",
        socket = "socket",
        transport = "transport",
        wakeup = "_wakeup",
        step = "_step",
        accept = "accept",
        connect = "connect",
        getsockopt = "getsockopt",
        gettimeout = "gettimeout",
        recv = "recv",
        recv_into = "recv_into",
        recvfrom = "recvfrom",
        recvfrom_into = "recvfrom_into",
        send = "send",
        sendto = "sendto",
        setblocking = "setblocking",
        task_context = "_context",
    }
    imports {
        future_class = "asyncio"."Future",
        task_class = "asyncio"."Task",
        handle_class = "asyncio"."Handle",
        timer_handle_class = "asyncio"."TimerHandle",
        cancelled_error = "asyncio"."CancelledError",
        invalid_state_error = "asyncio"."InvalidStateError",
        is_coroutine = "asyncio.coroutines"."iscoroutine",
        extract_stack = "asyncio.format_helpers"."extract_stack",
        format_callback_source = "asyncio.format_helpers"."_format_callback_source",
        task_get_stack = "asyncio.base_tasks"."_task_get_stack",
        task_print_stack = "asyncio.base_tasks"."_task_print_stack",
        current_frame = "sys"."_getframe",
        logger = "asyncio.log"."logger",
        strerror = "os"."strerror",
        audit = "sys"."audit",
        af_inet = "socket"."AF_INET",
        af_inet6 = "socket"."AF_INET6",
        sock_stream = "socket"."SOCK_STREAM",
        sock_dgram = "socket"."SOCK_DGRAM",
        sock_raw = "socket"."SOCK_RAW",
        sock_seqpacket = "socket"."SOCK_SEQPACKET",
        gaierror = "socket"."gaierror",
        fsdecode = "os"."fsdecode",
        check_ssl_socket = "asyncio.base_events"."_check_ssl_socket",
        socket_class = "socket"."socket",
        socket_base = "_socket"."socket",
        socket_family = "_socket"."socket.family",
        socket_type = "_socket"."socket.type",
        socket_proto = "_socket"."socket.proto",
        transport_socket = "asyncio.trsock"."TransportSocket",
        buffered_protocol = "asyncio.protocols"."BufferedProtocol",
        flow_control_mixin = "asyncio.transports"."_FlowControlMixin",
        read_transport = "asyncio.transports"."ReadTransport",
        fallback_sendfile = "asyncio.constants"."_SendfileMode.FALLBACK",
        ssl_transport = "asyncio.sslproto"."_SSLProtocolTransport",
        try_native_sendfile = "asyncio.constants"."_SendfileMode.TRY_NATIVE",
    }
}

/// `module.name`, which may have dots.
fn import(py: Python<'_>, module: &str, name: &str) -> PyResult<Py<PyAny>> {
    let mut object = py.import(module)?.into_any();
    for part in name.split('.') {
        object = object.getattr(part)?;
    }
    Ok(object.unbind())
}

/// Imports asyncio. Called once, before any class is made.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    NAMES.get_or_try_init(py, || Names::load(py)).map(|_| ())
}

#[inline]
pub(crate) fn names(py: Python<'_>) -> &'static Names {
    NAMES.get(py).expect("names are loaded before the module has any class")
}

/// `sys._getframe()` of the Python code that called us, formatted: what debug mode keeps of an object's origin.
pub(crate) fn extract_stack(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let names = names(py);
    let frame = names
        .current_frame
        .bind(py)
        .call1((0,))
        .map_err(|error| PyRuntimeError::new_err(format!("no Python frame to take a stack from: {error}")))?;
    names.extract_stack.bind(py).call1((frame,))
}
