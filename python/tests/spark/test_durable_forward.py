"""Spark to a durable stream, by each way in: exactly once, whoever is killed and whatever is cut."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from bowstring.streaming import datasource, foreach_batch_writer

from ..proxy import Proxy
from ..support import Served
from .conftest import PYTHON, wait_until
from .drivers import FORWARD
from .durable import WAYS, Durable, Reader, Restarter, rows, stopped_at
from .javas import WATCHED
from .test_forward import NOW

if TYPE_CHECKING:
    from points import Points
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from .drivers import DriverDeaths

FILES = 24


class Course:
    """A query that runs from its checkpoint into stream `s`, restarted when it fails, and a consumer of all of it."""

    def __init__(
        self, spark: SparkSession, way: str, data: tuple[str, pa.Table], durable: Durable, directory: Path
    ) -> None:
        from points import Points, computed, plain_writer, watched_source

        (directory / "points").mkdir()
        self.points: Points = Points(directory / "points")
        self.durable = durable
        self._spark, self._way, self._directory = spark, way, directory
        self._data, self._expected = data
        self.executor_link, self.driver_link, self.consumer_link = (Proxy(durable.address) for _ in range(3))
        self._computed, self._plain_writer, self._watched_source = computed, plain_writer, watched_source
        durable.client.create_stream("s", partitions=2)

    def start(self, monkeypatch: pytest.MonkeyPatch, epochs: int, *, through_proxies: bool = False) -> None:
        """The whole data in so many micro-batches."""
        self._executors_url = self.executor_link.url if through_proxies else self.durable.url
        source = self._watched_source(self.points, self._executors_url)
        monkeypatch.setattr(datasource, "PythonDataSource", source)
        self._per_trigger, self._epochs = FILES // epochs, epochs
        self.reader = Reader(self.consumer_link.url if through_proxies else self.durable.url)
        self.query = Restarter(self._start_query)

    def _start_query(self) -> StreamingQuery:
        url = self.driver_link.url
        frame = self._spark.readStream.schema("id long").option("maxFilesPerTrigger", self._per_trigger)
        writer = self._computed(frame.parquet(self._data)).writeStream.trigger(**NOW)
        if self._way == "datasource":
            datasource.register(self._spark)
            writer = writer.format(PYTHON).options(url=url, stream="s")
        elif self._way == "jvm":
            options = {"points": str(self.points.directory), "executorsUrl": self._executors_url}
            writer = writer.format(WATCHED).options(url=url, stream="s", **options)
        elif self._way == "foreach_batch":
            writer = writer.foreachBatch(foreach_batch_writer(url, "s"))
        else:
            writer = writer.foreachBatch(self._plain_writer(self.points, url, "s", "application", self._executors_url))
        return writer.option("checkpointLocation", str(self._directory / "checkpoint")).start()

    def stopped_at(self, what: str, epoch: int) -> AbstractContextManager[None]:
        """While the query waits there."""
        return stopped_at(self.points, f"s-{what}-{epoch}")

    def end(self) -> list[str]:
        """To the end of the query and the stream: the consumer has what a batch computation gives. Why it failed."""
        failures = self.query.wait()
        described = self.durable.client.describe_stream("s")
        (producer,) = described["producers"]
        assert producer["producer"] == ("application" if self._way == "plain" else self.query.queries[0].id)
        assert producer["committed_epoch"] == self._epochs - 1
        self.durable.client.complete_stream("s")
        found = self.reader.table()
        names = self._expected.column_names
        assert rows(found, names) == rows(self._expected, names)
        assert set(found["epoch"].to_pylist()) == set(range(self._epochs))
        return failures

    def close(self) -> None:
        self.query.stop()
        for proxy in (self.executor_link, self.driver_link, self.consumer_link):
            proxy.close()


@pytest.fixture
def course(
    watched_spark: SparkSession, way: str, data: tuple[str, pa.Table], serve: Callable[..., Served], tmp_path: Path
) -> Iterator[Course]:
    spark = watched_spark
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    running = Course(spark, way, data, Durable(serve, tmp_path), tmp_path)
    yield running
    running.close()
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


@pytest.mark.parametrize("way", WAYS)
def test_workers_that_are_killed_leave_nothing_behind(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    deaths = ("s-appending-0", "s-staged-1", "s-appending-2", "s-staged-2")
    course.points.arm(*deaths, deadly=True)
    course.start(monkeypatch, epochs=3)
    assert course.end() == [], "Spark tries the tasks again"
    assert all(map(course.points.was_reached, deaths))


@pytest.mark.parametrize("way", WAYS)
def test_a_coordinator_that_is_killed_around_a_commit_has_it_or_has_it_run_again(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = course.durable
    course.points.arm("s-appending-0", *(f"s-committing-{epoch}" for epoch in range(1, 6)), "s-committed-6")
    course.start(monkeypatch, epochs=8)
    with course.stopped_at("appending", 0):
        durable.restart()
    with course.stopped_at("committing", 1):  # All is staged.
        durable.restart()
    with course.stopped_at("committing", 2):
        course.driver_link.hold_answers()
    durable.wait_for_commits(3)  # It is durable, and the driver does not know.
    durable.kill()
    course.driver_link.heal()
    durable.start()
    for epoch, seconds in ((3, 0.0), (4, 0.002), (5, 0.006)):  # Somewhere within the commit.
        with course.stopped_at("committing", epoch):
            pass
        time.sleep(seconds)
        durable.restart()
    with course.stopped_at("committed", 6):  # Spark has not taken note.
        durable.restart()
    failures = course.end()
    lost = [re.search(r"the commit of epoch (\d) names attempt .* no such receipt is held", one) for one in failures]
    assert all(lost), failures
    assert {1} <= {int(found[1]) for found in lost} <= {0, 1, 3, 4, 5}, "what was committed is not run again"


@pytest.mark.parametrize("way", WAYS)
def test_a_network_that_is_cut_and_heals_costs_time_only(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    executors, driver, consumer = course.executor_link, course.driver_link, course.consumer_link
    course.points.arm(*(f"s-appending-{epoch}" for epoch in (0, 1)), *(f"s-committing-{epoch}" for epoch in (2, 3)))
    course.start(monkeypatch, epochs=4, through_proxies=True)
    with course.stopped_at("appending", 0):
        executors.cut()
    wait_until(lambda: executors.refused)
    executors.heal()
    with course.stopped_at("appending", 1):
        consumer.cut()
        executors.hold_answers()
    wait_until(lambda: executors.holds)  # Something has come that the task does not know of.
    executors.cut()
    executors.heal()
    with course.stopped_at("committing", 2):
        driver.cut()
    wait_until(lambda: driver.refused and consumer.refused)
    driver.heal()
    consumer.heal()
    with course.stopped_at("committing", 3):
        driver.hold_answers()
        consumer.hold_answers()
    course.durable.wait_for_commits(4)
    wait_until(lambda: driver.holds and consumer.holds)
    for link in (driver, consumer):
        link.cut()
        link.heal()
    assert course.end() == [], "nothing is run again"
    assert course.durable.client.describe_stream("s")["epochs_replayed"] >= 1, "the last commit was asked for twice"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", FORWARD)
def test_a_driver_killed_before_and_after_a_commit_goes_on_from_its_checkpoint(
    way: str, driver_deaths: DriverDeaths, data: tuple[str, pa.Table]
) -> None:
    found, (_, expected) = driver_deaths.consumed[way], data
    assert rows(found, expected.column_names) == rows(expected, expected.column_names)
    assert set(found["epoch"].to_pylist()) == {0, 1, 2, 3}
    (first, first_run, before), (second, second_run, after) = driver_deaths.producers[way]
    assert first == second, "a producer is the same over its runs"
    assert first_run != second_run
    # Not at all, or without Spark's knowledge.
    assert (before, after) == tuple(committed for _, committed in FORWARD[way])
    assert driver_deaths.zombie[way] == "fenced"
