"""Both directions as a Spark Connect client, in a process of its own: it cannot share one with a classic session.

Usage: connect.py; prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import pyarrow as pa

import bowstring
from bowstring.streaming import from_spark_streaming, register, to_spark_streaming

ROWS = 1000


def main() -> dict[str, Any]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    # This makes Spark's own Connect server listen on a free port.
    os.environ["SPARK_TESTING"] = "1"
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.connect.grpc.binding.address", "127.0.0.1").getOrCreate()
    found: dict[str, Any] = {"session": type(spark).__module__}
    try:
        register(spark)
        with bowstring.StreamCoordinator() as coordinator, tempfile.TemporaryDirectory() as checkpoint:
            for jvm in (False, True):
                for sink in ("datasource", "foreach_batch"):
                    found[f"{sink} {jvm}"] = forward(spark, coordinator, sink, jvm)
                found[f"reverse {jvm}"] = reverse(spark, coordinator, f"{checkpoint}/{jvm}", jvm)
            found["refused"] = refused(spark)
    finally:
        spark.stop()
    return found


def numbers(spark: Any) -> Any:
    return spark.readStream.format("rate-micro-batch").option("rowsPerBatch", ROWS).option("numPartitions", 2).load()


def forward(spark: Any, coordinator: bowstring.StreamCoordinator, sink: str, jvm: bool) -> list[int]:
    """The values that arrive."""
    iterator, query = from_spark_streaming(
        numbers(spark),
        f"{sink}-{jvm}",
        coordinator=coordinator,
        trigger={"availableNow": True},
        sink=sink,
        use_jvm_sink=jvm,
    )
    values = sorted(value for batch in iterator for value in batch["value"].to_pylist())
    assert query.exception() is None, query.exception()
    query.stop()
    return values


def reverse(spark: Any, coordinator: bowstring.StreamCoordinator, checkpoint: str, jvm: bool) -> list[int]:
    """The values that Spark has, from a source of ten tables."""
    tables = (pa.table({"n": range(start, start + 10)}) for start in range(0, 100, 10))
    frame, handle = to_spark_streaming(tables, spark, coordinator=coordinator, use_jvm_source=jvm)
    query = frame.writeStream.format("memory").queryName(f"n_{jvm}").option("checkpointLocation", checkpoint).start()
    assert handle.drain(query, timeout=60)
    handle.close()
    return sorted(row.n for row in spark.sql(f"SELECT n FROM n_{jvm}").collect())


def refused(spark: Any) -> str:
    """What is said where executors could not reach an embedded coordinator."""
    try:
        from_spark_streaming(numbers(spark))
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    print(json.dumps(main()))
