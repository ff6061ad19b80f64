//! What went wrong, in a form that the benchmark's results can carry.

use std::fmt;
use std::io;

/// One failure; its `Display` is the JSON line that is printed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: &'static str,
    detail: String,
}

impl Failure {
    /// A wrong command line.
    pub(crate) fn usage(detail: impl Into<String>) -> Self {
        Self { kind: "usage", detail: detail.into() }
    }

    /// The server closed, refused or broke a connection.
    pub(crate) fn broken(detail: impl Into<String>) -> Self {
        Self { kind: "broken", detail: detail.into() }
    }

    /// The server answered something else than it should.
    pub(crate) fn wrong_answer(detail: impl Into<String>) -> Self {
        Self { kind: "wrong answer", detail: detail.into() }
    }

    /// No answer came for seconds.
    pub(crate) fn stalled() -> Self {
        Self { kind: "hang", detail: "no answer for 5 s".into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::broken(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::broken(format!("TLS: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"error": "{}", "detail": "{}"}}"#, self.kind, self.detail.replace(['"', '\\', '\n'], " "))
    }
}
