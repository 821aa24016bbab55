"""Flows in Spark Structured Streaming, on one thread: the same rows from Parquet files, results to nowhere.

The digest is made of the results in the query itself (`observe`), since what writes them to nowhere keeps none.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everybody writes it

from bench.children import cpu_seconds
from bench.ends import Meter
from bench.flow_rows import CONDITION, LATENESS_SECONDS, WINDOW_MICROS, WINDOW_SECONDS, Work, after_the_end
from bench.spark_paths import open_session, processed

#: A file is a micro-batch: few large ones, as Spark likes them.
FILE_ROWS = 1 << 20


@dataclass(frozen=True)
class Ran:
    """What it took, and what came out."""

    seconds: float
    cpu_seconds: float
    digest: list[int]


def run(work: Work, folder: Path) -> Ran:
    """Seconds are Spark's own, of its micro-batches (triggerExecution); CPU is that of this process and the JVM."""
    spark = _session()
    jvm: Any = spark.sparkContext._jvm
    pid = jvm.java.lang.ProcessHandle.current().pid()
    files = Path(tempfile.mkdtemp(dir=folder))
    _write(work, files)
    schema = "key BIGINT, made_at TIMESTAMP, value BIGINT"
    rows = spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(files))
    asked = [F.expr(text).alias(f"d{number}") for number, text in enumerate(work.digest)]
    results = (rows.where(CONDITION) if work.kind == "filter" else _counted(rows)).observe("digest", *asked)
    writer = results.writeStream.format("noop").outputMode("append")
    meter, before = Meter(), cpu_seconds(pid)
    progress = processed(writer, tempfile.mkdtemp(dir=folder))
    used = meter.report()["cpu_seconds"] + cpu_seconds(pid) - before
    read = sum(one["numInputRows"] for one in progress)
    assert read == work.rows + len(_end(work)), progress
    seen = [one["observedMetrics"]["digest"].asDict() for one in progress if "digest" in one["observedMetrics"]]
    digest = [sum(one[f"d{number}"] or 0 for one in seen) for number in range(len(asked))]
    return Ran(sum(one["durationMs"]["triggerExecution"] for one in progress) / 1e3, used, digest)


def _counted(rows: DataFrame) -> DataFrame:
    window = F.window("made_at", f"{WINDOW_SECONDS} seconds")
    counted = (
        rows.withWatermark("made_at", f"{LATENESS_SECONDS} seconds").groupBy(window, "key").agg(F.count("*").alias("n"))
    )
    return counted.selectExpr(f"unix_micros(window.start) div {WINDOW_MICROS} AS w", "key", "n")


def _end(work: Work) -> list[pa.RecordBatch]:
    """What ends the last windows: a row that counts in none of them. A filter needs no end."""
    return [] if work.kind == "filter" else [after_the_end()]


def _write(work: Work, folder: Path) -> None:
    rows = pa.Table.from_batches([*work.batches(), *_end(work)])
    for number, begin in enumerate(range(0, work.rows, FILE_ROWS)):
        # The row that ends them goes with the last.
        is_last = begin + FILE_ROWS >= work.rows
        pq.write_table(rows.slice(begin, None if is_last else FILE_ROWS), folder / f"{number:04}.parquet")


@cache
def _session() -> SparkSession:
    return open_session({"spark.master": "local[1]", "spark.sql.shuffle.partitions": "1"})
