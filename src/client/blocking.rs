//! The same verbs without async, for the Python wheel and for programs that have no runtime.
//!
//! One background runtime of two threads serves all clients of the process; it is built at first use, and anew
//! after a fork. Every verb takes a [`Wait`]: a deadline, and a check that is called at least every 100 ms while
//! it waits, so that a caller can react to Ctrl-C. Waiting for a batch or for room blocks the calling thread on a
//! condition variable; batches that are there already are handed out without any of that.
//!
//! ```no_run
//! use bowstring::client::blocking::{Client, Wait};
//! use bowstring::client::{ClientOptions, ConsumerOptions, Error};
//!
//! # fn main() -> Result<(), Error> {
//! let wait = &mut Wait::forever();
//! let client = Client::connect("grpc://127.0.0.1:8815", ClientOptions::default(), wait)?;
//! let mut consumer = client.consumer("clicks", ConsumerOptions::default(), wait)?;
//! while let Some(delivered) = consumer.next(wait)? {
//!     println!("{} rows", delivered.batch.num_rows());
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod appends;
mod client;
mod consumer;
mod process;
mod wait;

pub use appends::{EpochWriter, Producer};
pub use client::Client;
pub use consumer::{Acker, Consumer};
pub use wait::Wait;
