//! Connections that have exchanged one message and then do nothing: what each costs in memory.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::connection::{Connection, Connector};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::options::Options;
use crate::window::memory_kib;

/// Before the first measurement, so that what a server allocates once is not counted.
const FIRST: usize = 100;
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

pub(crate) fn run(options: &Options) -> Result<String, Failure> {
    let connector = Connector::new(options)?;
    let mut open = Vec::with_capacity(FIRST + options.connections);
    for number in 0..FIRST {
        open.push(visit(&connector, number, options.size)?);
    }
    let before = memory_kib(options.pid)?;
    for number in 0..options.connections {
        open.push(visit(&connector, number, options.size)?);
    }
    let each = (memory_kib(options.pid)? - before) * 1024.0 / options.connections as f64;
    Ok(format!(r#"{{"connections": {}, "bytes_per_connection": {each:.1}}}"#, options.connections))
}

/// A connection over which one message went there and back.
fn visit(connector: &Connector, number: usize, size: usize) -> Result<Connection, Failure> {
    let mut connection = connector.connect()?;
    let mut exchange = Exchange::echo(number, size);
    if connection.write(exchange.request())? != size {
        return Err(Failure::broken("a message did not go out at once"));
    }
    let mut buffer = vec![0; size];
    loop {
        let mut descriptors = [PollFd::new(&connection, PollFlags::IN)];
        if poll(&mut descriptors, Some(&PATIENCE))? == 0 {
            return Err(Failure::stalled());
        }
        if let Some(count) = connection.read(&mut buffer)?
            && exchange.received(&buffer[..count])?
        {
            return Ok(connection);
        }
    }
}
