"""Python to Spark: tables from a generator become a streaming DataFrame."""

import os
import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from bowstring.streaming import to_spark_streaming

# Spark starts "python3" for its tasks otherwise, which need not be the one that has bowstring.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def readings() -> Iterator[pa.Table]:
    """A hundred tables; the generator waits while Spark is behind by more than the buffer's limits."""
    for minute in range(100):
        yield pa.table({"minute": [minute] * 10, "sensor": list(range(10)), "celsius": [20.0 + minute / 10] * 10})


spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

frame, handle = to_spark_streaming(readings(), spark)
warm = frame.where("celsius >= 25")
query = warm.writeStream.format("memory").queryName("warm").start()
handle.drain(query)  # until the generator has ended and Spark has processed all of it
handle.close()

(found,) = spark.sql("SELECT count(*) AS rows, min(minute) AS since FROM warm").collect()
print(f"{found.rows} warm readings since minute {found.since}")
spark.stop()
