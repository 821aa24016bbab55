//! A request as one epoch of a producer, so that sending it again changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use axum::http::HeaderMap;
use parking_lot::Mutex;

use super::answer::Refused;
use crate::engine::{Attempt, Command, Epoch, EpochState, Outcome, ProducerId, RunId, StreamId, Task, Timestamp, Visibility};
use crate::server::cell::{NamedWriter, StreamCell};
use crate::server::error::Error;
use crate::wire::proto::Receipt;

const PRODUCER: &str = "bowstring-producer";
const EPOCH: &str = "bowstring-epoch";
/// A producer's name at most: before it comes what tells it from producers over Flight, and which stream it sends to.
const PRODUCER_BYTES_MAX: usize = 200;
/// All requests of a producer are one run: none fences another.
const RUN: &str = "1";

/// What a request says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    producer: String,
    pub(super) epoch: Epoch,
}

impl Given {
    /// None: it may be appended again when it is sent again.
    ///
    /// # Errors
    /// 400 for one header without the other, or what is no name or no number.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refused> {
        let (producer, epoch) = match (headers.get(PRODUCER), headers.get(EPOCH)) {
            (None, None) => return Ok(None),
            (Some(producer), Some(epoch)) => (producer, epoch),
            _ => return Err(Refused::bad("Bowstring-Producer and Bowstring-Epoch go together; send both, or neither")),
        };
        let producer = std::str::from_utf8(producer.as_bytes()).unwrap_or_default();
        if producer.is_empty() || producer.len() > PRODUCER_BYTES_MAX {
            return Err(Refused::bad(format!("Bowstring-Producer is a name of 1 to {PRODUCER_BYTES_MAX} bytes in UTF-8")));
        }
        let number = epoch.to_str().ok().and_then(|text| text.trim().parse().ok());
        let epoch = number.ok_or_else(|| Refused::bad("Bowstring-Epoch is a whole number from 0 to 18446744073709551615"))?;
        Ok(Some(Self { producer: producer.to_owned(), epoch: Epoch(epoch) }))
    }

    /// Who appends the good rows.
    pub(super) fn producer(&self) -> Result<ProducerId, Error> {
        Ok(ProducerId::new(&format!("http/{}", self.producer))?)
    }

    /// Who appends the bad ones, which may go to one stream from several.
    pub(super) fn producer_of_rejected(&self, from: StreamId) -> Result<ProducerId, Error> {
        Ok(ProducerId::new(&format!("http/{:x}/{}", from.0, self.producer))?)
    }
}

/// Producers whose requests are under way: a commit would end another epoch of its producer that is still open.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashSet<(StreamId, ProducerId)>>>);

/// One of them; dropped, the next may come.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    of: (StreamId, ProducerId),
}

impl Turns {
    /// # Errors
    /// 409 while another request of the producer goes on.
    pub(super) fn take(&self, stream: StreamId, producer: ProducerId) -> Result<Turn, Refused> {
        let of = (stream, producer);
        if !self.0.lock().insert(of.clone()) {
            let text = "another request of this producer is under way; send them one after the other, this one again in a while";
            return Err(Refused::busy(text));
        }
        Ok(Turn { turns: self.clone(), of })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().remove(&self.of);
    }
}

/// A producer's epoch, and the attempt at it that a request is.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) producer: ProducerId,
    pub(super) run: RunId,
    pub(super) epoch: Epoch,
    pub(super) attempt: Attempt,
}

impl Writer {
    pub(super) fn new(producer: ProducerId, epoch: Epoch, attempt: Attempt) -> Result<Self, Error> {
        Ok(Self { producer, run: RunId::new(RUN)?, epoch, attempt })
    }
}

/// An open epoch of one stream. Dropped before it is committed, it is aborted: what is staged of it would hold room for ever.
#[derive(Debug)]
pub(super) struct Opened {
    cell: Arc<StreamCell>,
    writer: Writer,
}

impl Opened {
    /// Opens the epoch; none if it is committed already, and as durable as it has to be.
    ///
    /// # Errors
    /// `invalid_argument` for an immediate stream, where an epoch can be seen before it is committed.
    pub(super) async fn open(cell: &Arc<StreamCell>, writer: Writer) -> Result<Option<Self>, Error> {
        if cell.options().visibility == Visibility::Immediate {
            let reason = format!(
                "stream {} is immediate, so that what is sent again could be there twice; send it without, or make it a committed stream",
                cell.name()
            );
            return Err(Error::InvalidArgument { field: "Bowstring-Epoch", reason });
        }
        let Writer { producer, run, epoch, .. } = writer.clone();
        if cell.apply(Command::OpenEpoch { producer, run, epoch })? == Outcome::Epoch(EpochState::AlreadyCommitted) {
            cell.durable().await?;
            return Ok(None);
        }
        Ok(Some(Self { cell: cell.clone(), writer }))
    }

    /// Commits what the writer has staged; without a receipt, that there is nothing.
    pub(super) async fn commit(self, receipt: Option<Receipt>) -> Result<(), Error> {
        let Writer { producer, run, epoch, attempt } = self.writer.clone();
        let named = receipt.map(|receipt| NamedWriter { task: Task(0), attempt, opened_at: Some(Timestamp(receipt.opened_at_micros)) });
        self.cell.commit_epoch(producer, run, epoch, named.as_slice())?;
        self.cell.durable().await
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Writer { producer, run, epoch, .. } = self.writer.clone();
        // Of one that is committed it changes nothing.
        drop(self.cell.apply(Command::AbortEpoch { producer, run, epoch }));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn given(producer: Option<&str>, epoch: Option<&str>) -> Result<Option<Given>, Refused> {
        let one = |(name, text): (&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_bytes(text.as_bytes()).unwrap());
        let headers = [producer.map(|text| (PRODUCER, text)), epoch.map(|text| (EPOCH, text))];
        Given::of(&headers.into_iter().flatten().map(one).collect())
    }

    #[test]
    fn a_request_names_a_producer_and_an_epoch_or_neither() {
        assert_eq!(given(None, None).unwrap(), None);
        let largest = given(Some("shop ü"), Some("18446744073709551615")).unwrap().unwrap();
        assert_eq!((largest.producer().unwrap().as_str(), largest.epoch), ("http/shop ü", Epoch(u64::MAX)));
        assert_eq!(largest.producer_of_rejected(StreamId(255)).unwrap().as_str(), "http/ff/shop ü");
        let longest = "x".repeat(PRODUCER_BYTES_MAX);
        assert!(given(Some(&longest), Some("0")).unwrap().unwrap().producer_of_rejected(StreamId(u64::MAX)).is_ok());
        for (producer, epoch) in [
            (Some("a"), None),
            (None, Some("1")),
            (Some("a"), Some("-1")),
            (Some("a"), Some("1.5")),
            (Some("a"), Some("18446744073709551616")),
            (Some("a"), Some("")),
            (Some(""), Some("1")),
            (Some(&*format!("{longest}x")), Some("1")),
        ] {
            assert!(given(producer, epoch).is_err(), "{producer:?} {epoch:?}");
        }
    }

    #[test]
    fn requests_of_one_producer_come_one_after_the_other() {
        let turns = Turns::default();
        let take = |stream, producer: &str| turns.take(StreamId(stream), ProducerId::new(producer).unwrap());
        let first = take(1, "a").unwrap();
        assert!(take(1, "a").is_err());
        drop((take(1, "b").unwrap(), take(2, "a").unwrap(), first));
        take(1, "a").unwrap();
    }
}
