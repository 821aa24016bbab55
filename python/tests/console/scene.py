"""Something to see: streams that flow, one that is blocked, hostile names, all types, a thousand that rest."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from threading import Event, Thread

import pyarrow as pa

import bowstring

SCRIPT = "<script>document.title='taken over'</script>"
IMAGE = "<img src=x onerror=document.title='taken-over'>"
#: Names that mean something to a page, a path, a query or a reader's eye.
HOSTILE = [SCRIPT, IMAGE, "..", "a/b?c=d&e#f%2F", "‮txt.exe", "'\"`${1}{{2}}", "شبكة 流れ 🏹"]
RESTING = 1000


class Scene:
    """Where it is, and what is in it."""

    def __init__(self, url: str, http_url: str) -> None:
        self.url = url
        self.http_url = http_url


@contextmanager
def scene(url: str, http_url: str, resting: int = RESTING) -> Iterator[Scene]:
    """The scene, for as long as the block lasts. Whoever appends or reads in it ends with it."""
    client = bowstring.connect(url)
    for number in range(resting):
        client.create_stream(f"resting-{number:04}")
    with ExitStack() as running:
        ended = Event()
        threads: list[Thread] = []

        def start(work: Callable[[], None]) -> None:
            threads.append(Thread(target=work, daemon=True))
            threads[-1].start()

        flowing(client, ended, start, running)
        blocked(client, start, running)
        shared(client, ended, start)
        hostile(client)
        types(client)
        try:
            yield Scene(url, http_url)
        finally:
            ended.set()
            # Ends the appends that wait, and the reads.
            for stream in ["flights", "clicks", "jobs"]:
                with suppress(bowstring.BowstringError):
                    client.delete_stream(stream)
            running.close()
            for thread in threads:
                thread.join(20)


def quietly(end: Callable[[], None]) -> None:
    """Ends a consumer whose stream may be gone."""
    with suppress(bowstring.BowstringError):
        end()


def flowing(client: bowstring.Client, ended: Event, start: Callable[..., None], running: ExitStack) -> None:
    """`flights`: epochs as Spark's queries commit them, to two consumers that share, and one that reads alone."""
    client.create_stream("flights", partitions=4, max_buffered_batches=64)
    query, run = str(uuid.uuid4()), str(uuid.uuid4())
    rows = pa.record_batch({"carrier": ["UA", "AA", "DL", "B6"] * 500, "delay": list(range(2000))})

    def produce() -> None:
        epoch = 0
        with suppress(bowstring.BowstringError):
            while not ended.is_set():
                client.open_epoch("flights", query, run, epoch)
                receipts = []
                # The first partition gets more than the others.
                for task, partition in enumerate([0, 0, 0, 1, 1, 2, 3]):
                    writer = client.writer("flights", producer=query, run=run, epoch=epoch, task=task, attempt=0)
                    writer.append(rows, partition=partition)
                    receipts.append(writer.finish())
                ended.wait(0.2)
                client.commit_epoch("flights", query, run, epoch, receipts)
                epoch += 1

    def consume(**options: object) -> Callable[[], None]:
        iterator = client.iterator("flights", **options)
        running.callback(quietly, iterator.close)

        def work() -> None:
            with suppress(bowstring.BowstringError):
                for _ in iterator:
                    pass

        return work

    start(consume(subscription="train", mode="partitioned", consumer="gpu-1/311"))
    start(consume(subscription="train", mode="partitioned", consumer="gpu-2/208"))
    start(consume(subscription="audit", consumer="audit/7"))
    start(produce)


def blocked(client: bowstring.Client, start: Callable[..., None], running: ExitStack) -> None:
    """`clicks`: full, two producers wait, one consumer holds what it has."""
    client.create_stream("clicks", partitions=2, max_buffered_batches=4)
    client.subscribe("clicks", "warehouse")
    client.subscribe("clicks", "alerts")
    batch = pa.record_batch({"user": [1, 2, 3]})
    with client.producer("clicks", producer_id="ingest-1") as producer:
        for number in range(4):
            producer.append(batch, partition=number % 2)
    holds = client.iterator("clicks", subscription="warehouse", consumer="etl-4/4211", auto_ack=False)
    running.callback(quietly, holds.close)
    next(holds)
    reads = client.iterator("clicks", subscription="alerts", consumer="pager/12")
    running.callback(quietly, reads.close)
    for _ in range(4):
        next(reads)
    reads.flush()

    def wait(name: str) -> Callable[[], None]:
        def work() -> None:
            with suppress(bowstring.BowstringError), client.producer("clicks", producer_id=name) as producer:
                producer.append(batch, partition=0)
                producer.flush()

        return work

    start(wait("ingest-1"))
    start(wait("ingest-2"))


def shared(client: bowstring.Client, ended: Event, start: Callable[..., None]) -> None:
    """`jobs`: a shared subscription with a consumer that fails at everything, so that there are dead letters."""
    client.create_stream("jobs", max_buffered_batches=64)
    sharing = bowstring.Sharing(max_deliveries=2)
    iterator = client.iterator("jobs", subscription="workers", mode="shared", consumer="worker/1", sharing=sharing)
    with client.producer("jobs", producer_id="scheduler") as producer:
        for number in range(6):
            producer.append(pa.record_batch({"job": [number]}))

    def work() -> None:
        with suppress(bowstring.BowstringError):
            for handle in iterator.handles():
                if ended.is_set():
                    return
                handle.nack(reason="it cannot be done")
        iterator.close()

    start(work)


def hostile(client: bowstring.Client) -> None:
    """Streams, subscriptions, producers, columns and values whose names would like to be markup."""
    for name in HOSTILE:
        client.create_stream(name)
        client.subscribe(name, name)
        values = [SCRIPT, IMAGE, "", "null", None, "a\tb\nc", "‮gnp.exe", "\x00\x1b[31m", "x" * 5000]
        with client.producer(name, producer_id=name) as producer:
            producer.append(pa.record_batch({name: values}))


def types(client: bowstring.Client) -> None:
    """`types`: a column of each kind, and a row of nulls."""
    client.create_stream("types")
    client.subscribe("types", "later")
    at = datetime.datetime(2026, 11, 1, 12, 30, 15, 123456)
    pairs = pa.map_(pa.string(), pa.int32())
    columns: dict[str, tuple[list[object], pa.DataType]] = {
        "int64": ([2**62 + 1, -1, None], pa.int64()),
        "double": ([0.1, float("nan"), None], pa.float64()),
        "bool": ([True, False, None], pa.bool_()),
        "decimal": ([Decimal("123456789012345678.90"), Decimal("-0.01"), None], pa.decimal128(38, 2)),
        "string": (["null", "", None], pa.string()),
        "binary": ([b"\x00\xff<", b"", None], pa.binary()),
        "date": ([at.date(), datetime.date(1969, 12, 31), None], pa.date32()),
        "timestamp": ([at, at, None], pa.timestamp("us")),
        "zoned": ([at, at, None], pa.timestamp("us", "Europe/Berlin")),
        "list": ([[1, None, 3], [], None], pa.list_(pa.int32())),
        "struct": ([{"a": "x", "b": None}, {"a": "<b>", "b": 2}, None], pa.struct({"a": pa.string(), "b": pa.int8()})),
        "map": ([[("k", 1), ("l", None)], [], None], pairs),
        "dictionary": (["red", "green", None], pa.dictionary(pa.int8(), pa.string())),
        "nested": (
            [[{"when": [at]}], [None], None],
            pa.list_(pa.struct({"when": pa.list_(pa.timestamp("ms", "UTC"))})),
        ),
        "nothing": ([None, None, None], pa.null()),
    }
    arrays = {name: pa.array(values, of) for name, (values, of) in columns.items()}
    with client.producer("types") as producer:
        producer.append(pa.record_batch(arrays))
