//! The window of time that is measured, and what is counted in it.

use std::fs;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::options::Options;

const STALL: Duration = Duration::from_secs(5);

/// Counts answers once the warm-up is over, until the time is up.
pub(crate) struct Window {
    pid: u32,
    length: Duration,
    warm: Instant,
    began: Option<Instant>,
    cpu_before: f64,
    last_answer: Instant,
    latencies_ns: Vec<u32>,
}

impl Window {
    pub(crate) fn open(options: &Options) -> Self {
        let now = Instant::now();
        Self {
            pid: options.pid,
            length: options.seconds,
            warm: now + options.warmup,
            began: None,
            cpu_before: 0.0,
            last_answer: now,
            latencies_ns: Vec::with_capacity(1 << 20),
        }
    }

    /// To be asked now and then: false when the time is up.
    pub(crate) fn is_open(&mut self) -> Result<bool, Failure> {
        let now = Instant::now();
        if now.duration_since(self.last_answer) > STALL {
            return Err(Failure::stalled());
        }
        match self.began {
            Some(began) => Ok(now.duration_since(began) < self.length),
            None => {
                if now >= self.warm {
                    self.latencies_ns.clear();
                    self.cpu_before = cpu_seconds(self.pid);
                    self.began = Some(Instant::now());
                }
                Ok(true)
            }
        }
    }

    /// An answer has come to what was sent at `sent`; gives the time of now.
    pub(crate) fn answered(&mut self, sent: Instant) -> Instant {
        let now = Instant::now();
        self.last_answer = now;
        self.latencies_ns.push(u32::try_from(now.duration_since(sent).as_nanos()).unwrap_or(u32::MAX));
        now
    }

    /// The line to print.
    pub(crate) fn report(mut self) -> String {
        let elapsed = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        let cpu = cpu_seconds(self.pid) - self.cpu_before;
        let (p50, p99) = (self.percentile_us(50), self.percentile_us(99));
        let operations = self.latencies_ns.len();
        format!(
            r#"{{"operations": {operations}, "seconds": {elapsed:.6}, "cpu_seconds": {cpu:.6}, "p50_us": {p50:.2}, "p99_us": {p99:.2}}}"#
        )
    }

    fn percentile_us(&mut self, percent: usize) -> f64 {
        if self.latencies_ns.is_empty() {
            return 0.0;
        }
        let index = (self.latencies_ns.len() - 1) * percent / 100;
        let (_, value, _) = self.latencies_ns.select_nth_unstable(index);
        f64::from(*value) / 1000.0
    }
}

/// The time that the threads of a process have run, in seconds; the kernel's own threads that work
/// for it (io_uring's) are among them.
fn cpu_seconds(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let nanoseconds = |text: String| text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok().and_then(nanoseconds))
        .sum::<f64>()
        / 1e9
}

/// The memory of a process in KiB, what it shares with others in proportion.
pub(crate) fn memory_kib(pid: u32) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Failure::broken("no Pss in smaps_rollup"))
}
