"""The JVM connector beside what Spark and Python do with the same rows: 10 M rows of 44 bytes on local[2].

Out of Spark: Spark's noop, a sink that makes Arrow of its rows and throws it away (the floor of every sink that makes
Arrow with what Spark ships), the JVM sink, the Python data source, foreachBatch, Spark's Kafka sink to a broker, and
Parquet files. Into Spark, to noop and to an aggregate: the JVM source, the Python data source, Spark's Kafka source and
Parquet files, uncompressed. As in bench/spark_paths.py the figure is rows over the time that Spark reports for its
micro-batches; a consumer process takes what goes to bowstring meanwhile, on the same two cores, but where it says "read
later": nobody takes what other sinks write or throw away either.

Kafka carries a row as one value of JSON, as it is mostly done, and reads it so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everybody writes it

import bowstring
from bench.cases import Case
from bench.children import children, python
from bench.contestants import serve
from bench.ends import READY
from bench.kafka_broker import running_broker
from bench.report import Series
from bench.spark_paths import BATCH_ROWS, PARTITIONS, Job, fill, open_session
from bowstring.streaming import foreach_batch_writer, jar
from bowstring.streaming.jvm import PROVIDER
from examples.services.kafka import SPARK_CONNECTOR
from examples.services.maven import jars_for_spark

NOOP, THROW_AWAY, JVM_ALONE, JVM, PYTHON, FOREACH, KAFKA, PARQUET = (
    "Spark's noop",
    "to Arrow, thrown away",
    "JVM connector, read later",
    "JVM connector",
    "Python data source",
    "foreachBatch",
    "Kafka",
    "Parquet",
)
PYTHON_NAME = "bowstring-python"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """Where rows go to and come from."""

    url: str
    broker: str
    folder: Path


def measure_jvm(rounds: int, rows: int) -> list[Series]:
    """Million rows per second out of Spark, into Spark, and into an aggregate of Spark's, once per round in turn."""
    names = ("out of Spark", "into Spark", "into an aggregate")
    series = [Series(f"{name}, {rows / 1e6:g} M rows of 44 bytes", "M rows/s", {}) for name in names]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(running_broker()).address
        jars = [jar(), str(_throw_away(folder)), jars_for_spark(SPARK_CONNECTOR)]
        spark = open_session({"spark.jars": ",".join(jars)})
        stack.callback(_stop, spark)
        (server,) = stack.enter_context(children(serve()))
        place = Place(f"grpc://{json.loads(server.line())['listen']}", broker, folder)
        sources = stack.enter_context(_sources(spark, place, rows))
        paths: list[dict[str, Callable[[Job], float]]] = [
            _sinks(place),
            {name: partial(_into_noop, frame) for name, frame in sources.items()},
            {name: partial(_into_aggregate, frame) for name, frame in sources.items()},
        ]
        for one, measured in zip(series, paths, strict=True):
            one.values = {name: [] for name in measured}
        # The first round warms up the JVM and is not counted.
        for number in range(rounds + 1):
            for one, measured in zip(series, paths, strict=True):
                for name, path in measured.items():
                    seconds = path(Job(spark, place.url, rows, tempfile.mkdtemp(dir=folder)))
                    if number > 0:
                        one.values[name].append(rows / seconds / 1e6)
    return series


def _stop(spark: SparkSession) -> None:
    """Its JVM goes on, with the settings that it was started with: the next part's session would look for our jars."""
    properties = spark._jvm.java.lang.System  # type: ignore[union-attr]
    spark.stop()
    properties.clearProperty("spark.jars")


def _sinks(place: Place) -> dict[str, Callable[[Job], float]]:
    return {
        NOOP: lambda job: job.run(job.source().writeStream.format("noop")),
        THROW_AWAY: lambda job: job.run(job.source().writeStream.format("ThrowAway")),
        JVM_ALONE: partial(_into_stream, PROVIDER, is_read=False),
        JVM: partial(_into_stream, PROVIDER),
        PYTHON: partial(_into_stream, PYTHON_NAME),
        FOREACH: partial(_into_stream, None),
        PARQUET: partial(_into_files, place),
        KAFKA: partial(_into_kafka, place),
    }


def _into_stream(format_name: str | None, job: Job, *, is_read: bool = True) -> float:
    """By the format, or by foreachBatch; a consumer takes the batches meanwhile, or nobody."""
    client = bowstring.connect(job.url)
    stream = f"out-{uuid.uuid4()}"
    client.create_stream(stream, partitions=PARTITIONS, max_buffered_batches=2 * -(-job.rows // BATCH_ROWS) + 64)
    client.subscribe(stream, "bench")
    writer = job.source().writeStream
    if format_name is None:
        writer = writer.foreachBatch(foreach_batch_writer(job.url, stream))
    else:
        writer = writer.format(format_name).option("url", job.url).option("stream", stream)
    if is_read:
        rows = Case("forward", "relay", batch_bytes=0, batches=0)
        with children(python("bench.python_ends", "drain", job.url, stream, rows.json())) as (consumer,):
            consumer.expect(READY)
            consumer.go()
            seconds = job.run(writer)
            client.complete_stream(stream)
            consumer.report()
    else:
        seconds = job.run(writer)
    client.delete_stream(stream)
    return seconds


def _into_files(place: Place, job: Job) -> float:
    path = place.folder / f"out-{uuid.uuid4()}"
    writer = job.source().writeStream.format("parquet").option("path", str(path)).option("compression", "none")
    seconds = job.run(writer)
    shutil.rmtree(path)
    return seconds


def _into_kafka(place: Place, job: Job) -> float:
    frame = job.source().select(F.to_json(F.struct("*")).alias("value"))
    writer = frame.writeStream.format("kafka").option("kafka.bootstrap.servers", place.broker)
    return job.run(writer.option("topic", f"out-{uuid.uuid4()}"))


@contextmanager
def _sources(spark: SparkSession, place: Place, rows: int) -> Iterator[dict[str, DataFrame]]:
    """The same rows in a stream, in a topic and in files, as streaming DataFrames of the same columns."""
    client = bowstring.connect(place.url)
    fill(client, "into", rows)
    # It acks nothing, so that each round finds all of it.
    client.subscribe("into", "keep")
    made = spark.range(0, rows, 1, PARTITIONS).selectExpr(
        "id", "CAST(id AS int) k", "id * 0.5D x", "id * 0.25D y", "concat('key-', id % 10000000 + 10000000) s"
    )
    files = place.folder / "into"
    made.write.option("compression", "none").parquet(str(files))
    columns = made.schema
    found: dict[str, DataFrame] = {}
    for name, format_name in ((JVM, PROVIDER), (PYTHON, PYTHON_NAME)):
        reader = spark.readStream.format(format_name).option("url", place.url).option("stream", "into")
        found[name] = reader.load()
    found[PARQUET] = spark.readStream.schema(columns).parquet(str(files))
    kafka = {"kafka.bootstrap.servers": place.broker}
    values = made.select(F.to_json(F.struct("*")).alias("value"))
    values.write.format("kafka").options(topic="into", **kafka).save()
    reader = spark.readStream.format("kafka").options(subscribe="into", startingOffsets="earliest", **kafka)
    rows_of = F.from_json(F.col("value").cast("string"), columns).alias("row")
    found[KAFKA] = reader.load().select(rows_of).select("row.*")
    yield found
    client.delete_stream("into")


def _into_noop(frame: DataFrame, job: Job) -> float:
    return job.run(frame.writeStream.format("noop"))


def _into_aggregate(frame: DataFrame, job: Job) -> float:
    """Sums over all rows, so that every column is looked at."""
    summed = frame.groupBy().agg(F.sum("id"), F.sum("k"), F.sum("x"), F.sum("y"), F.sum(F.length("s")))
    return job.run(summed.writeStream.format("noop").outputMode("complete"))


def _throw_away(folder: Path) -> Path:
    """The jar of bench/jvm/ThrowAway.java."""
    spark = Path(find_spec("pyspark").origin).parent / "jars"  # type: ignore[union-attr, arg-type]
    classes, made = folder / "classes", folder / "throw-away.jar"
    source = HERE / "jvm" / "ThrowAway.java"
    javac = ["javac", "--release", "17", "-nowarn", "-Xlint:none", "-cp", f"{spark}/*", "-d", str(classes), str(source)]
    subprocess.run(javac, check=True)
    subprocess.run(["jar", "--create", "--file", str(made), "-C", str(classes), "."], check=True)
    return made


if __name__ == "__main__":
    sys.exit("run it as: make bench BENCH=jvm")
