"""A website's dashboard: page views, visitors, errors and visits of each minute, a line as soon as they are known.

Two web servers append what they serve, out of order by up to ten seconds. One flow counts the views of each minute;
another makes visits of them, which end when a visitor has asked for nothing in 30 seconds (a session window); a third
reads the visits and counts those that began in the same minute. In the end DuckDB computes the dashboard of all rows.
"""

from __future__ import annotations

import random
import sys
import threading
import time

import duckdb
import pyarrow as pa

import bowstring
from bowstring.flows import Job, avg, count, session, tumbling

VISITS, MINUTES = 3000, 20
VIEWS = pa.schema({"visitor": pa.int64(), "status": pa.int64(), "served": pa.timestamp("ms")})
ERRORS = "count(CASE WHEN status >= 500 THEN 1 END) AS errors"
BOUNCES = "count(CASE WHEN pages = 1 THEN 1 END) AS bounces"
LINE = "{window_start:%H:%M} {views:7} {visitors:8} {errors:6} {visits:6} {pages:5.2f} {bounces:7}"
BATCH_JOB = f"""
    WITH gaps AS (SELECT *, served - lag(served) OVER (PARTITION BY visitor ORDER BY served) AS gap FROM views),
        numbered AS (SELECT *, count(CASE WHEN gap < INTERVAL 30 SECOND THEN NULL ELSE 1 END)
            OVER (PARTITION BY visitor ORDER BY served) AS number FROM gaps),
        visits AS (SELECT min(served) AS began, count(*) AS pages FROM numbered GROUP BY visitor, number)
    SELECT * FROM (SELECT time_bucket(INTERVAL 1 MINUTE, served) AS minute, count(*) AS views,
            count(DISTINCT visitor) AS visitors, {ERRORS} FROM views GROUP BY minute)
        JOIN (SELECT time_bucket(INTERVAL 1 MINUTE, began) AS minute, count(*) AS visits, avg(pages) AS pages, {BOUNCES}
            FROM visits GROUP BY minute) USING (minute)
    ORDER BY minute
"""  # noqa: S608 - our own names


def views() -> list[pa.RecordBatch]:
    """What visitors have asked for, in the order in which servers say so; the same each time."""
    chance = random.Random(7)  # noqa: S311 - no secrets here
    rows = []
    for _ in range(VISITS):
        visitor, pages, second = chance.randrange(1000), chance.randint(1, 6), chance.uniform(0, MINUTES * 60)
        while pages > 0 and second < MINUTES * 60:
            rows.append((visitor, 500 if chance.random() < 0.02 else 200, int(1000 * (1_760_000_040 + second))))
            pages, second = pages - 1, second + chance.uniform(1, 25)
    rows.sort(key=lambda row: row[2] + chance.uniform(0, 10_000))
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), VIEWS, strict=True)]
    return pa.Table.from_arrays(columns, schema=VIEWS).to_batches(max_chunksize=40)


def serve(client: bowstring.Client, made: list[pa.RecordBatch]) -> None:
    with client.producer("views") as producer:
        for number, batch in enumerate(made):
            producer.append(batch, partition=number % 2)
            time.sleep(0.01)
        producer.complete()


def jobs(client: bowstring.Client) -> list[Job]:
    viewed = bowstring.flow(client.subscription("views", "minutes")).event_time("served", lateness="11s")
    visitors = "count(DISTINCT visitor) AS visitors"
    minutes = viewed.window(tumbling("1m")).aggregate(count().alias("views"), visitors, ERRORS)
    visited = bowstring.flow(client.subscription("views", "visits")).event_time("served", lateness="11s")
    visits = visited.key_by("visitor").window(session("30s")).aggregate(count().alias("pages"))
    # A visit is known when it is over, and counts for the minute in which it began.
    begun = bowstring.flow(client.subscription("visits", "minutes")).event_time("window_start", lateness="15m")
    begun = begun.window(tumbling("1m")).aggregate(count().alias("visits"), avg("pages").alias("pages"), BOUNCES)
    flows = {"minutes": minutes, "visits": visits, "begun": begun}
    return [flow.to(stream, save_every="200ms") for stream, flow in flows.items()]


def main(client: bowstring.Client) -> int:
    made = views()
    client.create_stream("visits")
    client.create_stream("views", schema=VIEWS, partitions=2)
    for subscription in ["minutes", "visits"]:
        client.subscribe("views", subscription)  # from here on nothing is dropped before both have it
    running = [job.start() for job in jobs(client)]
    threading.Thread(target=serve, args=(client, made)).start()
    streams = [client.iterator(stream, timeout=30) for stream in ["minutes", "begun"]]
    rows = [(row for batch in batches for row in batch.drop_columns("window_end").to_pylist()) for batches in streams]
    found = []
    print("minute  views visitors errors visits pages bounces")
    for viewed, visited in zip(*rows, strict=True):
        minute = viewed | visited
        found.append(tuple(minute.values()))
        print(LINE.format(**minute))
    for job in running:
        job.wait()
    database = duckdb.connect()
    database.register("views", pa.Table.from_batches(made))
    expected = database.sql(BATCH_JOB).fetchall()
    print(f"{len(found)} minutes of traffic, as a batch job has them: {found == expected}")
    return 0 if found == expected else 1


with bowstring.StreamCoordinator() as coordinator:
    sys.exit(main(coordinator.client()))
