//! `Native`'s methods for reading.

use std::sync::Arc;

use arrow::buffer::Buffer;
use bowstring::engine::{Offset, PartitionId, StreamId};
use bowstring::spark::types::{self, Intervals};
use bowstring::spark::{RangeReader, Source, SourceOptions, StreamRange};
use bowstring::wire::schema::StreamSchema;
use jni::EnvUnowned;
use jni::objects::{JByteArray, JClass, JLongArray, JObjectArray, JString};
use jni::sys::{jboolean, jlong};

use crate::columns::{flatten, number};
use crate::handles::Handles;
use crate::raised::{last_word, native, waiting};
use crate::sink::longs;
use crate::text::{Options, string};

static SOURCES: Handles<Source> = Handles::new("source");
static READERS: Handles<RangeReader> = Handles::new("reader");
/// What Java's vectors look at.
static BATCHES: Handles<Vec<Buffer>> = Handles::new("batch");

/// The Arrow schema of a Spark schema, as an encapsulated IPC message.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_arrowSchema<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    schema: JString<'local>,
) -> JByteArray<'local> {
    native(env, &class, |env| {
        let schema = types::to_arrow(&string(env, &schema)?, Intervals::Taken)?;
        let message = StreamSchema::from_arrow(&schema).map_err(bowstring::client::Error::from)?;
        Ok(env.byte_array_from_slice(&message.encapsulated())?)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_openSource<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
) -> jlong {
    native(env, &class, |env| {
        let options = SourceOptions::parse(Options::take(env, &options)?.pairs())?;
        let source = waiting(env, &class, |wait| Source::open(options, wait))?;
        Ok(SOURCES.insert(source))
    })
}

/// The stream's schema as Spark's, in JSON.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_sparkSchema<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
) -> JString<'local> {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        let schema = waiting(env, &class, |wait| source.lock().schema(wait))?;
        Ok(env.new_string(schema)?)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_initialOffset<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
) -> JString<'local> {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        let offset = waiting(env, &class, |wait| source.lock().initial(wait))?;
        Ok(env.new_string(offset.json())?)
    })
}

/// An offset in the one form in which offsets can be compared as text.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_normalOffset<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
    offset: JString<'local>,
) -> JString<'local> {
    native(env, &class, |env| {
        let offset = SOURCES.get(source)?.lock().offset(&string(env, &offset)?)?;
        Ok(env.new_string(offset.json())?)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_prepareAvailableNow<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
) {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        waiting(env, &class, |wait| source.lock().prepare_available_now(wait))
    });
}

/// The end of the next micro-batch; null if there is nothing new.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_latestOffset<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
    start: JString<'local>,
    is_limited: jboolean,
) -> JString<'local> {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        let start = source.lock().offset(&string(env, &start)?)?;
        let latest = waiting(env, &class, |wait| source.lock().latest(&start, is_limited, wait))?;
        if latest.is_new { Ok(env.new_string(latest.offset.json())?) } else { Ok(JString::default()) }
    })
}

/// Partition, start, end and stream id of each range of a micro-batch.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_ranges<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
    start: JString<'local>,
    end: JString<'local>,
) -> JLongArray<'local> {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        let (start, end) = (string(env, &start)?, string(env, &end)?);
        let mut source = source.lock();
        let (start, end) = (source.offset(&start)?, source.offset(&end)?);
        let ranges = waiting(env, &class, |wait| source.ranges(&start, &end, wait))?;
        longs(env, &numbers(&ranges))
    })
}

/// The same, of a batch read.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_snapshot<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
) -> JLongArray<'local> {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        let ranges = waiting(env, &class, |wait| source.lock().snapshot(wait))?;
        longs(env, &numbers(&ranges))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_commitOffset<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
    end: JString<'local>,
) {
    native(env, &class, |env| {
        let source = SOURCES.get(source)?;
        let end = source.lock().offset(&string(env, &end)?)?;
        waiting(env, &class, |wait| source.lock().commit(&end, wait))
    });
}

/// The query has ended: says so to the producer if that is wished for, and closes the source.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_stopSource<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: jlong,
) {
    native(env, &class, |_| {
        let stopped = SOURCES.get(source)?;
        SOURCES.remove(source);
        last_word(|wait| {
            stopped.lock().stop(wait);
            Ok(())
        })
    });
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_closeSource<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
    source: jlong,
) {
    SOURCES.remove(source);
}

/// A task's reader; `range` is what [`Java_io_bowstring_spark_Native_ranges`] has given for it.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_openReader<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
    range: JLongArray<'local>,
    schema: JString<'local>,
) -> jlong {
    native(env, &class, |env| {
        let options = SourceOptions::parse(Options::take(env, &options)?.pairs())?;
        let mut given = [0; 4];
        range.get_region(env, 0, &mut given)?;
        let [partition, start, end, stream_id] = given.map(jlong::cast_unsigned);
        let range = StreamRange {
            partition: PartitionId(u32::try_from(partition).unwrap_or(u32::MAX)),
            start: Offset(start),
            end: Offset(end),
            stream_id: StreamId(stream_id),
        };
        let schema = Arc::new(types::to_arrow(&string(env, &schema)?, Intervals::Taken)?);
        let reader = waiting(env, &class, |wait| RangeReader::open(&options.place, range, schema, wait))?;
        Ok(READERS.insert(reader))
    })
}

/// The next batch: its number, its rows, how many numbers its nodes take, the nodes, the places of the buffers; null at the end.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_nextBatch<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    reader: jlong,
) -> JLongArray<'local> {
    native(env, &class, |env| {
        let reader = READERS.get(reader)?;
        let Some(batch) = waiting(env, &class, |wait| reader.lock().next(wait))? else { return Ok(JLongArray::default()) };
        let flat = flatten(&batch)?;
        let head = [0, number(batch.num_rows()), number(flat.nodes.len())];
        let mut numbers: Vec<jlong> = head.into_iter().chain(flat.nodes.iter().copied()).chain(flat.places()).collect();
        numbers[0] = BATCHES.insert(flat.buffers);
        longs(env, &numbers)
    })
}

/// Java looks at a batch no more.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_releaseBatch<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
    batch: jlong,
) {
    BATCHES.remove(batch);
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_closeReader<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
    reader: jlong,
) {
    READERS.remove(reader);
}

/// How many batches Java has not let go: for tests that look for leaks.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_batchesHeld<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
) -> jlong {
    number(BATCHES.count())
}

fn numbers(ranges: &[StreamRange]) -> Vec<jlong> {
    let four = |range: &StreamRange| {
        let unsigned = [u64::from(range.partition.0), range.start.0, range.end.0, range.stream_id.0];
        unsigned.map(u64::cast_signed)
    };
    ranges.iter().flat_map(four).collect()
}
