"""Static iterators in Ray tasks, by the snippet of DRLS's documents: all that differs is what is imported."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from pyspark.sql import SparkSession

from ..spark.conftest import start_spark
from ..support import wait_until

SNIPPET = """
from bowstring.streaming import from_spark_streaming, create_partitioned_iterators

iterator, query = from_spark_streaming(
    streaming_df,
    stream_id="partitioned_stream",
)

# Create 4 consumers, each handling a subset of the 8 Spark partitions
iterators = create_partitioned_iterators(
    iterator._coordinator,  # access the underlying coordinator
    num_consumers=4,
    num_partitions=8,
)

# Launch each consumer as a Ray task or actor
@ray.remote
def consume(it):
    for table in it:
        process(table)

futures = [consume.remote(it) for it in iterators]
ray.get(futures)
query.stop()
"""


@pytest.fixture
def spark() -> Iterator[SparkSession]:
    # As Spark's own tests do: a JVM outlives its session, and may be theirs next.
    session = start_spark()
    yield session
    session.stop()


@pytest.mark.usefixtures("ray_session")
def test_the_snippet_of_drls_runs_with_another_import(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = str(tmp_path)

    def process(table: object) -> None:
        values = table["value"].to_pylist()
        (Path(folder) / f"{values[0]}.json").write_text(json.dumps(values))

    def read() -> list[int]:
        return sorted(itertools.chain.from_iterable(json.loads(one.read_text()) for one in Path(folder).iterdir()))

    def end() -> None:
        # A query of "rate" never ends by itself.
        wait_until(lambda: len(list(Path(folder).iterdir())) >= 6)
        for query in spark.streams.active:
            query.stop()

    numbers = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load()
    ending = threading.Thread(target=end)
    ending.start()
    with caplog.at_level(logging.WARNING, "bowstring"):
        exec(SNIPPET, {"ray": ray, "streaming_df": numbers, "process": process})
    ending.join()
    assert "has 1 partitions, not 8" in caplog.text
    values = read()
    assert len(values) >= 3000
    assert values == list(range(len(values)))
