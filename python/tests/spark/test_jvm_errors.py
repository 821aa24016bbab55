"""What goes wrong in the JVM connector has a code, which reaches who calls Spark, from the driver and from tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring

from .conftest import JVM, read_stream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def code_of(error: Any) -> tuple[str, bool] | None:
    """Code and retryable of the connector's exception among the causes of what Spark has raised."""
    found = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    while found is not None:
        if found.getClass().getName() == "io.bowstring.spark.BowstringException":
            assert found.getMessage().startswith(f"[{found.code()}] ")
            return found.code(), found.isRetryable()
        found = found.getCause()
    return None


def read(spark: SparkSession, **options: Any) -> DataFrame:
    return spark.read.format(JVM).options(**options).load()


def write(frame: DataFrame, mode: str = "append", **options: Any) -> None:
    frame.write.format(JVM).mode(mode).options(**options).save()


#: What is done with a session and the options url and stream of a stream of 2 partitions; the code; a part of the text.
REFUSED: dict[str, tuple[Callable[[SparkSession, dict[str, str]], Any], str, str]] = {
    "no stream": (lambda spark, at: read(spark, **at | {"stream": "none"}), "stream_not_found", "none"),
    "no url": (lambda spark, _: read(spark, stream="s"), "invalid_argument", "needs option 'url'"),
    "no name": (lambda spark, at: read(spark, url=at["url"]), "invalid_argument", "needs option 'stream'"),
    "unknown option of a source": (lambda spark, at: read(spark, shards=3, **at), "invalid_argument", "'shards'"),
    "unknown option of a sink": (
        lambda spark, at: write(spark.range(1), maxRows=3, **at),
        "invalid_argument",
        "'maxrows'; it knows: url, stream",
    ),
    "other partitions": (
        lambda spark, at: write(spark.range(1), partitions=3, **at),
        "invalid_argument",
        "has 2 partitions, but 3 were asked for",
    ),
    "routing by nothing": (
        lambda spark, at: write(spark.range(1), routing="hash(k)", **at),
        "invalid_argument",
        "needs the columns ['k']",
    ),
    "no such routing": (
        lambda spark, at: write(spark.range(1), routing="by(k)", **at),
        "invalid_argument",
        "use one of",
    ),
    "overwrite": (
        lambda spark, at: write(spark.range(1), "overwrite", **at),
        "invalid_argument",
        "cannot be overwritten",
    ),
    "producer without epoch": (
        lambda spark, at: write(spark.range(1), producer="p", **at),
        "invalid_argument",
        "needs option 'epoch' too",
    ),
    "epoch without producer": (
        lambda spark, at: write(spark.range(1), epoch=1, **at),
        "invalid_argument",
        "needs option 'producer' too",
    ),
    "batch read of a subscription": (
        lambda spark, at: read(spark, subscription="x", **at).collect(),
        "invalid_argument",
        "a batch read has no cursor",
    ),
    "an offset that is not there yet": (
        lambda spark, at: read(spark, endingOffsets='{"0": 7}', **at).collect(),
        "offset_ahead",
        "is offset 7 in partition 0, which has batches 0 to 1",
    ),
    "a partition that is not there": (
        lambda spark, at: read(spark, startingOffsets='{"2": 0}', **at).collect(),
        "partition_out_of_range",
        "names partition 2",
    ),
    "two columns of one name": (
        lambda spark, at: write(spark.sql("SELECT 1 AS a, 2 AS a"), **at),
        "invalid_argument",
        "more than once",
    ),
    "other columns": (lambda spark, at: write(spark.sql("SELECT 'x' AS other"), **at), "schema_mismatch", "other"),
    "a value that does not fit": (
        lambda spark, at: spark.read.format(JVM).schema("id tinyint").options(**at).load().collect(),
        "schema_mismatch",
        "id",
    ),
    "a partition that a row names": (
        lambda spark, at: write(spark.sql("SELECT 2L AS id"), routing="column:id", **at),
        "invalid_argument",
        "id",
    ),
}


@pytest.fixture(scope="module")
def at() -> Any:
    """Where the stream is."""
    with bowstring.StreamCoordinator() as coordinator:
        client = coordinator.client()
        client.create_stream("s", partitions=2, schema=pa.schema([pa.field("id", pa.int64(), nullable=False)]))
        with client.producer("s") as producer:
            batch = pa.record_batch([pa.array([1 << 40])], schema=client.describe_stream("s")["schema"])
            producer.append(batch, partition=0)
        yield {"url": client.url, "stream": "s"}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_with_a_code(spark: SparkSession, at: dict[str, str], what: str) -> None:
    do, code, part = REFUSED[what]
    with pytest.raises(Exception, match=re.escape(part)) as raised:
        do(spark, at)
    assert code_of(raised.value) == (code, False), raised.value


def test_a_coordinator_that_is_not_there_may_be_asked_again(spark: SparkSession) -> None:
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1") as raised:
        read(spark, url="grpc://127.0.0.1:1", stream="s", connectTimeout="0.3")
    assert code_of(raised.value) == ("unavailable", True)


def test_a_query_that_fails_says_the_code(spark: SparkSession, client: bowstring.Client, checkpoint: str) -> None:
    client.create_stream("s", schema=pa.schema([("n", pa.int64())]))
    frame = read_stream(spark, client.url, "s", JVM)
    client.fail_stream("s", "the sensor is off")
    query = frame.writeStream.format("noop").option("checkpointLocation", checkpoint).start()
    with pytest.raises(Exception, match="the sensor is off") as raised:
        query.awaitTermination(60)
    assert code_of(raised.value) == ("stream_failed", False)


@pytest.mark.parametrize(
    "options",
    [
        {"connectTimeout": "1e18"},
        {"connectTimeout": "1.7e308"},
        {"connectTimeout": "1e-300"},
        {"url": "grpc://"},
        {"url": "grpc://[::1"},
        {"url": "grpc://\x00:1"},
        {"url": "grpc://" + "x" * 100_000},
        {"stream": "\x00"},
        {"startingOffsets": "{" * 10_000},
        {"startingOffsets": '{"0": 18446744073709551615}'},
        {"endingOffsets": '{"4294967295": 18446744073709551615}'},
    ],
)
def test_whatever_the_options_are_the_jvm_lives_and_there_is_a_code(
    spark: SparkSession, at: dict[str, str], options: dict[str, str]
) -> None:
    """A panic of the native library would be "internal"; one cannot be had on purpose from outside."""
    try:
        rows = read(spark, **({"connectTimeout": "0.3"} | at | options)).count()
    except Exception as error:  # noqa: BLE001 - whichever it is
        found = code_of(error)
    else:
        found = ("read", rows == 1)
    assert found is not None
    assert found[0] != "internal"
