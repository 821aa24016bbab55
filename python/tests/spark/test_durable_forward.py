"""Spark to a durable stream, by each way in: exactly once, whoever is killed and whatever is cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming import datasource, foreach_batch_writer

from ..proxy import Proxy
from ..support import Served
from .durable import WAYS, Durable, Reader, Restarter, at, computed, rows
from .test_forward import NOW

if TYPE_CHECKING:
    from points import Points
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FILES, ROWS = 24, 6000


@pytest.fixture(scope="module")
def data(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    """Files of ids, and what Spark's batch computation makes of them."""
    directory = str(tmp_path_factory.mktemp("numbers") / "ids")
    spark.range(0, ROWS, 1, FILES).write.parquet(directory)
    return directory, computed(spark.read.parquet(directory)).toArrow()


class Course:
    """A query that runs from its checkpoint into stream `s`, restarted when it fails, and a consumer of all of it."""

    def __init__(
        self, spark: SparkSession, way: str, data: tuple[str, pa.Table], durable: Durable, directory: Path
    ) -> None:
        from points import Points, plain_writer, watched_source

        (directory / "points").mkdir()
        self.points: Points = Points(directory / "points")
        self.durable = durable
        self._spark, self._way, self._directory = spark, way, directory
        self._data, self._expected = data
        self.executor_link, self.driver_link, self.consumer_link = (Proxy(durable.address) for _ in range(3))
        self._plain_writer, self._watched_source = plain_writer, watched_source
        durable.client.create_stream("s", partitions=2)

    def start(self, monkeypatch: pytest.MonkeyPatch, epochs: int, *, through_proxies: bool = False) -> None:
        """The whole data in so many micro-batches."""
        self._executors_url = self.executor_link.url if through_proxies else self.durable.url
        source = self._watched_source(self.points, self._executors_url)
        monkeypatch.setattr(datasource, "BowstringDataSource", source)
        self._per_trigger, self._epochs = FILES // epochs, epochs
        self.reader = Reader(self.consumer_link.url if through_proxies else self.durable.url)
        self.query = Restarter(self._start_query)

    def _start_query(self) -> StreamingQuery:
        url = self.driver_link.url
        frame = self._spark.readStream.schema("id long").option("maxFilesPerTrigger", self._per_trigger)
        writer = computed(frame.parquet(self._data)).writeStream.trigger(**NOW)
        if self._way == "datasource":
            datasource.register(self._spark)
            writer = writer.format("bowstring").options(url=url, stream="s")
        elif self._way == "foreach_batch":
            writer = writer.foreachBatch(foreach_batch_writer(url, "s"))
        else:
            writer = writer.foreachBatch(self._plain_writer(self.points, url, "s", "application", self._executors_url))
        return writer.option("checkpointLocation", str(self._directory / "checkpoint")).start()

    def at(self, what: str, epoch: int) -> str:
        """Waits until the query has come there; the point's name."""
        at(self.points, f"s-{what}-{epoch}")
        return f"s-{what}-{epoch}"

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
    spark: SparkSession, way: str, data: tuple[str, pa.Table], serve: Callable[..., Served], tmp_path: Path
) -> Iterator[Course]:
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    running = Course(spark, way, data, Durable(serve, tmp_path / "data"), tmp_path)
    yield running
    running.close()
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


@pytest.mark.parametrize("way", WAYS)
def test_workers_that_are_killed_leave_nothing_behind(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    deaths = ("s-appending-0", "s-staged-1", "s-appending-2", "s-staged-2")
    course.points.arm(*deaths, deadly=True)
    course.start(monkeypatch, epochs=4)
    assert course.end() == [], "Spark tries the tasks again"
    assert all(map(course.points.was_reached, deaths))


@pytest.mark.parametrize("way", WAYS)
def test_a_coordinator_that_is_killed_around_the_commit(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    durable, points = course.durable, course.points
    points.arm("s-appending-0", "s-committing-1", "s-committing-2", *(f"s-committing-{n}" for n in (3, 4, 5)))
    points.arm("s-committed-6")
    course.start(monkeypatch, epochs=8)

    # While tasks append: what they have staged is gone.
    name = course.at("appending", 0)
    durable.restart()
    points.go_on(name)
    # Before the commit: all is staged, and gone.
    name = course.at("committing", 1)
    durable.restart()
    points.go_on(name)
    # After the commit and before its answer.
    name = course.at("committing", 2)
    course.driver_link.hold_answers()
    points.go_on(name)
    durable.wait_for_commits(3)
    durable.kill()
    course.driver_link.heal()
    durable.start()
    # Somewhere in the commit.
    for epoch, delay in ((3, 0.0), (4, 0.002), (5, 0.006)):
        name = course.at("committing", epoch)
        points.go_on(name)
        time.sleep(delay)
        durable.restart()
    # After the commit and its answer, before Spark takes note.
    name = course.at("committed", 6)
    durable.restart()
    points.go_on(name)

    failures = course.end()
    print(course.query.failures)
