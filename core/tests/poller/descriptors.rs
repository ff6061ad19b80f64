//! What becomes of registrations that end, of bad descriptors, and of those that
//! are closed, or closed and opened again, behind the poller's back.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use mioloop_core::poller::{Trigger, Wait};
use rustix::io::Errno;

use crate::{BOTH, Fixture, NOTHING, READ, WRITE, event};

/// Makes the number `target` mean the file that `source` is.
fn reopen_as(source: &impl AsFd, target: OwnedFd) -> OwnedFd {
    let number = target.as_raw_fd();
    drop(target);
    let again = rustix::io::fcntl_dupfd_cloexec(source.as_fd(), number).expect("a number to spare");
    assert_eq!(again.as_raw_fd(), number, "another test took the number");
    again
}

/// Above what parallel tests are given, since new descriptors get the lowest
/// free number; below what the system allows a process.
const FAR: RawFd = if cfg!(target_os = "linux") { 900 } else { 200 };

/// A descriptor whose number no parallel test gets when it is closed; each test
/// says its own `number`.
fn out_of_the_way(file: &impl AsFd, number: RawFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(file.as_fd(), FAR + number).expect("a number to spare")
}

#[test]
fn events_of_an_ended_registration_are_stale() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let former = it.register(&ours, READ, Trigger::Level);
    theirs.write_all(b"a").unwrap();
    let mut raw = Vec::new();
    it.poller.poll(Wait::Now, &mut raw).unwrap();
    it.registry.deregister(former).unwrap();
    let latter = it.register(&ours, READ, Trigger::Level);
    assert_eq!(former.index(), latter.index(), "the slot is reused");
    assert_ne!(former, latter);
    assert_eq!(it.registry.accept(raw[0]), None);
    assert_eq!(it.now(), event(latter, true, false));
    assert_eq!(it.registry.fd(former), None);
    assert_eq!(it.registry.fd(latter), Some(ours.as_raw_fd()));
}

#[test]
fn a_stale_token_changes_nothing() {
    let mut it = Fixture::new();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let former = it.register(&ours, READ, Trigger::Level);
    it.registry.deregister(former).unwrap();
    let latter = it.register(&ours, WRITE, Trigger::Level);
    it.registry.deregister(former).unwrap();
    let error = it.registry.set_interest(former, READ).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(it.now(), event(latter, false, true));
}

#[test]
fn bad_descriptors_are_the_callers_errors() {
    let mut it = Fixture::new();
    let refused = |it: &mut Fixture, fd, interest| {
        let outcome = it.registry.register(fd, interest, Trigger::Level);
        outcome.unwrap_err().raw_os_error()
    };
    let closed = {
        let (reader, _writer) = io::pipe().unwrap();
        out_of_the_way(&reader, 0).as_raw_fd()
    };
    let ebadf = Some(Errno::BADF.raw_os_error());
    for fd in [closed, -1, RawFd::MAX] {
        assert_eq!(refused(&mut it, fd, READ), ebadf);
        assert_eq!(refused(&mut it, fd, NOTHING), ebadf);
    }
    let file = File::open("/proc/self/exe").unwrap();
    let eperm = Some(Errno::PERM.raw_os_error());
    assert_eq!(refused(&mut it, file.as_raw_fd(), READ), eperm);
}

#[test]
fn one_descriptor_has_one_registration() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, READ, Trigger::Level);
    for interest in [WRITE, NOTHING] {
        let again = it.registry.register(ours.as_raw_fd(), interest, Trigger::Level);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    theirs.write_all(b"a").unwrap();
    assert_eq!(it.now(), event(token, true, false));
}

#[test]
fn a_closed_descriptor_goes_quietly() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = out_of_the_way(&ours, 5);
    drop(ours);
    let token = it.register(&fd, READ, Trigger::Level);
    theirs.write_all(b"a").unwrap();
    assert_eq!(it.now(), event(token, true, false));
    drop(fd);
    assert!(it.now().is_empty(), "re-arming fails without a word");
    let error = it.registry.set_interest(token, BOTH).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
    it.registry.deregister(token).unwrap();
    assert_eq!(it.registry.fd(token), None);
}

#[test]
fn a_number_reopened_behind_our_back_is_registered_anew() {
    let mut it = Fixture::new();
    let (former, _its_peer) = UnixStream::pair().unwrap();
    let (latter, mut peer) = UnixStream::pair().unwrap();
    let fd = out_of_the_way(&former, 10);
    drop(former);
    let token = it.register(&fd, READ, Trigger::Level);
    let _fd = reopen_as(&latter, fd);
    peer.write_all(b"a").unwrap();
    assert!(it.now().is_empty());
    it.registry.set_interest(token, READ).unwrap();
    assert_eq!(it.now(), event(token, true, false));
}

#[test]
fn a_reused_number_belongs_to_its_new_registration() {
    let mut it = Fixture::new();
    let (former, _its_peer) = UnixStream::pair().unwrap();
    let (latter, mut peer) = UnixStream::pair().unwrap();
    let fd = out_of_the_way(&former, 15);
    drop(former);
    let old = it.register(&fd, READ, Trigger::Level);
    let fd = reopen_as(&latter, fd);
    let new = it.register(&fd, READ, Trigger::Level);
    assert_ne!(old.index(), new.index());
    // Neither of these may reach the file that has the number now.
    assert!(it.registry.set_interest(old, WRITE).is_err());
    it.registry.deregister(old).unwrap();
    peer.write_all(b"a").unwrap();
    assert_eq!(it.now(), event(new, true, false));
}

#[test]
fn a_file_that_outlived_its_registration_can_be_registered_again() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = out_of_the_way(&ours, 20);
    let former = it.register(&fd, READ, Trigger::Level);
    let number = fd.as_raw_fd();
    drop(fd);
    // The duplicate keeps the file open, and epoll keeps its entry.
    it.registry.deregister(former).unwrap();
    theirs.write_all(b"a").unwrap();
    assert!(it.now().is_empty(), "what epoll still reports is stale");
    let fd = out_of_the_way(&ours, 20);
    assert_eq!(fd.as_raw_fd(), number);
    let latter = it.register(&fd, READ, Trigger::Level);
    assert_eq!(it.now(), event(latter, true, false));
}

#[test]
fn a_rebuilt_poller_knows_the_same_tokens() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (paused, _its_peer) = UnixStream::pair().unwrap();
    let (lost, _lost_peer) = UnixStream::pair().unwrap();
    let lost_fd = out_of_the_way(&lost, 25);
    drop(lost);
    let token = it.register(&ours, READ, Trigger::Level);
    let silent = it.register(&paused, NOTHING, Trigger::Edge);
    let closed = it.register(&lost_fd, READ, Trigger::Level);
    let former_waker = it.registry.waker();
    drop(lost_fd);

    it.poller = it.registry.rebuild().unwrap();

    assert!(it.now().is_empty());
    theirs.write_all(b"a").unwrap();
    for _ in 0..2 {
        assert_eq!(it.now(), event(token, true, false));
    }
    it.registry.deregister(token).unwrap();
    it.registry.set_interest(silent, WRITE).unwrap();
    assert_eq!(it.now(), event(silent, false, true));
    assert!(it.registry.set_interest(closed, READ).is_err());
    it.registry.deregister(closed).unwrap();

    former_waker.wake().unwrap();
    it.registry.waker().wake().unwrap();
    assert!(it.poll(Wait::Forever).is_empty());
}
