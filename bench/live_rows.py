"""Live rows for Spark's Real-time Mode, in local mode: jvm/testing/LiveRows.java, compiled when it is needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
from pyspark.sql import DataFrame

from bowstring.streaming.jvm import _submit_loader

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SOURCE = Path(__file__).parent.parent / "jvm" / "testing" / "LiveRows.java"


class LiveRows:
    """A source of rows (id, made_at), which lies in the driver's memory; see the Java class."""

    def __init__(self, spark: SparkSession, partitions: int) -> None:
        self._spark = spark
        self._rows = classes(spark).LiveRows(spark._jsparkSession, partitions)

    def frame(self) -> DataFrame:
        """All of its rows, as a stream. One query at a time."""
        return DataFrame(self._rows.frame(), self._spark)

    def add(self, rows: int = 1) -> None:
        """Makes so many rows now."""
        self._rows.add(rows)

    def run(self, per_second: int, rows: int) -> None:
        """Makes rows at a rate; returns when all are made."""
        self._rows.run(per_second, rows)


def add_live_rows(spark: SparkSession, folder: Path) -> None:
    """Compiles the class into `folder`, which has to stay, and makes it known to the session's driver.

    Raises CalledProcessError if javac does.
    """
    jars = Path(pyspark.__file__).parent / "jars"
    home = os.environ.get("JAVA_HOME")
    javac = str(Path(home) / "bin" / "javac") if home else "javac"
    checks = "-Xlint:all,-processing,-classfile,-path,-options"
    command = [javac, "--release", "17", checks, "-Werror", "-cp", f"{jars}/*", "-d", str(folder), str(SOURCE)]
    subprocess.run(command, check=True)
    loader = _submit_loader(spark)
    loader.addURL(spark._jvm.java.io.File(str(folder)).toURI().toURL())


def classes(spark: SparkSession) -> Any:
    """The Java package."""
    return spark._jvm.io.bowstring.testing


def see_ages(frame: DataFrame, checkpoint: str, batch: str) -> Any:
    """A query in Real-time Mode that does nothing but look how old its rows are: see `ages`. It has stop()."""
    writer = frame.writeStream.outputMode("update").trigger(realTime=batch).option("checkpointLocation", checkpoint)
    return writer._jwrite.foreach(ages(frame.sparkSession)()).start()


def ages(spark: SparkSession) -> Any:
    """What such queries have seen: count() and take(), of the class."""
    return classes(spark).LiveRows.Ages
