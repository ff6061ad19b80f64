//! When a protocol must stop writing, and when it may go on.
//!
//! Follows the flow control mix-in of `asyncio.transports`: above the high
//! water mark the protocol is paused once, at or below the low one it is
//! resumed. Only decides; whoever asks calls `pause_writing` and
//! `resume_writing`.

/// asyncio's default high water mark.
const HIGH: usize = 64 * 1024;

/// The two marks, and on which side of them the protocol is. Bytes.
#[derive(Debug, Clone, Copy)]
pub struct Watermarks {
    high: usize,
    low: usize,
    paused: bool,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { high: HIGH, low: HIGH / 4, paused: false }
    }
}

impl Watermarks {
    /// `(low, high)`.
    pub fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    /// Sets both marks; `high` must not be below `low`.
    pub fn set(&mut self, low: usize, high: usize) {
        debug_assert!(high >= low);
        self.low = low;
        self.high = high;
    }

    /// The protocol was told to pause and has not been resumed.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Above the high mark, paused or not.
    #[inline]
    pub fn is_exceeded(&self, size: usize) -> bool {
        size > self.high
    }

    /// The backlog has grown to `size`: must the protocol be paused now?
    #[inline]
    pub fn pauses(&mut self, size: usize) -> bool {
        size > self.high && !std::mem::replace(&mut self.paused, true)
    }

    /// The backlog has shrunk to `size`: must the protocol be resumed now?
    #[inline]
    pub fn resumes(&mut self, size: usize) -> bool {
        size <= self.low && std::mem::replace(&mut self.paused, false)
    }
}

/// The marks for what a caller of `set_write_buffer_limits` gives, missing ones
/// filled in as asyncio does. `Err`: the pair that is out of order.
pub fn marks(high: Option<i64>, low: Option<i64>) -> Result<(usize, usize), (i64, i64)> {
    let high = high.unwrap_or_else(|| low.map_or(HIGH as i64, |low| low.saturating_mul(4)));
    let low = low.unwrap_or_else(|| high.div_euclid(4));
    match (usize::try_from(low), usize::try_from(high)) {
        (Ok(low_mark), Ok(high_mark)) if low_mark <= high_mark => Ok((low_mark, high_mark)),
        _ => Err((low, high)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_paused_once_and_resumed_once() {
        let mut marks = Watermarks::default();
        assert!(!marks.pauses(HIGH));
        assert!(marks.pauses(HIGH + 1));
        assert!(!marks.pauses(HIGH + 2));
        assert!(!marks.resumes(HIGH / 4 + 1));
        assert!(marks.resumes(HIGH / 4));
        assert!(!marks.resumes(0));
    }

    #[test]
    fn missing_marks_follow_from_the_other() {
        assert_eq!(marks(None, None), Ok((HIGH / 4, HIGH)));
        assert_eq!(marks(Some(100), None), Ok((25, 100)));
        assert_eq!(marks(None, Some(100)), Ok((100, 400)));
        assert_eq!(marks(Some(0), None), Ok((0, 0)));
    }

    #[test]
    fn marks_out_of_order_are_refused() {
        assert_eq!(marks(Some(1), Some(2)), Err((2, 1)));
        assert_eq!(marks(Some(-1), None), Err((-1, -1)));
        assert_eq!(marks(Some(1), Some(-1)), Err((-1, 1)));
    }
}
