"""Spark's Real-time Mode: what a query has to be told so that it runs into bowstring, at least once."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql.streaming.readwriter import DataStreamWriter

#: Spark takes sinks of its own only, unless this is off. It is looked at when the query starts.
SETTINGS = {"spark.sql.streaming.realTimeMode.allowlistCheck": "false"}


def is_real_time(trigger: dict[str, Any] | str | None) -> bool:
    """Whether a trigger, as ``DataStreamWriter.trigger`` takes it, is that of Real-time Mode."""
    return isinstance(trigger, dict) and "realTime" in trigger


def check_real_time(sink: str, *, use_jvm_sink: bool) -> None:
    """Raises ValueError for sinks that Spark does not take in Real-time Mode, and for a pyspark without it."""
    from pyspark import __version__ as version
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    if not use_jvm_sink or sink != "datasource":
        raise ValueError(
            "trigger={'realTime': ...} needs use_jvm_sink=True and sink='datasource': in Real-time Mode Spark takes "
            "neither sinks in Python nor foreachBatch"
        )
    if "realTime" not in inspect.signature(DataStreamWriter.trigger).parameters:
        raise ValueError(f"pyspark {version} does not know trigger(realTime=...); use 4.3 or newer")


def prepare_writer(writer: DataStreamWriter) -> DataStreamWriter:
    """The writer with what Real-time Mode asks of it: update mode, and progress that is noted when rows are stored.

    Asynchronous progress, Spark's default there, is refused for sinks other than Spark's own.
    """
    return writer.outputMode("update").option("asyncProgressTrackingEnabled", "false")
