"""What the options of the JVM connector do, and where its keys go."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring

from .conftest import JVM, PYTHON, collect_available, read_stream, wait_until
from .test_forward import NOW, ids
from .test_jvm_errors import code_of
from .test_reverse import append, table
from .values import random_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

KEYS = ["boolean", "tinyint", "bigint", "double", "decimal(9,2)", "decimal(38,18)", "string", "binary", "timestamp"]


def partitions_of(client: bowstring.Client, stream: str) -> dict[int, int]:
    """By id of a row: the partition that it is in."""
    found = {}
    for entry in client.describe_stream(stream)["partitions"]:
        number = entry["partition"]
        for batch in client.read(stream, number, 0, entry["end"]):
            found |= dict.fromkeys(batch["id"].to_pylist(), number)
    return found


def test_keys_of_every_type_go_where_the_python_sink_sends_them(spark: SparkSession, client: bowstring.Client) -> None:
    columns = {f"c{at}": of for at, of in enumerate(KEYS)}
    frame = random_frame(spark, columns, 60, 7, tasks=1).cache()
    routings = [*(f"hash(c{at})" for at in range(len(KEYS))), "hash(c6, c2, c0)"]
    for at, routing in enumerate(routings):
        for connector in (PYTHON, JVM):
            writer = frame.write.format(connector).mode("append").option("stream", f"{connector}-{at}")
            writer.options(url=client.url, partitions=7, routing=routing).save()
        python, jvm = (partitions_of(client, f"{connector}-{at}") for connector in (PYTHON, JVM))
        assert len(python) == 60
        assert jvm == python, routing
    assert len(set(jvm.values())) == 7


def test_rows_go_to_the_partition_that_they_name_and_batches_take_turns(
    spark: SparkSession, client: bowstring.Client, setting: Callable[[str, str], None]
) -> None:
    setting("spark.sql.execution.arrow.maxRecordsPerBatch", "10")
    frame = spark.range(0, 60, 1, 1).selectExpr("id", "CAST(id % 3 AS tinyint) AS p")
    for stream, routing in (("named", "column:p"), ("turns", "round_robin"), ("task", "spark")):
        writer = frame.write.format(JVM).mode("append").options(url=client.url, stream=stream, partitions=3)
        writer.option("routing", routing).save()
    assert partitions_of(client, "named") == {one: one % 3 for one in range(60)}
    assert partitions_of(client, "turns") == {one: one // 10 % 3 for one in range(60)}
    assert set(partitions_of(client, "task").values()) == {0}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {0: [0, 1, 2, 3], 1: [10, 11]}),
        ({"startingOffsets": "latest"}, {}),
        ({"startingOffsets": '{"0": 2}'}, {0: [2, 3], 1: [10, 11]}),
        ({"endingOffsets": '{"0": 1, "1": 0}'}, {0: [0]}),
        ({"startingOffsets": '{"0": 1, "1": 1}', "endingOffsets": '{"0": 3}'}, {0: [1, 2], 1: [11]}),
        ({"endingOffsets": "earliest"}, {}),
    ],
)
def test_a_batch_read_covers_what_lies_between_its_offsets(
    spark: SparkSession, client: bowstring.Client, given: dict[str, str], expected: dict[int, list[int]]
) -> None:
    client.create_stream("s", schema=table(0).schema, partitions=2)
    append(client, "s", range(4), 0)
    append(client, "s", range(10, 12), 1)
    frame = spark.read.format(JVM).options(url=client.url, stream="s", **given).load()
    found = sorted({row.n for row in frame.collect()})
    assert found == sorted(number for numbers in expected.values() for number in numbers)
    assert frame.rdd.getNumPartitions() == len(expected)


def test_a_batch_read_of_what_is_acked_and_gone_says_so(spark: SparkSession, client: bowstring.Client) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(4))
    client.subscribe("s", "reader", "latest")
    wait_until(lambda: client.describe_stream("s")["partitions"][0]["start"] == 4)
    frame = spark.read.format(JVM).options(url=client.url, stream="s")
    assert frame.load().collect() == []
    reason = "startingOffsets.*offset 0 in partition 0, which has batches 4 to 4"
    with pytest.raises(Exception, match=reason) as raised:
        frame.option("startingOffsets", '{"0": 0}').load().collect()
    assert code_of(raised.value) == ("offset_gone", False)


def test_a_batch_read_reads_the_same_twice_though_more_has_come(spark: SparkSession, client: bowstring.Client) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(2))
    frame = spark.read.format(JVM).options(url=client.url, stream="s").load()
    planned = frame.where("i = 0")
    assert planned.rdd.getNumPartitions() == 1
    append(client, "s", range(2, 4))
    assert [row.n for row in planned.rdd.collect()] == [0, 1]
    assert frame.count() == 40


@pytest.mark.parametrize(
    ("starting", "expected"),
    [("earliest", [0, 1, 2, 10]), ('{"0": 2}', [2, 10]), ('{"0": 3, "1": 1}', []), ("latest", [])],
)
def test_a_query_begins_where_it_is_told(
    spark: SparkSession, client: bowstring.Client, starting: str, expected: list[int]
) -> None:
    client.create_stream("s", schema=table(0).schema, partitions=2)
    append(client, "s", range(3), 0)
    append(client, "s", range(10, 11), 1)
    rows = collect_available(read_stream(spark, client.url, "s", JVM, startingOffsets=starting))
    assert sorted({row.n for row in rows}) == expected


def test_a_query_takes_a_subscription_up_where_it_is(
    spark: SparkSession, client: bowstring.Client, checkpoint: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    client.subscribe("s", "all")
    append(client, "s", range(2))
    client.subscribe("s", "job", "latest")
    append(client, "s", range(2, 5))
    frame = read_stream(spark, client.url, "s", JVM, subscription="job", maxBatchesPerTrigger=1)
    assert [row.n for row in collect_available(frame, checkpoint) if row.i == 0] == [2, 3, 4]
    found = client.describe_stream("s")["subscriptions"]
    cursors = {one["subscription"]: one["partitions"][0]["acked"] for one in found}
    assert cursors == {"job": 4, "all": 0}, "Spark acks a micro-batch when it has planned the next"


def test_a_source_that_may_be_evicted_fails_with_the_reason(
    spark: SparkSession, client: bowstring.Client, checkpoint: str
) -> None:
    client.create_stream("s", schema=table(0).schema, max_buffered_batches=2)
    append(client, "s", range(1))
    frame = read_stream(spark, client.url, "s", JVM, onOverflow="evict", startingOffsets="earliest")
    collect_available(frame, checkpoint)
    append(client, "s", range(8))
    with pytest.raises(Exception, match="evict") as raised:
        collect_available(frame, checkpoint)
    assert code_of(raised.value) == ("subscription_evicted", False)


def start(frame: DataFrame, rows: list[Any]) -> StreamingQuery:
    return frame.writeStream.foreachBatch(lambda batch, _: rows.extend(batch.collect())).start()


def test_a_source_may_wait_for_a_producer_that_is_lost(spark: SparkSession, client: bowstring.Client) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(1))
    client.keep_producer("s", "somebody", "run", 1.0)
    wait_until(lambda: any(one["lost"] for one in client.describe_stream("s")["producers"]))
    rows: list[Any] = []
    query = start(read_stream(spark, client.url, "s", JVM, failOnProducerLost="false"), rows)
    wait_until(lambda: len(rows) == 10)
    append(client, "s", range(1, 2))
    query.processAllAvailable()
    assert len(rows) == 20
    query.stop()
    assert query.exception() is None


@pytest.mark.parametrize(("given", "state"), [("true", "completed"), ("false", "open")])
def test_a_stream_is_completed_with_its_query_where_that_is_asked_for(
    spark: SparkSession, client: bowstring.Client, given: str, state: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(1))
    rows: list[Any] = []
    query = start(read_stream(spark, client.url, "s", JVM, completeOnStop=given), rows)
    wait_until(lambda: rows)
    query.stop()
    assert client.describe_stream("s")["state"] == state


@pytest.mark.parametrize("mode", ["update", "complete"])
def test_other_output_modes_append_what_they_give(
    client: bowstring.Client, numbers: Callable[..., DataFrame], checkpoint: str, mode: str
) -> None:
    counted = numbers(rows=700, files=2, per_trigger=1).groupBy("k").count().selectExpr("k AS id", "count AS n")
    writer = counted.writeStream.format(JVM).outputMode(mode).options(url=client.url, stream="s")
    writer.option("checkpointLocation", checkpoint).trigger(**NOW).start().awaitTermination()
    client.complete_stream("s")
    assert sorted(ids(client.iterator("s"))) == sorted([*range(7)] * 2)


def test_progress_tells_what_was_read_and_written(
    spark: SparkSession, client: bowstring.Client, checkpoint: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(3))
    frame = read_stream(spark, client.url, "s", JVM)
    writer = frame.writeStream.format(JVM).options(url=client.url, stream="copy")
    query = writer.option("checkpointLocation", checkpoint).trigger(**NOW).start()
    query.awaitTermination()
    (progress,) = (one for one in query.recentProgress if one["numInputRows"])
    assert progress["numInputRows"] == 30
    assert progress["sink"]["numOutputRows"] == 30
    assert json.loads(progress["sources"][0]["endOffset"])["ends"] == {"0": 3}
    assert pa.Table.from_batches(client.read("copy", 0, 0, 1)).num_rows == 30
