"""Spark to everybody else: ``from_spark_streaming``."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import bowstring

from .connections import Attached, attach, ensure_stream, is_connect
from .datasource import PythonDataSource, register
from .jvm import PROVIDER, add_jar
from .options import StreamLimits, sink_options
from .query import StreamingQueryWrapper
from .real_time import SETTINGS, check_real_time, is_real_time, prepare_writer
from .sink import foreach_batch_writer, schema_or_none
from .types import check_writable, to_jvm_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter
    from pyspark.sql.types import StructType

#: Spark 4.3 counts bytes row by row when it cuts Arrow batches by size, which costs half of its time; this
#: limit, the largest, turns the counting off. Batches are still cut at maxRecordsPerBatch (10,000 rows).
_ARROW_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_ARROW_BYTES_MAX = str((1 << 31) - 1)
_conf_lock = threading.Lock()


def from_spark_streaming(
    streaming_df: DataFrame,
    stream_id: str | None = None,
    max_buffered_batches: int = 64,
    max_buffered_bytes: int = 2 * 1024**3,
    trigger: dict[str, Any] | str | None = None,
    checkpoint_location: str | None = None,
    *,
    coordinator: Any = None,
    num_partitions: int | None = None,
    routing: str = "spark",
    sink: str = "datasource",
    use_jvm_sink: bool = False,
    max_spool_bytes: int | None = None,
    append_timeout: float | None = None,
    compression: str | None = None,
    query_name: str | None = None,
    subscription: str = "default",
    timeout: float | None = None,
    keep_stream: bool = False,
    real_time_linger: float | None = None,
) -> tuple[bowstring.StreamingIterator, StreamingQueryWrapper]:
    """Starts a query that pushes `streaming_df` from the executors into a stream.

    Each micro-batch becomes visible as a whole when the driver commits it, exactly once, also after a restart from
    the checkpoint. When the query ends, is stopped or fails, consumers get what is buffered and then the end, or
    the reason.

    In Spark's Real-time Mode, ``trigger={"realTime": "5 minutes"}`` with ``use_jvm_sink=True``, rows are visible
    milliseconds after they come, **at least once**: what a batch that failed or was stopped has pushed comes again when
    the query goes on. Update mode, synchronous progress and ``realTimeMode.allowlistCheck=false`` are set for
    this query. What is left to you: a source that Spark takes there (Kafka), as many free cores as the query has tasks,
    and a duration of at least ``spark.sql.streaming.realTimeMode.minBatchDuration`` (5 seconds).

    Args:
        streaming_df: a streaming DataFrame.
        stream_id: the stream's name; a new one if None.
        max_buffered_batches: batches that the coordinator holds in memory before the query waits.
        max_buffered_bytes: bytes, likewise. A micro-batch larger than the limits spools to disk.
        trigger: as ``DataStreamWriter.trigger`` takes it, a dict like ``{"availableNow": True}``; a string is a
            processing time like ``"2 seconds"``; ``{"realTime": "5 minutes"}`` is Real-time Mode.
        checkpoint_location: Spark's checkpoint; needed to restart exactly once. None takes the session's, or a
            temporary one that goes with the query.
        coordinator: a ``StreamCoordinator``, a ``Client`` or a URL; None starts one in this process.
        num_partitions: the stream's partitions; None takes those of an existing stream, or 1.
        routing: ``"spark"`` (Spark's partition modulo the stream's), ``"round_robin"``, ``"hash(a, b)"`` (equal keys
            meet in one partition) or ``"column:p"`` (column p holds the partition's number).
        sink: ``"datasource"``, or ``"foreach_batch"`` for Spark features that only foreachBatch offers.
        use_jvm_sink: push with the JVM connector, which needs no Python on the executors; its jar is in the wheel.
            Default false.
        max_spool_bytes: disk that an open epoch may use beyond memory.
        append_timeout: seconds that an append may wait for room before the query fails; None waits.
        compression: of the batches, on their way and in the coordinator: ``"none"`` (default), ``"lz4"``,
            ``"zstd"``, or ``"auto"``: LZ4 while the network is slower than compression.
        query_name: Spark's name for the query.
        subscription: the cursor that the returned iterator reads with.
        timeout: seconds that the iterator waits for a batch before it raises; None waits.
        keep_stream: leave the stream open when the query ends, so that the query can be started again on it.
        real_time_linger: in Real-time Mode, seconds in which a task pushes at most one batch; no row waits for longer,
            and one that comes after a pause not at all. Default 0.005.

    Returns:
        An iterator of record batches, which pickles, and the query.
    """
    if sink not in ("datasource", "foreach_batch"):
        raise ValueError(f"sink is {sink!r}; use 'datasource' or 'foreach_batch'")
    if not streaming_df.isStreaming:
        raise ValueError(
            "from_spark_streaming needs a streaming DataFrame (spark.readStream...); "
            "write others with df.write.format('bowstring')"
        )
    real_time = is_real_time(trigger)
    if real_time:
        check_real_time(sink, use_jvm_sink=use_jvm_sink)
    elif real_time_linger is not None:
        raise ValueError(
            "real_time_linger is for Real-time Mode; use trigger={'realTime': '5 minutes'}, or leave it out"
        )
    spark = streaming_df.sparkSession
    stream = stream_id or f"spark-{uuid.uuid4()}"
    limits = StreamLimits(num_partitions, max_buffered_batches, max_buffered_bytes, max_spool_bytes)
    attached = attach(coordinator, spark, limits)
    temporary: str | None = None
    try:
        options = {**attached.options, "stream": stream, "routing": routing}
        if append_timeout is not None:
            options["appendTimeout"] = str(append_timeout)
        if compression is not None:
            options["compression"] = compression
        if real_time:
            options["realTime"] = "true"
        if real_time_linger is not None:
            options["realTimeLinger"] = str(real_time_linger)
        sink_options(options).routing.check(streaming_df.columns)
        schema = _schema(streaming_df.schema, use_jvm_sink)
        ensure_stream(attached.client, stream, limits, schema)
        attached.client.subscribe(stream, subscription)
        named = None
        if sink == "foreach_batch" and is_connect(spark):
            named = _name_producer(checkpoint_location)
            options["producer"], options["run"] = named
        if checkpoint_location is None:
            temporary = temporary_checkpoint(spark)
        if use_jvm_sink:
            add_jar(spark)
        format_name = PROVIDER if use_jvm_sink else PythonDataSource.name()
        writer = _writer(
            streaming_df, sink, format_name, options, trigger, checkpoint_location or temporary, query_name
        )
        if real_time:
            writer = prepare_writer(writer)
        with quick_arrow(spark, SETTINGS if real_time else {}):
            query = writer.start()
    except BaseException:
        attached.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    iterator = attached.client.iterator(stream, subscription=subscription, timeout=timeout)
    wrapper = StreamingQueryWrapper(
        query, stream, attached, keep_stream=keep_stream, temporary=temporary, producer=named
    )
    return iterator, wrapper


def _schema(schema: StructType, use_jvm_sink: bool) -> pa.Schema | None:
    """What the stream is made with. Raises TypeError for columns that the sink cannot write."""
    if use_jvm_sink:
        return to_jvm_schema(schema)
    check_writable(schema)
    return schema_or_none(schema)


def _name_producer(checkpoint: str | None) -> tuple[str, str]:
    """A producer's id that is the same for all runs from one checkpoint, and a run's id."""
    of = uuid.uuid5(uuid.NAMESPACE_URL, checkpoint) if checkpoint else uuid.uuid4()
    return f"checkpoint-{of}", str(uuid.uuid4())


def watch_query(
    query: StreamingQuery, coordinator: Any, stream: str, *, keep_stream: bool = False
) -> StreamingQueryWrapper:
    """Ties a query that you started with ``format("bowstring")`` to its stream, as from_spark_streaming does.

    Without it the stream stays open when the query ends: Spark gives a sink no word of that.
    """
    client = bowstring.connect(coordinator) if isinstance(coordinator, str) else coordinator
    client = client if isinstance(client, bowstring.Client) else client.client()
    return StreamingQueryWrapper(query, stream, Attached(client, None), keep_stream=keep_stream)


def _writer(
    frame: DataFrame,
    sink: str,
    format_name: str,
    options: dict[str, str],
    trigger: dict[str, Any] | str | None,
    checkpoint: str | None,
    name: str | None,
) -> DataStreamWriter:
    register(frame.sparkSession)
    writer = frame.writeStream
    if sink == "datasource":
        writer = writer.format(format_name).options(**options)
    else:
        writer = writer.foreachBatch(foreach_batch_writer(**options, use_jvm_sink=format_name == PROVIDER))
    if trigger is not None:
        writer = writer.trigger(**({"processingTime": trigger} if isinstance(trigger, str) else trigger))
    if checkpoint is not None:
        writer = writer.option("checkpointLocation", checkpoint)
    return writer if name is None else writer.queryName(name)


def temporary_checkpoint(spark: SparkSession) -> str | None:
    """A directory for a query without a checkpoint, which Spark insists on; None if the session has one for all."""
    if spark.conf.get("spark.sql.streaming.checkpointLocation", None):
        return None
    return tempfile.mkdtemp(prefix="bowstring-checkpoint-")


@contextmanager
def quick_arrow(spark: SparkSession, more: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turns off Spark's counting of Arrow bytes for a query that is started inside, and sets `more` settings for it.

    What the user has set is left. A query takes a copy of its session's configuration when it starts, so that this is
    undone right after.
    """
    wanted = {_ARROW_BYTES: _ARROW_BYTES_MAX, **(more or {})}
    with _conf_lock:
        names = [name for name in wanted if spark.conf.get(name, None) is None]
        try:
            for name in names:
                spark.conf.set(name, wanted[name])
            yield
        finally:
            for name in names:
                spark.conf.unset(name)
