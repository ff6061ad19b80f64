//! The life of a connection: open, flushing, ending, ended.
//!
//! Every transport has one, and asks it what a call may still do. Follows the
//! flags of asyncio's transports (`_closing`, `_conn_lost`, `_eof`), as one
//! state with legal transitions only.

/// Where a connection is in its life; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// Reads and writes.
    #[default]
    Open,
    /// `close()` was called and the backlog is being written. Reads no more.
    Flushing,
    /// `connection_lost` is scheduled.
    Ending,
    /// `connection_lost` was called, and the descriptor given up.
    Ended,
}

/// What the caller of a transition must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it was so already.
    Nothing,
    /// Stop reading, go on writing.
    Flush,
    /// Stop reading, and schedule `connection_lost`.
    End,
}

impl Phase {
    /// `close()`: what is written already still goes.
    pub fn close(&mut self, has_backlog: bool) -> Next {
        match (*self, has_backlog) {
            (Phase::Open, true) => self.enter(Phase::Flushing, Next::Flush),
            (Phase::Open, false) => self.enter(Phase::Ending, Next::End),
            _ => Next::Nothing,
        }
    }

    /// `abort()`, or an error: what was written is given up.
    pub fn abort(&mut self) -> Next {
        match *self {
            Phase::Open | Phase::Flushing => self.enter(Phase::Ending, Next::End),
            Phase::Ending | Phase::Ended => Next::Nothing,
        }
    }

    /// The backlog has become empty: does that end the connection?
    pub fn flushed(&mut self) -> Next {
        match *self {
            Phase::Flushing => self.enter(Phase::Ending, Next::End),
            _ => Next::Nothing,
        }
    }

    /// `connection_lost` is about to be called; false if it was already.
    pub fn end(&mut self) -> bool {
        std::mem::replace(self, Phase::Ended) != Phase::Ended
    }

    /// `is_closing()`.
    pub fn is_closing(self) -> bool {
        self != Phase::Open
    }

    /// Nothing can be read or written any more.
    pub fn is_lost(self) -> bool {
        self >= Phase::Ending
    }

    fn enter(&mut self, phase: Phase, next: Next) -> Next {
        *self = phase;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_flushes_first() {
        let mut phase = Phase::Open;
        assert_eq!(phase.close(true), Next::Flush);
        assert!(phase.is_closing() && !phase.is_lost());
        assert_eq!(phase.close(true), Next::Nothing);
        assert_eq!(phase.flushed(), Next::End);
        assert_eq!(phase.flushed(), Next::Nothing);
        assert!(phase.is_lost());
    }

    #[test]
    fn abort_ends_what_flushes() {
        let mut phase = Phase::Open;
        assert_eq!(phase.close(true), Next::Flush);
        assert_eq!(phase.abort(), Next::End);
        assert_eq!(phase.abort(), Next::Nothing);
    }

    #[test]
    fn an_open_connection_is_not_ended_by_an_empty_backlog() {
        let mut phase = Phase::Open;
        assert_eq!(phase.flushed(), Next::Nothing);
        assert_eq!(phase.close(false), Next::End);
    }

    #[test]
    fn it_ends_once() {
        let mut phase = Phase::Open;
        assert_eq!(phase.abort(), Next::End);
        assert!(phase.end());
        assert!(!phase.end());
        assert_eq!(phase.close(false), Next::Nothing);
    }
}
