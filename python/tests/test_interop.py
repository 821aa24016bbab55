"""Stock Arrow Flight clients, and bowstring's own on the other end."""

from __future__ import annotations

import json
import threading

import pyarrow as pa
import pytest
from pyarrow import flight

import bowstring

from .support import ids, numbered, wait_until


def path(*parts: str) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_path(*parts)


def command(**fields: object) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(json.dumps(fields))


def put(stock: flight.FlightClient, descriptor: flight.FlightDescriptor, *batches: pa.RecordBatch) -> None:
    writer, _ = stock.do_put(descriptor, batches[0].schema)
    for batch in batches:
        writer.write_batch(batch)
    writer.close()


def read_all(stock: flight.FlightClient, descriptor: flight.FlightDescriptor) -> list[pa.Table]:
    """What each endpoint of the descriptor gives."""
    return [stock.do_get(endpoint.ticket).read_all() for endpoint in stock.get_flight_info(descriptor).endpoints]


def action(stock: flight.FlightClient, name: str, **body: object) -> object:
    (result,) = stock.do_action(flight.Action(name, json.dumps(body).encode()))
    return json.loads(result.body.to_pybytes())


def everything() -> pa.RecordBatch:
    """A column of each kind that Arrow has and Flight carries."""
    columns = {
        "int": pa.array([1, None, 3], pa.int16()),
        "float": pa.array([1.5, float("inf"), None]),
        "bool": pa.array([True, None, False]),
        "text": pa.array(["a", None, "ü" * 1000]),
        "large": pa.array(["x", "y", None], pa.large_string()),
        "view": pa.array(["short", "longer than twelve bytes", None], pa.string_view()),
        "bytes": pa.array([b"\0\1", None, b""]),
        "fixed": pa.array([b"abc", None, b"def"], pa.binary(3)),
        "decimal": pa.array([123, None, -456], pa.int32()).cast(pa.decimal128(20, 2)),
        "date": pa.array([1, None, 3], pa.date32()),
        "time": pa.array([1, None, 3], pa.time64("us")),
        "stamp": pa.array([1, None, 3], pa.timestamp("us", "Europe/Berlin")),
        "span": pa.array([1, None, 3], pa.duration("ms")),
        "list": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
        "union": pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["u"])]
        ),
        "category": pa.array(["red", None, "blue"]).dictionary_encode(),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["r", "s"])),
        "null": pa.nulls(3),
    }
    return pa.record_batch(columns)


def test_a_table_comes_back_identical_through_paths_alone(stock: flight.FlightClient) -> None:
    batch = everything()
    put(stock, path("types"), batch, batch.slice(1, 1), batch.slice(0, 0))
    (table,) = read_all(stock, path("types"))
    table.validate(full=True)
    assert table.schema.equals(batch.schema, check_metadata=True)
    assert table.num_rows == 4
    assert table.slice(0, 3).to_pylist() == batch.to_pylist()
    assert table.slice(3).to_pylist() == batch.slice(1, 1).to_pylist()


def test_every_type_comes_back_identical_through_bowstrings_own_client(client: bowstring.Client) -> None:
    batch = everything()
    with client.producer("types") as producer:
        producer.append(batch)
        producer.append(batch.slice(1, 2))
        producer.complete()
    first, second = list(client.iterator("types"))
    assert first.schema.equals(batch.schema)
    assert first.to_pylist() == batch.to_pylist()
    assert second.to_pylist() == batch.slice(1, 2).to_pylist()


def test_a_path_with_a_partition_appends_there_and_reads_only_that(
    stock: flight.FlightClient, client: bowstring.Client
) -> None:
    client.create_stream("numbers", partitions=3)
    put(stock, path("numbers", "2"), numbered(0), numbered(10))
    put(stock, path("numbers", "0"), numbered(20))
    assert [ids(table.to_batches()) for table in read_all(stock, path("numbers"))] == [
        list(range(20, 30)),
        [],
        list(range(20)),
    ]
    (only,) = read_all(stock, path("numbers", "2"))
    assert ids(only.to_batches()) == list(range(20))
    put(stock, path("numbers"), *(numbered(number * 10) for number in range(3, 9)))
    ends = [one["end"] for one in client.describe_stream("numbers")["partitions"]]
    assert sorted(ends) == [2, 3, 4], "without a partition the batches take turns"
    assert sum(ends) == 9


def test_schemas_flights_and_actions_can_be_looked_up(stock: flight.FlightClient, client: bowstring.Client) -> None:
    put(stock, path("one"), numbered(0))
    put(stock, path("other"), everything())
    client.create_stream("empty", partitions=4)
    assert stock.get_schema(path("one")).schema == numbered(0).schema
    assert stock.get_schema(command(stream="other")).schema == everything().schema
    assert stock.get_flight_info(path("one")).schema == numbered(0).schema
    flights = {info.descriptor.path[0]: len(info.endpoints) for info in stock.list_flights()}
    assert flights == {b"one": 1, b"other": 1, b"empty": 4}
    assert [info.descriptor.path for info in stock.list_flights(b"o")] == [[b"one"], [b"other"]]
    names = {one.type for one in stock.list_actions()}
    assert {"complete", "fail", "subscribe", "ack", "stats", "open_epoch", "commit_epoch"} <= names
    assert action(stock, "describe", stream="one")["partitions"][0]["end"] == 1
    with pytest.raises(pa.ArrowNotImplementedError, match="ListActions"):
        action(stock, "dance")
    with pytest.raises(KeyError, match=r"\[stream_not_found\]"):
        stock.get_schema(path("none"))
    with pytest.raises(pa.ArrowInvalid, match="no schema yet"):
        stock.get_schema(path("empty"))


def test_a_following_read_ends_when_the_stream_completes(stock: flight.FlightClient, client: bowstring.Client) -> None:
    put(stock, path("numbers"), numbered(0))
    got: list[int] = []

    def follow() -> None:
        ticket = flight.Ticket(json.dumps({"stream": "numbers", "follow": True}))
        for chunk in stock.do_get(ticket):
            got.extend(ids([chunk.data]))

    following = threading.Thread(target=follow)
    following.start()
    wait_until(lambda: got == list(range(10)))
    put(stock, path("numbers"), numbered(10), numbered(20))
    wait_until(lambda: got == list(range(30)))
    assert following.is_alive()
    action(stock, "complete", stream="numbers")
    following.join(5)
    assert not following.is_alive()
    assert client.describe_stream("numbers")["state"] == "completed"


def test_a_following_read_of_a_failed_stream_gets_what_was_there_and_the_reason(stock: flight.FlightClient) -> None:
    put(stock, path("numbers"), numbered(0), numbered(10))
    action(stock, "fail", stream="numbers", reason="the source burnt down")
    got: list[int] = []
    with pytest.raises(pa.ArrowException, match="the source burnt down") as caught:
        for chunk in stock.do_get(flight.Ticket(b'{"stream": "numbers", "follow": true}')):
            got.extend(ids([chunk.data]))
    assert "[stream_failed]" in str(caught.value)
    assert got == list(range(20))


def test_producers_with_different_dictionaries_share_a_stream(
    stock: flight.FlightClient, client: bowstring.Client
) -> None:
    kind = pa.dictionary(pa.int32(), pa.string())

    def batch(words: list[str | None]) -> pa.RecordBatch:
        return pa.record_batch({"id": list(range(len(words))), "word": pa.array(words).dictionary_encode().cast(kind)})

    first, second, third = batch(["a", "b", "a"]), batch(["x", None, "b", "y"]), batch(["c"] * 3)
    one, _ = stock.do_put(path("words"), first.schema)
    two, _ = stock.do_put(path("words"), second.schema)
    one.write_batch(first)
    two.write_batch(second)
    one.write_batch(third)
    two.write_batch(second.slice(2, 2))
    one.close()
    two.close()
    with client.producer("words") as producer:
        producer.append(batch(["z", "a"]))
        producer.append(first)
        producer.complete()

    expected = sorted(
        [["a", "b", "a"], ["x", None, "b", "y"], ["c"] * 3, ["b", "y"], ["z", "a"], ["a", "b", "a"]], key=str
    )
    reader = stock.do_get(flight.Ticket(b'{"stream": "words"}'))
    stock_batches = [chunk.data for chunk in reader]
    own_batches = list(client.iterator("words"))
    for batches in (stock_batches, own_batches):
        assert all(one.schema.field("word").type == kind for one in batches)
        assert sorted((one["word"].to_pylist() for one in batches), key=str) == expected


def test_what_a_stock_client_attaches_reaches_the_reader(stock: flight.FlightClient) -> None:
    writer, _ = stock.do_put(path("numbers"), numbered(0).schema)
    writer.write_with_metadata(numbered(0), b"my own words")
    writer.close()
    chunk = next(iter(stock.do_get(flight.Ticket(b'{"stream": "numbers"}'))))
    assert b"my own words" in chunk.app_metadata.to_pybytes()


def test_a_subscription_of_a_stock_client_goes_on_where_its_acks_are(
    stock: flight.FlightClient, client: bowstring.Client
) -> None:
    put(stock, path("numbers"), *(numbered(number * 10) for number in range(5)))
    action(stock, "subscribe", stream="numbers", subscription="s")
    action(stock, "ack", stream="numbers", subscription="s", offsets={"0": 2})
    ticket = flight.Ticket(b'{"stream": "numbers", "subscription": "s"}')
    assert ids(stock.do_get(ticket).read_all().to_batches()) == list(range(20, 50))
    assert client.describe_stream("numbers")["partitions"][0]["start"] == 2, "the acked ones are gone"
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers", subscription="s")) == list(range(20, 50))


def test_a_stock_appender_waits_at_the_limit_until_its_deadline(
    stock: flight.FlightClient, client: bowstring.Client
) -> None:
    client.create_stream("numbers", max_buffered_batches=2)
    writer, _ = stock.do_put(path("numbers"), numbered(0).schema, options=flight.FlightCallOptions(timeout=0.5))
    with pytest.raises((pa.ArrowException, flight.FlightError)):
        for number in range(5):
            writer.write_batch(numbered(number * 10))
        writer.close()
    wait_until(lambda: not client.describe_stream("numbers")["waiting"])
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(20))
