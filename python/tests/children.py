"""What tests run as processes of their own, to interrupt and to kill: `python children.py NAME ARGUMENT...`."""

from __future__ import annotations

import base64
import pickle
import sys
import time

import pyarrow as pa

import bowstring


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


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
