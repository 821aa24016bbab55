"""Streams of clicks for flows, what DuckDB says of them, and flows that are killed again and again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import bowstring
from bowstring import flows

from .children import CLICKS
from .support import CHILDREN, Child


def clicks(draw: random.Random, batches: int, rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of two partitions, whose times go forward by a second each, in some disorder."""
    for number in range(batches):
        at = [int(1000 * (1_760_000_000 + number + draw.uniform(-20, 0))) for _ in range(rows)]
        data = {
            "page": [draw.choice(["/", "/buy", "/help", None]) for _ in range(rows)],
            "at": pa.array(at, CLICKS.field("at").type),
            "x": [draw.choice([None, draw.randrange(-5, 100)]) for _ in range(rows)],
        }
        yield number % 2, pa.RecordBatch.from_pydict(data, schema=CLICKS)


def fill(client: bowstring.Client, seed: int, batches: int = 40, rows: int = 50, stream: str = "clicks") -> pa.Table:
    """A completed stream of clicks; all of its rows."""
    client.create_stream(stream, schema=CLICKS, partitions=2, max_buffered_batches=10_000)
    made = []
    with client.producer(stream) as producer:
        for partition, batch in clicks(random.Random(seed), batches, rows):
            producer.append(batch, partition=partition)
            made.append(batch)
        producer.complete()
    return pa.Table.from_batches(made)


def source(client: bowstring.Client) -> flows.Flow:
    return bowstring.flow(client.subscription("clicks", "flow"))


def results(client: bowstring.Client, stream: str = "results") -> pa.Table:
    """All rows of a completed stream."""
    with client.iterator(stream, subscription=None, timeout=30) as iterator:
        return pa.Table.from_batches(list(iterator), iterator.schema)


def lag(client: bowstring.Client) -> int | None:
    """Batches that the flow's subscription has not acked; None before there is one."""
    return next((one.total.batches for one in client.lag("clicks") if one.subscription == "flow"), None)


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """In an order of their own."""
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def asked(clicks: pa.Table, sql: str) -> list[tuple[Any, ...]]:
    """DuckDB's answer."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("clicks", clicks)
    return rows_of(connection.sql(sql).to_arrow_table())


def refused(build: Callable[[], object], *words: str) -> None:
    with pytest.raises(bowstring.InvalidArgument) as raised:
        build()
    assert all(word in str(raised.value) for word in words), str(raised.value)


def kill_until_it_ends(draw: random.Random, *arguments: str) -> None:
    """Runs a function of `children` that says when it is ready, and kills it eight times before it may end."""
    killed = 0
    while True:
        child = Child(str(CHILDREN), *arguments)
        try:
            assert child.line() == "ready"
            if killed < 8:
                time.sleep(draw.uniform(0.02, 0.5))
                child.kill()
                killed += child.process.returncode != 0
            if child.process.wait(120) == 0:
                break
            assert child.process.returncode == -signal.SIGKILL, "".join(child.errors)
        finally:
            child.end()
    assert killed >= 5
