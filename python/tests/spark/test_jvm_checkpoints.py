"""A checkpoint belongs to a query, not to a connector: the JVM's goes on where the Python data source was, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet
import pytest

import bowstring
from bowstring.streaming import foreach_batch_writer

from .conftest import JVM, PYTHON, read_stream
from .test_forward import NOW, ids
from .test_reverse import append, table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Each goes on where the one before it was.
TURNS = pytest.mark.parametrize("turns", [(PYTHON, JVM, PYTHON), (JVM, PYTHON, JVM)], ids=["python_first", "jvm_first"])


def forget_commit(checkpoint: str, batch: int) -> None:
    """As if the driver had died before Spark has noted that a micro-batch is done: it is run again."""
    for name in (f"{batch}", f".{batch}.crc"):
        (Path(checkpoint) / "commits" / name).unlink()


def batches_of(checkpoint: str) -> int:
    return len([path for path in (Path(checkpoint) / "offsets").iterdir() if path.name.isdigit()])


class Forward:
    """A query of files with numbers, one a micro-batch, into stream `s`."""

    def __init__(self, spark: SparkSession, client: bowstring.Client, checkpoint: str, directory: Path) -> None:
        self._spark, self._client, self._checkpoint, self._directory = spark, client, checkpoint, directory
        self._files = 0
        directory.mkdir()

    def run(self, connector: str, sink: str) -> str:
        """Two more files; the query's id."""
        for _ in range(2):
            ids = pa.table({"id": range(100 * self._files, 100 * (self._files + 1))})
            pyarrow.parquet.write_table(ids, self._directory / f"{self._files:03}.parquet")
            self._files += 1
        frame = self._spark.readStream.schema("id long").option("maxFilesPerTrigger", 1).parquet(str(self._directory))
        writer = frame.writeStream.trigger(**NOW).option("checkpointLocation", self._checkpoint)
        if sink == "datasource":
            query = writer.format(connector).options(url=self._client.url, stream="s").start()
        else:
            put = foreach_batch_writer(self._client.url, "s", use_jvm_sink=connector == JVM)
            query = writer.foreachBatch(put).start()
        query.awaitTermination()
        return str(query.id)


@TURNS
@pytest.mark.parametrize("sink", ["datasource", "foreach_batch"])
def test_a_sink_goes_on_where_the_other_connector_was(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, tmp_path: Path, turns: tuple[str, ...], sink: str
) -> None:
    forward = Forward(spark, client, checkpoint, tmp_path / "numbers")
    queries = set()
    for turn, connector in enumerate(turns):
        if turn > 0:
            forget_commit(checkpoint, 2 * turn - 1)
        queries.add(forward.run(connector, sink))
    found = client.describe_stream("s")
    assert [one["producer"] for one in found["producers"]] == list(queries), "one query is one producer"
    assert (found["epochs_committed"], found["epochs_replayed"] >= 2) == (6, True)
    client.complete_stream("s")
    assert sorted(ids(client.iterator("s"))) == list(range(600))


@TURNS
def test_a_source_goes_on_where_the_other_connector_was(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, turns: tuple[str, ...]
) -> None:
    client.create_stream("s", schema=table(0).schema, partitions=11)
    read: dict[int, list[Any]] = {}

    def keep(batch: DataFrame, number: int) -> None:
        rows = sorted((row.n, row.i) for row in batch.collect())
        assert read.setdefault(number, rows) == rows, "a micro-batch that is run again is the same"

    for turn, connector in enumerate(turns):
        if turn > 0:
            forget_commit(checkpoint, 2 * turn - 1)
        for partition in (0, 2, 10):
            append(client, "s", range(10 * turn, 10 * turn + 2), partition)
        frame = read_stream(spark, client.url, "s", connector, maxBatchesPerTrigger=3)
        writer = frame.writeStream.foreachBatch(keep).option("checkpointLocation", checkpoint)
        writer.trigger(**NOW).start().awaitTermination()
    # Nothing new: no micro-batch either, though the offset was written by the other.
    for connector in reversed(turns):
        frame = read_stream(spark, client.url, "s", connector)
        writer = frame.writeStream.foreachBatch(keep).option("checkpointLocation", checkpoint)
        writer.trigger(**NOW).start().awaitTermination()
    assert sorted(read) == list(range(6))
    assert batches_of(checkpoint) == 6
    expected = [(10 * turn + n, i) for turn in range(3) for n in range(2) for i in range(10)]
    assert sorted(row for rows in read.values() for row in rows) == sorted(3 * expected)
    (cursor,) = client.describe_stream("s")["subscriptions"]
    assert cursor["subscription"].startswith("spark-")


@TURNS
def test_a_first_micro_batch_that_failed_is_repeated_by_the_other_from_the_same_start(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, turns: tuple[str, ...]
) -> None:
    client.create_stream("s", schema=table(0).schema)
    append(client, "s", range(3))
    found: list[int] = []

    def fail(_batch: DataFrame, _number: int) -> None:
        raise RuntimeError("not this time")

    def take(batch: DataFrame, _number: int) -> None:
        found.extend({row.n for row in batch.collect()})

    for connector, function in zip(turns[:2], (fail, take), strict=True):
        frame = read_stream(spark, client.url, "s", connector, startingOffsets='{"0": 1}')
        writer = frame.writeStream.foreachBatch(function).option("checkpointLocation", checkpoint).trigger(**NOW)
        if function is fail:
            with pytest.raises(Exception, match="not this time"):
                writer.start().awaitTermination()
            append(client, "s", range(3, 4))
        else:
            writer.start().awaitTermination()
    assert sorted(found) == [1, 2, 3]
    assert len(client.describe_stream("s")["subscriptions"]) == 1


def test_a_checkpoint_of_another_stream_or_source_is_refused(
    spark: SparkSession, client: bowstring.Client, checkpoint: str, connector: str
) -> None:
    for stream in ("s", "t"):
        client.create_stream(stream, schema=table(0).schema)
        append(client, stream, range(1))

    def run(frame: DataFrame, directory: str) -> None:
        frame.writeStream.format("noop").option("checkpointLocation", directory).trigger(
            **NOW
        ).start().awaitTermination()

    run(read_stream(spark, client.url, "t", connector), f"{checkpoint}/t")
    with pytest.raises(Exception, match=r"belongs to stream 't', but the query reads 's'.*checkpoint of its own"):
        run(read_stream(spark, client.url, "s", JVM), f"{checkpoint}/t")
    run(spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load(), f"{checkpoint}/rate")
    with pytest.raises(Exception, match=r"none of bowstring's.*checkpoint of its own"):
        run(read_stream(spark, client.url, "s", JVM), f"{checkpoint}/rate")
