"""Both ends of a relay in bowstring's Python. Usage: python_ends append|read URL STREAM ROWS BATCHES."""

from __future__ import annotations

import sys

import bowstring
from bench.children import say_done, wait_for_go
from bench.load import make_batch


def append(url: str, stream: str, rows: int, batches: int) -> None:
    batch = make_batch(rows)
    with bowstring.connect(url).producer(stream) as producer:
        wait_for_go()
        for _ in range(batches):
            producer.append(batch)
        producer.complete()


def read(url: str, stream: str, rows: int, batches: int) -> None:
    with bowstring.StreamingIterator(url, stream, subscription="bench") as iterator:
        wait_for_go()
        seen = sum(batch.num_rows for batch in iterator)
    assert seen == rows * batches, f"{seen} of {rows * batches} rows came"


if __name__ == "__main__":
    end, url, stream, rows, batches = sys.argv[1:]
    {"append": append, "read": read}[end](url, stream, int(rows), int(batches))
    say_done()
