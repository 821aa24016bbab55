"""Spark's two paths through bowstring against Spark writing to nowhere: 10 M rows of 44 bytes on local[2].

The figure is rows over the time that Spark reports for its micro-batches (triggerExecution), its own planning and
checkpoint files included. The forward path has a consumer process that takes the batches meanwhile, as in real use:
it and the coordinator share the two cores with Spark.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everybody writes it
from pyspark.sql.streaming import DataStreamWriter
from pyspark.sql.streaming.listener import StreamingQueryProgress

import bowstring
from bench.cases import Case
from bench.children import children, python
from bench.contestants import serve
from bench.ends import READY
from bench.report import Series
from bowstring.streaming import register

PARTITIONS = 2
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Job:
    """What a path runs on."""

    spark: SparkSession
    url: str
    rows: int
    checkpoint: str

    def source(self) -> DataFrame:
        """The rows as a stream, from Spark's own generator: 8 + 4 + 8 + 8 bytes of numbers and a string of 12 + 4."""
        rates = self.spark.readStream.format("rate-micro-batch")
        return (
            rates.options(rowsPerBatch=self.rows, numPartitions=PARTITIONS)
            .load()
            .select(
                F.col("value").alias("id"),
                F.col("value").cast("int").alias("k"),
                (F.col("value") * 0.5).alias("x"),
                (F.col("value") * 0.25).alias("y"),
                F.concat(F.lit("key-"), F.col("value") % 10_000_000 + 10_000_000).alias("s"),
            )
        )

    def run(self, writer: DataStreamWriter) -> float:
        """Seconds that all micro-batches took, until there is no more."""
        progress = [one for one in processed(writer, self.checkpoint) if one["numInputRows"]]
        assert sum(one["numInputRows"] for one in progress) == self.rows, progress
        return sum(one["durationMs"]["triggerExecution"] for one in progress) / 1e3


def measure_spark(rounds: int, rows: int) -> Series:
    """Million rows per second of noop, of the way out and of the way back, once per round in turn."""
    series = Series(f"Spark, {rows / 1e6:g} M rows of 44 bytes", "M rows/s", {})
    with tempfile.TemporaryDirectory() as folder:
        spark = open_session({})
        # One for all rounds, as a coordinator lives longer than a micro-batch.
        with children(serve()) as (server,):
            url = f"grpc://{json.loads(server.line())['listen']}"
            paths = {
                "Spark's noop": _noop,
                "Spark to bowstring": partial(_forward, max_buffered_batches=2 * -(-rows // BATCH_ROWS)),
                "Spark to bowstring, spooled": _forward,
                "bowstring to Spark": _reverse,
            }
            series.values = {name: [] for name in paths}
            # The first round warms up the JVM and is not counted.
            for round_number in range(rounds + 1):
                for name, path in paths.items():
                    checkpoint = tempfile.mkdtemp(dir=folder)
                    seconds = path(Job(spark, url, rows, checkpoint))
                    if round_number > 0:
                        series.values[name].append(rows / seconds / 1e6)
        spark.stop()
    return series


def processed(writer: DataStreamWriter, checkpoint: str) -> list[StreamingQueryProgress]:
    """What Spark says of each micro-batch, once there is no more."""
    query = writer.option("checkpointLocation", checkpoint).trigger(availableNow=True).start()
    query.awaitTermination()
    return list(query.recentProgress)


def open_session(more: dict[str, str]) -> SparkSession:
    """Spark on two cores, with more settings."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master("local[2]").appName("bowstring bench")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "4g",
        "spark.ui.showConsoleProgress": "false",
        # What the README advises for Spark 4.3.
        "spark.sql.execution.arrow.maxBytesPerBatch": "2147483647",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
    }
    for key, value in (settings | more).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    register(spark)
    return spark


def _noop(job: Job) -> float:
    return job.run(job.source().writeStream.format("noop"))


def _forward(job: Job, **limits: int) -> float:
    """With the default limits of 64 batches most of the one large micro-batch goes through the spool."""
    client = bowstring.connect(job.url)
    client.create_stream("forward", partitions=PARTITIONS, **limits)
    client.subscribe("forward", "bench")
    rows = Case("forward", "relay", batch_bytes=0, batches=0)
    with children(python("bench.python_ends", "drain", job.url, "forward", rows.json())) as (consumer,):
        consumer.expect(READY)
        consumer.go()
        sink = job.source().writeStream.format("bowstring").option("url", job.url).option("stream", "forward")
        seconds = job.run(sink)
        client.complete_stream("forward")
        consumer.report()
    client.delete_stream("forward")
    return seconds


def _reverse(job: Job) -> float:
    client = bowstring.connect(job.url)
    fill(client, "reverse", job.rows)
    source = job.spark.readStream.format("bowstring").option("url", job.url).option("stream", "reverse").load()
    seconds = job.run(source.writeStream.format("noop"))
    client.delete_stream("reverse")
    return seconds


def fill(client: bowstring.Client, stream: str, rows: int) -> None:
    """All of it is there before Spark starts: what is measured is Spark reading."""
    whole = rows // BATCH_ROWS
    client.create_stream(stream, partitions=PARTITIONS, max_buffered_batches=whole + 1)
    batch = _batch()
    with client.producer(stream) as producer:
        for index in range(whole):
            producer.append(batch, partition=index % PARTITIONS)
        producer.append(batch.slice(0, rows % BATCH_ROWS), partition=0)
        producer.complete()


def _batch() -> pa.RecordBatch:
    ids = pa.array(range(BATCH_ROWS), pa.int64())
    floats = ids.cast(pa.float64())
    keys = pa.array([f"key-{10_000_000 + index}" for index in range(BATCH_ROWS)])
    return pa.record_batch({"id": ids, "k": ids.cast(pa.int32()), "x": floats, "y": floats, "s": keys})
