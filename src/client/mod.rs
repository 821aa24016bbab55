//! The client core: one place for connecting, retrying, resuming, reading ahead and acking. The CLI, the Python
//! wheel and Rust programs use the same verbs; [`blocking`] has them without async.
//!
//! ```no_run
//! # async fn example() -> Result<(), bowstring::client::Error> {
//! use bowstring::client::{Client, ClientOptions, ConsumerOptions};
//!
//! let client = Client::connect("grpc://127.0.0.1:8815", ClientOptions::default()).await?;
//! let options = ConsumerOptions { subscription: Some("trainer".into()), ..ConsumerOptions::default() };
//! let mut consumer = client.consumer("clicks", options).await?;
//! while let Some(delivered) = consumer.next(None).await? {
//!     println!("{} rows", delivered.batch.num_rows());
//!     consumer.ack(delivered.partition, delivered.offset.plus(1))?;
//! }
//! consumer.close().await
//! # }
//! ```
//!
//! | module | noun |
//! | --- | --- |
//! | `connection` | a coordinator that can be reached: URL, HTTP/2 settings, connect with retry |
//! | `transport` | how calls get there: by a connection, or within the process |
//! | `local` | the coordinator's Unix socket, where it is on this host |
//! | `shared` | bodies in shared memory, where both ends are on one host |
//! | `retry` | when to try again |
//! | `admin` | the control verbs |
//! | `lag`, `why` | what a description tells: who is behind, who waits for whom |
//! | `call`, `put` | hand-framed `DoPut` and `DoGet` |
//! | `encode`, `decode` | record batches to and from Arrow IPC messages |
//! | `auto_compression` | whether the next batch is worth compressing |
//! | `window`, `sender`, `appends` | batches on their way, the task that sends them, what producers and writers share |
//! | `dialect`, `project` | what a consumer wants its batches to look like; how they come to look so |
//! | `plan`, `prefetch`, `reader`, `acks` | what is read and from where, batches read ahead, the task that reads them, acks on their way |
//! | `feed`, `sizing`, `assemble`, `compact` | what was taken out of the read-ahead, in the sizes that the consumer asks for |
//! | `in_flight`, `acker` | what is handed out and not acked, and acks of it from anywhere |
//! | `producer`, `writer`, `consumer` | what users hold |

mod acker;
mod acks;
mod admin;
mod appends;
mod assemble;
mod auto_compression;
pub mod blocking;
mod call;
#[cfg(test)]
mod codec_tests;
pub(crate) mod compact;
mod connection;
mod consumer;
mod decode;
mod delivered;
mod dialect;
mod encode;
mod error;
mod feed;
#[doc(hidden)]
pub mod fuzzing;
/// The control service's client, generated from `proto/`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::all,
    clippy::pedantic,
    reason = "generated code"
)]
mod generated {
    include!("generated/bowstring.v1.rs");
}
mod handed_out;
mod handle;
mod held;
mod in_flight;
mod local;
mod membership;
mod options;
mod plain;
mod plan;
mod prefetch;
mod producer;
mod project;
mod put;
mod reader;
mod ready;
mod retry;
mod sender;
mod share;
mod shared;
mod shares;
mod sizing;
mod task;
mod tls;
mod token;
mod trace;
mod transport;
mod updates;
mod watched;
mod window;
mod writer;

pub use crate::wire::lag::{Lag, PartitionLag, SubscriptionLag};
pub use crate::wire::why::{Cause, Reason, Why, why};
pub use acker::Acker;
pub use admin::ProducerRun;
#[doc(hidden)]
pub use connection::Dial;
pub use consumer::Consumer;
pub use delivered::Delivered;
pub use dialect::{Dialect, Strings};
pub use error::Error;
pub use handle::Client;
pub use in_flight::Unacked;
pub use options::{
    ClientOptions, Compression, ConsumerOptions, MESSAGE_BYTES_MAX, Offsets, ProducerOptions, ReadStart, Sharing, SubscribeOptions,
    WriterId, WriterOptions,
};
pub use plain::{ColumnSlices, PlainLayout};
pub use producer::Producer;
pub use ready::{Joined, Origin, Slice};
pub use tls::{TlsOptions, TlsProblem};
pub use token::{TokenFunction, TokenSource};
pub use trace::TraceContext;
pub use writer::EpochWriter;
