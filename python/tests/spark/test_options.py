"""Options and routing, without Spark."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import bowstring
from bowstring.streaming.consumers import partitions_of
from bowstring.streaming.options import sink_options, source_options
from bowstring.streaming.routing import Routing
from bowstring.streaming.source import SourceOffset, StreamReader, limit_ends

GIVEN = {"url": "grpc://127.0.0.1:1", "stream": "s"}


def test_options_are_known_whatever_their_case() -> None:
    options = sink_options({"URL": "grpc://h:1", "path": "s", "maxbufferedbatches": "4", "appendTimeout": "5s"})
    assert (options.url, options.stream) == ("grpc://h:1", "s")
    assert (options.limits.max_buffered_batches, options.append_timeout) == (4, 5.0)
    assert options.compression == "none"
    assert sink_options(GIVEN | {"compression": "LZ4"}).compression == "lz4"
    assert (options.real_time, options.real_time_linger) == (None, None)
    options = sink_options(GIVEN | {"realTime": "False", "realTimeLinger": "0.02s"})
    assert (options.real_time, options.real_time_linger) == (False, 0.02)


def test_sparks_own_options_are_left_alone() -> None:
    assert sink_options(GIVEN | {"checkpointLocation": "/tmp/x", "asyncProgressTrackingEnabled": "false"}).stream == "s"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"partition": "2"}, r"does not know the option 'partition'; it knows: url, stream, .*partitions"),
        ({"partitions": "0"}, "whole number of at least 1"),
        ({"partitions": "many"}, "whole number"),
        ({"appendTimeout": "-1"}, "seconds above 0"),
        ({"appendTimeout": "inf"}, "seconds above 0"),
        ({"compression": "gzip"}, "use one of: none, auto, lz4, zstd"),
        ({"routing": "hash()"}, "use one of: spark, round_robin"),
        ({"epoch": "3"}, "needs option 'producer'"),
        ({"traceparent": "00-1"}, "no context of version 00"),
        ({"realTime": "auto"}, "true or false"),
        ({"realTimeLinger": "0"}, "seconds above 0"),
        ({"stream": ""}, "needs option 'stream'"),
        ({"url": ""}, "needs option 'url'"),
    ],
)
def test_a_sinks_bad_option_is_named(options: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sink_options(GIVEN | options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"maxRowsPerTrigger": "2"}, "it knows: .*maxBatchesPerTrigger"),
        ({"maxBatchesPerTrigger": "0"}, "at least 1"),
        ({"startingOffsets": "end"}, "earliest, latest, or JSON"),
        ({"startingOffsets": '{"0": -2}'}, "earliest, latest, or JSON"),
        ({"failOnProducerLost": "perhaps"}, "true or false"),
        ({"onOverflow": "drop"}, "use one of: hold, evict"),
        ({"onOverflow": "Skip"}, "use hold, or evict"),
    ],
)
def test_a_sources_bad_option_is_named(options: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        source_options(GIVEN | options)


@pytest.mark.parametrize(("given", "does"), [({}, "hold"), ({"onOverflow": "Evict"}, "evict")])
def test_the_subscription_of_a_query_does_what_the_source_says(given: dict[str, str], does: str) -> None:
    with bowstring.StreamCoordinator(http=None) as coordinator:
        client = coordinator.client()
        client.create_stream("s", max_buffered_batches=2)
        reader = StreamReader(source_options({"url": client.url, "stream": "s"} | given), None)
        begun = reader.initialOffset()
        (made,) = client.describe_stream("s")["subscriptions"]
        assert made["on_overflow"] == does
        if does == "evict":
            with client.producer("s") as producer:
                for number in range(4):
                    producer.append(pa.table({"n": [number]}))
            with pytest.raises(bowstring.SubscriptionEvicted):
                reader.latestOffset(begun, reader.getDefaultReadLimit())


def test_starting_offsets_are_read() -> None:
    assert source_options(GIVEN | {"startingOffsets": '{"0": 3, "1": 0}'}).start == {0: 3, 1: 0}


BATCH = pa.record_batch(
    {
        "i": pa.array(range(1000), pa.int32()),
        "s": [f"key {i % 97}" for i in range(1000)],
        "f": [i / 4 for i in range(1000)],
        "d": pa.array([dt.date(2024, 1, 1 + i % 28) for i in range(1000)]),
        "t": pa.array([dt.datetime(2024, 1, 1 + i % 28) for i in range(1000)]),
        "b": pa.array([None if i % 10 == 0 else i % 3 == 0 for i in range(1000)]),
        "n": pa.array([Decimal(i) / 4 for i in range(1000)]),
        "p": pa.array([i % 4 for i in range(1000)], pa.int8()),
    }
)


@pytest.mark.parametrize("columns", ["i", "s", "f", "d", "t", "b", "n", "i, s"])
def test_equal_keys_meet_in_one_partition_and_order_is_kept(columns: str) -> None:
    names = [name.strip() for name in columns.split(",")]
    parts = list(Routing.parse(f"hash({columns})").split(BATCH, 4, 0, 0))
    seen: dict[Any, int] = {}
    for partition, part in parts:
        assert part["i"].to_pylist() == sorted(part["i"].to_pylist())
        for key in zip(*(part[name].to_pylist() for name in names), strict=True):
            assert seen.setdefault(key, partition) == partition
    assert sum(part.num_rows for _, part in parts) == 1000
    assert len({partition for partition, _ in parts}) > 1


def test_a_keys_partition_does_not_depend_on_its_width_or_its_batch() -> None:
    def of(values: pa.Array) -> list[int]:
        routing = Routing.parse("hash(k)")
        batches = [pa.record_batch({"k": values.slice(i, 1)}) for i in range(len(values))]
        return [partition for batch in batches for partition, _ in routing.split(batch, 7, 0, 0)]

    assert of(pa.array([-5, 1, 2**31 - 1], pa.int32())) == of(pa.array([-5, 1, 2**31 - 1], pa.int64()))
    assert of(pa.array(["a", "b"])) == of(pa.array(["a", "b"], pa.large_string()))
    assert of(pa.array([0.0])) == of(pa.array([-0.0]))
    # Written down: a changed hash would send a running stream's keys elsewhere.
    assert of(pa.array([0, 1, 2, 3, None], pa.int64())) == [0, 6, 1, 4, 2]
    assert of(pa.array(["", "a", "bowstring"])) == [2, 1, 5]


def test_a_column_names_the_partition() -> None:
    parts = dict(Routing.parse("column:p").split(BATCH, 4, 0, 0))
    assert {partition: set(part["p"].to_pylist()) for partition, part in parts.items()} == {p: {p} for p in range(4)}


@pytest.mark.parametrize(("column", "reason"), [("i", "holds 0 to 999"), ("s", "an integer")])
def test_a_column_that_names_no_partition_is_refused(column: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(Routing.parse(f"column:{column}").split(BATCH, 4, 0, 0))


def test_whole_batches_go_by_task_or_in_turn() -> None:
    assert [p for p, _ in Routing.parse("spark").split(BATCH, 4, 6, 3)] == [2]
    assert [p for i in range(5) for p, _ in Routing.parse("round_robin").split(BATCH, 4, 2, i)] == [2, 3, 0, 1, 2]


def test_a_routing_column_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"needs the columns \['x'\]"):
        Routing.parse("hash(x)").check(["a"])


@pytest.mark.parametrize(("consumers", "partitions"), [(1, 1), (2, 5), (4, 4), (7, 3), (3, 7)])
def test_no_partition_is_left_out(consumers: int, partitions: int) -> None:
    owned = [p for i in range(consumers) for p in partitions_of(i, consumers, partitions)]
    assert sorted(owned) == list(range(partitions))


def description(ends: dict[int, int], bytes_per_batch: int) -> dict[str, Any]:
    return {
        "partitions": [{"partition": p, "end": end, "bytes_total": end * bytes_per_batch} for p, end in ends.items()]
    }


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        ({"maxBatchesPerTrigger": "4"}, {0: 2, 1: 2}),
        ({"maxBatchesPerTrigger": "1"}, {0: 1, 1: 0}),
        ({"maxBatchesPerTrigger": "20"}, {0: 10, 1: 3}),
        ({"maxBytesPerTrigger": "800"}, {0: 5, 1: 3}),
        ({"maxBytesPerTrigger": "1"}, {0: 1, 1: 0}),
        ({"maxBytesPerTrigger": "800", "maxBatchesPerTrigger": "2"}, {0: 1, 1: 1}),
    ],
)
def test_limits_give_each_partition_its_share_and_at_least_one_batch(
    limits: dict[str, str], taken: dict[int, int]
) -> None:
    options = source_options(GIVEN | limits)
    found = description({0: 10, 1: 3}, 100)
    assert limit_ends(found, {0: 0, 1: 0}, {0: 10, 1: 3}, options) == taken


def test_an_offset_says_the_same_after_the_checkpoint() -> None:
    offset = SourceOffset("s", "42", "sub", {0: 0, 1: 2}, {1: 5, 0: 3})
    assert SourceOffset.parse(offset.json(), "s") == offset
    assert list(offset.json()["ends"]) == ["0", "1"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [({"a": 1}, "none of bowstring's"), (SourceOffset("t", "1", "x", {}, {}).json(), "belongs to stream 't'")],
)
def test_another_sources_offset_is_refused(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SourceOffset.parse(value, "s")
