"""A coordinator's streams as tables of SQL, by the JVM connector's catalog."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming import add_jar

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def sql(spark: SparkSession, client: bowstring.Client) -> Iterator[Any]:
    """Runs SQL in a session of its own, whose catalog `b` is the coordinator."""
    add_jar(spark)
    session = spark.newSession()
    session.conf.set("spark.sql.catalog.b", "io.bowstring.spark.BowstringCatalog")
    session.conf.set("spark.sql.catalog.b.url", client.url)
    return lambda text: [tuple(row) for row in session.sql(text).collect()]


def refusal(sql: Any, text: str) -> str:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the caller looks at the text
        sql(text)
    return str(raised.value)


def test_a_stream_is_made_filled_read_and_deleted_in_sql(sql: Any, client: bowstring.Client) -> None:
    sql("CREATE TABLE b.clicks (user BIGINT, page STRING) TBLPROPERTIES (partitions=2)")
    assert client.describe_stream("clicks")["options"]["partitions"] == 2
    assert sql("SHOW TABLES IN b") == [("", "clicks", False)]
    sql("INSERT INTO b.clicks SELECT id, concat('page ', id) FROM range(10)")
    sql("INSERT INTO b.clicks VALUES (10, NULL)")
    assert sql("SELECT count(*), sum(user), count(page) FROM b.clicks") == [(11, 55, 10)]
    assert sql("SELECT page FROM b.clicks WHERE user = 7") == [("page 7",)]
    sql("CREATE TABLE b.copy AS SELECT user AS u FROM b.clicks WHERE user > 4")
    assert sql("SELECT count(*), min(u) FROM b.copy") == [(6, 5)]
    sql("DROP TABLE b.clicks")
    assert [stream["stream"] for stream in client.list_streams()] == ["copy"]
    assert "TABLE_OR_VIEW_NOT_FOUND" in refusal(sql, "SELECT * FROM b.clicks")
    assert "TABLE_OR_VIEW_NOT_FOUND" in refusal(sql, "DROP TABLE b.clicks")
    sql("DROP TABLE IF EXISTS b.clicks")


def test_what_was_not_made_by_sql_is_a_table_too(sql: Any, client: bowstring.Client) -> None:
    with client.producer("readings") as producer:
        producer.append(
            pa.table({"at": pa.array([1, 2], pa.uint8()), "what": pa.array(["a", "b"]).dictionary_encode()})
        )
    assert sql("DESCRIBE TABLE b.readings") == [("at", "smallint", None), ("what", "string", None)]
    assert sql("SELECT what FROM b.readings WHERE at = 2") == [("b",)]
    assert sql("SELECT count(*) FROM b.readings WITH (startingOffsets='latest')") == [(0,)]


def test_a_streaming_query_goes_from_table_to_table(
    spark: SparkSession, sql: Any, client: bowstring.Client, checkpoint: str
) -> None:
    sql("CREATE TABLE b.a AS SELECT id FROM range(100)")
    sql("CREATE TABLE b.z (id BIGINT)")
    session = spark.newSession()
    session.conf.set("spark.sql.catalog.b", "io.bowstring.spark.BowstringCatalog")
    session.conf.set("spark.sql.catalog.b.url", client.url)
    writer = session.readStream.table("b.a").writeStream.option("checkpointLocation", checkpoint)
    query = writer.trigger(availableNow=True).toTable("b.z")
    query.awaitTermination()
    assert query.exception() is None
    assert sql("SELECT count(*), sum(id) FROM b.z") == [(100, 4950)]


def test_a_stream_without_a_schema_is_there_and_can_be_dropped(sql: Any, client: bowstring.Client) -> None:
    client.create_stream("bare")
    assert "has no schema yet" in refusal(sql, "SELECT * FROM b.bare")
    assert "TABLE_OR_VIEW_ALREADY_EXISTS" in refusal(sql, "CREATE TABLE b.bare (id BIGINT)")
    client.delete_stream("bare")
    sql("DROP TABLE IF EXISTS b.bare")


def test_a_catalog_takes_what_says_where_its_coordinator_is_and_no_more(
    spark: SparkSession, client: bowstring.Client
) -> None:
    add_jar(spark)
    session = spark.newSession()
    session.conf.set("spark.sql.catalog.b", "io.bowstring.spark.BowstringCatalog")
    session.conf.set("spark.sql.catalog.b.url", client.url)
    session.conf.set("spark.sql.catalog.b.routing", "hash(id)")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever Spark makes of it
        session.sql("SHOW TABLES IN b").collect()
    assert "takes url, connectTimeout, localSocket, tlsCa" in str(raised.value)


def test_a_view_over_a_stream_needs_no_catalog(sql: Any, client: bowstring.Client) -> None:
    sql("CREATE TABLE b.s AS SELECT id FROM range(5)")
    sql(f"CREATE TEMPORARY VIEW v USING bowstring OPTIONS (url '{client.url}', stream 's')")
    assert sql("SELECT sum(id) FROM v") == [(10,)]


def test_what_a_stream_cannot_do_is_refused_with_what_to_do(sql: Any) -> None:
    sql("CREATE TABLE b.s (id BIGINT)")
    assert "TABLE_OR_VIEW_ALREADY_EXISTS" in refusal(sql, "CREATE TABLE b.s (id BIGINT)")
    sql("CREATE TABLE IF NOT EXISTS b.s (id BIGINT)")
    assert "'shards' is no property of a stream; those are: partitions" in refusal(
        sql, "CREATE TABLE b.t (id BIGINT) OPTIONS (shards=2)"
    )
    assert "'routing' is no property of a stream" in refusal(
        sql, "CREATE TABLE b.t (id INT) TBLPROPERTIES (routing='spark')"
    )
    assert "cannot be overwritten" in refusal(sql, "INSERT OVERWRITE b.s VALUES (1)")
    assert "schema_policy" in refusal(sql, "ALTER TABLE b.s ADD COLUMN more INT")
    assert "keeps its name" in refusal(sql, "ALTER TABLE b.s RENAME TO b.t")
    assert "streams have no namespace" in refusal(sql, "CREATE TABLE b.more.t (id BIGINT)")
    assert "routed when they are written" in refusal(sql, "CREATE TABLE b.t (id BIGINT) PARTITIONED BY (id)")
    assert "TABLE_OR_VIEW_NOT_FOUND" in refusal(sql, "SELECT * FROM b.more.s")
