"""Everybody else to Spark: ``to_spark_streaming``."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, final

import pyarrow as pa

import bowstring

from .connections import Attached, attach, ensure_stream
from .datasource import PythonDataSource, register
from .jvm import PROVIDER, add_jar
from .options import StreamLimits
from .writing import BATCH_BYTES_MAX, cut

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

#: How long the source may take to give its first batch, which tells the schema.
_SCHEMA_SECONDS = 60.0
#: How long a producer that has ended may take to say goodbye.
_CLOSE_SECONDS = 5.0
#: How long a source that is stopped may take to store what it has given, before the stream is ended under it.
_STOP_SECONDS = 1.0


@final
class StreamingSourceHandle:
    """The thread that feeds a source's batches into a stream, and what became of it."""

    def __init__(
        self, batches: Iterator[pa.RecordBatch], stream: str, attached: Attached, batch_bytes_max: int
    ) -> None:
        self.stream = stream
        self.coordinator = attached.owned
        #: Batches and rows stored so far.
        self.batches = 0
        self.rows = 0
        #: The rows of batches that are handed over but not known to be stored.
        self._unconfirmed: deque[int] = deque()
        #: What the source or an append raised; None if all is well.
        self.producer_error: BaseException | None = None
        self._attached = attached
        self._source = batches
        self._batch_bytes_max = batch_bytes_max
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._producer = attached.client.producer(stream, producer_id=f"source-{uuid.uuid4()}", keep_alive=10.0)
        self._thread = threading.Thread(target=self._run, name=f"bowstring-{stream}", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the stream is."""
        return self._attached.url

    @property
    def is_active(self) -> bool:
        """Whether the source may give more."""
        return not self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the source has given everything; False if the time runs out first.

        Raises what the source raised.
        """
        ended = self._done.wait(timeout)
        if ended and self.producer_error is not None:
            raise self.producer_error
        return ended

    def drain(self, query: StreamingQuery, timeout: float | None = None) -> bool:
        """Waits until the source has ended and `query` has processed all of it, then stops the query.

        Returns False, with the query still running, if the time runs out first, and False if the query has ended
        before. Raises what the source or the query raised. A query on an endless trigger never ends by itself: this is
        how to end one with its source.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._done.wait(0.1):
            if not query.isActive:
                break
            if deadline is not None and time.monotonic() > deadline:
                return False
        if (error := query.exception()) is not None:
            raise error
        if not query.isActive:
            return False
        if self.producer_error is not None:
            raise self.producer_error
        if not _process_all(query, None if deadline is None else max(0.0, deadline - time.monotonic())):
            return False
        query.stop()
        return True

    def stop(self, timeout: float = 10.0) -> bool:
        """Stops the source, even one that waits for room, and completes the stream: Spark still gets what is buffered.

        Returns False if the source's own code does not return in time; its thread goes on, but appends no more.
        """
        self._stopping.set()
        self._thread.join(min(timeout, _STOP_SECONDS))
        self._quietly(lambda: self._attached.client.complete_stream(self.stream))
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stops the source, and the coordinator if it was started for it: what Spark has not read is gone."""
        self.stop()
        self._attached.close()

    def __enter__(self) -> StreamingSourceHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            for batch in self._source:
                for part in cut(batch, self._batch_bytes_max):
                    if self._stopping.is_set():
                        return
                    self._producer.append(part)
                    self._unconfirmed.append(part.num_rows)
                    self._count()
            self._producer.complete()
        except BaseException as error:  # noqa: BLE001 - whatever the source raises is the stream's error
            self._failed(error)
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                self._quietly(close)
            self._quietly(lambda: self._producer.close(timeout=_CLOSE_SECONDS))
            self._quietly(self._count)
            self._done.set()

    def _count(self) -> None:
        for _ in range(self._producer.stored - self.batches):
            self.rows += self._unconfirmed.popleft()
            self.batches += 1

    def _failed(self, error: BaseException) -> None:
        if self._stopping.is_set():
            return
        self.producer_error = error
        reason = f"the source raised {type(error).__name__}: {error}"
        self._quietly(self._producer.flush)
        self._quietly(lambda: self._attached.client.fail_stream(self.stream, reason))

    @staticmethod
    def _quietly(action: Callable[[], object]) -> None:
        """For the last steps of a source that has ended anyway."""
        try:
            action()
        except Exception:  # noqa: BLE001 - the first error is the one to tell, and it is kept
            return


def to_spark_streaming(
    source: Any,
    spark: SparkSession,
    stream_id: str | None = None,
    max_buffered_batches: int = 64,
    max_buffered_bytes: int = 2 * 1024**3,
    *,
    coordinator: Any = None,
    num_partitions: int | None = None,
    schema: pa.Schema | None = None,
    max_spool_bytes: int | None = None,
    max_batches_per_trigger: int | None = None,
    max_bytes_per_trigger: int | None = None,
    stop_with_query: bool = True,
    use_jvm_source: bool = False,
    options: dict[str, str] | None = None,
) -> tuple[DataFrame, StreamingSourceHandle]:
    """A streaming DataFrame of what `source` gives.

    Args:
        source: an iterator or iterable of Arrow tables or batches (or anything with ``__arrow_c_stream__``), one such
            object, or a callable: one that returns any of these, or one that returns the next table each time and
            None at the end.
        spark: the session.
        stream_id: the stream's name; a new one if None.
        max_buffered_batches: batches held for Spark before the source waits.
        max_buffered_bytes: bytes, likewise.
        coordinator: a ``StreamCoordinator``, a ``Client`` or a URL; None starts one in this process.
        num_partitions: the stream's partitions, each read by its own Spark task; batches go to them in turn.
        schema: the schema; None takes that of the first batch, which is waited for (up to a minute).
        max_spool_bytes: disk for what Spark has planned to read and not yet committed.
        max_batches_per_trigger: most batches of a micro-batch.
        max_bytes_per_trigger: most bytes of a micro-batch, estimated.
        stop_with_query: stop the source when a query on the DataFrame ends, is stopped or fails: nobody reads any more.
            False lets several queries, or several runs of one, share the source; then stop it with ``handle.stop()``.
        use_jvm_source: read with the JVM connector, which needs no Python on the executors and hands Spark columns; its
            jar is in the wheel. Default false.
        options: more options for the reader.

    Returns:
        The DataFrame, and a handle on the thread that feeds it. When the source ends, the stream is complete and the
        query idles: ``handle.drain(query)`` ends it once all is processed. An error in the source fails the query with
        the reason, after it has processed what came before.
    """
    limits = StreamLimits(num_partitions, max_buffered_batches, max_buffered_bytes, max_spool_bytes)
    batches = as_batches(source)
    if schema is None:
        schema, batches = _peek(batches)
    stream = stream_id or f"source-{uuid.uuid4()}"
    attached = attach(coordinator, spark, limits)
    try:
        ensure_stream(attached.client, stream, limits, schema)
        if use_jvm_source:
            add_jar(spark)
        register(spark)
        reader = spark.readStream.format(PROVIDER if use_jvm_source else PythonDataSource.name())
        reader = reader.options(**attached.options).option("stream", stream)
        reader = reader.option("completeOnStop", str(stop_with_query).lower())
        if max_batches_per_trigger is not None:
            reader = reader.option("maxBatchesPerTrigger", max_batches_per_trigger)
        if max_bytes_per_trigger is not None:
            reader = reader.option("maxBytesPerTrigger", max_bytes_per_trigger)
        frame = reader.options(**(options or {})).load()
    except BaseException:
        attached.close()
        raise
    batch_bytes_max = max(1, min(BATCH_BYTES_MAX, max_buffered_bytes // 4))
    return frame, StreamingSourceHandle(batches, stream, attached, batch_bytes_max)


def as_batches(source: Any) -> Iterator[pa.RecordBatch]:
    """The record batches of whatever a user gives as a source."""
    if hasattr(source, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(source)
    elif hasattr(source, "__arrow_c_array__"):
        yield pa.record_batch(source)
    elif callable(source):
        yield from _called(source)
    elif isinstance(source, Iterable):
        for item in source:
            yield from as_batches(item)
    else:
        raise TypeError(f"a source gives Arrow tables or batches, but this one gave {type(source).__name__}")


def _called(source: Callable[[], Any]) -> Iterator[pa.RecordBatch]:
    """A function that returns everything, or one that returns the next table at each call."""
    given = source()
    if given is not None and not _is_table(given):
        yield from as_batches(given)
        return
    while given is not None:
        yield from as_batches(given)
        given = source()


def _is_table(value: Any) -> bool:
    """One finite piece of data, as opposed to a stream of them."""
    if isinstance(value, pa.RecordBatchReader):
        return False
    return hasattr(value, "__arrow_c_array__") or (
        hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__next__")
    )


def _process_all(query: StreamingQuery, timeout: float | None) -> bool:
    """Waits until the query has processed what is there; False if the time runs out first. Raises what it raised."""
    found: list[BaseException] = []

    def process() -> None:
        try:
            query.processAllAvailable()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            found.append(error)

    thread = threading.Thread(target=process, name="bowstring-drain", daemon=True)
    thread.start()
    thread.join(timeout)
    if found:
        raise found[0]
    return not thread.is_alive()


def _peek(batches: Iterator[pa.RecordBatch]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The first batch's schema, and all batches. Waits in a thread, so that a silent source has a deadline."""
    found: list[pa.RecordBatch | BaseException | None] = []

    def first() -> None:
        try:
            found.append(next(batches, None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            found.append(error)

    thread = threading.Thread(target=first, name="bowstring-first-batch", daemon=True)
    thread.start()
    thread.join(_SCHEMA_SECONDS)
    if not found:
        raise bowstring.Timeout(
            f"the source gave no batch within {_SCHEMA_SECONDS:.0f} s, so that its schema is unknown; pass schema="
        )
    head = found[0]
    if isinstance(head, BaseException):
        raise head
    if head is None:
        raise ValueError("the source gave no batch at all, so that its schema is unknown; pass schema=")
    return head.schema, _chain(head, batches)


def _chain(head: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield head
    yield from rest
