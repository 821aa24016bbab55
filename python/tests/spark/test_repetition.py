"""Writes that fail, are repeated, or are cut: nothing old comes up, nothing is left behind."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming import create_partitioned_iterators, foreach_batch_writer, from_spark_streaming

from .conftest import JVM, PYTHON, wait_until
from .test_forward import NOW, ids

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Numbers = Callable[..., "DataFrame"]


def write(frame: DataFrame, client: bowstring.Client, connector: str = PYTHON, **options: Any) -> None:
    frame.write.format(connector).mode("append").options(url=client.url, stream="s", **options).save()


def test_a_repeated_batch_write_takes_over_nothing_of_the_try_that_died(
    spark: SparkSession, client: bowstring.Client, connector: str
) -> None:
    client.create_stream("s", schema=pa.schema([pa.field("id", pa.int64(), nullable=False)]))
    dead = client.writer("s", producer="nightly", run="batch", epoch=7, task=0, attempt=0)
    dead.append(pa.record_batch([pa.array([-1])], schema=pa.schema([pa.field("id", pa.int64(), nullable=False)])))
    wait_until(lambda: client.describe_stream("s")["buffered_batches"] == 1)
    write(spark.range(0, 10, 1, 1), client, connector, producer="nightly", epoch=7)
    client.complete_stream("s")
    # Of several partitions, whichever is read first.
    assert sorted(ids(client.iterator("s"))) == list(range(10))


def test_a_failed_batch_write_leaves_nothing_behind(
    spark: SparkSession, client: bowstring.Client, connector: str
) -> None:
    frame = spark.range(0, 50_000, 1, 2).selectExpr("if(id = 49999, raise_error('no such row'), id) AS id")
    with pytest.raises(Exception, match="no such row"):
        write(frame, client, connector)
    wait_until(lambda: client.describe_stream("s")["buffered_batches"] == 0)
    assert client.describe_stream("s")["spooled_batches"] == 0


def test_a_micro_batch_can_be_written_again_after_a_failure(
    client: bowstring.Client, numbers: Numbers, checkpoint: str, connector: str
) -> None:
    put = foreach_batch_writer(client.url, "s", use_jvm_sink=connector == JVM)

    def write_again(batch: DataFrame, batch_id: int) -> None:
        with pytest.raises(Exception, match="not this time"):
            put(batch.selectExpr("if(id % 500 = 499, raise_error('not this time'), id) AS id"), batch_id)
        put(batch.select("id"), batch_id)

    writer = numbers(files=4, per_trigger=2).writeStream.foreachBatch(write_again)
    writer.option("checkpointLocation", checkpoint).trigger(**NOW).start().awaitTermination()
    client.complete_stream("s")
    assert sorted(ids(client.iterator("s"))) == list(range(1000))
    assert client.describe_stream("s")["spooled_batches"] == 0


def test_a_function_that_fails_after_its_write_has_written_once(
    client: bowstring.Client, numbers: Numbers, checkpoint: str, connector: str
) -> None:
    put = foreach_batch_writer(client.url, "s", use_jvm_sink=connector == JVM)
    failures = iter(["not this time", "nor this time"])

    def write_and_fail(batch: DataFrame, batch_id: int) -> None:
        put(batch, batch_id)
        if (failure := next(failures, None)) is not None:
            raise LookupError(failure)

    writer = numbers().writeStream.foreachBatch(write_and_fail).option("checkpointLocation", checkpoint).trigger(**NOW)
    for failure in ("not this time", "nor this time"):
        with pytest.raises(Exception, match=failure):
            writer.start().awaitTermination()
    writer.start().awaitTermination()
    client.complete_stream("s")
    assert sorted(ids(client.iterator("s"))) == list(range(1000))
    assert client.describe_stream("s")["epochs_replayed"] >= 2


def test_names_that_would_drop_data_are_refused(
    spark: SparkSession, client: bowstring.Client, numbers: Numbers, checkpoint: str, connector: str
) -> None:
    with pytest.raises(ValueError, match="each micro-batch's own number"):
        foreach_batch_writer(client.url, "s", producer="p", epoch=3)
    with pytest.raises(Exception, match="needs option 'epoch' too"):
        write(spark.range(10), client, connector, producer="p")
    writer = numbers().writeStream.format(connector).options(url=client.url, stream="s", producer="p", epoch=3)
    with pytest.raises(Exception, match="a streaming query's epochs are its micro-batches"):
        writer.option("checkpointLocation", checkpoint).trigger(**NOW).start().awaitTermination()


def test_batches_are_cut_to_fit_the_buffer(spark: SparkSession, connector: str) -> None:
    frame = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 10_000).load()
    wide = frame.selectExpr("value AS id", "repeat('x', 200) AS text")
    iterator, query = from_spark_streaming(wide, trigger=NOW, max_buffered_bytes=1 << 20, use_jvm_sink=connector == JVM)
    assert len(ids(iterator)) % 10_000 == 0
    assert query.exception() is None
    query.stop()


def test_sparks_layout_of_text_is_not_the_streams(
    spark: SparkSession, client: bowstring.Client, setting: Callable[[str, str], None], connector: str
) -> None:
    write(spark.sql("SELECT 'plain' AS text, binary('b') AS bytes"), client, connector)
    setting("spark.sql.execution.arrow.useLargeVarTypes", "true")
    write(spark.sql("SELECT 'large' AS text, binary('b') AS bytes"), client, connector)
    client.complete_stream("s")
    assert [batch["text"][0].as_py() for batch in client.iterator("s")] == ["plain", "large"]


def test_a_query_that_is_stopped_after_it_failed_fails_its_stream(client: bowstring.Client, numbers: Numbers) -> None:
    frame = numbers(files=1).selectExpr("if(id = 999, raise_error('no such flight'), id) AS id")
    _, query = from_spark_streaming(frame, "s", trigger=NOW, coordinator=client)
    wait_until(lambda: query.exception() is not None)
    query.stop(drain_timeout=0)
    assert client.describe_stream("s")["state"] == "failed"


def test_consumers_made_before_the_stream_get_every_partition(client: bowstring.Client, numbers: Numbers) -> None:
    iterators = create_partitioned_iterators(client, 2, 3, stream="s", timeout=60)
    with pytest.raises(ValueError, match="has 3 partitions"):
        from_spark_streaming(numbers(), "s", coordinator=client, num_partitions=4)
    _, query = from_spark_streaming(numbers(), "s", coordinator=client, trigger=NOW, routing="round_robin")
    assert sorted(value for iterator in iterators for value in ids(iterator)) == list(range(1000))
    query.stop()


def test_what_is_buffered_outlives_the_query_for_whoever_kept_the_iterator(numbers: Numbers) -> None:
    def start() -> bowstring.StreamingIterator:
        iterator, query = from_spark_streaming(numbers(), trigger=NOW)
        query.awaitTermination()
        return iterator

    iterator = start()
    gc.collect()
    assert sorted(ids(iterator)) == list(range(1000))
