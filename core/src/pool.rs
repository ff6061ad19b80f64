//! Threads for calls that block: they come with the work and go when there is
//! none.
//!
//! The resolver's calls run here, since the C library can be asked for a name
//! in no other way than by waiting. A job never waits while fewer threads run
//! than the limit allows; an idle thread ends after a while. Nobody joins the
//! threads: they do not hold up the end of the process, and what they are busy
//! with when the pool is dropped they finish for themselves.

use std::collections::VecDeque;
use std::io;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many threads there may be, and how long they stay without work.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At least one.
    pub threads: usize,
    /// An idle thread ends after so long.
    pub idle: Duration,
}

/// Runs jobs, each in a thread. Dropping it forgets the jobs that have not
/// begun.
pub struct Pool<J: Send + 'static> {
    team: Arc<Team<J>>,
    /// A forked child has none of the threads, and perhaps a lock that one of
    /// them held: there the pool must not be touched.
    process: u32,
}

/// Any thread.
struct Team<J> {
    state: Mutex<State<J>>,
    /// A job was queued, or the pool was dropped.
    news: Condvar,
    limits: Limits,
    run: Box<dyn Fn(J) + Send + Sync>,
}

/// Guarded by the lock of the team.
struct State<J> {
    queue: VecDeque<J>,
    threads: usize,
    /// How many of the threads wait for news. Those that were told but have not
    /// come yet are among them, as their jobs are in the queue.
    idle: usize,
    dropped: bool,
}

impl<J: Send + 'static> Pool<J> {
    /// A pool without threads; `run` is called in them.
    pub fn new(limits: Limits, run: impl Fn(J) + Send + Sync + 'static) -> Self {
        let state = State { queue: VecDeque::new(), threads: 0, idle: 0, dropped: false };
        let team = Team { state: Mutex::new(state), news: Condvar::new(), limits, run: Box::new(run) };
        Pool { team: Arc::new(team), process: process::id() }
    }

    /// False in a process that was forked since: make another pool there.
    pub fn is_ours(&self) -> bool {
        self.process == process::id()
    }

    /// Queues a job, with a new thread if every other has something to do.
    /// Fails if there is no thread at all and none can be started.
    pub fn submit(&self, job: J) -> io::Result<()> {
        let mut state = self.team.lock();
        state.queue.push_back(job);
        if state.queue.len() <= state.idle || state.threads >= self.team.limits.threads {
            drop(state);
            self.team.news.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let team = Arc::clone(&self.team);
        let Err(error) = thread::Builder::new().name("mioloop".to_owned()).spawn(move || team.work()) else {
            return Ok(());
        };
        let mut state = self.team.lock();
        state.threads -= 1;
        if state.threads > 0 {
            // Those that there are will come to it.
            return Ok(());
        }
        let job = state.queue.pop_back();
        drop(state);
        drop(job);
        Err(error)
    }

    /// Takes a job back that no thread has begun.
    pub fn withdraw(&self, is_it: impl FnMut(&J) -> bool) -> Option<J> {
        let mut state = self.team.lock();
        let index = state.queue.iter().position(is_it)?;
        state.queue.remove(index)
    }
}

impl<J: Send + 'static> Drop for Pool<J> {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        let mut state = self.team.lock();
        state.dropped = true;
        let forgotten = std::mem::take(&mut state.queue);
        drop(state);
        drop(forgotten);
        self.team.news.notify_all();
    }
}

impl<J> Team<J> {
    /// Body of a thread.
    fn work(&self) {
        let _leaving = Leaving { team: self };
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                (self.run)(job);
                state = self.lock();
                continue;
            }
            if state.dropped {
                return;
            }
            state.idle += 1;
            let waited = self.news.wait_timeout(state, self.limits.idle);
            let (mut awake, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            awake.idle -= 1;
            if outcome.timed_out() && awake.queue.is_empty() {
                return;
            }
            state = awake;
        }
    }

    /// The state is whole whenever the lock is let go, so a panic elsewhere is
    /// no reason to give it up.
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread out, also one whose job panics.
struct Leaving<'a, J> {
    team: &'a Team<J>,
}

impl<J> Drop for Leaving<'_, J> {
    fn drop(&mut self) {
        self.team.lock().threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::{Sender, channel};

    const LONG: Duration = Duration::from_secs(600);

    fn threads<J: Send>(pool: &Pool<J>) -> usize {
        pool.team.lock().threads
    }

    fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            thread::yield_now();
        }
    }

    type Job = Box<dyn FnOnce() + Send>;

    fn pool(threads: usize, idle: Duration) -> Pool<Job> {
        Pool::new(Limits { threads, idle }, |job: Job| job())
    }

    #[test]
    fn no_job_waits_below_the_limit() {
        let pool = pool(4, LONG);
        let together = Arc::new(Barrier::new(5));
        for _ in 0..4 {
            let together = Arc::clone(&together);
            let job = move || {
                together.wait();
            };
            pool.submit(Box::new(job)).expect("threads can be started");
        }
        // Only four threads at once let anybody pass.
        together.wait();
        assert_eq!(threads(&pool), 4);
    }

    #[test]
    fn there_are_never_more_threads_than_the_limit_and_no_job_is_lost() {
        let pool = pool(3, LONG);
        let (done, answers) = channel();
        for number in 0..500 {
            let done: Sender<i32> = done.clone();
            pool.submit(Box::new(move || done.send(number).expect("the test waits"))).expect("threads can be started");
            assert!(threads(&pool) <= 3);
        }
        let mut all: Vec<i32> = answers.iter().take(500).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..500));
    }

    #[test]
    fn an_idle_thread_is_used_again() {
        let pool = pool(8, LONG);
        let (done, answers) = channel();
        for _ in 0..10 {
            let done = done.clone();
            pool.submit(Box::new(move || done.send(thread::current().id()).expect("the test waits")))
                .expect("threads can be started");
            answers.recv().expect("the job answers");
            until(|| pool.team.lock().idle == 1);
        }
        assert_eq!(threads(&pool), 1);
    }

    #[test]
    fn threads_end_without_work() {
        let pool = pool(2, Duration::from_millis(1));
        let (done, answers) = channel();
        for _ in 0..3 {
            let done = done.clone();
            pool.submit(Box::new(move || done.send(()).expect("the test waits"))).expect("threads can be started");
            answers.recv().expect("the job answers");
            until(|| threads(&pool) == 0);
        }
    }

    #[test]
    fn a_job_that_has_not_begun_can_be_taken_back() {
        let (begun, started) = channel();
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let pool = Pool::new(Limits { threads: 1, idle: LONG }, move |number: i32| {
            begun.send(number).expect("the test waits");
            let _ = wait.lock().expect("one thread").recv();
        });
        pool.submit(1).expect("threads can be started");
        assert_eq!(started.recv(), Ok(1));
        pool.submit(2).expect("threads can be started");
        pool.submit(3).expect("threads can be started");
        assert_eq!(pool.withdraw(|number| *number == 1), None);
        assert_eq!(pool.withdraw(|number| *number == 2), Some(2));
        drop(go);
        assert_eq!(started.recv(), Ok(3));
    }

    #[test]
    fn a_dropped_pool_forgets_its_queue_and_sends_the_threads_home() {
        let pool = pool(1, LONG);
        let team = Arc::clone(&pool.team);
        let (begun, started) = channel();
        let (go, wait) = channel::<()>();
        pool.submit(Box::new(move || {
            begun.send(()).expect("the test waits");
            let _ = wait.recv();
        }))
        .expect("threads can be started");
        started.recv().expect("the job begins");
        pool.submit(Box::new(|| panic!("it was forgotten"))).expect("threads can be started");
        drop(pool);
        drop(go);
        until(|| team.lock().threads == 0);
    }

    #[test]
    fn a_panic_takes_one_thread_and_no_more() {
        let pool = pool(1, LONG);
        let (done, answers) = channel();
        pool.submit(Box::new(|| panic!("on purpose"))).expect("threads can be started");
        until(|| threads(&pool) == 0);
        pool.submit(Box::new(move || done.send(()).expect("the test waits"))).expect("threads can be started");
        answers.recv().expect("the job answers");
    }
}
