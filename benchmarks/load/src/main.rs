//! Load for the benchmarks: keeps connections to one server busy, checks every answer, and prints
//! one line of JSON: how many answers came, in which time, at which cost for the server.
//!
//!     load echo    --address tcp:127.0.0.1:8888 --connections 10 --size 1024 --pid 4711
//!     load http    --address tcp:127.0.0.1:8888 --connections 64 --pid 4711
//!     load connect --address tcp:127.0.0.1:8888 --connections 32 --size 64 --pid 4711
//!     load idle    --address tcp:127.0.0.1:8888 --connections 5000 --pid 4711
//!
//! Addresses: `tcp:HOST:PORT`, `udp:HOST:PORT`, `unix:PATH`; `--tls CA.pem` for TLS 1.3. `--warmup`
//! and `--seconds` set the window of time that is measured. One thread, so that it needs one core.

mod busy;
mod churn;
mod connection;
mod exchange;
mod failure;
mod idle;
mod options;
mod window;

use failure::Failure;
use options::{Mode, Options};

fn main() {
    let outcome = Options::from_arguments(std::env::args().skip(1)).and_then(|options| run(&options));
    match outcome {
        Ok(report) => println!("{report}"),
        Err(failure) => {
            println!("{failure}");
            std::process::exit(3);
        }
    }
}

fn run(options: &Options) -> Result<String, Failure> {
    match options.mode {
        Mode::Echo | Mode::Http => busy::run(options),
        Mode::Connect => churn::run(options),
        Mode::Idle => idle::run(options),
    }
}
