"""Flows over several streams: joins and unions give what DuckDB computes of all rows at once, also if killed."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

import bowstring
from bowstring import flows
from bowstring.flows import tumbling

from .children import CLICKS
from .flowing import asked, fill, kill_until_it_ends, refused, results, rows_of, source
from .support import wait_until


def both(client: bowstring.Client, batches: int = 40) -> pa.Table:
    """Two completed streams, "clicks" and "orders"; all rows, with the stream that each is from."""
    tables = [fill(client, seed, batches, 20, stream) for seed, stream in enumerate(["clicks", "orders"])]
    names = ["clicks", "orders"]
    return pa.concat_tables(
        table.append_column("stream", pa.array([name] * table.num_rows))
        for name, table in zip(names, tables, strict=True)
    )


def flow_of(client: bowstring.Client, stream: str) -> flows.Flow:
    return bowstring.flow(client.subscription(stream, "flow")).event_time("at", lateness="30s")


JOINED = """
    SELECT {} FROM clicks AS l JOIN clicks AS r
        ON l.page = r.page AND r."at" BETWEEN l."at" - INTERVAL 2 SECOND AND l."at" + INTERVAL 3 SECOND
    WHERE l.stream = 'clicks' AND r.stream = 'orders' AND r.x > {}"""
COUNTED = """
    SELECT time_bucket(INTERVAL 10 SECOND, "at", TIMESTAMPTZ '1970-01-01 00:00:00+00') AS window_start,
        window_start + INTERVAL 10 SECOND AS window_end, page, count(*) AS n FROM clicks GROUP BY ALL"""


@pytest.mark.parametrize(
    ("kind", "sql"), [("join", JOINED.format('l.page, l."at", l.x, r."at" AS at_right', 50)), ("union", COUNTED)]
)
def test_a_flow_over_two_streams_that_is_killed_has_the_results_of_a_batch_job(
    client: bowstring.Client, tmp_path: Path, kind: str, sql: str
) -> None:
    """Promise: a consumer that stores its offset with its result is exactly once."""
    rows = both(client, batches=150)
    # Nobody reads it before the end.
    client.create_stream("results", max_buffered_batches=10_000)
    kill_until_it_ends(random.Random(kind), kind, client.url, str(tmp_path / "state"))
    expected = asked(rows, sql)
    assert len(expected) > 50
    assert rows_of(results(client)) == expected


def test_a_join_has_the_columns_of_both_sides(client: bowstring.Client) -> None:
    rows = both(client)
    renamed = flow_of(client, "orders").map('page AS "where"', '"at"', "x AS price").filter("price > 50")
    joined = flow_of(client, "clicks").join(renamed, on={"page": '"where"'}, within=("-2s", "3s"))
    joined.filter("price > 60").to("results").run()
    found = results(client)
    assert found.schema.names == ["page", "at", "x", "where", "at_right", "price"]
    columns = 'l.page, l."at", l.x, r.page AS "where", r."at" AS at_right, r.x AS price'
    assert rows_of(found) == asked(rows, JOINED.format(columns, 60))


def test_a_stream_that_has_ended_holds_nobody_back(client: bowstring.Client) -> None:
    fill(client, 3, batches=4)
    client.create_stream("orders", schema=CLICKS)
    seen: list[pa.RecordBatch] = []
    union = source(client).union(bowstring.flow(client.subscription("orders", "flow"))).event_time("at")
    job = union.key_by("page").window(tumbling("1s")).aggregate("count(*) AS n").to(seen.append, save_every="10ms")
    at = 1_760_000_100_000
    with client.producer("orders") as producer, job:
        for second in range(3):
            producer.append(pa.RecordBatch.from_pylist([{"page": "/end", "at": at + second * 1000}], schema=CLICKS))
        wait_until(lambda: any("/end" in batch["page"].to_pylist() for batch in seen))
        producer.complete()
        assert job.wait(30)
    assert sum(sum(batch["n"].to_pylist()) for batch in seen) == 4 * 50 + 3 - job.late_rows


def test_unions_and_joins_that_cannot_be_are_refused(client: bowstring.Client) -> None:
    both(client, batches=1)
    clicks, orders = flow_of(client, "clicks"), flow_of(client, "orders")
    refused(lambda: clicks.union(clicks), "comes twice")
    refused(lambda: clicks.union(flow_of(client, "orders").event_time("at")), "different event times")
    counted = clicks.union(orders.map("page", '"at"')).key_by("page").aggregate("count(*) AS n")
    refused(counted.to(print).run, "at: timestamp[ms, tz=UTC] (orders)", "map one of them")
    refused(lambda: source(client).join(orders, "page", 1), "event_time on both sides")
    refused(lambda: clicks.late_to("late").join(orders, "page", 1), "late_to")
    refused(lambda: clicks.join(orders, "page", 1).late_to("late"), "late_to")
    refused(lambda: clicks.join(orders, "page", 1).join(orders, "page", 1), "after aggregate, reduce or join")
    refused(lambda: clicks.join(orders, "page", "-1s"), "within")
    refused(clicks.join(orders, "page", ("2s", "1s")).to(print).run, "none")
    refused(clicks.join(orders, {"page": "x"}, 1).to(print).run, "cast")
    refused(clicks.join(orders, "nobody", 1).to(print).run, "nobody")
    refused(clicks.join(orders.map("page", "x"), "page", 1).to(print).run, "at")
