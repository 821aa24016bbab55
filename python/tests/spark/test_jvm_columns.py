"""What Spark asks the JVM source for, and what comes: columns, parts of columns, none; rows, none, large ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring

from . import javas
from .conftest import JVM, read_stream, wait_until_let_go

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def load(spark: SparkSession, client: bowstring.Client, **options: Any) -> DataFrame:
    return spark.read.format(JVM).options(url=client.url, stream="s", **options).load()


def write(frame: DataFrame, client: bowstring.Client, **options: Any) -> None:
    frame.write.format(JVM).mode("append").options(url=client.url, stream="s", **options).save()


def append(client: bowstring.Client, *batches: pa.RecordBatch) -> None:
    with client.producer("s") as producer:
        for batch in batches:
            producer.append(batch)


def batches(client: bowstring.Client) -> list[pa.RecordBatch]:
    with client.iterator("s", subscription=None, follow=False) as found:
        return list(found)


def test_rows_are_counted_without_a_column(spark: SparkSession, client: bowstring.Client) -> None:
    write(spark.range(0, 1000, 1, 3).selectExpr("id", "hex(id) AS text"), client, partitions=2)
    frame = load(spark, client)
    assert frame.count() == 1000
    assert frame.selectExpr("1 AS one").collect() == [(1,)] * 1000
    counts: list[int] = []
    writer = read_stream(spark, client.url, "s", JVM).writeStream.foreachBatch(
        lambda rows, _: counts.append(rows.count())
    )
    writer.trigger(availableNow=True).start().awaitTermination()
    assert counts == [1000]


def test_a_column_that_nobody_asks_for_is_not_decoded(spark: SparkSession, client: bowstring.Client) -> None:
    """Values that do not fit the types which the reader has named fail the columns that they are in, and no other."""
    values = {"fits": pa.array([1, 2], pa.int64()), "large": pa.array([1, 1 << 40], pa.int64())}
    nested = pa.array([{"fits": 1, "large": 1 << 40}] * 2, pa.struct([("fits", pa.int64()), ("large", pa.int64())]))
    append(client, pa.record_batch({**values, "nested": nested}))
    reader = spark.read.format(JVM).schema("fits int, large int, nested struct<fits:int,large:int>")
    frame = reader.options(url=client.url, stream="s").load()
    assert [row.fits for row in frame.select("fits").collect()] == [1, 2]
    assert [row.fits for row in frame.select("nested.fits").collect()] == [1, 1]
    assert frame.count() == 2
    for column in ("large", "nested.large"):
        with pytest.raises(Exception, match=r"schema_mismatch.*(large|nested)"):
            frame.select(column).collect()


def test_parts_of_nested_columns_are_read_alone(spark: SparkSession, client: bowstring.Client) -> None:
    frame = spark.sql(
        "SELECT id, named_struct('a', id, 'b', named_struct('c', hex(id), 'd', array(id))) AS s,"
        " array(named_struct('x', id, 'y', hex(id))) AS l, map('k', named_struct('p', id, 'q', hex(id))) AS m"
        " FROM range(10)"
    )
    write(frame, client)
    found = load(spark, client)
    parts = ["s.b.c", "l.y", "m['k'].q", "s.a"]
    selected = found.selectExpr(*(f"{part} AS c{at}" for at, part in enumerate(parts)))
    assert sorted(selected.collect()) == sorted((f"{n:X}", [f"{n:X}"], f"{n:X}", n) for n in range(10))
    plan = selected._jdf.queryExecution().executedPlan().toString()
    assert "s#" in plan
    assert "id#" not in plan


def test_columns_are_asked_for_in_any_order(spark: SparkSession, client: bowstring.Client) -> None:
    write(spark.range(5).selectExpr("id AS a", "id + 10 AS b", "hex(id) AS c"), client)
    found = load(spark, client).select("c", "a").where("b > 12")
    assert sorted(found.collect()) == [("3", 3), ("4", 4)]


def test_tasks_without_rows_and_batches_without_rows_are_none(spark: SparkSession, client: bowstring.Client) -> None:
    write(spark.range(0, 100, 1, 8).where("id >= 95"), client, partitions=4)
    assert sum(batch.num_rows for batch in batches(client)) == 5
    assert all(batch.num_rows for batch in batches(client))
    schema = client.describe_stream("s")["schema"]
    none = pa.RecordBatch.from_arrays([pa.array([], pa.int64())], schema=schema)
    one = pa.RecordBatch.from_arrays([pa.array([7], pa.int64())], schema=schema)
    append(client, none, none, one, none)
    assert sorted(row.id for row in load(spark, client).collect()) == [7, 95, 96, 97, 98, 99]
    write(spark.range(0), client)
    assert client.describe_stream("s")["epochs_committed"] == 2


def test_a_stream_without_rows_is_an_empty_table(spark: SparkSession, client: bowstring.Client) -> None:
    client.create_stream("s", schema=pa.schema([("n", pa.int64())]), partitions=3)
    frame = load(spark, client)
    assert frame.collect() == []
    assert (frame.count(), frame.rdd.getNumPartitions()) == (0, 0)


def test_a_row_far_larger_than_others_goes_through(spark: SparkSession, client: bowstring.Client) -> None:
    frame = spark.range(0, 200, 1, 1).selectExpr("id", "if(id = 150, repeat('0123456789', 500000), 'x') AS text")
    write(frame, client, maxBufferedBytes=64 << 20)
    found = load(spark, client)
    assert (
        found.selectExpr("sum(length(text))", "sum(crc32(text))").collect()
        == frame.selectExpr("sum(length(text))", "sum(crc32(text))").collect()
    )


def test_a_row_larger_than_the_buffer_is_refused_with_the_limit(spark: SparkSession, client: bowstring.Client) -> None:
    frame = spark.range(1).selectExpr("repeat('0123456789', 500000) AS text")
    with pytest.raises(Exception, match=r"too_large.*1048576|1048576.*too_large"):
        write(frame, client, maxBufferedBytes=1 << 20)


@pytest.mark.parametrize("text", ["repeat('x', 100)", "repeat('x', cast(id % 1000 as int))", "CAST(null AS string)"])
def test_batches_are_cut_by_their_bytes(spark: SparkSession, client: bowstring.Client, text: str) -> None:
    write(spark.range(0, 20_000, 1, 1).selectExpr("id", f"{text} AS text"), client, maxBufferedBytes=400_000)
    found = batches(client)
    assert sum(batch.num_rows for batch in found) == 20_000
    assert max(batch.nbytes for batch in found) <= 110_000
    assert sum(batch.nbytes for batch in found) / len(found) > 30_000, "and no smaller than need be"


def test_batches_are_cut_by_spark_s_own_number_of_rows(
    spark: SparkSession, client: bowstring.Client, setting: Callable[[str, str], None]
) -> None:
    setting("spark.sql.execution.arrow.maxRecordsPerBatch", "300")
    write(spark.range(0, 1000, 1, 1), client)
    assert [batch.num_rows for batch in batches(client)] == [300, 300, 300, 100]
    setting("spark.sql.execution.arrow.maxRecordsPerBatch", "0")
    write(spark.range(0, 200_000, 1, 1), client)
    assert [batch.num_rows for batch in batches(client)][4:] == [200_000]


def test_rows_beyond_a_batch_are_refused_also_when_it_is_gone(client: bowstring.Client, java_classes: str) -> None:
    """Columns are read from memory that nobody but the connector guards."""
    append(client, pa.record_batch({"id": [7, 8], "text": ["seven", "eight"]}))
    told = javas.run(java_classes, "BeyondBatch", client.url)
    assert told == ["7 seven", "row 2: 4 refused", "row -1: 4 refused", "row 0: 4 refused"]


def test_a_limit_ends_a_read_early_and_lets_its_batches_go(spark: SparkSession, client: bowstring.Client) -> None:
    write(spark.range(0, 100_000, 1, 4), client, partitions=2)
    frame = load(spark, client)
    assert len(frame.limit(3).collect()) == 3
    assert len(frame.take(5)) == 5
    # A join that ends when one side is through, and a sort that keeps some rows of each batch.
    assert frame.orderBy("id").limit(2).collect() == [(0,), (1,)]
    assert frame.join(frame.where("id < 10"), "id", "left_semi").count() == 10
    wait_until_let_go(spark)
