"""Clicks that come out of order, counted by page and by the minute in which they were made, by a flow.

Two web servers append clicks, each to a partition of its own and up to 20 seconds out of order; now and then a phone
hands in what it has kept for an hour. The flow leaves robots out, counts the others in tumbling windows, which are
printed as they end, and puts aside what came too late for its minute. No click is lost and none is counted twice: the
counts and the late clicks together are what DuckDB counts of all clicks at once.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import duckdb
import pyarrow as pa

import bowstring
from bowstring.flows import count, tumbling

PAGES = ["/", "/search", "/cart", "/checkout", "/help"]
MINUTES, CLICKS_PER_SECOND = 8, 50
CLICKS = pa.schema({"page": pa.string(), "is_robot": pa.bool_(), "made": pa.timestamp("ms")})
BATCH_JOB = """
    SELECT time_bucket(INTERVAL 1 MINUTE, made) AS minute, page, count(*) FROM clicks WHERE NOT is_robot GROUP BY ALL
    ORDER BY ALL
"""
IN_FLOW = """
    SELECT minute, page, sum(n)::BIGINT FROM (
        SELECT window_start AS minute, page, n FROM counts
        UNION ALL SELECT time_bucket(INTERVAL 1 MINUTE, made), page, 1 FROM late)
    GROUP BY ALL ORDER BY ALL
"""


def clicks(server: int) -> Iterator[pa.RecordBatch]:
    """What comes in at a web server, second by second; the same each time."""
    chance = random.Random(server)  # noqa: S311 - no secrets here
    for second in range(MINUTES * 60):
        ages = [3600 if chance.random() < 0.002 else chance.uniform(0, 20) for _ in range(CLICKS_PER_SECOND)]
        pages = chance.choices(PAGES, weights=[8, 5, 3, 2, 1], k=CLICKS_PER_SECOND)
        robots = [chance.random() < 0.3 for _ in pages]
        made = pa.array([int(1000 * (1_760_000_000 + second - age)) for age in ages], pa.timestamp("ms"))
        yield pa.record_batch([pages, robots, made], schema=CLICKS)


def generate(client: bowstring.Client) -> None:
    """Eight minutes in three seconds."""
    with client.producer("clicks") as producer:
        for batches in zip(clicks(0), clicks(1), strict=True):
            for server, batch in enumerate(batches):
                producer.append(batch, partition=server)
            time.sleep(0.005)
        producer.complete()


late: list[pa.RecordBatch] = []
counts: list[pa.RecordBatch] = []
with bowstring.StreamCoordinator() as coordinator:
    client = coordinator.client()
    client.create_stream("clicks", schema=CLICKS, partitions=2)
    job = (
        bowstring.flow(client.subscription("clicks", "counts"))
        .filter("NOT is_robot")
        .event_time("made", lateness="20s")
        .key_by("page")
        .window(tumbling("1m"))
        .aggregate(count().alias("n"))
        .late_to(late.append)
        .to("counts", save_every="100ms")
    )
    threading.Thread(target=generate, args=(client,)).start()
    with job:
        for batch in client.iterator("counts", timeout=30):  # until the flow has ended, as its source has
            for row in batch.sort_by("page").to_pylist():
                print(f"{row['window_start']:%H:%M}  {row['page']:10} {row['n']:5}")
            counts.append(batch)

database = duckdb.connect()
database.register("clicks", pa.Table.from_batches([*clicks(0), *clicks(1)]))
database.register("counts", pa.Table.from_batches(counts))
database.register("late", pa.Table.from_batches(late))
[(number, least)] = database.sql("SELECT count(*), min(late_by_micros) // 60_000_000 FROM late").fetchall()
print(f"{number} clicks were late, by {least} minutes at least")
is_same = least >= 30 and database.sql(IN_FLOW).fetchall() == database.sql(BATCH_JOB).fetchall()
print(f"{len(PAGES)} pages, the counts and what was late are those of a batch job: {is_same}")
sys.exit(not is_same)
