//! Connections that stay open, each with one request on its way all the time.

use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::connection::{Connection, Connector};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::options::{Address, Mode, Options};
use crate::window::Window;

const POLL: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const DATAGRAM_IS_LOST: Duration = Duration::from_millis(200);

/// A connection and the request that is on its way.
struct Caller {
    connection: Connection,
    exchange: Exchange,
    unsent: usize,
    sent_at: Instant,
    waits_to_write: bool,
}

pub(crate) fn run(options: &Options) -> Result<String, Failure> {
    let connector = Connector::new(options)?;
    let datagrams = matches!(options.address, Address::Udp(_));
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut callers = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        let exchange = if options.mode == Mode::Http { Exchange::http() } else { Exchange::echo(number, options.size) };
        let connection = connector.connect()?;
        epoll::add(&poller, &connection, EventData::new_u64(number as u64), EventFlags::IN)?;
        callers.push(Caller { connection, exchange, unsent: 0, sent_at: Instant::now(), waits_to_write: false });
    }
    let mut window = Window::open(options);
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.begin();
        caller.send(&poller, number)?;
    }
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 512 * 1024];
    while window.is_open()? {
        events.clear();
        let count = epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), Some(&POLL))?;
        // The kernel's structure is packed: its fields are taken by value.
        for &epoll::Event { flags, data } in &events {
            let number = data.u64() as usize;
            let caller = &mut callers[number];
            if flags.contains(EventFlags::OUT) {
                caller.send(&poller, number)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP)
                && caller.receive(&mut buffer, datagrams)?
            {
                caller.sent_at = window.answered(caller.sent_at);
                caller.begin();
                caller.send(&poller, number)?;
            }
        }
        if datagrams && count == 0 {
            for (number, caller) in callers.iter_mut().enumerate() {
                if caller.sent_at.elapsed() > DATAGRAM_IS_LOST {
                    caller.sent_at = Instant::now();
                    caller.begin();
                    caller.send(&poller, number)?;
                }
            }
        }
    }
    Ok(window.report())
}

impl Caller {
    fn begin(&mut self) {
        self.unsent = self.exchange.request().len();
    }

    /// Sends what the socket takes and has the poller say when it takes more.
    fn send(&mut self, poller: &impl std::os::fd::AsFd, number: usize) -> Result<(), Failure> {
        let request = self.exchange.request();
        while self.unsent > 0 {
            let taken = self.connection.write(&request[request.len() - self.unsent..])?;
            if taken == 0 {
                break;
            }
            self.unsent -= taken;
        }
        let waits = !self.connection.flush()? || self.unsent > 0;
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poller, &self.connection, EventData::new_u64(number as u64), flags)?;
        }
        Ok(())
    }

    /// Reads what is there; true if the answer is complete.
    fn receive(&mut self, buffer: &mut [u8], datagrams: bool) -> Result<bool, Failure> {
        while let Some(count) = self.connection.read(buffer)? {
            let data = &buffer[..count];
            if datagrams && matches!(&self.exchange, Exchange::Echo(echo) if echo.is_late(data)) {
                continue;
            }
            if self.exchange.received(data)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
