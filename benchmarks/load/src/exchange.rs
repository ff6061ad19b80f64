//! What is sent over a connection and what has to come back.

use std::io::Write;

use crate::failure::Failure;

/// One request and its answer, over and over.
pub(crate) enum Exchange {
    Echo(Echo),
    Http(Http),
}

impl Exchange {
    /// The `number`th of some connections that send messages of `size` bytes.
    pub(crate) fn echo(number: usize, size: usize) -> Self {
        let mut message = pattern(size);
        stamp(&mut message, &(number as u32).to_le_bytes());
        Self::Echo(Echo { message, sequence: 0, received: 0 })
    }

    pub(crate) fn http() -> Self {
        Self::Http(Http { answer: Vec::new() })
    }

    pub(crate) fn request(&self) -> &[u8] {
        match self {
            Self::Echo(echo) => &echo.message,
            Self::Http(_) => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        }
    }

    /// Checks what has come; true if it completes the answer.
    pub(crate) fn received(&mut self, data: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::Echo(echo) => echo.received(data),
            Self::Http(http) => http.received(data),
        }
    }
}

/// The message is its own answer; no two are alike.
pub(crate) struct Echo {
    message: Vec<u8>,
    sequence: u32,
    received: usize,
}

impl Echo {
    fn received(&mut self, data: &[u8]) -> Result<bool, Failure> {
        let end = self.received + data.len();
        if self.message.get(self.received..end) != Some(data) {
            return Err(Failure::wrong_answer("other bytes came back than were sent"));
        }
        self.received = end;
        let complete = end == self.message.len();
        if complete {
            self.received = 0;
            self.sequence = self.sequence.wrapping_add(1);
            let sequence = self.sequence.to_le_bytes();
            if let Some(place) = self.message.get_mut(4..) {
                stamp(place, &sequence);
            }
        }
        Ok(complete)
    }

    /// Whether a datagram answers an earlier message, which was sent again.
    pub(crate) fn is_late(&self, data: &[u8]) -> bool {
        data.len() == self.message.len() && data.get(..8) != self.message.get(..8)
    }
}

/// Answers with status 200 and a Content-Length.
pub(crate) struct Http {
    answer: Vec<u8>,
}

impl Http {
    fn received(&mut self, data: &[u8]) -> Result<bool, Failure> {
        self.answer.extend_from_slice(data);
        let Some(head) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let head = head + 4;
        if !self.answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(Failure::wrong_answer("not HTTP/1.1 200"));
        }
        let body = content_length(&self.answer[..head])?;
        let complete = self.answer.len() == head + body;
        if self.answer.len() > head + body {
            return Err(Failure::wrong_answer("more than one answer"));
        }
        if complete {
            self.answer.clear();
        }
        Ok(complete)
    }
}

fn content_length(head: &[u8]) -> Result<usize, Failure> {
    let name = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))
        .and_then(|line| std::str::from_utf8(&line[name.len()..]).ok()?.trim().parse().ok())
        .ok_or_else(|| Failure::wrong_answer("no Content-Length"))
}

/// Bytes without a period, so that one that is lost or moved is seen.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..size).map(|_| next()).collect()
}

fn stamp(mut place: &mut [u8], number: &[u8; 4]) {
    // A message that is too short for it goes without.
    let _ = place.write_all(number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_complete_when_all_its_bytes_are_back() {
        let mut exchange = Exchange::echo(3, 64);
        let sent = exchange.request().to_vec();
        assert!(!exchange.received(&sent[..60]).expect("right so far"));
        assert!(exchange.received(&sent[60..]).expect("right"));
        assert_ne!(exchange.request(), sent);
        assert!(exchange.received(&sent).is_err());
    }

    #[test]
    fn an_answer_has_its_whole_body() {
        let mut exchange = Exchange::http();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert!(!exchange.received(head).expect("right so far"));
        assert!(!exchange.received(b"hell").expect("right so far"));
        assert!(exchange.received(b"o").expect("right"));
        assert!(exchange.received(b"HTTP/1.1 500 Oh\r\n\r\n").is_err());
    }
}
