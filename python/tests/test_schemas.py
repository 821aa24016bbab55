"""A stream's schema has versions, and a consumer reads all of them as one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import bowstring

from .support import Served

OLD = pa.schema({"id": pa.int32()})
NEW = pa.schema({"id": pa.int64(), "name": pa.string()})


def old(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int32())})


def new(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"name": [f"n{one}" for one in ids], "id": pa.array(ids, pa.int64())})


def append(client: bowstring.Client, *batches: pa.RecordBatch) -> None:
    """By a producer of its own each."""
    for batch in batches:
        with client.producer("s") as producer:
            producer.append(batch)


def rows(client: bowstring.Client, **options: Any) -> list[dict[str, Any]]:
    """All rows that are there; of one schema, which the iterator tells before the first batch."""
    with client.iterator("s", subscription=None, follow=False, **options) as iterator:
        schema = iterator.schema
        found = []
        for batch in iterator:
            assert batch.schema == schema
            found += batch.to_pylist()
    return found


def test_who_runs_goes_on_and_who_comes_gets_all(client: bowstring.Client) -> None:
    client.create_stream("s", schema_policy="widening")
    client.subscribe("s", "holds")
    append(client, old(1), old(2))
    with client.iterator("s", subscription="running") as running:
        assert next(running).schema == OLD
        append(client, new(3), old(4))
        assert [next(running).to_pylist() for _ in range(3)] == [[{"id": 2}], [{"id": 3}], [{"id": 4}]]
    described = client.describe_stream("s")
    assert (described["schema"], described["schema_versions"]) == (NEW, 2)
    assert described["options"]["schema_policy"] == "widening"
    late = [{"id": 1, "name": None}, {"id": 2, "name": None}, {"id": 3, "name": "n3"}, {"id": 4, "name": None}]
    assert rows(client) == late
    with client.iterator("s", subscription=None, follow=False) as iterator:
        table = pa.RecordBatchReader.from_stream(iterator).read_all()
    assert table.to_pylist() == late


def test_a_wider_value_that_does_not_fit_is_named_and_nothing_is_lost(client: bowstring.Client) -> None:
    client.create_stream("s", schema_policy="widening")
    append(client, old(1))
    with client.iterator("s") as iterator:
        next(iterator)
        append(client, new(2), new(1 << 40))
        assert next(iterator).schema == OLD
        with pytest.raises(bowstring.SchemaMismatch, match=r"batch 2 .*\"id\".*1099511627776"):
            next(iterator)
    with client.iterator("s") as iterator:
        assert next(iterator)["id"].to_pylist() == [1 << 40]


def test_what_the_policy_forbids_is_refused_naming_the_columns(client: bowstring.Client) -> None:
    client.create_stream("s", schema_policy="additive")
    append(client, old(1))
    with pytest.raises(bowstring.SchemaMismatch, match=r'additive: column "id": the stream has Int32.*Int64'):
        append(client, new(2))
    with pytest.raises(bowstring.InvalidArgument, match="strict, additive, widening"):
        client.create_stream("t", schema_policy="loose")
    with pytest.raises(bowstring.StreamExists, match="schema_policy is additive, not strict"):
        client.create_stream("s", if_not_exists=True)


def test_names_become_one(client: bowstring.Client) -> None:
    client.create_stream("s", schema_policy="additive")
    for number, name in enumerate(["CustomerID", "customerId", "CustID"]):
        append(client, pa.record_batch({name: [number]}))
    aliases = {"customer_id": ("CustomerID", "customerId", "CustID")}
    assert rows(client, aliases=aliases) == [{"customer_id": 0}, {"customer_id": 1}, {"customer_id": 2}]
    assert rows(client, schema=pa.schema({"id": pa.int8()}), aliases={"id": "CustID"}) == [
        {"id": None},
        {"id": None},
        {"id": 2},
    ]


@pytest.mark.parametrize(
    ("strings", "text", "data"),
    [
        ("plain", pa.string(), pa.binary()),
        ("large", pa.large_string(), pa.large_binary()),
        ("view", pa.string_view(), pa.binary_view()),
    ],
)
def test_strings_lie_as_the_consumer_wants_them(
    client: bowstring.Client, strings: str, text: pa.DataType, data: pa.DataType
) -> None:
    batch = pa.record_batch(
        {"t": ["a", None, "a longer one than a view holds"], "b": [b"x", b"", None], "n": [1, 2, 3]}
    )
    append(client, batch)
    with client.iterator("s", strings=strings) as iterator:
        found = next(iterator)
    assert found.schema == pa.schema({"t": text, "b": data, "n": pa.int64()})
    assert found.to_pylist() == batch.to_pylist()


def test_times_are_the_same_instants_in_another_zone_and_unit(client: bowstring.Client) -> None:
    at = datetime(2026, 11, 22, 10, 30, 0, 1500, tzinfo=timezone.utc)
    append(client, pa.record_batch({"at": pa.array([at], pa.timestamp("us", "UTC"))}))
    with client.iterator("s", time_zone="Europe/Berlin", time_unit="ms") as iterator:
        found = next(iterator)
    assert found.schema.field("at").type == pa.timestamp("ms", "Europe/Berlin")
    assert found["at"].cast(pa.timestamp("ms", "UTC")).to_pylist() == [at - timedelta(microseconds=500)]


def test_a_schema_is_pinned_and_travels_with_a_pickled_iterator(client: bowstring.Client) -> None:
    client.create_stream("s", schema_policy="widening")
    client.subscribe("s", "holds")
    pinned = pa.schema({"name": pa.large_string(), "id": pa.float64()})
    iterator = client.iterator("s", schema=pinned, aliases={"name": ["title"]})
    assert iterator.schema == pinned, "known before the stream has one"
    append(client, old(1), new(2))
    iterator.close()
    with pickle.loads(pickle.dumps(iterator)) as copy:
        assert [next(copy).to_pylist() for _ in range(2)] == [[{"name": None, "id": 1.0}], [{"name": "n2", "id": 2.0}]]
        assert copy.schema == pinned
    assert [batch.schema for batch in client.read("s", 0, 0, 2, schema=pinned)] == [pinned, pinned]


def test_what_cannot_be_had_is_refused_before_the_first_batch(client: bowstring.Client) -> None:
    append(client, new(1))
    for options, text in [
        ({"schema": pa.schema({"name": pa.int64()})}, '"name"'),
        ({"schema": pa.schema({"nmae": pa.string()})}, 'no column "nmae"'),
        ({"schema": NEW, "strings": "large"}, "leave out strings"),
        ({"strings": "wide"}, '"plain", "large" or "view"'),
        ({"time_unit": "min"}, '"s", "ms", "us" or "ns"'),
        ({"aliases": {"a": ["x"], "b": ["x"]}}, "twice"),
    ]:
        with pytest.raises(bowstring.InvalidArgument, match=text):
            rows(client, **options)


def test_a_stock_client_gets_one_schema_from_each_endpoint(
    coordinator: bowstring.StreamCoordinator, client: bowstring.Client
) -> None:
    client.create_stream("s", schema_policy="additive")
    append(client, old(1), old(2), pa.record_batch({"id": pa.array([3], pa.int32()), "name": ["c"]}), old(4))
    with flight.connect(coordinator.url) as stock:
        info = stock.get_flight_info(flight.FlightDescriptor.for_path("s"))
        assert info.schema == pa.schema({"id": pa.int32(), "name": pa.string()})
        tables = [stock.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
        assert [table.column_names for table in tables] == [["id"], ["id", "name"], ["id"]]
        whole = pa.concat_tables(tables, promote_options="default")
        assert whole["id"].to_pylist() == [1, 2, 3, 4]
        ticket = flight.Ticket(json.dumps({"stream": "s", "follow": True}).encode())
        with pytest.raises(pa.ArrowInvalid, match=r'\[schema_mismatch\].*"0": 2'):
            stock.do_get(ticket).read_all()


def test_versions_survive_a_kill(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve("--data-dir", str(tmp_path))
    client = bowstring.connect(served.url)
    client.create_stream("s", schema_policy="widening")
    client.subscribe("s", "holds")
    append(client, old(1), new(1 << 40), old(3))
    expected = [{"id": 1, "name": None}, {"id": 1 << 40, "name": f"n{1 << 40}"}, {"id": 3, "name": None}]
    assert rows(client) == expected
    served.child.kill()
    client = bowstring.connect(serve("--data-dir", str(tmp_path)).url)
    assert rows(client) == expected
    assert client.describe_stream("s")["schema_versions"] == 2
    with pytest.raises(bowstring.SchemaMismatch, match="widening"):
        append(client, pa.record_batch({"id": ["text"]}))
