//! `Native`'s methods for writing.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use bowstring::client::{Error, ProducerRun};
use bowstring::engine::Epoch;
use bowstring::spark::types::{self, Intervals};
use bowstring::spark::{EpochIdentity, RealTimeWriter, Sink, SinkOptions, Target, TaskWriter};
use jni::objects::{JByteArray, JClass, JLongArray, JObjectArray, JString};
use jni::sys::{jboolean, jint, jlong};
use jni::{Env, EnvUnowned};

use crate::columns::assemble;
use crate::handles::Handles;
use crate::memory::copied;
use crate::raised::{Raised, last_word, native, waiting};
use crate::text::{Options, string};

static WRITERS: Handles<Writer> = Handles::new("writer");

/// A task's writer, and the schema of what it is given.
struct Writer {
    way: Way,
    schema: SchemaRef,
}

/// How a task's rows go out.
enum Way {
    /// As a part of an epoch.
    Epoch(TaskWriter),
    /// As they come.
    RealTime(RealTimeWriter),
}

/// Creates the stream if need be: its partitions, the most bytes of a batch, and nanoseconds to linger in real time.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_prepareSink<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
    schema: JString<'local>,
) -> JLongArray<'local> {
    native(env, &class, |env| {
        let options = sink_options(env, &options)?;
        let schema = string(env, &schema)?;
        let linger = options.real_time_linger.as_nanos();
        let target = waiting(env, &class, |wait| Sink::open(options, wait)?.prepare(&schema, wait))?;
        let bytes_max = i64::try_from(target.batch_bytes_max).unwrap_or(i64::MAX);
        longs(env, &[i64::from(target.partitions), bytes_max, i64::try_from(linger).unwrap_or(i64::MAX)])
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_commitEpoch<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
    producer: JString<'local>,
    run: JString<'local>,
    epoch: jlong,
    receipts: JObjectArray<'local, JByteArray<'local>>,
) {
    native(env, &class, |env| {
        let (options, identity) = (sink_options(env, &options)?, identity(env, &producer, &run, epoch)?);
        let mut all = Vec::with_capacity(receipts.len(env)?);
        for index in 0..receipts.len(env)? {
            let receipt = receipts.get_element(env, index)?;
            all.push(env.convert_byte_array(&receipt)?);
            env.delete_local_ref(receipt);
        }
        waiting(env, &class, |wait| Sink::open(options, wait)?.commit(&identity, &all, wait))?;
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_abortEpoch<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
    producer: JString<'local>,
    run: JString<'local>,
    epoch: jlong,
) {
    native(env, &class, |env| {
        let (options, identity) = (sink_options(env, &options)?, identity(env, &producer, &run, epoch)?);
        last_word(|wait| Sink::open(options, wait)?.abort(&identity, wait))?;
        Ok(())
    });
}

/// A task's writer, on an executor.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_openWriter<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
    schema: JString<'local>,
    target: JLongArray<'local>,
    producer: JString<'local>,
    run: JString<'local>,
    epoch: jlong,
    task: jint,
    reopen: jboolean,
) -> jlong {
    native(env, &class, |env| {
        let options = sink_options(env, &options)?;
        let schema: Schema = types::to_arrow(&string(env, &schema)?, Intervals::Taken)?;
        let identity = identity(env, &producer, &run, epoch)?;
        let target = target_of(env, &target)?;
        let task = u32::try_from(task).map_err(|_| negative("task"))?;
        let writer = waiting(env, &class, |wait| TaskWriter::open(&options, target, &identity, task, reopen, wait))?;
        Ok(WRITERS.insert(Writer { way: Way::Epoch(writer), schema: Arc::new(schema) }))
    })
}

/// A task's writer whose rows go out as they come, on an executor.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_openRealTimeWriter<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
    schema: JString<'local>,
    target: JLongArray<'local>,
    query: JString<'local>,
    task: jint,
) -> jlong {
    native(env, &class, |env| {
        let options = sink_options(env, &options)?;
        let schema: SchemaRef = Arc::new(types::to_arrow(&string(env, &schema)?, Intervals::Taken)?);
        let (target, query) = (target_of(env, &target)?, string(env, &query)?);
        let task = u32::try_from(task).map_err(|_| negative("task"))?;
        let of = schema.clone();
        let writer = waiting(env, &class, |wait| RealTimeWriter::open(&options, target, &query, task, of, wait))?;
        Ok(WRITERS.insert(Writer { way: Way::RealTime(writer), schema }))
    })
}

/// Appends rows, given as nodes and places of buffers; they are copied before this returns.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_append<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    writer: jlong,
    rows: jint,
    nodes: JLongArray<'local>,
    places: JLongArray<'local>,
) {
    native(env, &class, |env| {
        let (nodes, places) = (taken(env, &nodes)?, taken(env, &places)?);
        // SAFETY: the places are the buffers of vectors that the calling thread holds until this returns.
        let buffers = unsafe { copied(&places) }?;
        let rows = usize::try_from(rows).map_err(|_| negative("rows"))?;
        let writer = WRITERS.get(writer)?;
        let mut writer = writer.lock();
        let batch = assemble(&writer.schema, rows, &nodes, buffers)?;
        waiting(env, &class, |wait| match &mut writer.way {
            Way::Epoch(writer) => writer.append(&batch, wait),
            Way::RealTime(writer) => writer.append(&batch, wait),
        })
    });
}

/// Whether all is stored that was appended in real time.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_isStored<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    writer: jlong,
) -> jboolean {
    native(env, &class, |_| match &mut WRITERS.get(writer)?.lock().way {
        Way::Epoch(_) => Err(Error::InvalidArgument { what: "a part of an epoch is asked for its receipt".to_owned() }.into()),
        Way::RealTime(writer) => Ok(writer.is_stored()?),
    })
}

/// The receipt; null if there is nothing to commit.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_finishWriter<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    writer: jlong,
) -> JByteArray<'local> {
    native(env, &class, |env| {
        let writer = WRITERS.get(writer)?;
        let receipt = waiting(env, &class, |wait| match &mut writer.lock().way {
            Way::Epoch(writer) => writer.finish(wait),
            Way::RealTime(writer) => writer.finish(wait).map(|()| None),
        })?;
        Ok(receipt.map(|receipt| env.byte_array_from_slice(&receipt)).transpose()?.unwrap_or_default())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_closeWriter<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
    writer: jlong,
) {
    WRITERS.remove(writer);
}

fn sink_options(env: &mut Env<'_>, options: &JObjectArray<'_, JString<'_>>) -> Result<SinkOptions, Raised> {
    Ok(SinkOptions::parse(Options::take(env, options)?.pairs())?)
}

/// What [`Java_io_bowstring_spark_Native_prepareSink`] gave.
fn target_of(env: &mut Env<'_>, numbers: &JLongArray<'_>) -> Result<Target, Raised> {
    let mut target = [0; 2];
    numbers.get_region(env, 0, &mut target)?;
    Ok(Target {
        partitions: u32::try_from(target[0]).map_err(|_| negative("partitions"))?,
        batch_bytes_max: u64::try_from(target[1]).map_err(|_| negative("bytes"))?,
    })
}

fn identity(env: &Env<'_>, producer: &JString<'_>, run: &JString<'_>, epoch: jlong) -> Result<EpochIdentity, Raised> {
    let run = ProducerRun { producer: string(env, producer)?, run: string(env, run)? };
    Ok(EpochIdentity { run, epoch: Epoch(u64::try_from(epoch).map_err(|_| negative("epoch"))?) })
}

fn negative(what: &str) -> Error {
    Error::InvalidArgument { what: format!("a number of {what} is negative or too large; this is a defect of the connector") }
}

fn taken(env: &Env<'_>, array: &JLongArray<'_>) -> Result<Vec<jlong>, Raised> {
    let mut numbers = vec![0; array.len(env)?];
    array.get_region(env, 0, &mut numbers)?;
    Ok(numbers)
}

/// An array of Java's.
pub(crate) fn longs<'local>(env: &mut Env<'local>, numbers: &[jlong]) -> Result<JLongArray<'local>, Raised> {
    let array = env.new_long_array(numbers.len())?;
    array.set_region(env, 0, numbers)?;
    Ok(array)
}
