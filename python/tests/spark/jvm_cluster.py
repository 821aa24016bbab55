"""The JVM connector on executors, one of which is killed. Usage: jvm_cluster.py FOLDER; prints one JSON object."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

import bowstring
from bowstring.streaming import add_jar
from bowstring.streaming.jvm import PROVIDER

ROWS, TASKS = 6000, 6
CONF = {
    "spark.sql.execution.arrow.maxRecordsPerBatch": "100",
    "spark.sql.shuffle.partitions": str(TASKS),
    "spark.sql.adaptive.enabled": "false",
}


def main(folder: str) -> dict[str, Any]:
    from conftest import start_spark

    spark = start_spark("local-cluster[2,1,1024]", CONF)
    try:
        with bowstring.StreamCoordinator() as coordinator:
            add_jar(spark)
            spark.range(0, ROWS, 1, 4).selectExpr("id AS value").write.parquet(f"{folder}/numbers")
            return run(spark, coordinator, folder)
    finally:
        spark.stop()


def run(spark: Any, coordinator: bowstring.StreamCoordinator, folder: str) -> dict[str, Any]:
    """A micro-batch of ROWS rows, shuffled into TASKS tasks: what consumer and Spark have got, and how often it ran."""
    stream = "s"
    numbers = spark.readStream.schema("value long").parquet(f"{folder}/numbers")
    frame = numbers.repartition(TASKS, "value").mapInArrow(deadly_first(folder), "value long")
    writer = frame.writeStream.format(PROVIDER).options(url=coordinator.url, stream=stream, partitions=2)
    query = writer.option("checkpointLocation", f"{folder}/checkpoint").trigger(availableNow=True).start()
    query.awaitTermination()
    with coordinator.client().iterator(stream, subscription=None, follow=False) as iterator:
        consumed = Counter(value for batch in iterator for value in batch["value"].to_pylist())
    back = spark.read.format(PROVIDER).options(url=coordinator.url, stream=stream).load()
    return {
        "consumed": sorted(consumed) == list(range(ROWS)),
        "most": max(consumed.values()),
        "read": back.selectExpr("count(value)", "count(DISTINCT value)").head() == (ROWS, ROWS),
        "attempts": max(attempts_of_stages(spark, str(query.runId))),
    }


def attempts_of_stages(spark: Any, group: str) -> Iterator[int]:
    """How often each of the query's stages was run, counted from 0."""
    status = spark.sparkContext.statusTracker()
    for job in status.getJobIdsForGroup(group):
        for stage in status.getJobInfo(job).stageIds:
            if (found := status.getStageInfo(stage)) is not None:
                yield found.currentAttemptId


def deadly_first(folder: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The first task that has appended some kills its executor, and with it a part of what has been shuffled."""

    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import signal

        marker = Path(folder) / "killed"
        for number, batch in enumerate(batches):
            yield batch
            if number == 3 and not marker.exists():
                marker.touch()
                daemon = Path(f"/proc/{os.getppid()}/stat").read_text()
                os.kill(int(daemon.rpartition(")")[2].split()[1]), signal.SIGKILL)

    return rows


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
