"""Spark's micro-batches into SQLite: exactly once, though Spark, the coordinator and the consumer are killed (kill -9).

Spark goes on from its checkpoint, the coordinator from its data directory, the consumer from the offsets that it has
stored in one transaction with its result.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

import bowstring

FILES, ROWS, PARTITIONS = 24, 100, 2
#: Who is killed when so many micro-batches are there.
KILLS = {4: "consumer", 7: "coordinator", 10: "spark", 14: "coordinator", 17: "consumer", 20: "coordinator"}


def produce(url: str, directory: str) -> None:
    """Spark: the squares of the numbers in the files, a file per micro-batch, to stream `squares`."""
    from pyspark.errors import StreamingQueryException
    from pyspark.sql import SparkSession

    from bowstring.streaming import from_spark_streaming

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    numbers = spark.readStream.schema("number long").option("maxFilesPerTrigger", 1).parquet(f"{directory}/numbers")
    tries = 10
    while tries:
        _, query = from_spark_streaming(
            numbers.selectExpr("number * number AS square"), "squares", trigger={"availableNow": True},
            routing="hash(square)", coordinator=url, checkpoint_location=f"{directory}/checkpoint", keep_stream=True,
        )  # fmt: skip
        try:
            query.awaitTermination()
            break
        except StreamingQueryException:
            tries -= 1  # What the micro-batch had staged has died with the coordinator: it is run again.
    bowstring.connect(url).complete_stream("squares")


def consume(url: str, directory: str) -> None:
    """Sums up what there is in stream `squares`, a transaction per batch."""
    database = sqlite3.connect(f"{directory}/result.sqlite", isolation_level=None)
    database.execute("create table if not exists result (partition integer primary key, total, batches, next_offset)")
    for partition in range(PARTITIONS):
        database.execute("insert or ignore into result values (?, 0, 0, 0)", (partition,))
    batches = bowstring.StreamingIterator(url, "squares", subscription="sqlite")
    while True:
        try:
            for delivered in batches.batches_with_offsets():
                # One statement is one transaction; a batch that was stored before changes nothing.
                database.execute(
                    "update result set total = total + ?, batches = batches + 1, next_offset = ? "
                    "where partition = ? and next_offset <= ?",
                    (
                        pa.compute.sum(delivered.batch["square"]).as_py(), delivered.offset + 1,
                        delivered.partition, delivered.offset,
                    ),
                )  # fmt: skip
            return
        except bowstring.ProducerLost:
            time.sleep(0.5)  # Spark is dead for the moment; it will come back.


def start(role: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process with a group of its own, so that Spark's JVM dies with its Python."""
    command = [sys.executable, __file__, role, *arguments]
    if role == "coordinator":
        command = [sys.executable, "-m", "bowstring", "serve", "--http", "off", "--unix", "off", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def main(directory: str) -> None:
    Path(f"{directory}/numbers").mkdir()
    for number in range(FILES):
        table = pa.table({"number": range(ROWS * number, ROWS * (number + 1))})
        pyarrow.parquet.write_table(table, f"{directory}/numbers/{number:02}.parquet")
    arguments = {"coordinator": ("--data-dir", f"{directory}/data", "--listen", "127.0.0.1:0")}
    running = {"coordinator": start("coordinator", *arguments["coordinator"])}
    assert running["coordinator"].stdout is not None
    address = json.loads(running["coordinator"].stdout.readline())["listen"]
    arguments["coordinator"] = (*arguments["coordinator"][:-1], address)
    arguments["consumer"] = arguments["spark"] = (f"grpc://{address}", directory)
    client = bowstring.connect(f"grpc://{address}")
    client.create_stream("squares", partitions=PARTITIONS)
    for role in ("spark", "consumer"):
        running[role] = start(role, *arguments[role])
    try:
        for micro_batches, role in KILLS.items():
            while client.describe_stream("squares")["epochs_committed"] < micro_batches:
                assert all(process.poll() in (None, 0) for process in running.values()), "somebody has failed"
                time.sleep(0.02)
            os.killpg(running[role].pid, signal.SIGKILL)
            running[role].wait()
            running[role] = start(role, *arguments[role])
            print(f"killed the {role} after {micro_batches} micro-batches")
        assert running["spark"].wait() == 0
        assert running["consumer"].wait() == 0  # It has met the end of the stream.
    finally:
        for process in running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    query = "select sum(total), sum(batches) from result"
    total, batches = sqlite3.connect(f"{directory}/result.sqlite").execute(query).fetchone()
    expected = sum(number * number for number in range(FILES * ROWS))
    print(f"batches: {batches}, the sum is right: {total == expected}")


ROLES = {"spark": produce, "consumer": consume}

if len(sys.argv) > 1:
    ROLES[sys.argv[1]](*sys.argv[2:])
else:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        main(temporary)
