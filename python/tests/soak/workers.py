"""What the soak runs as processes of their own, to be killed: `python workers.py NAME URL STREAM`."""

from __future__ import annotations

import sys
import time

import pyarrow as pa

import bowstring

ROWS = 500


def numbered(number: int) -> pa.RecordBatch:
    """Batch number so and so, of 64 KiB."""
    ids = pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())
    return pa.record_batch({"id": ids, "text": pa.array(["x" * 120] * ROWS)})


def produce(url: str, stream: str) -> None:
    """Appends on and on, from what is stored of this producer already; killed at any time it goes on there."""
    client = bowstring.connect(url)
    first = int(sys.stdin.readline())
    with client.producer(stream, append_timeout=60.0) as producer:
        for number in range(first, 1 << 40):
            producer.append(numbered(number))
            producer.flush()
            print(number, flush=True)
            time.sleep(0.01)


def consume(url: str, stream: str) -> None:
    """Reads with others, says what it has before it acks it."""
    for batch in bowstring.connect(url).iterator(stream, subscription="all", mode="partitioned", lease=2.0):
        print(batch["id"][0].as_py() // ROWS, flush=True)


def share(url: str, stream: str) -> None:
    """Works with others on single batches; refuses some at first."""
    iterator = bowstring.connect(url).iterator(stream, subscription="team", mode="shared", lease=2.0, ack_within=2.0)
    for handle in iterator.handles():
        number = handle.batch["id"][0].as_py() // ROWS
        if number % 17 == 0 and handle.delivery == 1:
            handle.nack(reason="not at first")
            continue
        print(number, flush=True)
        handle.ack()


def dawdle(url: str, stream: str) -> None:
    """Reads so slowly that it is skipped over."""
    for _ in bowstring.connect(url).iterator(stream, subscription="slow", prefetch_batches=2):
        time.sleep(0.2)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
