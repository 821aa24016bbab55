"""One Spark per test process, small and quick; one coordinator per test."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet
import pytest

import bowstring
from bowstring.streaming import add_jar, register
from bowstring.streaming.datasource import PythonDataSource
from bowstring.streaming.jvm import PROVIDER

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

    from .drivers import DriverDeaths

#: What format() is given for each connector. Where the JVM's jar is, as in this process, "bowstring" is that one.
PYTHON, JVM = PythonDataSource.name(), PROVIDER
CONNECTORS = [pytest.param(PYTHON, id="python"), pytest.param(JVM, id="jvm")]

SPARK_CONF = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "2g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.session.timeZone": "Europe/Berlin",
    # Off by default in Spark 4.3.
    "spark.sql.timeType.enabled": "true",
    # Compiled quickly rather than well: no JVM here lives long.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}


def start_spark(master: str = "local[2,4]", conf: Mapping[str, str] = MappingProxyType({})) -> SparkSession:
    """A session with 2 cores whose tasks are tried up to 4 times, and more settings."""
    from pyspark.sql import SparkSession

    # Spark looks for "python3" otherwise, which need not be the one that has bowstring.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    # Workers import faults.py.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    builder = SparkSession.builder.master(master)
    for name, value in {**SPARK_CONF, **conf}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = start_spark()
    register(session)
    add_jar(session)
    yield session
    for query in session.streams.active:
        query.stop()
    session.stop()


@pytest.fixture(scope="module", params=CONNECTORS)
def connector(request: pytest.FixtureRequest) -> str:
    """What format() is given: the Python data source, and the JVM's."""
    return str(request.param)


@pytest.fixture
def setting(spark: SparkSession) -> Iterator[Callable[[str, str], None]]:
    """Sets Spark's settings for the time of a test."""
    before: dict[str, str | None] = {}

    def change(name: str, value: str) -> None:
        before.setdefault(name, spark.conf.get(name, None))
        spark.conf.set(name, value)

    yield change
    for name, value in before.items():
        if value is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, value)


@pytest.fixture
def coordinator() -> Iterator[bowstring.StreamCoordinator]:
    with bowstring.StreamCoordinator() as running:
        yield running


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the tests' Java programs are."""
    from .javas import compile_all

    return compile_all(tmp_path_factory.mktemp("java"))


@pytest.fixture(scope="session")
def watched_spark(spark: SparkSession, java_classes: str) -> SparkSession:
    """The session, which knows the JVM connector with points."""
    from .javas import add

    add(spark, java_classes)
    return spark


@pytest.fixture
def client(coordinator: bowstring.StreamCoordinator) -> bowstring.Client:
    return coordinator.client()


@pytest.fixture
def checkpoint() -> Iterator[str]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        yield directory


@pytest.fixture
def numbers(spark: SparkSession, tmp_path: Path) -> Callable[..., DataFrame]:
    """Streams of numbers 0 to rows - 1, with k = id % 7, from Parquet files: a file per micro-batch task."""

    def make(rows: int = 1000, files: int = 4, per_trigger: int = 2) -> DataFrame:
        directory = tmp_path / f"numbers-{rows}-{files}"
        if not directory.exists():
            frame = spark.range(0, rows, 1, files).selectExpr("id", "id % 7 AS k")
            frame.write.parquet(str(directory))
        reader = spark.readStream.schema("id long, k long").option("maxFilesPerTrigger", per_trigger)
        return reader.parquet(str(directory))

    return make


@pytest.fixture(scope="session")
def data(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    """24 files with 6000 ids, and what Spark's batch computation makes of them."""
    from .points import computed

    directory = tmp_path_factory.mktemp("ids")
    for number in range(24):
        ids = range(250 * number, 250 * (number + 1))
        pa.parquet.write_table(pa.table({"id": ids}), str(directory / f"{number:02}.parquet"))
    return str(directory), computed(spark.read.parquet(str(directory))).toArrow()


@pytest.fixture(scope="session")
def driver_deaths(
    watched_spark: SparkSession, java_classes: str, data: tuple[str, pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> DriverDeaths:
    """What became of a driver and its coordinator that were killed, twice. Once for both directions: it takes long."""
    from ..support import server, starter
    from .drivers import BACK, BATCHES, FORWARD, die_and_restart, number_batch
    from .durable import Durable, Reader

    with ExitStack() as running:
        start_python = starter(running)
        durable = Durable(server(start_python), tmp_path_factory.mktemp("drivers"))
        readers = {}
        for way in FORWARD:
            durable.client.create_stream(way, partitions=2)
            readers[way] = Reader(durable.url, way)
        for way in BACK:
            durable.client.create_stream(way, partitions=2, schema=number_batch(0).schema)
            with durable.client.producer(way) as producer:
                for number in range(BATCHES):
                    producer.append(number_batch(number))
        return die_and_restart(start_python, watched_spark, durable, data[0], readers, java_classes)


def read_stream(spark: SparkSession, url: str, stream: str, connector: str = PYTHON, **options: Any) -> DataFrame:
    """The stream as a streaming DataFrame."""
    reader = spark.readStream.format(connector).option("url", url).option("stream", stream)
    return reader.options(**options).load()


def collect_available(frame: DataFrame, checkpoint: str | None = None) -> list[Row]:
    """What an AvailableNow query of the frame gives."""
    rows: list[Row] = []
    writer = frame.writeStream.foreachBatch(lambda batch, _: rows.extend(batch.collect()))
    if checkpoint is not None:
        writer = writer.option("checkpointLocation", checkpoint)
    query = writer.trigger(availableNow=True).start()
    query.awaitTermination()
    return rows


def held(spark: SparkSession) -> tuple[int, int]:
    """Batches of the native library, and bytes of the connector's Arrow memory, that nobody in the JVM has let go."""
    return _ask(spark, "Native", "batchesHeld"), _ask(spark, "ArrowMemory", "held")


def _ask(spark: SparkSession, of: str, method: str) -> int:
    """What a static method of a class of the connector says, which nobody but Java's reflection may call."""
    loader = spark._jvm.java.lang.Thread.currentThread().getContextClassLoader()
    classes, objects = getattr(spark._jvm, "java.lang.Class"), spark._jvm.java.lang.Object
    found = classes.forName(f"io.bowstring.spark.{of}", True, loader)
    asked = found.getDeclaredMethod(method, spark._sc._gateway.new_array(classes, 0))
    asked.setAccessible(True)
    return int(asked.invoke(None, spark._sc._gateway.new_array(objects, 0)))


def wait_until_let_go(spark: SparkSession) -> None:
    """Until nobody in the JVM holds anything of the connector's."""
    try:
        wait_until(lambda: held(spark) == (0, 0))
    except AssertionError:
        assert held(spark) == (0, 0), "batches, and bytes of Arrow's"


def wait_until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Until the condition holds, looked at every 50 ms; fails when the time is up."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
