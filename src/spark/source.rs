//! The source: where a streaming query stands, what its next micro-batch takes in, and what a batch read covers.

mod offset;

use std::collections::BTreeMap;

use self::offset::Ends;
pub use self::offset::SourceOffset;
use super::connections::client_of;
use super::options::{Bound, SourceOptions};
use super::range::StreamRange;
use super::types::{self, Intervals};
use super::{Ended, Waiting};
use crate::client::blocking::Client;
use crate::client::{Error, SubscribeOptions};
use crate::engine::{Code, Offset, PartitionId, Start, StreamId};
use crate::shared::random;
use crate::wire::proto::{StreamDescription, StreamState, SubscriptionDescription};
use crate::wire::schema::StreamSchema;

/// A streaming query's source, on the driver; it plans, and [`RangeReader`](super::RangeReader) reads.
#[derive(Debug)]
pub struct Source {
    options: SourceOptions,
    client: Client,
    /// Trigger.AvailableNow: nothing from here on.
    target: Option<Ends>,
    /// Spark asks for the initial offset twice.
    initial: Option<SourceOffset>,
}

/// What [`Source::latest`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// Where the next micro-batch ends; the start, if there is nothing new.
    pub offset: SourceOffset,
    /// Whether there is anything new.
    pub is_new: bool,
}

impl Source {
    /// Connects.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn open(options: SourceOptions, wait: &mut Waiting<'_>) -> Result<Self, Ended> {
        let client = client_of(&options.place, wait)?;
        Ok(Self { options, client, target: None, initial: None })
    }

    /// The stream's schema as Spark's, in JSON.
    ///
    /// # Errors
    /// `stream_not_found`; `invalid_argument` if it has no schema yet, or one that Spark has no types for.
    pub fn schema(&self, wait: &mut Waiting<'_>) -> Result<String, Ended> {
        let found = self.describe(wait)?;
        if found.schema.is_empty() {
            return Err(Ended::Failed(Error::invalid(format!(
                "stream '{}' has no schema yet, since nothing was appended to it: give it one when you create it, or give the reader one \
                 with .schema(...)",
                self.options.place.stream
            ))));
        }
        let schema = StreamSchema::parse(found.schema).map_err(Error::from)?;
        Ok(types::to_spark(schema.arrow(), Intervals::Taken)?)
    }

    /// Where a query without a checkpoint begins. Its subscription starts here, so that nothing is dropped.
    ///
    /// # Errors
    /// Those of [`Client::subscribe_with`] and [`Client::seek`].
    pub fn initial(&mut self, wait: &mut Waiting<'_>) -> Result<SourceOffset, Ended> {
        if let Some(initial) = &self.initial {
            return Ok(initial.clone());
        }
        let initial = self.begin(wait)?;
        self.initial = Some(initial.clone());
        Ok(initial)
    }

    fn begin(&self, wait: &mut Waiting<'_>) -> Result<SourceOffset, Ended> {
        let stream = &self.options.place.stream;
        let subscription = self.options.subscription.clone().unwrap_or_else(|| format!("spark-{}", random::uuid()));
        let start = if self.options.starting == Bound::Latest { Start::Latest } else { Start::Earliest };
        let subscribe = SubscribeOptions { on_overflow: self.options.on_overflow, ..SubscribeOptions::default() };
        self.client.subscribe_with(stream, &subscription, &start, subscribe, wait)?;
        if let Bound::At(offsets) = &self.options.starting {
            self.client.seek(stream, &subscription, &Start::Offsets(offsets.clone()), None, false, wait)?;
        }
        let found = self.describe(wait)?;
        let cursors = cursors_of(&found, &subscription);
        Ok(SourceOffset {
            stream: stream.clone(),
            stream_id: StreamId(found.stream_id),
            subscription,
            initial: cursors.clone(),
            ends: cursors,
        })
    }

    /// Takes down what is available now: [`latest`](Self::latest) gives nothing beyond.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn prepare_available_now(&mut self, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        self.target = Some(ends_of(&self.describe(wait)?));
        Ok(())
    }

    /// The end of the next micro-batch, which begins at `start`; `is_limited` says whether the options' limits count.
    ///
    /// What it takes in is planned: the producer need not wait for it, though Spark will ack it only once there is more to read.
    ///
    /// # Errors
    /// `stream_replaced`; where everything is read, `stream_failed` and `producer_lost`.
    pub fn latest(&self, start: &SourceOffset, is_limited: bool, wait: &mut Waiting<'_>) -> Result<Latest, Ended> {
        let found = self.describe(wait)?;
        self.check_same(&found, start)?;
        let mut ends = self.target.clone().unwrap_or_else(|| ends_of(&found));
        for (partition, end) in &mut ends {
            *end = start.ends.get(partition).copied().unwrap_or_default().max(*end);
        }
        if ends == start.ends {
            self.plan_again(&found, start, wait)?;
            self.check_alive(&found)?;
            return Ok(Latest { offset: start.clone(), is_new: false });
        }
        if is_limited {
            ends = self.limited(&found, &start.ends, &ends);
        }
        self.client.plan(&start.stream, &start.subscription, &ends, Some(start.stream_id), wait)?;
        Ok(Latest { offset: SourceOffset { ends, ..start.clone() }, is_new: true })
    }

    /// The last plan may not have come to the coordinator, whose producers would wait in vain.
    fn plan_again(&self, found: &StreamDescription, at: &SourceOffset, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        let known: Ends = subscription_of(found, &at.subscription)
            .flat_map(|subscription| &subscription.partitions)
            .map(|entry| (PartitionId(entry.partition), Offset(entry.acked.max(entry.planned))))
            .collect();
        if at.ends.iter().any(|(partition, end)| known.get(partition).is_some_and(|known| end > known)) {
            self.client.plan(&at.stream, &at.subscription, &at.ends, Some(at.stream_id), wait)?;
        }
        Ok(())
    }

    fn check_same(&self, found: &StreamDescription, at: &SourceOffset) -> Result<(), Error> {
        if found.stream_id == at.stream_id.0 {
            return Ok(());
        }
        let stream = &at.stream;
        Err(refused(
            Code::StreamReplaced,
            format!(
                "stream '{stream}' was deleted and created again since this checkpoint was written: its offsets mean nothing for the new \
                 stream; start the query with a new checkpoint"
            ),
        ))
    }

    /// Everything is read: now an error of the producer may end the query.
    fn check_alive(&self, found: &StreamDescription) -> Result<(), Error> {
        let stream = &self.options.place.stream;
        if found.state() == StreamState::Failed {
            let text = format!("stream '{stream}' was ended with an error by its producer: {}", found.reason);
            return Err(refused(Code::StreamFailed, text));
        }
        match found.producers.iter().find(|producer| producer.lost) {
            Some(lost) if found.state() == StreamState::Open && self.options.fail_on_producer_lost => Err(refused(
                Code::ProducerLost,
                format!(
                    "producer {} of stream '{stream}' is lost: it stopped giving signs of life; restart it and then this query, dismiss it \
                     with keep_producer(stream, producer, run, 0) if another has taken its place, or set failOnProducerLost to false to \
                     wait for it",
                    lost.producer
                ),
            )),
            _ => Ok(()),
        }
    }

    /// One range per partition that has something new.
    ///
    /// # Errors
    /// Those of [`Client::unsubscribe`].
    pub fn ranges(&mut self, start: &SourceOffset, end: &SourceOffset, wait: &mut Waiting<'_>) -> Result<Vec<StreamRange>, Ended> {
        let begins = if start.subscription == end.subscription { start.ends.clone() } else { self.first_batch_again(start, end, wait)? };
        let stream_id = end.stream_id;
        let ranges = end.ends.iter().map(|(&partition, &end)| {
            let start = begins.get(&partition).copied().unwrap_or_default();
            StreamRange { partition, start, end, stream_id }
        });
        Ok(ranges.filter(|range| range.end > range.start).collect())
    }

    /// The query stopped before its first micro-batch was done, of which Spark kept the end only: `planned`, which knows the start too.
    fn first_batch_again(&mut self, made_up: &SourceOffset, planned: &SourceOffset, wait: &mut Waiting<'_>) -> Result<Ends, Ended> {
        if self.options.subscription.is_none() {
            self.client.unsubscribe(&self.options.place.stream, &made_up.subscription, wait)?;
        }
        self.initial = Some(SourceOffset { ends: planned.initial.clone(), ..planned.clone() });
        Ok(planned.initial.clone())
    }

    /// What a batch read covers: of each partition, what is visible between the options' offsets.
    ///
    /// # Errors
    /// `invalid_argument` for options that are a streaming query's, or partitions that the stream does not have; `offset_gone` and
    /// `offset_ahead` for offsets that are not there.
    pub fn snapshot(&self, wait: &mut Waiting<'_>) -> Result<Vec<StreamRange>, Ended> {
        if let Some(subscription) = &self.options.subscription {
            return Err(Ended::Failed(Error::invalid(format!(
                "option 'subscription' is '{subscription}', but a batch read has no cursor: it would ack nothing; give it startingOffsets, or \
                 read with readStream and Trigger.AvailableNow"
            ))));
        }
        let found = self.describe(wait)?;
        let visible: BTreeMap<PartitionId, (Offset, Offset)> =
            found.partitions.iter().map(|entry| (PartitionId(entry.partition), (Offset(entry.start), Offset(entry.end)))).collect();
        let starts = bounds(&self.options.starting, "startingOffsets", &visible, |(start, _)| start)?;
        let ends = bounds(&self.options.ending, "endingOffsets", &visible, |(_, end)| end)?;
        let stream_id = StreamId(found.stream_id);
        let ranges = ends.into_iter().map(|(partition, end)| StreamRange { partition, start: starts[&partition], end, stream_id });
        Ok(ranges.filter(|range| range.end > range.start).collect())
    }

    /// Spark will never ask for anything before `end` again: acks it.
    ///
    /// # Errors
    /// Those of [`Client::ack`].
    pub fn commit(&self, end: &SourceOffset, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        self.client.ack(&end.stream, &end.subscription, &end.ends, Some(end.stream_id), wait)
    }

    /// The query has ended or failed: says so to the producer, if that is wished for. A stream that was ended by someone else, or a
    /// coordinator that is gone, is no error: then nobody waits.
    pub fn stop(&self, wait: &mut Waiting<'_>) {
        if self.options.complete_on_stop {
            drop(self.client.complete_stream(&self.options.place.stream, wait));
        }
    }

    /// Reads an offset that Spark has kept.
    ///
    /// # Errors
    /// `invalid_argument` if it is another stream's or another source's.
    pub fn offset(&self, json: &str) -> Result<SourceOffset, Error> {
        SourceOffset::parse(json, &self.options.place.stream)
    }

    fn describe(&self, wait: &mut Waiting<'_>) -> Result<StreamDescription, Ended> {
        self.client.describe_stream(&self.options.place.stream, wait)
    }

    /// The ends of a micro-batch within the user's limits: a fair share of each partition's backlog. At least one batch always goes,
    /// however large. Bytes are estimated, by the average of all batches so far.
    fn limited(&self, found: &StreamDescription, start: &Ends, ends: &Ends) -> Ends {
        let by_bytes = self.options.max_bytes.map(|bytes| (bytes / batch_bytes(found)).max(1));
        let mut room = self.options.max_batches.unwrap_or(u64::MAX).min(by_bytes.unwrap_or(u64::MAX));
        let mut result = start.clone();
        let mut backlog: BTreeMap<PartitionId, u64> =
            ends.iter().map(|(partition, end)| (*partition, end.0 - start.get(partition).map_or(0, |start| start.0))).collect();
        loop {
            backlog.retain(|_, left| *left > 0);
            if room == 0 || backlog.is_empty() {
                return result;
            }
            let share = (room / backlog.len() as u64).max(1);
            for (partition, left) in &mut backlog {
                let taken = share.min(*left).min(room);
                result.entry(*partition).or_default().0 += taken;
                *left -= taken;
                room -= taken;
            }
        }
    }
}

/// Bytes of an average batch of the stream, at least 1.
fn batch_bytes(description: &StreamDescription) -> u64 {
    let batches: u64 = description.partitions.iter().map(|entry| entry.end).sum();
    let bytes: u64 = description.partitions.iter().map(|entry| entry.bytes_total).sum();
    (bytes / batches.max(1)).max(1)
}

/// One past the last visible offset, per partition.
fn ends_of(description: &StreamDescription) -> Ends {
    description.partitions.iter().map(|entry| (PartitionId(entry.partition), Offset(entry.end))).collect()
}

fn subscription_of<'a>(description: &'a StreamDescription, name: &'a str) -> impl Iterator<Item = &'a SubscriptionDescription> {
    description.subscriptions.iter().filter(move |subscription| subscription.subscription == name)
}

/// Where a subscription goes on, per partition.
fn cursors_of(description: &StreamDescription, subscription: &str) -> Ends {
    let partitions = subscription_of(description, subscription).flat_map(|subscription| &subscription.partitions);
    partitions.map(|entry| (PartitionId(entry.partition), Offset(entry.acked))).collect()
}

/// One end of a batch read, per partition; `of` gives the one that is taken where the option names none.
fn bounds(
    bound: &Bound,
    option: &str,
    visible: &BTreeMap<PartitionId, (Offset, Offset)>,
    of: impl Fn((Offset, Offset)) -> Offset,
) -> Result<Ends, Error> {
    let named = match bound {
        Bound::Earliest => return Ok(visible.iter().map(|(partition, (start, _))| (*partition, *start)).collect()),
        Bound::Latest => return Ok(visible.iter().map(|(partition, (_, end))| (*partition, *end)).collect()),
        Bound::At(named) => named,
    };
    if let Some((partition, _)) = named.iter().find(|(partition, _)| !visible.contains_key(partition)) {
        let count = visible.len();
        let text = format!("option '{option}' names partition {partition}, but the stream has {count} partitions, counted from 0");
        return Err(refused(Code::PartitionOutOfRange, text));
    }
    let mut found = Ends::new();
    for (&partition, &(start, end)) in visible {
        let at = named.get(&partition).copied().unwrap_or_else(|| of((start, end)));
        if at < start || at > end {
            let code = if at < start { Code::OffsetGone } else { Code::OffsetAhead };
            let text = format!(
                "option '{option}' is offset {at} in partition {partition}, which has batches {start} to {end} (the end excluded); name one of \
                 these, or leave the partition out"
            );
            return Err(refused(code, text));
        }
        found.insert(partition, at);
    }
    Ok(found)
}

/// What the coordinator would say, found out here.
fn refused(code: Code, text: String) -> Error {
    Error::Refused { code, retry: code.retry(), stored: code.stored(), text: text.into() }
}
