"""A driver with all ways in and the way back, which is killed and started again together with its coordinator.

The upper half runs the program and keeps what became of it; the lower half is the program.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from ..support import Child
    from .durable import Durable

#: The ways in, each into a stream of its name: where the driver dies within them, twice, and what is committed then.
FORWARD = {
    **dict.fromkeys(("foreach_batch", "datasource", "plain", "jvm"), (("committing-1", 0), ("committed-2", 2))),
    "jvm_foreach_batch": (("appending-1", 0), ("staged-2", 1)),
}
#: The ways back, each from a stream of its name with so many batches in 2 partitions, 3 in each micro-batch: where the
#: driver dies, and which micro-batches were done by then.
BACK = {
    **dict.fromkeys(("numbers", "numbers_jvm"), (("written-1", [0, 1]), ("planned-6", [1]))),
    "numbers_jvm_in_tasks": (("reading-2", [0]), ("acking-6", [1])),
}
BATCHES = 12
#: What each run of the driver dies of: all of its queries are there when it is killed.
DEATHS = [[f"{way}-{at[run][0]}" for way, at in (FORWARD | BACK).items()] for run in (0, 1)]


def number_batch(number: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array([number] * 10, pa.int64()), "i": pa.array(range(10), pa.int64())})


@dataclass
class DriverDeaths:
    """What was there after each death, and at the end."""

    #: By way, in the order of the deaths: the producer's id, its run, its committed epoch.
    producers: dict[str, list[tuple[str, str, int]]] = field(default_factory=lambda: {way: [] for way in FORWARD})
    #: By way: what a consumer has got over all deaths.
    consumed: dict[str, pa.Table] = field(default_factory=dict)
    #: By way back, run of the driver and micro-batch: what Spark has read.
    read: dict[str, list[dict[int, pa.Table]]] = field(default_factory=lambda: {way: [] for way in BACK})
    #: By way: the code of the error that a zombie of the first run gets.
    zombie: dict[str, str] = field(default_factory=dict)


def die_and_restart(
    start_python: Callable[..., Child],
    spark: SparkSession,
    durable: Durable,
    data: str,
    readers: dict[str, Any],
    classes: str,
) -> DriverDeaths:
    """Runs the driver, kills it and its coordinator at each of `DEATHS`; then its queries end in this session."""
    import bowstring

    from .durable import at
    from .points import Points

    directory, client, found = durable.directory, durable.client, DriverDeaths()
    points = Points(directory / "points")
    points.directory.mkdir()

    def keep_what_was_read(run: int) -> None:
        for way, read in found.read.items():
            batches = (directory / "read" / way / str(run)).glob("*/_SUCCESS")
            read.append({int(path.parent.name): pa.parquet.read_table(path.parent) for path in batches})

    for run, deaths in enumerate(DEATHS):
        points.arm(*deaths)
        driver = start_python(str(Path(__file__)), durable.url, data, str(directory), str(run), classes)
        jvm = int(driver.line(120))
        at(points, *deaths)
        for way in FORWARD:
            (producer,) = client.describe_stream(way)["producers"]
            found.producers[way].append((producer["producer"], producer["run"], producer["committed_epoch"]))
        os.kill(jvm, signal.SIGKILL)
        driver.kill()
        durable.restart()
        keep_what_was_read(run)
    # Spark knows its queries by their checkpoints: another driver goes on as well.
    run_queries(spark, durable.url, data, str(directory), str(len(DEATHS)))
    keep_what_was_read(len(DEATHS))
    for way in FORWARD:
        producer, run, _ = found.producers[way][0]
        try:
            client.open_epoch(way, producer, run, 99)
        except bowstring.BowstringError as error:
            found.zombie[way] = error.code
        client.complete_stream(way)
        found.consumed[way] = readers[way].table()
    return found


def run_queries(spark: SparkSession, url: str, data: str, directory: str, run: str) -> None:
    """Runs the queries from their checkpoints to their end."""
    from conftest import PYTHON
    from javas import WATCHED
    from points import Points, computed, plain_writer, watched_source

    from bowstring.streaming import datasource, foreach_batch_writer

    points = Points(Path(directory) / "points")
    with patch.object(datasource, "PythonDataSource", watched_source(points)):
        datasource.register(spark)

        def keeper(way: str) -> Callable[[DataFrame, int], None]:
            def keep(batch: DataFrame, number: int) -> None:
                batch.write.parquet(f"{directory}/read/{way}/{run}/{number}")
                points.reach(f"{way}-written-{number}")

            return keep

        frame = computed(spark.readStream.schema("id long").option("maxFilesPerTrigger", 6).parquet(data))
        watched = {"url": url, "points": str(points.directory)}
        numbers = spark.readStream.format(PYTHON).options(url=url, stream="numbers", maxBatchesPerTrigger=3).load()
        writers = {
            "foreach_batch": frame.writeStream.foreachBatch(foreach_batch_writer(url, "foreach_batch")),
            "datasource": frame.writeStream.format(PYTHON).options(url=url, stream="datasource"),
            "plain": frame.writeStream.foreachBatch(plain_writer(points, url, "plain", "application")),
            "jvm": frame.writeStream.format(WATCHED).options(stream="jvm", **watched),
            "jvm_foreach_batch": frame.writeStream.foreachBatch(watched_writer(stream="jvm_foreach_batch", **watched)),
            "numbers": numbers.writeStream.foreachBatch(keeper("numbers")),
        }
        for way in BACK.keys() - {"numbers"}:
            back = spark.readStream.format(WATCHED).options(stream=way, maxBatchesPerTrigger=3, **watched)
            writers[way] = back.load().writeStream.foreachBatch(keeper(way))
        started = [
            writer.option("checkpointLocation", f"{directory}/{name}").trigger(availableNow=True).start()
            for name, writer in writers.items()
        ]
        for query in started:
            query.awaitTermination()


def watched_writer(**options: str) -> Callable[[DataFrame, int], None]:
    """A foreachBatch function that writes with the JVM connector with points, in one task that has enough rows."""
    from javas import WATCHED

    def write(batch: DataFrame, _: int) -> None:
        batch.coalesce(1).write.format(WATCHED).mode("append").options(**options).save()

    return write


def main(url: str, data: str, directory: str, run: str, classes: str) -> None:
    """The driver: says its JVM's process id and runs the queries."""
    import javas
    from conftest import start_spark

    from bowstring.streaming import add_jar

    # Two of its tasks wait at points while others have to get to theirs.
    spark = start_spark("local[4]")
    add_jar(spark)
    javas.add(spark, classes)
    print(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid())
    run_queries(spark, url, data, directory, run)


if __name__ == "__main__":
    main(*sys.argv[1:])
