"""A rule against fraud with state per card, which survives restarts: what each has spent lately, and in all.

Payments come up to a minute out of order. Two flows read them: one adds up what each card has spent in any ten minutes
(a sliding window), and raises an alert for much money or many countries; the other keeps a total per card for ever.
Both save their state with the offsets that it reflects, and are stopped in the middle and started again: no payment is
left out or counted twice. A batch job in DuckDB has the same alerts and totals.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time

import duckdb
import pyarrow as pa

import bowstring
from bowstring.flows import Job, count, sliding

BATCHES, ROWS = 60, 100
PAYMENTS = pa.schema({"card": pa.int64(), "cents": pa.int64(), "country": pa.string(), "paid": pa.timestamp("ms")})
IS_FRAUD = "spent > 200000 OR countries > 3"
ALERTS = f"""
    SELECT time_bucket(INTERVAL 1 MINUTE, paid) - to_minutes(minutes_before) AS window_start, card,
        sum(cents)::BIGINT AS spent, count(DISTINCT country) AS countries
    FROM payments, range(10) AS windows(minutes_before) GROUP BY ALL HAVING {IS_FRAUD} ORDER BY ALL
"""  # noqa: S608 - our own names
TOTALS = "SELECT card, sum(cents)::BIGINT, count(*) FROM payments GROUP BY card ORDER BY card"


def payments() -> list[pa.RecordBatch]:
    """Two hours of payments, among them those by two stolen cards: much by one, everywhere by the other."""
    chance = random.Random(42)  # noqa: S311 - no secrets here
    rows = []
    for number in range(BATCHES * ROWS):
        second = number * 7200 / (BATCHES * ROWS)
        card, cents, country = chance.randrange(200), chance.randrange(100, 9000), chance.choice(["SE", "SE", "NO"])
        if 3000 < second < 3400 and chance.random() < 0.1:
            card, cents = 7, 30000
        if 5000 < second < 5600 and chance.random() < 0.05:
            card, country = 99, chance.choice(["BR", "JP", "US", "ZA"])
        rows.append((card, cents, country, 1_760_000_000_000 + int(1000 * (second - chance.uniform(0, 60)))))
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), PAYMENTS, strict=True)]
    return pa.Table.from_arrays(columns, schema=PAYMENTS).to_batches(max_chunksize=ROWS)


def jobs(client: bowstring.Client, directory: str) -> list[Job]:
    """Both flows, as they are after each start of the program."""
    alerts = (
        bowstring.flow(client.subscription("payments", "alerts"))
        .event_time("paid", lateness="1m")
        .key_by("card")
        .window(sliding("10m", "1m"))
        .aggregate("sum(cents) AS spent", "count(DISTINCT country) AS countries")
        .filter(IS_FRAUD)
        .map("window_start", "card", "spent", "countries")
    )
    totals = bowstring.flow(client.subscription("payments", "totals")).key_by("card")
    totals = totals.aggregate("sum(cents) AS spent", count().alias("payments"))
    flows = {"alerts": alerts, "totals": totals}
    return [flow.to(name, state=f"{directory}/{name}", save_every="200ms") for name, flow in flows.items()]


def main(client: bowstring.Client, directory: str) -> int:
    made = payments()
    client.create_stream("payments", schema=PAYMENTS)
    for subscription in ["alerts", "totals"]:
        client.subscribe("payments", subscription)  # from here on nothing is dropped before both have it
    with client.producer("payments") as producer:
        for begin in range(0, BATCHES, 20):
            alerts, totals = jobs(client, directory)
            with alerts, totals:  # they run until its end, wherever they are
                for batch in made[begin : begin + 20]:
                    producer.append(batch)
                    time.sleep(0.02)
        producer.complete()
    for job in jobs(client, directory):
        job.run()  # and until the stream's end

    found = [pa.Table.from_batches(client.iterator(name, timeout=30)).to_pylist() for name in ["alerts", "totals"]]
    alerts, changes = ([tuple(row.values()) for row in rows] for rows in found)
    alerts.sort()
    totals = {change[0]: change for change in changes}  # a card's last one counts
    stolen = sorted({card for _, card, _, _ in alerts})
    for card in stolen:
        spent, countries = (max(alert[column] for alert in alerts if alert[1] == card) for column in (2, 3))
        in_all = totals[card][1] / 100
        print(f"card {card}: {spent / 100:.2f} in ten minutes, in {countries} countries; {in_all:.2f} in all")
    database = duckdb.connect()
    database.register("payments", pa.Table.from_batches(made))
    expected = [database.sql(sql).fetchall() for sql in (ALERTS, TOTALS)]
    is_same = [alerts, sorted(totals.values())] == expected
    print(f"cards {stolen} are stolen; alerts and totals, each once, are those of a batch job: {is_same}")
    return 0 if is_same else 1


with tempfile.TemporaryDirectory() as temporary, bowstring.StreamCoordinator() as coordinator:
    sys.exit(main(coordinator.client(), temporary))
