"""Spark to Python: the rows of a streaming DataFrame arrive in this process, one epoch per micro-batch."""

import os
import sys

from pyspark.sql import SparkSession

from bowstring.streaming import from_spark_streaming

# Spark starts "python3" for its tasks otherwise, which need not be the one that has bowstring.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
numbers = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load()

iterator, query = from_spark_streaming(numbers)
rows, total = 0, 0
with query, iterator:
    for batch in iterator:  # a pyarrow.RecordBatch; it is acked when the next one is asked for
        print(f"epoch {iterator.epoch}, offset {iterator.offset}: {batch.num_rows} rows")
        rows += batch.num_rows
        total += sum(batch["value"].to_pylist())
        if rows >= 5000:
            break

print(f"read {rows} rows, their sum is right: {total == rows * (rows - 1) // 2}")
spark.stop()
