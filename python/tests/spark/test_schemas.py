"""A query reads a stream whose schema changes under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

import bowstring

from .conftest import collect_available, read_stream

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def append(client: bowstring.Client, table: pa.Table) -> None:
    with client.producer("s") as producer:
        producer.append(table)


def test_a_query_keeps_the_columns_that_it_began_with_and_a_new_one_gets_all(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, connector: str
) -> None:
    client.create_stream("s", schema_policy="widening")
    append(client, pa.table({"id": pa.array([1], pa.int32())}))
    frame = read_stream(spark, client.url, "s", connector, subscription="query")
    assert [row.asDict() for row in collect_available(frame, checkpoint)] == [{"id": 1}]
    append(client, pa.table({"name": ["b"], "id": pa.array([2], pa.int64())}))
    append(client, pa.table({"id": pa.array([3], pa.int32())}))
    assert [row.asDict() for row in collect_available(frame, checkpoint)] == [{"id": 2}, {"id": 3}]
    append(client, pa.table({"id": pa.array([4], pa.int32())}))
    again = read_stream(spark, client.url, "s", connector, subscription="query")
    assert [field.simpleString() for field in again.schema.fields] == ["id:bigint", "name:string"]
    assert [row.asDict() for row in collect_available(again, checkpoint)] == [{"id": 4, "name": None}]


def test_a_sink_that_has_a_new_column_writes_another_version(
    spark: SparkSession, client: bowstring.Client, connector: str
) -> None:
    client.create_stream("s", schema_policy="additive")
    for columns in ("id", "id, id * 10 AS tens"):
        frame = spark.range(0, 2, 1, 1).selectExpr(*columns.split(", "))
        frame = frame.selectExpr(*[f"CASE WHEN id >= 0 THEN {name} END AS {name}" for name in frame.columns])
        frame.write.format(connector).option("url", client.url).option("stream", "s").mode("append").save()
    with client.iterator("s", subscription=None, follow=False) as iterator:
        found = [row for batch in iterator for row in batch.to_pylist()]
    expected = [{"id": one, "tens": None} for one in range(2)] + [{"id": one, "tens": 10 * one} for one in range(2)]
    assert found == expected
