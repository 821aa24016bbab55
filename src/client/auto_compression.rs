//! Whether to compress the next batch: only if it arrives sooner that way.

use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch};
use arrow_ipc::CompressionType;

use super::Error;
use super::encode::BatchEncoder;
use super::retry::now;
use crate::wire::batch::EncodedBatch;

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
        let before = if wire.is_some() { value_bytes(batch) } else { 0 };
        if !self.chooses(before, wire, started) {
            encoder.use_codec(None)?;
            return encoder.encode(batch);
        }
        encoder.use_codec(Some(CompressionType::LZ4_FRAME))?;
        let encoded = encoder.encode(batch)?;
        let ended = now();
        self.compressed(before, encoded.bytes(), ended.saturating_duration_since(started), ended);
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

/// Bytes of a batch's own values: a slice's, not those of the whole that it is cut from.
fn value_bytes(batch: &RecordBatch) -> u64 {
    let bytes = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(|column| u64::try_from(bytes(column)).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

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
