"""Where subscriptions and iterators start, and what a seek says that it moves."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest

import bowstring
from bowstring.starts import Start, start_text

HOUR = timedelta(hours=1)


@pytest.fixture
def client() -> Iterator[bowstring.Client]:
    """A client of a coordinator with stream `s`: five batches of two rows in partition 0, three in partition 1."""
    with bowstring.StreamCoordinator(http=None) as coordinator:
        client = coordinator.client()
        client.create_stream("s", partitions=2)
        client.subscribe("s", "holds")
        for partition, numbers in [(0, range(5)), (1, range(10, 13))]:
            with client.producer("s", partition=partition) as producer:
                for number in numbers:
                    producer.append(pa.table({"n": [number, number]}))
        yield client


def cursors(description: dict[str, object]) -> list[int]:
    partitions = description["partitions"]
    assert isinstance(partitions, list)
    return [place["acked"] for place in partitions]


def numbers(client: bowstring.Client, start: Start) -> list[int]:
    with client.iterator("s", subscription=None, start=start, follow=False) as batches:
        return sorted(batch["n"][0].as_py() for batch in batches)


def commit(client: bowstring.Client, producer: str, epoch: int) -> None:
    writer = client.writer("s", producer=producer, run="r", epoch=epoch, task=0, attempt=0)
    writer.append(pa.table({"n": [100 + epoch]}), partition=0)
    receipt = writer.finish()
    assert receipt is not None
    assert client.commit_epoch("s", producer, "r", epoch, [receipt]) == "committed"


@pytest.mark.parametrize(
    ("start", "text"),
    [
        ("latest", "latest"),
        ({0: 100, 1: 50}, "0:100,1:50"),
        ({}, "offsets"),
        (bowstring.Epoch(7), "epoch:7"),
        (bowstring.Epoch(7, producer="a@b"), "epoch:7@a@b"),
        (datetime(2026, 11, 1, 12, tzinfo=timezone.utc), "2026-11-01T12:00:00+00:00"),
        (datetime(2026, 11, 1, 14, 0, 0, 5, tzinfo=timezone(2 * HOUR)), "2026-11-01T12:00:00.000005+00:00"),
    ],
)
def test_every_start_has_a_text(start: Start, text: str) -> None:
    assert start_text(start) == text


@pytest.mark.parametrize("start", [datetime(2026, 11, 1), 7, None])
def test_what_is_no_start_says_what_one_is(start: object) -> None:
    with pytest.raises(bowstring.InvalidArgument, match=r"give one with tzinfo|use 'earliest'"):
        start_text(start)  # type: ignore[arg-type]


def test_a_subscription_starts_at_offsets_a_time_or_a_text(client: bowstring.Client) -> None:
    now = datetime.now(timezone.utc)
    for number, (start, expected) in enumerate(
        [
            ("earliest", [0, 0]),
            ("latest", [5, 3]),
            ({1: 2}, [0, 2]),
            ({}, [0, 0]),
            ("0:4", [4, 0]),
            (now - HOUR, [0, 0]),
            (now.astimezone(timezone(-5 * HOUR)) - HOUR, [0, 0]),
            (now + HOUR, [5, 3]),
        ]
    ):
        assert cursors(client.subscribe("s", f"a{number}", start)) == expected, start
    with pytest.raises(bowstring.InvalidArgument, match=r"no start; write earliest, latest, partitions and offsets"):
        client.subscribe("s", "b", start="first")


def test_an_iterator_starts_there_with_a_subscription_or_without(client: bowstring.Client) -> None:
    assert numbers(client, {0: 4}) == [4, 10, 11, 12]
    assert numbers(client, datetime.now(timezone.utc) + HOUR) == []
    iterator = client.iterator("s", subscription="new", start={0: 5, 1: 1}, follow=False)
    with pickle.loads(pickle.dumps(iterator)) as batches:
        assert [batch["n"][0].as_py() for batch in batches] == [11, 12]


def test_a_start_at_an_epoch(client: bowstring.Client) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="no producer has committed epochs"):
        client.subscribe("s", "none", start=bowstring.Epoch(0))
    for epoch in range(3):
        commit(client, "spark", epoch)
    assert numbers(client, bowstring.Epoch(1)) == [101, 102]
    assert cursors(client.subscribe("s", "next", bowstring.Epoch(3, "spark"))) == [8, 3]
    with pytest.raises(bowstring.OffsetError, match="start at epoch 3 at most") as ahead:
        client.subscribe("s", "ahead", bowstring.Epoch(4))
    assert ahead.value.code == "offset_ahead"
    commit(client, "other", 0)
    with pytest.raises(bowstring.InvalidArgument, match="name one that commits epochs: other, spark"):
        client.subscribe("s", "whose", bowstring.Epoch(1))


def test_a_start_behind_what_is_kept_names_the_gap(client: bowstring.Client) -> None:
    client.ack("s", "holds", {0: 2})
    for start in (datetime.now(timezone.utc) - HOUR, {0: 1}):
        with pytest.raises(bowstring.OffsetError, match="partition 0") as gone:
            client.subscribe("s", "a", start)
        assert gone.value.code == "offset_gone"
        assert not gone.value.retryable
        with pytest.raises(bowstring.OffsetError, match="partition 0"):
            numbers(client, start)
    assert cursors(client.subscribe("s", "a", "earliest")) == [2, 0]


def test_a_seek_says_what_it_moves_and_a_dry_run_what_it_would(client: bowstring.Client) -> None:
    client.subscribe("s", "a", {0: 4, 1: 1})
    for dry_run in (True, False):
        moved = client.seek("s", "a", {0: 1}, dry_run=dry_run)
        assert isinstance(moved, bowstring.Moved)
        assert [(move.partition, move.before, move.after) for move in moved.partitions] == [(0, 4, 1), (1, 1, 1)]
        batches, rows, size = moved.again
        assert (batches, rows, moved.skipped, moved.gone_batches, moved.dry_run) == (3, 6, (0, 0, 0), 0, dry_run)
        assert size > 6 * 8
    on = client.seek("s", "a", "latest")
    assert [(move.before, move.after) for move in on.partitions] == [(1, 5), (1, 3)]
    assert on.skipped[:2] == (6, 12)
    client.ack("s", "holds", {0: 3})
    assert client.seek("s", "a", "earliest", dry_run=True).gone_batches == 3
    with pytest.raises(bowstring.StreamNotFound):
        client.seek("s", "nobody", "earliest")
    with pytest.raises(bowstring.StreamReplaced):
        client.seek("s", "a", "earliest", stream_id=1)


def test_what_has_moved_can_be_read_by_people() -> None:
    moved = bowstring.Moved(
        (
            bowstring.PartitionMove(0, 4, 1, 3, 6, 100, 1),
            bowstring.PartitionMove(1, 2, 2, 0, 0, 0, 0),
            bowstring.PartitionMove(2, 0, 2, 2, 4, 60, 0),
        ),
        dry_run=True,
    )
    assert repr(moved) == (
        "<would move partition 0: 4 to 1 (3 batches, 6 rows, 100 bytes again, 1 batch before it not kept any more); "
        "partition 1: stays at 2; partition 2: 0 to 2 (2 batches, 4 rows, 60 bytes skipped)>"
    )
    html = moved._repr_html_()
    assert "A dry run: nothing has moved" in html
    assert "<tr><td>2</td><td>0</td><td>2</td><td>skipped</td><td>2</td><td>4</td><td>60</td><td>0</td></tr>" in html
    assert html.count("<tr>") == 4
    assert pickle.loads(pickle.dumps(moved)) == moved


def tiny(client: bowstring.Client, numbers: range) -> None:
    with client.producer("t") as producer:
        for number in numbers:
            producer.append(pa.table({"n": [number]}))


@pytest.mark.parametrize("auto_ack", [True, False])
def test_a_seek_takes_an_iterator_along_and_ends_it_not(client: bowstring.Client, auto_ack: bool) -> None:
    client.create_stream("t", max_buffered_batches=10_000)
    client.subscribe("t", "holds")
    tiny(client, range(1000))
    with client.iterator("t", subscription="a", timeout=20, auto_ack=auto_ack) as batches:
        read = [next(batches)["n"][0].as_py() for _ in range(300)]
        client.seek("t", "a", {0: 100})
        # What is at hand comes still, and then all of it again.
        while read[-1] != 100:
            read.append(next(batches)["n"][0].as_py())
            if read[-1] != 100:
                batches.ack()
        assert read == [*range(len(read) - 1), 100]
        batches.flush()
        assert cursors(client.describe_stream("t")["subscriptions"][0])[0] <= 101
        read = [next(batches)["n"][0].as_py() for _ in range(200)]
        assert read == [*range(101, 301)]
        client.seek("t", "a", "latest")
        tiny(client, range(1000, 1010))
        client.complete_stream("t")
        read += [batch["n"][0].as_py() for batch in batches]
        assert read[-10:] == [*range(1000, 1010)]
        assert read[:-10] == [*range(101, 101 + len(read) - 10)]
        assert len(read) < 900
        batches.ack()
        batches.flush()
    assert cursors(client.describe_stream("t")["subscriptions"][0]) == [1010]
