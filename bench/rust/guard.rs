//! What the guard costs: the look at a message that every batch gets, and full validation, one thread each.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use bowstring::wire::dictionary::DictionarySet;
use bowstring::wire::ipc::{Body, Message};
use bowstring::wire::limits::DECOMPRESSED_BYTES_MAX;
use bowstring::wire::offsets::OffsetEnds;
use bowstring::wire::schema::StreamSchema;
use bowstring::wire::validate::Validator;
use bytes::Bytes;

use crate::report::monotonic_ns;

/// Rounds; the median counts.
const ROUNDS: usize = 9;
/// How long a round is at least.
const ROUND_NS: u64 = 20_000_000;
/// Rows of the large batches: 4 MiB of eight numbers each.
const ROWS: i64 = 65_536;

/// Prints a table.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let numbers = |rows: i64, columns: usize| {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 1000)));
        RecordBatch::try_from_iter((0..columns).map(|index| (format!("c{index}"), column.clone())))
    };
    let texts = |rows: i64| -> Result<_, Box<dyn Error>> {
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("text {}", row % 1000))));
        Ok(RecordBatch::try_from_iter([("a", text.clone()), ("b", text.clone()), ("c", text)])?)
    };
    println!("| batch | bytes | structure ns | full us | full MB/s |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, batch, codec) in [
        ("1 column of numbers, 100 rows", numbers(100, 1)?, None),
        ("8 columns of numbers, 65,536 rows", numbers(ROWS, 8)?, None),
        ("100 columns of numbers, 100 rows", numbers(100, 100)?, None),
        ("3 columns of text, 100 rows", texts(100)?, None),
        ("3 columns of text, 20,000 rows", texts(20_000)?, None),
        ("8 columns of numbers, 65,536 rows, LZ4", numbers(ROWS, 8)?, Some(CompressionType::LZ4_FRAME)),
        ("8 columns of numbers, 65,536 rows, ZSTD", numbers(ROWS, 8)?, Some(CompressionType::ZSTD)),
    ] {
        row(name, &batch, codec)?;
    }
    Ok(())
}

fn row(name: &str, batch: &RecordBatch, codec: Option<CompressionType>) -> Result<(), Box<dyn Error>> {
    let options = IpcWriteOptions::default().try_with_compression(codec)?;
    let mut tracker = DictionaryTracker::new(false);
    let (_, encoded) = IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut IpcWriteContext::default())?;
    let message = Message { header: encoded.ipc_message.into(), body: Body::from(Bytes::from(encoded.arrow_data)) };
    let schema = StreamSchema::from_arrow(&batch.schema())?;
    let mut ends = OffsetEnds::default();
    let structure = median(|| {
        schema.inspect_with_ends(&message.header, message.body.len(), &mut ends)?;
        match codec {
            None => ends.check(&message.body),
            Some(_) => schema.check_compressed(&message.header, &message.body, DECOMPRESSED_BYTES_MAX),
        }
    })?;
    let mut validator = Validator::new(&schema);
    validator.take_dictionaries(&DictionarySet::empty())?;
    let full = median(|| validator.check(&message))?;
    let plain = batch.get_array_memory_size();
    println!(
        "| {name} | {} | {structure:.0} | {:.1} | {:.0} |",
        message.body.len(),
        full / 1000.0,
        f64::from(u32::try_from(plain)?) * 1000.0 / full
    );
    Ok(())
}

/// Nanoseconds that one takes.
fn median<E: Error + 'static>(mut one: impl FnMut() -> Result<(), E>) -> Result<f64, Box<dyn Error>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (start, mut times) = (monotonic_ns(), 0_u32);
        while monotonic_ns() - start < ROUND_NS {
            // A look at the clock costs as much as a quarter of what is measured.
            for _ in 0..8 {
                one()?;
            }
            times += 8;
        }
        let taken = u32::try_from(monotonic_ns() - start)?;
        rounds.push(f64::from(taken) / f64::from(times));
    }
    rounds.sort_unstable_by(f64::total_cmp);
    Ok(rounds[ROUNDS / 2])
}
