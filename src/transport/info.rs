//! `get_extra_info`, and the socket that a transport owns.
//!
//! A connection that a server accepted has no Python socket until somebody asks for one; then that object owns the
//! descriptor. One that the caller handed in stays the owner throughout. Addresses are asked of the kernel when they are
//! wanted, and kept.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustix::net::{SocketFlags, getpeername, getsockname};

use super::{Kind, Transport};
use crate::address::Address;
use crate::py::class::{Stop, This, Visit};
use crate::py::descriptor::Descriptor;
use crate::py::method::same_name;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::socket::SocketKind;

/// Who owns the descriptor.
pub(crate) enum Socket {
    /// Accepted by us; nobody has seen it.
    Accepted { fd: OwnedFd, kind: SocketKind },
    /// A Python socket.
    Python(Owned),
    /// It was a Python socket.
    Closed(Owned),
    /// Nobody ever saw it.
    ClosedUnseen(SocketKind),
}

const NO_KIND: SocketKind = SocketKind { family: 0, type_: 0, protocol: 0 };

/// What `get_extra_info` knows. Loop thread only.
pub(crate) struct Info {
    pub(super) socket: Socket,
    /// What the maker of the transport gave, a dict; what others store in `_extra` goes there too.
    pub(crate) given: Option<Owned>,
    /// `socket`: a TransportSocket.
    shown: Option<Owned>,
    sockname: Name,
    peername: Name,
}

/// The addresses of an accepted connection, as far as they are known.
pub(crate) struct Names {
    pub(crate) local: Option<Address>,
    pub(crate) peer: Option<Address>,
}

/// An address that may not have been asked for yet.
enum Name {
    Unknown,
    Known(Address),
    /// As a Python object: None where there is no such address.
    Shown(Owned),
}

impl Info {
    /// An accepted connection.
    pub(crate) fn accepted(fd: OwnedFd, kind: SocketKind, names: Names) -> Info {
        let mut info = Info::new(Socket::Accepted { fd, kind }, names.peer);
        if let Some(local) = names.local {
            info.sockname = Name::Known(local);
        }
        info
    }

    /// Nobody but the transport can have the descriptor.
    pub(super) fn is_unseen(&self) -> bool {
        matches!(self.socket, Socket::Accepted { .. })
    }

    /// A Python socket. The peer's address is asked for at once: it cannot be when the peer has gone.
    pub(super) fn of_socket(socket: Owned, fd: Descriptor) -> Info {
        Info::new(Socket::Python(socket), getpeername(fd).ok().flatten().and_then(|address| Address::of(&address)))
    }

    /// A file object. It is all that is known of a pipe.
    pub(super) fn of_pipe(file: Owned, given: Owned) -> Info {
        Info { given: Some(given), ..Info::new(Socket::Python(file), None) }
    }

    fn new(socket: Socket, peer: Option<Address>) -> Info {
        let peername = peer.map_or(Name::Unknown, Name::Known);
        Info { socket, given: None, shown: None, sockname: Name::Unknown, peername }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.socket, Socket::Closed(_) | Socket::ClosedUnseen(_))
    }

    /// Closes the descriptor, or gives the Python socket that must be told to.
    pub(super) fn close(&mut self, py: Python<'_>) -> Option<Owned> {
        match &self.socket {
            Socket::Python(socket) => {
                let (kept, told) = (socket.clone_ref(py), socket.clone_ref(py));
                // Its former place held the same object, which lives on.
                let _ = std::mem::replace(&mut self.socket, Socket::Closed(kept));
                Some(told)
            }
            Socket::Accepted { kind, .. } => {
                self.socket = Socket::ClosedUnseen(*kind);
                None
            }
            Socket::Closed(_) | Socket::ClosedUnseen(_) => None,
        }
    }

    /// The descriptor was closed by somebody else, and its number is another's: it must not be closed again. Gives the
    /// Python socket that must be told so.
    pub(super) fn disown(&mut self, py: Python<'_>) -> Option<Owned> {
        match std::mem::replace(&mut self.socket, Socket::ClosedUnseen(NO_KIND)) {
            Socket::Accepted { fd, kind } => {
                let _not_ours = fd.into_raw_fd();
                self.socket = Socket::ClosedUnseen(kind);
                None
            }
            Socket::Python(socket) => {
                let told = socket.clone_ref(py);
                self.socket = Socket::Closed(socket);
                Some(told)
            }
            closed => {
                self.socket = closed;
                None
            }
        }
    }

    /// The last moment to ask for the address of a socket that will be closed.
    pub(super) fn keep_sockname(&mut self, fd: Descriptor) {
        if matches!(self.sockname, Name::Unknown)
            && !self.is_closed()
            && let Some(address) = getsockname(fd).ok().and_then(|address| Address::of(&address))
        {
            self.sockname = Name::Known(address);
        }
    }

    fn name(&mut self, which: Which) -> &mut Name {
        match which {
            Which::Local => &mut self.sockname,
            Which::Peer => &mut self.peername,
        }
    }

    pub(super) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        visit.option(&self.given)?;
        visit.option(&self.shown)?;
        if let Socket::Python(socket) | Socket::Closed(socket) = &self.socket {
            visit.object(socket)?;
        }
        for name in [&self.sockname, &self.peername] {
            if let Name::Shown(name) = name {
                visit.object(name)?;
            }
        }
        Ok(())
    }

    /// The socket stays: it is closed by its owner's end.
    pub(super) fn take_references(&mut self) -> Vec<Owned> {
        self.given.take().into_iter().chain(self.shown.take()).collect()
    }
}

/// A Python socket for a descriptor that does not block, which becomes its own.
pub(crate) fn python_socket(py: Python<'_>, fd: RawFd, kind: SocketKind) -> PyResult<Bound<'_, PyAny>> {
    // The flag tells `socket.socket` that it does not block.
    let type_ = kind.type_ | SocketFlags::NONBLOCK.bits().cast_signed();
    let keywords = PyDict::new(py);
    keywords.set_item("fileno", fd)?;
    names(py).socket_class.bind(py).call((kind.family, type_, kind.protocol), Some(&keywords))
}

#[derive(Clone, Copy)]
enum Which {
    Local,
    Peer,
}

impl<'py, K: Kind> This<'_, 'py, Transport<K>> {
    /// `get_extra_info(name)`; None if there is no such information.
    pub(super) fn extra_info(&self, name: Borrowed<'_, 'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py();
        let given = self.state.open(py).info.given.as_ref().map(|given| given.clone_ref(py));
        if let Some(given) = given
            && let Some(value) = given.bind(py).cast::<PyDict>()?.get_item(name)?
        {
            return Ok(Some(value));
        }
        let names = names(py);
        if K::IS_PIPE || !name.is_instance_of::<PyString>() {
            return Ok(None);
        }
        if same_name(name, &names.socket)? {
            return self.transport_socket().map(Some);
        }
        if same_name(name, &names.peername)? {
            return self.address(Which::Peer).map(Some);
        }
        if same_name(name, &names.sockname)? {
            return self.address(Which::Local).map(Some);
        }
        Ok(None)
    }

    /// `_extra`: a dict of everything, which the caller may add to.
    pub(super) fn extra(&self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let given = self.state.open(py).info.given.as_ref().map(|given| given.clone_ref(py));
        let dict = match given {
            Some(given) => given.into_bound(py).cast_into::<PyDict>()?,
            None => PyDict::new(py),
        };
        for name in [&names(py).socket, &names(py).sockname, &names(py).peername] {
            if !K::IS_PIPE
                && !dict.contains(name)?
                && let Some(value) = self.extra_info(name.bind(py).as_any().as_borrowed())?
            {
                dict.set_item(name, value)?;
            }
        }
        let old = self.state.open(py).info.given.replace(Owned::new(dict.clone().into_any()));
        drop(old);
        Ok(dict.into_any())
    }

    fn address(&self, which: Which) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let (known, fd, closed) = {
            let mut state = self.state.open(py);
            let (fd, closed) = (state.fd, state.info.is_closed());
            let known = match state.info.name(which) {
                Name::Shown(shown) => return Ok(shown.clone_ref(py).into_bound(py)),
                Name::Known(address) => Some(address.clone()),
                Name::Unknown => None,
            };
            (known, fd, closed)
        };
        let shown = match known {
            Some(address) => address.to_python(py)?,
            None if closed => py.None().into_bound(py),
            None => self.ask_for_address(which, fd)?,
        };
        let name = Name::Shown(Owned::new(shown.clone()));
        let old = std::mem::replace(self.state.open(py).info.name(which), name);
        drop(old);
        Ok(shown)
    }

    /// None if the socket has no such address.
    fn ask_for_address(&self, which: Which, fd: Descriptor) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let address = match which {
            Which::Local => getsockname(fd).map(Some),
            Which::Peer => getpeername(fd),
        };
        let Ok(Some(address)) = address else { return Ok(py.None().into_bound(py)) };
        if let Some(address) = Address::of(&address) {
            return address.to_python(py);
        }
        let method = match which {
            Which::Local => "getsockname",
            Which::Peer => "getpeername",
        };
        self.socket()?.call_method0(method)
    }

    fn transport_socket(&self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let shown = self.state.open(py).info.shown.as_ref().map(|shown| shown.clone_ref(py));
        if let Some(shown) = shown {
            return Ok(shown.into_bound(py));
        }
        let socket = self.socket_or_closed()?;
        let shown = names(py).transport_socket.bind(py).call1((socket,))?;
        let old = self.state.open(py).info.shown.replace(Owned::new(shown.clone()));
        drop(old);
        Ok(shown)
    }

    /// As `socket`; once it is closed, a closed one.
    fn socket_or_closed(&self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let state = self.state.open(py);
        let kind = match &state.info.socket {
            Socket::Closed(socket) => return Ok(socket.clone_ref(py).into_bound(py)),
            Socket::ClosedUnseen(kind) => *kind,
            Socket::Accepted { .. } | Socket::Python(_) => {
                drop(state);
                return self.socket();
            }
        };
        drop(state);
        let socket = names(py).socket_class.bind(py).call1((kind.family, kind.type_, kind.protocol))?;
        socket.call_method0(&names(py).close)?;
        Ok(socket)
    }

    /// The Python socket, made now if there is none yet; None once it is closed.
    pub(super) fn socket(&self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let (number, kind) = {
            let state = self.state.open(py);
            match &state.info.socket {
                Socket::Python(socket) => return Ok(socket.clone_ref(py).into_bound(py)),
                Socket::Closed(_) | Socket::ClosedUnseen(_) => return Ok(py.None().into_bound(py)),
                Socket::Accepted { fd, kind } => (fd.as_raw_fd(), *kind),
            }
        };
        let socket = python_socket(py, number, kind)?;
        let made = Socket::Python(Owned::new(socket.clone()));
        let accepted = std::mem::replace(&mut self.state.open(py).info.socket, made);
        match accepted {
            // From here on the Python object owns it.
            Socket::Accepted { fd, .. } => drop(fd.into_raw_fd()),
            // Somebody else was faster, in code that the constructor ran.
            other => {
                socket.call_method0("detach")?;
                let made = std::mem::replace(&mut self.state.open(py).info.socket, other);
                drop(made);
                return self.socket();
            }
        }
        Ok(socket)
    }
}
