//! Connections that are made, used for one echo and closed, over and over.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketType};

use crate::exchange::pattern;
use crate::failure::Failure;
use crate::options::{Address, Options};
use crate::window::Window;

const POLL: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Opens connections, from many local addresses: a port stays taken for a minute after its
/// connection was closed, and one address has not enough of them.
struct Source {
    server: SocketAddrV4,
    opened: u32,
}

/// A connection under way.
struct Visit {
    file: File,
    began: Instant,
    received: usize,
}

pub(crate) fn run(options: &Options) -> Result<String, Failure> {
    let Address::Tcp(std::net::SocketAddr::V4(server)) = options.address else {
        return Err(Failure::usage("connect needs a tcp: address"));
    };
    let message = pattern(options.size);
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut source = Source { server, opened: 0 };
    let mut visits = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        visits.push(source.open(&poller, number, &message)?);
    }
    let mut window = Window::open(options);
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    while window.is_open()? {
        events.clear();
        epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), Some(&POLL))?;
        for event in &events {
            let number = event.data.u64() as usize;
            let visit = &mut visits[number];
            if visit.receive(&mut buffer, &message)? {
                window.answered(visit.began);
                *visit = source.open(&poller, number, &message)?;
            }
        }
    }
    Ok(window.report())
}

impl Source {
    fn open(&mut self, poller: &impl std::os::fd::AsFd, number: usize, message: &[u8]) -> Result<Visit, Failure> {
        let began = Instant::now();
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        self.opened = self.opened.wrapping_add(1);
        let own = Ipv4Addr::new(127, 0, 0, 2 + (self.opened % 100) as u8);
        rustix::net::bind(&socket, &SocketAddrV4::new(own, 0))?;
        // On the machine's own addresses the kernel answers at once.
        rustix::net::connect(&socket, &self.server)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let mut file = File::from(socket);
        file.write_all(message)?;
        epoll::add(poller, &file, EventData::new_u64(number as u64), EventFlags::IN)?;
        Ok(Visit { file, began, received: 0 })
    }
}

impl Visit {
    /// Reads what is there; true if the message is back.
    fn receive(&mut self, buffer: &mut [u8], message: &[u8]) -> Result<bool, Failure> {
        let count = match self.file.read(buffer) {
            Ok(0) => return Err(Failure::broken("the server closed a connection")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let end = self.received + count;
        if message.get(self.received..end) != Some(&buffer[..count]) {
            return Err(Failure::wrong_answer("other bytes came back than were sent"));
        }
        self.received = end;
        Ok(end == message.len())
    }
}
