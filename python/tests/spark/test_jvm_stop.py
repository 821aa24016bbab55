"""A stop ends whatever the JVM connector waits for, within a second, and the query counts as stopped.

The promise is a second; the tests give more room, since other processes have the machine too, and print how long it
took. What breaks the promise would wait for ever here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import bowstring

from ..proxy import Proxy
from .conftest import JVM, read_stream, wait_until, wait_until_let_go
from .test_forward import ids

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from ..support import Served

#: Seconds: see above.
PROMPT = 5.0
ID = pa.schema([pa.field("id", pa.int64(), nullable=False)])


@contextmanager
def promptly(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    print(f"{what} took {took:.2f} s of 1 s promised")
    assert took < PROMPT


@pytest.fixture
def full(client: bowstring.Client) -> bowstring.Client:
    """With stream `s`, whose buffer is full of another producer's data, which nobody reads."""
    client.create_stream("s", schema=ID, max_buffered_batches=2)
    client.subscribe("s", "nobody")
    with client.producer("s") as producer:
        for number in (-2, -1):
            producer.append(pa.record_batch([pa.array([number])], schema=ID))
    return client


@pytest.fixture
def stalled(serve: Callable[..., Served]) -> Iterator[tuple[bowstring.Client, Proxy]]:
    """A coordinator, and a way to it on which answers can be held."""
    served = serve()
    proxy = Proxy(served.address)
    yield bowstring.connect(served.url), proxy
    proxy.close()


def waits(client: bowstring.Client) -> bool:
    return bool(client.describe_stream("s")["waiting"])


def of(spark: SparkSession) -> DataFrame:
    return spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1000).load().selectExpr("value AS id")


def start(frame: DataFrame, checkpoint: str, **options: Any) -> Any:
    frame = frame.where("id IS NOT NULL").selectExpr("coalesce(id, 0L) AS id")
    return frame.writeStream.format(JVM).options(**options).option("checkpointLocation", checkpoint).start()


def test_a_sink_that_waits_for_room_is_stopped_and_goes_on_later(
    spark: SparkSession, full: bowstring.Client, checkpoint: str
) -> None:
    query = start(of(spark), checkpoint, url=full.url, stream="s")
    wait_until(lambda: waits(full))
    with promptly("the stop of a sink that waits for room"):
        query.stop()
    assert query.exception() is None, "stopped, not failed"
    wait_until(lambda: not waits(full))
    # The same micro-batch, from the checkpoint, once somebody reads.
    again = start(of(spark), checkpoint, url=full.url, stream="s")
    iterator = full.iterator("s", subscription="nobody")
    found: list[int] = []
    for batch in iterator:
        found += batch["id"].to_pylist()
        iterator.ack()
        if len(found) >= 2002:
            break
    again.stop()
    assert sorted(found[:1002]) == [-2, -1, *range(1000)]


@pytest.mark.parametrize("cancel", ["cancelJobGroup", "cancelAllJobs"])
def test_a_batch_write_that_waits_for_room_is_cancelled(
    spark: SparkSession, full: bowstring.Client, cancel: str
) -> None:
    from pyspark import InheritableThread

    raised: list[Exception] = []

    def write() -> None:
        spark.sparkContext.setJobGroup("writes", "waits for room", interruptOnCancel=False)
        try:
            spark.range(0, 100, 1, 2).write.format(JVM).mode("append").options(url=full.url, stream="s").save()
        except Exception as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    writer = InheritableThread(target=write)
    writer.start()
    wait_until(lambda: waits(full))
    with promptly(f"{cancel} of a write that waits for room"):
        getattr(spark.sparkContext, cancel)(*(["writes"] if cancel == "cancelJobGroup" else []))
        writer.join(60)
    assert "cancelled" in str(raised[0])
    wait_until(lambda: not waits(full))
    wait_until_let_go(spark)
    full.complete_stream("s")
    assert ids(full.iterator("s", subscription="nobody")) == [-2, -1]


def test_a_driver_that_waits_for_its_commit_is_stopped_and_the_epoch_counts_once(
    spark: SparkSession, stalled: tuple[bowstring.Client, Proxy], checkpoint: str
) -> None:
    client, proxy = stalled
    client.create_stream("s", schema=ID)
    options = {"url": proxy.url, "stream": "s", "localSocket": "false"}
    query = start(of(spark), checkpoint, **options)
    wait_until(lambda: client.describe_stream("s")["epochs_committed"] >= 2)
    proxy.hold_answers()
    wait_until(lambda: proxy.holds)
    with promptly("the stop of a driver that hears nothing"):
        query.stop()
    assert query.exception() is None, "stopped, not failed"
    proxy.heal()
    again = start(of(spark), checkpoint, **options)
    wait_until(lambda: client.describe_stream("s")["epochs_committed"] >= 5)
    again.stop()
    client.complete_stream("s")
    found = ids(client.iterator("s"))
    assert sorted(found) == list(range(len(found)))


@pytest.mark.parametrize("where", ["driver", "task"])
def test_a_source_that_hears_nothing_is_stopped(
    spark: SparkSession, stalled: tuple[bowstring.Client, Proxy], checkpoint: str, where: str
) -> None:
    client, proxy = stalled
    client.create_stream("s", schema=ID)
    frame = read_stream(spark, proxy.url, "s", JVM, localSocket="false")
    reading = threading.Event()

    def take(batch: DataFrame, _: int) -> None:
        proxy.hold_answers()
        reading.set()
        batch.collect()

    query = frame.writeStream.foreachBatch(take).option("checkpointLocation", checkpoint).start()
    if where == "task":
        with client.producer("s") as producer:
            producer.append(pa.record_batch([pa.array(range(100_000))], schema=ID))
        assert reading.wait(60)
    else:
        wait_until(lambda: client.describe_stream("s")["subscriptions"])
        proxy.hold_answers()
    wait_until(lambda: proxy.holds)
    with promptly(f"the stop of a source whose {where} hears nothing"):
        query.stop()
    assert query.exception() is None, "stopped, not failed"
    wait_until_let_go(spark)


def test_a_batch_read_that_hears_nothing_is_cancelled(
    spark: SparkSession, stalled: tuple[bowstring.Client, Proxy]
) -> None:
    client, proxy = stalled
    client.create_stream("s", schema=ID)
    with client.producer("s") as producer:
        for start in range(0, 1_000_000, 100_000):
            producer.append(pa.record_batch([pa.array(range(start, start + 100_000))], schema=ID))
    raised: list[Exception] = []
    frame = spark.read.format(JVM).options(url=proxy.url, stream="s", localSocket="false").load().where("id % 2 = 0")
    # What the driver asks for comes while there are answers: before there is a job there is nothing to cancel.
    frame._jdf.queryExecution().toRdd().getNumPartitions()

    def read() -> None:
        proxy.hold_answers()
        try:
            frame.collect()
        except Exception as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: proxy.holds)
    with promptly("the cancellation of a read that hears nothing"):
        spark.sparkContext.cancelAllJobs()
        reader.join(60)
    assert raised
