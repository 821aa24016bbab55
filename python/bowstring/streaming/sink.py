"""The sinks: Data Source writers for streaming queries and for batch writes, and a function for foreachBatch."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSourceArrowWriter, DataSourceStreamArrowWriter, WriterCommitMessage

from bowstring.tracing import current_traceparent

from .connections import client_of, ensure_stream, is_connect, partition_count
from .options import SinkOptions, sink_options
from .types import check_writable, to_arrow_schema
from .writing import BATCH_BYTES_MAX, EpochIdentity, Target, abort_epoch, commit_epoch, identity_in_task, write_task

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType


def _prepare(options: SinkOptions, schema: StructType) -> Target:
    """Checks the routing, and creates the stream with the DataFrame's schema if need be."""
    if options.real_time or options.real_time_linger is not None:
        raise ValueError(
            "options 'realTime' and 'realTimeLinger' are the JVM connector's: in Real-time Mode Spark takes no sink in "
            "Python; use from_spark_streaming(..., use_jvm_sink=True), or add_jar(spark) before format('bowstring')"
        )
    options.routing.check(schema.names)
    check_writable(schema)
    client = client_of(options)
    found = ensure_stream(client, options.stream, options.limits, schema_or_none(schema))
    bytes_max = int(found["options"]["max_buffered_bytes"])
    return Target(partition_count(found), max(1, min(BATCH_BYTES_MAX, bytes_max // 4)))


def schema_or_none(schema: StructType) -> pa.Schema | None:
    """The Arrow schema, so that consumers know it before the first row; None where only a batch can tell."""
    try:
        return to_arrow_schema(schema)
    except Exception:  # noqa: BLE001 - pyspark raises several kinds for types that it writes but cannot name
        return None


class StreamWriter(DataSourceStreamArrowWriter):
    """Writes micro-batches. Spark makes one per micro-batch on the driver and sends it to the tasks."""

    def __init__(self, options: SinkOptions, schema: StructType) -> None:
        if options.epoch is not None:
            raise ValueError("option 'epoch' is for batch writes: a streaming query's epochs are its micro-batches")
        self._options = options
        self._target = _prepare(options, schema)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """On an executor: appends one task's batches."""
        return write_task(self._options, self._target, identity_in_task(self._options), iterator, reopen=False)

    def commit(self, messages: list[WriterCommitMessage | None], batchId: int) -> None:
        """On the driver: commits the epoch."""
        commit_epoch(self._options, messages)

    def abort(self, messages: list[WriterCommitMessage | None], batchId: int) -> None:
        """On the driver: gives back what was staged."""
        abort_epoch(self._options, messages)


class BatchWriter(DataSourceArrowWriter):
    """Writes a DataFrame as one epoch: the options', else foreachBatch's micro-batch's, else one of its own."""

    def __init__(self, options: SinkOptions, schema: StructType) -> None:
        self._options = options
        self._target = _prepare(options, schema)
        # A run of its own: what an earlier try has staged is dropped, not gone on with.
        run = options.run or str(uuid.uuid4())
        self._named = None
        if options.producer is not None and options.epoch is not None:
            self._named = EpochIdentity(options.producer, run, options.epoch)
        self._own = EpochIdentity(f"spark-batch-{uuid.uuid4()}", run, 0)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """On an executor: appends one task's batches."""
        identity = self._named or identity_in_task(self._options, self._own)
        if identity is self._own and self._options.producer is not None:
            raise ValueError("option 'producer' needs option 'epoch' too, outside of a streaming query's foreachBatch")
        # A run that this write does not share ends with it.
        alone = self._options.run is None and identity in (self._named, self._own)
        return write_task(self._options, self._target, identity, iterator, reopen=not alone)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """On the driver: commits the epoch."""
        commit_epoch(self._options, messages)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """On the driver: gives back what was staged."""
        abort_epoch(self._options, messages, self._named or self._own)


def foreach_batch_writer(
    url: str, stream: str, *, use_jvm_sink: bool = False, **options: Any
) -> Callable[[DataFrame, int], None]:
    """A function for ``writeStream.foreachBatch(...)``, or to call inside your own.

    It pushes from the executors and is exactly once, as ``format("bowstring")`` is. Options are those of the
    format, in Python's spelling or Spark's (``append_timeout=5`` or ``appendTimeout=5``). A stream takes one
    write per micro-batch and producer: a second one counts as a repetition of the first and changes nothing,
    unless it names another ``producer``. ``use_jvm_sink`` writes with the JVM connector. With Spark Connect
    ``producer`` is needed: a name that stays the same when the query is started again from its checkpoint; Connect does
    not tell a batch write which query it belongs to.
    """
    given = {_spark_spelling(name): str(value) for name, value in options.items() if value is not None}
    given |= {"url": url, "stream": stream}
    # Refuses now what would otherwise fail the query later.
    checked = sink_options(given)
    if checked.epoch is not None:
        raise ValueError("epoch is each micro-batch's own number; leave it out")
    if checked.real_time or checked.real_time_linger is not None:
        raise ValueError("Spark has no foreachBatch in Real-time Mode; leave real_time and real_time_linger out")
    run = given.get("run") or str(uuid.uuid4())

    def write(frame: DataFrame, batch_id: int) -> None:
        from .datasource import PythonDataSource, register
        from .jvm import PROVIDER, add_jar

        if use_jvm_sink:
            add_jar(frame.sparkSession)
        else:
            register(frame.sparkSession)
        # The data source commits in another process of the driver's.
        context = {"traceparent": current_traceparent()} if "traceparent" not in given else {}
        named = given | {name: text for name, text in context.items() if text is not None}
        if is_connect(frame.sparkSession):
            if "producer" not in given:
                raise ValueError(
                    "with Spark Connect foreach_batch_writer needs producer=, a name that the query keeps over its "
                    "runs: without it a repeated micro-batch could not be told from a new one"
                )
            named |= {"epoch": str(batch_id), "run": run}
        name = PROVIDER if use_jvm_sink else PythonDataSource.name()
        frame.write.format(name).mode("append").options(**named).save()

    return write


def _spark_spelling(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
