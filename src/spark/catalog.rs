//! A catalog: all streams of a coordinator, as tables of SQL.

use super::connections::client_of;
use super::options::Place;
use super::{Ended, Waiting};
use crate::client::blocking::Client;
use crate::engine::Code;

/// The streams of a coordinator.
#[derive(Debug)]
pub struct Catalog {
    client: Client,
}

impl Catalog {
    /// Connects; the place's stream does not matter.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn open(place: &Place, wait: &mut Waiting<'_>) -> Result<Self, Ended> {
        Ok(Self { client: client_of(place, wait)? })
    }

    /// All streams, by name.
    ///
    /// # Errors
    /// Only where the coordinator cannot be reached.
    pub fn streams(&self, wait: &mut Waiting<'_>) -> Result<Vec<String>, Ended> {
        Ok(self.client.list_streams(wait)?.into_iter().map(|found| found.stream).collect())
    }

    /// Whether there is a stream of that name.
    ///
    /// # Errors
    /// Only where the coordinator cannot be reached.
    pub fn has(&self, stream: &str, wait: &mut Waiting<'_>) -> Result<bool, Ended> {
        found(self.client.describe_stream(stream, wait))
    }

    /// Deletes a stream and all that it holds; whether there was one.
    ///
    /// # Errors
    /// Only where the coordinator cannot be reached.
    pub fn delete(&self, stream: &str, wait: &mut Waiting<'_>) -> Result<bool, Ended> {
        found(self.client.delete_stream(stream, wait))
    }
}

fn found<T>(answer: Result<T, Ended>) -> Result<bool, Ended> {
    match answer {
        Ok(_) => Ok(true),
        Err(Ended::Failed(error)) if error.code() == Code::StreamNotFound => Ok(false),
        Err(ended) => Err(ended),
    }
}
