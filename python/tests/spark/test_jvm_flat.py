"""The JVM sink's own columns of numbers, times, text and bytes: each value as Spark has it, over many batches."""

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
