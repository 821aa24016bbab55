"""Spark's Real-time Mode into bowstring: rows are there while their batch runs, and at least once whatever happens."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming import foreach_batch_writer, from_spark_streaming

from ..test_documents import run
from .conftest import JVM, PYTHON, wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from bench.live_rows import LiveRows

#: A batch that no test waits for.
ENDLESS = {"realTime": "10 minutes"}
ALLOWLIST = "spark.sql.streaming.realTimeMode.allowlistCheck"


@pytest.fixture(scope="module")
def live(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], LiveRows]:
    """Makes sources of two partitions: as many tasks as there are cores."""
    from bench.live_rows import LiveRows, add_live_rows

    add_live_rows(spark, tmp_path_factory.mktemp("classes"))
    return lambda: LiveRows(spark, 2)


@pytest.fixture
def short_batches(setting: Callable[[str, str], None]) -> None:
    """Batches of a second are long enough."""
    setting("spark.sql.streaming.realTimeMode.minBatchDuration", "500")


class Seen:
    """What a consumer has got, while it goes on."""

    def __init__(self, client: bowstring.Client, stream: str) -> None:
        self.ids: list[int] = []
        self.ages_ms: list[float] = []
        self.partitions: dict[int, set[int]] = {}
        self.epochs: set[int | None] = set()
        self.batches = 0
        self._iterator = client.iterator(stream, subscription="seen")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(bowstring.Cancelled, bowstring.StreamFailed):
            self._count()

    def _count(self) -> None:
        for handle in self._iterator.handles():
            now, ids = time.monotonic_ns(), handle.batch["id"].to_pylist()
            self.ages_ms += [(now - made) / 1e6 for made in handle.batch["made_at"].to_pylist()]
            self.epochs.add(handle.epoch)
            self.batches += 1
            for one in ids:
                self.partitions.setdefault(one, set()).add(handle.partition)
            self.ids += ids
            handle.ack()

    def wait_for(self, ids: range) -> None:
        """Until all of them have come."""
        wait_until(lambda: set(ids) <= set(self.ids))

    def end(self) -> None:
        """Reads no more."""
        self._iterator.close()
        self._thread.join(20)


@pytest.fixture
def seen(client: bowstring.Client) -> Iterator[Callable[..., Seen]]:
    """Consumers of a new stream `s`."""
    running = []

    def make(**options: Any) -> Seen:
        client.create_stream("s", **options)
        running.append(Seen(client, "s"))
        return running[0]

    yield make
    for one in running:
        one.end()


def start(
    rows: LiveRows, client: bowstring.Client, checkpoint: str, trigger: dict[str, str] = ENDLESS, **options: Any
) -> StreamingQuery:
    """The query, with all that a user has to set."""
    spark = rows.frame().sparkSession
    writer = rows.frame().writeStream.format(JVM).options(url=client.url, stream="s", checkpointLocation=checkpoint)
    spark.conf.set(ALLOWLIST, "false")
    try:
        writer = writer.outputMode("update").option("asyncProgressTrackingEnabled", "false")
        return writer.options(**options).trigger(**trigger).start()
    finally:
        spark.conf.unset(ALLOWLIST)


def stop(query: Any) -> None:
    """Stops the query, which takes less than a second; a busy machine is allowed more."""
    begun = time.monotonic()
    query.stop()
    taken = time.monotonic() - begun
    print(f"stopped in {taken:.3f} s; promised is 1 s")
    assert taken < 5
    assert query.exception() is None


def test_rows_are_seen_while_their_batch_runs(
    spark: SparkSession, client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen]
) -> None:
    got, rows = seen(), live()
    iterator, query = from_spark_streaming(
        rows.frame(), "s", coordinator=client, trigger=ENDLESS, use_jvm_sink=True, subscription="seen"
    )
    iterator.close()
    rows.add(1)
    got.wait_for(range(1))
    rows.run(per_second=100, rows=100)
    got.wait_for(range(101))
    assert query.query.lastProgress is None, "the batch has not ended"
    assert spark.conf.get(ALLOWLIST, None) is None
    later = sorted(got.ages_ms[1:])
    print(
        f"made to seen: median {statistics.median(later):.1f} ms, p99 {later[98]:.1f} ms; the source looks each 10 ms"
    )
    assert sorted(got.ids) == list(range(101))
    assert got.epochs == {None}
    query.query.stop()
    wait_until(lambda: client.describe_stream("s")["state"] == "completed")
    assert query.exception() is None


def test_the_example_of_the_page_runs(
    coordinator: bowstring.StreamCoordinator, live: Callable[[], LiveRows], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = live()
    rows.add(3)
    run("docs/real-time.md", names={"payments": rows.frame(), "coordinator": coordinator})
    assert capsys.readouterr().out.endswith(" rows while the batch runs\n")


def test_a_batch_that_was_stopped_runs_again_from_its_start_and_nothing_is_lost(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows = seen(partitions=2), live()
    rows.add(50)
    query = start(rows, client, checkpoint, routing="hash(id)")
    got.wait_for(range(50))
    stop(query)
    rows.add(50)
    query = start(rows, client, checkpoint, routing="hash(id)")
    got.wait_for(range(100))
    wait_until(lambda: len(got.ids) == 150)
    stop(query)
    assert Counter(got.ids) == {**dict.fromkeys(range(50), 2), **dict.fromkeys(range(50, 100), 1)}
    # A row comes again where it was: its partition follows from its key.
    assert all(len(partitions) == 1 for partitions in got.partitions.values())
    assert {partition for partitions in got.partitions.values() for partition in partitions} == {0, 1}


@pytest.mark.usefixtures("short_batches")
def test_a_batch_that_spark_has_forgotten_runs_again_with_other_rows_and_they_are_not_dropped(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    """As after a driver that died between the sink's commit and Spark's: as an epoch the batch would be done."""
    got, rows = seen(), live()
    rows.add(10)
    query = start(rows, client, checkpoint, {"realTime": "1 second"})
    wait_until(lambda: Path(checkpoint, "commits", "0").exists())
    stop(query)
    came = len(got.ids)
    assert set(got.ids) == set(range(10))
    for kind in ("offsets", "commits"):
        for noted in Path(checkpoint, kind).glob("*"):
            noted.unlink()
    rows.add(10)
    query = start(rows, client, checkpoint)
    got.wait_for(range(20))
    stop(query)
    print(f"{len(got.ids) - 20} of 20 rows came again")
    assert len(got.ids) >= came + 20


@pytest.mark.usefixtures("short_batches")
def test_batches_that_end_hand_over_every_row_once(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows = seen(), live()
    query = start(rows, client, checkpoint, {"realTime": "1 second"})
    rows.run(per_second=100, rows=300)
    wait_until(lambda: sum(one["numInputRows"] for one in query.recentProgress) == 300)
    progress = query.recentProgress
    wait_until(lambda: len(got.ids) >= 300)
    stop(query)
    assert sorted(got.ids) == list(range(300))
    assert len({one["batchId"] for one in progress if one["numInputRows"]}) >= 2
    assert sum(one["sink"]["numOutputRows"] for one in progress) == 300


def test_a_newer_attempt_fences_the_older_and_nothing_is_lost(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows = seen(), live()
    query = start(rows, client, checkpoint, producer="numbers")
    rows.add(20)
    got.wait_for(range(20))
    assert {one["producer"] for one in client.describe_stream("s")["producers"]} >= {"numbers-0", "numbers-1"}
    # It takes the first task's name, whose next row is refused. Spark tries that task again, which takes the name back.
    other = client.producer("s", producer_id="numbers-0")

    def is_fenced() -> bool:
        try:
            other.append(pa.record_batch({"id": pa.array([-1]), "made_at": pa.array([time.monotonic_ns()])}))
            other.flush()
        except bowstring.Fenced:
            return True
        return False

    assert not is_fenced(), "it has fenced the task"
    rows.add(20)
    wait_until(is_fenced)
    got.wait_for(range(40))
    stop(query)
    again = Counter(one for one in got.ids if one >= 0)
    assert set(again) == set(range(40))
    # Those of the one task came again, those of the other did not.
    assert Counter(again.values()) == {1: 30, 2: 10}


def test_a_query_fails_with_its_stream_though_no_more_rows_come(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows = seen(), live()
    query = start(rows, client, checkpoint)
    rows.add(2)
    got.wait_for(range(2))
    client.fail_stream("s", "somebody has failed it")
    # The row is refused when it has been taken; what tells the task comes while it waits for the next one.
    rows.add(1)
    wait_until(lambda: not query.isActive)
    text = str(query.exception())
    assert "BowstringException: [stream_failed]" in text
    assert "somebody has failed it" in text


@pytest.mark.usefixtures("short_batches")
def test_a_query_that_waits_for_room_is_stopped_at_once(
    client: bowstring.Client, live: Callable[[], LiveRows], checkpoint: str
) -> None:
    client.create_stream("s", max_buffered_batches=1)
    client.subscribe("s", "nobody")
    rows = live()
    # Both tasks end after a second, and wait until all of their rows are stored.
    query = start(rows, client, checkpoint, {"realTime": "1 second"}, realTimeLinger=0.001)
    rows.run(per_second=50, rows=50)
    wait_until(lambda: client.describe_stream("s")["waiting"])
    stop(query)


def test_a_task_makes_at_most_one_batch_in_the_time_that_it_lingers(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows, linger = seen(), live(), 0.25
    query = start(rows, client, checkpoint, realTimeLinger=linger)
    rows.add(2)
    got.wait_for(range(2))
    before, begun = got.batches, time.monotonic()
    rows.run(per_second=200, rows=300)
    got.wait_for(range(302))
    made, most = got.batches - before, 2 * ((time.monotonic() - begun) / linger + 1)
    stop(query)
    print(f"{made} batches of 300 rows, at most {most:.0f}")
    assert 2 <= made <= most


def test_what_a_run_with_epochs_has_left_gives_its_room_back(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows = seen(max_buffered_batches=1), live()
    left = client.writer("s", producer="numbers", run="former", epoch=7, task=0, attempt=0)
    left.append(pa.record_batch({"id": pa.array([-1]), "made_at": pa.array([0])}))
    left.finish()
    query = start(rows, client, checkpoint, producer="numbers")
    rows.add(4)
    got.wait_for(range(4))
    stop(query)
    assert client.describe_stream("s")["epochs_aborted"] == 1


def test_rows_go_out_as_they_come_with_any_trigger_if_asked_to(
    client: bowstring.Client, live: Callable[[], LiveRows], seen: Callable[..., Seen], checkpoint: str
) -> None:
    got, rows = seen(), live()
    rows.add(10)
    query = start(rows, client, checkpoint, {"availableNow": True}, realTime="true")  # type: ignore[dict-item]
    assert query.awaitTermination(60)
    got.wait_for(range(10))
    assert (len(got.ids), got.epochs) == (10, {None})


def test_epochs_are_refused_in_real_time_mode(
    client: bowstring.Client, live: Callable[[], LiveRows], checkpoint: str
) -> None:
    query = start(live(), client, checkpoint, realTime="false")
    with pytest.raises(Exception, match="cannot be an epoch; leave the option out, or use another trigger"):
        query.awaitTermination(60)


def test_a_query_that_spark_does_not_know_has_to_say_how_it_runs(spark: SparkSession) -> None:
    """Internals that tell it may be elsewhere in another version; epochs would lose rows in Real-time Mode."""
    jvm = spark._jvm
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    mode = jvm.java.lang.Class.forName("io.bowstring.spark.RealTimeMode", True, loader)
    (method,) = (one for one in mode.getDeclaredMethods() if one.getName() == "isAsked")
    method.setAccessible(True)

    def is_asked(*options: str) -> bool:
        given = spark.sparkContext._gateway.new_array(jvm.java.lang.String, len(options))
        for at, text in enumerate(options):
            given[at] = text
        arguments = spark.sparkContext._gateway.new_array(jvm.java.lang.Object, 2)
        arguments[0], arguments[1] = given, "00000000-0000-0000-0000-000000000000"
        return bool(method.invoke(None, arguments))

    assert is_asked("realTime", "true")
    assert not is_asked("realtime", " false ")
    with pytest.raises(Exception, match="cannot be found out in this version of Spark; say so with option 'realTime'"):
        is_asked("url", "grpc://h:1")


@pytest.mark.parametrize("arguments", [{"use_jvm_sink": False}, {"use_jvm_sink": True, "sink": "foreach_batch"}])
def test_sinks_that_spark_does_not_take_there_are_refused_before_the_start(
    live: Callable[[], LiveRows], arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="needs use_jvm_sink=True and sink='datasource'"):
        from_spark_streaming(live().frame(), trigger=ENDLESS, **arguments)


def test_options_of_real_time_mode_are_refused_where_they_mean_nothing(
    spark: SparkSession, client: bowstring.Client, live: Callable[[], LiveRows]
) -> None:
    with pytest.raises(ValueError, match="real_time_linger is for Real-time Mode"):
        from_spark_streaming(live().frame(), real_time_linger=0.1)
    with pytest.raises(ValueError, match="no foreachBatch in Real-time Mode"):
        foreach_batch_writer(client.url, "s", real_time=True)
    given = {"url": client.url, "stream": "s", "realTime": "true"}
    for connector, text in ((PYTHON, "are the JVM connector's"), (JVM, "a batch write is one epoch; leave it out")):
        with pytest.raises(Exception, match=re.escape(text)):
            spark.range(1).write.format(connector).mode("append").options(**given).save()
