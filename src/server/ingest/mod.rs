//! Rows that come over HTTP: `POST /streams/{name}/rows` takes JSON, Avro and Protobuf for the streams of which that is declared. Good
//! rows of a request become one batch, bad ones go to another stream with the reason. docs/formats.md describes it.

mod config;

#[cfg(feature = "formats")]
mod answer;
#[cfg(feature = "formats")]
mod append;
#[cfg(feature = "formats")]
mod body;
#[cfg(feature = "formats")]
mod declared;
#[cfg(feature = "formats")]
mod decoding;
#[cfg(feature = "formats")]
mod epoch;
#[cfg(feature = "formats")]
mod guard;
#[cfg(feature = "formats")]
mod media;
#[cfg(feature = "formats")]
mod room;
#[cfg(feature = "formats")]
mod route;
#[cfg(feature = "formats")]
mod split;
#[cfg(not(feature = "formats"))]
mod without;

pub use config::{IngestConfig, IngestError, IngestFormat, WriterSchemaFiles};
#[cfg(feature = "formats")]
pub(super) use route::Ingest;
#[cfg(not(feature = "formats"))]
pub(super) use without::Ingest;
