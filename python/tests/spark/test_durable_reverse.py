"""A durable stream to Spark: identical batches however often they are read, whoever is killed in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from bowstring.streaming import datasource, to_spark_streaming

from ..support import Served
from .conftest import JVM, PYTHON, read_stream, wait_until
from .drivers import BACK, BATCHES, number_batch
from .durable import Durable, Restarter, stopped_at
from .javas import WATCHED

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from .drivers import DriverDeaths


@pytest.fixture
def durable(serve: Callable[..., Served], tmp_path: Path) -> Durable:
    """With stream `s`: 24 batches in 2 partitions, in turn."""
    running = Durable(serve, tmp_path)
    running.client.create_stream("s", partitions=2, schema=number_batch(0).schema)
    with running.client.producer("s") as producer:
        for number in range(24):
            producer.append(number_batch(number))
    return running


def in_order(tables: dict[int, pa.Table]) -> list[tuple[int, int]]:
    """The rows of all micro-batches, each with its batch's number and its own."""
    merged = pa.concat_tables(table for _, table in sorted(tables.items()))
    return list(zip(merged["n"].to_pylist(), merged["i"].to_pylist(), strict=True))


def whole_batches(numbers: Iterator[int] | range) -> list[tuple[int, int]]:
    return [(number, i) for number in numbers for i in range(10)]


def test_a_coordinator_killed_at_every_step_of_a_query_gives_the_same_batches_again(
    watched_spark: SparkSession, durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connector: str
) -> None:
    from points import Points, watched_source

    points = Points(tmp_path / "points")
    points.directory.mkdir()
    monkeypatch.setattr(datasource, "PythonDataSource", watched_source(points))
    spark = watched_spark
    datasource.register(spark)
    first: dict[int, pa.Table] = {}
    again: dict[int, pa.Table] = {}

    def take(batch: DataFrame, number: int) -> None:
        found = batch.toArrow()
        assert first.setdefault(number, found) == found, "a micro-batch that is run again"
        if number in (1, 4):
            durable.restart()
        again[number] = batch.toArrow()
        if number == 4 and not points.was_reached("failed"):
            (points.directory / "failed.reached").touch()
            raise RuntimeError("not this time")

    def start() -> StreamingQuery:
        datasource.register(spark)
        watched = (WATCHED, {"points": str(points.directory)}) if connector == JVM else (PYTHON, {})
        frame = read_stream(spark, durable.url, "s", watched[0], maxBatchesPerTrigger=4, **watched[1])
        writer = frame.writeStream.foreachBatch(take).option("checkpointLocation", str(tmp_path / "checkpoint"))
        return writer.trigger(availableNow=True).start()

    # Before latestOffset, between it and read, around commit, and within two tasks' reads.
    steps = ("planning-0", "planned-4", "acking-8", "reading-4", "acked-12", "reading-8")
    points.arm(*(f"s-{step}" for step in steps))
    query = Restarter(start)
    try:
        for step in steps:
            with stopped_at(points, f"s-{step}"):
                durable.restart()
        (failure,) = query.wait()
    finally:
        query.stop()
    assert "not this time" in failure
    assert sorted(first) == list(range(6))
    assert again == first
    assert sorted(in_order(first)) == whole_batches(range(24))
    for partition in (0, 1):
        rows = [row for row in in_order(first) if row[0] % 2 == partition]
        assert rows == whole_batches(range(partition, 24, 2)), "a partition is read in order"
    (cursor,) = durable.client.describe_stream("s")["subscriptions"]
    assert all(10 <= one["acked"] <= 12 for one in cursor["partitions"]), "what Spark has committed is acked"


def test_a_killed_coordinator_is_told_again_what_spark_has_planned(durable: Durable) -> None:
    from pyspark.sql.streaming.datasource import ReadAllAvailable

    from bowstring.streaming.options import source_options
    from bowstring.streaming.source import StreamReader

    def planned() -> list[int]:
        (cursor,) = durable.client.describe_stream("s")["subscriptions"]
        return [one["planned"] for one in cursor["partitions"]]

    reader = StreamReader(source_options({"url": durable.url, "stream": "s"}), None)
    end = reader.latestOffset(reader.initialOffset(), ReadAllAvailable())
    durable.restart()  # What it was told in its last 100 ms it may have forgotten.
    assert reader.latestOffset(end, ReadAllAvailable()) == end
    assert planned() == [12, 12]


def test_a_source_and_its_query_go_on_when_their_coordinator_is_killed(
    spark: SparkSession, serve: Callable[..., Served], tmp_path: Path
) -> None:
    durable = Durable(serve, tmp_path)
    turns = [threading.Event() for _ in range(3)]

    def source() -> Iterator[pa.RecordBatch]:
        for number, turn in enumerate(turns):
            turn.wait(120)
            yield from map(number_batch, range(8 * number, 8 * (number + 1)))

    read: dict[int, pa.Table] = {}
    schema = number_batch(0).schema
    frame, handle = to_spark_streaming(source(), spark, "s", coordinator=durable.url, schema=schema)
    query = frame.writeStream.foreachBatch(lambda batch, number: read.update({number: batch.toArrow()})).start()
    for number, turn in enumerate(turns):
        durable.restart()
        turn.set()
        wait_until(lambda end=8 * (number + 1): read and len(in_order(read)) >= 10 * end, 120)
    assert handle.drain(query, 120)
    assert in_order(read) == whole_batches(range(24))
    handle.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", BACK)
def test_a_driver_killed_with_its_coordinator_reads_the_same_batches_again(
    driver_deaths: DriverDeaths, way: str
) -> None:
    before, between, after = driver_deaths.read[way]
    assert (sorted(before), sorted(between)) == tuple(done for _, done in BACK[way])
    assert sorted(after) == [2, 3]
    assert before.get(1, between[1]) == between[1]
    everything = before | between | after
    assert sorted(in_order(everything)) == whole_batches(range(BATCHES))
