"""The JVM sink's columns: each value as Spark has it, over many batches, and batches of the size that they may have."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import bowstring
from bowstring.streaming import add_jar
from bowstring.streaming.jvm import PROVIDER

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: A value of each type from a number `v`, which is spread over all of a long.
VALUES = {
    "a_boolean": "v % 3 = 0",
    "a_byte": "CAST(v % 128 AS tinyint)",
    "a_short": "CAST(v % 32768 AS smallint)",
    "an_int": "CAST(v % 2147483648 AS int)",
    "a_long": "v",
    "a_float": "CASE v % 5 WHEN 0 THEN float('NaN') WHEN 1 THEN float('-0.0') ELSE CAST(v AS float) END",
    "a_double": "CASE v % 5 WHEN 0 THEN double('-Infinity') WHEN 1 THEN double('NaN') ELSE v * 1.0D END",
    "a_small_decimal": "CAST(v % 100000000 AS decimal(10,2)) / 7",
    "a_large_decimal": "CAST(CAST(v AS decimal(38,3)) * 1000000007.123 AS decimal(38,3))",
    "text": "CASE v % 7 WHEN 0 THEN '' WHEN 1 THEN repeat('größe 🏹 ', 40) ELSE hex(v) END",
    "bytes": "CAST(hex(xxhash64(v)) AS binary)",
    "a_date": "date_add(DATE'1970-01-01', CAST(v % 700000 AS int))",
    "a_time": "timestamp_micros(v % 60000000000000000)",
    "a_local_time": "CAST(timestamp_micros(v % 60000000000000000) AS timestamp_ntz)",
    "a_duration": "make_dt_interval(0, 0, 0, v % 100000 / 1000)",
    "some_months": "make_ym_interval(0, CAST(v % 5000 AS int))",
}


def rows(spark: SparkSession, count: int, seed: int) -> DataFrame:
    """Random values, a fifth of them null in every second run of 1,000 rows."""
    spread = spark.range(0, count, 1, 2).selectExpr("id", f"xxhash64(id, {seed}) AS v")
    null = "id DIV 1000 % 2 = 0 AND pmod(xxhash64(v, {at}), 5) = 0"
    made = [
        f"CASE WHEN NOT({null.format(at=at)}) THEN {value} END AS {name}"
        for at, (name, value) in enumerate(VALUES.items())
    ]
    return spread.selectExpr("id", *made)


@pytest.mark.parametrize("batch_rows", ["65536", "777"])
def test_every_value_comes_back_as_it_was(spark: SparkSession, client: bowstring.Client, batch_rows: str) -> None:
    add_jar(spark)
    seed = random.randrange(1 << 40)
    print(f"seed {seed}")
    given = rows(spark, 20_000, seed)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch_rows)
    try:
        given.write.format(PROVIDER).option("url", client.url).option("stream", "s").mode("append").save()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    found = spark.read.format(PROVIDER).option("url", client.url).option("stream", "s").load()
    assert found.schema == given.schema
    assert found.count() == 20_000
    assert found.exceptAll(given).count() == 0
    assert given.exceptAll(found).count() == 0
    nulls = {name: found.where(f"{name} IS NULL").count() for name in VALUES}
    assert all(1500 < count < 2500 for count in nulls.values()), nulls
    # Not only Spark on both ends: Arrow's own validation looks at what was sent.
    with client.iterator("s", subscription=None, follow=False) as iterator:
        batches = list(iterator)
    for batch in batches:
        batch.validate(full=True)
    assert max(batch.num_rows for batch in batches) <= int(batch_rows)
    assert sum(batch.num_rows for batch in batches) == 20_000


def write(frame: DataFrame, client: bowstring.Client, **options: str) -> DataFrame:
    """Writes one task's rows into stream s, and gives what a read of it gives."""
    place = {"url": client.url, "stream": "s"}
    frame.coalesce(1).write.format(PROVIDER).options(**place, **options).mode("append").save()
    return frame.sparkSession.read.format(PROVIDER).options(**place).load()


def test_a_batch_may_be_looked_at_where_its_last_value_is_null(spark: SparkSession, client: bowstring.Client) -> None:
    add_jar(spark)
    # Spark leaves out the offsets of null arrays and maps; the size is looked at after 4,096 rows, and 8,192.
    null = "(id + 1) % 4096 = 0"
    given = spark.range(20_000).selectExpr(
        "id",
        f"if({null}, NULL, array(id)) a",
        f"if({null}, NULL, map(id, 'x')) m",
        f"if({null}, NULL, struct(array(id) AS a)) s",
    )
    found = write(given, client)
    assert found.where("a IS NULL AND m IS NULL AND s IS NULL").count() == 20_000 // 4096
    assert (
        found.selectExpr("sum(a[0])", "sum(map_keys(m)[0])", "sum(s.a[0])").head()
        == given.selectExpr("sum(a[0])", "sum(map_keys(m)[0])", "sum(s.a[0])").head()
    )


@pytest.mark.parametrize("more", [[], ["array(id) AS a"]])
def test_large_values_after_small_ones_do_not_make_a_large_batch(
    spark: SparkSession, client: bowstring.Client, more: list[str]
) -> None:
    add_jar(spark)
    large, limit = 100_000, 1 << 20
    given = spark.range(3_060).selectExpr("id", f"if(id < 3000, 'small', repeat('x', {large})) AS text", *more)
    found = write(given, client, maxBufferedBytes=str(4 * limit), maxBufferedBatches="1000")
    assert found.selectExpr("count(*)", "sum(length(text))").head() == (3_060, 3_000 * 5 + 60 * large)
    with client.iterator("s", subscription=None, follow=False) as iterator:
        sizes = [batch.nbytes for batch in iterator]
    assert max(sizes) < limit + 2 * large, sizes


@pytest.mark.parametrize(
    ("option", "value"),
    [("maxBatchesPerTrigger", "1"), ("onOverflow", "hold"), ("completeOnStop", "true"), ("subscription", "mine")],
)
def test_what_is_for_streaming_queries_is_refused_by_a_batch_read(
    spark: SparkSession, client: bowstring.Client, option: str, value: str
) -> None:
    write(spark.range(3), client)
    reader = spark.read.format(PROVIDER).option("url", client.url).option("stream", "s").option(option, value)
    with pytest.raises(Exception, match=f"option '{option}'"):
        reader.load().count()


def test_what_is_for_batch_reads_is_refused_by_a_streaming_query(
    spark: SparkSession, client: bowstring.Client, checkpoint: str
) -> None:
    write(spark.range(3), client)
    frame = (
        spark.readStream.format(PROVIDER)
        .option("url", client.url)
        .option("stream", "s")
        .option("endingOffsets", "latest")
        .load()
    )
    query = frame.writeStream.format("noop").option("checkpointLocation", checkpoint).start()
    with pytest.raises(Exception, match="option 'endingOffsets' is for batch reads"):
        query.awaitTermination()
