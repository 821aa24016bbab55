"""What peers were seen to get wrong around Spark, and no other file shows: docs/regressions.md has the whole list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import bowstring
from bowstring.streaming import from_spark_streaming

from .conftest import read_stream
from .test_forward import NOW, SINKS, ids
from .test_reverse import append, table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Numbers = Callable[..., "DataFrame"]


def test_stream_and_subscription_are_there_before_the_query_starts(
    client: bowstring.Client, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    started = DataStreamWriter.start
    subscriptions: list[list[str]] = []

    def start(writer: DataStreamWriter, *arguments: Any) -> Any:
        found = client.describe_stream("s")["subscriptions"]
        subscriptions.append([one["subscription"] for one in found])
        return started(writer, *arguments)

    monkeypatch.setattr(DataStreamWriter, "start", start)
    iterator, query = from_spark_streaming(numbers(), "s", trigger=NOW, coordinator=client)
    assert subscriptions == [["default"]], "the first micro-batch has nothing to race with"
    assert sorted(ids(iterator)) == list(range(1000))
    query.stop()


@SINKS
def test_a_micro_batch_is_one_job_of_spark_and_no_more(
    spark: SparkSession, client: bowstring.Client, numbers: Numbers, sink: dict[str, Any]
) -> None:
    """To ask whether a micro-batch is empty, or to collect it on the driver, would be a job of its own."""
    _, query = from_spark_streaming(numbers(files=6), "s", trigger=NOW, coordinator=client, **sink)
    query.awaitTermination()
    jobs = spark.sparkContext.statusTracker().getJobIdsForGroup(str(query.runId))
    assert (len(jobs), client.describe_stream("s")["epochs_committed"]) == (3, 3)
    query.stop(drain_timeout=0)


def test_each_commit_of_spark_frees_the_micro_batch_before_it(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(10))
    held: list[int] = []

    def look(batch: DataFrame, _: int) -> None:
        batch.collect()
        held.append(client.describe_stream("s")["buffered_batches"])

    frame = read_stream(spark, client.url, "s", connector, maxBatchesPerTrigger=1)
    writer = frame.writeStream.foreachBatch(look).option("checkpointLocation", checkpoint)
    writer.trigger(availableNow=True).start().awaitTermination()
    assert held == list(range(10, 0, -1)), "all but what Spark has committed: nothing more is kept, and nothing less"
