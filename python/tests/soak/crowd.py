"""Many consumers or producers in one process, each with connections of its own: `python crowd.py NAME URL ...`."""

from __future__ import annotations

import asyncio
import resource
import sys

import pyarrow as pa

import bowstring

ROWS = 10


async def read(url: str, stream: str, subscription: str) -> int:
    """The rows of a whole stream, each checked to be the next one."""
    rows = 0
    async for batch in bowstring.StreamingIterator(
        url, stream, subscription=subscription, prefetch_batches=2, timeout=120.0
    ):
        assert batch["id"].to_pylist() == list(range(rows, rows + batch.num_rows))
        rows += batch.num_rows
    return rows


def consume(url: str, first: str, last: str, streams: str) -> None:
    """Consumers of these numbers, spread over the streams; says what all have read."""

    async def all_of_them() -> list[int]:
        numbers = range(int(first), int(last))
        return await asyncio.gather(*(read(url, f"s-{one % int(streams)}", f"c-{one}") for one in numbers))

    rows = asyncio.run(all_of_them())
    print(len(rows), sum(rows))


def produce(url: str, streams: str, batches: str) -> None:
    """A producer for each stream, all of them appending in turns."""
    print("ready")
    sys.stdin.readline()
    producers = [bowstring.connect(url).producer(f"s-{one}") for one in range(int(streams))]
    for number in range(int(batches)):
        ids = pa.record_batch({"id": pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())})
        for producer in producers:
            producer.append(ids)
    for producer in producers:
        producer.complete()
    print("done")


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    globals()[sys.argv[1]](*sys.argv[2:])
