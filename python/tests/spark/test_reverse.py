"""Producers to Spark: exactly once, limits, replay, ends and errors; and no stall."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet
import pytest

import bowstring
from bowstring.streaming import from_spark_streaming, to_spark_streaming

from ..support import Child, Served
from .conftest import JVM, collect_available, read_stream, wait_until
from .test_forward import program

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery


def table(number: int, rows: int = 10) -> pa.Table:
    return pa.table({"n": pa.array([number] * rows, pa.int64()), "i": pa.array(range(rows), pa.int64())})


def next_of_five() -> Callable[[], pa.Table | None]:
    tables = map(table, range(5))
    return lambda: next(tables, None)


def append(client: bowstring.Client, stream: str, numbers: range, partition: int | None = None) -> None:
    with client.producer(stream) as producer:
        for number in numbers:
            producer.append(table(number), partition=partition)


@pytest.fixture
def started() -> Iterator[Callable[..., StreamingQuery]]:
    """Starts queries that collect rows into a list; they are stopped at the end."""
    queries: list[StreamingQuery] = []

    def start(frame: DataFrame, rows: list[Row], checkpoint: str | None = None, **trigger: Any) -> StreamingQuery:
        writer = frame.writeStream.foreachBatch(lambda batch, _: rows.extend(batch.collect()))
        if checkpoint is not None:
            writer = writer.option("checkpointLocation", checkpoint)
        queries.append((writer.trigger(**trigger) if trigger else writer).start())
        return queries[-1]

    yield start
    for query in queries:
        query.stop()


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: (table(n) for n in range(5)), id="generator"),
        pytest.param(lambda: [table(n).to_batches()[0] for n in range(5)], id="list of batches"),
        pytest.param(lambda: pa.concat_tables(table(n) for n in range(5)), id="table"),
        pytest.param(lambda: pa.concat_tables(table(n) for n in range(5)).to_reader(), id="reader"),
        pytest.param(lambda: lambda: (table(n) for n in range(5)), id="function of all"),
        pytest.param(next_of_five, id="function of the next"),
    ],
)
def test_every_kind_of_source_arrives(spark: SparkSession, source: Callable[[], Any]) -> None:
    frame, handle = to_spark_streaming(source(), spark)
    with handle:
        assert handle.wait(60)
        rows = collect_available(frame)
        assert sorted((row.n, row.i) for row in rows) == [(n, i) for n in range(5) for i in range(10)]
        assert (handle.rows, handle.producer_error) == (50, None)


def test_a_query_ends_with_its_source(
    spark: SparkSession, started: Callable[..., StreamingQuery], connector: str
) -> None:
    frame, handle = to_spark_streaming(
        (table(n) for n in range(20)), spark, num_partitions=3, use_jvm_source=connector == JVM
    )
    rows: list[Row] = []
    query = started(frame, rows)
    assert handle.drain(query, 60)
    assert not query.isActive
    assert len(rows) == 200
    assert frame.sparkSession is spark
    handle.close()


def test_spark_reads_one_task_per_partition(spark: SparkSession, client: bowstring.Client, connector: str) -> None:
    client.create_stream("s", schema=table(0).schema, partitions=3)
    for partition in (0, 2):
        append(client, "s", range(2), partition)
    counts: list[int] = []
    writer = read_stream(spark, client.url, "s", connector).writeStream
    writer.foreachBatch(lambda batch, _: counts.append(batch.rdd.getNumPartitions())).trigger(
        availableNow=True
    ).start().awaitTermination()
    assert counts == [2]


def test_a_full_buffer_of_read_but_uncommitted_data_does_not_stall(
    spark: SparkSession, started: Callable[..., StreamingQuery], connector: str
) -> None:
    rows: list[Row] = []
    go_on = threading.Event()

    def source() -> Iterator[pa.Table]:
        yield from map(table, range(4))
        go_on.wait(60)
        yield from map(table, range(4, 24))

    frame, handle = to_spark_streaming(source(), spark, max_buffered_batches=4, use_jvm_source=connector == JVM)
    query = started(frame, rows)
    wait_until(lambda: len(rows) == 40, 60)
    # Spark has read all 4 batches and commits them only once there is more; there is no room for more.
    time.sleep(1)
    go_on.set()
    assert handle.drain(query, 60)
    assert len(rows) == 240
    handle.close()


@pytest.mark.parametrize(
    ("limit", "largest"), [({"maxBatchesPerTrigger": 2}, 20), ({"maxBytesPerTrigger": 1}, 10), ({}, 100)]
)
def test_read_limits_hold_in_every_micro_batch(
    spark: SparkSession, client: bowstring.Client, limit: dict[str, int], largest: int, connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(10))
    sizes: list[int] = []
    writer = read_stream(spark, client.url, "s", connector, **limit).writeStream
    query = writer.foreachBatch(lambda batch, _: sizes.append(batch.count())).trigger(availableNow=True).start()
    query.awaitTermination()
    assert sum(sizes) == 100
    assert max(sizes) == largest


def test_available_now_ends_at_what_is_there_and_the_next_run_goes_on(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(3))
    frame = read_stream(spark, client.url, "s", connector)
    assert sorted({row.n for row in collect_available(frame, checkpoint)}) == [0, 1, 2]
    append(client, "s", range(3, 5))
    assert sorted({row.n for row in collect_available(frame, checkpoint)}) == [3, 4]
    assert collect_available(frame, checkpoint) == []
    assert len(client.describe_stream("s")["subscriptions"]) == 1


def test_a_driver_killed_at_work_goes_on_where_it_was(client: bowstring.Client, tmp_path: Path) -> None:
    client.create_stream("s", schema=table(0).schema, partitions=2)
    append(client, "s", range(12))
    client.complete_stream("s")
    marker, out = tmp_path / "armed", tmp_path / "out"
    marker.touch()
    arguments = ("reverse", client.url, str(out), str(tmp_path / "checkpoint"), str(marker))
    assert program(*arguments) == -9
    assert program(*arguments) == 0
    files = sorted(out.glob("*/*.parquet"))
    found = pa.concat_tables(pa.parquet.read_table(file) for file in files) if files else table(0, 0)
    pairs = sorted(zip(found["n"].to_pylist(), found["i"].to_pylist(), strict=True))
    assert pairs == [(n, i) for n in range(12) for i in range(10)]


def test_a_first_micro_batch_that_fails_is_repeated_from_the_same_start(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(3))
    frame = read_stream(spark, client.url, "s", connector, startingOffsets=json.dumps({"0": 1}))

    def fail(_batch: DataFrame, _id: int) -> None:
        raise RuntimeError("not this time")

    writer = frame.writeStream.foreachBatch(fail).option("checkpointLocation", checkpoint)
    with pytest.raises(Exception, match="not this time"):
        writer.trigger(availableNow=True).start().awaitTermination()
    append(client, "s", range(3, 4))
    assert sorted({row.n for row in collect_available(frame, checkpoint)}) == [1, 2, 3]
    assert len(client.describe_stream("s")["subscriptions"]) == 1


def test_latest_skips_what_is_there(
    spark: SparkSession, client: bowstring.Client, started: Callable[..., StreamingQuery], connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(3))
    rows: list[Row] = []
    query = started(read_stream(spark, client.url, "s", connector, startingOffsets="latest"), rows)
    wait_until(lambda: client.describe_stream("s")["subscriptions"])
    append(client, "s", range(3, 4))
    query.processAllAvailable()
    assert {row.n for row in rows} == {3}


def test_two_queries_of_one_dataframe_each_get_everything(
    spark: SparkSession, client: bowstring.Client, started: Callable[..., StreamingQuery], connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    frame = read_stream(spark, client.url, "s", connector, maxBatchesPerTrigger=1)
    collected: tuple[list[Row], list[Row]] = ([], [])
    queries = [started(frame, rows) for rows in collected]
    wait_until(lambda: len(client.describe_stream("s")["subscriptions"]) == 2)
    append(client, "s", range(4))
    for query in queries:
        query.processAllAvailable()
    assert [len(rows) for rows in collected] == [40, 40]


def test_a_stream_created_anew_is_refused(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(2))
    frame = read_stream(spark, client.url, "s", connector)
    collect_available(frame, checkpoint)
    client.delete_stream("s")
    client.create_stream("s", schema=table(0).schema)
    with pytest.raises(Exception, match="deleted and created again"):
        collect_available(frame, checkpoint)


def test_an_error_in_the_source_fails_the_query_after_what_came_before(
    spark: SparkSession, started: Callable[..., StreamingQuery], connector: str
) -> None:
    def source() -> Iterator[pa.Table]:
        yield from map(table, range(3))
        raise LookupError("the sensor is off")

    frame, handle = to_spark_streaming(source(), spark, use_jvm_source=connector == JVM)
    rows: list[Row] = []
    query = started(frame, rows)
    with pytest.raises(Exception, match="LookupError: the sensor is off"):
        query.awaitTermination(60)
    assert len(rows) == 30
    with pytest.raises(LookupError):
        handle.wait(1)
    assert isinstance(handle.producer_error, LookupError)
    handle.close()


def test_a_lost_producer_fails_the_query_after_what_came_before(
    spark: SparkSession, client: bowstring.Client, started: Callable[..., StreamingQuery], connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(2))
    client.keep_producer("s", "somebody", "run", 1.0)
    rows: list[Row] = []
    query = started(read_stream(spark, client.url, "s", connector), rows)
    with pytest.raises(Exception, match=r"producer somebody .* is lost"):
        query.awaitTermination(30)
    assert len(rows) == 20


def test_stop_ends_a_source_that_waits_for_room(spark: SparkSession) -> None:
    _, handle = to_spark_streaming(map(table, iter(int, 1)), spark, max_buffered_batches=2)
    client = bowstring.connect(handle.url)
    wait_until(lambda: client.describe_stream(handle.stream)["waiting"])
    assert handle.stop(10)
    assert client.describe_stream(handle.stream)["state"] == "completed"
    assert handle.producer_error is None
    handle.close()


@pytest.mark.parametrize("end", ["stop", "fail"])
def test_a_source_ends_with_its_query_and_says_why(spark: SparkSession, end: str, connector: str) -> None:
    frame, handle = to_spark_streaming(
        map(table, iter(int, 1)), spark, max_buffered_batches=2, use_jvm_source=connector == JVM
    )
    rows: list[Row] = []

    def take(batch: DataFrame, _: int) -> None:
        rows.extend(batch.collect())
        if end == "fail":
            raise LookupError("no such table")

    query = frame.writeStream.foreachBatch(take).start()
    wait_until(lambda: rows)
    if end == "stop":
        query.stop()
    wait_until(lambda: not handle.is_active)
    assert isinstance(handle.producer_error, bowstring.StreamEnded)
    handle.close()


def test_a_source_ends_with_its_query_though_spark_ends_the_planner_twice(
    serve: Callable[..., Served], start_python: Callable[..., Child]
) -> None:
    served = serve()
    client = bowstring.connect(served.url)
    client.create_stream("s")
    planner = start_python(str(Path(__file__).with_name("faults.py")), "plan", served.url)
    assert planner.line() == "waiting"
    os.kill(served.child.process.pid, signal.SIGSTOP)
    try:
        planner.process.terminate()
        assert planner.line() == "stopping"
        planner.process.terminate()
        time.sleep(0.5)
    finally:
        os.kill(served.child.process.pid, signal.SIGCONT)
    assert planner.process.wait(30) == 0
    assert client.describe_stream("s")["state"] == "completed"


def test_what_a_stopped_source_gave_is_stored(spark: SparkSession) -> None:
    _, handle = to_spark_streaming(map(table, iter(int, 1)), spark, max_buffered_batches=100_000)
    wait_until(lambda: handle.batches > 100)
    assert handle.stop(10)
    found = bowstring.connect(handle.url).describe_stream(handle.stream)
    assert found["partitions"][0]["end"] == handle.batches
    assert handle.rows == 10 * handle.batches
    handle.close()


def test_a_query_that_has_ended_is_not_drained(spark: SparkSession) -> None:
    frame, handle = to_spark_streaming(map(table, range(3)), spark)
    query = frame.writeStream.format("noop").start()
    query.stop()
    assert not handle.drain(query, 10)
    failing = frame.selectExpr("raise_error('no such row')").writeStream.format("noop").start()
    with pytest.raises(Exception, match="no such row"):
        handle.drain(failing, 60)
    handle.close()


def test_a_source_without_a_schema_says_so(spark: SparkSession, client: bowstring.Client, connector: str) -> None:
    with pytest.raises(ValueError, match="pass schema="):
        to_spark_streaming([], spark, use_jvm_source=connector == JVM)
    client.create_stream("s")
    with pytest.raises(Exception, match="has no schema yet"):
        read_stream(spark, client.url, "s", connector)
    frame, handle = to_spark_streaming(iter([]), spark, schema=table(0).schema, use_jvm_source=connector == JVM)
    assert frame.columns == ["n", "i"]
    assert handle.wait(60)
    assert collect_available(frame) == []
    handle.close()


def test_a_users_schema_picks_and_reorders_columns(
    spark: SparkSession, client: bowstring.Client, connector: str
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(1))
    reader = spark.readStream.format(connector).schema("i int").options(url=client.url, stream="s")
    assert [row.asDict() for row in collect_available(reader.load())] == [{"i": i} for i in range(10)]


def test_a_large_table_is_cut_to_fit_the_buffer(spark: SparkSession, connector: str) -> None:
    large = pa.table({"n": pa.array(range(100_000), pa.int64())})
    frame, handle = to_spark_streaming(large, spark, max_buffered_bytes=400_000, use_jvm_source=connector == JVM)
    query = frame.writeStream.format("noop").start()
    assert handle.drain(query, 60)
    assert handle.rows == 100_000
    assert handle.batches >= 8
    handle.close()


def test_from_spark_to_spark(
    spark: SparkSession, client: bowstring.Client, started: Callable[..., StreamingQuery], connector: str
) -> None:
    frame = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load()
    _, query = from_spark_streaming(frame, "s", coordinator=client, trigger="1 second", use_jvm_sink=connector == JVM)
    rows: list[Row] = []
    back = started(read_stream(spark, client.url, "s", connector).selectExpr("value"), rows)
    wait_until(lambda: len(rows) >= 2000, 60)
    query.stop(drain_timeout=0)
    total = sum(entry["rows_total"] for entry in client.describe_stream("s")["partitions"])
    wait_until(lambda: len(rows) == total)
    back.stop()
    assert sorted(row.value for row in rows) == list(range(total))
