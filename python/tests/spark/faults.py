"""Data sources and programs that fail on purpose. Workers and driver programs import this by its path."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.streaming.datasource import BowstringDataSource
from bowstring.streaming.options import sink_options
from bowstring.streaming.sink import StreamWriter

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


def die_once(marker: Path) -> None:
    """Kills this process, the first time only."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingWorkerWriter(StreamWriter):
    """Its first task's worker dies after it has appended a batch."""

    def __init__(self, given: dict[str, str], schema: StructType, marker: str) -> None:
        super().__init__(sink_options(given), schema)
        self.marker = Path(marker)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Any:
        def dying() -> Iterator[pa.RecordBatch]:
            for number, batch in enumerate(iterator):
                if number > 0:
                    die_once(self.marker)
                yield batch

        return super().write(dying())


class DyingAfterWriter(DyingWorkerWriter):
    """Its first task's worker dies when it has its receipt, but before Spark hears of it."""

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Any:
        result = StreamWriter.write(self, iterator)
        die_once(self.marker)
        return result


class DyingDriverWriter(DyingWorkerWriter):
    """Its driver dies when the coordinator has committed epoch 1, before Spark takes note."""

    def commit(self, messages: list[Any], batchId: int) -> None:
        super().commit(messages, batchId)
        if batchId == 1:
            kill_driver(self.marker)


def kill_driver(marker: Path) -> None:
    """Kills the JVM and the Python program whose pids the marker holds, the first time only."""
    if marker.exists():
        pids = [int(pid) for pid in marker.read_text().split()]
        marker.unlink()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        time.sleep(60)


def faulty_source(writer: str) -> type[BowstringDataSource]:
    """A data source of the writer's name, with options `marker` and those of bowstring."""

    class Faulty(BowstringDataSource):
        @classmethod
        def name(cls) -> str:
            return writer

        def streamWriter(self, schema: StructType, overwrite: bool) -> StreamWriter:
            given = dict(self.options)
            marker = given.pop("marker")
            return getattr(importlib.import_module("faults"), writer)(given, schema, marker)

    return Faulty


def forward_program(sink: str, url: str, numbers: str, checkpoint: str, marker: str) -> None:
    """A driver program: numbers into stream `s`; dies after the commit of epoch 1 while `marker` exists."""
    from conftest import start_spark

    from bowstring.streaming import foreach_batch_writer

    spark = start_spark("local[2]")
    path = Path(marker)
    if path.exists():
        path.write_text(f"{os.getpid()} {spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()}")
    frame = spark.readStream.schema("id long, k long").option("maxFilesPerTrigger", 2).parquet(numbers)
    writer = frame.writeStream.option("checkpointLocation", checkpoint).trigger(availableNow=True)
    if sink == "datasource":
        spark.dataSource.register(faulty_source("DyingDriverWriter"))
        writer = writer.format("DyingDriverWriter").options(url=url, stream="s", marker=marker)
    else:
        write = foreach_batch_writer(url, "s")

        def write_and_die(batch: Any, batch_id: int) -> None:
            write(batch, batch_id)
            if batch_id == 1:
                kill_driver(path)

        writer = writer.foreachBatch(write_and_die)
    query = writer.start()
    from bowstring.streaming import watch_query

    watched = watch_query(query, url, "s", keep_stream=path.exists())
    query.awaitTermination()
    watched.stop()


def reverse_program(url: str, out: str, checkpoint: str, marker: str) -> None:
    """A driver program: stream `s` into Parquet, 2 batches at a time; dies within its third micro-batch."""
    from conftest import start_spark

    from bowstring.streaming import register

    spark = start_spark("local[2]")
    register(spark)
    path = Path(marker)
    if path.exists():
        path.write_text(f"{os.getpid()} {spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()}")
    frame = spark.readStream.format("bowstring").options(url=url, stream="s", maxBatchesPerTrigger=2).load()

    def write(batch: Any, batch_id: int) -> None:
        batch.write.mode("overwrite").parquet(f"{out}/{batch_id}")
        if batch_id == 2:
            kill_driver(path)

    writer = frame.writeStream.foreachBatch(write).option("checkpointLocation", checkpoint)
    writer.trigger(availableNow=True).start().awaitTermination()


def plan_program(url: str) -> None:
    """What Spark's process that plans stream `s` does: waits for the next question, and stops the reader at the end."""
    from bowstring.streaming.options import source_options
    from bowstring.streaming.source import StreamReader

    reader = StreamReader(source_options({"url": url, "stream": "s", "completeOnStop": "true"}), None)
    try:
        reader.initialOffset()
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("stopping", flush=True)
        reader.stop()


PROGRAMS: dict[str, Callable[..., None]] = {
    "forward": forward_program,
    "reverse": reverse_program,
    "plan": plan_program,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
