"""Writing a micro-batch: what a Spark task does on its executor, and what the driver does when all are done.

Both sinks, the Data Source and the one for foreachBatch, are thin shells around this file. A task appends its
batches as a writer of its own (epoch, task, attempt) and comes back with a receipt, or with none if its epoch is
committed already. The driver commits the epoch with the receipts that Spark says have won: what
failed, speculative or repeated attempts have staged vanishes with the commit.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import TaskContext
from pyspark.sql.datasource import WriterCommitMessage

import bowstring
from bowstring.tracing import carried

from .connections import client_of
from .options import SinkOptions
from .types import Conformer, settled

if TYPE_CHECKING:
    import pyarrow as pa

#: A batch is cut so that it takes at most this much, or a quarter of the buffer.
BATCH_BYTES_MAX = 64 << 20
#: Local properties that Spark sets in every task of a streaming query. The run id has no name of its own:
#: it is the job group that query.stop() cancels, a UUID.
_QUERY_ID, _BATCH_ID, _RUN_ID = "sql.streaming.queryId", "streaming.sql.batchId", "spark.jobGroup.id"


@dataclass(frozen=True)
class EpochIdentity:
    """Whose epoch: a Spark query's id, the run's id, the micro-batch's number."""

    producer: str
    run: str
    epoch: int


@dataclass(frozen=True)
class Target:
    """What a task has to know of its stream."""

    partitions: int
    batch_bytes_max: int


@dataclass(frozen=True)
class TaskResult(WriterCommitMessage):
    """What a task sends to the driver: a few hundred bytes, whatever it has written."""

    identity: EpochIdentity
    #: None if the task had no rows, or if the epoch was committed before.
    receipt: bytes | None


def identity_in_task(options: SinkOptions, fallback: EpochIdentity | None = None) -> EpochIdentity:
    """Who writes, as this task sees it: Spark's streaming query, else `fallback`."""
    context = TaskContext.get()
    batch = context.getLocalProperty(_BATCH_ID) if context else None
    query = context.getLocalProperty(_QUERY_ID) if context else None
    if context is not None and batch is not None and query is not None:
        run = options.run or _run_id(context.getLocalProperty(_RUN_ID))
        return EpochIdentity(options.producer or query, run, int(batch))
    if fallback is None:
        raise RuntimeError(
            "no streaming query found around this task: bowstring's stream sink runs inside Spark's micro-batches only"
        )
    return fallback


def _run_id(job_group: str | None) -> str:
    try:
        return str(uuid.UUID(job_group))
    except (TypeError, ValueError, AttributeError) as error:
        raise RuntimeError(
            f"the query's run is unknown, since its job group is {job_group!r} instead of the run's id; "
            "set a job group after the write to bowstring, or give the query's runId as option 'run'"
        ) from error


def write_task(
    options: SinkOptions,
    target: Target,
    identity: EpochIdentity,
    batches: Iterable[pa.RecordBatch],
    *,
    reopen: bool,
) -> TaskResult:
    """Appends a task's batches; runs on the executor.

    After the epoch was aborted it is refused, unless ``reopen``: a task may come late, when its job has failed, and
    nobody would end what it stages. Where the epoch may be tried again within its run (a foreachBatch function that
    catches the failure) a late task cannot be told from the next try's, and what it stages goes with the query's
    next epoch.

    An append waits while other epochs' data fills the buffer. Spark ends such a wait by killing the Python
    worker (two seconds after query.stop(), see spark.python.task.killTimeout), and the driver's wrapper ends
    it at once by ending the stream.
    """
    client = client_of(options)
    if reopen:
        state = client.open_epoch(options.stream, identity.producer, identity.run, identity.epoch)
        if state == "already_committed":
            return TaskResult(identity, None)
    try:
        return TaskResult(identity, _append_all(client, options, target, identity, batches))
    except bowstring.BowstringError as error:
        if error.code == "epoch_committed":
            return TaskResult(identity, None)
        raise


def _append_all(
    client: bowstring.Client,
    options: SinkOptions,
    target: Target,
    identity: EpochIdentity,
    batches: Iterable[pa.RecordBatch],
) -> bytes | None:
    """The receipt, or None if there were no rows. The writer opens with the first batch that has some."""
    context = TaskContext.get()
    assert context is not None, "runs inside a Spark task"
    task = context.partitionId()
    # Spark's own attempt ids begin anew with each application, and a repeated write must not go on where a dead one
    # has stopped.
    attempt = secrets.randbits(63)
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return None
    options.routing.check(first.schema.names)
    conform = Conformer(settled(first.schema))
    writer = client.writer(
        options.stream,
        producer=identity.producer,
        run=identity.run,
        epoch=identity.epoch,
        task=task,
        attempt=attempt,
        append_timeout=options.append_timeout,
        compression=options.compression,
    )
    for index, batch in enumerate(_chain(first, filled)):
        for partition, part in options.routing.split(conform(batch), target.partitions, task, index):
            for piece in cut(part, target.batch_bytes_max):
                writer.append(piece, partition=partition)
    return writer.finish()


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def cut(batch: pa.RecordBatch, bytes_max: int) -> Iterator[pa.RecordBatch]:
    """The batch in slices of about `bytes_max` at most; itself if it is small enough."""
    size = batch.get_total_buffer_size() if batch.num_rows else 0
    if size <= bytes_max:
        yield batch
        return
    rows = max(1, int(batch.num_rows * bytes_max / max(1, batch.nbytes)))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def commit_epoch(options: SinkOptions, results: Sequence[WriterCommitMessage | None]) -> str:
    """Makes the winners' batches visible, all at once; runs on the driver. Repeating it changes nothing."""
    found = [result for result in results if isinstance(result, TaskResult)]
    if not found:
        raise RuntimeError("Spark handed over no task's result, so that the epoch to commit is unknown")
    identity = found[0].identity
    receipts = [result.receipt for result in found if result.receipt is not None]
    client = client_of(options)
    with carried(options.traceparent):
        return client.commit_epoch(options.stream, identity.producer, identity.run, identity.epoch, receipts)


def abort_epoch(
    options: SinkOptions, results: Sequence[WriterCommitMessage | None], fallback: EpochIdentity | None = None
) -> None:
    """Gives back what a failed micro-batch has staged, where some task came far enough to say which it was.

    Otherwise it is `fallback`'s, or the stream's end, the query's next run or the next commit gives it back.
    """
    found = [result for result in results if isinstance(result, TaskResult)]
    identity = found[0].identity if found else fallback
    if identity is not None:
        client_of(options).abort_epoch(options.stream, identity.producer, identity.run, identity.epoch)
