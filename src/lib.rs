//! bowstring: the bridge between Spark Structured Streaming and everything that is not Spark.

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod engine;
#[cfg(feature = "flow")]
pub mod flow;
#[cfg(feature = "formats")]
pub mod formats;
#[cfg(feature = "query")]
pub mod query;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "client", feature = "server"))]
pub mod shared;
#[cfg(feature = "spark")]
pub mod spark;
#[cfg(feature = "server")]
pub mod storage;
#[cfg(feature = "wire")]
pub mod wire;
#[doc(hidden)]
pub mod zoo;
