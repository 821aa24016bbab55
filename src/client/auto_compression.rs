//! Whether to compress the next batch: only if it arrives sooner that way.

use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch};
use arrow_ipc::CompressionType;

use super::Error;
use super::encode::BatchEncoder;
use super::retry::now;
use crate::wire::batch::EncodedBatch;
use crate::wire::ipc::{self, Message};

/// Smaller bodies are left as they are: what they cost is not their bytes.
const BATCH_BYTES_MIN: u64 = 16 << 10;
/// What compression must gain, since it also costs the consumers time: a quarter.
const GAIN_MIN: f64 = 1.25;
/// A trial has so many batches: the first ones meet cold caches and fresh memory.
const TRIAL_BATCHES: u32 = 4;
/// How long a codec that did not pay is left alone before the next trial.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Weight of the newest batch's ratio among those measured.
const NEWEST: f64 = 0.25;
/// What is left of the best speed with each slower batch: a thread that has to wait for its turn is no slower codec.
const FADING: f64 = 15.0 / 16.0;

/// Chooses for each batch of one appender, from the connection's speed and from what compression has done to the batches
/// before: with a codec that takes `speed` bytes per second and leaves one byte of `ratio`, a connection of `wire` bytes
/// per second delivers `min(speed, wire * ratio)` of them.
#[derive(Debug, Default)]
pub(super) struct AutoCompression {
    measured: Option<Measured>,
}

/// What compression does.
#[derive(Debug, Clone, Copy)]
struct Measured {
    batches: u32,
    bytes_per_second: f64,
    ratio: f64,
    at: Instant,
}

impl Measured {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= RETRY_AFTER
    }
}

impl AutoCompression {
    /// Encodes a batch for a connection of `wire` bytes per second, if that is known.
    pub(super) fn encode(&mut self, encoder: &mut BatchEncoder, batch: &RecordBatch, wire: Option<f64>) -> Result<EncodedBatch, Error> {
        let started = now();
        let bytes = if wire.is_some() { value_bytes_max(batch) } else { 0 };
        if !self.chooses(bytes, wire, started) {
            encoder.use_codec(None)?;
            return encoder.encode(batch);
        }
        encoder.use_codec(Some(CompressionType::LZ4_FRAME))?;
        let encoded = encoder.encode(batch)?;
        let ended = now();
        let Message { header, body } = &encoded.message;
        if let Some(before) = ipc::decompressed_bytes(&ipc::parse(header)?, body)? {
            self.compressed(before, body.len(), ended.saturating_duration_since(started), ended);
        }
        Ok(encoded)
    }

    /// Whether to compress a batch of `bytes`.
    fn chooses(&self, bytes: u64, wire: Option<f64>, now: Instant) -> bool {
        let Some(wire) = wire.filter(|_| bytes >= BATCH_BYTES_MIN) else { return false };
        match self.measured {
            Some(codec) if codec.batches >= TRIAL_BATCHES && !codec.is_old(now) => {
                codec.bytes_per_second.min(wire * codec.ratio) > wire * GAIN_MIN
            }
            Some(_) | None => true,
        }
    }

    /// Compression has made `after` bytes of `before` in `elapsed`.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn compressed(&mut self, before: u64, after: u64, elapsed: Duration, now: Instant) {
        let (before, after) = (before.max(1) as f64, after.max(1) as f64);
        let (speed, ratio) = (before / elapsed.as_secs_f64().max(1e-9), before / after);
        self.measured = Some(match self.measured.filter(|measured| !measured.is_old(now)) {
            None => Measured { batches: 1, bytes_per_second: speed, ratio, at: now },
            Some(old) => Measured {
                batches: old.batches.saturating_add(1),
                bytes_per_second: speed.max(old.bytes_per_second * FADING),
                ratio: old.ratio + (ratio - old.ratio) * NEWEST,
                at: now,
            },
        });
    }
}

/// Bytes of a batch's values, at most: of a slice of lists it takes all, and dictionaries, which are sent once, each time.
fn value_bytes_max(batch: &RecordBatch) -> u64 {
    let bytes = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(|column| u64::try_from(bytes(column)).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::client::Compression;

    const MB: u64 = 1_000_000;

    /// A codec of 1,000 MB/s that leaves one byte of `ratio`.
    fn measured(ratio: u64, now: Instant) -> AutoCompression {
        let mut auto = AutoCompression::default();
        for _ in 0..TRIAL_BATCHES {
            auto.compressed(MB * ratio, MB, Duration::from_millis(ratio), now);
        }
        auto
    }

    #[test]
    fn it_compresses_where_the_connection_is_slower_than_the_codec() {
        let now = now();
        let auto = measured(3, now);
        for (wire, chosen) in [(1e7, true), (2e8, true), (7e8, true), (9e8, false), (3e9, false)] {
            assert_eq!(auto.chooses(MB, Some(wire), now), chosen, "{wire}");
        }
        assert!(!auto.chooses(MB, None, now), "nobody knows that it is slow");
        assert!(!auto.chooses(BATCH_BYTES_MIN - 1, Some(1e7), now), "too small");
    }

    #[test]
    fn what_does_not_become_smaller_is_tried_once_in_a_while() {
        let now = now();
        let mut auto = AutoCompression::default();
        for _ in 0..TRIAL_BATCHES {
            assert!(auto.chooses(MB, Some(1e7), now), "not enough is known of the batches");
            auto.compressed(MB, MB, Duration::from_millis(1), now);
        }
        assert!(!auto.chooses(MB, Some(1e7), now));
        assert!(auto.chooses(MB, Some(1e7), now + RETRY_AFTER));
    }

    /// Numbers that nothing makes smaller.
    fn noise() -> impl Iterator<Item = i64> {
        std::iter::successors(Some(1_i64), |last| {
            Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        })
    }

    /// The ratio that compression of such batches has.
    fn ratio(column: ArrayRef) -> f64 {
        let batch = RecordBatch::try_from_iter([("c", column)]).expect("one column");
        let mut encoder = BatchEncoder::new(batch.schema(), Compression::Auto).expect("encodable");
        let mut auto = AutoCompression::default();
        for _ in 0..TRIAL_BATCHES {
            auto.encode(&mut encoder, &batch, Some(1e6)).expect("encodable");
        }
        auto.measured.expect("it was tried").ratio
    }

    #[test]
    fn what_a_batch_is_cut_from_and_what_its_dictionary_has_are_not_taken_for_its_own() {
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        let values = Arc::new(Int64Array::from_iter_values(noise().take(1 << 20)));
        let lists = ListArray::new(item, OffsetBuffer::from_lengths([1 << 10; 1 << 10]), values, None);
        assert!((0.9..1.1).contains(&ratio(Arc::new(lists.slice(0, 16)))));

        let words = Arc::new(StringArray::from_iter_values(noise().take(1 << 14).map(|number| "word".repeat(8) + &number.to_string())));
        let keys = Int32Array::from_iter_values(noise().take(1 << 12).map(|number| (number >> 33) as i32 & 0x3fff));
        assert!((0.9..2.5).contains(&ratio(Arc::new(DictionaryArray::new(keys, words)))), "keys of 14 bits in 32");
        assert!(ratio(Arc::new(Int64Array::from_value(7, 1 << 14))) > 10.0);
    }

    #[test]
    fn a_batch_that_took_long_does_not_make_the_codec_slow() {
        let now = now();
        let mut auto = AutoCompression::default();
        for milliseconds in [90, 3, 3, 70] {
            auto.compressed(3 * MB, MB, Duration::from_millis(milliseconds), now);
        }
        assert!(auto.chooses(MB, Some(5e8), now));
    }

    #[test]
    fn batches_that_change_change_the_choice() {
        let now = now();
        let mut auto = measured(4, now);
        let mut tried = 0;
        while auto.chooses(MB, Some(1e8), now) {
            auto.compressed(MB, MB, Duration::from_millis(1), now);
            tried += 1;
        }
        assert!((2..20).contains(&tried), "{tried}");
    }
}
