//! One connection to the server, plain or TLS. Reads and writes never block.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::failure::Failure;
use crate::options::{Address, Options};

/// Makes connections.
pub(crate) struct Connector {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let tls = options.tls.as_deref().map(tls_config).transpose()?;
        Ok(Self { address: options.address.clone(), tls })
    }

    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        // A descriptor of any kind is read and written as a file.
        let mut file = File::from(self.dial()?);
        let tls = match &self.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(|error| Failure::usage(error.to_string()))?;
                let mut tls = ClientConnection::new(config.clone(), name)?;
                // Everything that is written waits here until the socket takes it.
                tls.set_buffer_limit(None);
                while tls.is_handshaking() {
                    tls.complete_io(&mut file)?;
                }
                Some(tls)
            }
        };
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Connection { file, tls })
    }

    fn dial(&self) -> io::Result<OwnedFd> {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Address::Udp(address) => {
                let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                socket.connect(address)?;
                Ok(socket.into())
            }
            Address::Unix(path) => Ok(UnixStream::connect(path)?.into()),
        }
    }
}

fn tls_config(authority: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let certificate = CertificateDer::from_pem_file(authority)
        .map_err(|error| Failure::usage(format!("{}: {error}", authority.display())))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

pub(crate) struct Connection {
    file: File,
    tls: Option<ClientConnection>,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Connection {
    /// How much of `data` was taken: 0 if the socket is full.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<usize, Failure> {
        match &mut self.tls {
            None => Ok(unless_blocked(self.file.write(data))?.unwrap_or(0)),
            Some(tls) => {
                let taken = tls.writer().write(data)?;
                self.flush()?;
                Ok(taken)
            }
        }
    }

    /// Whether nothing waits to be written.
    pub(crate) fn flush(&mut self) -> Result<bool, Failure> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            if unless_blocked(tls.write_tls(&mut self.file))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What has come; None if nothing is there.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
        let got = match &mut self.tls {
            None => unless_blocked(self.file.read(buffer))?,
            Some(tls) => loop {
                if let Some(count) = unless_blocked(tls.reader().read(buffer))? {
                    break Some(count);
                }
                match unless_blocked(tls.read_tls(&mut self.file))? {
                    None => break None,
                    Some(0) => break Some(0),
                    Some(_) => tls.process_new_packets()?,
                };
            },
        };
        match got {
            Some(0) => Err(Failure::broken("the server closed a connection")),
            other => Ok(other),
        }
    }
}

fn unless_blocked(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
