"""The sinks: Data Source writers for streaming queries and for batch writes, and a function for foreachBatch."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSourceArrowWriter, DataSourceStreamArrowWriter, WriterCommitMessage

from .connections import client_of, ensure_stream, partition_count
from .options import SinkOptions, sink_options
from .types import check_writable, to_arrow_schema
from .writing import EpochIdentity, abort_epoch, commit_epoch, identity_in_task, write_task

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType


def _prepare(options: SinkOptions, schema: StructType) -> int:
    """Checks the routing, creates the stream with the DataFrame's schema if need be; its number of partitions."""
    options.routing.check(schema.names)
    check_writable(schema)
    client = client_of(options.url, options.connect_timeout)
    return partition_count(ensure_stream(client, options.stream, options.limits, schema_or_none(schema)))


def schema_or_none(schema: StructType) -> pa.Schema | None:
    """The Arrow schema, so that consumers know it before the first row; None where only a batch can tell."""
    try:
        return to_arrow_schema(schema)
    except Exception:  # noqa: BLE001 - pyspark raises several kinds for types that it writes but cannot name
        return None


class StreamWriter(DataSourceStreamArrowWriter):
    """Writes micro-batches. Spark makes one per micro-batch on the driver and sends it to the tasks."""

    def __init__(self, options: SinkOptions, schema: StructType) -> None:
        self._options = options
        self._partitions = _prepare(options, schema)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """On an executor: appends one task's batches."""
        return write_task(self._options, self._partitions, identity_in_task(self._options), iterator)

    def commit(self, messages: list[WriterCommitMessage | None], batchId: int) -> None:
        """On the driver: commits the epoch."""
        commit_epoch(self._options, messages)

    def abort(self, messages: list[WriterCommitMessage | None], batchId: int) -> None:
        """On the driver: gives back what was staged."""
        abort_epoch(self._options, messages)


class BatchWriter(DataSourceArrowWriter):
    """Writes a DataFrame as one epoch: within foreachBatch the micro-batch's, elsewhere one of its own."""

    def __init__(self, options: SinkOptions, schema: StructType) -> None:
        self._options = options
        self._partitions = _prepare(options, schema)
        self._fallback = EpochIdentity(f"spark-batch-{uuid.uuid4()}", "batch", 0)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """On an executor: appends one task's batches."""
        return write_task(self._options, self._partitions, identity_in_task(self._options, self._fallback), iterator)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """On the driver: commits the epoch."""
        commit_epoch(self._options, messages)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """On the driver: gives back what was staged."""
        abort_epoch(self._options, messages)


def foreach_batch_writer(url: str, stream: str, **options: Any) -> Callable[[DataFrame, int], None]:
    """A function for ``writeStream.foreachBatch(...)``, or to call inside your own.

    It pushes from the executors and is exactly once, as ``format("bowstring")`` is. Options are those of the
    format, in Python's spelling or Spark's (``append_timeout=5`` or ``appendTimeout=5``). A stream takes one
    write per micro-batch and producer: a second one counts as a repetition of the first and changes nothing,
    unless it names another ``producer``.
    """
    given = {_spark_spelling(name): str(value) for name, value in options.items() if value is not None}
    given |= {"url": url, "stream": stream}
    sink_options(given)  # Refuses now what would otherwise fail the query later.

    def write(frame: DataFrame, batch_id: int) -> None:
        from .datasource import register

        register(frame.sparkSession)
        frame.write.format("bowstring").mode("append").options(**given).save()

    return write


def _spark_spelling(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
