"""Spark to consumers: exactly once, whatever dies; ends, errors and routing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming import (
    create_partitioned_iterators,
    foreach_batch_writer,
    from_spark_streaming,
    watch_query,
)

from .conftest import JVM, wait_until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SINKS = pytest.mark.parametrize(
    "sink",
    [
        pytest.param({"sink": name, "use_jvm_sink": jvm}, id=f"jvm_{name}" if jvm else name)
        for jvm in (False, True)
        for name in ("datasource", "foreach_batch")
    ],
)
NOW = {"availableNow": True}
Numbers = Callable[..., "DataFrame"]


def ids(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [value for batch in batches for value in batch["id"].to_pylist()]


@SINKS
def test_every_row_arrives_once_and_the_stream_ends_with_the_query(numbers: Numbers, sink: dict[str, Any]) -> None:
    iterator, query = from_spark_streaming(numbers(), trigger=NOW, **sink)
    found = ids(iterator)
    assert sorted(found) == list(range(1000))
    assert query.exception() is None
    assert query.stop(drain_timeout=5)


def test_a_query_is_started_from_any_thread(numbers: Numbers, connector: str) -> None:
    found: list[int] = []

    def run() -> None:
        iterator, query = from_spark_streaming(numbers(), trigger=NOW, use_jvm_sink=connector == JVM)
        found.extend(ids(iterator))
        query.stop(drain_timeout=5)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert sorted(found) == list(range(1000))


def test_an_epoch_is_a_micro_batch_and_an_empty_one_counts(
    client: bowstring.Client, numbers: Numbers, connector: str
) -> None:
    none, jvm = numbers().where("id < 0"), connector == JVM
    _, query = from_spark_streaming(none, "s", trigger=NOW, coordinator=client, use_jvm_sink=jvm)
    query.awaitTermination()
    wait_until(lambda: client.describe_stream("s")["state"] == "completed")
    found = client.describe_stream("s")
    assert found["epochs_committed"] == 2
    assert found["schema"].names == ["id", "k"]
    assert list(client.iterator("s")) == []


def test_batches_carry_their_epoch(client: bowstring.Client, numbers: Numbers, connector: str) -> None:
    frame, jvm = numbers(files=2, per_trigger=1), connector == JVM
    iterator, query = from_spark_streaming(frame, trigger=NOW, coordinator=client, use_jvm_sink=jvm)
    epochs = [iterator.epoch for _ in iterator]
    assert sorted(set(epochs)) == [0, 1]
    query.stop()


@pytest.mark.parametrize("writer", ["DyingWorkerWriter", "DyingAfterWriter"])
def test_a_worker_that_dies_leaves_nothing_behind(
    spark: SparkSession, client: bowstring.Client, numbers: Numbers, checkpoint: str, tmp_path: Path, writer: str
) -> None:
    import faults

    spark.dataSource.register(faults.faulty_source(writer))
    marker = tmp_path / "died"
    frame = numbers(rows=60_000, files=2)
    stream_writer = frame.writeStream.format(writer).option("checkpointLocation", checkpoint)
    query = stream_writer.options(url=client.url, stream="s", marker=str(marker)).trigger(availableNow=True).start()
    watched = watch_query(query, client, "s")
    query.awaitTermination()
    assert marker.exists()
    wait_until(lambda: client.describe_stream("s")["state"] == "completed")
    assert sorted(ids(client.iterator("s"))) == list(range(60_000))
    watched.close()


def program(*arguments: str) -> int:
    """Runs a driver program of faults.py; its exit code."""
    faults = Path(__file__).with_name("faults.py")
    return subprocess.run([sys.executable, str(faults), *arguments], check=False, timeout=100).returncode


@pytest.mark.parametrize("sink", ["datasource", "foreach_batch"])
def test_a_driver_killed_between_the_two_commits_repeats_the_epoch_without_effect(
    client: bowstring.Client, numbers: Numbers, checkpoint: str, tmp_path: Path, sink: str
) -> None:
    numbers(files=8)
    directory = str(tmp_path / "numbers-1000-8")
    client.create_stream("s")
    client.subscribe("s", "default")
    marker = tmp_path / "armed"
    marker.touch()
    arguments = ("forward", sink, client.url, directory, checkpoint, str(marker))
    assert program(*arguments) == -9
    assert client.describe_stream("s")["epochs_committed"] == 2
    with pytest.raises(bowstring.ProducerLost):
        ids(client.iterator("s", subscription="impatient"))
    assert program(*arguments) == 0
    found = client.describe_stream("s")
    assert (found["epochs_committed"], found["state"]) == (4, "completed")
    assert found["epochs_replayed"] >= 1
    assert sorted(ids(client.iterator("s"))) == list(range(1000))


@SINKS
def test_stop_ends_a_query_that_waits_for_room_within_seconds(spark: SparkSession, sink: dict[str, Any]) -> None:
    frame = spark.readStream.format("rate").option("rowsPerSecond", 100).option("numPartitions", 2).load()
    iterator, query = from_spark_streaming(frame, "s", max_buffered_batches=2, **sink)
    client = bowstring.connect(query.url)
    wait_until(lambda: client.describe_stream("s")["waiting"], 60)
    started = time.monotonic()
    query.stop(drain_timeout=0)
    assert time.monotonic() - started < 20
    assert not query.isActive
    rows = sum(batch.num_rows for batch in iterator)
    assert rows > 0
    query.close()


@SINKS
def test_a_failing_query_tells_consumers_why_after_what_came_before(numbers: Numbers, sink: dict[str, Any]) -> None:
    frame = numbers(files=2, per_trigger=1).selectExpr("id", "if(id = 999, raise_error('no such flight'), k) AS k")
    iterator, query = from_spark_streaming(frame, trigger=NOW, **sink)
    found: list[int] = []
    with pytest.raises(bowstring.StreamFailed, match="no such flight"):
        found.extend(value for batch in iterator for value in batch["id"].to_pylist())
    assert sorted(found) in (list(range(500)), [])
    assert query.exception() is not None
    query.stop(drain_timeout=0)
    query.close()


def test_equal_keys_meet_at_one_consumer(client: bowstring.Client, numbers: Numbers, connector: str) -> None:
    options: dict[str, Any] = {"num_partitions": 4, "routing": "hash(k)", "use_jvm_sink": connector == JVM}
    _, query = from_spark_streaming(numbers(), "s", trigger=NOW, coordinator=client, **options)
    iterators = create_partitioned_iterators(client, 3, 4, stream="s", timeout=60)
    found = [[key for batch in iterator for key in batch["k"].to_pylist()] for iterator in iterators]
    assert sum(map(len, found)) == 1000
    assert sum(len(set(keys)) for keys in found) == 7
    query.stop()


def test_sparks_partitions_spread_over_the_streams(client: bowstring.Client, numbers: Numbers, connector: str) -> None:
    options: dict[str, Any] = {"num_partitions": 2, "use_jvm_sink": connector == JVM}
    _, query = from_spark_streaming(numbers(), "s", trigger=NOW, coordinator=client, **options)
    query.awaitTermination()
    assert [entry["rows_total"] for entry in client.describe_stream("s")["partitions"]] == [500, 500]
    query.close()


def test_a_consumer_beyond_the_partitions_gets_the_end_only(client: bowstring.Client, numbers: Numbers) -> None:
    _, query = from_spark_streaming(numbers(), "s", trigger=NOW, coordinator=client, num_partitions=2)
    iterators = create_partitioned_iterators(client, 3, stream="s", timeout=60)
    assert sum(len(ids(iterator)) for iterator in iterators[:2]) == 1000
    assert ids(iterators[2]) == []
    query.stop()


def test_too_small_a_number_of_partitions_is_refused_and_too_large_a_one_leaves_none_out(
    client: bowstring.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_stream("s", partitions=2)
    with pytest.raises(ValueError, match="has 2 partitions, not 1"):
        create_partitioned_iterators(client, 2, 1, stream="s")
    with caplog.at_level("WARNING", "bowstring"):
        first, second = create_partitioned_iterators(client, 2, 3, stream="s")
    assert (first.partitions, second.partitions) == ([0], [1])
    assert "has 2 partitions, not 3" in caplog.text


def test_a_consumer_killed_at_work_loses_nothing(client: bowstring.Client, numbers: Numbers) -> None:
    iterator, query = from_spark_streaming(numbers(rows=100_000), "s", trigger=NOW, coordinator=client)
    program_text = (
        "import os, pickle, signal, sys\n"
        "iterator = pickle.load(sys.stdin.buffer)\n"
        "for number, batch in enumerate(iterator):\n"
        "    print(*batch['id'].to_pylist(), flush=True)\n"
        "    if number == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import pickle

    killed = subprocess.run(
        [sys.executable, "-c", program_text], input=pickle.dumps(iterator), capture_output=True, timeout=60, check=False
    )
    assert killed.returncode == -9
    first = [int(value) for value in killed.stdout.split()]
    rest = ids(client.iterator("s"))
    assert set(first) | set(rest) == set(range(100_000))
    assert max(Counter(rest).values()) == 1
    query.stop()


def test_own_foreach_batch_writes_exactly_once_to_two_streams(
    client: bowstring.Client, numbers: Numbers, checkpoint: str, connector: str
) -> None:
    options: dict[str, Any] = {"append_timeout": 30, "use_jvm_sink": connector == JVM}
    even, odd = (foreach_batch_writer(client.url, name, **options) for name in ("even", "odd"))

    def write(batch: DataFrame, batch_id: int) -> None:
        even(batch.where("id % 2 = 0"), batch_id)
        odd(batch.where("id % 2 = 1"), batch_id)
        odd(batch.where("id % 2 = 1"), batch_id)

    writer = numbers().writeStream.foreachBatch(write).option("checkpointLocation", checkpoint)
    writer.trigger(availableNow=True).start().awaitTermination()
    for name, start in (("even", 0), ("odd", 1)):
        client.complete_stream(name)
        assert sorted(ids(client.iterator(name))) == list(range(start, 1000, 2))


def test_a_batch_write_is_one_epoch(spark: SparkSession, client: bowstring.Client, connector: str) -> None:
    for _ in range(2):
        spark.range(10).write.format(connector).mode("append").options(url=client.url, stream="s").save()
    for _ in range(2):
        writer = spark.range(10).write.format(connector).mode("append").options(url=client.url, stream="s")
        writer.options(producer="nightly", epoch=7).save()
    client.complete_stream("s")
    assert sorted(ids(client.iterator("s"))) == sorted([*range(10)] * 3)
    with pytest.raises(Exception, match="cannot be overwritten"):
        spark.range(1).write.format(connector).mode("overwrite").options(url=client.url, stream="s").save()


def test_a_schema_that_is_not_the_streams_is_refused_by_name(
    spark: SparkSession, client: bowstring.Client, connector: str
) -> None:
    client.create_stream("s", schema=pa.schema([("other", pa.int64())]))
    with pytest.raises(Exception, match=r"(?i)schema.*(other|id)"):
        spark.range(1).write.format(connector).mode("append").options(url=client.url, stream="s").save()


def test_what_cannot_work_is_refused_before_it_starts(
    spark: SparkSession, client: bowstring.Client, numbers: Numbers
) -> None:
    with pytest.raises(ValueError, match="streaming DataFrame"):
        from_spark_streaming(spark.range(1))
    with pytest.raises(ValueError, match="'datasource' or 'foreach_batch'"):
        from_spark_streaming(numbers(), sink="kafka")
    with pytest.raises(ValueError, match="needs the columns"):
        from_spark_streaming(numbers(), routing="hash(x)")
    client.create_stream("s", partitions=2)
    with pytest.raises(ValueError, match="has 2 partitions, but 3"):
        from_spark_streaming(numbers(), "s", coordinator=client, num_partitions=3)


def test_spark_counts_no_bytes_for_our_query_and_does_for_others(spark: SparkSession, numbers: Numbers) -> None:
    name = "spark.sql.execution.arrow.maxBytesPerBatch"
    iterator, query = from_spark_streaming(numbers(), trigger=NOW)
    assert spark.conf.get(name, None) is None
    ids(iterator)
    query.stop()
    spark.conf.set(name, "1000")
    try:
        iterator, query = from_spark_streaming(numbers(files=1), trigger=NOW)
        assert max(batch.num_rows for batch in iterator) < 200
        query.stop()
    finally:
        spark.conf.unset(name)


def test_a_stream_that_is_kept_takes_the_next_run(
    client: bowstring.Client, numbers: Numbers, checkpoint: str, connector: str
) -> None:
    def run(frame: DataFrame) -> None:
        arguments: dict[str, Any] = {"trigger": NOW, "checkpoint_location": checkpoint, "coordinator": client}
        _, query = from_spark_streaming(frame, "s", keep_stream=True, use_jvm_sink=connector == JVM, **arguments)
        query.awaitTermination()
        query.stop(drain_timeout=0)

    run(numbers())
    run(numbers())
    assert client.describe_stream("s")["state"] == "open"
    client.complete_stream("s")
    assert sorted(ids(client.iterator("s"))) == list(range(1000))


def test_wrappers_wait_for_those_who_read(numbers: Numbers) -> None:
    iterator, query = from_spark_streaming(numbers(), "s")
    found: list[int] = []

    def slowly() -> None:
        for batch in iterator:
            time.sleep(0.05)
            found.extend(batch["id"].to_pylist())

    reader = threading.Thread(target=slowly)
    reader.start()
    query.processAllAvailable()
    assert query.stop(drain_timeout=30)
    reader.join(10)
    assert sorted(found) == list(range(1000))
