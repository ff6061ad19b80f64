//! What reports, in which direction, and how often.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mioloop_core::poller::{Trigger, Wait};

use crate::{BOTH, Fixture, NOTHING, READ, WRITE, event, last_event};

#[test]
fn level_reports_while_data_is_unread() {
    let mut it = Fixture::new();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, READ, Trigger::Level);
    assert!(it.now().is_empty());
    theirs.write_all(b"ab").unwrap();
    for _ in 0..3 {
        assert_eq!(it.now(), event(token, true, false));
    }
    let mut byte = [0];
    ours.read_exact(&mut byte).unwrap();
    assert_eq!(it.now(), event(token, true, false), "one byte is left");
    ours.read_exact(&mut byte).unwrap();
    assert!(it.now().is_empty());
    theirs.write_all(b"c").unwrap();
    assert_eq!(it.now(), event(token, true, false));
}

#[test]
fn edge_reports_once_and_again_when_asked() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, READ, Trigger::Edge);
    theirs.write_all(b"a").unwrap();
    assert_eq!(it.now(), event(token, true, false));
    assert!(it.now().is_empty(), "nothing new has come");
    it.registry.set_interest(token, READ).unwrap();
    assert_eq!(it.now(), event(token, true, false));
    theirs.write_all(b"b").unwrap();
    assert_eq!(it.now(), event(token, true, false));
}

#[test]
fn interest_masks_directions() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, READ, Trigger::Level);
    assert!(it.now().is_empty(), "writable, but nobody wants to write");
    it.registry.set_interest(token, BOTH).unwrap();
    assert_eq!(it.now(), event(token, false, true));
    theirs.write_all(b"a").unwrap();
    assert_eq!(it.now(), event(token, true, true));
    it.registry.set_interest(token, WRITE).unwrap();
    assert_eq!(it.now(), event(token, false, true));
    it.registry.set_interest(token, NOTHING).unwrap();
    assert!(it.now().is_empty());
    it.registry.set_interest(token, READ).unwrap();
    assert_eq!(it.now(), event(token, true, false));
}

#[test]
fn an_event_polled_before_the_interest_changed_is_masked() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, BOTH, Trigger::Edge);
    theirs.write_all(b"a").unwrap();
    let mut raw = Vec::new();
    it.poller.poll(Wait::Now, &mut raw).unwrap();
    assert_eq!(raw.len(), 1);
    it.registry.set_interest(token, WRITE).unwrap();
    let accepted = it.registry.accept(raw[0]).unwrap();
    assert!(accepted.writable && !accepted.readable);
}

#[test]
fn nothing_can_be_registered_and_wanted_later() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"a").unwrap();
    let token = it.register(&ours, NOTHING, Trigger::Level);
    drop(theirs);
    assert!(it.now().is_empty(), "not even the hang-up");
    it.registry.set_interest(token, READ).unwrap();
    assert_eq!(it.now(), last_event(token, true, false));
    it.registry.deregister(token).unwrap();
    assert!(it.now().is_empty());
}

#[test]
fn a_hang_up_is_ready_in_every_wanted_direction() {
    let mut it = Fixture::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, BOTH, Trigger::Level);
    drop(theirs);
    for _ in 0..2 {
        assert_eq!(it.now(), last_event(token, true, true));
    }
}

#[test]
fn the_end_of_input_alone_is_only_readable() {
    let mut it = Fixture::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // Fill our output, so that the socket is not writable.
    ours.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 65_536]).is_ok() {}
    let token = it.register(&ours, BOTH, Trigger::Level);
    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(it.now(), last_event(token, true, false));
}

#[test]
fn a_pipe_without_its_reader_is_ready_to_fail() {
    let mut it = Fixture::new();
    let (reader, writer) = io::pipe().unwrap();
    let token = it.register(&writer, WRITE, Trigger::Level);
    assert_eq!(it.now(), event(token, false, true));
    drop(reader);
    it.registry.set_interest(token, READ).unwrap();
    assert_eq!(it.now(), last_event(token, true, false), "an error is readable");
}

#[test]
fn a_listener_reports_each_connection_that_waits() {
    let mut it = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let token = it.register(&listener, READ, Trigger::Level);
    let address = listener.local_addr().unwrap();
    let _clients: Vec<_> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..2 {
        assert_eq!(it.now(), event(token, true, false));
        listener.accept().unwrap();
    }
    assert!(it.now().is_empty());
}

#[test]
fn what_was_in_the_buffer_is_replaced() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    it.register(&ours, READ, Trigger::Edge);
    theirs.write_all(b"a").unwrap();
    let mut raw = Vec::new();
    it.poller.poll(Wait::Now, &mut raw).unwrap();
    assert_eq!(raw.len(), 1);
    it.poller.poll(Wait::Now, &mut raw).unwrap();
    assert!(raw.is_empty());
}

#[test]
fn many_descriptors_report_each_under_its_own_token() {
    let mut it = Fixture::new();
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"a").unwrap();
    let copies: Vec<OwnedFd> = (0..50).map(|_| rustix::io::fcntl_dupfd_cloexec(reader.as_fd(), 0).unwrap()).collect();
    let mut tokens: Vec<usize> = copies.iter().map(|fd| it.register(fd, READ, Trigger::Level).index()).collect();
    for _ in 0..2 {
        let mut ready: Vec<usize> = it.now().iter().map(|it| it.token.index()).collect();
        ready.sort_unstable();
        tokens.sort_unstable();
        assert_eq!(ready, tokens);
    }
}
