"""Spark to Ray: each of four Ray tasks reads its partitions of a streaming DataFrame, as DRLS's documents show it."""

import os
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet
import ray
from pyspark.sql import SparkSession

from bowstring import StreamingIterator
from bowstring.streaming import create_partitioned_iterators, from_spark_streaming

# Spark starts "python3" for its tasks otherwise, which need not be the one that has bowstring.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
ray.init(num_cpus=4, include_dashboard=False, object_store_memory=100 << 20)
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

# Eight files: each is a Spark partition of the first micro-batch.
temporary = tempfile.TemporaryDirectory(prefix="bowstring-orders-")
amounts = [(number * 7919) % 1000 for number in range(80_000)]
for first in range(0, 80_000, 10_000):
    pa.parquet.write_table(pa.table({"amount": amounts[first : first + 10_000]}), f"{temporary.name}/{first}.parquet")
spark.conf.set("spark.sql.files.openCostInBytes", "128m")
orders = spark.readStream.schema("amount long").parquet(temporary.name)

iterator, query = from_spark_streaming(orders, stream_id="orders", num_partitions=8, trigger={"availableNow": True})
iterators = create_partitioned_iterators(iterator, num_consumers=4, num_partitions=8)


@ray.remote
def consume(it: StreamingIterator) -> tuple[int, int]:
    rows = total = 0
    for batch in it:  # a pyarrow.RecordBatch; it is acked when the next one is asked for
        rows += batch.num_rows
        total += sum(batch["amount"].to_pylist())
    return rows, total


consumed = ray.get([consume.remote(it) for it in iterators])
query.stop()
print("rows of each task:", [rows for rows, _ in consumed])

is_right = (sum(rows for rows, _ in consumed), sum(total for _, total in consumed)) == (len(amounts), sum(amounts))
print(f"read {len(amounts)} rows in 4 tasks, their sum is right: {is_right}")
spark.stop()
ray.shutdown()
temporary.cleanup()
