"""What tests run as processes of their own, to interrupt and to kill: `python children.py NAME ARGUMENT...`."""

from __future__ import annotations

import base64
import pickle
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc

import bowstring

#: What flows are tested with.
CLICKS = pa.schema([("page", pa.string()), ("at", pa.timestamp("ms", "UTC")), ("x", pa.int64())])


def numbered(first: int, rows: int = 10) -> pa.RecordBatch:
    ids = range(first, first + rows)
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "text": [f"row {one}" for one in ids]})


def consume(url: str, stream: str, subscription: str, acked: str, more: str, lease: str = "10") -> None:
    """Acks so many batches, takes some more, says so and waits for its end."""
    iterator = bowstring.StreamingIterator(url, stream, subscription=subscription, lease=float(lease), auto_ack=False)
    for _ in range(int(acked)):
        print(next(iterator)["id"][0])
        iterator.ack()
    iterator.flush()
    for _ in range(int(more)):
        next(iterator)
    print("ready")
    sys.stdin.readline()


def share(url: str, stream: str, subscription: str, done: str) -> None:
    """Works on what it is given of a shared subscription: after so many batches it hangs with the next one."""
    iterator = bowstring.StreamingIterator(
        url, stream, subscription=subscription, mode="shared", lease=2.0, ack_within=2.0, prefetch_batches=2
    )
    print("ready")
    for number, handle in enumerate(iterator.handles()):
        if number == int(done):
            # What it has acked is to be known before it is killed.
            iterator.flush()
            print("hangs")
            sys.stdin.readline()
        # As long as it takes somebody else to have a turn.
        time.sleep(0.01)
        handle.ack()
        print(handle.batch["id"][0])
    iterator.close()
    print("end")


def work(url: str, stream: str, output: str, ack_within: str, point: str, at: str) -> None:
    """Works with an output, ten times each id, until the end; with the batch that begins with the id it hangs there."""
    from bowstring.handles import BatchHandle
    from bowstring.working import Worker

    class Client(bowstring.Client):
        def commit_epoch(self, *arguments: object) -> str:
            if point == "commit" and arguments[3] == int(at) // 10:
                hang()
            return super().commit_epoch(*arguments)

    def hang() -> None:
        print("hangs")
        sys.stdin.readline()

    def tenfold(batch: pa.RecordBatch) -> pa.Table:
        first = batch["id"][0].as_py()
        if point == "append" and first == int(at):
            hang()
        return pa.Table.from_batches([numbered(first * 10 + 10 * number) for number in range(10)])

    acks = BatchHandle.ack

    def ack(handle: BatchHandle) -> None:
        if point == "ack" and handle.batch["id"][0].as_py() == int(at):
            hang()
        acks(handle)

    BatchHandle.ack = ack
    options = {"subscription": "team", "output": output, "ack_within": float(ack_within), "lease": 1.0}
    worker = Worker(Client(url), stream, tenfold, **options)
    print("ready")
    worker.run()
    done = worker.done()
    print("end", done.batches, done.repeated, done.failures)


def produce(url: str, stream: str, flushed: str) -> None:
    """Appends for ever, 10 rows at a time; from the named batch on it says how many batches are stored."""
    producer = bowstring.connect(url).producer(stream, producer_id="child")
    number = 0
    while True:
        producer.append(numbered(number * 10))
        number += 1
        if number == int(flushed):
            producer.flush()
        if number >= int(flushed):
            print(producer.stored)


def keep_alive(url: str, stream: str, lease: str) -> None:
    """Appends 3 batches, and gives signs of life until it is ended."""
    producer = bowstring.connect(url).producer(stream, producer_id="lively", keep_alive=float(lease))
    for number in range(3):
        producer.append(numbered(number * 10))
    producer.flush()
    print("ready")
    sys.stdin.readline()


def write_epoch(url: str, stream: str, epoch: str) -> None:
    """Stages 5 batches of an epoch and finishes the writer, but never commits."""
    client = bowstring.connect(url)
    client.open_epoch(stream, "job", "first run", int(epoch))
    writer = client.writer(stream, producer="job", run="first run", epoch=int(epoch), task=0, attempt=0)
    for number in range(5):
        writer.append(numbered(1000 + number * 10))
    writer.finish()
    print("ready")
    sys.stdin.readline()


def wait_for_batch(url: str, stream: str) -> None:
    """Waits for a batch that never comes."""
    iterator = bowstring.StreamingIterator(url, stream)
    print("waiting")
    next(iterator)


def wait_for_room(url: str, stream: str) -> None:
    """Appends to a full stream and waits for the batch to be stored."""
    producer = bowstring.connect(url).producer(stream)
    producer.append(numbered(0))
    print("waiting")
    producer.flush()


def wait_for_stream(url: str, stream: str) -> None:
    """Waits for a stream that nobody makes."""
    print("waiting")
    next(bowstring.StreamingIterator(url, stream, stream_wait=60))


def continue_iterator(pickled: str) -> None:
    """Reads on where the pickled iterator's subscription stands, to the end."""
    with pickle.loads(base64.b64decode(pickled)) as iterator:
        for batch in iterator:
            print(batch["id"][0])


def flow(url: str, directory: str, kind: str) -> None:
    """Runs a flow to its end, with state in the directory, slowly enough to be killed."""
    from bowstring import flows

    windows = {
        "tumbling": flows.tumbling("10s"),
        "sliding": flows.sliding("15s", "10s"),
        "session": flows.session("3s"),
    }

    begun = bowstring.flow(bowstring.connect(url).subscription("clicks", "flow")).map(slowly, schema=CLICKS)
    if kind in windows:
        begun = begun.event_time("at", lateness="30s").window(windows[kind])
    grouped = (
        begun.filter("x >= 0").key_by("page").aggregate("count(*) AS n", "sum(x) AS total", "max(x) - min(x) AS spread")
    )
    job = grouped.late_to("late").to("results", state=directory, save_every="20ms", memory_bytes_max=200_000)
    print("ready")
    job.run()
    print("end")


def fire(url: str, directory: str) -> None:
    """The same with results before and after a window is over."""
    from bowstring import flows

    timed = bowstring.flow(bowstring.connect(url).subscription("clicks", "flow")).map(slowly, schema=CLICKS)
    window = timed.event_time("at", lateness="5s").key_by("page").window(flows.tumbling("10s"), early=0, late="30s")
    job = window.aggregate("count(*) AS n", "sum(x) AS total").to("results", state=directory, save_every="20ms")
    print("ready")
    job.run()
    print("end")


def reduce(url: str, directory: str) -> None:
    """The same with a function of two rows."""
    from bowstring import flows

    timed = bowstring.flow(bowstring.connect(url).subscription("clicks", "flow")).map(slowly, schema=CLICKS)
    window = timed.event_time("at", lateness="30s").key_by("page").window(flows.tumbling("10s"))
    job = window.reduce(latest_and_total, '"at"', "coalesce(x, 0) AS total").to(
        "results", state=directory, save_every="20ms"
    )
    print("ready")
    job.run()
    print("end")


def latest_and_total(left: pa.RecordBatch, right: pa.RecordBatch) -> dict[str, pa.Array]:
    """Of two rows the later time, and the sum."""
    latest = pc.if_else(pc.greater(left["at"], right["at"]), left["at"], right["at"])
    return {"at": latest, "total": pc.add(left["total"], right["total"])}


def slowly(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same batch, a little later."""
    time.sleep(0.01)
    return batch


def join(url: str, directory: str) -> None:
    """Runs a join to its end, with state in the directory, slowly enough to be killed."""
    client = bowstring.connect(url)
    clicks, orders = (
        bowstring.flow(client.subscription(stream, "join")).map(slowly, schema=CLICKS).event_time("at", lateness="30s")
        for stream in ("clicks", "orders")
    )
    joined = clicks.join(orders.filter("x > 50"), on="page", within=("-2s", "3s")).map("page", '"at"', "x", "at_right")
    job = joined.to("results", state=directory, save_every="20ms", memory_bytes_max=200_000)
    print("ready")
    job.run()
    print("end")


def union(url: str, directory: str) -> None:
    """Runs a flow over two streams to its end, with state in the directory, slowly enough to be killed."""
    from bowstring import flows

    client = bowstring.connect(url)
    clicks, orders = (
        bowstring.flow(client.subscription(stream, "union")).map(slowly, schema=CLICKS)
        for stream in ("clicks", "orders")
    )
    counted = clicks.union(orders).event_time("at", lateness="30s").key_by("page").window(flows.tumbling("10s"))
    job = counted.aggregate("count(*) AS n").to("results", state=directory, save_every="20ms", memory_bytes_max=200_000)
    print("ready")
    job.run()
    print("end")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
