"""Points in a query's course where a test steps in, whichever process gets there. Workers import this by its path.

A test arms a point and waits until it is reached; whoever has reached it waits in turn, and goes on when the test has
done its worst. A point that is not armed is passed.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import TaskContext

import bowstring
from bowstring.streaming.datasource import BowstringDataSource, PythonDataSource
from bowstring.streaming.options import sink_options, source_options
from bowstring.streaming.sink import BatchWriter, StreamWriter
from bowstring.streaming.source import StreamReader

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

#: Whoever waits at a point gives up after so many seconds.
PATIENCE = 120.0
EPOCH_PROPERTY = "streaming.sql.batchId"


@dataclasses.dataclass(frozen=True)
class Points:
    """The points of a test: files in a folder."""

    directory: Path

    def arm(self, *names: str, deadly: bool = False) -> None:
        """The first who reaches one of these waits there, or dies there, once."""
        for name in names:
            (self.directory / f"{name}.armed").write_text("die" if deadly else "wait")

    def was_reached(self, name: str) -> bool:
        """Whether somebody got there."""
        return (self.directory / f"{name}.reached").exists()

    def go_on(self, name: str) -> None:
        """Lets who waits there go on."""
        (self.directory / f"{name}.passed").touch()

    def reach(self, name: str) -> None:
        """Called where the point is."""
        armed = self.directory / f"{name}.armed"
        try:
            how = armed.read_text()
            armed.rename(self.directory / f"{name}.reached")
        except FileNotFoundError:  # Not armed, or another was first.
            return
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        deadline, parent = time.monotonic() + PATIENCE, os.getppid()
        while not (self.directory / f"{name}.passed").exists():
            if os.getppid() != parent:
                os._exit(1)  # The driver was killed, and with it this worker's parent.
            assert time.monotonic() < deadline, f"nobody came to {name}"
            time.sleep(0.01)


def cut_by_attempt(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A task that is tried again has its rows in other batches than before, as Spark is free to give them."""
    is_first = TaskContext.get().attemptNumber() == 0
    for batch in batches:
        half = batch.num_rows // 2 if is_first else 0
        yield batch.slice(half)
        yield batch.slice(0, half)


class _Watched:
    """A writer with points: `appending` in a task after its first batch, and `staged` at its end; on the driver

    `committing` and `committed`. Behind each comes the epoch.
    """

    points: Points
    #: Where executors find the coordinator, if not where the driver does.
    executors_url: str | None

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Any:
        if self.executors_url is not None:
            self._options = dataclasses.replace(self._options, url=self.executors_url)
        epoch = TaskContext.get().getLocalProperty(EPOCH_PROPERTY)
        result = super().write(self._appending(iterator, epoch))
        self._reach("staged", epoch)
        return result

    def commit(self, messages: list[Any], *batch_id: int) -> None:
        epoch = messages[0].identity.epoch
        self._reach("committing", epoch)
        super().commit(messages, *batch_id)
        self._reach("committed", epoch)

    def _appending(self, iterator: Iterator[pa.RecordBatch], epoch: str) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(cut_by_attempt(iterator)):
            if number > 0:
                self._reach("appending", epoch)
            yield batch

    def _reach(self, what: str, epoch: int | str) -> None:
        self.points.reach(f"{self._options.stream}-{what}-{epoch}")


class WatchedStreamWriter(_Watched, StreamWriter):
    """What `writeStream.format("bowstring")` uses."""


class WatchedBatchWriter(_Watched, BatchWriter):
    """What `foreach_batch_writer` uses."""


class WatchedReader(StreamReader):
    """A reader with points: `planning` and `planned` around latestOffset, `reading` in a task after its first batch,

    `acking` and `acked` around commit. Behind each comes the number of batches before, in all or in the partition.
    """

    points: Points

    def latestOffset(self, start: dict[str, Any], limit: Any) -> dict[str, Any]:
        self._reach("planning", sum(start["ends"].values()))
        end = super().latestOffset(start, limit)
        self._reach("planned", sum(start["ends"].values()))
        return end

    def read(self, partition: Any) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(super().read(partition)):
            if number > 0:
                self._reach("reading", partition.start)
            yield batch

    def commit(self, end: dict[str, Any]) -> None:
        self._reach("acking", sum(end["ends"].values()))
        super().commit(end)
        self._reach("acked", sum(end["ends"].values()))

    def _reach(self, what: str, at: int) -> None:
        self.points.reach(f"{self._options.stream}-{what}-{at}")


def watched_source(points: Points, executors_url: str | None = None) -> type[BowstringDataSource]:
    """`PythonDataSource` with points; it has to take the place of that class in bowstring.streaming.datasource."""

    class Watched(PythonDataSource):
        def streamWriter(self, schema: StructType, overwrite: bool) -> StreamWriter:
            return self._with_points(WatchedStreamWriter(sink_options(self.options), schema))

        def writer(self, schema: StructType, overwrite: bool) -> BatchWriter:
            return self._with_points(WatchedBatchWriter(sink_options(self.options), schema))

        def streamReader(self, schema: StructType) -> StreamReader:
            return self._with_points(WatchedReader(source_options(self.options), schema))

        @staticmethod
        def _with_points(made: Any) -> Any:
            made.points, made.executors_url = points, executors_url
            return made

    return Watched


def plain_writer(
    points: Points, url: str, stream: str, producer: str, executors_url: str | None = None
) -> Callable[[DataFrame, int], None]:
    """A foreachBatch function that has nothing of bowstring but a client's writers and epochs, with the same points."""
    run = str(uuid.uuid4())
    where = executors_url or url

    def stage(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        epoch = int(context.getLocalProperty(EPOCH_PROPERTY))
        writer = bowstring.connect(where).writer(
            stream, producer=producer, run=run, epoch=epoch, task=context.partitionId(), attempt=context.taskAttemptId()
        )
        for number, batch in enumerate(cut_by_attempt(batches)):
            if number > 0:
                points.reach(f"{stream}-appending-{epoch}")
            writer.append(batch)
        receipt = writer.finish()
        points.reach(f"{stream}-staged-{epoch}")
        yield pa.record_batch({"receipt": pa.array([receipt], pa.binary())})

    def write(frame: DataFrame, epoch: int) -> None:
        client = bowstring.connect(url)
        if client.open_epoch(stream, producer, run, epoch) == "already_committed":
            return
        receipts = [row.receipt for row in frame.mapInArrow(stage, "receipt binary").collect()]
        points.reach(f"{stream}-committing-{epoch}")
        client.commit_epoch(stream, producer, run, epoch, [bytes(receipt) for receipt in receipts if receipt])
        points.reach(f"{stream}-committed-{epoch}")

    return write


def computed(frame: DataFrame) -> DataFrame:
    """What the queries compute, of streams and of tables alike."""
    return frame.selectExpr(
        "id", "id % 7 AS k", "concat('row ', id) AS text", "if(id % 11 = 0, null, id / 8) AS eighth",
        "timestamp_seconds(id * 3600) AS at", "array(id, -id) AS both",
    )  # fmt: skip
