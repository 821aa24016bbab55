"""Subscriptions that ask a query: their answers are DuckDB's to the same question over all rows."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import bowstring

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("who", pa.int32()),
        ("page", pa.string()),
        ("price", pa.float64()),
        ("seen", pa.timestamp("us")),
        ("is_new", pa.bool_()),
        ("agent", pa.dictionary(pa.int32(), pa.string())),
    ]
)

#: Queries that both understand, in the words of both.
QUERIES = [
    "SELECT * FROM clicks",
    "SELECT id, page FROM clicks",
    "SELECT page, id, page AS again FROM clicks",
    "SELECT id, agent FROM clicks WHERE who < 5",
    "SELECT id, who + 1 AS next, price * 2 AS twice FROM clicks WHERE price > 50.0 OR price IS NULL",
    "SELECT id FROM clicks WHERE page LIKE '/buy%' AND NOT is_new",
    "SELECT id, upper(page) AS page, substr(page, 2, 3) AS part, length(page) AS length FROM clicks",
    "SELECT id, coalesce(who, -1) AS who, CASE WHEN who > 6 THEN 'many' ELSE 'few' END AS size FROM clicks",
    "SELECT id, date_trunc('hour', seen) AS hour FROM clicks WHERE seen >= TIMESTAMP '2026-11-21 06:00:00'",
    "SELECT id, concat(page, '!', agent) AS pair FROM clicks WHERE agent IN ('curl', 'Mozilla')",
    "SELECT id, TRY_CAST(substr(page, 6) AS BIGINT) AS number FROM clicks WHERE page IS NOT NULL",
    "SELECT id, price / 2 AS half FROM clicks WHERE who IS NOT NULL AND price / 2 < 20",
    "SELECT id FROM clicks WHERE abs(price - 50) < 10 AND who BETWEEN 2 AND 7",
    "SELECT id, 7 AS seven FROM clicks WHERE who = 100",
]


def rows(draw: random.Random, first: int, count: int) -> pa.RecordBatch:
    """Random clicks, one in eight values null."""

    def maybe(value: object) -> object:
        return None if draw.random() < 0.125 else value

    start = datetime(2026, 11, 21)
    agents = ["Mozilla", "curl", "Safari", "".join(draw.choices(string.ascii_letters, k=3))]
    data = [
        {
            "id": first + row,
            "who": maybe(draw.randrange(10)),
            "page": maybe(draw.choice(["/", "/buy/", "/über/"]) + str(draw.randrange(100))),
            "price": maybe(round(draw.uniform(0, 100), 2)),
            "seen": maybe(start + timedelta(seconds=draw.randrange(86_400))),
            "is_new": maybe(draw.random() < 0.5),
            "agent": maybe(draw.choice(agents)),
        }
        for row in range(count)
    ]
    return pa.RecordBatch.from_pylist(data, schema=SCHEMA)


def fill(client: bowstring.Client, seed: int, compression: str = "none") -> pa.Table:
    """A stream of batches of all sizes, an empty one among them; all of their rows."""
    draw = random.Random(seed)
    batches, first = [], 0
    client.create_stream("clicks", schema=SCHEMA, partitions=2)
    with client.producer("clicks", compression=compression) as producer:
        for size in [0, 1, 7, *(draw.randrange(200) for _ in range(12)), 20_000]:
            batches.append(rows(draw, first, size))
            first += size
            producer.append(batches[-1], partition=draw.randrange(2))
        producer.complete()
    return pa.Table.from_batches(batches)


def sorted_rows(table: pa.Table) -> list[dict[str, object]]:
    return table.sort_by("id").to_pylist() if "id" in table.column_names else table.to_pylist()


@pytest.mark.parametrize(("seed", "compression"), [(1, "none"), (2, "zstd"), (3, "lz4")])
def test_answers_are_those_of_duckdb_to_all_rows(client: bowstring.Client, seed: int, compression: str) -> None:
    clicks = fill(client, seed, compression)
    # All of them before any is acked: what nobody else holds is dropped then.
    for number, query in enumerate(QUERIES):
        client.subscribe("clicks", f"q{number}", query=query)
    for number, query in enumerate(QUERIES):
        answers = [pa.record_batch(batch) for batch in client.iterator("clicks", subscription=f"q{number}")]
        assert len(answers) == 16, "an answer for each batch"
        found = pa.Table.from_batches(answers)
        with duckdb.connect() as database:
            database.register("clicks", clicks)
            expected = database.sql(query).to_arrow_table()
        assert found.column_names == expected.column_names, query
        assert sorted_rows(found) == sorted_rows(expected), query


def test_answers_are_the_same_when_batches_come_again(client: bowstring.Client) -> None:
    fill(client, 4)
    query = QUERIES[6]
    first = client.iterator("clicks", subscription="again", query=query, auto_ack=False)
    before = [
        (handle.partition, handle.offset, pa.record_batch(handle.batch)) for handle in first.batches_with_offsets()
    ]
    again = client.iterator("clicks", subscription="again", auto_ack=False)
    after = [
        (handle.partition, handle.offset, pa.record_batch(handle.batch)) for handle in again.batches_with_offsets()
    ]
    assert sorted(before, key=lambda one: one[:2]) == sorted(after, key=lambda one: one[:2])


def test_workers_share_the_rows_that_are_asked_for(client: bowstring.Client) -> None:
    clicks = fill(client, 5)
    query = "SELECT id FROM clicks WHERE who = 3"
    found = []
    members = [
        client.iterator("clicks", subscription="team", mode="shared", max_rows=50, query=query, timeout=20)
        for _ in range(3)
    ]
    for member in members:
        for batch in member:
            found += pa.record_batch(batch).column("id").to_pylist()
    expected = [row["id"] for row in clicks.to_pylist() if row["who"] == 3]
    assert sorted(found) == expected


def test_a_wrong_query_is_an_invalid_argument_and_a_failed_one_names_its_batch(client: bowstring.Client) -> None:
    fill(client, 6)
    with pytest.raises(bowstring.InvalidArgument, match="no_such"):
        client.subscribe("clicks", "wrong", query="SELECT no_such FROM clicks")
    with pytest.raises(bowstring.InvalidArgument, match="GROUP BY"):
        client.subscribe("clicks", "wrong", query="SELECT page FROM clicks GROUP BY page")
    described = client.subscribe("clicks", "parts", query="SELECT id, 1 / (who - who) AS part FROM clicks")
    assert described["query"] == "SELECT id, 1 / (who - who) AS part FROM clicks"
    with pytest.raises(bowstring.QueryFailed, match=r"partition \d, offset \d+ has no answer .*Divide by zero"):
        list(client.iterator("clicks", subscription="parts"))
    with pytest.raises(bowstring.InvalidArgument, match="asks"):
        client.subscribe("clicks", "parts", query="SELECT id FROM clicks")


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[tuple[bowstring.Client, bowstring.StreamCoordinator]]:
    """A durable coordinator that was started again after a subscription with a query was made and half read."""
    with bowstring.StreamCoordinator(data_dir=tmp_path) as coordinator:
        client = bowstring.connect(coordinator.url)
        fill(client, 7)
        iterator = client.iterator("clicks", subscription="late", query="SELECT id FROM clicks WHERE who < 5")
        next(iterator)
        iterator.close()
    with bowstring.StreamCoordinator(data_dir=tmp_path) as coordinator:
        yield bowstring.connect(coordinator.url), coordinator


def test_a_query_is_there_after_a_restart(restarted: tuple[bowstring.Client, bowstring.StreamCoordinator]) -> None:
    client, _ = restarted
    iterator = client.iterator("clicks", subscription="late", timeout=20)
    answers = [pa.record_batch(batch) for batch in iterator]
    assert answers
    assert {tuple(answer.schema.names) for answer in answers} == {("id",)}
    assert client.describe_stream("clicks")["subscriptions"][0]["query"].endswith("who < 5")
